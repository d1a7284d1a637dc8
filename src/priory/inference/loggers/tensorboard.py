"""Event files for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from priory.inference.loggers.base import Logger, Status

_EXTRA = "tensorboard needs an extra: pip install 'priory[tensorboard]'"


class TensorBoard(Logger):
    """Event files that TensorBoard shows: a curve for each number, the options as hyperparameters.

    Args:
        where: Folder in which each run has a folder of its own, for `tensorboard --logdir`; in the
            run's folder, as `tensorboard`, if `None`.
        run: What the run's folder there is called; as the run's own if `None`.

    Raises:
        ImportError: The library is not installed.
    """

    name = "tensorboard"
    needs_folder = True

    def home(self) -> str:
        """Return the folder from the root, "" for the run's own."""
        return "" if self.where is None else str(Path(self.where).absolute())

    def open(
        self, place: str | None, run: str, folder: Path | None, options: Mapping[str, Any]
    ) -> str:
        """Open an event file; those of a run that goes on stand side by side in one folder."""
        try:
            from torch.utils.tensorboard import SummaryWriter
            from torch.utils.tensorboard.summary import hparams
        except ImportError as error:
            raise ImportError(_EXTRA) from error
        new = place is None
        if place is None and self.where is None:
            place = "tensorboard"  # in the run's folder, wherever that goes
        elif place is None:
            place = str(_free(Path(self.home()) / run))
        self._place = (folder or Path()) / place
        self._writer = SummaryWriter(str(self._place))
        if new:
            for part in hparams(dict(options), {"loss": 0.0, "bound": 0.0})[:2]:
                self._writer._get_file_writer().add_summary(part)
        return place

    def last(self) -> int:
        """Return the last step of the event files."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(self._place), size_guidance={"scalars": 0}).Reload()
        tags = events.Tags()["scalars"]
        return max((events.Scalars(tag)[-1].step for tag in tags), default=-1)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write a point of each curve."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, status: Status) -> None:  # noqa: ARG002
        """Close the event file."""
        self._writer.close()


def _free(folder: Path) -> Path:
    """Return a folder's path, with a number where another run is there."""
    found, number = folder, 2
    while found.exists():
        found, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return found
