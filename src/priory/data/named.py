"""The table of named image sets."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from priory.data.columns import Arrays
from priory.data.fetch import Remote, local, read
from priory.data.readers import read_amat, read_idx
from priory.data.sets import DataSet, Parts


@dataclass(frozen=True)
class ImageSet(DataSet):
    """A row of the table of named image sets.

    Args:
        name: by which it is asked for.
        load: returns the columns of the official training and test rows, and of the validation
            rows where they are fixed.
        binarise: what `binarise="auto"` means.
        valid: default number of validation rows, taken from the end of the training rows; None
            where the split is fixed.
        labels: names of the classes, where they aren't their numbers.
    """

    name: str
    load: Callable[[], Parts]
    binarise: str = "dynamic"
    valid: int | None = 400
    labels: tuple[str, ...] = ()

    def parts(self, valid: int | None, rows: int | None, seed: int) -> Parts:
        """Return the three parts.

        Args:
            valid: validation rows, from the end of the official training rows.
            rows: training rows to keep, from the first; all by default.
            seed: without effect, as the splits are official or fixed.

        Raises:
            ValueError: if the split is fixed or `valid` leaves no training rows.
        """
        del seed
        if self.valid is None and valid is not None:
            raise ValueError(f"the split of {self.name} is fixed, got valid={valid}; leave it out")
        parts = self.load()
        if self.valid is not None:
            given = parts["train"]
            count = self.valid if valid is None else valid
            left = len(given["x"]) - count
            if left < 1:
                raise ValueError(
                    f"valid={count} leaves no training rows: {self.name} has {len(given['x']):,}"
                )
            parts["train"] = {column: array[:left] for column, array in given.items()}
            parts["valid"] = {column: array[left:] for column, array in given.items()}
        if rows is not None:
            parts["train"] = {column: array[:rows] for column, array in parts["train"].items()}
        return parts


def _mnist() -> Parts:
    return _idx("mnist", _MNIST, _MNIST_URLS)


def _fashion() -> Parts:
    return _idx("fashion_mnist", _FASHION, _FASHION_URLS)


def _idx(folder: str, digests: dict[str, str], roots: tuple[str, ...]) -> Parts:
    parts: Parts = {"train": {}, "test": {}}
    for (part, column), stem in _IDX_FILES.items():
        name = f"{stem}-ubyte.gz"
        urls = tuple(root + name for root in roots)
        remote = Remote(f"{folder}/{name}", digests[stem], urls)
        parts[part][column] = read_idx(read(remote), remote.path)
    return parts


def _static() -> Parts:
    packed = Remote("binarized_mnist/binarized_mnist.npz", _STATIC_PACKED)
    rows: Arrays = {}
    if local(packed):
        with np.load(io.BytesIO(read(packed)), allow_pickle=False) as arrays:
            rows = {part: np.unpackbits(arrays[part], axis=1) for part in _STATIC}
    else:
        for part, digest in _STATIC.items():
            name = f"binarized_mnist_{part}.amat"
            remote = Remote(f"binarized_mnist/{name}", digest, (_STATIC_URL + name,))
            rows[part] = read_amat(read(remote), remote.path)
    return {part: {"x": x.reshape(-1, 28, 28)} for part, x in rows.items()}


def _omniglot() -> Parts:
    with np.load(io.BytesIO(read(_OMNIGLOT)), allow_pickle=False) as arrays:
        columns = {"x": arrays["images"], "y": arrays["alphabet"]}
        test = arrays["split"] == 1
    # Validation rows are the last of a seeded shuffle, as in Burda et al. (2016).
    train = np.random.RandomState(123).permutation(np.flatnonzero(~test))
    return {
        part: {name: column[rows] for name, column in columns.items()}
        for part, rows in (("train", train), ("test", np.flatnonzero(test)))
    }


def _digits() -> Parts:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    order = stratified(labels, seed=0)
    return {
        part: {"x": images[rows], "y": labels[rows]}
        for part, rows in (("train", order[300:]), ("test", order[:300]))
    }


def stratified(labels: NDArray[Any], seed: int) -> NDArray[np.int64]:
    """Return shuffled row numbers such that every stretch has the classes in proportion.

    Args:
        labels: labels of shape (rows,).
        seed: seed of the shuffle.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = labels[order]
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(shuffled == label)
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return order[np.argsort(place, kind="stable")]


_IDX_FILES = {
    ("train", "x"): "train-images-idx3",
    ("train", "y"): "train-labels-idx1",
    ("test", "x"): "t10k-images-idx3",
    ("test", "y"): "t10k-labels-idx1",
}
_MNIST_URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_MNIST = {
    "train-images-idx3": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
_FASHION_URLS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
_FASHION = {
    "train-images-idx3": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
_FASHION_LABELS = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_STATIC_PACKED = "50de2c8299a5a297789293ab2c30f6fc3cb8c359a15e5e88d5501aa18ebb8fa5"
_STATIC_URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
_STATIC = {
    "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}
_OMNIGLOT = Remote(
    "omniglot/omniglot_28x28.npz",
    "06027f81976889727daf275a7f35f91c1f6aff6296f41795942b6d09dc10729e",
)

IMAGE_SETS = (
    ImageSet("mnist", _mnist),
    ImageSet("fashion-mnist", _fashion, labels=_FASHION_LABELS),
    ImageSet("static-mnist", _static, binarise="none", valid=None),
    ImageSet("omniglot", _omniglot, valid=1345),
    ImageSet("digits", _digits, valid=200),
)
