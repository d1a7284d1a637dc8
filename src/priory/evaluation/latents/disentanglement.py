"""Disentanglement: whether each latent stands for one known factor of the data."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.rows import Columns, thin
from priory.evaluation.sample_sets import once
from priory.evaluation.statistics import pseudo_values

_BINS = 20  # of a continuous variable, and the most values of one that is taken as it is
_TREES = 30
_LEAST = 10  # rows
_MOST = 2000  # rows of each set that forests see


class DCI(NamedTuple):
    """How well forests predict factors from latents, and from how few.

    Args:
        disentanglement: 1 where each latent predicts one factor, 0 where it predicts all alike.
        completeness: 1 where each factor is predicted from one latent, 0 from all alike.
        informativeness: of each test row, `(n,)`, averaged over factors: 1 for a class that is
            predicted rightly, else 0; 1 minus the squared error over the variance for a number.
        importances: share of each latent in the prediction of each factor, `(latent, factors)`.
    """

    disentanglement: float
    completeness: float
    informativeness: Tensor
    importances: Tensor


def is_class(factor: Tensor) -> bool:
    """Return whether a factor has few and whole values: classes, not numbers.

    Args:
        factor: `(n,)`.
    """
    return bool((factor == factor.floor()).all()) and len(factor.unique()) <= _BINS


def discretise(x: Tensor) -> Tensor:
    """Return the place of each value among a variable's values, or among 20 bins of equal width.

    Args:
        x: `(n,)`.
    """
    values, places = x.double().cpu().unique(return_inverse=True)
    if len(values) <= _BINS:
        return places
    low, high = values[0], values[-1]
    return ((x.double().cpu() - low) * (_BINS / (high - low))).long().clamp_max(_BINS - 1)


def mig_values(z: Tensor, factors: Tensor) -> Tensor:
    r"""Linearise the mutual information gap: one value per row, whose mean it is.

    .. math:: \frac{1}{K} \sum_k \frac{1}{H(v_k)} \big( I(z_{j_k}; v_k)
        - \max_{j \ne j_k} I(z_j; v_k) \big), \quad j_k = \arg\max_j I(z_j; v_k)

    By counts in bins, see `discretise`. See `pseudo_values` for the linearisation.

    Chen, Li, Grosse and Duvenaud 2018, Isolating sources of disentanglement in variational
    autoencoders.

    Args:
        z: latents, such as posterior means, `(n, latent)`.
        factors: `(n, factors)`.

    Raises:
        Unavailable: if a factor has a single value.
    """
    _check(z, factors)
    codes = torch.stack([discretise(column) for column in z.T], 1)
    values = [discretise(factor) for factor in factors.T]
    bins = int(codes.max()) + 1

    def statistic(weights: Tensor) -> Tensor:
        gaps = []
        for value in values:
            width = int(value.max()) + 1
            cells = (codes * width + value.unsqueeze(1)).T
            joint = weights.new_zeros(len(cells), bins * width)
            joint = joint.scatter_add(1, cells, weights.expand(cells.shape)) / weights.sum()
            table = joint.view(len(cells), bins, width)
            entropy = _entropy(table.sum(1))  # of the factor, once per latent
            information = _entropy(table.sum(2)) + entropy - _entropy(joint)
            gaps.append(_lead(information) / entropy[0])
        return torch.stack(gaps).mean()

    return pseudo_values(statistic, len(z))


def sap_values(z: Tensor, factors: Tensor) -> Tensor:
    r"""Linearise the separated attribute predictability: one value per row, whose mean it is.

    .. math:: \frac{1}{K} \sum_k \big( S_{j_k k} - \max_{j \ne j_k} S_{jk} \big), \quad
        j_k = \arg\max_j S_{jk}

    S is how well a latent alone predicts a factor linearly: the squared correlation with a number;
    for classes the accuracy, averaged over classes, of the nearest class mean (the paper has a
    support vector machine's). See `pseudo_values`; the class means are held fixed.

    Kumar, Sattigeri and Balakrishnan 2018, Variational inference of disentangled latent concepts
    from unlabeled observations.

    Args:
        z: latents, such as posterior means, `(n, latent)`.
        factors: `(n, factors)`.

    Raises:
        Unavailable: if a factor has a single value.
    """
    _check(z, factors)
    z = z.double().cpu()
    z = (z - z.mean(0)) / z.std(0, correction=0).clamp_min(1e-300)
    parts: list[tuple[bool, Tensor, Tensor]] = []
    for factor in factors.double().cpu().T:
        if is_class(factor):
            member = torch.nn.functional.one_hot(discretise(factor)).double()
            centres = (member.T @ z) / member.sum(0).unsqueeze(1)
            nearest = (z.unsqueeze(1) - centres).abs().argmin(1)  # (n, latent)
            parts.append((True, (nearest == discretise(factor).unsqueeze(1)).double(), member))
        else:
            parts.append((False, z, ((factor - factor.mean()) / factor.std()).unsqueeze(1)))

    def statistic(weights: Tensor) -> Tensor:
        weights = weights / weights.sum()
        gaps = []
        for classes, left, right in parts:
            if classes:
                share = weights.unsqueeze(1) * right / (weights @ right)
                gaps.append(_lead((share.T @ left).mean(0)))
            else:
                a, b = left - weights @ left, right - weights @ right
                variance = (weights @ a.square()).clamp_min(1e-300) * (weights @ b.square())
                gaps.append(_lead((weights @ (a * b)).square() / variance))
        return torch.stack(gaps).mean()

    return pseudo_values(statistic, len(z))


def dci(
    z: Tensor,
    factors: Tensor,
    test: tuple[Tensor, Tensor],
    seed: int = 0,
) -> DCI:
    r"""Measure disentanglement, completeness and informativeness by random forests.

    .. math:: D = \sum_i \rho_i \Big( 1 + \sum_k P_{ik} \log_K P_{ik} \Big), \quad
        C = \frac{1}{K} \sum_k \Big( 1 + \sum_i \tilde P_{ik} \log_D \tilde P_{ik} \Big)

    P are the importances of the latents by factor, made shares of each latent, and P~ of each
    factor; rho is a latent's share of all importance. A single factor or latent gives D or C of 1.

    Eastwood and Williams 2018, A framework for the quantitative evaluation of disentangled
    representations.

    Args:
        z: latents that the forests are fitted to, `(m, latent)`.
        factors: their factors, `(m, factors)`.
        test: latents and factors that the forests predict, `(n, latent)` and `(n, factors)`.
        seed: of the forests.

    Raises:
        Unavailable: if a factor has a single value.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    _check(z, factors)
    fit, query = z.double().cpu().numpy(), test[0].double().cpu().numpy()
    importances, scores = [], []
    for index, factor in enumerate(factors.double().cpu().T):
        truth = test[1][:, index].double().cpu()
        if is_class(factor):
            forest: Any = RandomForestClassifier(_TREES, max_features=None, random_state=seed)
        else:
            forest = RandomForestRegressor(_TREES, random_state=seed)
        forest.fit(fit, factor.numpy())
        found = torch.from_numpy(np.asarray(forest.predict(query), dtype=np.float64))
        if is_class(factor):
            scores.append((found == truth).double())
        else:
            scores.append(1 - (found - truth).square() / truth.var(correction=0))
        importances.append(torch.from_numpy(forest.feature_importances_).double())
    shares = torch.stack(importances, 1)
    weight = shares.sum(1) / shares.sum()
    by_latent = shares / shares.sum(1, keepdim=True).clamp_min(1e-300)
    return DCI(
        float(weight @ _concentration(by_latent)),
        float(_concentration(shares.T).mean()),
        torch.stack(scores).mean(0),
        shares,
    )


def _concentration(shares: Tensor) -> Tensor:
    """Return 1 minus the entropy of each row over its largest, `(rows,)`."""
    count = shares.shape[1]
    return 1 - _entropy(shares) / math.log(count) if count > 1 else torch.ones(len(shares)).double()


def _lead(scores: Tensor) -> Tensor:
    """Return by how much the best is ahead of the second."""
    best = scores.topk(min(2, len(scores))).values
    return best[0] - best[1] if len(best) > 1 else best[0]


def _entropy(p: Tensor) -> Tensor:
    """Return the entropy over the last dim in nats; its slope at 0 is without meaning."""
    return -torch.special.xlogy(p, p.clamp_min(1e-300)).sum(-1)


def _check(z: Tensor, factors: Tensor) -> None:
    if z.dim() != 2 or factors.dim() != 2 or len(z) != len(factors):
        raise ValueError(
            "latents and factors must have shapes (n, latent) and (n, factors), got "
            f"{tuple(z.shape)} and {tuple(factors.shape)}"
        )
    constant = (factors == factors[:1]).all(0).nonzero().flatten()
    if len(constant):
        raise Unavailable(f"factor {int(constant[0])} has a single value: nothing to predict")


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


@once
def _dci(draws: Draws) -> DCI:
    z, factors = _latents(draws)
    if _from_train(draws) and draws.reference is not None and draws.train_latents is not None:
        check_finite("posterior means of training rows", draws.train_latents.mean)
        fit = {"z": draws.train_latents.mean, "factors": _factors(draws.reference)}
        test = {"z": z, "factors": factors}
    else:
        fit = {"z": z[::2], "factors": factors[::2]}
        test = {"z": z[1::2], "factors": factors[1::2]}
    fit, test = thin(fit, _MOST), thin(test, _MOST)
    return dci(fit["z"], fit["factors"], (test["z"], test["factors"]), draws.seed)
