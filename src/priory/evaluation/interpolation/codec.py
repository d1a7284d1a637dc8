"""Ways to write a datum as a point and back: a pair's latents, and baselines without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from priory.distributions.levels import Floor
from priory.evaluation.interpolation.inversion import INVERSION, STARTS, invert
from priory.evaluation.interpolation.space import Joint, Space, space_of
from priory.evaluation.isolation import placement, reseed, sealed
from priory.evaluation.latents.information import mean_of
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import Columns, blocks, rows_of
from priory.inference.phases.phases import Phases
from priory.models.flow import NormalizingFlow

_STREAM, _SAMPLES = 50, 53
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
        draw: returns the points of n samples, `(n, coordinates)`, where no datum has one.

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
    draw: Callable[[int], Tensor] | None = None

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
        space = Space.of(model, guide, columns["x"])
        like, device = placement(model, guide), space.values.device

        def encode(x: Tensor) -> Tensor:
            points = []
            with sealed(model, guide, device=device):
                for start, rows in blocks({"x": x}, _ROWS, like):
                    reseed(device, seed, _STREAM, start)
                    distribution = Phases(model, guide, columns=rows).awake.distribution(space.site)
                    points.append(space.free(mean_of(distribution)[0]))
            return torch.cat(points)

        decode = _decoder(space, model, guide)
        return cls(name, encode, decode, space.free, space.straight, space.note)

    @classmethod
    def of_generator(
        cls,
        model: Callable[..., Any],
        columns: Columns,
        *,
        steps: int = INVERSION,
        name: str = "generator",
        seed: int = 0,
    ) -> Codec:
        r"""Return the codec of a model without a guide: a datum's point is searched for.

        .. math:: \mathrm{enc}(x) = \arg\min_u |\mathrm{E}[x \mid z = T(u)] - x|^2

        From the nearest of 1,000 samples on, by Adam at a rate that falls to 0; the point kept is
        the best on the way. What is left of the error is that of a reconstruction,
        `decode(encode(x))`: nothing promises that a generator reaches a datum. Creswell and
        Bharath, 2018, Inverting the generator of a generative adversarial network.

        Args:
            model: Pyro program of p(x, z).
            columns: data by name; the column x gives the shape.
            steps: of the search.
            name: what a table calls it.
            seed: seed of the samples.

        Raises:
            Unavailable: as in `of_pair`, but for several latents that are independent a priori,
                which are searched for together; or p(x | z) gives them no gradient.

        Example:
            >>> codec = Codec.of_generator(run.pair.model, {"x": x}, steps=5)
            >>> codec.decode(codec.encode(x)).shape == x.shape
            True
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        space = space_of(model, columns["x"])
        draw = _drawer(space, model, seed)

        def encode(x: Tensor) -> Tensor:
            starts = draw(STARTS)
            with sealed(model, device=space.values.device):
                found = [
                    invert(space, rows["x"], starts, steps)
                    for _, rows in blocks({"x": x}, _ROWS, space.values)
                ]
            return torch.cat(found)

        note = f"points by a search of {steps} steps"
        note = f"{note}; {space.note}" if space.note else note
        return cls(name, encode, _decoder(space, model), _free(space), space.straight, note)

    @classmethod
    def of_samples(
        cls,
        model: Callable[..., Any],
        columns: Columns,
        *,
        name: str = "generator",
        seed: int = 0,
    ) -> Codec:
        """Return the codec of a model's own samples, whose points are known: no datum has one.

        Args:
            model: Pyro program of p(x, z).
            columns: data by name; the column x gives the shape.
            name: what a table calls it.
            seed: seed of the samples.

        Raises:
            Unavailable: as in `of_generator`; `encode` always does.
        """
        space = space_of(model, columns["x"])

        def encode(x: Tensor) -> Tensor:
            raise Unavailable(
                f"{len(x)} data have no points, as the model has no encoder: move its samples, or "
                "take codes='inversion', which searches for a point of each"
            )

        decode, draw = _decoder(space, model), _drawer(space, model, seed)
        return cls(name, encode, decode, _free(space), space.straight, space.note, draw)

    @classmethod
    def of_flow(cls, pair: NormalizingFlow, *, name: str = "flow", seed: int = 0) -> Codec:
        r"""Return the codec of a flow of data: its noise, by the flow itself, and back.

        Of data at levels it is the noise of :math:`\mathrm{E}_q[z \mid x]`, from within a level.

        Args:
            pair: the flow.
            name: what a table calls it.
            seed: seed of the draws behind a posterior mean without closed form.
        """
        flow, like = pair.density(), placement(pair)
        levels = pair.dequantise != "none"

        def encode(x: Tensor) -> Tensor:
            points = []
            with sealed(pair, device=flow.like.device):
                for start, rows in blocks({"x": x}, _ROWS, like):
                    reseed(flow.like.device, seed, _STREAM, start)
                    z = mean_of(pair.noise(rows["x"]))[0] if levels else rows["x"]
                    points.append(rows_of(flow.noise(z)))
            return torch.cat(points)

        def decode(u: Tensor) -> Tensor:
            out = []
            with sealed(pair, device=flow.like.device):
                for _, rows in blocks({"u": u}, _ROWS, flow.like):
                    x = flow.data(rows["u"].reshape(-1, *flow.event_shape))
                    out.append(Floor(x, pair.top, len(flow.event_shape)).mean if levels else x)
            return torch.cat(out)

        return cls(name, encode, decode)


def _free(space: Space | Joint) -> Callable[[Tensor], Tensor]:
    """Return the map from values of the one latent to points; of several, points are all known."""
    return space.free if isinstance(space, Space) else rows_of


def _decoder(space: Space | Joint, *programs: Any) -> Callable[[Tensor], Tensor]:
    """Return the map from points to means of p(x | z), by blocks of rows."""

    def decode(u: Tensor) -> Tensor:
        with sealed(*programs, device=space.values.device):
            parts = blocks({"u": u}, _ROWS, space.values)
            return torch.cat([space.means(rows["u"]) for _, rows in parts])

    return decode


def _drawer(space: Space | Joint, model: Any, seed: int) -> Callable[[int], Tensor]:
    """Return a function that draws the points of n samples, the first ones the same for any n."""

    def draw(n: int) -> Tensor:
        points, device = [], space.values.device
        with sealed(model, device=device):
            for start in range(0, n, _ROWS):
                reseed(device, seed, _SAMPLES, start)
                points.append(space.draw(_ROWS))
        return torch.cat(points)[:n]

    return draw
