"""Files that are there whole or not at all, and whose damage is noticed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
_FORMER = "former"


class Damaged(ValueError):
    """A file is missing, cut, changed, or not what its name says."""


def write_file(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, flush it to the disk, and give it its name.

    Raises:
        OSError: naming the file, if it cannot be written; a former one stands.
    """
    part = _part(path)
    try:
        _flush(part, content)
        os.replace(part, path)
        _sync(path.parent)
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files and their manifest, which takes its name when all is on the disk.

    Args:
        folder: its path; a former one of this name is replaced at once.
        files: contents by name.

    Raises:
        OSError: naming the file, if one cannot be written; a former folder stands.
    """
    part, former = _part(folder), _part(folder, _FORMER)
    at = folder
    try:
        part.mkdir(parents=True)
        for name, content in {**files, MANIFEST: manifest(files)}.items():
            at = folder / name
            _flush(part / name, content)
        at = folder
        _sync(part)
        if folder.exists():
            os.rename(folder, former)
        os.rename(part, folder)
        _sync(folder.parent)
    except OSError as error:
        raise _unwritten(at, error) from error
    finally:
        sweep(folder.parent, f"{folder.name}.{os.getpid()}.")


def remove_folder(folder: Path) -> None:
    """Remove a folder, under a temporary name, so that half of one is never taken for a whole."""
    part = _part(folder, "old")
    os.rename(folder, part)
    shutil.rmtree(part, ignore_errors=True)


def sweep(folder: Path, name: str = "") -> None:
    """Remove what a process that was killed left under temporary names.

    A former folder whose successor never got its name gets its own back.

    Args:
        folder: where to look.
        name: how the names of the files and folders to look for begin; any by default.
    """
    for path in [*folder.iterdir()] if folder.is_dir() else []:
        found = re.fullmatch(r"\.(.+)\.\d+\.(\w+)\.part", path.name)
        if found is None or not path.name.startswith(f".{name}"):
            continue
        own, mark = found.groups()
        if mark == _FORMER and not (folder / own).exists():
            os.rename(path, folder / own)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def manifest(files: Mapping[str, bytes]) -> bytes:
    """Return the manifest of files: the size and SHA-256 of each."""
    entries = {name: {"size": len(c), "sha256": _digest(c)} for name, c in files.items()}
    return json.dumps(entries, indent=1).encode()


def read_checked(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Return the contents of files, each compared with the folder's manifest.

    Args:
        folder: where they are.
        names: which.

    Raises:
        Damaged: naming the first file that is not what was written.
    """
    entries = read_json(folder / MANIFEST, read(folder / MANIFEST))
    contents = {}
    for name in names:
        path, content = folder / name, read(folder / name)
        entry = entries.get(name)
        if not isinstance(entry, dict) or {*entry} != {"size", "sha256"}:
            raise Damaged(f"{folder / MANIFEST} is damaged: it has no entry for {name}")
        if len(content) != entry["size"]:
            raise Damaged(
                f"{path} is damaged: it has {len(content)} bytes, and {entry['size']} were written"
            )
        if (found := _digest(content)) != entry["sha256"]:
            raise Damaged(
                f"{path} is damaged: its SHA-256 is {found}, and {entry['sha256']} was written"
            )
        contents[name] = content
    return contents


def read(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        Damaged: if there is none.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Damaged(f"{path} is missing") from error


def read_json(path: Path, content: bytes, kind: type = dict) -> Any:
    """Return what a JSON file holds.

    Args:
        path: for the message.
        content: of the file.
        kind: of what it must hold.

    Raises:
        Damaged: naming the file.
    """
    try:
        found = json.loads(content)
    except ValueError as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    if not isinstance(found, kind):
        raise Damaged(f"{path} is damaged: it holds no {kind.__name__}")
    return found


def _part(path: Path, mark: str = "new") -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{mark}.part")


def _flush(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Flush a folder's list of names to the disk, where the platform can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _unwritten(path: Path, error: OSError) -> OSError:
    reason = error.strerror or error
    return type(error)(f"cannot write {path}: {reason}; what stood there before is unchanged")
