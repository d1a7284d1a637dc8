"""How the rows of a training set were prepared, so that new ones can be prepared alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from priory.data.categories import Levels, named_columns, recoded
from priory.data.class_names import UNKNOWN, numbered
from priory.data.columns import Table, arrange, as_array, as_tensor, features_of, levels_of
from priory.data.mapped import Mapped
from priory.data.missing import SEEN, check_name, holes
from priory.data.pixels import binarise_once
from priory.data.steps import LENGTH, blank, finite_behind, with_steps
from priory.data.units import in_units, is_far

Rows = Tensor | NDArray[Any]
_STREAM = 2  # of the test rows: new rows are binarised as they are


@dataclass(frozen=True)
class Preparation:
    """What was done to the training rows; kept with a run, and done to every new row.

    Args:
        shape: of one datum.
        dtype: of `x`, a torch dtype's name.
        pixels: whether `x` was given as uint8.
        divisor: what the values were divided by (255 for pixels).
        high: the largest value of the training rows as prepared; None if it is not known.
        binarise: "dynamic", "threshold" or "none".
        mean: what the features were centred by, flat, in float64; None if they were not.
        scale: what they were divided by after that.
        classes: names of the classes 0, 1, ...; none without labels.
        features: names of the features, by which new rows are put in order; none where the training
            rows had no names.
        padded: whether they are sequences, padded behind the steps that a column `length` counts.
        sequence: column of a table that says which sequence each row is a step of.
        levels: of each feature the names of its levels 0, 1, ..., none of a feature of numbers;
            empty if all are numbers.
        fill: what stands, in the data's own units, in the place of a missing entry of each feature,
            flat; None if rows may have none.
        layer: of AnnData that `x` was taken from; None for its X.
        label: column of AnnData's `obs` that has the labels; None for the one of a usual name.

    Example:
        >>> kept = Preparation((2,), "float32", mean=(1.0, 2.0), scale=(1.0, 10.0))
        >>> kept.columns({"x": [[1.0, 12.0]]})["x"]
        tensor([[0., 1.]])
    """

    shape: tuple[int, ...]
    dtype: str
    pixels: bool = False
    divisor: float = 1.0
    high: float | None = None
    binarise: str = "none"
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    classes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    padded: bool = False
    sequence: str | None = None
    fill: tuple[float, ...] | None = None
    layer: str | None = None
    label: str | None = None
    levels: Levels = ()

    def to_config(self) -> dict[str, Any]:
        """Return plain values from which `from_config` makes the same again."""
        found = {k: [*v] if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return found | {"levels": [[*own] for own in self.levels]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preparation:
        """Make a preparation of plain values.

        Raises:
            ValueError: if they describe none.
        """
        known = {field.name for field in fields(cls)}
        if not {"shape", "dtype"} <= set(config) <= known:
            raise ValueError(f"a preparation has {', '.join(known)}, got {', '.join(config)}")
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in config.items()
        }
        try:
            values["classes"] = tuple(map(str, config.get("classes", ())))
            values["levels"] = tuple(tuple(map(str, own)) for own in config.get("levels", ()))
        except TypeError as error:
            raise ValueError(f"classes and levels are lists of names: {error}") from error
        found = cls(**values)
        if not isinstance(getattr(torch, str(found.dtype), None), torch.dtype):
            raise ValueError(f"a preparation needs a dtype of torch, got {found.dtype!r}")
        size = int(np.prod(found.shape))
        for units in (found.mean, found.scale, found.fill):
            if units is not None and len(units) != size:
                raise ValueError(f"a preparation of {size} features has {len(units)} means")
        if found.levels and len(found.levels) != size:
            raise ValueError(f"a preparation of {size} features has {len(found.levels)} levels")
        return found

    @property
    def units(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Mean and scale, each of the shape of one datum; None if `x` has its own units."""
        if self.mean is None or self.scale is None:
            return None
        mean, scale = (np.array(v, np.float64).reshape(self.shape) for v in (self.mean, self.scale))
        return mean, scale

    def restore(self, x: Tensor) -> Tensor:
        """Undo the standardisation, if there was one.

        Args:
            x: rows as they are held, of shape (*batch, *shape).

        Returns:
            The rows in the data's own units; in float64 if these lie too far from zero for less.
        """
        if self.units is None:
            return x
        mean, scale = (torch.from_numpy(values).to(x.device) for values in self.units)
        found = x.double() * scale + mean
        return found if is_far(*self.units) else found.to(x.dtype)

    def standardise(self, x: Any, features: tuple[str, ...] = ()) -> Any:
        """Return rows in the order and the units of the training rows, and do no more to them.

        Args:
            x: rows in the data's own units, an array.
            features: names of their features, if they have any.

        Raises:
            ValueError: if the rows have another shape, or other features.
        """
        if self._order(features) is None and self.units is None:
            return x
        array = self._arranged(as_array("x", x), features)
        return self._in_units(array, 1.0)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of `x`."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    def columns(
        self, given: Mapping[str, Any], *, stream: int = _STREAM, drop: bool = False
    ) -> dict[str, Tensor]:
        """Prepare rows that are as the user has them.

        Args:
            given: columns by name, in the units of the training rows before they were prepared.
            stream: number of the split, by which grey levels are binarised.
            drop: whether a class that the training rows lack becomes an unknown label; it is an
                error otherwise.

        Raises:
            ValueError: if the rows cannot be prepared as the training rows were.
        """
        given, seen = self._coded(given), None
        features = features_of(given)
        check_name(given)
        given = finite_behind(given) if self.padded else given
        if self.fill is not None and "x" in given:
            x, seen = holes(given["x"])
            given = {**given, "x": x}
        arrays = {name: as_array(name, values) for name, values in given.items()}
        columns = {n: as_tensor(a) for n, a in arrays.items() if n not in ("x", "y")}
        if "x" in arrays:
            length = arrays.get(LENGTH) if self.padded else None
            x = arrays["x"] if length is None else with_steps(arrays["x"], length, self.shape[0])
            if seen is not None:
                seen = self._arranged(seen, features)
                columns[SEEN] = torch.from_numpy(np.ascontiguousarray(seen))
            columns["x"] = self._blank(self._data(x, stream, features, seen), length)
        if "y" in arrays:
            y = arrays["y"]
            if self.classes:
                y = numbered(y, self.classes, drop)
            columns["y"] = as_tensor(y)
        return columns

    def in_order(self, given: Mapping[str, Any]) -> NDArray[np.float64]:
        """Return x as the user has it, in its own units, shaped and ordered as the training rows.

        Args:
            given: columns by name; 0 stands for a missing entry in what is returned.

        Raises:
            ValueError: if the rows have another shape, or other features.
        """
        given = self._coded(given)
        features = features_of(given)
        return self._arranged(holes(given["x"])[0].astype(np.float64), features)

    def table(self, x: Any) -> dict[str, list[Any]]:
        """Return rows as columns by name, categories as the names of their levels.

        Args:
            x: rows in the data's own units, (n, features), such as samples.
        """
        array = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
        return named_columns(array, self.levels, self.features)

    def _coded(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return columns in which categories have the numbers that they have in the training rows.

        Raises:
            ValueError: if a level is not one of the training rows', or text stands for numbers.
        """
        features, own = features_of(given), levels_of(given)
        if "x" not in given or not (own or (self.levels and isinstance(given, Table))):
            return given
        order = self._order(features)  # where ours stand among theirs
        x = self._shaped(np.asarray(given["x"]))
        names = self.features or tuple(f"x_{i}" for i in range(x.shape[1]))
        own, wanted = (levels or ((),) * len(names) for levels in (own, self.levels))
        if order is not None:
            x, own = x[:, order], tuple(own[i] for i in order)
        coded = recoded(x, own, wanted, names, called=True)
        return Table({**given, "x": coded}, self.features if features else ())

    def _data(
        self,
        array: NDArray[Any],
        stream: int,
        features: tuple[str, ...],
        seen: NDArray[np.bool_] | None,
    ) -> Tensor:
        pixels = array.dtype == np.uint8
        x = self._arranged(array, features)
        x = x if seen is None else self._filled(x, seen)
        divisor = self.divisor if pixels else 1.0
        if pixels and x.max(initial=0) > 1 and not self.pixels and self._unit:
            divisor = 255.0  # 8 bits, where the training rows are grey levels in [0, 1]
        found = self._in_units(x, divisor)
        return found if self.units is not None else self._binary(self._checked(found), stream)

    def _in_units(self, x: NDArray[Any], divisor: float) -> Tensor:
        """Return rows divided, and in the units of the training rows if these have any."""
        if self.units is None:
            return as_tensor(x, divisor=divisor, real=True).to(self.torch_dtype)
        return as_tensor(in_units(x, divisor, *self.units), real=True).to(self.torch_dtype)

    def _arranged(self, array: NDArray[Any], features: tuple[str, ...]) -> NDArray[Any]:
        """Return rows of the training rows' shape, their features in the same order."""
        order = self._order(features)
        return self._shaped(arrange(array) if order is None else array[..., order])

    def _blank(self, x: Tensor, length: Any) -> Tensor:
        """Return sequences with 0 behind their ends, whatever stood there."""
        if length is None or np.shape(length) != x.shape[:1] or x.dim() < 2:
            return x
        return torch.from_numpy(blank(x.cpu().numpy(), length)).to(x)

    def _filled(self, x: NDArray[Any], seen: NDArray[np.bool_]) -> NDArray[Any]:
        """Return rows in the data's own units with what stands in the place of missing entries."""
        fill = np.array(self.fill, x.dtype).reshape(self.shape)
        return np.where(seen, x, fill)

    @property
    def _unit(self) -> bool:
        return self.high is not None and self.high <= 1

    def _order(self, features: tuple[str, ...]) -> list[int] | None:
        """Return the places of the training rows' features among others; None if all is in order.

        Raises:
            ValueError: if both are named, and not alike.
        """
        if not self.features or not features or features == self.features:
            return None
        lacking = [repr(name) for name in self.features if name not in features]
        over = [repr(name) for name in features if name not in self.features]
        if lacking or over:
            told = [f"they don't have {', '.join(lacking)}"] if lacking else []
            told += [f"they have {', '.join(over)} besides"] if over else []
            raise ValueError(
                f"the rows must have the columns of the training rows, by name: {'; '.join(told)}"
            )
        return [features.index(name) for name in self.features]

    def _shaped(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return rows of the training rows' shape, where only dimensions of size 1 differ."""
        shape = x.shape[1:]
        if shape == self.shape:
            return x
        if [n for n in shape if n != 1] != [n for n in self.shape if n != 1]:
            hint = f"; open a table with sequence={self.sequence!r}" if self.sequence else ""
            if self.shape in (x.shape, x.shape[:-1] if shape == (1,) else None):
                hint = "; one row alone is given as x[None]"
            raise ValueError(
                f"x has rows of shape {shape}, expected {self.shape} as in the training rows{hint}"
            )
        return x.reshape(len(x), *self.shape)

    def _checked(self, x: Tensor) -> Tensor:
        """Raise a ValueError if values can't be those of scaled pixels."""
        low, high = float(x.min()), float(x.max())
        if self.divisor != 1 and (low < 0 or high > 1):
            raise ValueError(
                f"x has values in [{low:g}, {high:g}], and the training rows were pixels 0..255 of "
                f"dtype uint8, divided by {self.divisor:g}; give pixels as uint8, or divide them"
            )
        return x

    def _binary(self, x: Tensor, stream: int) -> Tensor:
        if self.binarise == "none":
            return x
        low, high = float(x.min()), float(x.max())
        if low < 0 or high > 1:
            raise ValueError(
                f"the training rows were binarised (binarise={self.binarise!r}), which needs x in "
                f"[0, 1], got values in [{low:g}, {high:g}]; scale x, or give pixels as uint8"
            )
        if self.binarise == "threshold":
            return (x > 0.5).to(x.dtype)
        return binarise_once(x, stream)

    def again(
        self,
        columns: Mapping[str, Any],
        former: Preparation,
        *,
        dynamic: bool,
        stream: int = _STREAM,
        drop: bool = False,
    ) -> dict[str, Any]:
        """Prepare rows that were prepared otherwise: undo that, in float64, and do this.

        Args:
            columns: as a split holds them.
            former: how they were prepared.
            dynamic: whether grey levels stay, to be binarised at every batch.
            stream: number of the split, by which grey levels are binarised.
            drop: as for `columns`.

        Raises:
            ValueError: if it cannot be undone, or the rows cannot be prepared so.
        """
        found = dict(columns)
        if "y" in found and self.classes != former.classes and self.classes:
            names = np.array([*former.classes, ""])  # -1, unknown, takes the last
            numbers = found["y"].cpu().numpy()
            texts = names[numbers] if former.classes else numbers.astype(str)
            found["y"] = as_tensor(numbered(texts, self.classes, drop)).to(found["y"].device)
            if (unknown := found["y"] == UNKNOWN).any():
                seen = found.get("labelled", ~unknown)
                found["labelled"] = seen.bool() & ~unknown
        order = self._order(former.features)
        if order is None and self._same(former):
            return found
        if former.binarise != "none" and self.binarise != former.binarise:
            raise ValueError(
                f"the rows are binarised (binarise={former.binarise!r}), and the training rows "
                f"have binarise={self.binarise!r}; open the data with binarise='none'"
            )
        x: Tensor | Mapped = found["x"]
        array = (x.to("cpu") if isinstance(x, Mapped) else x.detach().cpu()).double().numpy()
        length = found[LENGTH].cpu().numpy() if former.padded and LENGTH in found else None
        if former.units is not None:
            mean, scale = former.units
            array = array * scale + mean
        if length is not None:
            array = with_steps(array, length, self.shape[0])
        array = self._shaped(array)
        if former.divisor != 1 and self.divisor == 1 and not self._unit:
            array = array * former.divisor
        array = array if order is None else array[..., order]
        if self.levels and former.levels and self.levels != former.levels:
            levels = former.levels if order is None else tuple(former.levels[i] for i in order)
            called = self.features or tuple(f"x_{i}" for i in range(len(levels)))
            array = recoded(array, levels, self.levels, called, called=False)
        if (seen := self._mask(found, former, order)) is not None:
            found[SEEN] = torch.from_numpy(np.ascontiguousarray(seen)).to(x.device)
            array = self._filled(array, seen)
        if self.units is not None:
            array = in_units(array, 1.0, *self.units)
        if length is not None:
            array = blank(array, length)
        made = self._checked(torch.from_numpy(array).to(x.device, self.torch_dtype))
        found["x"] = made if dynamic else self._binary(made, stream)
        return found

    def _mask(
        self, found: Mapping[str, Any], former: Preparation, order: list[int] | None
    ) -> NDArray[np.bool_] | None:
        """Return which entries are seen; None if no row may have missing ones.

        Raises:
            ValueError: if there are missing ones, and rows may have none.
        """
        if former.fill is None:
            whole = np.ones((len(found["x"]), *self.shape), bool)
            return None if self.fill is None else whole
        seen: NDArray[np.bool_] = found[SEEN].cpu().numpy()
        if self.fill is None:
            raise ValueError(
                "the rows have missing entries (missing='integrate'), and the training rows may "
                "have none; open both alike"
            )
        return self._shaped(seen if order is None else seen[..., order])

    def _same(self, former: Preparation) -> bool:
        """Return whether `x` was prepared alike."""
        ours, theirs = (
            (p.shape, p.dtype, p.binarise, p.mean, p.scale, p.fill, p.levels, p.divisor or 1)
            for p in (self, former)
        )
        return ours == theirs
