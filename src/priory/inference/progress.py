"""The live line that a training run shows on a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from priory.inference.callback import Callback, Training

if TYPE_CHECKING:
    from rich.progress import Progress as Bars


class Progress(Callback):
    """A progress bar with loss, bound and speed; silent where nobody watches.

    Args:
        show: whether to show it; `None` for "if the standard error is a terminal".
        total: training steps.
    """

    def __init__(self, show: bool | None, total: int) -> None:
        self.bars: Bars | None = None
        if sys.stderr.isatty() if show is None else show:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.task = self.bars.add_task("epoch 0", total=total, figures="")
        self.bound = ""

    def __enter__(self) -> Progress:
        """Start to show it."""
        if self.bars is not None:
            self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and leave the last line standing."""
        if self.bars is not None:
            self.bars.stop()

    def log(self, text: str) -> None:
        """Print a message above the bar."""
        if self.bars is not None:
            self.bars.console.print(text, highlight=False)

    def after_epoch(self, training: Training) -> None:
        """Show the last row of the history."""
        if self.bars is None:
            return
        row = training.history[-1]
        if row.get("bound") is not None:
            self.bound = f"  bound {row['bound']:.2f}"
        speed = row["step"] / max(row["seconds"], 1e-9)
        name = getattr(training.objective, "quantity", "loss")
        figures = f"{name} {row['loss']:.2f}{self.bound}  {speed:.0f} steps/s"
        self.bars.update(
            self.task,
            completed=row["step"],
            description=" ".join([*filter(None, [row.get("stage")]), f"epoch {row['epoch']}"]),
            figures=figures,
        )
