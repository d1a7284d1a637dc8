"""The wake phase of wake-sleep and of its reweighted form."""

from __future__ import annotations

from torch import Tensor

from priory.inference.objectives.base import Objective
from priory.inference.objectives.gradients import bound, shares
from priory.inference.phases.phases import Phases
from priory.lookup import positive


class Wake(Objective):
    r"""The wake phase: the model learns, and with several particles the guide, from fixed draws.

    .. math:: -\sum_k v_k \log p(x, z_k) - \sum_k v_k \log q(z_k \mid x), \qquad
        v_k = \frac{p(x, z_k) / q(z_k \mid x)}{\sum_j p(x, z_j) / q(z_j \mid x)}

    No gradient flows through the draws, so that any latents will do. The weights are those of one
    datum's particles, and constants. Its value is the importance-weighted bound with its sign
    turned, in nats per datum.

    - `Wake() + Sleep(detached=True)` is wake-sleep (Hinton, Dayan, Frey and Neal, The Wake-Sleep
      Algorithm for Unsupervised Neural Networks, 1995): the model learns awake, the guide asleep.
    - `Wake(5)` is reweighted wake-sleep with its wake-phase update of the guide alone, and `Wake(5)
      + Sleep(detached=True)` with both (Bornschein and Bengio, Reweighted Wake-Sleep, 2015).

    Args:
        particles: K, draws of the latents per datum.
        guide: Whether the guide learns too; "auto" is with 2 particles or more, as with one it
            would but make its own draws likelier.

    Raises:
        ValueError: `particles` is not positive, or the guide is to learn from one; at the first
            loss, if the guide draws latents outside of the batch plate.
    """

    name = "wake"

    def __init__(self, particles: int = 1, guide: bool | str = "auto") -> None:
        self.particles = positive("particles", particles)
        if guide not in (True, False, "auto"):
            raise ValueError(f"guide must be true, false or auto, got {guide!r}")
        if guide is True and particles == 1:
            raise ValueError("one particle has no weight to learn from: give 2 or more")
        self.guide = guide

    def loss(self, phases: Phases) -> Tensor:
        """Return -L_K, with the gradients of the wake phase."""
        awake = phases.constant_draws
        awake.refuse_shared("the wake phase")
        log_p, log_q = awake.log_p(), awake.log_q()
        log_weight = (log_p - log_q).detach()
        learnt = log_p if self.guide is False or len(log_weight) == 1 else log_p + log_q
        surrogate = (shares(log_weight, 0) * learnt).sum(0)
        return -awake.average(bound(log_weight, 0) + surrogate - surrogate.detach())
