"""The verb that fills in the missing entries of rows by a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.cli.outputs import OVERWRITE, output_file, save_rows
from priory.cli.runs import RUN, open_rows, pair_option, row_options
from priory.evaluation import impute_rows
from priory.inference.distributed import ranks
from priory.signatures import Option, options_of

if TYPE_CHECKING:
    from priory.evaluation import Imputed

_OUT = "filled.csv"
_ENDINGS = (".csv", ".npz")


def command(_: Request) -> Command:
    """Return what may be typed."""
    options = {n: o for n, o in options_of(impute_rows).items() if n not in ("run", "data")}
    about = "the rows with means in the gaps and the 5% and 95% quantiles of these beside, of a "
    about += "category its most probable level and the probability, .csv; or .npz, with the draws"
    return Command(
        "priory impute RUN [options]",
        f"{VERBS['impute']}. The run is one of data with missing entries: priory fit miwae --data "
        "FILE --missing integrate.",
        {
            "rows": row_options(),
            "imputing": options,
            "run": pair_option(),
            "output": {
                "out": Option("out", Path, _OUT, about),
                "overwrite": OVERWRITE,
            },
        },
        act,
        RUN,
        (
            "priory fit miwae --data gaps.csv --missing integrate --standardise --out runs/miwae",
            "priory impute runs/miwae --data gaps.csv --out filled.csv",
        ),
    )


def act(request: Request) -> None:
    """Fill the rows in, write them and print what was missing."""
    options = request.values("imputing")
    out = output_file(request, "out", _OUT, _ENDINGS)
    run, data, names = open_rows(request)
    filled = impute_rows(run, data, **options)
    named = {"id": list(names)} if names else {}
    parts = ("x", "low", "high", "draws", "seen", "ess")
    arrays = {part: getattr(filled, part).numpy() for part in parts}
    if filled.probability is not None:
        arrays["probability"] = filled.probability.numpy()
    ranks.barrier()  # every rank has looked at the file before one writes
    if ranks.is_main():
        save_rows(out, named | _table(filled), named | arrays)
    print(f"{filled}\nwrote {out}")


def _table(filled: Imputed) -> dict[str, list[Any]]:
    """Return the columns with their gaps filled, then the quantiles of those that have gaps."""
    flat = {k: getattr(filled, k).reshape(len(filled), -1) for k in ("x", "low", "high", "seen")}
    width = flat["x"].shape[1]
    names = filled.features or tuple(f"x_{i}" for i in range(width))
    columns = filled.table()
    if filled.probability is not None:
        flat["probability"] = filled.probability.reshape(len(filled), -1)
    for i, name in enumerate(names):
        gaps = (~flat["seen"][:, i]).tolist()
        named = "probability" in flat and not flat["probability"][:, i].isnan().all()
        if any(gaps):
            for end in ("probability",) if named else ("low", "high"):
                values = zip(flat[end][:, i].tolist(), gaps, strict=True)
                columns[f"{name}_{end}"] = [value if gap else "" for value, gap in values]
    return columns
