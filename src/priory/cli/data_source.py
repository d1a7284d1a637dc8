"""Which data a command is for: its options, and what was typed for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from priory.data import SETS, Data
from priory.data.files import find, is_table, no_table, steps_option
from priory.data.inputs import check_plain, is_h5ad
from priory.lookup import named
from priory.parsing import read
from priory.recipes.find import in_file, object_in
from priory.signatures import Collector, Option, options_of

_ROWS = {"rows": Option("rows", int, None, "training rows of a named set, all by default")}


def data_options(default: str | None, usual: Mapping[str, Any] | None = None) -> dict[str, Option]:
    """Return the options that say what the data are; `usual` has a recipe's own defaults."""
    about = "a named set (see priory list data), digits:edges with a second domain (list domains), "
    about += "or a file: .csv, .npz, .npy, .parquet, .h5ad, a folder; or path/to/file.py:NAME, "
    about += "rows or batches of your own in any form, or a function of them"
    options = {**options_of(Data.from_file), **options_of(Data.from_arrays)}
    options = {**{n: o for n, o in options.items() if n not in ("x", "y")}, **_ROWS}
    skip = ("name", "path")
    own = {
        f"data.{n}": replace(o, default=(usual or {}).get(n, o.default))
        for n, o in options.items()
        if n not in skip
    }
    return {"data": Option("data", str, default, about), **own}


class Source:
    """The data that a command names, checked as far as they can be without being loaded.

    Args:
        name: of a data set, or a file.
        texts: what was typed, by long names.
        errors: takes down what is wrong.
        usual: options of the data, which give way to what was typed.
    """

    def __init__(
        self,
        name: str,
        texts: Mapping[str, str],
        errors: Collector,
        usual: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        own = name.partition(":")[0] not in SETS
        self.code = in_file(name) if own else None
        path = errors.attempt(find, self.code[1] if self.code else name) if own else None
        if path is not None and not path.exists():
            if path.suffix or len(Path(name).parts) > 1:
                errors.found.append(f"no file or folder {name}")
            else:
                errors.attempt(named, "data set", name, SETS)
        options = options_of(Data.from_file if own else Data.named)
        if self.code:
            options = {n: o for n, o in options.items() if n not in ("sha256", "mapped")}
        self.options = dict(usual or {})
        typed = {k.removeprefix("data."): v for k, v in texts.items() if k.startswith("data.")}
        for option, text in typed.items():
            if option not in options:
                kind = "a file" if own else "a named set"
                errors.found.append(f"{option} is no option for {kind}, {name}")
            else:
                self.options[option] = errors.attempt(_number_or, options[option], text)

        if own and self.code is None and not is_h5ad(name):
            errors.attempt(check_plain, name, *map(self.options.get, ("layer", "label")))
        if own and (sequence := self.options.get("sequence")) and not is_table(name):
            errors.found.append(f"{no_table(sequence)}, and {name} is none")

    def open(self, sequence: str | None = None) -> Data:
        """Load the data.

        Args:
            sequence: column of sequences that a table has if none was typed, a run's own.
        """
        if self.code:
            return Data.of(object_in(*self.code.groups()), **self.options)
        return Data.open(self.name, **steps_option(self.name, sequence) | self.options)


def _number_or(option: Option, text: str) -> Any:
    """Read an option of the data; a share or a number of rows is whichever is written."""
    if option.annotation is float and text.isdigit():
        return int(text)
    return read(option, text)
