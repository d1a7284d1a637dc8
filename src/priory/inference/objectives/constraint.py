"""Constraints: weights that are found in training, as Lagrange multipliers, and not chosen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from priory.inference.distributed import ranks
from priory.inference.objectives.base import Objective, Scaled, Weight, check_parts
from priory.inference.objectives.schedules import current
from priory.inference.phases.arguments import modules_of
from priory.inference.phases.phases import Phases
from priory.priors.boltzmann import refuse_offset

_MOST = 14.0  # of |log multiplier|: a factor of a million either way
_SLOW = 0.999  # memory of the square


class Constraint(Objective):
    r"""Holds another objective below a bound, at a price that is found: a Lagrange multiplier.

    .. math:: \lambda \, (C - \kappa), \qquad
        \log \lambda \leftarrow \log \lambda + \eta \, \frac{m}{\sqrt v}

    with m and v the moving averages of Adam, of :math:`C - \kappa` and of its square. While C is
    above its bound the multiplier grows, and below it shrinks, so that a sum with it is the
    Lagrangian of

    .. math:: \min L \quad \text{subject to} \quad C \le \kappa .

    Rezende and Viola, 2018, Taming VAEs (GECO): `KL() + Constraint(Reconstruction(cost="squared"),
    20)`. They move :math:`\log \lambda` by m alone, in the constraint's own unit; in that of its
    root mean square one rate suits every constraint. Zhao, Song and Ermon, 2018, The information
    autoencoding family: a Lagrangian perspective on latent variable generative models (LagVAE):
    with `ELBO()` and `Match(mmd, "z")` below their bounds, `KL()` before them finds the least
    mutual information of data and latents, and `Reconstruction()` the most. Each multiplier and the
    average of what it prices are in the history, as `multiplier.NAME` and `constraint.NAME`.

    Args:
        objective: C, what is bounded; any objective.
        at_most: :math:`\kappa`, in the objective's unit, a number or a schedule.
        rate: :math:`\eta`, the most that a step moves the multiplier's logarithm by.
        momentum: of m; that of v is 0.999.
        start: the multiplier before the first step.

    Raises:
        ValueError: An option is out of range.

    Example:
        >>> from priory.inference import KL, Constraint, Reconstruction
        >>> from priory.models import VAE
        >>> pair, x = VAE(latent=2, likelihood="normal"), torch.rand(20, 3)
        >>> loss = KL() + Constraint(Reconstruction(cost="squared"), at_most=0.1)
        >>> loss(pair.model, pair.guide, x).shape
        torch.Size([])
    """

    name = "constraint"

    def __init__(
        self,
        objective: Objective,
        at_most: Weight,
        rate: float = 0.01,
        momentum: float = 0.9,
        start: float = 1.0,
    ) -> None:
        check_parts([objective])
        for option, value in (("rate", rate), ("start", start)):
            if not value > 0:
                raise ValueError(f"{option} must be positive, got {value}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}")
        self.objective, self.at_most = objective, at_most
        self.rate, self.momentum, self.start = rate, momentum, start
        self.particles = objective.particles
        self.multiplier = Multiplier(start, rate, momentum)

    def loss(self, phases: Phases) -> Tensor:
        """Return the price of what is above the bound; in training, then move the multiplier."""
        refuse_offset(modules_of(phases.model), "a constraint")
        excess = self.objective.loss(phases) - current(self.at_most)
        if self.multiplier.log.device != excess.device:
            self.to(excess.device)
        price = self.multiplier().to(excess)
        if excess.requires_grad and self.multiplier.training:
            self.multiplier.move(excess.detach())
        return price * excess

    def terms(self) -> tuple[Objective, ...]:
        """Return the bounded objective."""
        return (self.objective,)

    def modules(self) -> list[nn.Module]:
        """Return the multiplier, and what the bounded objective owns."""
        return [self.multiplier, *super().modules()]

    def to(self, device: torch.device) -> None:
        """Bring the multiplier to a device."""
        self.multiplier.to(device)
        super().to(device)

    def multipliers(self) -> dict[str, float]:
        """Return the multiplier, and the average of the bounded objective."""
        inner = self.objective
        while isinstance(inner, Scaled):
            inner = inner.objective
        name = getattr(inner, "name", "sum")
        average = float(self.multiplier.average) + float(current(self.at_most))
        found = {f"multiplier.{name}": float(self.multiplier()), f"constraint.{name}": average}
        return {**found, **super().multipliers()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the multiplier and its averages."""
        return dict(self.multiplier.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state."""
        self.multiplier.load_state_dict(state)


class Multiplier(nn.Module):
    """A Lagrange multiplier, which is moved by what its constraint exceeds the bound by.

    Args:
        start: before the first step.
        rate: the most that its logarithm is moved by.
        momentum: of the average by which it is moved.
    """

    log: Tensor
    mean: Tensor
    square: Tensor
    left: Tensor
    left_square: Tensor

    def __init__(self, start: float, rate: float, momentum: float) -> None:
        super().__init__()
        self.rate, self.momentum = rate, momentum
        self.register_buffer("log", torch.tensor(start, dtype=torch.float64).log())
        for name in ("mean", "square"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        for name in ("left", "left_square"):  # what the zeros at the start still weigh in them
            self.register_buffer(name, torch.ones((), dtype=torch.float64))

    def forward(self) -> Tensor:
        """Return the multiplier, shape ()."""
        return self.log.exp()

    @property
    def average(self) -> Tensor:
        """The moving average of the excess, shape (); 0 before the first step."""
        return self.mean / (1 - self.left).clamp(min=1e-12)

    @torch.no_grad()
    def move(self, excess: Tensor) -> None:
        """Raise the multiplier where its constraint is above the bound, else lower it.

        Args:
            excess: by how much the constraint is above it on a batch, shape ().
        """
        excess = excess.to(self.log, copy=True)
        ranks.average_([excess])
        self.mean.mul_(self.momentum).add_((1 - self.momentum) * excess)
        self.square.mul_(_SLOW).add_((1 - _SLOW) * excess.square())
        self.left.mul_(self.momentum)
        self.left_square.mul_(_SLOW)
        unit = (self.square / (1 - self.left_square)).sqrt().clamp(min=1e-30)
        self.log.add_(self.rate * self.average / unit).clamp_(-_MOST, _MOST)
