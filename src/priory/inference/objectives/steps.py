"""Single steps of a chain, in place of whole ways."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from priory.distributions.chain import spread_steps
from priory.inference.distributed.noise import own_rows
from priory.inference.objectives.base import Objective
from priory.inference.phases.arguments import bind, owner
from priory.inference.phases.phases import Phases
from priory.lookup import positive


class Steps(Objective):
    r"""Negative bound of a Markov chain by single steps, averaged over the batch.

    .. math:: T L_{t-1} + L_T, \qquad t \sim U\{1, \dots, T\}, \qquad
        -\mathrm{ELBO} = L_T + \sum_t L_{t-1}

    in nats per datum, unbiased: L_{t-1} is the divergence of one step, in closed form given a draw
    of z_t, and L_0 = -log p(x | z_1). The steps of a batch are spread evenly over all: of m of them
    the i-th is at (u + i / m) mod 1 of the way, with one u for all (Kingma, Salimans, Poole and Ho,
    2021, Variational diffusion models). Other weightings are no bound: "simple" is the squared
    error of what the net says at step t, summed over a datum (Ho, Jain and Abbeel, 2020, Denoising
    diffusion probabilistic models), "hybrid" that and 0.001 times the bound for a learned variance
    (Nichol and Dhariwal, 2021, Improved denoising diffusion probabilistic models).

    Args:
        weighting: "bound", "simple" or "hybrid", where the chain has it.
        draws: Steps of each datum.

    Raises:
        ValueError: A number isn't positive or there is no such weighting; at the first loss, if the
            pair is no chain, has no such weighting, or entries of x may be missing.

    Example:
        >>> from priory.models import Diffusion
        >>> from priory.nets import TimeMLP
        >>> pair, x = Diffusion(TimeMLP(8, 1), 10, "cosine"), torch.randn(20, 2)
        >>> Steps()(pair.model, pair.guide, x).shape
        torch.Size([])
    """

    name = "steps"

    def __init__(self, weighting: str = "bound", draws: int = 1) -> None:
        if weighting not in ("bound", "simple", "hybrid"):
            raise ValueError(f"weighting must be bound, simple or hybrid, got {weighting!r}")
        self.weighting = weighting
        self.draws = positive("draws", draws)

    def needs_awake(self, phases: Phases) -> bool:  # noqa: ARG002
        """Return no: whole ways are neither drawn nor scored."""
        return False

    def loss(self, phases: Phases) -> Tensor:
        """Return the mean cost of one step, T times as large, and of the end."""
        pair: Any = owner(phases.model)
        known = getattr(pair, "weightings", None)
        if known is None:
            raise ValueError(
                "Steps() takes single steps of a chain, a pair such as Diffusion, and "
                f"{type(pair).__name__} is none: train it by a bound, such as ELBO()"
            )
        if self.weighting not in known:
            raise ValueError(
                f"{type(pair).__name__} has no weighting {self.weighting!r} of its steps: take "
                f"{' or '.join(f'Steps({name!r})' for name in known)}"
            )
        phases.refuse_missing("Steps()", "x")
        columns = bind(phases.model, phases.columns)
        x: Tensor = columns["x"]
        pair.register(x)
        t = own_rows(lambda rows: spread_steps(rows, pair.timesteps, self.draws, x.device), len(x))
        cost: Tensor = pair.term(t, weighting=self.weighting, **columns)
        if self.weighting == "bound":
            others = {name: column for name, column in columns.items() if name != "x"}
            cost = pair.timesteps * cost + pair.end(x) + pair.cost_of_labels(**others)
        return (cost if phases.weight is None else cost * phases.weight.to(cost)).mean()
