"""Labelled points of a latent space: codes of data, or draws whose samples a classifier labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from priory.evaluation.interpolation.codec import Codec
from priory.evaluation.isolation import placement, sealed
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import Columns, place, rows_of, thin
from priory.evaluation.samples.classifier import trained_classifier
from priory.evaluation.subject import CodesFrom
from priory.inference.phases.arguments import bind, owner
from priory.inference.phases.recorder import Recorder
from priory.inference.phases.sites import is_latent
from priory.lookup import named
from priory.models.flow import NormalizingFlow

_SAMPLES = 2000  # samples, of which class means are made
_LEAST = 10  # of a class, for a mean of its points
_SEARCHED = 1000  # training rows, at most, whose points are searched for


class Points(NamedTuple):
    """Labelled points, of which class means are made, and what is moved by their differences.

    Args:
        codec: encodes, where it can, and decodes.
        z: points, `(m, coordinates)`.
        labels: their labels, `(m,)`.
        rows: the data, or samples, whose points they are, `(m, *shape)`.
        x: what is moved, data or samples, `(n, *shape)`.
        y: their labels, `(n,)`.
        own: points of x, `(n, coordinates)`; None where they are its codes.
        note: what a reader must know of the points.
    """

    codec: Codec
    z: Tensor
    labels: Tensor
    rows: Tensor
    x: Tensor
    y: Tensor
    own: Tensor | None = None
    note: str = ""

    @property
    def sampled(self) -> bool:
        """Whether samples are moved rather than data."""
        return self.own is not None


def codec_of(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    columns: Columns,
    codes: CodesFrom = "auto",
    *,
    seed: int = 0,
) -> Codec:
    """Return the codec of a pair, by where its points come from.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        columns: data by name; the column x gives the shape.
        codes: "encoder": the guide's posterior means, of a flow its own inverse; "inversion": a
            search for each datum; "samples": no datum has a point, the codec draws them; "auto":
            "encoder" where the guide draws one latent or the pair is a flow, else "samples".
        seed: seed of draws.

    Raises:
        Unavailable: as in `Codec.of_pair` and `Codec.of_generator`.
        ValueError: if there is no such source.

    Example:
        >>> codec_of(run.pair.model, run.pair.guide, {"x": x}, "inversion").note
        'points by a search of 300 steps'
    """
    named("source of codes", codes, dict.fromkeys(get_args(CodesFrom)))
    source = _source(model, guide, columns, codes)
    if source == "flow":
        return Codec.of_flow(owner(model), seed=seed)
    if source == "encoder":
        return Codec.of_pair(model, guide, columns, seed=seed)
    of = Codec.of_samples if source == "samples" else Codec.of_generator
    return of(model, columns, seed=seed)


def points_of(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    train: Columns,
    test: Columns,
    codes: CodesFrom = "auto",
    *,
    seed: int = 0,
    known: Callable[[], Tensor | None] = lambda: None,
) -> Points:
    """Return labelled points of a pair's latent space, and rows that are moved among them.

    Of a generator without an encoder they are draws of its latent, by the class that a small
    classifier of the training rows finds in the sample of each; then samples are moved, too.
    Radford, Metz and Chintala, 2016, Unsupervised representation learning with deep convolutional
    generative adversarial networks.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        train: training rows x with labels y, all known; a search is made of 1,000 at most.
        test: rows x and y to be moved; of samples there are as many.
        codes: where points come from; see `codec_of`.
        seed: seed of draws.
        known: posterior means of the training rows, where they are at hand.

    Raises:
        Unavailable: as in `codec_of`; or too few samples show a class.
    """
    codec = codec_of(model, guide, train, codes, seed=seed)
    if codec.draw is not None:
        return _sampled(codec, codec.draw, train, len(test["x"]))
    source = _source(model, guide, train, codes)
    if source == "inversion":
        train = thin({"x": train["x"], "y": train["y"]}, _SEARCHED)
    means = known() if source == "encoder" else None
    z = codec.encode(train["x"]) if means is None else codec.free(means)
    note = codec.note + (_error(codec, z, train["x"]) if source == "inversion" else "")
    labels, rows = train["y"].cpu(), train["x"]
    return Points(codec, z.cpu(), labels, rows, test["x"], test["y"], note=note)


def _source(
    model: Callable[..., Any], guide: Callable[..., Any], columns: Columns, codes: CodesFrom
) -> str:
    """Return where points come from: "flow", "encoder", "samples" or "inversion"."""
    if isinstance(owner(model), NormalizingFlow):
        if codes not in ("auto", "encoder"):
            raise Unavailable("a flow's own inverse gives each datum's point: codes='encoder'")
        return "flow"
    if codes != "auto":
        return codes
    recorder = Recorder()
    few = place({name: value[:2] for name, value in columns.items()}, placement(model, guide))
    with sealed(guide), recorder:
        guide(**bind(guide, few))
    drawn = [s for s in recorder.sites.values() if is_latent(s)]
    return "encoder" if sum(not s["infer"].get("is_auxiliary") for s in drawn) == 1 else "samples"


def _sampled(codec: Codec, draw: Callable[[int], Tensor], train: Columns, moved: int) -> Points:
    """Return points of samples, with the labels that a classifier of the training rows gives."""
    z = draw(_SAMPLES + moved)
    x = codec.decode(z).cpu()
    classes = train["y"].cpu().unique()
    net = trained_classifier(train, tuple(train["x"].shape[1:]))
    with torch.no_grad():
        y = classes[torch.cat([net.classes(rows_of(rows)) for rows in x.split(_SAMPLES)])]
    count = [int((y[:_SAMPLES] == k).sum()) for k in classes]
    if min(count) < _LEAST:
        label = float(classes[count.index(min(count))])
        raise Unavailable(
            f"the classifier finds class {label:g} in {min(count)} of {_SAMPLES} samples, and a "
            f"mean of its points needs {_LEAST}: train the generator until it shows every class"
        )
    known = (z[:_SAMPLES].cpu(), y[:_SAMPLES], x[:_SAMPLES])
    others = (x[_SAMPLES:], y[_SAMPLES:], z[_SAMPLES:])
    note = f"samples are moved, by class means of {_SAMPLES} that a classifier labels"
    note = f"{note}; {codec.note}" if codec.note else note
    return Points(codec, *known, *others, note)


def _error(codec: Codec, z: Tensor, x: Tensor) -> str:
    """Say how far the means at points are from the data that they were searched for."""
    error = (codec.decode(z).cpu() - x.cpu()).double().square().mean()
    spread = x.double().var(0, correction=0).mean()
    return f", which leave a squared error of {error:.3g} per feature (variance {spread:.3g})"
