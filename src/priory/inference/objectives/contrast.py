"""Contrastive divergence: the energy of data awake against that of the machine's own samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from priory.distributions.harmonium import Harmonium
from priory.inference.objectives.base import Objective
from priory.inference.phases.arguments import owner
from priory.inference.phases.phases import Phases
from priory.lookup import positive
from priory.priors.boltzmann import Machine, machines_in


class Contrast(Objective):
    r"""Energy of the data less the energy of samples that a short chain of Gibbs makes.

    .. math:: \frac1n \sum_i F(x_i) - \frac1m \sum_j F(\tilde x_j), \qquad
        \nabla \to -\frac1n \nabla \sum_i \log p(x_i)

    as the samples come to be the model's. Its value is a difference of energies, in nats: it is
    no bound, has no sign that means anything, and falls neither in a good training nor in a bad
    one; look at the metrics. The samples are

    - `persistent`: those of the pair's chains, moved on by k sweeps from where the last step left
      them (Tieleman, 2008, Training restricted Boltzmann machines using approximations to the
      likelihood gradient; Younes, 1989). With the pair's `temperatures` they are exchanged between
      them (Desjardins et al., 2010, Parallel tempering for training of restricted Boltzmann
      machines);
    - else: k sweeps from the data, CD-k (Hinton, 2002, Training products of experts by minimizing
      contrastive divergence).

    The hidden units enter both energies by their probabilities. Of a deep pair the data of its
    machine are those that its `visible` makes: with the upper layer as mean field has it, or the
    data alone while the first machine is trained. With `layer` it is one of the machines by which a
    pair is pre-trained; see `Greedy`. In training mode the offset :math:`\lambda` of a
    centred pair is moved to the mean of the hidden units given the data, and the chains are kept.

    Args:
        k: Sweeps of Gibbs in a step.
        persistent: Whether the chains go on from step to step, rather than start at the data.
        memory: Of the moving average :math:`\lambda`.
        layer: Number of a machine by which the pair is pre-trained, 1 next to the data; the pair's
            own machine by default.

    Raises:
        ValueError: A number is out of range; at the first loss, the pair has no energy or no such
            machine, or rows have weights or missing entries; before a training, there are several
            processes.

    Example:
        >>> from priory.inference import Contrast
        >>> from priory.models import RBM
        >>> pair, x = RBM(latent=5), (torch.rand(20, 4) < 0.3).float()
        >>> pair.build(x)
        >>> Contrast()(pair.model, pair.guide, x).shape
        torch.Size([])
    """

    name = "contrast"
    quantity = "energy difference"
    alone = "moves one set of chains"

    def __init__(
        self,
        k: int = 1,
        persistent: bool = True,
        memory: float = 0.99,
        layer: int | None = None,
    ) -> None:
        self.k = positive("k", k)
        self.persistent = persistent
        if not 0 <= memory <= 1:
            raise ValueError(f"memory must be between 0 and 1, got {memory}")
        self.memory = memory
        self.layer = None if layer is None else positive("layer", layer)

    def loss(self, phases: Phases) -> Tensor:
        """Return the difference of the energies."""
        pair = _pair_of(phases, self.layer)
        pair.register(phases.columns["x"])
        own, machine, x = self._trained(pair, phases.columns["x"])
        samples = (
            own.advance(machine, self.k) if self.persistent else self._from_data(own, machine, x)
        )
        both = torch.cat([x, samples])
        if not isinstance(machine, Harmonium):  # no second layer, whose mean is an offset
            score = machine.log_visible(both)
            return score[len(x) :].mean() - score[: len(x)].mean()
        up = machine.up(both)
        score = machine.log_visible(both, up)
        if pair.training and pair.centred:
            own.follow(machine.above.given(up[: len(x)].detach()).mean.mean(0), self.memory)
        return score[len(x) :].mean() - score[: len(x)].mean()

    def _trained(self, pair: Any, x: Tensor) -> tuple[Machine, Any, Tensor]:
        """Return the parameters of the machine that is trained, the machine, and what it sees."""
        if self.layer is not None:
            found: tuple[Machine, Any, Tensor] = pair.pretraining(self.layer, x)
            return found
        (part,) = machines_in([pair])
        return part.machine, part.harmonium(), pair.visible(x)

    def _from_data(self, own: Machine, machine: Any, x: Tensor) -> Tensor:
        """Return samples after k sweeps from the data, (batch, *shape)."""
        if not isinstance(machine, Harmonium):
            raise ValueError(
                "a network without layers has persistent chains alone: take persistent=True"
            )
        with torch.no_grad():
            h = machine.above.given(machine.up(x)).sample()
            for _ in range(self.k):
                samples, h = machine.sweep(h)
            own.keep(h.unsqueeze(0))
        return samples


def _pair_of(phases: Phases, layer: int | None) -> Any:
    """Return the pair, whose data have an energy and which has chains."""
    pair: Any = owner(phases.model)
    if layer is not None and not hasattr(pair, "pretraining"):
        raise ValueError(
            f"Contrast(layer={layer}) trains a machine by which a pair is pre-trained, as a "
            f"DeepAutoencoder is, and {type(pair).__name__} has none: leave layer out"
        )
    if layer is None and not all(hasattr(pair, part) for part in ("visible", "centred")):
        raise ValueError(
            f"Contrast() compares energies of data, and {type(pair).__name__} has none: train an "
            "RBM by it, and other pairs by a bound, such as ELBO()"
        )
    phases.refuse_weights("Contrast()")
    phases.refuse_missing("Contrast()", "x")
    return pair
