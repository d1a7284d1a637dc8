"""The real space in which a model's latent is moved, and what the model makes of its points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import OneHotCategorical, biject_to, constraints

from priory.distributions.independent import of_one_number
from priory.evaluation.isolation import placement, reseed, sealed
from priory.evaluation.likelihood.steps import refuse_way
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import rows_of
from priory.inference.phases.arguments import bind
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.phases import Phases, generate
from priory.inference.phases.recorder import MismatchError
from priory.inference.phases.sites import base

_STREAM = 50
_TRIED = 16  # draws by which sites are seen to be independent


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
        phase = _probe(model, guide, x[:2])
        if len(phase.latents) != 1:
            mend = "; take codes='samples' or codes='inversion'" if guide and phase.latents else ""
            raise Unavailable(
                f"needs exactly one latent site; the model has {len(phase.latents)}{mend}"
            )
        site = phase.latents[0]
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
        if self.straight:
            return ""
        said = _words(self.support)
        return f"paths in coordinates that keep {self.site} in its support, {said}"

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
        return _means(self.model, {self.site: self.latents(u)}, self.shape)

    def draw(self, n: int) -> Tensor:
        """Return the points of n draws of the latent; to be called inside `sealed`."""
        given = {"x": self.values.new_zeros(n, *self.shape)}
        return self.free(generate(self.model, given, n)[self.site])


@dataclass(frozen=True)
class Category:
    """A latent site of one-hot codes, whose points have a coordinate for each category.

    A point stands for the category of its greatest coordinate, so that every point of a path is a
    value of the site.

    Args:
        site: its name.
        values: values of it, `(n, *event)`.
    """

    site: str
    values: Tensor

    @property
    def note(self) -> str:
        """What a reader must know of the points."""
        return f"{self.site} takes the category of its greatest coordinate"

    def free(self, z: Tensor) -> Tensor:
        """Return the points of codes, `(n, *event)` to `(n, coordinates)`."""
        return rows_of(z)

    def latents(self, u: Tensor) -> Tensor:
        """Return the codes at points, `(n, coordinates)` to `(n, *event)`."""
        u = u.reshape(-1, *self.values.shape[1:])
        return torch.zeros_like(u).scatter(-1, u.argmax(-1, keepdim=True), 1.0)


@dataclass(frozen=True)
class Joint:
    r"""Several latent sites of a model, independent a priori, with their coordinates side by side.

    .. math:: u = (T_1^{-1}(z_1), \dots, T_k^{-1}(z_k)), \qquad p(z) = \prod_i p(z_i)

    Any point is then a value of all of them that the model may draw. A site of one-hot codes is a
    `Category`.

    Args:
        model: Pyro program of p(x, z).
        parts: the sites' own spaces.
        shape: of one datum.
    """

    model: Callable[..., Any]
    parts: tuple[Space | Category, ...]
    shape: tuple[int, ...]
    straight: ClassVar[bool] = False

    @classmethod
    def of(cls, model: Callable[..., Any], x: Tensor) -> Joint:
        """Return the space of a model's latents.

        Args:
            model: Pyro program of p(x, z).
            x: data, of which one row is looked at.

        Raises:
            Unavailable: if a latent hangs on another, or has discrete values that are no one-hot
                codes, or coordinates of its support are not known.
        """
        rows = x[:1].expand(_TRIED, *x.shape[1:])
        phase, other = (_probe(model, None, rows, turn) for turn in range(2))
        parts: list[Space | Category] = []
        for site in phase.latents:
            if not _same(phase, other, site):
                raise Unavailable(
                    "needs exactly one latent site, or several that are independent; the model has "
                    f"{', '.join(phase.latents)}, and {site} hangs on those before it"
                )
            values = phase.sample[site][0]
            if isinstance(base(phase.distribution(site, of="model")), OneHotCategorical):
                parts.append(Category(site, values))
            else:
                space = Space(model, site, values, _support(phase, site), tuple(x.shape[1:]))
                _ = space.bijection
                parts.append(space)
        return cls(model, tuple(parts), tuple(x.shape[1:]))

    @property
    def site(self) -> str:
        """The sites' names."""
        return ", ".join(part.site for part in self.parts)

    @property
    def values(self) -> Tensor:
        """Values of the first site, which have the model's device and precision."""
        return self.parts[0].values

    @property
    def note(self) -> str:
        """What a reader must know of the points."""
        return "; ".join([f"{self.site} move together", *(p.note for p in self.parts if p.note)])

    @cached_property
    def _sizes(self) -> list[int]:
        return [part.free(part.values[:1]).shape[1] for part in self.parts]

    def free(self, z: Mapping[str, Tensor]) -> Tensor:
        """Return the points of values of all sites, `(n, coordinates)`."""
        return torch.cat([part.free(z[part.site]) for part in self.parts], 1)

    def latents(self, u: Tensor) -> dict[str, Tensor]:
        """Return the values of each site at points, `(n, *event)`."""
        cut = u.split(self._sizes, 1)
        return {p.site: p.latents(own) for p, own in zip(self.parts, cut, strict=True)}

    def means(self, u: Tensor) -> Tensor:
        """Return the means of p(x | z) at points, `(n, *shape)`; to be called inside `sealed`.

        Raises:
            Unavailable: if p(x | z) has none.
        """
        return _means(self.model, self.latents(u), self.shape)

    def draw(self, n: int) -> Tensor:
        """Return the points of n draws of the latents; to be called inside `sealed`."""
        given = {"x": self.values.new_zeros(n, *self.shape)}
        return self.free(generate(self.model, given, n))


def space_of(model: Callable[..., Any], x: Tensor) -> Space | Joint:
    """Return the space of a model alone, of its one latent or of several that are independent.

    Args:
        model: Pyro program of p(x, z).
        x: data, of which two rows are looked at.

    Raises:
        Unavailable: as in `Space.of` and `Joint.of`.
    """
    several = len(_probe(model, None, x[:2]).latents) > 1
    return Joint.of(model, x) if several else Space.of(model, None, x)


def _means(model: Callable[..., Any], latents: dict[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    """Return the means of p(x | z) at values of the latents, `(n, *shape)`."""
    like = next(iter(latents.values()))
    given = {"x": like.new_zeros(len(like), *shape)}
    drawn = generate(model, given, len(like), replay=latents)
    if "x_mean" not in drawn:
        raise Unavailable("p(x | z) has no mean that a path could show")
    return drawn["x_mean"].reshape(len(like), *shape)


def _same(phase: Phase, other: Phase, site: str) -> bool:
    """Return whether a site has one distribution in two samples of the latents before it."""
    value = phase.sample[site][0]
    try:
        first, second = (p.distribution(site, of="model").log_prob(value) for p in (phase, other))
    except NotImplementedError:
        return False
    return bool(torch.equal(first, second))


def _probe(
    model: Callable[..., Any], guide: Callable[..., Any] | None, x: Tensor, turn: int = 0
) -> Phase:
    """Return a phase of some rows; another turn has other draws."""
    refuse_way(model)
    programs = [model] if guide is None else [model, guide]
    like = placement(*programs)
    x = x if like is None else x.to(like)
    with sealed(*programs, device=x.device):
        reseed(x.device, _STREAM, *([turn] if turn else []))
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
    if "x" not in phase.observed:
        raise Unavailable("the model has no observed site x")
    return phase


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


def _words(support: Any) -> str:
    """Write a support, its bounds as numbers where all coordinates have the same."""
    ends = [getattr(support, f"{name}_bound", None) for name in ("lower", "upper")]
    if any(end is None for end in ends):
        return str(support).removesuffix("()").lower()
    values = [torch.as_tensor(end).unique() for end in ends]
    one = all(len(v) == 1 for v in values)
    return f"interval({', '.join(f'{float(v):g}' for v in values)})" if one else "intervals"


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
