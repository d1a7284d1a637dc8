"""The verb that encodes rows by a run: latents, clusters and classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.cli.outputs import OVERWRITE, output_file, save_rows
from priory.cli.runs import RUN, open_rows, pair_option, row_options
from priory.evaluation import encode
from priory.inference.distributed import ranks
from priory.signatures import Option, options_of

if TYPE_CHECKING:
    from priory.evaluation import Codes

_OUT = "codes.npz"
_ENDINGS = (".npz", ".csv")


def command(_: Request) -> Command:
    """Return what may be typed."""
    options = {n: o for n, o in options_of(encode).items() if n not in ("run", "data")}
    about = ".npz with all of it, or .csv: the mean of each coordinate, the cluster and the class"
    return Command(
        "priory encode RUN [options]",
        f"{VERBS['encode']}.",
        {
            "rows": row_options(),
            "encoding": options,
            "run": pair_option(),
            "output": {"out": Option("out", Path, _OUT, about), "overwrite": OVERWRITE},
        },
        act,
        RUN,
        (
            "priory encode runs/vae-digits-seed0 --draws 10 --out codes.npz",
            "priory encode runs/vae-digits-seed0 --data new.npz --out codes.csv",
        ),
    )


def act(request: Request) -> None:
    """Encode the rows, write the codes and print what they are."""
    options = request.values("encoding")
    out = output_file(request, "out", _OUT, _ENDINGS)
    run, data, names = open_rows(request)
    codes = encode(run, data, **options)
    named = {"id": list(names)} if names else {}
    ranks.barrier()  # every rank has looked at the file before one writes
    if ranks.is_main():
        save_rows(out, named | _table(codes), named | codes.arrays())
    print(f"{codes}\nwrote {out}: {len(codes):,} rows")


def _table(codes: Codes) -> dict[str, list[Any]]:
    """Return the means' coordinates, `z_0`, `z_1`, ..., the clusters and the classes, by column."""
    columns = {
        f"{site}_{i}": values.tolist()
        for site, mean in codes.mean.items()
        for i, values in enumerate(mean.reshape(len(mean), -1).unbind(1))
    }
    if codes.cluster is not None:
        columns["cluster"] = codes.cluster.tolist()
    if codes.label is not None:
        columns["class"] = codes.label
    return columns
