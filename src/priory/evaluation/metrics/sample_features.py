"""How near a pair's samples come to data in the features of an extractor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeVar

from torch import Tensor

from priory.evaluation.record import Estimate
from priory.evaluation.registry import check_finite, metric, units_of, with_note
from priory.evaluation.rows import rows_of, thin
from priory.evaluation.sample_sets import Sets, Unavailable
from priory.evaluation.samples.discrepancy import discrepancies
from priory.evaluation.samples.features import Extractor, extractor
from priory.evaluation.samples.frechet import frechet as frechet_of
from priory.evaluation.samples.kernels import cubic
from priory.evaluation.samples.manifold import Manifold, expected_coverage, manifold
from priory.evaluation.samples.manifold_errors import manifold_errors
from priory.evaluation.samples.memory import Copying, copying, shared_components
from priory.evaluation.samples.pairwise import stream
from priory.evaluation.samples.twosample import (
    TwoSample,
    logistic_test,
    nearest_neighbour_test,
)

_NEIGHBOURS = 5
_DOUBT = 3.0  # standard errors
_DIVISIONS = 33  # random stream
_T = TypeVar("_T")


class Pair(NamedTuple):
    """Features of as many data as samples.

    Args:
        real: of data, `(n, features)`.
        generated: of samples, `(n, features)`.
    """

    real: Tensor
    generated: Tensor


def features_of(draws: Sets) -> Extractor:
    """Return the extractor, made once for the draws and their anchors.

    Args:
        draws: those whose `features` say which.
    """
    return draws.common("extractor", lambda: extractor(draws.features, draws))


def features_quantity(draws: Sets) -> tuple[str, str]:
    """Return the features that samples and data are compared in.

    Args:
        draws: the draws.
    """
    units, remark = units_of(draws)
    return "; ".join(
        part for part in (f"features {features_of(draws).text}", units) if part
    ), remark


@metric("samples", "generated", better="lower", anchored=True, quantity=features_quantity)
def frechet(draws: Sets) -> Estimate:
    """Squared Frechet distance between the features of samples and data."""
    real, generated = pair_of(draws)
    value, se = _try(lambda: frechet_of(generated, real))
    note = f"{_among(draws)}; biased upwards: compare at equal n, beside the anchors"
    few: tuple[str, ...] = ()
    if len(real) <= real.shape[1]:
        few = (f"{len(real)} samples do not span {real.shape[1]} features",)
    return Estimate(value, se, len(real), "biased", note=note, warnings=few)


@metric("samples", "generated", better="lower", anchored=True, quantity=features_quantity)
def kernel_distance(draws: Sets) -> Estimate:
    """Squared maximum mean discrepancy of features by a cubic kernel, the kernel distance."""
    real, generated = pair_of(draws)
    value, se = _try(lambda: discrepancies(generated, real, cubic)[0])
    return Estimate(value, se, len(real), "unbiased", note=_among(draws))


@metric("samples", "generated", better="higher", anchored=True, quantity=features_quantity)
def precision(draws: Sets) -> Estimate:
    """Share of samples that lie among the data."""
    note = "samples within the data's balls; an outlier among the data has a great ball"
    return _by_sample(draws, "precision", note)


@metric("samples", "generated", better="higher", anchored=True, quantity=features_quantity)
def recall(draws: Sets) -> Estimate:
    """Share of data that lie among the samples."""
    note = "data within the samples' balls; an outlier among the samples has a great ball"
    return _by_sample(draws, "recall", note)


@metric("samples", "generated", anchored=True, quantity=features_quantity)
def density(draws: Sets) -> Estimate:
    """Balls around data that a sample lies in, over those expected: 1 under equal distributions."""
    note = "1 under equal distributions, more where samples crowd the modes"
    return _by_sample(draws, "density", note)


@metric("samples", "generated", better="higher", anchored=True, quantity=features_quantity)
def coverage(draws: Sets) -> Estimate:
    """Share of data that have a sample nearer than their own neighbours."""
    n = len(pair_of(draws).real)
    expected = _try(lambda: expected_coverage(n, n, _NEIGHBOURS))
    return _by_sample(draws, "coverage", f"{expected:.4f} under equal distributions")


@metric("samples", "generated", better="lower", anchored=True, quantity=features_quantity)
def c2st(draws: Sets) -> Estimate:
    """Accuracy of a logistic regression that tells samples from data, 1/2 where it cannot."""
    real, generated = pair_of(draws)
    found = _try(lambda: logistic_test(generated, real))
    return _two_sample(draws, found, "data", finds_copies=False)


@metric("samples", "generated", anchored=True, quantity=features_quantity)
def c2st_1nn(draws: Sets) -> Estimate:
    """Accuracy of the nearest other sample in telling samples from data, 1/2 where it cannot."""
    real, generated = pair_of(draws)
    found = _try(lambda: nearest_neighbour_test(generated, real))
    return _two_sample(draws, found, "data")


@metric("samples", "generated", "train", quantity=features_quantity)
def c2st_1nn_train(draws: Sets) -> Estimate:
    """Accuracy of the nearest other sample in telling samples from training rows; 0 for copies."""
    check_finite("samples", draws.generated)
    extract, train = features_of(draws), rows_of(draws.train["x"])
    n = min(len(train), len(draws.generated))
    rows = (thin({"x": x}, n)["x"] for x in (draws.generated, train.to(draws.generated)))
    generated, known = (extract(x) for x in rows)
    found = _try(lambda: nearest_neighbour_test(generated, known))
    return _two_sample(draws, found, "training rows")


@metric("samples", "generated", "train")
def memorisation(draws: Sets) -> Estimate:
    """Preference of samples for training rows over fresh data: 1/2 for none, 1 for copies."""
    found = _copying(draws)
    warned: tuple[str, ...] = ()
    if found.z > _DOUBT:
        warned = ("samples keep to training rows rather than to fresh data: the model copies",)
    return Estimate(
        found.preference,
        found.preference_se,
        len(draws.generated),
        "biased",
        note=f"the nearest row's kind, per row of the kind; z = {found.z:.1f}",
        warnings=warned,
    )


@metric("samples", "generated", "train")
def copied(draws: Sets) -> Estimate:
    """Share of samples nearer to a training row than the nearest 1% of fresh data."""
    found = _copying(draws)
    warned: tuple[str, ...] = ()
    if found.z > _DOUBT and found.copied > found.expected + _DOUBT * found.copied_se:
        warned = (f"{found.copied:.1%} of the samples are all but training rows",)
    return Estimate(
        found.copied,
        found.copied_se,
        len(draws.generated),
        "biased",
        note=f"{found.expected:.3g} without copying, more where samples are blurred",
        warnings=warned,
    )


def pair_of(draws: Sets) -> Pair:
    """Return features of samples and data, as many of one as of the other.

    Args:
        draws: the draws.
    """

    def make() -> Pair:
        check_finite("samples", draws.generated)
        extract = features_of(draws)
        n = min(len(draws.real), len(draws.generated))
        return Pair(*(extract(thin({"x": x}, n)["x"]) for x in (draws.real, draws.generated)))

    return draws.once("features", make)


def _by_sample(draws: Sets, name: str, note: str) -> Estimate:
    real, generated = pair_of(draws)
    found: Manifold = _try(lambda: draws.once("manifold", lambda: manifold(real, generated)))
    errors = draws.once(
        "manifold errors",
        lambda: manifold_errors(real, generated, stream(draws.seed, _DIVISIONS), _NEIGHBOURS),
    )
    note = f"{note}; {_NEIGHBOURS} neighbours; {_among(draws)}"
    values: Tensor = getattr(found, name)
    made = Estimate.mean if name == "density" else Estimate.share
    share = made(values, kind="biased", note=note)
    if errors is None:
        return replace(with_note(share, "too few rows for a standard error"), se=None, values=None)
    # The balls are shared: no value stands for its row alone, and a pairing by rows has no sense.
    return replace(share, se=getattr(errors, name) or share.se, values=None)


def _two_sample(draws: Sets, found: TwoSample, what: str, finds_copies: bool = True) -> Estimate:
    note = (
        f"{found.first:.3f} on samples, {found.second:.3f} on {what}; p = {found.p:.2g}; "
        f"{_named(draws)}"
    )
    warned: tuple[str, ...] = ()
    # A line cannot find copies: below 1/2 by its standard, all is chance.
    if finds_copies and found.accuracy < 0.5 - _DOUBT * found.chance:
        warned = (f"far below 1/2: samples sit upon {what}, as copies do",)
    return Estimate(found.accuracy, found.se, found.n, "unbiased", note=note, warnings=warned)


def _copying(draws: Sets) -> Copying:
    check_finite("samples", draws.generated)

    def make() -> Copying:
        train = rows_of(draws.train["x"]).to(draws.generated.device)
        return copying(*shared_components(draws.generated, train, draws.real))

    return _try(lambda: draws.once("copying", make))


def _named(draws: Sets) -> str:
    return features_of(draws).text


def _among(draws: Sets) -> str:
    real, generated = pair_of(draws)
    return f"{_named(draws)}; {len(generated)} samples against {len(real)} data"


def _try(make: Callable[[], _T]) -> _T:
    try:
        return make()
    except ValueError as error:
        raise Unavailable(str(error)) from error
