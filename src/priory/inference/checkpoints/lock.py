"""One run at a time in a folder."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


class FolderInUse(ValueError):
    """Another process writes into the folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process out of a folder for a while; a crash frees it.

    Where the platform or the file system has no such locks, it says so and goes on.

    Raises:
        FolderInUse: with the process and the host that hold it.
        OSError: if the folder cannot be written.
    """
    with (folder / LOCK).open("a+") as file:
        try:
            if fcntl is None:
                raise OSError("this platform has no fcntl")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise FolderInUse(
                f"{folder} is in use by another run, {file.read().strip() or 'not named'}; wait "
                "for it, or choose another folder"
            ) from None
        except OSError as error:
            warnings.warn(
                f"{folder} cannot be locked ({error}): see to it that no second run uses it",
                stacklevel=2,
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def check_unlocked(folder: Path) -> None:
    """Raise FolderInUse if another run is in a folder."""
    if (folder / LOCK).exists():
        with locked(folder):
            return
