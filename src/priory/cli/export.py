"""The verb that writes a run's encoder, decoder and sampler as ONNX models."""

from __future__ import annotations

from pathlib import Path

from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.cli.outputs import check_folder, folder_options
from priory.cli.runs import RUN, open_rows, pair_option, row_options
from priory.onnx.writing import DESCRIPTION, export
from priory.signatures import options_of

_OUT = "onnx"


def command(_: Request) -> Command:
    """Return what may be typed."""
    hidden = ("run", "folder", "data", "overwrite")
    options = {n: o for n, o in options_of(export).items() if n not in hidden}
    return Command(
        "priory export RUN [options]",
        f"{VERBS['export']}. Each is held against the run on rows of the data before anything is "
        "written.",
        {
            "rows to check by": {"data": row_options()["data"]},
            "parts": options,
            "run": pair_option(),
            "output": folder_options(f"the folder, {_OUT} by default"),
        },
        act,
        RUN,
        (
            "priory export runs/vae-digits-seed0 --out onnx/vae",
            "priory export runs/vae-digits-seed0 --parts decoder,sampler --out onnx/vae",
        ),
    )


def act(request: Request) -> None:
    """Export the parts, and print what was written."""
    options = request.values("parts")
    out = Path(request.texts.get("out", _OUT))
    request.errors.attempt(check_folder, out, request.overwrite, DESCRIPTION)
    run, data, _ = open_rows(request)
    made = export(run, out, data, overwrite=request.overwrite, **options)
    print(f"{made}\nwrote {out}: {', '.join(p.name for p in made.files.values())}, {DESCRIPTION}")
