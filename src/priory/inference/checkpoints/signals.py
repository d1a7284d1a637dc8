"""Signals that ask a training run to stop: the step is finished and the state saved first."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from priory.inference.distributed import ranks


class Terminated(SystemExit):
    """SIGTERM or SIGHUP has stopped a run after its state was saved; the exit code is 128 + n.

    Args:
        number: of the signal.
        text: what was saved.
    """

    def __init__(self, number: int, text: str) -> None:
        super().__init__(128 + number)
        self.number = number
        self.text = text


class Signals:
    """Takes note of the first signal that would end the process; a second one does end it.

    Does nothing outside of the main thread. A signal that the process ignores (SIGHUP under nohup)
    stays ignored. Every handler is put back as it was afterwards.
    """

    def __init__(self) -> None:
        self.received = 0
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        """Take note from now on."""
        if threading.current_thread() is not threading.main_thread():
            return self
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the former handlers back."""
        self._restore()

    def share(self) -> None:
        """Take note of a signal that any rank has received, so that all stop at the same step."""
        if ranks.any_rank(bool(self.received)):
            self.received = self.received or signal.SIGTERM

    def stop(self, text: str) -> None:
        """End the run by what the signal means: KeyboardInterrupt, or an exit code.

        Args:
            text: what was saved.

        Raises:
            KeyboardInterrupt: after SIGINT.
            Terminated: after SIGTERM or SIGHUP.
        """
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt(text)
        raise Terminated(self.received, text)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = number
        self._restore()  # so that the next one is obeyed at once

    def _restore(self) -> None:
        while self._former:
            signal.signal(*self._former.popitem())
