"""What a model says of its data."""

from __future__ import annotations

from types import SimpleNamespace

from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.insight.density import latent_density, rare_share
from priory.evaluation.insight.opened import bound_of
from priory.evaluation.insight.outliers import auroc, code_length
from priory.evaluation.record import Estimate
from priory.evaluation.registry import Need, metric
from priory.evaluation.rows import Columns, thin
from priory.evaluation.sample_sets import Unavailable

_ROWS = 1000  # training rows that are compared with
_COMPONENTS = 500  # of them make up the aggregated posterior
_LEVEL = 0.01
_OUTLIERS: tuple[Need, ...] = ("outliers", "density", "log_weight")


@metric("insight", "train", "posterior")
def rare(draws: Draws) -> Estimate:
    """Share of the data whose codes lie where hardly a training row's does."""
    pair = SimpleNamespace(model=draws.model, guide=draws.guide)
    _ = draws.posterior  # says in words why there is none
    train = thin(draws.train, _ROWS)

    def density(columns: Columns, reference: Columns | None = None) -> Tensor:
        return latent_density(pair, columns, reference, components=_COMPONENTS, seed=draws.seed)

    if len(next(iter(train.values()))) < 2:
        raise Unavailable("one training row is too few to say where codes lie")
    known, new = density(train), density(draws.columns, train)
    try:
        hits, se = rare_share(known, new, _LEVEL, draws.seed)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = (
        f"codes less dense under the aggregated posterior than those of {_LEVEL:.0%} of "
        f"{len(known)} training rows; {_LEVEL} for data of the same distribution"
    )
    return Estimate(float(hits.mean()), se, len(hits), "unbiased", note=note, values=hits)


@metric("insight", *_OUTLIERS, better="higher")
def outlier_auroc(draws: Draws) -> Estimate:
    """How well the bound on log p(x) alone tells data from the outliers that are named."""
    note = "by the bound alone, which a simple image can raise whatever it shows"
    return _auroc(draws, *_bounds(draws), note)


@metric("insight", *_OUTLIERS, "x", better="higher")
def outlier_auroc_complexity(draws: Draws) -> Estimate:
    """How well the bound and the length in a general code tell data from the outliers."""
    known, new = _bounds(draws)
    known = known + code_length(draws.x)
    new = new + code_length(draws.outliers["x"])
    note = "by the bound and the length of the image in a general code (zlib)"
    return _auroc(draws, known, new, note)


@metric("insight", "outliers", "background", "density", better="higher")
def outlier_auroc_ratio(draws: Draws) -> Estimate:
    """How well the likelihood ratio to a background model tells data from the outliers."""
    options = {"particles": draws.particles, "seed": draws.seed}
    known, new = _bounds(draws)
    known = known - bound_of(draws.background, draws.columns, **options)
    new = new - bound_of(draws.background, draws.outliers, **options)
    note = "by the difference of the bounds of the run and of its background"
    return _auroc(draws, known, new, note)


def _bounds(draws: Draws) -> tuple[Tensor, Tensor]:
    """Return the bounds on log p(x) of data and of outliers, `(n,)` and `(m,)`."""

    def make() -> Tensor:
        return draws.bounds(draws.outliers).log_likelihood

    return draws.log_weight.log_likelihood, draws.once("outliers", make)


def _auroc(draws: Draws, known: Tensor, new: Tensor, note: str) -> Estimate:
    try:
        area = auroc(known, new)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    return Estimate(
        area.value,
        area.se,
        draws.n,
        "unbiased",
        particles=draws.particles,
        note=f"{note}; {len(known)} data against {len(new)} outliers; 1/2 tells nothing",
    )
