"""What a page shows of one run: codes, rows, the decoder, a grid in its place, samples."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from priory.evaluation.explorer.layers import Inexpressible, Layers, head_of, layers_of
from priory.evaluation.interpolation.codec import Codec
from priory.evaluation.interpolation.points import codec_of
from priory.evaluation.interpolation.space import Space
from priory.evaluation.isolation import placement, sealed
from priory.evaluation.latents.collapse import active_units
from priory.evaluation.record import Unavailable
from priory.evaluation.report.canvas import is_image
from priory.evaluation.rows import Columns, check, has_splits, read, split_of, thin
from priory.evaluation.subject import name_of, preparation_of, resolve, scope_of
from priory.inference.phases.arguments import bind, owner
from priory.inference.phases.recorder import Recorder
from priory.models.flow import NormalizingFlow

ROWS = 2000  # of the test rows, and of the training rows, at most
SAMPLES, POINTS = 24, 300  # of images, and of all else
_PRIOR = 500  # draws of the prior
_SIDE = 13  # of the grid that stands in
_CHECKED = 4  # latents at which the page compares its decoder with the model
_CLOSE = 2e-3  # of the largest value: what half precision may change
_WEIGHTS = 4_000_000  # of a decoder that a page holds
_LABELS = 40  # classes that a legend shows


@dataclass(frozen=True)
class Plane:
    """Two directions of the latent's space through a centre, in which a map is drawn.

    Args:
        centre: mean of the codes, `(coordinates,)`.
        directions: `(2, coordinates)`, of length 1; one alone for a single coordinate.
        share: of the codes' variance along each.
    """

    centre: Tensor
    directions: Tensor
    share: Tensor

    @classmethod
    def of(cls, codes: Tensor) -> Plane:
        """Return the first two principal components.

        Args:
            codes: `(n, coordinates)`.
        """
        centre = codes.mean(0)
        _, spread, directions = torch.linalg.svd(codes - centre, full_matrices=False)
        first = directions[:2]
        at = first.abs().argmax(1, keepdim=True)
        first = first * first.gather(1, at).sign()  # a sign that is the same for the same codes
        share = spread.square() / spread.square().sum().clamp(min=1e-30)
        return cls(centre, first, share[:2])


@dataclass(frozen=True)
class Grid:
    """Means of p(x | z) at places of the plane, where no decoder can be exported.

    Args:
        low: least place along each direction, from the centre.
        high: largest.
        x: `(side * side, *shape)`, the first direction fastest.
        reason: why there is no decoder.
    """

    low: Tensor
    high: Tensor
    x: Tensor
    reason: str


@dataclass(frozen=True)
class Rows:
    """Rows of data with their codes, on the CPU.

    Args:
        x: in the data's own units, `(n, *shape)`.
        codes: `(n, coordinates)`.
        number: of each row in its split, `(n,)`.
        total: how many there are of which these were taken.
        y: labels, `(n,)`, if there are any.
    """

    x: Tensor
    codes: Tensor
    number: Tensor
    total: int
    y: Tensor | None = None

    def few(self, limit: int) -> Rows:
        """Return at most so many, evenly spaced."""
        columns = {"x": self.x, "codes": self.codes, "number": self.number}
        columns |= {} if self.y is None else {"y": self.y}
        few = thin(columns, limit)
        return Rows(few["x"], few["codes"], few["number"], self.total, few.get("y"))


@dataclass(frozen=True)
class View:
    """What a page shows of one run.

    Args:
        name: what the page calls it.
        shape: of a datum.
        reason: why there is no map of its latents; empty if there is one.
        samples: draws of x by the run's own sampler, and the means of p(x | z) of each, if it has
            any, `(n, *shape)` each, in the data's own units.
        site: name of the latent site.
        test: the test rows, or draws of a generator that has no encoder.
        train: the training rows; None of a generator.
        prior: draws of the latent from the prior, `(n, coordinates)`.
        plane: of the test rows' codes.
        active: the coordinates with sliders, the most active first: those that vary with the data,
            or all where none does.
        varying: how many vary with the data: the variance of their codes exceeds 0.01.
        straight: whether points are the latents themselves, without a bijection.
        layers: the decoder, if it can be exported.
        half: whether half precision is enough for its weights.
        checked: latents and means of p(x | z) there, by which the page checks itself.
        grid: what stands in for the decoder.
        classes: names of the labels.
        features: names of a table's columns.
        units: what standardised values are multiplied by, and what is added, flat.
    """

    name: str
    shape: tuple[int, ...]
    reason: str = ""
    samples: dict[str, Tensor] = field(default_factory=dict)
    site: str = ""
    test: Rows | None = None
    train: Rows | None = None
    prior: Tensor | None = None
    plane: Plane | None = None
    active: tuple[int, ...] = ()
    varying: int = 0
    straight: bool = True
    layers: Layers | None = None
    half: bool = True
    checked: tuple[Tensor, Tensor] | None = None
    grid: Grid | None = None
    classes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    units: tuple[Tensor, Tensor] | None = None


def view_of(run: Any, name: str = "", *, seed: int = 0, bare: bool = True) -> View:
    """Return what a page shows of a run: of one whose latents have no map, its samples alone.

    Args:
        run: a run.
        name: what the page calls it; the pair's name if empty.
        seed: seed of all draws.
        bare: whether samples are drawn where they would stand alone.

    Raises:
        ValueError: if the run's data are not there.
    """
    run, pair, data = resolve(run, None)
    test = split_of(data, "test")
    train = check(read(data.train), "train") if has_splits(data) else test
    kept = preparation_of(run)
    units = None
    if kept is not None and kept.units is not None:
        mean, scale = (torch.from_numpy(u).reshape(-1) for u in kept.units)
        units = (scale, mean)
    view = View(
        name or name_of(pair),
        tuple(test["x"].shape[1:]),
        classes=_names(test, train, kept),
        features=tuple(getattr(kept, "features", ())),
        units=units,
    )
    programs = (pair, pair.model, pair.guide)
    like = placement(*programs)
    device = (test["x"] if like is None else like).device
    with scope_of(run), sealed(*programs, device=device):
        try:
            view = _mapped(view, pair, test, train, kept, seed)
        except Unavailable as error:
            view = replace(view, reason=str(error))
    if view.reason and not bare:
        return view
    drawn = run.sample(SAMPLES if is_image(test["x"]) else POINTS, seed=seed)
    return replace(view, samples={k: drawn[k].cpu() for k in ("x", "x_mean") if k in drawn})


def _names(test: Columns, train: Columns, kept: Any) -> tuple[str, ...]:
    """Return the labels' names; none without labels, or with too many."""
    known = [columns["y"] for columns in (test, train) if "y" in columns]
    if len(known) < 2 or any(y.is_floating_point() or y.dim() != 1 for y in known):
        return ()
    count = max(1, *(int(y.max()) + 1 for y in known))
    names = tuple(getattr(kept, "classes", ())) or tuple(map(str, range(count)))
    return names if len(names) <= _LABELS else ()


def _mapped(view: View, pair: Any, test: Columns, train: Columns, kept: Any, seed: int) -> View:
    """Add the latents' map, the decoder or a grid in its place."""
    if isinstance(owner(pair.model), NormalizingFlow):
        raise Unavailable("a flow's point has as many coordinates as a datum: nothing is decoded")
    codec = codec_of(pair.model, pair.guide, test, seed=seed)
    space = Space.of(pair.model, None if codec.draw else pair.guide, test["x"])
    if codec.draw is not None:
        points = codec.draw(ROWS)
        decoded = codec.decode(points)
        number = torch.arange(ROWS)
        shown, known = Rows(_restored(decoded, kept), points.double().cpu(), number, ROWS), None
        view = replace(view, classes=())
    else:
        shown, known = (_encoded(codec, c, kept, bool(view.classes)) for c in (test, train))
    if not shown.codes.isfinite().all():
        raise Unavailable("its codes are NaN or infinite")
    if len(shown.codes) < 2:
        raise Unavailable("a map needs two rows or more")
    count, variances = active_units(shown.codes)
    order = variances.argsort(descending=True)[: count or len(variances)]
    view = replace(
        view,
        site=space.site,
        test=shown,
        train=known,
        prior=_prior(space, _PRIOR),
        plane=Plane.of(shown.codes),
        active=tuple(order.tolist()),
        varying=count,
        straight=codec.straight,
    )
    try:
        return _with_layers(view, space, codec)
    except Inexpressible as error:
        return replace(view, grid=_grid(view, codec, kept, str(error)))


def _encoded(codec: Codec, columns: Columns, kept: Any, labelled: bool) -> Rows:
    total = len(columns["x"])
    taken = {"x": columns["x"], "number": torch.arange(total)}
    few = thin(taken | ({"y": columns["y"]} if labelled else {}), ROWS)
    codes = codec.encode(few["x"]).double().cpu()
    y = few["y"].cpu() if labelled else None
    return Rows(_restored(few["x"], kept), codes, few["number"], total, y)


def _restored(x: Tensor, kept: Any) -> Tensor:
    return (x if kept is None else kept.restore(x)).detach().cpu()


def _prior(space: Space, n: int) -> Tensor | None:
    points = space.draw(n).double().cpu()
    return points if points.isfinite().all() else None


def _with_layers(view: View, space: Space, codec: Codec) -> View:
    """Export the decoder, and see that it is the model's own at some codes."""
    assert view.test is not None  # noqa: S101
    like = space.values
    few = thin({"z": view.test.codes}, 2 * _CHECKED)["z"].to(like)

    def parameters(u: Tensor) -> tuple[str, list[Tensor], dict[str, Any]]:
        return head_of(_distribution(space, u))

    layers = layers_of(parameters, few[:1] + 0, view.shape)
    if layers.weights > _WEIGHTS:
        raise Inexpressible(
            f"it has {layers.weights:,} weights, and a page holds {_WEIGHTS:,} at most"
        )
    _, maps, _ = parameters(few)
    if _distance(layers.graph, few, maps) > _CLOSE / 2:
        raise Inexpressible("what it does depends on the values, or on the other rows")
    half = _distance(_rounded(layers.graph), few, maps) <= _CLOSE
    checked = few[:_CHECKED].cpu(), codec.decode(few[:_CHECKED]).cpu()
    return replace(view, layers=layers, half=half, checked=checked)


def _distance(graph: Any, few: Tensor, maps: Sequence[Tensor]) -> float:
    """Return how far parameters are from the model's own, in units of the largest or of 1."""
    largest = 0.0
    for i, z in enumerate(few):
        for found, wanted in zip(graph(z[None]), maps, strict=True):
            own = wanted if wanted.numel() == found.numel() else wanted[i]
            apart = (found.reshape(-1) - own.reshape(-1)).abs() / own.abs().max().clamp(min=1)
            largest = max(largest, float(apart.max().nan_to_num(torch.inf)))
    return largest


def _rounded(graph: Any) -> Any:
    """Return a graph whose matrices are rounded to half precision."""
    found = deepcopy(graph)
    for node in found.graph.nodes:
        held = getattr(found, node.target) if node.op == "get_attr" else None
        if isinstance(held, Tensor) and held.is_floating_point() and held.dim() > 1:
            held.data = held.data.half().to(held.dtype)
    return found


def _grid(view: View, codec: Codec, kept: Any, reason: str) -> Grid:
    """Decode places of the plane that the test rows' codes spread over."""
    assert view.plane is not None and view.test is not None  # noqa: S101, PT018
    plane = view.plane
    along = (view.test.codes - plane.centre) @ plane.directions.T
    low, high = (along.quantile(q, 0) for q in (0.01, 0.99))
    steps = [torch.linspace(float(a), float(b), _SIDE) for a, b in zip(low, high, strict=True)]
    places = torch.cartesian_prod(*reversed(steps)).reshape(-1, len(steps)).flip(1).double()
    x = codec.decode(plane.centre + places @ plane.directions)
    return Grid(low, high, _restored(x, kept), reason)


def _distribution(space: Space, u: Tensor) -> Any:
    """Return p(x | z) at points, as the model declares it."""
    z = space.latents(u)
    recorder = Recorder({space.site: z}, draw_observed=True)
    given = {"x": z.new_zeros(len(z), *space.shape)}
    with recorder:
        space.model(**bind(space.model, given))
    return recorder.sites["x"]["fn"]
