"""What sample metrics look at: the data themselves, or features of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from priory.evaluation.record import Unavailable
from priory.evaluation.registry import of_equal_size, units_of
from priory.evaluation.rows import rows_of, thin
from priory.evaluation.sample_sets import Sets, common, once
from priory.evaluation.samples.classifier import labelled, trained_classifier
from priory.evaluation.samples.inception import inception_features
from priory.lookup import named

_ROWS = 500  # rows at a time
_LOW = 16  # data of so few dimensions are their own features
_VARIANCE, _COMPONENTS, _FITTED = 0.95, 64, 10_000

Rows = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Extractor:
    """A map from data to features, with a mark by which two of them can be distinguished.

    Args:
        name: what it is.
        digest: 12 hex digits of the SHA-256 over its weights and preprocessing.
        function: maps `(rows, d)` to `(rows, features)`.
        classify: maps `(rows, d)` to the numbers of classes, `(rows,)`, if it knows classes.
        frequencies: of the classes among the training rows, `(classes,)`.
    """

    name: str
    digest: str
    function: Rows
    classify: Rows | None = None
    frequencies: Tensor | None = None

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return features in float64, `(n, features)`, on the CPU.

        Args:
            x: data, `(n, d)`.
        """
        return torch.cat([rows_of(self.function(part)).double().cpu() for part in x.split(_ROWS)])

    @torch.no_grad()
    def classes(self, x: Tensor) -> Tensor:
        """Return the class of each datum, `(n,)`.

        Args:
            x: data, `(n, d)`.

        Raises:
            Unavailable: if the extractor knows no classes.
        """
        if self.classify is None:
            raise Unavailable(
                f"the features ({self.name}) know no classes; needs labelled training rows and "
                "features='classifier'"
            )
        return torch.cat([self.classify(part).cpu() for part in x.split(_ROWS)])

    @property
    def text(self) -> str:
        """The name and the digest."""
        return f"{self.name} features {self.digest}"


class FeatureSets(NamedTuple):
    """Features of as many data as samples.

    Args:
        real: of data, `(n, features)`.
        generated: of samples, `(n, features)`.
        text: which features of how many rows these are.
    """

    real: Tensor
    generated: Tensor
    text: str


@common
def extractor_of(draws: Sets) -> Extractor:
    """Return the extractor, made once for the draws and their anchors.

    Args:
        draws: those whose `features` say which.
    """
    return extractor(draws.features, draws)


@once
def feature_sets(draws: Sets) -> FeatureSets:
    """Return features of samples and data, as many of one as of the other.

    Args:
        draws: the draws.
    """
    rows, extract = of_equal_size(draws), extractor_of(draws)
    real, generated = map(extract, rows)
    sizes = f"{len(generated)} samples against {len(real)} data"
    return FeatureSets(real, generated, f"{extract.text}; {sizes}")


def features_quantity(draws: Sets) -> tuple[str, str]:
    """Return the features that samples and data are compared in.

    Args:
        draws: the draws.
    """
    units, remark = units_of(draws)
    text = f"features {extractor_of(draws).text}"
    return "; ".join(part for part in (text, units) if part), remark


def extractor(features: Any, sets: Sets) -> Extractor:
    """Return the features that sample metrics look at.

    Args:
        features: a name in `EXTRACTORS`; "auto" takes the data themselves if they have at most 16
            dimensions, else a classifier where there are labelled training rows, else principal
            components. Or a module or function from data of their own shape, `(n, *shape)`, to
            features; or an extractor.
        sets: the data.

    Raises:
        ValueError: if there is no extractor of that name.
        Unavailable: if the data do not suffice for it.
        ImportError: if it needs a library that is not installed.
    """
    if isinstance(features, Extractor):
        return features
    if isinstance(features, str):
        return named("features", features, EXTRACTORS)(sets)
    if callable(features):
        return _given(features, tuple(sets.x.shape[1:]))
    raise ValueError(
        f"features must be one of {', '.join(EXTRACTORS)}, a module or a function, got "
        f"{type(features).__name__}"
    )


def digest(*parts: Any) -> str:
    """Return 12 hex digits of the SHA-256 over tensors and strings, in their order.

    Args:
        parts: tensors, mappings of them by name, or anything with a fixed spelling.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Mapping):
            total.update(
                digest(*(piece for item in sorted(part.items()) for piece in item)).encode()
            )
        elif isinstance(part, Tensor):
            array = np.ascontiguousarray(part.detach().cpu().numpy())
            total.update(f"{array.dtype}{array.shape}".encode())
            total.update(array.data if array.size else b"")
        else:
            total.update(repr(part).encode())
        total.update(b";")
    return total.hexdigest()[:12]


def _identity(sets: Sets) -> Extractor:
    del sets
    return Extractor("identity", digest("identity"), lambda x: x)


def _pca(sets: Sets) -> Extractor:
    from scipy.linalg import eigh

    if sets.reference is None:
        x = sets.real.double().cpu()
    else:
        x = sets.compared(thin({"x": sets.train["x"]}, _FITTED)["x"]).double().cpu()
    if len(x) < 2:
        raise Unavailable(f"principal components need at least 2 rows, got {len(x)}")
    mean = x.mean(0)
    covariance = torch.cov(x.T).reshape(x.shape[1], -1)
    d = len(covariance)
    most = min(_COMPONENTS, d)
    values, vectors = eigh(covariance.numpy(), subset_by_index=(d - most, d - 1))
    values, vectors = torch.from_numpy(values).flip(0), torch.from_numpy(vectors).flip(1)
    short = values.cumsum(0) < _VARIANCE * covariance.trace()
    kept = vectors[:, : min(most, int(short.sum()) + 1)]
    largest = kept.gather(0, kept.abs().argmax(0, keepdim=True))
    kept = (kept * torch.where(largest < 0, -1.0, 1.0)).contiguous()
    name = f"pca ({kept.shape[1]} components)"
    return Extractor(
        name,
        digest("pca", mean, kept),
        lambda rows: (rows.to(mean) - mean) @ kept,
    )


def _classifier(sets: Sets) -> Extractor:
    net = trained_classifier(sets.train, tuple(sets.x.shape[1:]))
    mark = digest("classifier", repr(net), net.state_dict())
    return Extractor("classifier", mark, net.features, net.classes, net.frequencies)


def _inception(sets: Sets) -> Extractor:
    x = sets.x if sets.reference is None else sets.train["x"]
    function, weights, preprocessing = inception_features(x)
    return Extractor("inception", digest("inception", preprocessing, weights), function)


def _auto(sets: Sets) -> Extractor:
    if sets.real.shape[1] <= _LOW:
        return _identity(sets)
    if sets.reference is not None and labelled(sets.reference) and not sets.sizes:
        return _classifier(sets)
    return _pca(sets)


def _given(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Extractor:
    """Wrap a user's own module or function."""
    if not isinstance(function, nn.Module):
        name = getattr(function, "__qualname__", type(function).__name__)
        return Extractor(name, digest(name), lambda x: function(x.reshape(-1, *shape)))
    name = type(function).__name__
    mark = digest(name, repr(function), function.state_dict())
    like = next((p for p in function.parameters() if p.is_floating_point()), None)

    def run(x: Tensor) -> Tensor:
        modes = {module: module.training for module in function.modules()}
        rows = x.reshape(-1, *shape)
        try:
            found: Tensor = function.eval()(rows if like is None else rows.to(like))
        finally:
            for module, mode in modes.items():
                module.training = mode
        return found

    return Extractor(name, mark, run)


EXTRACTORS: dict[str, Callable[[Sets], Extractor]] = {
    "auto": _auto,
    "classifier": _classifier,
    "identity": _identity,
    "inception": _inception,
    "pca": _pca,
}
"""Features by name; each row makes its extractor from the data."""
