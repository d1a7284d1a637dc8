"""The verb that writes a page on which runs are explored."""

from __future__ import annotations

from pathlib import Path

from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.cli.outputs import OVERWRITE, output_file
from priory.cli.runs import check_run, pair_option, parts_of
from priory.evaluation import explore
from priory.inference import load
from priory.signatures import Option, options_of

_OUT = "page.html"
_RUNS = ("RUN...", "the folders of runs on the same data, as priory fit has written them")


def command(_: Request) -> Command:
    """Return what may be typed."""
    options = {n: o for n, o in options_of(explore).items() if n not in ("runs", "path", "names")}
    return Command(
        "priory explore RUN [RUN...] [options]",
        f"{VERBS['explore']}. It has a map of the test rows' codes, the decoder, which runs in the "
        "page while a point is dragged, a slider for each coordinate, ways between two rows, the "
        "nearest training rows, and samples of each run side by side.",
        {
            "exploring": options,
            "run": pair_option(),
            "output": {
                "out": Option("out", Path, _OUT, "the page, .html"),
                "overwrite": OVERWRITE,
            },
        },
        act,
        _RUNS,
        (
            "priory explore runs/vae-digits-seed0 --out page.html",
            "priory explore runs/vae-digits-seed0 runs/vae --out two.html",
        ),
    )


def act(request: Request) -> None:
    """Read the runs, and write the page."""
    options = request.values("exploring")
    out = output_file(request, "out", _OUT, (".html",))
    folders = request.arguments
    if not folders:
        request.errors.found.append("the folder of a run is needed first")
    for folder in folders:
        request.errors.attempt(check_run, folder)
    request.errors.check()
    parts = [parts_of(folder, request) for folder in folders]
    runs = [
        load(folder, pair=pair, data=data)
        for folder, (pair, data) in zip(folders, parts, strict=True)
    ]
    written = explore(runs, out, names=_names(folders), **options)
    print(f"wrote {written}: {written.stat().st_size / 1e6:.2f} MB, for any browser, offline")


def _names(folders: list[str]) -> list[str]:
    """Return what the page calls runs: their folders' names, or paths where two are the same."""
    names = [Path(folder).resolve().name for folder in folders]
    return names if len({*names}) == len(names) else folders
