"""The real space in which a model's latent is moved, and what the model makes of its points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints

from priory.distributions.independent import of_one_number
from priory.evaluation.isolation import placement, reseed, sealed
from priory.evaluation.likelihood.steps import refuse_way
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import rows_of
from priory.inference.phases.arguments import bind
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.phases import Phases, generate
from priory.inference.phases.recorder import MismatchError

_STREAM = 50


@dataclass(frozen=True)
class Space:
    r"""A model's one latent site, in coordinates :math:`u = T^{-1}(z)` of the whole real space.

    Args:
        model: Pyro program of p(x, z).
        site: the latent site's name.
        values: two values of it, `(2, *event)`.
        support: where its values may lie.
        shape: of one datum.

    Raises:
        Unavailable: if the support has no coordinates that are known.
    """

    model: Callable[..., Any]
    site: str
    values: Tensor
    support: Any
    shape: tuple[int, ...]

    @classmethod
    def of(cls, model: Callable[..., Any], guide: Callable[..., Any] | None, x: Tensor) -> Space:
        """Return the space of a pair, or of a model alone.

        Args:
            model: Pyro program of p(x, z).
            guide: Pyro program of q(z | x), which has to draw the model's latent; None for a model
                alone.
            x: data, of which two rows are looked at.

        Raises:
            Unavailable: if a program needs columns beside x, which a path would have to move too,
                there is not exactly one latent site, or its values are discrete.
        """
        phase, site = _probe(model, guide, x[:2])
        support = _support(phase, site)
        space = cls(model, site, phase.sample[site][0], support, tuple(x.shape[1:]))
        _ = space.bijection
        return space

    @cached_property
    def bijection(self) -> Any:
        """T, from the real space to the support."""
        try:
            return biject_to(self.support)
        except NotImplementedError as error:
            raise Unavailable(f"no coordinates are known for the support {self.support}") from error

    @property
    def straight(self) -> bool:
        """Whether points are the latents themselves."""
        return bool(self.bijection == biject_to(constraints.real))

    @property
    def note(self) -> str:
        """What a reader must know of the points."""
        said = str(self.support).removesuffix("()").lower()
        return "" if self.straight else f"paths in coordinates that keep z in its support, {said}"

    def free(self, z: Tensor) -> Tensor:
        """Return the points of values in the support, `(n, latent)` to `(n, coordinates)`."""
        if self.straight:
            return z.reshape(len(z), -1)
        z = z.reshape(len(z), *self.values.shape[1:])
        return rows_of(self.bijection.inv(_inside(z, self.support)))

    def latents(self, u: Tensor) -> Tensor:
        """Return the values at points, `(n, coordinates)` to `(n, *event)`."""
        inner = self.values.shape[1:] if self.straight else self._inner
        z = u.reshape(-1, *inner)
        return z if self.straight else self.bijection(z)

    @cached_property
    def _inner(self) -> torch.Size:
        return torch.Size(self.bijection.inv(self.values).shape[1:])

    def means(self, u: Tensor) -> Tensor:
        """Return the means of p(x | z) at points, `(n, *shape)`; to be called inside `sealed`.

        Raises:
            Unavailable: if p(x | z) has none.
        """
        z = self.latents(u)
        given = {"x": z.new_zeros(len(z), *self.shape)}
        drawn = generate(self.model, given, len(z), replay={self.site: z})
        if "x_mean" not in drawn:
            raise Unavailable("p(x | z) has no mean that a path could show")
        return drawn["x_mean"].reshape(len(z), *self.shape)

    def draw(self, n: int) -> Tensor:
        """Return the points of n draws of the latent; to be called inside `sealed`."""
        given = {"x": self.values.new_zeros(n, *self.shape)}
        return self.free(generate(self.model, given, n)[self.site])


def _probe(
    model: Callable[..., Any], guide: Callable[..., Any] | None, x: Tensor
) -> tuple[Phase, str]:
    """Return a phase of two rows and the name of the one latent site."""
    refuse_way(model)
    programs = [model] if guide is None else [model, guide]
    like = placement(*programs)
    x = x if like is None else x.to(like)
    with sealed(*programs, device=x.device):
        reseed(x.device, _STREAM)
        try:
            for program in programs:
                bind(program, {"x": x})
        except ValueError as error:
            raise Unavailable(f"paths need a pair of x alone: {error}") from error
        phases = Phases(model, programs[-1], columns={"x": x})
        try:
            phase = phases.generated if guide is None else phases.awake
        except MismatchError as error:
            raise Unavailable(str(error)) from error
    if len(phase.latents) != 1:
        raise Unavailable(f"needs exactly one latent site; the model has {len(phase.latents)}")
    if "x" not in phase.observed:
        raise Unavailable("the model has no observed site x")
    return phase, phase.latents[0]


def _support(phase: Phase, site: str) -> Any:
    """Return where the latent's values may lie."""
    for of in ("model", "guide") if site in phase.guide_sites else ("model",):
        try:
            support = phase.distribution(site, of=of).support
        except NotImplementedError:
            continue
        if support.is_discrete:
            raise Unavailable(f"{site} is discrete: there is no path between its values")
        return of_one_number(support)
    return constraints.real


def _inside(z: Tensor, support: Any) -> Tensor:
    """Keep values off the border of the support, where the coordinates are infinite."""
    tiny = torch.finfo(z.dtype).eps
    low, high = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    if support is constraints.simplex:
        z = z.clamp_min(tiny)
        return z / z.sum(-1, keepdim=True)
    low = None if low is None else low + tiny
    high = None if high is None else high - tiny
    z = z if low is None else torch.maximum(z, torch.as_tensor(low).to(z))
    return z if high is None else torch.minimum(z, torch.as_tensor(high).to(z))
