"""The data of a run whose file is not there any more: shapes and units, but no rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from priory.data import Data, Preparation


class Absent(Data):
    """Stands for data whose file is gone: whatever needs a row raises a FileNotFoundError.

    Args:
        config: of the run.
        reason: what is not there.
    """

    def __init__(self, config: Mapping[str, Any], reason: str) -> None:
        self._reason = reason
        self._dtype = getattr(torch, config["dtype"])
        self._shape = tuple(config["shapes"]["x"])
        self.config = config["data"]
        self.name = str(config["data"]["name"])
        if "preparation" in config:
            self._preparation = Preparation.from_config(config["preparation"])
        elif not config["data"].get("standardise"):
            self._preparation = Preparation(self._shape, config["dtype"])

    def __getattr__(self, name: str) -> Any:
        """Say that the rows are not there."""
        if name.startswith("_"):
            raise AttributeError(name)
        raise FileNotFoundError(
            f"the run's own data are needed ({name}), and there is {self._reason}; put the file "
            "back, or give the data: load(folder, data=...), --data"
        )

    @property
    def device(self) -> torch.device:
        """The device of the rows that `zeros` returns."""
        return torch.device("cpu")

    def zeros(self, rows: int) -> dict[str, Tensor]:
        """Return rows of zeros in the shape of the data's x, for programs that draw x anew.

        Args:
            rows: how many.
        """
        return {"x": torch.zeros(rows, *self._shape, dtype=self._dtype)}


def opened(config: Mapping[str, Any]) -> Data:
    """Open the data of a run's configuration, or what stands for them if their file is gone.

    Args:
        config: of the run.

    Raises:
        ValueError: if they have changed, or were given as arrays.
    """
    try:
        return Data.open(**config["data"])
    except FileNotFoundError as error:
        return Absent(config, str(error))


def columns_of(data: Data) -> Mapping[str, Tensor]:
    """Return training columns to draw samples like.

    Args:
        data: of a run.
    """
    return data.zeros(2) if isinstance(data, Absent) else data.train.columns
