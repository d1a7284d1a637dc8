"""The last step to ArviZ, whichever its generation: arrays and log weights alone, no pair."""

from __future__ import annotations

import math
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Variable = tuple[tuple[str, ...], Array]
Groups = dict[str, dict[str, Variable]]

FEWEST = 25  # draws: a tail has a fifth of them, and PSIS fits no tail of fewer than five
_LEVEL = 1e-5  # log weights that differ by less, relative to their size, are equal
_NUDGE = 1e-9
_OTHER = "ArviZ {} has no {}; to_arviz and loo know 0.17 to 0.23 and 1.0 to 1.3"


def import_arviz() -> Any:
    """Return the module arviz, imported without its messages and its writing to the home folder.

    Raises:
        ImportError: if it cannot be imported; says how to install it.
    """
    if sys.modules.get("arviz") is not None:
        return sys.modules["arviz"]
    with warnings.catch_warnings(), _stamped_elsewhere():
        warnings.simplefilter("ignore")
        try:
            return import_module("arviz")
        except ImportError as error:
            raise ImportError(
                f"this needs ArviZ, which cannot be imported ({error}): pip install arviz"
            ) from error


@contextmanager
def _stamped_elsewhere() -> Iterator[None]:
    """Give ArviZ 0.x a folder that passes for the user's cache.

    Its import warns once a day, and stamps the day there: an import fails where the home cannot be
    written, or where another process stamps it at the same moment.
    """
    if find_spec("platformdirs") is None:  # the ArviZ of today asks no other for the folder
        yield
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        patch("platformdirs.user_cache_dir", lambda *_, **__: folder),
    ):
        yield


def inference_data(
    groups: Groups, coords: Mapping[str, Array], attrs: Mapping[str, str | float | int]
) -> Any:
    """Return arrays as ArviZ's container: InferenceData before ArviZ 1.0, else a DataTree.

    Args:
        groups: the variables of each group, by name, each with the names of its dimensions.
        coords: coordinates by dimension; counted from 0 where there are none.
        attrs: attributes of the whole.

    Raises:
        ImportError: if ArviZ is not installed, or is of a generation with neither container.
    """
    az, xarray = import_arviz(), import_module("xarray")
    library = {name: value for name, value in attrs.items() if name.startswith("inference_library")}
    sets = {}
    for group, variables in groups.items():
        sizes = {d: n for dims, v in variables.values() for d, n in zip(dims, v.shape, strict=True)}
        own = {dim: coords.get(dim, np.arange(size)) for dim, size in sizes.items()}
        sets[group] = xarray.Dataset(variables, own, library)
    if "InferenceData" in vars(az):
        return az.InferenceData(attrs=dict(attrs), **sets)
    if not hasattr(xarray, "DataTree"):
        raise ImportError(_OTHER.format(az.__version__, "InferenceData and xarray no DataTree"))
    return xarray.DataTree.from_dict({"/": xarray.Dataset(attrs=dict(attrs)), **sets})


def draws_named(arrays: Mapping[str, Array], rowwise: Collection[str]) -> dict[str, Variable]:
    """Give draws `(draws, n, *event)` a chain, and their dimensions names.

    Args:
        arrays: by name.
        rowwise: names of those with a row for each datum; the others are `(draws, *event)`.
    """
    out: dict[str, Variable] = {}
    for name, array in arrays.items():
        own = ("chain", "draw", "row")[: 3 if name in rowwise else 2]
        event = (f"{name}_dim_{i}" for i in range(array.ndim + 1 - len(own)))
        out[name] = ((*own, *event), array[None])
    return out


def data_named(arrays: Mapping[str, Array]) -> dict[str, Variable]:
    """Give the dimensions of data `(n, *event)` names.

    Args:
        arrays: by name.
    """
    return {
        name: (("row", *(f"{name}_dim_{i}" for i in range(array.ndim - 1))), array)
        for name, array in arrays.items()
    }


def elpd(data: Any) -> Any:
    """Return `arviz.loo` of a container, datum by datum, as `arviz.compare` takes it.

    Args:
        data: what `to_arviz` returns, or anything else with a group `log_likelihood`.
    """
    return import_arviz().loo(data, pointwise=True)


def pointwise(log_weights: Array) -> tuple[Array, Array]:
    r"""Return the log likelihoods by which `arviz.loo` finds log p(x), and each datum's k-hat.

    .. math:: \ell_s = c - \log w_s, \qquad c = 2 \log \hat p(x) - \log \overline{\tilde w / w},
        \qquad \hat p(x) = \frac{1}{S} \sum_s \tilde w_s

    with w~ the Pareto-smoothed weights. LOO weighs draw s by 1 / exp(l_s), here by w_s itself, so
    that its sum is log p^(x) and its k-hat that of the guide.

    Yao, Vehtari, Simpson and Gelman 2018, Yes, but did it work? Evaluating variational inference;
    Vehtari, Simpson, Gelman, Yao and Gabry 2024, Pareto smoothed importance sampling.

    Args:
        log_weights: log p(x, z) - log q(z | x), `(draws, n)`, in nats.

    Returns:
        The log likelihoods, `(draws, n)`, and the k-hats, `(n,)`.

    Raises:
        ValueError: if there are fewer than `FEWEST` draws, or a log weight is NaN or infinite.
        ImportError: if ArviZ is missing or has another PSIS.
    """
    if len(log_weights) < FEWEST:
        raise ValueError(f"PSIS needs at least {FEWEST} draws, got {len(log_weights)}")
    bad = np.flatnonzero(~np.isfinite(log_weights).all(0))
    if bad.size:
        raise ValueError(
            f"{bad.size} of {log_weights.shape[1]} rows have a NaN or infinite log weight, "
            f"the first of them row {bad[0]}"
        )
    log_w = _told_apart(log_weights.astype(np.float64))
    smoothed, k_hat = _psis()(log_w)
    lowest = log_w.argmin(0)[None]  # never in the tail, so that its weight is as it was
    log_sum = (np.take_along_axis(log_w, lowest, 0) - np.take_along_axis(smoothed, lowest, 0))[0]
    estimate = log_sum - math.log(len(log_w))
    return estimate - np.logaddexp.reduce(smoothed - log_w, 0) - log_w, k_hat


def _told_apart(log_w: Array) -> Array:
    """Spread log weights that are equal: a Pareto distribution can be fitted to no constant.

    Those of an exact guide, equal up to rounding, become evenly spaced around their mean. Where
    only the largest fifth are the same, as for a discrete latent, one of them is raised.
    """
    size = np.maximum(1.0, np.abs(log_w).max(0))
    equal = np.ptp(log_w, 0) < _LEVEL * size
    even = log_w.mean(0) + _NUDGE * size * np.linspace(-0.5, 0.5, len(log_w))[:, None]
    log_w = np.where(equal, even, log_w)
    tail = np.sort(log_w, 0)[-(len(log_w) // 5) :]
    tied = np.flatnonzero(np.ptp(tail, 0) == 0)
    log_w[log_w.argmax(0)[tied], tied] += _NUDGE * size[tied]
    return log_w


def _psis() -> Callable[[Array], tuple[Array, Array]]:
    """Return ArviZ's smoothing of log weights `(draws, n)`, normalised, with their k-hats.

    Some releases take log weights and some log likelihoods, the negative: which, a known example
    tells.
    """
    az = import_arviz()
    smooth = vars(az).get("psislw")
    if smooth is None:
        try:
            smooth = import_module("arviz_stats.base").array_stats.psislw
        except (ImportError, AttributeError) as error:
            raise ImportError(_OTHER.format(az.__version__, "psislw")) from error
    known = np.log(np.arange(1.0, 41.0))
    found = np.asarray(smooth(known)[0])
    sign = (found[20] - found[18]) / (known[20] - known[18])  # between the tails: nothing is fitted
    if not (math.isclose(abs(sign), 1.0, rel_tol=1e-9) and math.isclose(np.exp(found).sum(), 1.0)):
        raise ImportError(_OTHER.format(az.__version__, "psislw of a known kind"))

    def smoothed(log_w: Array) -> tuple[Array, Array]:
        with np.errstate(all="ignore"):  # of weights that are zero beside the largest
            values, k_hat = smooth(sign.round() * log_w.T)
        return np.asarray(values).T, np.asarray(k_hat)

    return smoothed
