"""The pictures of a report: the few rows that they show, gathered while the draws are at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from priory.evaluation.draws import SHOWN
from priory.evaluation.interpolation.path import strips
from priory.evaluation.latents.clustering import component_probabilities
from priory.evaluation.latents.hierarchy import tree_of
from priory.evaluation.posterior.calibration import Calibration, ranks_of
from priory.evaluation.posterior.predictive import replicates
from priory.evaluation.record import Unavailable
from priory.evaluation.report import charts, pictures
from priory.evaluation.report.canvas import is_image
from priory.evaluation.report.interpolations import interpolations
from priory.evaluation.report.trees import Nodes, tree
from priory.evaluation.rows import rows_of, thin
from priory.evaluation.sample_sets import Sets
from priory.evaluation.samples.label_agreement import known_labels, labelled_samples
from priory.evaluation.samples.memorisation import nearest_training
from priory.evaluation.subject import SAMPLES
from priory.inference.phases.arguments import signature
from priory.inference.phases.phases import generate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POINTS = 1000  # generated samples that a scatter shows
_STRIPS, _STEPS = 6, 11
_NEIGHBOURS = 10
_LABELS, _OF_EACH = 20, 10
_CLOSE = 20  # training rows by each sample, of which the nearest is searched
_T = TypeVar("_T")

FIRST = ("Samples", "Samples by label", "Reconstructions")
"""What a pair's page shows before all numbers: what people look at."""

PLACES: dict[str, str] = {
    "Samples": "samples",
    "Samples by label": "samples",
    "Reconstructions": "samples",
    "Nearest training rows": "samples",
    "Latents": "latents",
    "Tree": "latents",
    "Bounds": "likelihood",
    "Calibration": "posterior",
    "Interpolations": "paths",
    "Training": "training",
}
"""Where a page shows each picture: beneath the metrics of a group, or at its end."""


@dataclass(frozen=True)
class Gallery:
    """The few rows that pictures show, on the CPU; each is `None` where the pair has no such draw.

    Args:
        x: data, `(n, *shape)`.
        generated: generated samples, or the means of p(x | z), `(n, *shape)`.
        reconstructed: data and their reconstructions, each `(n, *shape)`: the means of p(x | z), or
            draws from it of images that have none.
        latents: posterior means, `(n, latent)`.
        labels: their labels, `(n,)`.
        prior: draws from the prior, `(n, latent)`.
        tree: the nodes of a prior that is one.
        bounds: bound on log p(x) by datum, `(n,)`, in nats.
        history: the training's records, by epoch or step.
        strips: paths between pairs of data through the latent space, `(rows, steps, *shape)`.
        calibration: ranks of true latents among draws of the guide.
        nearest: generated samples and the training rows nearest to them, each `(n, *shape)`.
        labelled: generated samples under each label, `(labels, n, *shape)`, and the labels.
    """

    x: Tensor | None = None
    generated: Tensor | None = None
    reconstructed: tuple[Tensor, Tensor] | None = None
    latents: Tensor | None = None
    labels: Tensor | None = None
    prior: Tensor | None = None
    tree: Nodes | None = None
    bounds: Tensor | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    strips: Tensor | None = None
    calibration: Calibration | None = None
    nearest: tuple[Tensor, Tensor] | None = None
    labelled: tuple[Tensor, tuple[str, ...]] | None = None


def gather(draws: Sets, history: Sequence[Any] = ()) -> Gallery:
    """Keep the few rows that pictures show.

    What only a costly metric could give is shown only where one has paid for it: the bounds.

    Args:
        draws: what is judged; to be read inside `sealed`.
        history: the training's records.
    """
    site = _try(lambda: draws.latent_site)
    x = _try(lambda: draws.x)
    images = x is not None and is_image(x)
    means = _try(lambda: draws.generate("x_mean", SHOWN)) if images else None
    if means is None:
        means = _try(lambda: draws.generated_rows(SHOWN if images else _POINTS))
    latents = None if site is None else _thin(draws.latents.mean)
    pairs = _try(lambda: _reconstructed(draws, images and site is not None))
    bounds = draws.__dict__.get("log_weight")
    return Gallery(
        x=None if x is None or images else _thin(x),
        generated=_kept(means),
        reconstructed=pairs,
        latents=latents,
        labels=None if latents is None else _try(lambda: _thin(draws.labels)),
        prior=None if site is None else rows_of(draws.generate(site, _POINTS)),
        tree=_try(lambda: _tree(draws, images)),
        bounds=None if bounds is None else bounds.log_likelihood.detach().cpu(),
        history=tuple(dict(row) for row in history),
        strips=_kept(_try(lambda: strips(draws, _STRIPS, _STEPS))),
        calibration=_try(lambda: ranks_of(draws)),
        nearest=_try(lambda: _nearest(means, draws.train["x"])) if images else None,
        labelled=_try(lambda: _labelled(draws, images)),
    )


def draw(gallery: Gallery) -> dict[str, Figure]:
    """Draw every picture that a gallery has the rows for.

    Args:
        gallery: what to show.

    Returns:
        Figures by title, in the order of a report.
    """
    figures: dict[str, Figure] = {}
    if gallery.generated is not None:
        figures["Samples"] = pictures.generated(gallery.generated, gallery.x)
    if gallery.labelled is not None:
        figures["Samples by label"] = pictures.by_label(*gallery.labelled)
    if gallery.nearest is not None:
        figures["Nearest training rows"] = pictures.nearest(*gallery.nearest)
    if gallery.reconstructed is not None:
        figures["Reconstructions"] = pictures.reconstructions(*gallery.reconstructed)
    if gallery.strips is not None and len(gallery.strips):
        figures["Interpolations"] = interpolations(gallery.strips, gallery.x)
    if gallery.latents is not None:
        figures["Latents"] = charts.latents(gallery.latents, gallery.labels, gallery.prior)
    if gallery.tree is not None:
        figures["Tree"] = tree(gallery.tree)
    found = gallery.calibration
    if found is not None and len(found.ranks):
        figures["Calibration"] = charts.calibration(found.ranks.cpu(), found.levels, found.names)
    if gallery.bounds is not None and len(gallery.bounds) > 1:
        figures["Bounds"] = charts.bounds(gallery.bounds)
    if len(gallery.history) > 1:
        figures["Training"] = charts.training(gallery.history)
    return figures


def _reconstructed(draws: Sets, redrawn: bool) -> tuple[Tensor, Tensor]:
    """Return data and the means of p(x | z) at their codes; draws from it where there are none.

    Args:
        draws: of a pair.
        redrawn: whether draws may stand in for means.
    """
    try:
        found = draws.reconstructions
    except Unavailable:
        if not redrawn:
            raise
        shown = thin(draws.columns, SHOWN)["x"].detach().cpu()
        return shown, replicates(draws, SHOWN, 1)[0]
    return found.x, found.mean


def _tree(draws: Sets, images: bool) -> Nodes:
    """Return the nodes of the pair's tree, with images there or else with the rows' codes."""
    prior = tree_of(draws)
    used = [prior.in_use(level) for level in range(prior.depth + 1)]
    numbers = [each.cumsum(0) - 1 for each in used]
    parents = [
        number[each.nonzero().flatten() // prior.branching].cpu()
        for number, each in zip(numbers, used[1:], strict=False)
    ]
    means = tuple(prior.means(level).detach()[each] for level, each in enumerate(used))
    shown: tuple[Tensor, ...] = ()
    if images and not {*signature(draws.model).required} - {"x"}:
        z = torch.cat(means)
        given = {"x": z.new_zeros(len(z), *draws.x.shape[1:])}
        drawn = generate(draws.model, given, len(z), replay={draws.latent_site: z})
        if "x_mean" in drawn:
            shown = drawn["x_mean"].detach().cpu().split([len(level) for level in means])
    leaf = numbers[-1].cpu()[component_probabilities(draws).argmax(1)]
    return Nodes(
        tuple(level.cpu() for level in means),
        tuple(parents),
        shown,
        _thin(draws.latents.mean),
        _thin(leaf),
    )


def _labelled(draws: Sets, images: bool) -> tuple[Tensor, tuple[str, ...]]:
    """Return generated samples under each of the first labels."""
    known = known_labels(draws)[:_LABELS]
    wanted = known.repeat_interleave(_OF_EACH)
    mean = images and _try(lambda: draws.generate("x_mean", 2)) is not None
    generated = labelled_samples(draws, wanted, "x_mean" if mean else "x")
    names = tuple(str(int(label)) for label in known)
    return generated.detach().cpu().unflatten(0, (len(known), -1)), names


def _nearest(generated: Tensor | None, train: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the first generated samples beside the training rows nearest to them."""
    if generated is None:
        return None
    shown = generated[:_NEIGHBOURS].detach().cpu()
    rows, queries = rows_of(train), rows_of(shown)
    # In single precision first: the exact search is in double, and need not hold all rows.
    rough = torch.cdist(queries.to(rows), rows)
    close = rough.topk(min(_CLOSE, len(rows)), largest=False).indices.unique()
    found = nearest_training(queries, rows[close].to(queries), k=1)
    return shown, train[close[found.row[:, 0].to(close.device)]].to(shown)


def _thin(x: Tensor) -> Tensor:
    return thin({"x": x}, SAMPLES)["x"].detach().cpu()


def _kept(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.detach().cpu()


def _try(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except Unavailable:
        return None
