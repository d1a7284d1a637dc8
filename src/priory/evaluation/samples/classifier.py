"""A small classifier trained on the labelled training rows: features that know what matters."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from priory.evaluation.record import Unavailable
from priory.evaluation.rows import Columns, labelled_rows, rows_of
from priory.inference.checkpoints.disk import Damaged, read_checked, write_folder
from priory.inference.checkpoints.weights import decode, encode

FEATURES = 64
_VERSION = 1  # of all that decides the weights: raise it with any change below
_HIDDEN, _CHANNELS, _SIDE = 256, (16, 32), 16
_BATCH, _LEAST, _MOST, _EPOCHS = 128, 600, 2000, 4
_RATE, _DECAY, _SMOOTHING, _NOISE = 2e-3, 1e-2, 0.1, 0.5
_CLASSES = 1000
_FILE = "weights.safetensors"


class Classifier(nn.Module):
    """A perceptron, or a convolutional net for images of at least 16 pixels a side.

    Args:
        shape: of one datum.
        classes: their number.
    """

    mean: Tensor
    scale: Tensor
    frequencies: Tensor

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.shape = shape
        d = math.prod(shape)
        if len(shape) == 3 and min(shape[1:]) >= _SIDE:
            area = math.prod((side + 3) // 4 for side in shape[1:])
            first, second = _CHANNELS
            body: list[nn.Module] = [
                nn.Conv2d(shape[0], first, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(first, second, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(second * area, FEATURES),
            ]
        else:
            body = [nn.Flatten(), nn.Linear(d, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, FEATURES)]
        self.body = nn.Sequential(*body, nn.SiLU())
        self.head = nn.Linear(FEATURES, classes)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("frequencies", torch.full((classes,), 1 / classes))

    def features(self, x: Tensor) -> Tensor:
        """Return the last layer but one, `(n, 64)`.

        Args:
            x: data, `(n, d)`.
        """
        rows = x.reshape(-1, *self.shape).to(self.mean)
        found: Tensor = self.body((rows - self.mean) / self.scale)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes' logits, `(n, classes)`.

        Args:
            x: data, `(n, d)`.
        """
        found: Tensor = self.head(self.features(x))
        return found

    def classes(self, x: Tensor) -> Tensor:
        """Return the likeliest class's number, `(n,)`.

        Args:
            x: data, `(n, d)`.
        """
        return self(x).argmax(1)


def labelled(columns: Columns) -> bool:
    """Return whether there are whole-numbered labels of at least two classes, one per row.

    Args:
        columns: training columns.
    """
    y = columns.get("y")
    if y is None or "x" not in columns or y.dim() != 1 or y.is_floating_point():
        return False
    known = labelled_rows(columns)["y"]
    return 2 <= len(known.unique()) <= min(_CLASSES, len(known) // 2)


def trained_classifier(train: Columns, shape: tuple[int, ...]) -> Classifier:
    """Return a classifier of the training rows: from the cache, or trained and put there.

    The weights are a function of the rows alone: initial values and the order of batches come from
    a generator of their own, the number of steps is fixed, and one thread does the sums. The cache
    is the folder `features` in the user's cache folder, or in the one that PRIORY_CACHE names;
    damaged weights are trained again. Where nothing can be written, nothing is kept.

    Args:
        train: columns x and y.
        shape: of one datum.

    Raises:
        Unavailable: if the rows have no labels of two classes at least.
    """
    if not labelled(train):
        raise Unavailable("a classifier needs training rows with labels y of at least two classes")
    train = labelled_rows(train)
    x = rows_of(train["x"]).detach().cpu().float().contiguous()
    known, y = train["y"].detach().cpu().unique(return_inverse=True)
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn again below
        net = Classifier(shape, len(known))
    key = hashlib.sha256(f"{_VERSION} {shape} {net!r} {torch.__version__}".encode())
    for tensor in (x, y):
        key.update(tensor.numpy().data)
    folder = cache_folder() / f"classifier-{key.hexdigest()[:16]}"
    if not _restored(net, folder):
        fit_classifier(net, x, y)
        try:
            write_folder(folder, {_FILE: encode(net.state_dict())})
        except OSError as error:
            warnings.warn(f"the classifier is not kept for the next time: {error}", stacklevel=2)
    return net.eval().requires_grad_(False)


def fit_classifier(net: Classifier, x: Tensor, y: Tensor) -> None:
    """Train a classifier by AdamW on noisy data and smoothed labels, at a rate that falls to 0.

    Args:
        net: its weights are drawn anew.
        x: data, `(n, d)`.
        y: numbers of classes, `(n,)`.
    """
    draw = torch.Generator().manual_seed(_VERSION)
    steps = min(_MOST, max(_LEAST, _EPOCHS * len(x) // _BATCH))
    with _one_thread(), torch.enable_grad():
        _start(net, draw)
        net.mean.copy_(x.mean())
        net.scale.copy_(x.std().clamp(min=1e-6))
        net.frequencies.copy_(y.bincount(minlength=len(net.frequencies)) / len(y))
        player = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=_DECAY)
        falling = torch.optim.lr_scheduler.LinearLR(player, 1.0, 0.0, total_iters=steps)
        for _, rows in zip(range(steps), _batches(len(x), draw), strict=False):
            noise = torch.empty_like(x[rows]).normal_(0.0, _NOISE, generator=draw) * net.scale
            logits = net(x[rows] + noise)
            loss = nn.functional.cross_entropy(logits, y[rows], label_smoothing=_SMOOTHING)
            player.zero_grad()
            loss.backward()
            player.step()
            falling.step()


def cache_folder() -> Path:
    """Return where trained features are kept."""
    import pooch

    return Path(os.environ.get("PRIORY_CACHE") or pooch.os_cache("priory")) / "features"


def _restored(net: Classifier, folder: Path) -> bool:
    """Read a net's weights if the cache has them whole."""
    try:
        weights = decode(folder / _FILE, read_checked(folder, [_FILE])[_FILE])
        net.load_state_dict(weights)
    except (Damaged, OSError, RuntimeError):  # trained again, and written over
        return False
    return True


@torch.no_grad()
def _start(net: Classifier, draw: torch.Generator) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = math.sqrt(3.0 / layer.weight[0].numel())  # sd 1 / sqrt(inputs)
            layer.weight.uniform_(-bound, bound, generator=draw)
            if layer.bias is not None:
                layer.bias.zero_()


def _batches(rows: int, draw: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield from torch.randperm(rows, generator=draw).split(_BATCH)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Do sums in one order, whatever number of threads the caller has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
