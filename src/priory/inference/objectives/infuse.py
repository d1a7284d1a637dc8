"""Infusion training: every step of a chain is taught the datum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from priory.inference.objectives.base import Objective
from priory.inference.phases.arguments import bind, owner
from priory.inference.phases.phases import Phases
from priory.lookup import named

WEIGHTS = ("even", "last", "rising")


class Infuse(Objective):
    r"""How well each step of a chain finds a datum that is infused into the states before it.

    .. math:: - \sum_{t=1}^T \frac{T - t + 1}{T} \log p(x \mid z_t), \qquad
        z_1, \dots, z_T \sim q(z \mid x)

    in nats per datum, averaged over the batch; no bound on log p(x). p(x | z_t) is the transition
    of step t, which is to lead to the datum at once. The states are constants: the chain costs T
    passes without gradients, and one with all its states. The steps near the datum weigh more;
    "even" weighs all alike, "last" takes -log p(x | z_1) alone. Bordes, Honari and Vincent, 2017,
    Learning to generate samples from noise through infusion training. Their other training, by the
    bound, is `ELBO()` or, with states that are constants, `Wake()`.

    Args:
        weights: Of the steps, "rising", "even" or "last".

    Raises:
        ValueError: There are no such weights; at the first loss, if the pair has no infused chain,
            or entries of x may be missing.

    Example:
        >>> from priory.models import Infusion
        >>> from priory.nets import TimeMLP
        >>> pair, x = Infusion(TimeMLP(8, 1), timesteps=3), torch.randn(20, 2)
        >>> Infuse()(pair.model, pair.guide, x).shape
        torch.Size([])
    """

    name = "infuse"

    def __init__(self, weights: str = "rising") -> None:
        named("weights", weights, dict.fromkeys(WEIGHTS))
        self.weights = weights

    def needs_awake(self, phases: Phases) -> bool:  # noqa: ARG002
        """Return no: the pair draws the chain by itself, without its density."""
        return False

    def loss(self, phases: Phases) -> Tensor:
        """Return the weighted costs of all steps."""
        pair: Any = owner(phases.model)
        if not callable(getattr(pair, "costs", None)):
            raise ValueError(
                "Infuse() takes the steps of a chain that the datum is infused into, a pair such "
                f"as Infusion, and {type(pair).__name__} is none: train it by a bound, such as "
                "ELBO()"
            )
        phases.refuse_missing("Infuse()", "x")
        x: Tensor = bind(phases.model, phases.columns)["x"]
        pair.register(x)
        cost = (pair.costs(x) * self._shares(pair.timesteps, x)).sum(-1)
        return (cost if phases.weight is None else cost * phases.weight.to(cost)).mean()

    def _shares(self, steps: int, x: Tensor) -> Tensor:
        """Return the weights of the steps from 1, the nearest to the datum, to T."""
        t = torch.arange(1, steps + 1, device=x.device)
        if self.weights == "last":
            return (t == 1).to(x)
        return (
            torch.ones_like(t, dtype=x.dtype)
            if self.weights == "even"
            else ((steps - t + 1).to(x) / steps)
        )
