"""What a model says of its data."""

from __future__ import annotations

from types import SimpleNamespace

from torch import Tensor

from priory.evaluation.columns import Columns, thin
from priory.evaluation.draws import Draws
from priory.evaluation.insight.density import latent_density, rare_share
from priory.evaluation.metrics.metric import Metric
from priory.evaluation.record import Record
from priory.evaluation.sets import Unavailable

_ROWS = 1000  # training rows that are compared with
_COMPONENTS = 500  # of them make up the aggregated posterior
_LEVEL = 0.01


def rare(draws: Draws) -> Record:
    """Share of the data whose codes lie where hardly a training row's does."""
    pair = SimpleNamespace(model=draws.model, guide=draws.guide)
    _ = draws.posterior  # says in words why there is none
    train = thin(draws.train, _ROWS)

    def density(columns: Columns, reference: Columns | None = None) -> Tensor:
        return latent_density(pair, columns, reference, components=_COMPONENTS, seed=draws.seed)

    try:
        known, new = density(train), density(draws.columns, train)
        hits, se = rare_share(known, new, _LEVEL, draws.seed)
    except ValueError as error:
        raise Unavailable(str(error)) from error
    note = (
        f"codes less dense under the aggregated posterior than those of {_LEVEL:.0%} of "
        f"{len(known)} training rows; {_LEVEL} for data of the same law"
    )
    return Record(
        "rare", float(hits.mean()), se, len(hits), draws.seed, "unbiased", note=note, values=hits
    )


ROWS: dict[str, Metric] = {
    "rare": Metric(rare, "insight", ("train", "posterior")),
}
