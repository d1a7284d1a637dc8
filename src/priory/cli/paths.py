"""The verb that draws ways through a run's latent space, by the centroids of labelled classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from priory.cli.data_source import data_options
from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.cli.outputs import OVERWRITE, PICTURES, output_file, save_picture
from priory.cli.runs import open_run, pair_option
from priory.evaluation import evaluate
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import check, labelled_rows, read
from priory.evaluation.subject import CodesFrom
from priory.inference import Run
from priory.signatures import Option, options_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RUN = ("RUN", "the folder of a run on labelled images, as priory fit has written it")
_OUT = "paths.png"
_ALPHAS = tuple(i / 4 for i in range(7))
_ROWS = 6  # images that are moved along one vector
_MOVED = {
    "moved": "class of the images that are moved along one vector, in place of all pairs",
    "start": "class whose centroid the vector starts at",
    "end": "class whose centroid it ends at",
}
_TRAVERSE = (
    "latent site, such as z or z2, each coordinate of which moves over its quantiles; or tree, "
    "from the root of a tree prior to its leaves"
)


def command(_: Request) -> Command:
    """Return what may be typed."""
    about = f"the picture: {', '.join(PICTURES)}"
    return Command(
        "priory paths RUN [options]",
        f"{VERBS['paths']}. Every pair of classes has a row; or images of one class are moved "
        "along the vector between two others; or one coordinate of a latent moves at a time.",
        {
            "what to move": {n: Option(n, str, None, text) for n, text in _MOVED.items()},
            "what to traverse": {"traverse": Option("traverse", str, None, _TRAVERSE)},
            "points": {"codes": options_of(evaluate)["codes"]},
            "run": pair_option() | data_options(None),
            "output": {"out": Option("out", Path, _OUT, about), "overwrite": OVERWRITE},
        },
        act,
        _RUN,
        (
            "priory paths runs/vae --out pairs.png",
            "priory paths runs/vae --moved 7 --start 6 --end 0 --out seven_along.png",
            "priory paths runs/gan --codes inversion",
            "priory paths runs/two-layer-vae --traverse z2",
        ),
    )


def act(request: Request) -> None:
    """Draw the picture, and write it."""
    from priory.evaluation.report.canvas import is_image

    chosen = request.values("what to move")
    if chosen and len(chosen) < len(_MOVED):
        request.errors.found.append("--moved, --start and --end go together")
    codes = request.values("points").get("codes")
    site = request.values("what to traverse").get("traverse")
    if site is not None and (chosen or codes):
        request.errors.found.append(
            "--traverse moves no class and takes the guide's codes: leave "
            "--moved, --start, --end and --codes out"
        )
    out = output_file(request, "out", _OUT, PICTURES)
    run = open_run(request)
    train = run.data.train.columns
    if site is not None and not is_image(train["x"]):
        raise ValueError("traversals are drawn of images, and the run's data are none")
    if site is None and (not is_image(train["x"]) or "y" not in train):
        raise ValueError("paths are drawn of labelled images, and the run's data are none")
    _check_classes(run, chosen)
    try:
        with run.scope():
            if site is None:
                figure, note = _draw(run, chosen, codes or "auto")
            else:
                figure, note = _traversed(run, site)
    except Unavailable as reason:
        raise ValueError(f"the run has no ways to draw: {reason}") from reason
    save_picture(figure, out)
    print(f"wrote {out}" + (f": {note}" if note else ""))


def _check_classes(run: Run, chosen: dict[str, str]) -> None:
    """Raise a ValueError unless the training rows have the classes that are named."""
    if not chosen:
        return
    known = labelled_rows({"y": run.data.train.columns["y"]})["y"].unique().tolist()
    names = [run.data.classes[number] for number in known]
    for option, label in chosen.items():
        if label not in names:
            raise ValueError(
                f"{option} must be a class of the training rows, {', '.join(names)}; got {label}"
            )


def _traversed(run: Run, site: str) -> tuple[Figure, str]:
    """Draw a row for each active coordinate of a site, or leaf of a tree; and say of what."""
    from priory.evaluation.interpolation import traverse, traverse_tree
    from priory.evaluation.report.interpolations import image_rows

    model, guide, test = run.pair.model, run.pair.guide, check(read(run.data.test))
    if site == "tree":
        found = traverse_tree(model, guide, test)
        title, above, steps = "From the root of the tree to its leaves", "level", found.steps
    else:
        found = traverse(model, guide, test, site)
        title, above = f"One coordinate of {site} at a time", "quantile of the coordinate, in %"
        steps = tuple(round(100 * q, 6) for q in found.steps)
    figure = image_rows(found.frames, found.labels, steps, title, above=above, marked=None)
    return figure, found.note


def _draw(run: Run, chosen: dict[str, str], codes: CodesFrom) -> tuple[Figure, str]:
    """Draw a row for each pair of classes, or images of one class on one way; and say of what."""
    from priory.evaluation.interpolation import along, class_moments, pair_paths, points_of
    from priory.evaluation.report.interpolations import image_rows

    train, test = (labelled_rows(check(read(split))) for split in (run.data.train, run.data.test))
    names = run.data.classes
    points = points_of(run.pair.model, run.pair.guide, train, test, codes)
    centroids = class_moments(points.z, points.labels)
    classes = centroids.classes.tolist()
    of = "samples' latents" if points.own is not None else "codes"
    if not chosen:
        frames = pair_paths(
            points.codec, points.rows, points.labels, centroids, _ALPHAS, z=points.z
        )
        first, second = torch.triu_indices(len(classes), len(classes), 1).tolist()
        called = [names[number] for number in classes]
        labels = [f"{called[a]} → {called[b]}" for a, b in zip(first, second, strict=True)]
        title = f"From each class to every later one, by the means of their {of}"
        columns = min(3, -(-len(labels) // 5))
        return image_rows(frames, labels, _ALPHAS, title, columns=columns), points.note
    number = {name: names.index(label) for name, label in chosen.items()}
    end, start = (centroids.mean[classes.index(number[name])] for name in ("end", "start"))
    rows = (points.y == number["moved"]).nonzero()[:_ROWS, 0].cpu()
    z = None if points.own is None else points.own[rows]
    frames = along(points.codec, points.x[rows], end - start, _ALPHAS, z=z)
    title = f"What turns {chosen['start']} into {chosen['end']}, added to {chosen['moved']}"
    return image_rows(frames, [chosen["moved"]] * len(rows), _ALPHAS, title), points.note
