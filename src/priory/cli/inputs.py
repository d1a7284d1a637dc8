"""What a command is given: data, runs, and places to write into."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from priory.cli.grammar import Command
from priory.data import SETS, Data
from priory.data.files import find
from priory.inference import Run, load
from priory.inference.checkpoints.folders import CONFIG, read_config
from priory.inference.checkpoints.lock import LOCK
from priory.inference.checkpoints.missing_data import opened
from priory.lookup import named
from priory.parsing import read
from priory.recipes import RECIPES, Recipe, pair_class
from priory.serialisation import from_config
from priory.signatures import Collector, Option, options_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

OVERWRITE = Option("overwrite", bool, False, "replace what is there")
RUN = ("RUN", "the folder of a run, as priory fit has written it")
PICTURES = (".png", ".pdf", ".svg")
_ROWS = {"rows": Option("rows", int, None, "training rows of a named set, all by default")}


class Source:
    """The data that a command names, checked as far as they can be without being loaded.

    Args:
        texts: what was typed, by long names.
        default: name of the data in case that none are named.
        errors: takes down what is wrong.
        usual: returns options of a data set by its name, which give way to what was typed.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        default: str,
        errors: Collector,
        usual: Callable[[str], dict[str, Any]] = lambda _: {},
    ) -> None:
        self.name = texts.get("data", default)
        given = {k.removeprefix("data."): v for k, v in texts.items() if k.startswith("data.")}
        own = self.name.partition(":")[0] not in SETS
        path = errors.attempt(find, self.name) if own else None
        if path is not None and not path.exists():
            if path.suffix or len(Path(self.name).parts) > 1:
                errors.found.append(f"no file or folder {self.name}")
            else:
                errors.attempt(named, "data set", self.name, SETS)
        options = options_of(Data.from_file if own else Data.named)
        self.options = usual(self.name)
        for name, text in given.items():
            if name not in options:
                kind = "a file" if own else "a named set"
                errors.found.append(f"{name} is no option for {kind}, {self.name}")
            else:
                self.options[name] = errors.attempt(_number_or, options[name], text)

    def open(self) -> Data:
        """Load the data."""
        return Data.open(self.name, **self.options)


def comma_list(text: str) -> list[str]:
    """Return the parts of a list with commas; `mlp:200,200` is one part, not two.

    Example:
        >>> comma_list("normal,flow:3:64,64,vamp")
        ['normal', 'flow:3:64,64', 'vamp']
    """
    return [part.strip() for part in re.split(r",(?=\s*[^\s\d,])(?![^(]*\))", text)]


def free_folder(folder: Path, overwrite: bool, mark: str) -> None:
    """Raise unless a folder can be written, and holds nothing that is not ours to replace.

    Args:
        folder: where to write.
        overwrite: whether earlier results may be replaced.
        mark: the file by which earlier results are known.

    Raises:
        ValueError: naming the folder and the mend.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder")
    content = {p.name for p in folder.iterdir()} - {LOCK} if folder.exists() else set()
    if content:  # a lock alone is what a run leaves that has failed before it began
        if not overwrite:
            raise ValueError(f"{folder} is not empty; pass --overwrite, or another --out")
        if not (folder / mark).is_file():
            raise ValueError(f"{folder} holds other things than results, and is left as it is")
    _writable(folder.parent)


def free_file(path: Path, overwrite: bool) -> None:
    """Raise unless a file can be written.

    Raises:
        ValueError: naming the file and the mend.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} is there already; pass --overwrite, or another name")
    _writable(path.parent)


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"nothing can be written into {folder}: {error}") from error


def begin(
    command: Command, words: Sequence[str], wants_help: bool
) -> tuple[str | None, dict[str, str], Collector] | None:
    """Show a command's help, or read its argument and options; `None` after the help.

    Args:
        command: what may be typed.
        words: what was typed after the verb.
        wants_help: whether the help was asked for.

    Returns:
        The argument, the options as text by their long names, and what is wrong so far.
    """
    if wants_help:
        print(command.help())
        return None
    errors = Collector()
    name, rest = first_word(words)
    return name, command.read(rest, errors), errors


def save_picture(figure: Figure, path: Path) -> None:
    """Write a picture in the resolution that all have.

    Args:
        figure: what to write.
        path: where to; its ending says in what form.
    """
    figure.savefig(path, dpi=150, bbox_inches="tight")


def means_of(draws: Mapping[str, Tensor]) -> Tensor:
    """Return what a picture shows of draws, on the CPU: of images the means, of points the draws.

    Args:
        draws: by site, as `Run.sample` returns them.
    """
    return (draws.get("x_mean", draws["x"]) if draws["x"].dim() == 4 else draws["x"]).cpu()


def free_output(path: Path, endings: Sequence[str], name: str, texts: Mapping[str, str]) -> None:
    """Raise unless a file has a known ending and can be written.

    Args:
        path: where to write.
        endings: those that are known.
        name: of the option.
        texts: what was typed, by long names.

    Raises:
        Faults: naming the file and the mends.
    """
    errors = Collector()
    if path.suffix not in endings:
        errors.found.append(f"{name} must end in {', '.join(endings)}, got {path}")
    errors.attempt(free_file, path, texts.get("overwrite") == "true")
    errors.check()


def check_run(folder: str) -> None:
    """Raise a ValueError unless a folder holds a run."""
    if not (Path(folder) / CONFIG).is_file():
        raise ValueError(f"{folder} holds no run: there is no {CONFIG} in it")


def open_run(name: str | None, texts: Mapping[str, str], errors: Collector) -> Run:
    """Read a run back, with a pair and data of the user's own where they are named.

    Args:
        name: the run's folder.
        texts: what was typed, by long names.
        errors: what was found wrong so far.

    Raises:
        Faults: if anything was, or there is no run.
    """
    if name is None:
        errors.found.append("the folder of a run is needed first")
    else:
        errors.attempt(check_run, name)
    pair, data = parts_of(Path(name or ""), texts, errors)
    return load(name or "", pair=pair, data=data)


def parts_of(folder: Path, texts: Mapping[str, str], errors: Collector) -> tuple[Any, Data]:
    """Return the pair, not trained yet, and the data of a run, or those that are named instead.

    Args:
        folder: the run's.
        texts: what was typed, by long names.
        errors: what was found wrong so far.

    Raises:
        Faults: if anything was.
        ValueError: if the run's own cannot be rebuilt.
    """
    source = Source(texts, "digits", errors)
    family = None
    if "pair" in texts:
        path, _, name = texts["pair"].partition(".py")
        family = errors.attempt(pair_class, path + ".py", name.removeprefix(":") or None)
    errors.check()
    config = read_config(folder)
    stored = config["pair"]
    if family is not None:
        arguments = {k: from_config(v) for k, v in stored.items() if k in options_of(family)}
        pair = family(**arguments)
    elif not str(stored.get("class", "priory.")).startswith("priory."):
        raise ValueError(
            f"the run's pair is {stored['class']}, which is no part of Priory: name the file that "
            "has it, --pair path/to/file.py:Class"
        )
    else:
        pair = from_config(stored)
    return pair, source.open() if "data" in texts else opened(config)


def values_of(
    group: Mapping[str, Option], texts: Mapping[str, str], errors: Collector
) -> dict[str, Any]:
    """Return the values of those options of a group that were given."""
    return {n: errors.attempt(read, group[n], texts[n]) for n in group if n in texts}


def _number_or(option: Option, text: str) -> Any:
    """Read an option of the data; a share or a number of rows is whichever is written."""
    if option.annotation is float and text.isdigit():
        return int(text)
    return read(option, text)


def data_options(default: str | None, usual: Mapping[str, Any] | None = None) -> dict[str, Option]:
    """Return the options that say what the data are; `usual` has a recipe's own defaults."""
    about = "a named set (see priory list data), digits:edges with a second domain (list domains), "
    about += "or a file: .csv, .npz, .npy, .parquet, a folder"
    options = {**options_of(Data.from_file), **options_of(Data.from_arrays)}
    options = {**{n: o for n, o in options.items() if n not in ("x", "y")}, **_ROWS}
    skip = ("name", "path")
    own = {
        f"data.{n}": replace(o, default=(usual or {}).get(n, o.default))
        for n, o in options.items()
        if n not in skip
    }
    return {"data": Option("data", str, default, about), **own}


def pair_options(recipe: Recipe) -> dict[str, Option]:
    """Return the options of a recipe's pair, with the recipe's defaults."""
    return {
        f"pair.{n}": replace(o, default=recipe.options.get(n, o.default))
        for n, o in options_of(recipe.family).items()
    }


def foreign() -> dict[str, Option]:
    """Return the option that names a pair of the user's own."""
    return {"pair": Option("pair", str, None, "file.py:Class, for a run of a pair of your own")}


def output(about: str) -> dict[str, Option]:
    """Return the options that say where results go."""
    return {"out": Option("out", Path, None, about), "overwrite": OVERWRITE}


def trains(name: str) -> bool:
    """Return whether an option, by its long name, is for a recipe."""
    return name.startswith("pair.") or name == "objective" or name in RECIPES["vae"].trainable()


def first_word(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the argument that comes before the options, and the rest."""
    if words and not words[0].startswith("-"):
        return words[0], list(words[1:])
    return None, list(words)


def leading_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return all arguments that come before the options, and the rest."""
    first = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    return list(words[:first]), list(words[first:])
