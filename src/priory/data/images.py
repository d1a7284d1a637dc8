"""A folder of images."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
"""Endings of the files that are read; others are passed over."""

SPLITS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
"""What the folders of splits are called, in any case."""

_GREY, _COLOUR = ("1", "L"), ("RGB", "P")


def read_folder(folder: Path) -> dict[str, NDArray[Any]]:
    """Read images of one size, in the order of their names.

    Sub-folders train, valid (or val, validation) and test are splits, if there are no others; each
    is read alike. Else images in sub-folders have the sub-folder's name as label.

    They are greyscale if all files are, else RGB. Hidden files are passed over.

    Args:
        folder: the folder.

    Returns:
        `x`, uint8 of shape (rows, channels, height, width), and `y` where there are sub-folders;
        those of splits have the endings `_valid` and `_test`.

    Raises:
        ValueError: if there are no images, or one is damaged, transparent or of another size; the
            message names the file.
        ImportError: if Pillow is missing.
    """
    parts = _parts(folder)
    if not parts:
        return _read_images(folder)
    if "train" not in parts:
        raise ValueError(f"{folder}: it has the splits {', '.join(parts)}, and no folder train")
    found = {part: _read_images(path) for part, path in parts.items()}
    channels = max(columns["x"].shape[1] for columns in found.values())
    for columns in found.values():
        shape = (len(columns["x"]), channels, *columns["x"].shape[2:])
        columns["x"] = np.broadcast_to(columns["x"], shape)
    return {
        name if part == "train" else f"{name}_{part}": array
        for part, columns in found.items()
        for name, array in columns.items()
    }


def _parts(folder: Path) -> dict[str, Path]:
    """Return the folders of splits, if all sub-folders are such."""
    folders = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    parts = {SPLITS.get(path.name.lower()): path for path in folders}
    if None in parts or len(parts) < len(folders):
        return {}
    return {part: path for part, path in parts.items() if part is not None}


def _read_images(folder: Path) -> dict[str, NDArray[Any]]:
    paths = sorted(
        path
        for path in (*folder.glob("*"), *folder.glob("*/*"))
        if path.suffix.lower() in ENDINGS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not paths:
        raise ValueError(f"{folder}: no image in it or its sub-folders, of {', '.join(ENDINGS)}")
    labels = [path.parent.name if path.parent != folder else "" for path in paths]
    if "" in labels and any(labels):
        loose = paths[labels.index("")]
        raise ValueError(
            f"{folder}: some images lie in sub-folders, their labels, but {loose.name} doesn't; "
            "move it into one, or all others out"
        )
    images = [_read(path) for path in paths]
    first = images[0].shape[:2]
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != first:
            raise ValueError(
                f"{path}: {image.shape[0]}x{image.shape[1]} pixels, expected {first[0]}x{first[1]} "
                f"as in {paths[0].name}; bring all images to one size"
            )
    channels = max(image.shape[2] for image in images)
    x = np.stack([np.broadcast_to(image, (*first, channels)) for image in images])
    columns: dict[str, NDArray[Any]] = {"x": np.moveaxis(x, 3, 1)}
    if any(labels):
        columns["y"] = np.array(labels)
    return columns


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("reading images needs Pillow: pip install 'priory[files]'") from error
    try:
        with warnings.catch_warnings(action="error"), Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise ValueError(f"it has {frames} frames, expected one")
            if (
                image.has_transparency_data
                and np.asarray(image.convert("RGBA"))[..., 3].min() < 255
            ):
                raise ValueError("it has transparent pixels; flatten it first")
            mode = image.mode.removesuffix("A")
            if mode in _GREY:
                return np.asarray(image.convert("L"))[..., None]
            if mode in _COLOUR:
                return np.asarray(image.convert("RGB"))
            raise ValueError(f"mode {image.mode}, expected 8-bit greyscale or RGB")
    except Exception as error:  # whatever a decoder meets in a damaged file
        raise ValueError(f"{path}: not a sound image: {error}") from error
