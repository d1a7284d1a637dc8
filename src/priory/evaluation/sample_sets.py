"""Two sets of rows, generated samples and data: all that a pair, or two arrays, have in common."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from priory.data.missing import SEEN
from priory.data.toys import Mixture
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import Columns, has_missing, has_unknown, labelled_rows, rows_of, thin
from priory.evaluation.samples.pairwise import median_bandwidths
from priory.evaluation.subject import SAMPLES
from priory.inference.phases.arguments import likelihood_at
from priory.likelihoods import Categorical
from priory.likelihoods import Columns as MixedColumns
from priory.likelihoods.values import is_binary

Anchor = Literal["real", "baseline"]
_T = TypeVar("_T")
_FEW = 10  # rows below which a standard error is itself a guess
_DISTINCT = 0.9


class Units(NamedTuple):
    """The units of standardised data: own = mean + scale * standardised.

    Args:
        mean: of each feature, in the data's own units.
        scale: the length of a standardised unit, in the data's own.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, data: Any) -> Units | None:
        """Return the units of standardised data, `None` where data are as they were given.

        Args:
            data: a `Data`, or anything else.
        """
        mean, scale = getattr(data, "mean", None), getattr(data, "scale", None)
        if not isinstance(mean, Tensor) or not isinstance(scale, Tensor):
            return None
        return cls(mean.double().cpu(), scale.double().cpu())

    @property
    def log_scale(self) -> float:
        """What a log density in the data's own units is less by, in nats per datum."""
        return float(self.scale.log().sum())

    def log_volume(self, columns: Columns) -> Tensor | float:
        """Return what a log density in the data's own units is less by, of what is seen.

        Args:
            columns: the rows, with a mask `seen` where entries may be missing.

        Returns:
            One number for all rows, or one for each, `(n,)`.
        """
        if SEEN not in columns:
            return self.log_scale
        return rows_of(columns[SEEN].cpu()).double() @ self.scale.log().reshape(-1)

    def own(self, x: Tensor) -> Tensor:
        """Return standardised rows in the data's own units, in double precision.

        Args:
            x: `(n, *shape)`.
        """
        return (x.double().cpu() * self.scale + self.mean).reshape(x.shape)


class _OfPair:
    """A draw that only a pair can give: `Draws` puts its own in the place of it."""

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        raise Unavailable("there are samples alone, no pair whose densities or latents can be had")


class Sets:
    """Generated samples beside data, made lazily: a metric reads what it declares to need.

    A draw that cannot be had raises `Unavailable` with the reason; any other error is the pair's
    own, and goes through as it is.

    Args:
        columns: the data to compare with.
        generated: samples to judge, `(m, *shape)`.
        reference: training columns, for neighbours, features and anchors, if there are any.
        n_samples: at most so many rows of each set are compared, evenly spaced.
        features: what sample metrics look at: a name in `samples.features.EXTRACTORS`, or an
            extractor.
        mixture: the distribution of the data, where it is a known mixture.
        seed: seed of all draws.
        units: what standardised data are in, if they are.
        sizes: of a table with categories the number of each column's levels, 0 of numbers; such
            rows are compared as `coded` makes them.
    """

    def __init__(
        self,
        columns: Columns,
        generated: Tensor | None = None,
        *,
        reference: Columns | None = None,
        n_samples: int = SAMPLES,
        features: Any = "auto",
        mixture: Mixture | None = None,
        seed: int = 0,
        units: Units | None = None,
        sizes: Sequence[int] = (),
    ) -> None:
        self.mixture, self.units, self.sizes = mixture, units, tuple(sizes)
        self.columns, self.reference = columns, reference
        self.n_samples, self.features, self.seed = n_samples, features, seed
        self.n = len(next(iter(columns.values())))
        self._given = generated
        self._anchor: Anchor | None = None
        self._own: dict[Hashable, Any] = {}
        self._common: dict[Hashable, Any] = {}

    model: Any = _OfPair()
    guide: Any = _OfPair()
    particles: Any = _OfPair()
    steps: Any = _OfPair()
    few: Any = _OfPair()
    codes: Any = _OfPair()
    phase: Any = _OfPair()
    chain: Any = _OfPair()
    density: Any = _OfPair()
    exact: Any = _OfPair()
    estimated: Any = _OfPair()
    log_weight: Any = _OfPair()
    quantity: Any = _OfPair()
    log_scale: Any = _OfPair()
    latent_site: Any = _OfPair()
    latents: Any = _OfPair()
    posterior: Any = _OfPair()
    log_aggregate: Any = _OfPair()
    train_latents: Any = _OfPair()
    reconstructions: Any = _OfPair()
    outliers: Any = _OfPair()
    background: Any = _OfPair()
    generate: Any = _OfPair()

    def once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return what `make` makes, made once for these draws; an anchor has its own.

        Args:
            key: names it.
            make: makes it.
        """
        if key not in self._own:
            self._own[key] = make()
        found: _T = self._own[key]
        return found

    def common(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return what `make` makes, made once for these draws and their anchors alike.

        Args:
            key: names it.
            make: makes it, of the data alone.
        """
        if key not in self._common:
            self._common[key] = make()
        found: _T = self._common[key]
        return found

    def anchored(self, anchor: Anchor) -> Sets:
        """Return the same draws with other samples: real data, or data without their structure.

        Args:
            anchor: real: training rows, or half of the rows against the other half where there are
                none; baseline: each feature drawn by itself from its marginal.
        """
        return self.common(("anchor", anchor), lambda: self._as(anchor))

    def labelled(self) -> Sets:
        """Return the same draws for the rows whose label is known alone; these if all are.

        Raises:
            Unavailable: if no label is known.
        """
        unknown = (has_unknown(columns) for columns in (self.columns, self.reference))
        if not any(unknown):
            return self
        return self.common("labelled rows", self._labelled)

    def _labelled(self) -> Sets:
        other = copy.copy(self)
        for kind in type(self).__mro__:
            for name, value in vars(kind).items():
                if isinstance(value, cached_property):
                    other.__dict__.pop(name, None)
        other._own, other._common = {}, {}
        other.columns = labelled_rows(self.columns)
        other.reference = None if self.reference is None else labelled_rows(self.reference)
        other.n = len(next(iter(other.columns.values())))
        for what, columns in (("data", other.columns), ("training rows", other.reference)):
            if columns is not None and not len(next(iter(columns.values()))):
                raise Unavailable(f"no label of the {what} is known")
        return other

    def _as(self, anchor: Anchor) -> Sets:
        other = copy.copy(self)
        other._anchor, other._own = anchor, {}
        for name in ("generated", "real"):
            other.__dict__.pop(name, None)
        return other

    @property
    def anchor(self) -> Anchor | None:
        """What stands in the place of the generated samples, if anything does."""
        return self._anchor

    @cached_property
    def x(self) -> Tensor:
        """The data, `(n, *shape)`."""
        if "x" not in self.columns:
            raise Unavailable(f"the data have no column x, only {', '.join(self.columns)}")
        if self.sizes:
            raise Unavailable("x has columns of categories, whose numbers are names, no values")
        return self._own_x

    @property
    def _own_x(self) -> Tensor:
        """The data, whatever their columns hold."""
        if has_missing(self.columns):
            raise Unavailable("x has missing entries, for which no value may be taken")
        return self.columns["x"]

    def compared(self, x: Tensor) -> Tensor:
        """Return rows of x as sets of rows are compared, `(n, d)`: of mixed tables coded.

        Args:
            x: `(n, *shape)`.
        """
        if not self.sizes:
            return rows_of(x)
        numbers = self._own_x if self.reference is None else self.reference["x"]
        return coded(rows_of(x), self.sizes, rows_of(numbers))

    @cached_property
    def labels(self) -> Tensor:
        """The labels, `(n,)`."""
        if "y" not in self.columns:
            raise Unavailable("the data have no labels (no column y)")
        return self.columns["y"]

    @cached_property
    def train(self) -> Columns:
        """The training columns."""
        if self.reference is None or "x" not in self.reference:
            raise Unavailable("there are no training rows")
        return self.reference

    @cached_property
    def flags(self) -> tuple[str, ...]:
        """What makes every number of these data less than it seems."""
        if "x" not in self.columns:
            return ()
        found = _warnings_of(self.columns["x"])
        binary = self._given is not None and is_binary(self._own_x)
        if self._given is not None and binary != is_binary(self._given):
            kinds = ("binary", "not") if binary else ("not binary", "are")
            found += (
                f"the data are {kinds[0]} and the samples {kinds[1]}, which alone sets them apart",
            )
        return found

    @cached_property
    def real(self) -> Tensor:
        """Data that generated samples are compared with, `(m, d)`."""
        rows = self._own_x[1::2] if self._halved else self._own_x
        return self.compared(thin({"x": rows}, self.n_samples)["x"])

    @cached_property
    def generated(self) -> Tensor:
        """Generated samples of x, flattened, `(m, d)`; or the anchor in their place."""
        if self._anchor is None:
            return self.compared(self.generated_rows(self.n_samples)).to(self.real)
        source = self._own_x if self.reference is None else self.reference["x"]
        source = rows_of(source[::2] if self._halved else source).to(self.real)
        if self._anchor == "real":
            return self.compared(thin({"x": source}, self.n_samples)["x"])
        stream = torch.Generator().manual_seed(self.seed)
        return self.compared(independent_marginals(source, self.n_samples, stream))

    @cached_property
    def bandwidths(self) -> tuple[float, ...]:
        """Kernel widths for comparing samples, set by the data alone."""
        return median_bandwidths(self.compared(thin({"x": self._own_x}, self.n_samples)["x"]))

    def generated_rows(self, n: int) -> Tensor:
        """Return at most n generated samples of x, `(m, *shape)`.

        Args:
            n: how many.
        """
        if self._given is None:
            raise Unavailable("no samples were given")
        return thin({"x": self._given}, n)["x"]

    @property
    def _halved(self) -> bool:
        """Whether real data are compared with themselves, for want of training rows."""
        return self._anchor == "real" and self.reference is None


def independent_marginals(real: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw samples whose coordinates have the data's marginals but know nothing of each other.

    The deliberately bad baseline of a report: any model of structure must do better.

    Args:
        real: data, `(rows, d)`.
        n: number of samples.
        generator: source of random numbers, on the CPU.
    """
    index = torch.randint(len(real), (n, real.shape[1]), generator=generator)
    return real.gather(0, index.to(real.device))


def coded(x: Tensor, sizes: Sequence[int], like: Tensor) -> Tensor:
    """Return rows of a mixed table as numbers that may be compared, `(n, d)`.

    A number is in standard deviations of its column. Two categories are at a distance of 1, by a
    one-hot code over the root of two.

    Args:
        x: `(n, columns)`.
        sizes: of each column the number of its levels, 0 of numbers.
        like: rows from which the deviations are taken, likewise.
    """
    parts = []
    for i, size in enumerate(sizes):
        column = x[:, i : i + 1]
        if size:
            levels = torch.arange(size, dtype=x.dtype, device=x.device)
            parts.append(torch.eq(column, levels).to(x.dtype) * 2**-0.5)
        else:
            spread = like[:, i].double().std(correction=0)
            unit = torch.where(spread > 0, spread, 1.0)
            parts.append(column / unit.to(x))
    return torch.cat(parts, 1)


def sizes_of(model: Any, preparation: Any, width: int = 0) -> tuple[int, ...]:
    """Return the number of levels of each column, 0 of numbers; empty where all are numbers.

    Args:
        model: the pair's, whose likelihood may say so; None if there is none.
        preparation: of the rows, whose levels may have names; None if there is none.
        width: the number of columns, where rows are a table's.
    """
    likelihood = None if model is None else likelihood_at(model, "x")
    found: tuple[int, ...] = tuple(map(len, getattr(preparation, "levels", ())))
    if isinstance(likelihood, MixedColumns):
        kinds = [kind for _, kind in likelihood.kinds]
        found = tuple((k.levels or 0) if isinstance(k, Categorical) else 0 for k in kinds)
    elif isinstance(likelihood, Categorical):
        found = (likelihood.levels or 0,) * width
    return found if any(found) else ()


def _warnings_of(x: Tensor) -> tuple[str, ...]:
    """Say what makes averages over these rows less than they seem: few, repeated, constant.

    Constant features are reported for data that are not binary: there a density can grow without
    bound.

    Args:
        x: data, `(n, *shape)`.
    """
    n, values = len(x), x.reshape(len(x), -1).cpu()
    found = [f"only {n} rows"] if n < _FEW else []
    distinct = len({row.tobytes() for row in values.numpy()})
    if distinct < _DISTINCT * n:
        found.append(f"only {distinct} of {n} rows are distinct, the error is too small")
    constant = int((values == values[0]).all(0).sum())
    if constant and not is_binary(values):
        found.append(f"{constant} of {values.shape[1]} features are constant")
    return tuple(found)


def once(make: Callable[[Any], _T]) -> Callable[[Any], _T]:
    """Make a function of draws a cached one: computed once for each draws; an anchor has its own.

    Args:
        make: a function of draws.
    """

    @functools.wraps(make)
    def made(draws: Any) -> _T:
        return cast(_T, draws.once(make, lambda: make(draws)))

    return made


def common(make: Callable[[Any], _T]) -> Callable[[Any], _T]:
    """Make a function of draws a cached one, computed once for these and their anchors alike.

    Args:
        make: a function of draws that reads the data alone.
    """

    @functools.wraps(make)
    def made(draws: Any) -> _T:
        return cast(_T, draws.common(make, lambda: make(draws)))

    return made
