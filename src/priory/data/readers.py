"""Readers of the published formats: IDX and the static MNIST texts."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_IDX_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


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
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{name}: damaged gzip: {error}") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_DTYPES:
        raise ValueError(f"{name}: no IDX file, it begins with {content[:4]!r}")
    rank = content[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise ValueError(f"{name}: cut within its header, at {len(content)} bytes")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", rank, 4))
    dtype = np.dtype(_IDX_DTYPES[content[2]])
    expected = start + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(content) != expected:
        raise ValueError(
            f"{name}: shape {shape} needs {expected:,} bytes, the file has {len(content):,}"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


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
