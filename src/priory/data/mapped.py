"""Arrays that stay in their file: rows are read when they are taken."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from priory.data.columns import Arrays, arrange, as_tensor, blocks, release

SHARE = 1 / 8
"""A file of more than this share of memory is mapped: its bytes grow fourfold as float32."""

_SCATTERED = 64  # rows read between two releases: reading one may map 2 MiB around it


class Mapped:
    """A column `x` that stays in its file; rows become a tensor when they are taken.

    It answers what a tensor of the same rows would: `len`, `shape`, `dtype`, `device` and indexing
    by a slice, a number, or a tensor of row numbers.

    Args:
        array: the file's array, mapped into memory, of shape (stored rows, *shape).
        rows: which of its rows make up the column, of shape (rows,); all if `None`.
        divisor: what the values are divided by (255 for pixels).
        threshold: whether values become one above 0.5 and zero elsewhere.

    Example:
        >>> column = Mapped(np.arange(6).reshape(3, 2), np.array([2, 0]))
        >>> column[:1]
        tensor([[4., 5.]])
    """

    def __init__(
        self,
        array: NDArray[Any],
        rows: NDArray[np.int64] | None = None,
        *,
        divisor: float = 1.0,
        threshold: bool = False,
    ) -> None:
        self.array = arrange(array)
        self.rows = rows
        self.divisor = divisor
        self.threshold = threshold
        self.dtype = torch.get_default_dtype()
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self.array) if self.rows is None else len(self.rows)

    @property
    def shape(self) -> torch.Size:
        """The shape of the whole column, (rows, *shape)."""
        return torch.Size((len(self), *self.array.shape[1:]))

    @property
    def nbytes(self) -> int:
        """Bytes that the column would take as a tensor."""
        return self.shape.numel() * self.dtype.itemsize

    def __getitem__(self, rows: int | slice | Tensor) -> Tensor:
        if isinstance(rows, int):
            return self[torch.tensor([rows])][0]
        wanted = rows if isinstance(rows, slice) else rows.cpu().numpy()
        block = read_rows(self.array, wanted if self.rows is None else self.rows[wanted])
        x = as_tensor(block, divisor=self.divisor, real=True).to(self.dtype)
        return (x > 0.5).to(x.dtype) if self.threshold else x

    def to(self, device: torch.device | str) -> Tensor:
        """Read the whole column onto a device, block by block."""
        whole = torch.empty(self.shape, dtype=self.dtype, device=device)
        for start, part in blocks(self.array[:0] if not len(self) else self._numbers()):
            rows = slice(start, start + len(part))
            whole[rows] = self[rows].to(device)
        return whole

    def _numbers(self) -> NDArray[Any]:
        """Row numbers, seen as wide as the rows are, for the size of a block."""
        return np.broadcast_to(np.int8(0), self.shape)


def read_rows(array: NDArray[Any], rows: slice | NDArray[np.int64]) -> NDArray[Any]:
    """Read rows of a mapped file into memory of their own, and give its pages back."""
    if isinstance(rows, slice):
        block = np.array(array[rows])
        release(array)
        return block
    block = np.empty((len(rows), *array.shape[1:]), array.dtype)
    for start in range(0, len(rows), _SCATTERED):
        part = slice(start, start + _SCATTERED)
        block[part] = array[rows[part]]
        release(array)
    return block


def memory() -> int:
    """Return the bytes of memory that the machine, or the container, has; 0 if it doesn't say."""
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(found, int(text)) if text.isdigit() else found


def worth_mapping(path: Path) -> bool:
    """Return whether a file is larger than `SHARE` of memory, and of a kind that can be mapped."""
    if not path.is_file() or not 0 < SHARE * memory() < path.stat().st_size:
        return False
    if path.suffix.lower() != ".npz":
        return path.suffix.lower() == ".npy"
    try:
        with zipfile.ZipFile(path) as archive:
            return all(m.compress_type == zipfile.ZIP_STORED for m in archive.infolist())
    except Exception:  # the error is raised when it is read
        return False


def map_file(path: Path) -> Arrays:
    """Map the arrays of a file into memory; only `x` stays there, other columns are read.

    Args:
        path: a `.npy` file, or an `.npz` file without compression.

    Raises:
        ValueError: if the file can't be mapped or is damaged; the message names it.
        FileNotFoundError: if there is none.
    """
    kind = path.suffix.lower()
    if path.exists() and kind not in (".npy", ".npz"):
        raise ValueError(f"{path}: only .npy and .npz files can be mapped; pass mapped=False")
    try:
        if kind == ".npy":
            return {"x": map_array(path, 0, path.stat().st_size)}
        return _map_npz(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no file or folder {path}") from error
    except Exception as error:  # whatever a reader meets in a mangled file
        raise ValueError(f"{path}: can't be mapped: {error}") from error


def map_array(path: Path, start: int, size: int) -> NDArray[Any]:
    """Map one array in NumPy's format.

    Args:
        path: the file.
        start: where the array's header begins, in bytes.
        size: bytes of header and values.

    Raises:
        ValueError: if the header is damaged, or promises other bytes than there are.
    """
    with path.open("rb") as file:
        file.seek(start)
        shape, fortran, dtype = read_header(file)
        offset = file.tell()
    check_size(shape, dtype, size - (offset - start))
    if fortran and len(shape) > 1:
        raise ValueError("its values are in Fortran order; save np.ascontiguousarray(x) instead")
    if 0 in shape or not shape:
        raise ValueError(f"it holds no rows: shape {shape}")
    return np.memmap(path, dtype, "r", offset, shape)


def read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array in NumPy's format: shape, Fortran order, dtype.

    Raises:
        ValueError: if it is damaged, or the array holds Python objects.
    """
    version: tuple[int, int] = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"format version {version}, expected 1.0 or 2.0; save plain arrays")
    try:
        shape, fortran, dtype = readers[version](file)
    except Exception as error:  # whatever NumPy's parser meets in a mangled header
        raise ValueError(f"its header is damaged: {error}") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled; save plain numbers")
    return shape, fortran, dtype


def check_size(shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
    """Raise a ValueError unless an array takes exactly so many bytes, before any is allocated."""
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if expected != size or min(shape, default=0) < 0:
        raise ValueError(
            f"an array of shape {shape} and dtype {dtype} takes {expected:,} bytes, the file has "
            f"{size:,}"
        )


def check_room(part: str, shape: tuple[int, ...], rows: int) -> None:
    """Raise a ValueError if rows that are held in memory take more than a quarter of it."""
    taken = rows * int(np.prod(shape, dtype=object)) * torch.get_default_dtype().itemsize
    if memory() and taken > memory() / 4:
        raise ValueError(
            f"{rows:,} {part} rows are held in memory and take {taken / 1e9:,.1f} GB of "
            f"{memory() / 1e9:,.1f} GB; ask for fewer, for instance {part}=10_000"
        )


def _map_npz(path: Path) -> Arrays:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    arrays: Arrays = {}
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise ValueError(
                f"{member.filename} is compressed or encrypted; save by np.savez, or as .npy"
            )
        with path.open("rb") as file:  # the local header has lengths of its own
            file.seek(member.header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")
        start = member.header_offset + 30 + int(lengths.sum())
        name = member.filename.removesuffix(".npy").removesuffix("_train")
        if name in arrays:
            raise ValueError(f"two arrays have the name {name!r}")
        arrays[name] = map_array(path, start, member.file_size)
    return {n: a if n == "x" else np.array(a) for n, a in expected(arrays).items()}


def expected(arrays: Arrays) -> Arrays:
    """Return an archive's arrays if `x` is among them; a single one is `x`.

    Raises:
        ValueError: if there is no telling which array is `x`.
    """
    if "x" not in arrays and len(arrays) == 1:
        return {"x": next(iter(arrays.values()))}
    if "x" not in arrays:
        raise ValueError(f"its arrays are {sorted(arrays)}; expected 'x', or a single array")
    return arrays
