"""One likelihood for each column of a mixed table."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from priory.distributions.mixed import Mixed
from priory.likelihoods.base import Likelihood
from priory.likelihoods.bernoulli import Bernoulli
from priory.likelihoods.beta import Beta
from priory.likelihoods.categorical import Categorical
from priory.likelihoods.continuous_bernoulli import ContinuousBernoulli
from priory.likelihoods.gamma import Gamma
from priory.likelihoods.negative_binomial import NegativeBinomial
from priory.likelihoods.normal import Normal
from priory.likelihoods.poisson import Poisson
from priory.likelihoods.student_t import StudentT
from priory.likelihoods.values import is_binary
from priory.likelihoods.zero_inflated import ZeroInflatedNegativeBinomial, ZeroInflatedPoisson
from priory.lookup import lookup, named
from priory.part import Shape
from priory.serialisation import to_config

KINDS: dict[str, type[Likelihood]] = {
    kind.name: kind
    for kind in (
        Bernoulli,
        Beta,
        Categorical,
        ContinuousBernoulli,
        Gamma,
        NegativeBinomial,
        Normal,
        Poisson,
        StudentT,
        ZeroInflatedNegativeBinomial,
        ZeroInflatedPoisson,
    )
}
_NARROW = 0.5  # of the mean: a variance below it is not that of a count


class Columns(Likelihood):
    r"""Independent columns of a table, each of a kind of its own.

    .. math:: \log p(x) = \sum_i \log p_i(x_i)

    A column with named levels is categorical. Of others the training rows decide: zeros and ones
    alone are Bernoulli; integers from 0 whose variance is at least half of their mean are counts,
    negative binomial; all else is normal. `kinds` overrules this column by column. Nets read of
    each column what its likelihood has them read, so of a category a one-hot code. A column takes
    as many of the maps as its likelihood has parameters, and leaves the others.

    log p(x) has the terms of columns with densities and of columns with masses: it depends on the
    units of the former. Nazabal, Olmos, Ghahramani and Valera, 2020, Handling incomplete
    heterogeneous data using VAEs.

    Args:
        kinds: Likelihoods, or their names, by the names of columns; a column without a name is
            called x_0, x_1, ... Once it is built, pairs of all columns and their likelihoods.

    Raises:
        ValueError: A name is unknown; when it is built, if there is no such column, or a column's
            values are outside of its likelihood's support.

    Example:
        >>> head = Columns({"x_1": "student-t"})
        >>> head.build(torch.tensor([[0.0, 0.3, 0.0], [1.0, -2.0, 9.0], [1.0, 0.0, 2.0]]))
        >>> head.lines()
        ['bernoulli: x_0', 'student-t: x_1', 'negative-binomial: x_2']
    """

    name = "columns"
    keyed = "kinds"  # the argument that holds what is written column by column
    order: Tensor

    def __init__(
        self, kinds: Mapping[str, str | Likelihood] | Sequence[Sequence[str | Likelihood]] = ()
    ) -> None:
        super().__init__()
        pairs = kinds.items() if isinstance(kinds, Mapping) else kinds
        self.kinds = [(str(column), _kind(kind)) for column, kind in pairs]
        self._names: tuple[str, ...] = ()
        self._levels: tuple[tuple[str, ...], ...] = ()
        self.groups = nn.ModuleList()

    def meet(self, names: Sequence[str], levels: Sequence[Sequence[str]]) -> None:
        """Learn what the columns are called, and the levels that some have."""
        self._names, self._levels = tuple(names), tuple(map(tuple, levels))

    def chosen(self, x: Tensor) -> list[tuple[str, Likelihood]]:
        """Return each column's name and likelihood.

        Args:
            x: Training data, (n, columns).

        Raises:
            ValueError: The data are no table, or there is no column of a given name.
        """
        if x.dim() != 2:
            raise ValueError(
                f"the columns likelihood expected a table of shape (rows, columns), got "
                f"{tuple(x.shape)}: take one likelihood for all values, such as normal"
            )
        if self._is_whole(x):
            return self.kinds
        names = self._names or tuple(f"x_{i}" for i in range(x.shape[1]))
        columns = dict.fromkeys(names)
        for column, _ in self.kinds:
            named("column", column, columns)
        given = dict(self.kinds)
        levels = self._levels or ((),) * len(names)
        every = zip(names, levels, x.unbind(1), strict=True)
        return [(n, _for_column(n, given.get(n), own, values)) for n, own, values in every]

    def _is_whole(self, x: Tensor) -> bool:
        """Return whether there is a likelihood of every column already."""
        known = [column for column, _ in self.kinds]
        if any(isinstance(kind, Categorical) and kind.levels is None for _, kind in self.kinds):
            return False
        return len(known) == x.shape[1] and (not self._names or [*self._names] == known)

    def lines(self) -> list[str]:
        """Return the columns of each likelihood, a line for each."""
        return shown(self.kinds)

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every column is in its likelihood's support."""
        for i, (column, kind) in enumerate(self.chosen(x)):
            try:
                kind.check(x[:, i : i + 1])
            except ValueError as error:
                text = str(error).replace(" of column 0", "")
                raise ValueError(f"column {column!r}: {text}") from error

    def blank(self, x: Tensor) -> Tensor:
        """Return rows like zeros (n, columns) that lie in the support."""
        if len(self.kinds) != x.shape[-1]:
            return x
        parts = [kind.blank(x[:, i : i + 1]) for i, (_, kind) in enumerate(self.kinds)]
        return torch.cat(parts, 1)

    def make(self, x: Tensor) -> None:
        """Build a head for all columns of one likelihood."""
        self.kinds = self.chosen(x)
        together: dict[str, list[int]] = {}
        for i, (_, kind) in enumerate(self.kinds):
            together.setdefault(repr(to_config(kind)), []).append(i)
        widths, start, ranges = [], 0, {}
        for g, columns in enumerate(together.values()):
            place = torch.tensor(columns, device=x.device)
            group = copy.deepcopy(self.kinds[columns[0]][1])
            group.build(x[:, place])
            self.groups.append(group)
            self.register_buffer(f"place_{g}", place, persistent=False)
            widths.append(group.inputs((len(columns),))[0])
            each = widths[-1] // len(columns)
            for column in columns:
                ranges[column] = range(start, start + each)
                start += each
        self.widths = widths
        self.params = max(group.params for group in self._heads())
        order = [place for column in sorted(ranges) for place in ranges[column]]
        self.register_buffer("order", torch.tensor(order, device=x.device), persistent=False)

    def _heads(self) -> Iterator[Likelihood]:
        """Iterate over the heads."""
        for group in self.groups:
            assert isinstance(group, Likelihood)  # noqa: S101
            yield group

    @property
    def places(self) -> list[Tensor]:
        """Which columns each head has, (k,) each."""
        return [getattr(self, f"place_{g}") for g in range(len(self.groups))]

    def inputs(self, shape: Shape) -> Shape:  # noqa: ARG002
        """Return the number of numbers that nets read of a row."""
        return (len(self.order),)

    def beside(self, mask: Tensor) -> Tensor:
        """Return a mask of the cells as one of what nets read of them."""
        return self._read(mask, "beside")

    def scaled(self, x: Tensor) -> Tensor:
        """Return rows (*batch, columns) in units in which they are of the order of one."""
        return self._read(x, "scaled")

    def _read(self, x: Tensor, how: str) -> Tensor:
        """Return what each head makes of its columns, in the order of the columns."""
        cut = [x.index_select(-1, place) for place in self.places]
        both = zip(self._heads(), cut, strict=True)
        parts: list[Tensor] = [getattr(head, how)(own) for head, own in both]
        return torch.cat(parts, -1).index_select(-1, self.order)

    def drawn_in(self, x: Tensor) -> Tensor:
        """Return scaled rows with the odd values of columns of real numbers drawn in."""
        parts = x.index_select(-1, self.order.argsort()).split(self.widths, -1)
        drawn = [head.drawn_in(part) for head, part in zip(self._heads(), parts, strict=True)]
        return torch.cat(drawn, -1).index_select(-1, self.order)

    def bias(self, x: Tensor) -> Tensor:
        """Return where each column's maps start, 0 in those that it leaves."""
        start = x.new_zeros(self.params, x.shape[1])
        for head, place in zip(self._heads(), self.places, strict=True):
            own = head.bias(x[:, place])
            if own is not None:
                start[: head.params, place] = own
        return start

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:  # noqa: ARG002
        """Return the distribution of a row."""
        parts: list[Any] = []
        for head, place in zip(self._heads(), self.places, strict=True):
            own = tuple(values.index_select(-1, place) for values in maps[: head.params])
            parts.append(head.distribution(own, 1))
        return Mixed(parts, self.places)


def shown(kinds: Sequence[tuple[str, Likelihood]]) -> list[str]:
    """Return the columns of each likelihood, a line for each.

    Args:
        kinds: Columns' names and likelihoods.
    """
    lines: dict[str, list[str]] = {}
    for column, kind in kinds:
        levels = f" ({kind.levels} levels)" if isinstance(kind, Categorical) else ""
        lines.setdefault(kind.name, []).append(column + levels)
    return [f"{name}: {', '.join(columns)}" for name, columns in lines.items()]


def _kind(kind: str | Likelihood) -> Likelihood:
    """Return a column's likelihood, from its name where it is one."""
    found: Likelihood = lookup("likelihood of a column", kind, KINDS)
    if found.name in ("delta", Columns.name):
        raise ValueError(
            f"a column has a likelihood with a density or a mass, got {found.name}: take one of "
            f"{', '.join(KINDS)}"
        )
    return found


def _for_column(
    name: str, given: Likelihood | None, levels: Sequence[str], x: Tensor
) -> Likelihood:
    """Return a column's likelihood: the one that is given, or by its levels or values, (n,)."""
    if levels and given is not None and not isinstance(given, Categorical):
        raise ValueError(
            f"column {name!r} has the levels {', '.join(levels[:5])}, of which the {given.name} "
            "likelihood knows nothing: leave it categorical, or give numbers"
        )
    if levels:
        return Categorical(max(2, len(levels)))
    if isinstance(given, Categorical) and given.levels is None:
        given.check(x.unsqueeze(1))
        return Categorical(max(2, int(x.max()) + 1))
    return _by_values(x) if given is None else given


def _by_values(x: Tensor) -> Likelihood:
    """Return the likelihood that fits a column's values, (n,)."""
    if is_binary(x):
        return Bernoulli()
    whole = bool(((x >= 0) & (x == x.round())).all())
    return NegativeBinomial() if whole and x.var() >= _NARROW * x.mean() else Normal()
