"""The verb that asks a run of its own data: which rows are rare, and how to weigh them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from priory.cli.data_source import data_options
from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.cli.outputs import OVERWRITE, PICTURES, output_file, save_picture
from priory.cli.runs import RUN, open_run, pair_option
from priory.evaluation import balance, cover, rarest
from priory.evaluation.insight import effective_size
from priory.evaluation.record import Unavailable
from priory.signatures import Option, options_of

_OUT = "insight.csv"
_SHOWN = 10  # rows on the terminal
_TILES = 64


def command(_: Request) -> Command:
    """Return what may be typed."""
    asked = ("particles", "components", "seed")
    return Command(
        "priory insight RUN [options]",
        f"{VERBS['insight']}. Writes a row for each training row: its number, label, bound on "
        "log p(x), log density of its code, both in nats, and weight of mean 1.",
        {
            "asking": {n: o for n, o in options_of(cover).items() if n in asked}
            | {"share": options_of(balance)["share"]},
            "run": pair_option() | data_options(None),
            "output": {
                "out": Option("out", Path, _OUT, "the table, .csv"),
                "picture": Option("picture", Path, None, "draw the rarest images there"),
                "overwrite": OVERWRITE,
            },
        },
        act,
        RUN,
        ("priory insight runs/vae-digits-seed0 --out rows.csv --picture rare.png",),
    )


def act(request: Request) -> None:
    """Write the table, print the rarest rows and draw their images."""
    from priory.evaluation.report.canvas import image_grid, is_image, tile
    from priory.evaluation.report.text import align

    options = request.values("asking")
    share = options.pop("share", 0.5)
    out = output_file(request, "out", _OUT, (".csv",))
    picture = None
    if "picture" in request.texts:
        picture = output_file(request, "picture", endings=PICTURES)
    run = open_run(request)
    train = run.data.train
    if picture is not None and not is_image(train.x):
        raise ValueError("a picture can be drawn of images only")
    try:
        coverage = cover(run, **options)
    except Unavailable as reason:
        raise ValueError(f"the run has no density of codes: {reason}") from reason
    weights = balance(coverage.density, share)
    labels = train.columns.get("y")
    order = rarest(coverage.density, min(_TILES, len(coverage.density)))
    facts = [coverage.bound, coverage.density, weights]
    lines: list[tuple[str, ...]] = [("row", "label", "bound", "density", "weight")]
    for i in range(len(weights)):
        label = "" if labels is None or labels[i] < 0 else run.data.classes[int(labels[i])]
        lines.append((str(i), label, *(f"{float(fact[i]):.6g}" for fact in facts)))
    with out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    shown = [lines[0], *(lines[int(i) + 1] for i in order[:_SHOWN])]
    print("the rarest training rows, by the density of their codes (nats):\n")
    print("\n".join(align(shown, right=range(5))))
    worth = f"{effective_size(weights):,.0f} equal ones"
    print(f"\nthe weights of {len(weights):,} rows are worth {worth}\nwrote {out}")
    if picture is not None:
        rare = train.x[order.to(train.x.device)].cpu()
        note = f"the {len(rare)} training images whose codes are least dense, the rarest first"
        save_picture(image_grid(tile(rare, math.isqrt(len(rare))), "Rare", note), picture)
        print(f"wrote {picture}")
