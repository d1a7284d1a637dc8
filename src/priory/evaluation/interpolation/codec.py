"""Ways to write a datum as a point and back: a pair's latents, and baselines without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints

from priory.evaluation.isolation import placement, reseed, sealed
from priory.evaluation.latents.information import mean_of
from priory.evaluation.likelihood.steps import refuse_way
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import Columns, blocks, rows_of
from priory.inference.phases.arguments import bind
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.phases import Phases, generate
from priory.inference.phases.recorder import MismatchError

_STREAM = 50
_ROWS = 500  # rows at a time


@dataclass(frozen=True)
class Codec:
    r"""Two maps between data and points of a real space, in which paths are drawn.

    A latent that lives in a part of space only is written in the coordinates of the whole space
    that a bijection gives it, :math:`u = T^{-1}(\mathbb{E}_q[z \mid x])` with T the logistic map on
    the unit interval and stick-breaking on a simplex: every path in u stays inside the support.
    Where the support is the whole space, T is the identity.

    Args:
        name: what a table calls it.
        encode: data `(n, *shape)` to points `(n, coordinates)`.
        decode: points to data, such as the means of p(x | z), `(n, *shape)`.
        free: values in the support `(n, latent)` to points `(n, coordinates)`.
        straight: whether points are the latents themselves, without a bijection.
        note: what a reader must know of the points.

    Example:
        >>> codec = Codec.of_pair(run.pair.model, run.pair.guide, {"x": x})
        >>> codec.decode(codec.encode(x)).shape == x.shape
        True
    """

    name: str
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    free: Callable[[Tensor], Tensor] = rows_of
    straight: bool = True
    note: str = ""

    @classmethod
    def identity(cls, shape: tuple[int, ...], name: str = "naive Bayes") -> Codec:
        """Return the codec whose points are the data themselves.

        With class means as centroids it is naive Bayes: to move from one class to another is to add
        the difference of their mean images.

        Args:
            shape: of one datum.
            name: what a table calls it.
        """
        return cls(name, rows_of, lambda z: z.reshape(len(z), *shape))

    @classmethod
    def pca(cls, x: Tensor, latent: int) -> Codec:
        """Return the codec of the first principal components: the best linear one.

        Args:
            x: training data, `(n, *shape)`.
            latent: number of components.

        Raises:
            ValueError: if there are fewer rows or features than components.
        """
        flat = rows_of(x).double().cpu()
        if not 1 <= latent <= min(flat.shape):
            raise ValueError(
                f"latent must be from 1 to {min(flat.shape)}, the smaller of rows and features, "
                f"got {latent}"
            )
        from sklearn.decomposition import PCA

        fitted = PCA(latent, svd_solver="auto", random_state=0).fit(flat.numpy())
        axes, centre = (torch.from_numpy(a) for a in (fitted.components_, fitted.mean_))
        shape = tuple(x.shape[1:])
        return cls(
            f"PCA {latent}",
            lambda x: (rows_of(x).to(axes) - centre) @ axes.T,
            lambda z: (z.to(axes) @ axes + centre).reshape(len(z), *shape),
        )

    @classmethod
    def of_pair(
        cls,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        columns: Columns,
        *,
        name: str = "pair",
        seed: int = 0,
    ) -> Codec:
        """Return the codec of a pair: posterior means, and means of p(x | z).

        A likelihood that is a Delta gives its value. Encoding and decoding leave modes, parameter
        store and random generators as they were.

        Args:
            model: Pyro program of p(x, z).
            guide: Pyro program of q(z | x).
            columns: data by name; the column x gives the shape.
            name: what a table calls it.
            seed: seed of the draws behind a posterior mean without closed form.

        Raises:
            Unavailable: if the programs need columns beside x, which a path would have to move
                too, there is not exactly one latent site, or its values are discrete.
        """
        like = placement(model, guide)
        probe, site = _probe(model, guide, columns["x"][:2], like)
        support = _support(probe, site)
        value = probe.sample[site][0]
        event, shape = value.shape[1:], columns["x"].shape[1:]
        try:
            bijection = biject_to(support)
        except NotImplementedError as error:
            raise Unavailable(f"no coordinates are known for the support {support}") from error
        straight = bijection == biject_to(constraints.real)
        inner = bijection.inv(value).shape[1:]

        def free(z: Tensor) -> Tensor:
            if straight:
                return z.reshape(len(z), -1)
            return rows_of(bijection.inv(_inside(z.reshape(len(z), *event), support)))

        def encode(x: Tensor) -> Tensor:
            points = []
            with sealed(model, guide, device=value.device):
                for start, rows in blocks({"x": x}, _ROWS, like):
                    reseed(value.device, seed, _STREAM, start)
                    distribution = Phases(model, guide, columns=rows).awake.distribution(site)
                    points.append(free(mean_of(distribution)[0]))
            return torch.cat(points)

        def decode(u: Tensor) -> Tensor:
            out = []
            with sealed(model, guide, device=value.device):
                for _, rows in blocks({"u": u}, _ROWS, value):
                    z = rows["u"].reshape(-1, *inner)
                    z = z if straight else bijection(z)
                    given = {"x": z.new_zeros(len(z), *shape)}
                    drawn = generate(model, given, len(z), replay={site: z})
                    if "x_mean" not in drawn:
                        raise Unavailable("p(x | z) has no mean that a path could show")
                    out.append(drawn["x_mean"].reshape(len(z), *shape))
            return torch.cat(out)

        note = (
            "" if straight else f"paths in coordinates that keep z in its support, {_said(support)}"
        )
        return cls(name, encode, decode, free, straight, note)


def _probe(model: Any, guide: Any, x: Tensor, like: Tensor | None) -> tuple[Phase, str]:
    """Return an awake phase of two rows and the name of the one latent site."""
    refuse_way(model)
    x = x if like is None else x.to(like)
    with sealed(model, guide, device=x.device):
        reseed(x.device, _STREAM)
        try:
            for program in (model, guide):
                bind(program, {"x": x})
        except ValueError as error:
            raise Unavailable(f"paths need a pair of x alone: {error}") from error
        try:
            phase = Phases(model, guide, columns={"x": x}).awake
        except MismatchError as error:
            raise Unavailable(str(error)) from error
    if len(phase.latents) != 1:
        raise Unavailable(f"needs exactly one latent site; the model has {len(phase.latents)}")
    if "x" not in phase.observed:
        raise Unavailable("the model has no observed site x")
    return phase, phase.latents[0]


def _support(phase: Phase, site: str) -> Any:
    """Return where the latent's values may lie."""
    for of in ("model", "guide"):
        try:
            support = phase.distribution(site, of=of).support
        except NotImplementedError:
            continue
        if support.is_discrete:
            raise Unavailable(f"{site} is discrete: there is no path between its values")
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        return support
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


def _said(support: Any) -> str:
    return str(support).removesuffix("()").lower()
