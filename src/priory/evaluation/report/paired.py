"""Differences between runs on the same test rows: far sharper than the difference of two means."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from priory.evaluation.record import Record
from priory.evaluation.report.cells import Entry, unlike
from priory.evaluation.statistics import holm
from priory.evaluation.table import METRICS

LEVEL = 0.05
_LEAST = -690.0  # logarithm of the smallest p-value that differs from 0


@dataclass(frozen=True)
class Difference:
    """A label's metric less another's, paired by test row.

    Args:
        metric: its name.
        label: what is compared.
        against: what it is compared with.
        value: mean over the rows of the label's value less the other's; `None` where the two
            cannot be paired.
        se: standard error, sqrt(rows_se² + seeds_se²).
        low: lower end of the interval, which holds the difference in at least 95% of cases.
        high: upper end.
        p: two-sided p-value of no difference, by the same rule as the interval.
        adjusted: the same after Holm's correction.
        correlation: of the two labels' values over the rows.
        n: test rows.
        rows_se: the part of the standard error that comes from the rows.
        seeds_se: the part that comes from training anew; `None` where each label has one seed.
        seeds: how many runs of the label and of the other.
        verdict: what the label is: better, worse, or not distinguishable.
        note: the reason, where there is no value.
    """

    metric: str
    label: str
    against: str
    value: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    adjusted: float | None = None
    correlation: float | None = None
    n: int = 0
    rows_se: float | None = None
    seeds_se: float | None = None
    seeds: tuple[int, int] = (0, 0)
    verdict: str = ""
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the difference as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Difference:
        """Return the difference that `as_dict` wrote.

        Args:
            values: plain values.
        """
        first, second = values["seeds"]
        return cls(**{**values, "seeds": (first, second)})


def paired_differences(
    entries: Sequence[Entry], metric: str, *, against: str | None = None
) -> tuple[Difference, ...]:
    """Compare each label's metric with one label's, paired by test row.

    A label's values are first averaged over its seeds, row by row. With d_i the difference of two
    such averages on row i, and s_a, s_b the standard deviations of the labels' means over their S_a
    and S_b seeds,

        value = mean of d_i,    se² = var(d) / n + s_a² / S_a + s_b² / S_b;

    with one seed a label's part is unknown and left out: the interval then says how well these two
    runs are distinguished, not their recipes. The parts s_j² of the variance have few and unlike
    degrees of freedom: S - 1 of the seeds', n - 1 of the rows'. Banerjee's interval weighs each
    part by its own quantile of Student's t,

        value ± sqrt(sum over j of t_j(0.975)² s_j²),

    and holds the truth in at least 95% of cases whatever the true variances are, where one t with
    Satterthwaite's degrees of freedom rejects up to 12% of true equalities at two seeds. The
    price is width: two seeds of each label seldom distinguish two recipes. p-values are corrected
    by Holm's method: over the comparisons made, or, where the label to compare with is the best and
    so was chosen by the same rows, over all pairs of labels.

    References: Banerjee, Approximate confidence interval for linear functions of means of k
    populations when the population variances are not equal, 1960; Holm, A simple sequentially
    rejective multiple test procedure, 1979.

    Args:
        entries: the runs.
        metric: its name.
        against: the label to compare with; the best one if `None`, or the first if the metric has
            no better direction.

    Returns:
        One difference for each other label that has the metric; without a value and with the reason
        where it cannot be paired.

    Raises:
        ValueError: if no run has the label.

    Example:
        >>> found = paired_differences(table.entries, "nll")
        >>> [difference.label for difference in found]
        ['vamp']
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.label, []).append(entry)
    if against is not None and against not in groups:
        raise ValueError(f"against must be one of {', '.join(groups)}, got {against!r}")
    having = {label: group for label, group in groups.items() if _has(group, metric)}
    if len(having) < 2 or (against is not None and against not in having):
        return ()
    reason = _obstacle(having, metric)
    means = {label: _mean(group, metric) for label, group in having.items()}
    better = METRICS[metric].better if metric in METRICS else None
    reference = against or _best(means, better)
    others = [label for label in having if label != reference]
    if reason:
        return tuple(Difference(metric, label, reference, note=reason) for label in others)
    values = {label: _values(group, metric) for label, group in having.items()}
    chosen = against is None and better is not None  # by the same rows that are compared
    pairs = list(itertools.combinations(having, 2)) if chosen else [(o, reference) for o in others]
    raw = {pair: _contrast(values[pair[0]], values[pair[1]])["p"] for pair in pairs}
    tests = torch.tensor([*raw.values()], dtype=torch.float64)
    adjusted = dict(zip(raw, holm(tests).tolist(), strict=True))
    found = []
    for label in others:
        pair = (label, reference) if (label, reference) in adjusted else (reference, label)
        facts = _contrast(values[label], values[reference])
        made = Difference(metric, label, reference, **facts, adjusted=adjusted[pair])
        found.append(replace(made, verdict=_verdict(made, better)))
    return tuple(found)


def mean_interval(group: Sequence[Entry], metric: str) -> tuple[float, float] | None:
    """Return the 95% interval of one label's mean, of new rows and of new seeds.

    By the rule of `paired_differences`, with one label's parts: the rows' and the seeds'. With one
    seed it says nothing of another training.

    Args:
        group: the label's runs.
        metric: its name.

    Returns:
        Its ends; `None` where no error is known.

    Example:
        >>> low, high = mean_interval(table.entries[:1], "nll")
        >>> low < table.entries[0].report["nll"].value < high
        True
    """
    records = [e.report[metric] for e in group]
    values = [r.value for r in records if r.value is not None]
    n = records[0].n
    if all(r.values is not None and len(r.values) == n > 1 for r in records):
        parts = [(float(_values(group, metric).mean(0).var()) / n, n - 1)]
    else:
        errors = [r.se for r in records if r.se is not None]
        parts = [((sum(errors) / len(errors)) ** 2, max(1, n - 1))] if errors else []
    if len(values) > 1:
        parts.append((statistics.variance(values) / len(values), len(values) - 1))
    if not values or not any(part for part, _ in parts):
        return None
    width, middle = _half_width(LEVEL, parts), statistics.fmean(values)
    return middle - width, middle + width


def _has(group: Sequence[Entry], metric: str) -> bool:
    return all(metric in e.report and e.report[metric].applicable for e in group)


def _mean(group: Sequence[Entry], metric: str) -> float:
    values = [e.report[metric].value for e in group]
    return sum(value for value in values if value is not None) / len(group)


def _best(means: Mapping[str, float], better: str | None) -> str:
    if better is None:
        return next(iter(means))
    return (min if better == "lower" else max)(means, key=means.__getitem__)


def _obstacle(groups: Mapping[str, Sequence[Entry]], metric: str) -> str:
    """Return why the runs cannot be paired; empty if they can."""
    records = [e.report[metric] for group in groups.values() for e in group]
    reports = [e.report for group in groups.values() for e in group]
    if any(record.values is None for record in records):
        return "it has no values by test row, or its report was read from a file without them"
    if any(not _is_mean(record) for record in records):
        return "its value is not the mean of its values by test row"
    if differing := unlike(records):
        return f"the runs were judged with {differing}"
    known = [report for report in reports if report.digest]
    if any(not known[0].same_rows(report) for report in known):
        return "the runs were judged with different rows"
    facts: dict[str, list[Any]] = {
        "splits": [report.split for report in reports],
        "seeds of the evaluation": [record.seed for record in records],
    }
    for what, found in facts.items():
        distinct = list(dict.fromkeys(found))
        if len(distinct) > 1:
            return f"the runs were judged with different {what}: {', '.join(map(str, distinct))}"
    return "" if records[0].n > 1 else "one row has no standard error"


def _is_mean(record: Record) -> bool:
    if record.values is None or record.value is None or len(record.values) != record.n:
        return False
    slack = 0.1 * (record.se or 0.0) + 1e-6 * abs(record.value)
    return abs(float(record.values.double().mean()) - record.value) <= slack


def _values(group: Sequence[Entry], metric: str) -> Tensor:
    """Return the values by seed and row, `(seeds, n)`."""
    rows = [e.report[metric].values for e in group]
    return torch.stack([row.double() for row in rows if row is not None])


def _contrast(a: Tensor, b: Tensor) -> dict[str, Any]:
    """Return all that the values of two labels, each `(seeds, n)`, say of their difference."""
    first, second = a.mean(0), b.mean(0)
    gap = first - second
    value, n = float(gap.mean()), len(gap)
    parts = [(float(gap.var()) / n, n - 1)]
    parts += [(float(s.mean(1).var()) / len(s), len(s) - 1) for s in (a, b) if len(s) > 1]
    variance = sum(part for part, _ in parts)
    se = math.sqrt(variance)
    if se <= 1e-12 * max(1.0, abs(value)):
        p, width = (1.0, 0.0) if abs(value) <= 1e-12 else (0.0, 0.0)
    else:
        p, width = _p_value(value, parts), _half_width(LEVEL, parts)
    spread = float(first.std() * second.std())
    joint = float(((first - first.mean()) * (second - second.mean())).sum()) / (n - 1)
    return {
        "value": value,
        "se": se,
        "low": value - width,
        "high": value + width,
        "p": p,
        "correlation": joint / spread if spread > 0.0 else None,
        "n": n,
        "rows_se": math.sqrt(parts[0][0]),
        "seeds_se": math.sqrt(variance - parts[0][0]) if len(parts) > 1 else None,
        "seeds": (len(a), len(b)),
    }


def _half_width(level: float, parts: Sequence[tuple[float, int]]) -> float:
    """Return half the width of Banerjee's interval from a variance's parts and their freedom."""
    from scipy.special import stdtrit

    quantiles = (math.sqrt(v) * float(stdtrit(freedom, level / 2.0)) for v, freedom in parts if v)
    return math.hypot(*quantiles)


def _p_value(value: float, parts: Sequence[tuple[float, int]]) -> float:
    """Return the level at which the interval just reaches 0; 0 below the smallest number."""
    from scipy.optimize import bisect

    def excess(log_level: float) -> float:
        return _half_width(math.exp(log_level), parts) - abs(value)

    if excess(0.0) >= 0.0:
        return 1.0
    return math.exp(bisect(excess, _LEAST, 0.0, xtol=1e-13)) if excess(_LEAST) > 0.0 else 0.0


def _verdict(found: Difference, better: str | None) -> str:
    if found.adjusted is None or found.value is None or found.adjusted > LEVEL:
        return "not distinguishable"
    if better is None:
        return "lower" if found.value < 0.0 else "higher"
    return "better" if (found.value < 0.0) == (better == "lower") else "worse"
