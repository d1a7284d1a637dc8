"""Data: columns in three splits, from a name, arrays or a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from priory.data.batches import Batches, open_batches
from priory.data.build import Built, build, build_own, sent
from priory.data.categories import check_categories
from priory.data.columns import as_array, features_of, levels_of
from priory.data.domains import with_other
from priory.data.few_labels import summary, with_labelled
from priory.data.files import find, read_columns, read_mixed, read_steps
from priory.data.inputs import (
    check_plain,
    columns_of,
    is_batches,
    is_function,
    is_h5ad,
    read_h5ad,
    source_of,
    together,
)
from priory.data.missing import apart, check_name
from priory.data.partition import BINARISE, PARTS, Binarise, check_options, few, whole
from priory.data.preparation import Preparation
from priory.data.split import LABELLED, Split
from priory.data.steps import finite_behind
from priory.data.table import SETS
from priory.data.toys import Mixture
from priory.lookup import named

_USUAL: dict[str, Any] = {"binarise": "auto", "standardise": False, "seed": 0}
GIVEN = {
    "arrays": "arrays to Data.from_arrays, or rows to Data.of",
    "batches": "loader or function to Data.of",
    "iterator": "rows by a new iterator to Data.of",
}
"""What data that were given in memory are called in a configuration, and what to pass again."""


class Data:
    """Columns in three splits on one device.

    Made by `Data.named`, `Data.from_arrays`, `Data.from_file`, `Data.of` or `Data.open`. Every
    split has the column `x`, `y` where labels are known, the user's further columns, and `index`,
    the row number.

    Args:
        built: the three splits, and what was done to their columns.
        name: a short name.
        binarise: "dynamic", "threshold" or "none".
        config: plain values from which `Data.open(**config)` makes the same data.
        density: the true density, where it is known.

    Example:
        >>> data = Data.named("digits")
        >>> data
        digits: 1,297 train, 200 valid, 300 test; x (1, 8, 8), binarised dynamically; labels 0-9
    """

    def __init__(
        self,
        built: Built,
        *,
        name: str,
        binarise: str,
        config: dict[str, Any],
        density: Mixture | None = None,
    ) -> None:
        self.train: Split = built.splits["train"]
        self.valid: Split = built.splits["valid"]
        self.test: Split = built.splits["test"]
        self.preparation = built.preparation
        self.notes = built.notes
        self.name = name
        self.binarise = binarise
        self.config = config
        self.density = density

    @classmethod
    def named(
        cls,
        name: str,
        *,
        binarise: Binarise = "auto",
        valid: int | None = None,
        rows: int | None = None,
        labelled: int | None = None,
        seed: int = 0,
    ) -> Data:
        """Return a named set.

        Image sets keep their official test rows; the validation rows are the last of the training
        rows. These are 400 for MNIST, as in Burda, Grosse and Salakhutdinov (2016), and for
        Fashion-MNIST; many papers take `valid=10_000`. `static-mnist` (Larochelle and Murray 2011)
        is split and binary for good. `omniglot` is a downsizing of the original drawings of our
        own: its log-likelihoods don't compare with those on the file of the IWAE paper. `digits`
        are scikit-learn's images. A toy set has 1,000 validation and 10,000 test points.

        Args:
            name: a name in `SETS`; `digits:inverted` adds a column `other`, as `DOMAINS` has it.
            binarise: "dynamic" draws the training pixels anew for every batch and the others once
                and for all; "threshold" cuts at 0.5; "none" leaves grey levels; "auto" is dynamic
                for greyscale images.
            valid: validation rows.
            rows: training rows: drawn for a toy set (10,000 by default), else the first (all).
            labelled: training rows whose label may be seen, true in a column `labelled`; the
                others' become unknown, -1.
            seed: seed of a toy set, and of which rows are labelled.

        Raises:
            ValueError: if the name or an option is wrong, or a file is damaged.
            OSError: if a file can't be had.
        """
        base, _, domain = name.partition(":")
        found = named("data set", base, SETS)
        named("binarise", binarise, BINARISE)
        seed = whole("seed", seed)
        rows = rows if rows is None else whole("rows", rows, 1)
        parts = found.parts(valid if valid is None else whole("valid", valid), rows, seed)
        usual = "none" if domain else found.binarise
        if usual == "none" and binarise not in ("auto", "none"):
            raise ValueError(
                f"{name} is not to be binarised, got binarise={binarise!r}; use 'auto' or 'none'"
            )
        chosen = usual if binarise == "auto" else binarise
        built = build(parts, binarise=chosen, standardise=False, classes=found.labels)
        built = replace(with_other(built, domain), notes=())
        built = with_labelled(built, few(labelled), seed)
        config = {"name": name, "binarise": binarise, "valid": valid, "rows": rows, "seed": seed}
        config |= {} if labelled is None else {"labelled": labelled}
        return cls(built, name=name, binarise=chosen, config=config, density=found.density)

    @classmethod
    def from_arrays(
        cls,
        x: object,
        y: object = None,
        *,
        valid: float = 0.1,
        test: float = 0.1,
        binarise: Binarise = "auto",
        standardise: bool = False,
        labelled: int | Sequence[bool] | None = None,
        seed: int = 0,
        sequence: str | None = None,
        missing: Literal["refuse", "integrate"] = "refuse",
        **columns: object,
    ) -> Data:
        """Return the user's own arrays as data.

        `x` of dtype uint8 is taken as pixels: scaled to [0, 1], channels first. Other arrays keep
        their values and shape. Real numbers get torch's default dtype.

        Args:
            x: data of shape (rows, *shape).
            y: labels of shape (rows,): integers or strings, numbered from 0 in sorted order
                (`data.classes` has their names); -1, NaN and an empty string are unknown ones.
            valid: validation rows, a number or a share, taken at random.
            test: test rows, likewise.
            binarise: "none" (also "auto"), "dynamic" or "threshold", as for `named`.
            standardise: whether to shift and scale a table `x` by its training mean and sd, kept as
                `data.mean` and `data.scale`.
            labelled: training rows whose label may be seen, as for `named`; or a column of truths.
                What stands in the place of an unseen label has no effect.
            seed: seed of the partition, and of which rows are labelled.
            sequence: column of a table, here of data frames `x`, `x_valid` and `x_test`, that says
                which sequence each row is a step of; a datum is then a sequence, with its `length`.
            missing: "integrate" takes entries of `x` that are NaN, None or masked for missing, and
                adds a column `seen`, by which a pair such as `MaskedVAE` leaves them out of the
                likelihood; "refuse" says where they are.
            **columns: further columns; the endings `_valid` and `_test` (`x_test`, `y_test`) give
                rows of those splits, and the options of the same name are then without effect.

        Raises:
            ValueError: if a value is NaN or infinite, or shapes, lengths or options are wrong.

        Example:
            >>> Data.from_arrays(x=torch.rand(100, 3), y=torch.arange(100) % 2)
            arrays: 80 train, 10 valid, 10 test; x (3,); labels 0-1
        """
        count, seen = (labelled, None) if isinstance(labelled, int | None) else (None, labelled)
        options = check_options(valid, test, binarise, standardise, seed, count, sequence, missing)
        given: Mapping[str, object] = {"x": x, "y": y, LABELLED: seen, **columns}
        if sequence is not None:
            given = read_steps(given, sequence)
        return cls._own(given, "arrays", "arrays", options)

    @classmethod
    def from_file(
        cls,
        path: str | PathLike[str],
        *,
        valid: float = 0.1,
        test: float = 0.1,
        binarise: Binarise = "auto",
        standardise: bool = False,
        labelled: int | None = None,
        seed: int = 0,
        sequence: str | None = None,
        missing: Literal["refuse", "integrate"] = "refuse",
        sha256: str | None = None,
        mapped: bool | None = None,
        layer: str | None = None,
        label: str | None = None,
    ) -> Data:
        """Return the content of a file, or of a folder of images, as data.

        `.npz`: arrays `x` (or a single one of any name), and where wanted `y`, `x_test`, `y_test`
        and further columns. `.npy`: `x`. `.csv` and `.parquet`: a column named y, label, class or
        target holds the labels, all others are the features of `x`. `.h5ad`: the matrix of AnnData,
        and a column of `obs`. A folder: images of one size, whose sub-folders are the labels.

        A mapped file stays on the disk: the training rows of `x` are read from it batch by batch,
        and the batches are those of the file in memory.

        Args:
            path: the file or folder.
            valid: as for `from_arrays`, like all that follow.
            test: test rows.
            binarise: whether and how to binarise.
            standardise: whether to standardise a table.
            labelled: training rows whose label may be seen, as for `named`.
            seed: seed of the partition.
            sequence: column of a table that says which sequence each row is a step of, in the order
                of the file; a datum is then a sequence, with its `length`.
            missing: as for `from_arrays`; in a table empty cells, NaN, NA and null are missing.
            sha256: digest of the columns as it stands in `data.config`, to make sure of them.
            mapped: whether to leave `x` in its file, a .npy or an .npz without compression; by
                default if the file is larger than an eighth of memory.
            layer: of an .h5ad, in place of its X.
            label: column of an .h5ad's `obs` that has the labels; y, label, class or target by
                default.

        Raises:
            ValueError: if the file can't be read as what its ending says, or has other content than
                `sha256` says; the message names the file.
            FileNotFoundError: if there is no such file.
            ImportError: if reading it needs an extra that isn't installed.
        """
        options = check_options(
            valid, test, binarise, standardise, seed, labelled, sequence, missing
        )
        path = find(path)
        holed = missing == "integrate"
        if is_h5ad(path):
            columns: Mapping[str, object] = read_h5ad(path, layer, label)
        else:
            check_plain(path, layer, label)
            columns = read_columns(path, mapped, sequence, missing=holed)
        options |= {} if mapped is None else {"mapped": mapped}
        options |= {n: v for n, v in (("layer", layer), ("label", label)) if v is not None}
        try:
            return cls._own(columns, path.stem, str(path), options, sha256)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def of(
        cls,
        given: Any,
        *,
        valid: Any = None,
        test: Any = None,
        layer: str | None = None,
        label: str | None = None,
        batches: int | None = None,
        **options: Any,
    ) -> Data:
        """Return rows in whatever the user has them as data.

        A data frame of pandas or polars is read as a table in a file is, AnnData as an `.h5ad`. Of
        a map-style `Dataset` of torch all items are read once; an item is x, (x, y), or a dict of
        columns. An iterator that ends is read once likewise.

        The batches of a `DataLoader`, of an iterable that begins anew each time, and of a function
        that makes an iterator are not held: an epoch is a pass over them, as they come, in their
        own order and size. A first pass checks them, and counts their rows. A shorter last batch is
        left out. The draws of their source (its shuffling and transformations, by torch, NumPy or
        Python) follow from the run's seed and the number of the epoch.

        Args:
            given: a data frame, AnnData, a `Dataset`, a `DataLoader`, an iterable, an iterator or a
                function of batches, a function of any of these; or arrays as for
                `from_arrays`, columns by name, a name or path as for `open`, or a `Data`, which is
                returned.
            valid: validation rows: a number or share of the rows that are given, a tenth by
                default; or rows of their own, in any of these forms, which are held. Of batches
                there are none, unless they are given.
            test: test rows, likewise.
            layer: of AnnData, in place of its X.
            label: column of AnnData's `obs` that has the labels; y, label, class or target by
                default.
            batches: batches of a pass, where their source has no end, or fewer are wanted.
            **options: `binarise`, `standardise`, `labelled`, `seed`, `sequence`, `missing`, as for
                `from_arrays`; those of `open` beside a name.

        Raises:
            ValueError: if the rows can't be read so, are NaN, infinite or of different shapes, or
                an option is wrong.

        Example:
            >>> import pandas
            >>> Data.of(pandas.DataFrame({"a": range(20), "b": range(20), "label": [0, 1] * 10}))
            table: 16 train, 2 valid, 2 test; x (2,); labels 0-1
        """
        if isinstance(given, Data):
            return given
        parts = {"valid": valid, "test": test}
        shares = {n: v for n, v in parts.items() if isinstance(v, int | float | np.number)}
        if isinstance(given, str | Path):
            taken = {"layer": layer, "label": label, **shares, **options}
            return cls.open(given, **{n: v for n, v in taken.items() if v is not None})
        if is_function(given) and not hasattr(made := given(), "__next__"):
            return cls.of(
                made, valid=valid, test=test, layer=layer, label=label, batches=batches, **options
            )
        if is_batches(given) and not hasattr(given, "__next__"):
            return cls._of_batches(given, parts, batches, options)
        if batches is not None:
            raise ValueError("batches= counts those of a loader, and the rows are none")
        source, name = source_of(given)
        known = dict(list(signature(cls.from_arrays).parameters.items())[2:-1])
        for option in options:
            named("option", option, known)
        options = {"valid": 0.1, "test": 0.1, **shares, **options}
        checked = check_options(**{**_USUAL, **options})
        own = {n: v for n, v in parts.items() if v is not None and n not in shares}
        holed = checked.get("missing") == "integrate"
        columns = together(
            {"train": given, **own}, layer, label, checked.get("sequence"), missing=holed
        )
        checked |= {n: v for n, v in (("layer", layer), ("label", label)) if v is not None}
        return cls._own(columns, name, source, checked)

    @classmethod
    def open(cls, name: str | PathLike[str], **options: Any) -> Data:
        """Return a named set, or a file's content, whichever the name fits.

        Args:
            name: a name in `SETS`, or a path.
            **options: those of `named` or `from_file`; `Data.open(**data.config)` makes the
                same data again.

        Raises:
            ValueError: if the name fits nothing, or an option is unknown.
        """
        if name in GIVEN:
            raise ValueError(
                f"data from {name} can't be made again from a config: "
                f"pass the same {GIVEN[str(name)]}"
            )
        text = str(name)
        is_path = not isinstance(name, str) or Path(text).suffix or "/" in text or "\\" in text
        make: Callable[..., Data] = cls.from_file
        if (base := text.partition(":")[0]) in SETS or not (is_path or Path(text).exists()):
            named("data set", base, SETS)
            make = cls.named
        known = dict(list(signature(make).parameters.items())[1:])
        for option in options:
            named(f"option for {text}", option, known)
        return make(name, **options)

    @classmethod
    def _own(
        cls,
        columns: Mapping[str, object],
        name: str,
        source: str,
        options: dict[str, Any],
        sha256: str | None = None,
    ) -> Data:
        binarise = "none" if options["binarise"] == "auto" else options["binarise"]
        check_name(columns)
        if options.get("sequence") is None:
            columns = read_mixed(columns, missing=options.get("missing") == "integrate")
        levels = levels_of(columns)
        check_categories(levels, features_of(columns), options)
        columns = finite_behind(columns)
        columns = apart(columns) if options.get("missing") == "integrate" else columns
        built, found = build_own(columns, {**options, "binarise": binarise}, sha256)
        built = with_labelled(built, options.get(LABELLED), options["seed"])
        told: dict[str, Any] = {n: options.get(n) for n in ("sequence", "layer", "label")}
        kept = replace(built.preparation, features=features_of(columns), levels=levels, **told)
        notes = (f"{sum(map(bool, levels))} of its columns categories",) if levels else ()
        built = replace(built, preparation=kept, notes=built.notes + notes)
        config = {"name": source, **options, "sha256": found}
        return cls(built, name=name, binarise=binarise, config=config)

    @classmethod
    def _of_batches(
        cls, given: Any, parts: Mapping[str, Any], batches: int | None, options: dict[str, Any]
    ) -> Data:
        binarise = options.pop("binarise", "none")
        binarise = "none" if binarise == "auto" else binarise
        if options or binarise == "dynamic":
            wrong = ", ".join(options) or "binarise='dynamic'"
            raise ValueError(
                f"batches that are taken as they come have no {wrong}: prepare them where they are "
                "made, or give the rows themselves"
            )
        named("binarise", binarise, BINARISE)
        batches = None if batches is None else whole("batches", batches, 1)
        sets = {}
        for part, rows in parts.items():
            if rows is not None and isinstance(rows, int | float | np.number) and rows:
                raise ValueError(
                    f"{part}={rows} would be taken off batches that are not held: give {part} rows "
                    "of their own, such as another loader"
                )
            if rows is not None and not isinstance(rows, int | float | np.number):
                sets[part] = {n: as_array(n, v) for n, v in columns_of(rows).items()}
        built, sha = open_batches(given, sets, binarise=binarise, pass_batches=batches)
        config = {"name": "batches", "binarise": binarise, "batches": batches, "sha256": sha}
        return cls(built, name="batches", binarise=binarise, config=config)

    @property
    def preparation(self) -> Preparation:
        """What was done to the rows, and is to be done to new ones."""
        return self._preparation

    @preparation.setter
    def preparation(self, preparation: Preparation) -> None:
        self._preparation = preparation
        for part in PARTS:
            getattr(self, part).preparation = preparation

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes 0, 1, ...; none without labels."""
        return self.preparation.classes

    @property
    def mean(self) -> Tensor | None:
        """What `x` was centred by, of the shape of one datum, float64; None if it was not."""
        units = self.preparation.units
        return None if units is None else torch.from_numpy(units[0]).to(self.device)

    @property
    def scale(self) -> Tensor | None:
        """What `x` was divided by after that, likewise; ones if it was centred alone."""
        units = self.preparation.units
        return None if units is None else torch.from_numpy(units[1]).to(self.device)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one datum `x`."""
        return self.train.shape

    @property
    def device(self) -> torch.device:
        """The device on which batches are served."""
        return self.train.device

    def to(self, device: torch.device | str) -> Data:
        """Return the same data on a device.

        Splits move as a whole while they take at most half of a CUDA device's free memory, the
        smallest first. Others stay, are streamed to it batch by batch, and a warning says so.
        """
        moved = copy(self)
        vars(moved).update(sent({part: getattr(self, part) for part in PARTS}, device))
        return moved

    def like(self, preparation: Preparation, *, drop: bool = False) -> Data:
        """Return the same data prepared as other rows were: what was done is undone first.

        Args:
            preparation: of the rows that a pair was trained on.
            drop: whether a class that they lack becomes an unknown label; it is an error otherwise.

        Raises:
            ValueError: if the data can't be prepared so, or have a class that those rows lack.
        """
        if preparation == self.preparation:
            return self
        if isinstance(self.train, Batches):
            raise ValueError(
                "the run's rows were prepared otherwise than these batches, which are taken as "
                "they come: give rows that are held"
            )
        made = copy(self)
        for stream, part in enumerate(PARTS):
            split: Split = getattr(self, part)
            dynamic = preparation.binarise == "dynamic" and part == "train"
            columns = split.columns
            if len(split):
                columns = preparation.again(
                    columns, self.preparation, dynamic=dynamic, stream=stream, drop=drop
                )
            new = Split(columns, dynamic=dynamic, stream=split.stream, device=split.device)
            setattr(made, part, new)
        made.preparation, made.binarise = preparation, preparation.binarise
        return made

    def restore(self, x: Tensor) -> Tensor:
        """Undo the standardisation, if there was one.

        Args:
            x: rows as the data hold them, of shape (*batch, *shape).

        Returns:
            The rows in the data's own units; in float64 if these lie too far from zero for less.
        """
        return self.preparation.restore(x)

    def table(self, x: Tensor) -> dict[str, list[Any]]:
        """Return rows as columns by name, categories as the names of their levels.

        Args:
            x: rows in the data's own units, (n, features), such as `run.sample` draws.
        """
        return self.preparation.table(x)

    def summary(self) -> str:
        """Return one line: rows, shape, what was done to `x`, labels."""
        splits = {part: getattr(self, part) for part in PARTS}
        return f"{self.name}: {summary(splits, self.classes, self.binarise, self.notes)}"

    __repr__ = summary
