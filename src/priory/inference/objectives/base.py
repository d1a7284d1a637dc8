"""Objectives: what a pair is trained to do, as comparisons of its awake and asleep samples."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from priory.inference.objectives.schedules import Schedule, current
from priory.inference.phases.arguments import Program, modules_of, owner
from priory.inference.phases.phases import Phases

Weight = float | Schedule


class Adversary(Protocol):
    """A term that owns a critic, as the others see it; `Adversarial` is one.

    Args:
        critic: the second player.
        sites: whose samples it scores.
        game: what the two want of the scores.
        steps: of the critic, for each of the pair.
        rate: the critic's learning rate over the pair's.
    """

    critic: nn.Module
    sites: tuple[str, ...]
    game: str
    steps: int
    rate: float

    def loss(self, phases: Phases) -> Tensor:
        """Return the pair's loss, shape ()."""

    def critic_loss(self, phases: Phases) -> Tensor:
        """Return the critic's loss, shape ()."""

    def value(self, phases: Phases) -> Tensor:
        """Return what the critic maximises, shape ()."""

    def both(self, phases: Phases) -> tuple[Tensor, Tensor]:
        """Return the critic's scores of awake samples and of asleep ones."""

    def build(self, phases: Phases) -> None:
        """Make a lazy critic's parameters."""

    def bound(self) -> None:
        """Bring the critic's weights within their bound."""


class Objective(ABC):
    """Something to minimise: a function of a pair's two phases.

    Calling one follows Pyro's custom-loss signature, so that an objective can be given to
    `pyro.infer.SVI` too. Objectives add, and scale by a number or a `Schedule`; the terms of a sum
    share the same phases, so that nothing is traced twice.

    Example:
        >>> from priory.divergences import mmd
        >>> from priory.inference import Match, Reconstruction
        >>> from priory.models import VAE
        >>> pair, x = VAE(latent=2), torch.rand(20, 3)
        >>> loss = Reconstruction() + 10 * Match(mmd, "z")
        >>> loss(pair.model, pair.guide, x).shape
        torch.Size([])

    Attributes:
        name: By which a text names it.
        text_first: Arguments that stand first in a text, where the signature has others first.
        quantity: What its value is called where it is shown.
        particles: Draws of the latents per datum.
        whole: Whether a step takes all training rows, and moves the pair's parameters by itself.
        alone: Why one process trains by it, and several cannot; empty if they can.
    """

    name: ClassVar[str]
    text_first: ClassVar[tuple[str, ...]] = ()
    quantity: ClassVar[str] = "loss"
    whole: ClassVar[bool] = False
    alone: ClassVar[str] = ""
    particles: int = 1

    def __call__(self, model: Program, guide: Program, *args: Any, **columns: Any) -> Tensor:
        """Return the loss of one batch, shape (), in nats per datum where nats apply.

        Args:
            model: Pyro program of p(x, z).
            guide: Pyro program of q(z | x).
            args: positional arguments of both programs.
            columns: arguments by name; each program gets those that its signature names.
        """
        return self.loss(Phases(model, guide, args, columns, particles=self.particles))

    @abstractmethod
    def loss(self, phases: Phases) -> Tensor:
        """Return the loss on given phases, shape ()."""

    def terms(self) -> tuple[Objective, ...]:
        """Return the objectives that this one is made of, itself if it is simple."""
        return (self,)

    def needs_awake(self, phases: Phases) -> bool:
        """Return whether the guide is run on data: then it must draw what the model draws."""
        parts = [t.needs_awake(phases) for t in self.terms() if t is not self]
        return any(parts) if parts else True

    def meet(self, adversaries: Sequence[Adversary]) -> None:
        """Take notice of the critics in the same sum; a term may judge by their features."""
        for term in self.terms():
            if term is not self:
                term.meet(adversaries)

    def adversaries(self) -> list[Adversary]:
        """Return the terms that own a critic."""
        found = [a for t in self.terms() if t is not self for a in t.adversaries()]
        return list(dict.fromkeys(found))

    def modules(self) -> list[nn.Module]:
        """Return the modules that the objective owns: critics, multipliers."""
        found = [m for t in self.terms() if t is not self for m in t.modules()]
        return list(dict.fromkeys(found))

    def to(self, device: torch.device) -> None:
        """Bring what the terms hold beside critics to the device of the data.

        Args:
            device: of the data.
        """
        for term in self.terms():
            if term is not self:
                term.to(device)

    def multipliers(self) -> dict[str, float]:
        """Return what the objective has found so far, for the history: its multipliers."""
        found: dict[str, float] = {}
        for term in self.terms():
            for name, value in term.multipliers().items() if term is not self else ():
                key, number = name, 1
                while key in found:
                    number += 1
                    key = f"{name}/{number}"
                found[key] = value
        return found

    def __add__(self, other: Objective) -> Sum:
        """Add two objectives."""
        return Sum((self, other)) if isinstance(other, Objective) else NotImplemented

    def __mul__(self, weight: Weight) -> Scaled:
        """Scale an objective by a number or a schedule."""
        return (
            Scaled(weight, self) if isinstance(weight, int | float | Schedule) else NotImplemented
        )

    __rmul__ = __mul__


class Sum(Objective):
    """The sum of objectives on the same phases.

    Args:
        objectives: the terms; sums among them are flattened.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.objectives: tuple[Objective, ...] = tuple(
            t for o in objectives for t in (o.objectives if isinstance(o, Sum) else (o,))
        )
        check_parts(self.objectives)
        counts = {o.particles for o in self.objectives} - {1}
        if len(counts) > 1:
            raise ValueError(
                f"the terms of a sum share their particles, got {sorted(counts)}; give all the same"
            )
        self.particles = max(counts, default=1)
        self.meet(self.adversaries())

    def loss(self, phases: Phases) -> Tensor:
        """Return the sum of the terms' losses."""
        return torch.stack([o.loss(phases) for o in self.objectives]).sum()

    def terms(self) -> tuple[Objective, ...]:
        """Return the terms."""
        return self.objectives


class Scaled(Objective):
    """An objective times a number or a schedule.

    Args:
        weight: the factor.
        objective: what it scales.
    """

    def __init__(self, weight: Weight, objective: Objective) -> None:
        check_parts([objective])
        self.weight = weight
        self.objective = objective
        self.particles = objective.particles

    def loss(self, phases: Phases) -> Tensor:
        """Return the scaled loss."""
        return current(self.weight) * self.objective.loss(phases)

    def terms(self) -> tuple[Objective, ...]:
        """Return the scaled objective."""
        return (self.objective,)


def check_parts(objectives: Iterable[Objective]) -> None:
    """Raise a ValueError if one moves the parameters by itself, or is no objective."""
    for objective in objectives:
        if not isinstance(objective, Objective):
            raise ValueError(f"expected an objective, got {objective!r}")
        if objective.whole:
            raise ValueError(
                f"{type(objective).__name__}() moves the parameters by itself, and can't be scaled "
                "or added to: train by one objective after the other"
            )


def joined(rows: Iterable[Tensor]) -> Tensor:
    """Return the sites' samples side by side, `(n, d)`."""
    return torch.cat([r.flatten(1) for r in rows], 1)


def schedules(*roots: Any) -> Iterator[Schedule]:
    """Find the schedules among the attributes of objectives and of the pair's modules."""
    for root in roots:
        own = owner(root)
        if isinstance(own, Schedule):
            yield own
        elif isinstance(own, Objective):
            yield from schedules(*(v for v in vars(own).values() if isinstance(v, Schedule)))
            yield from schedules(*(t for t in own.terms() if t is not own))
        else:
            parts = [m for held in modules_of(root) for m in held.modules()]
            attributes = itertools.chain.from_iterable(vars(m).values() for m in parts)
            yield from (v for v in attributes if isinstance(v, Schedule))
