"""One number of a report, with all that is needed to believe it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from torch import Tensor

from priory.evaluation.remedies import Doubt

Kind = Literal["exact", "lower bound", "upper bound", "unbiased", "biased", "not applicable"]
KINDS: tuple[str, ...] = get_args(Kind)


class Unavailable(ValueError):  # an answer, not a failure: hence the name
    """A number cannot be had of a pair, its data or so few rows; the message says why.

    A metric whose function raises it is "not applicable", for that reason.
    """


@dataclass(frozen=True)
class Estimate:
    """What a metric returns: a value with its standard error, and how it was obtained.

    The judging makes a `Record` of it, as it knows the metric's name and the seed.

    Args:
        value: the number, or `None` if and only if the metric is not applicable.
        se: standard error of the value over the data (or samples); `None` where there is none.
        n: number of data (or samples) that the value averages over.
        kind: what the number is to the quantity that it is named after: an `nll` from a K-sample
            bound is an upper bound on the negative log likelihood.
        unit: such as nats; empty for a pure number.
        particles: importance samples K per datum, where the value depends on them.
        note: anything that a reader must know; for "not applicable", the reason.
        steps: of annealing or of a chain, where the value depends on them.
        warnings: reasons to doubt the value, such as too few effective samples, each with what to
            do about it.
        values: the numbers that it averages, one per datum, `(n,)`, by which runs are compared in
            pairs; not a part of the JSON.
        quantity: what exactly is measured, where the name leaves it open: whether a likelihood is
            of x alone or of x and labels, of a density or a mass; in which features samples are
            compared. Runs are ranked by like quantities only.

    Example:
        >>> Estimate.mean(torch.tensor([1.0, 2.0, 3.0]), kind="unbiased", unit="nats").value
        2.0
    """

    value: float | None
    se: float | None
    n: int
    kind: Kind
    unit: str = ""
    particles: int | None = None
    note: str = ""
    steps: int | None = None
    warnings: tuple[Doubt, ...] = ()
    values: Tensor | None = field(default=None, repr=False, compare=False)
    quantity: str = ""

    @staticmethod
    def mean(
        values: Tensor,
        *,
        kind: Kind,
        unit: str = "",
        particles: int | None = None,
        note: str = "",
        steps: int | None = None,
        warnings: tuple[Doubt, ...] = (),
    ) -> Estimate:
        r"""Return a mean over data, with :math:`se = sd / \sqrt{n}`.

        A datum without a finite value makes the mean meaningless: there is then no value, and the
        note names the first such row.

        Args:
            values: one value per datum, `(n,)`.
            kind: as in `Estimate`.
            unit: as in `Estimate`.
            particles: as in `Estimate`.
            note: as in `Estimate`.
            steps: as in `Estimate`.
            warnings: as in `Estimate`.
        """
        n = len(values)
        if n == 0:
            reason = "there are no rows to average over"
            return Estimate(None, None, n, "not applicable", note=reason)
        bad = (~values.isfinite()).nonzero().flatten()
        if len(bad):
            first = int(bad[0])
            reason = (
                f"{len(bad)} of {n} rows have no finite value; "
                f"row {first} has {float(values[first])}"
            )
            return Estimate(None, None, n, "not applicable", note=reason)
        values = values.double()
        se = float(values.std()) / math.sqrt(n) if n > 1 else None
        if n == 1:
            alone = "one datum has no standard error"
            note = f"{note}; {alone}" if note else "one datum: no standard error"
        mean = float(values.mean())
        return Estimate(mean, se, n, kind, unit, particles, note, steps, warnings, values.cpu())

    @staticmethod
    def share(hits: Tensor, **facts: Any) -> Estimate:
        """Return a share of hits, whose error is not 0 where all or none are hits.

        There the error is that of a share with two hits and two misses more, as in Agresti and
        Coull 1998, Approximate is better than "exact" for interval estimation of binomial
        proportions.

        Args:
            hits: 0 or 1 for each datum, `(n,)`.
            facts: as in `mean`.
        """
        found = Estimate.mean(hits, **facts)
        if found.se != 0.0:
            return found
        n = len(hits) + 4
        share = (float(hits.sum()) + 2) / n
        return replace(found, se=math.sqrt(share * (1 - share) / n))

    def record(self, name: str, seed: int = 0) -> Record:
        """Return the record of a metric of this name.

        Args:
            name: the metric's.
            seed: of the evaluation.

        Raises:
            ValueError: if the value is not a number, or the fields contradict each other.
        """
        facts = {f.name: getattr(self, f.name) for f in fields(Estimate)}
        return Record(name=name, seed=seed, **facts)


@dataclass(frozen=True, kw_only=True)
class Record(Estimate):
    """A metric's estimate under its name.

    Args:
        name: the metric's name, by which a report finds it.
        seed: seed of the random numbers behind it.

    Raises:
        ValueError: if the value is not a number, a warning has no remedy, or the fields contradict
            each other.

    Example:
        >>> print(Record(86.347, 0.112, 10000, "upper bound", "nats", name="nll"))
        nll = 86.35 ± 0.11 nats (upper bound, n = 10000)
    """

    name: str
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if (self.value is None) != (self.kind == "not applicable"):
            raise ValueError(
                f"{self.name}: value is {self.value} and kind {self.kind!r}; value is None if and "
                "only if the kind is 'not applicable'"
            )
        if self.value is None and not self.note:
            raise ValueError(
                f"{self.name}: a metric that is not applicable needs its reason as note"
            )
        for label, number in (("value", self.value), ("se", self.se)):
            if number is not None and not math.isfinite(number):
                raise ValueError(
                    f"{self.name}: {label} is {number}; a record holds finite numbers, use "
                    "not_applicable(name, reason)"
                )
        for warning in self.warnings:
            if not isinstance(warning, Doubt):
                raise ValueError(
                    f"{self.name}: a warning is a Doubt(text, remedy), with what to do about it, "
                    f"got {warning!r}"
                )

    @property
    def applicable(self) -> bool:
        """Whether the record has a value."""
        return self.value is not None

    @property
    def text(self) -> str:
        """The value with its standard error, rounded to two digits of the latter."""
        return "n/a" if self.value is None else format_value(self.value, self.se)

    @property
    def title(self) -> str:
        """The name as a reader sees it."""
        return self.name.replace("_", " ")

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name}: not applicable ({self.note})"
        facts: list[str] = [self.kind]
        facts += [unusual] if (unusual := unusual_likelihood(self.quantity)) else []
        if self.particles is not None:
            facts.append(f"K = {self.particles}")
        if self.steps is not None:
            facts.append(f"{self.steps} steps")
        facts.append(f"n = {self.n}")
        line = f"{self.name} = {self.text}{' ' * bool(self.unit)}{self.unit} ({', '.join(facts)})"
        return "\n".join([line, *(f"  warning: {warning}" for warning in self.warnings)])

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain values, without the numbers by datum."""
        first = ("name", "value", "se", "n", "seed")
        rest = (f.name for f in fields(self) if f.name not in (*first, "values", "warnings"))
        warnings = [warning.as_dict() for warning in self.warnings]
        return {name: getattr(self, name) for name in (*first, *rest)} | {"warnings": warnings}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """Return the record that `as_dict` wrote.

        Args:
            values: plain values.
        """
        warnings = tuple(Doubt.read(warning) for warning in values.get("warnings", ()))
        return cls(**{**values, "warnings": warnings})


def unusual_likelihood(quantity: str) -> str:
    """Return what a likelihood is of, where it is not of x alone.

    Args:
        quantity: of a record.

    Example:
        >>> unusual_likelihood("log p(x, y): x a density, y a mass")
        'log p(x, y)'
    """
    name = quantity.partition(":")[0]
    return name if name.startswith("log p(") and name != "log p(x)" else ""


def not_applicable(name: str, reason: str, *, n: int = 0, seed: int = 0) -> Record:
    """Return the record of a metric that has no value here.

    Args:
        name: the metric's name.
        reason: why: what is missing.
        n: number of data looked at.
        seed: seed of the evaluation.
    """
    return Record(None, None, n, "not applicable", name=name, seed=seed, note=reason)


def mean_record(name: str, values: Tensor, *, seed: int, **facts: Any) -> Record:
    """Return the record of a mean over data, as `Estimate.mean` computes it.

    Args:
        name: the metric's name.
        values: one value per datum, `(n,)`.
        seed: seed of the evaluation.
        facts: as in `Estimate.mean`.
    """
    return Estimate.mean(values, **facts).record(name, seed)


def format_value(value: float, se: float | None = None) -> str:
    """Write a number with its standard error, both to two digits of the standard error.

    Args:
        value: the number.
        se: its standard error, if any.

    Example:
        >>> format_value(86.3471, 0.1123), format_value(0.000123, 0.000031), format_value(25.0)
        ('86.35 ± 0.11', '0.000123 ± 0.000031', '25')
    """
    if se is None:
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    if se <= 1e-12 * max(1.0, abs(value)):
        return f"{value:.6g} ± 0"
    decimals = max(0, 1 - math.floor(math.log10(se)))
    if decimals > 6 or abs(value) >= 1e7:
        return f"{value:.2e} ± {se:.1e}"
    return f"{value:.{decimals}f} ± {se:.{decimals}f}"
