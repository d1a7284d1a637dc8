"""Independent columns of several kinds, as one distribution of a table's row."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from priory.distributions.independent import Factorised, of_one_number


class MixedSupport(constraints.Constraint):
    """Columns each in the support of their own kind.

    Args:
        supports: Of one number, for each kind.
        places: The kind's columns, each (k,).
        dim: Where the columns stand in a value, from its end: -1 in a row, -2 apart.
    """

    event_dim = 1

    def __init__(self, supports: Sequence[Any], places: Sequence[Tensor], dim: int = -1) -> None:
        self.supports, self.places, self.dim = supports, places, dim
        self.is_discrete = all(s.is_discrete for s in supports)

    @property
    def masses(self) -> int:
        """How many columns have masses; the others have densities."""
        pairs = zip(self.supports, self.places, strict=True)
        return sum(len(place) for s, place in pairs if s.is_discrete)

    @property
    def columns(self) -> int:
        """How many columns there are."""
        return sum(map(len, self.places))

    def check(self, value: Tensor) -> Tensor:
        """Say which rows (..., columns), or columns (..., columns, 1), lie in it."""
        pairs = zip(self.supports, self.places, strict=True)
        inside = [s.check(value.index_select(self.dim, place)).all(-1) for s, place in pairs]
        if self.dim == -1:
            return torch.stack(inside).all(0)
        return torch.cat(inside, -1).index_select(-1, torch.cat([*self.places]).argsort())


class Mixed(Factorised):
    r"""Independent columns, each of a kind of its own.

    .. math:: \log p(x) = \sum_g \log p_g(x_{i: \text{kind}_i = g})

    A sum of log densities and log masses is the logarithm of neither, but of their product: it
    depends on the units of the columns that have densities, and not of the others.

    Args:
        parts: The columns of each kind, with one event dim.
        places: Which columns they are, each (k,); every column is in one of them.
        validate_args: Whether to check values; the global default if None.

    Example:
        >>> from priory.distributions.independent import IndependentNormal
        >>> from priory.distributions.pixels import IndependentBernoulli
        >>> two = IndependentNormal(torch.zeros(2), torch.zeros(()), 1)
        >>> bit = IndependentBernoulli(torch.zeros(1), 1)
        >>> Mixed([two, bit], [torch.tensor([0, 2]), torch.tensor([1])]).log_prob(torch.zeros(3))
        tensor(-2.5310)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        parts: Sequence[Factorised],
        places: Sequence[Tensor],
        validate_args: bool | None = None,
    ) -> None:
        self.parts, self.places = tuple(parts), tuple(places)
        self.order = torch.argsort(torch.cat(self.places))
        self._single = False
        shape = (*parts[0].batch_shape, len(self.order))
        super().__init__(Size(shape), 1, validate_args)

    @constraints.dependent_property
    def support(self) -> Any:
        """Return the columns' supports."""
        supports = [of_one_number(p.support) for p in self.parts]
        return MixedSupport(supports, self.places, -2 if self._single else -1)

    @property
    def mean(self) -> Tensor:
        """The mean of each column, (*batch, columns).

        Raises:
            NotImplementedError: A column is a category, which has none.
        """
        return self._joined(lambda part: part.mean)

    @property
    def variance(self) -> Tensor:
        """The variance of each column, (*batch, columns)."""
        return self._joined(lambda part: part.variance)

    def means(self, value: Tensor) -> Tensor:
        """Return the mean of each column, and in the place of categories a value's.

        Args:
            value: Rows, (*batch, columns).
        """
        found = []
        for part, place in zip(self._whole, self.places, strict=True):
            try:
                found.append(part.mean)
            except NotImplementedError:
                found.append(value.index_select(-1, place))
        return torch.cat(found, -1).index_select(-1, self.order)

    def _joined(self, of: Callable[[Factorised], Tensor]) -> Tensor:
        """Return what each part gives of its columns, in the order of the columns."""
        return torch.cat([of(p) for p in self._whole], -1).index_select(-1, self.order)

    @property
    def _whole(self) -> list[Factorised]:
        """The parts in the batch that the whole has."""
        return [part.expand(self._batch_shape) for part in self.parts]

    def apart(self) -> Mixed:
        """Return each column's distribution: batch shape (*batch, columns), event (1,)."""
        new = copy.copy(self)
        new.parts = tuple(part.apart() for part in self._whole)
        new._batch_shape, new._event_shape = self._batch_shape + self._event_shape, Size((1,))
        new._single = True
        return new

    def density(self, value: Tensor) -> Tensor:
        """Return the log density of events of shape (..., columns); of one column each, apart."""
        dim = -2 if self._single else -1
        cut = [value.index_select(dim, place) for place in self.places]
        scores = [part.density(v) for part, v in zip(self.parts, cut, strict=True)]
        if self._single:
            return torch.cat(scores, -1).index_select(-1, self.order)
        return torch.stack(torch.broadcast_tensors(*scores)).sum(0)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw rows."""
        return self._joined(lambda part: part.sample(sample_shape))
