"""Readers of the published formats: IDX and the static MNIST texts."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_IDX_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_PIECE = 1 << 24  # bytes


def read_idx(content: bytes, name: str = "IDX file") -> NDArray[Any]:
    """Read an array in the IDX format of LeCun's MNIST page, gzipped or plain.

    The header holds two zero bytes, a code for the dtype, the rank, and one big-endian 32-bit
    length for each axis; the values follow in C order.

    Args:
        content: the file's bytes.
        name: name of the file, for the messages.

    Raises:
        ValueError: if the content is cut or no IDX.
    """
    file: Any = io.BytesIO(content)
    if content[:2] == b"\x1f\x8b":
        file = gzip.GzipFile(fileobj=file)
    try:
        return _read_idx(file, name)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name}: damaged gzip: {error}") from error


def _read_idx(file: IO[bytes], name: str) -> NDArray[Any]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _IDX_DTYPES:
        raise ValueError(f"{name}: no IDX file, it begins with {start!r}")
    rank = start[3]
    lengths = file.read(4 * rank)
    if len(lengths) < 4 * rank:
        raise ValueError(f"{name}: cut within its header, at {4 + len(lengths)} bytes")
    shape = tuple(int(n) for n in np.frombuffer(lengths, ">u4"))
    dtype = np.dtype(_IDX_DTYPES[start[2]])
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    values = _read_at_most(file, expected + 1)
    if len(values) != expected:
        least = "more" if len(values) > expected else f"{len(values):,}"
        raise ValueError(f"{name}: shape {shape} needs {expected:,} bytes, the file has {least}")
    if rank > 64:
        raise ValueError(f"{name}: {rank} axes, expected 64 at most")
    return np.frombuffer(values, dtype).reshape(shape)


def _read_at_most(file: IO[bytes], size: int) -> bytes:
    """Read piece by piece, so that a header's promise alone takes no memory."""
    pieces, left = [], size
    while left > 0 and (piece := file.read(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def read_amat(content: bytes, name: str = ".amat file", pixels: int = 784) -> NDArray[np.uint8]:
    """Read binary images written as text: a row an image, its digits parted by single spaces.

    Args:
        content: the file's bytes.
        name: name of the file, for the messages.
        pixels: digits a row.

    Returns:
        Zeros and ones of shape (rows, pixels).

    Raises:
        ValueError: if the content has another form.
    """
    if not content or len(content) % (2 * pixels):
        raise ValueError(
            f"{name}: {len(content):,} bytes; expected rows of {pixels} digits, {2 * pixels} bytes"
        )
    text = np.frombuffer(content, np.uint8).reshape(-1, 2 * pixels)
    digits = text[:, ::2] - np.uint8(ord("0"))
    gaps = text[:, 1::2]
    wrong = (digits > 1).any(1) | (gaps[:, :-1] != ord(" ")).any(1) | (gaps[:, -1] != ord("\n"))
    if wrong.any():
        raise ValueError(f"{name}: row {int(wrong.argmax())} is not made of 0, 1 and single spaces")
    return digits
