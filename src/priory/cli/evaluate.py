"""The verb that judges: a run, or samples of any origin against data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from priory.cli.data_source import Source, data_options
from priory.cli.entry import VERBS
from priory.cli.evaluate_options import OUTLIERS, evaluate_options, evaluate_values
from priory.cli.grammar import Command, Request
from priory.cli.outputs import OVERWRITE, output_file
from priory.cli.runs import check_run, open_run, pair_option
from priory.data import SETS, Data
from priory.data.files import find
from priory.evaluation import evaluate, evaluate_samples
from priory.evaluation.subject import FEW
from priory.inference import Run, load
from priory.inference.card import CARD, put_figures, write_card
from priory.inference.checkpoints.folders import read_config
from priory.inference.checkpoints.missing_data import Absent
from priory.inference.distributed import ranks
from priory.inference.loggers import add_figures
from priory.lookup import first_line
from priory.signatures import Option, options_of

if TYPE_CHECKING:
    from priory.evaluation import Report

_RUN = ("RUN", "the folder of a run, as priory fit has written it; none with --samples")
_FILES: tuple[str, ...] = ("html", "json")
_ARRAYS = {
    "samples": "samples of any origin: .npz (x, or a single array), .npy, .csv, .parquet, a folder",
    "against": "what to compare them with: a file likewise, or a named set",
    "train": "training rows, for memorisation and features; those of a named set by default",
}


def command(_: Request) -> Command:
    """Return what may be typed."""
    return Command(
        "priory evaluate RUN [options]\n       priory evaluate --samples FILE --against FILE",
        f"{VERBS['evaluate']}. A run's report is kept in its folder, as report.html, one page "
        "with its pictures, and report.json.",
        {
            "judging": evaluate_options(),
            "samples in place of a run": {n: Option(n, str, None, t) for n, t in _ARRAYS.items()},
            "outliers": {n: Option(n, str, None, t) for n, t in OUTLIERS.items()},
            "run": pair_option() | data_options(None),
            "output": {
                "html": Option("html", Path, None, "write the page there"),
                "json": Option("json", Path, None, "write the numbers there"),
                "arviz": Option(
                    "arviz",
                    Path,
                    None,
                    "write draws for as many rows as --few there, .nc, for ArviZ",
                ),
                "overwrite": OVERWRITE,
            },
        },
        act,
        _RUN,
        (
            "priory evaluate runs/vae-digits-seed0 --particles 5000",
            "priory evaluate runs/vae-digits-seed0 --metrics samples,ais --steps 2000",
            "priory evaluate --samples fake.npz --against test.npz",
        ),
    )


def act(request: Request) -> None:
    """Judge, print the report, and write its page, its numbers and draws for ArviZ."""
    options = evaluate_values(request)
    files = {k: output_file(request, k) for k in _FILES if k in request.texts}
    arviz = None
    if "arviz" in request.texts:
        arviz = output_file(request, "arviz", endings=(".nc",))
    draws = None
    if request.texts.keys() & _ARRAYS.keys():
        report = _of_samples(request, options)
    else:
        run, report = _of_run(request, options)
        files = {k: Path(str(request.name)) / f"report.{k}" for k in _FILES} | files
        if arviz is not None:
            from priory.evaluation import to_arviz

            same = {k: options[k] for k in ("split", "seed") if k in options}
            draws = to_arviz(run, rows=min(options.get("few", FEW), report.n), **same)
    print(report)
    if ranks.is_main():
        _write(report, files)
        if request.name is not None:
            _add_to_card(Path(request.name), run, report)
            _add_to_logs(Path(request.name), run.history, report)
        if draws is not None:
            draws.to_netcdf(str(arviz))
            print(f"wrote {arviz}")


def _add_to_card(folder: Path, run: Run, report: Report) -> None:
    """Write a report's numbers into the run's card; an older run gets one."""
    from priory.evaluation.report.markdown import figures_text

    path = folder / CARD
    if not path.is_file() and not isinstance(run.data, Absent):
        write_card(folder, read_config(folder), run.data, run.history)
    if not path.is_file():
        return
    if put_figures(folder, figures_text(report)):
        print(f"brought {path} up to date")
    else:
        warnings.warn(f"{path} has no place for figures, and is left as it is", stacklevel=2)


def _add_to_logs(folder: Path, history: Sequence[Mapping[str, Any]], report: Report) -> None:
    """Write a report's numbers into the logs that the run was trained into, at its last step."""
    figures = {}
    for record in report:
        if record.value is not None:
            figures[f"{report.split}/{record.name}"] = record.value
            figures |= {} if record.se is None else {f"{report.split}/{record.name}_se": record.se}
    try:
        written = add_figures(folder, history[-1]["step"] if history else 0, figures)
    except Exception as error:  # a server's library has errors of its own
        warnings.warn(f"the run's logs lack the figures: {first_line(error)}", stacklevel=2)
        return
    if written:
        print(f"added the figures to {' and '.join(written)}")


def _of_run(request: Request, options: dict[str, Any]) -> tuple[Run, Report]:
    texts, errors = request.texts, request.errors
    outliers, background = texts.get("outliers"), texts.get("background")
    if outliers is not None:
        Source(outliers, {}, errors)
    if background is not None:
        errors.attempt(check_run, background)
    run = open_run(request)
    other = None if background is None else load(background)
    return run, evaluate(run, outliers=outliers, background=other, **options)


def _of_samples(request: Request, options: dict[str, Any]) -> Report:
    texts, errors = request.texts, request.errors
    if request.name is not None:
        errors.found.append(f"give a run or --samples, not both: got {request.name}")
    for needed in ("samples", "against"):
        if needed not in texts:
            errors.found.append(f"--{needed} is needed too: --samples FILE --against FILE")
    taken = options_of(evaluate_samples).keys() - {"generated", "data", "name"}
    taken |= {*_ARRAYS, "n_samples", "html", "json", "overwrite"}
    for option in (name for name in texts if name not in taken):
        typed = request.command.spelled(option)
        errors.found.append(f"--{typed} is for runs, and samples alone are given")
    named_set = texts.get("against") in SETS
    paths = {n: texts[n] for n in _ARRAYS if n in texts and not (n == "against" and named_set)}
    found = {n: errors.attempt(find, text) for n, text in paths.items()}
    for path in found.values():
        if path is not None and not path.exists():
            errors.found.append(f"no file or folder {path}")
    errors.check()
    sets = {n: Data.from_file(path, valid=0, test=0) for n, path in found.items() if path}
    data = sets.get("against") or Data.named(texts["against"])
    train = sets["train"].train if "train" in sets else None
    title = Path(texts["samples"]).name
    return evaluate_samples(sets["samples"].train, data, train=train, name=title, **options)


def _write(report: Report, files: Mapping[str, Path]) -> None:
    for kind, path in files.items():
        try:
            written = report.to_html(path) if kind == "html" else report.to_json(path)
        except OSError as error:
            raise OSError(f"{path} cannot be written: {error.strerror}") from error
        print(f"wrote {written}")
