"""The verb that judges: a run, or samples of any origin against data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from priory.cli.data_source import Source, data_options
from priory.cli.grammar import Command, begin
from priory.cli.judging import OUTLIERS, judging_options, judging_values
from priory.cli.outputs import OVERWRITE, free_file, free_output
from priory.cli.runs import check_run, foreign, open_run
from priory.data import SETS, Data
from priory.data.files import find
from priory.evaluation import evaluate, evaluate_samples
from priory.evaluation.subject import FEW
from priory.inference import load
from priory.inference.distributed import ranks
from priory.signatures import Collector, Option, options_of, summary

if TYPE_CHECKING:
    from priory.evaluation import Report

_RUN = ("RUN", "the folder of a run, as priory fit has written it; none with --samples")
_FILES = ("html", "json", "arviz")
_ARRAYS = {
    "samples": "samples of any origin: .npz (x, or a single array), .npy, .csv, .parquet, a folder",
    "against": "what to compare them with: a file likewise, or a named set",
    "train": "training rows, for memorisation and features; those of a named set by default",
}


def run_evaluate(words: Sequence[str], wants_help: bool) -> None:
    """Judge a run, or samples of any origin, by the same measures as every other."""
    command = _command()
    begun = begin(command, words, wants_help)
    if begun is None:
        return
    name, texts, errors = begun
    options = judging_values(texts, errors)
    files: dict[str, Path] = {k: Path(texts[k]) for k in _FILES if k in texts}
    arviz = files.pop("arviz", None)
    for path in files.values():
        errors.attempt(free_file, path, texts.get("overwrite") == "true")
    if arviz is not None:
        errors.attempt(free_output, arviz, (".nc",), "arviz", texts)
    if texts.keys() & _ARRAYS.keys():
        report = _samples(command, name, texts, options, errors)
    else:
        strange = texts.get("outliers")
        if strange is not None:
            Source({"data": strange}, strange, errors)
        if "background" in texts:
            errors.attempt(check_run, texts["background"])
        run = open_run(name, texts, errors)
        background = load(texts["background"]) if "background" in texts else None
        report = evaluate(run, outliers=strange, background=background, **options)
        files = {k: Path(str(name)) / f"report.{k}" for k in ("html", "json")} | files
        if arviz is not None:
            from priory.evaluation import to_arviz

            told = {k: options[k] for k in ("split", "seed") if k in options}
            draws = to_arviz(run, rows=min(options.get("few", FEW), report.n), **told)
    print(report)
    if ranks.is_main():
        _write(report, files)
        if arviz is not None:
            draws.to_netcdf(str(arviz))
            print(f"wrote {arviz}")


def _command() -> Command:
    return Command(
        "priory evaluate RUN [options]\n       priory evaluate --samples FILE --against FILE",
        f"{summary(run_evaluate)}. A run's report is kept in its folder, as report.html, one page "
        "with its pictures, and report.json.",
        {
            "judging": judging_options(),
            "samples in place of a run": {n: Option(n, str, None, t) for n, t in _ARRAYS.items()},
            "outliers": {n: Option(n, str, None, t) for n, t in OUTLIERS.items()},
            "run": foreign() | data_options(None),
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
        _RUN,
        (
            "priory evaluate runs/vae-digits-seed0 --particles 5000",
            "priory evaluate runs/vae-digits-seed0 --metrics samples,ais --steps 2000",
            "priory evaluate --samples fake.npz --against test.npz",
        ),
    )


def _samples(
    command: Command,
    name: str | None,
    texts: Mapping[str, str],
    options: dict[str, Any],
    errors: Collector,
) -> Report:
    if name is not None:
        errors.found.append(f"give a run or --samples, not both: got {name}")
    for needed in ("samples", "against"):
        if needed not in texts:
            errors.found.append(f"--{needed} is needed too: --samples FILE --against FILE")
    shared = options_of(evaluate_samples).keys() - {"generated", "data", "name"}
    for option in (
        texts.keys() - shared - _ARRAYS.keys() - {"n_samples", "html", "json", "overwrite"}
    ):
        errors.found.append(f"--{command.spelled(option)} is for runs, and samples alone are given")
    whole = texts.get("against") in SETS
    paths = {n: texts[n] for n in _ARRAYS if n in texts and not (n == "against" and whole)}
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
