"""Whether each latent stands for one known factor of the data."""

from __future__ import annotations

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.latents.factors import DCI, dci, mig_values, sap_values
from priory.evaluation.record import Estimate
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.rows import Columns, thin
from priory.evaluation.sample_sets import Unavailable

_LEAST = 10  # rows
_MOST = 2000  # rows of each set that forests see


# Without `latents` among the needs: that there are no factors is the reason to be told first.
@metric("latents", better="higher")
def mig(draws: Draws) -> Estimate:
    """Mutual information gap between a factor's best latent and its second, over its entropy."""
    z, factors = _latents(draws)
    note = "20 bins; biased by the counts of small n"
    return Estimate.mean(mig_values(z, factors), kind="biased", note=note)


@metric("latents", better="higher")
def sap(draws: Draws) -> Estimate:
    """Gap between a factor's best linear predictor among the latents and the second."""
    z, factors = _latents(draws)
    note = "classes by the nearest class mean"
    return Estimate.mean(sap_values(z, factors), kind="biased", note=note)


@metric("latents", better="higher")
def dci_disentanglement(draws: Draws) -> Estimate:
    """Whether each latent predicts one factor alone, by a forest's importances."""
    found = _dci(draws)
    if found.importances.shape[1] < 2:
        raise Unavailable("needs at least 2 factors, got 1")
    return _forest(found.disentanglement, draws)


@metric("latents", better="higher")
def dci_completeness(draws: Draws) -> Estimate:
    """Whether each factor is predicted by one latent alone, by a forest's importances."""
    found = _dci(draws)
    if found.importances.shape[0] < 2:
        raise Unavailable("needs at least 2 latent dimensions, got 1")
    return _forest(found.completeness, draws)


@metric("latents", better="higher")
def dci_informativeness(draws: Draws) -> Estimate:
    """How well a forest predicts the factors from the latents: accuracy of classes, R^2 else."""
    return Estimate.mean(_dci(draws).informativeness, kind="biased", note=_note(draws))


def _forest(value: float, draws: Draws) -> Estimate:
    note = f"{_note(draws)}; no standard error: forests are fitted once"
    n = len(_dci(draws).informativeness)
    return Estimate(value, None, n, "biased", note=note)


def _note(draws: Draws) -> str:
    found = "training rows" if _from_train(draws) else "every second row"
    return f"forests fitted to {found}, at most {_MOST}"


def _from_train(draws: Draws) -> bool:
    return draws.reference is not None and bool(_names(draws.reference))


def _names(columns: Columns) -> list[str]:
    return [name for name in columns if name == "factors" or name.startswith("factor_")]


def _factors(columns: Columns) -> Tensor:
    """Return the factors, `(n, factors)`, float64."""
    names = _names(columns)
    if not names:
        found = ", ".join(columns)
        raise Unavailable(f"the data have no known factors: no column factors or factor_*: {found}")
    return torch.cat([columns[n].flatten(1) if columns[n].dim() > 1 else columns[n].unsqueeze(1)
                      for n in names], 1).double().cpu()  # fmt: skip


def _latents(draws: Draws) -> tuple[Tensor, Tensor]:
    factors = _factors(draws.columns)
    if draws.n < _LEAST:
        raise Unavailable(f"needs at least {_LEAST} rows, got {draws.n}")
    constant = (factors == factors[:1]).all(0).nonzero().flatten()
    if len(constant):
        raise Unavailable(f"factor {int(constant[0])} has a single value: nothing to tell apart")
    z = draws.latents.mean
    check_finite("posterior means", z)
    return z.double().cpu(), factors


def _dci(draws: Draws) -> DCI:
    return draws.once("dci", lambda: _measure(draws))


def _measure(draws: Draws) -> DCI:
    z, factors = _latents(draws)
    if _from_train(draws) and draws.reference is not None and draws.train_latents is not None:
        check_finite("posterior means of training rows", draws.train_latents.mean)
        fit = {"z": draws.train_latents.mean, "factors": _factors(draws.reference)}
        test = {"z": z, "factors": factors}
    else:
        fit = {"z": z[::2], "factors": factors[::2]}
        test = {"z": z[1::2], "factors": factors[1::2]}
    fit, test = thin(fit, _MOST), thin(test, _MOST)
    try:
        return dci(fit["z"], fit["factors"], (test["z"], test["factors"]), draws.seed)
    except ValueError as error:
        raise Unavailable(str(error)) from error
