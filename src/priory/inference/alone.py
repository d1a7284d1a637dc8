"""One training or evaluation at a time: Pyro's handlers and parameters are the process's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other thread trains, draws from or judges a pair, and keep others waiting.

    Pyro's stack of handlers, its parameter store and the global random generators belong to the
    process: two threads inside of them would mix up their sites, their weights and their noise.
    """
    with _LOCK:
        yield
