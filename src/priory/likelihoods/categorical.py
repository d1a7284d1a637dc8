"""Categories: numbers that name one of several levels."""

from collections.abc import Sequence

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.categories import IndependentCategorical
from priory.likelihoods.base import Likelihood, first_outside
from priory.lookup import at_least
from priory.part import Shape

MOST_LEVELS = 256


class Categorical(Likelihood):
    """Independent categories 0, ..., K - 1 without an order; a map of log-odds for each level.

    Nets read a one-hot code of each: of a row of columns, K numbers for each column; of an image,
    K planes for each channel. A category has no mean, and pictures show draws.

    Args:
        levels: K, the number of levels; None takes those up to the largest of the training data,
            which it then holds.

    Raises:
        ValueError: There are fewer than two levels.

    Example:
        >>> head = Categorical()
        >>> head.build(torch.tensor([[0.0, 2.0], [1.0, 1.0]]))
        >>> head.levels, head.read(torch.tensor([[0.0, 2.0]])).tolist()
        (3, [[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]])
    """

    name = "categorical"
    numbers: Tensor

    def __init__(self, levels: int | None = None) -> None:
        super().__init__()
        self.levels = None if levels is None else at_least(2, "levels", levels)
        self.params = self.levels or 1

    def meet(self, names: Sequence[str], levels: Sequence[Sequence[str]]) -> None:
        """Raise ValueError if columns have levels with names, which may be of different number."""
        for name, own in zip(names, levels, strict=bool(levels)):
            if own:
                raise ValueError(
                    f"the categorical likelihood has the same levels for all columns, and column "
                    f"{name!r} has names for its own: take likelihood='columns'"
                )

    def make(self, x: Tensor) -> None:
        """Find how many levels there are."""
        if self.levels is None:
            self.levels = max(2, int(x.max()) + 1)
        self.params = self.levels
        numbers = torch.arange(self.levels, dtype=x.dtype, device=x.device)
        self.register_buffer("numbers", numbers, persistent=False)

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless every value is the number of a level."""
        top = (self.levels or MOST_LEVELS) - 1
        inside = (x >= 0) & (x <= top) & (x == x.round())
        if not inside.all():
            raise ValueError(
                f"the categorical likelihood expected integers 0 to {top}, the numbers of levels, "
                f"got {first_outside(x, inside)}: number the levels from 0, give their names as "
                "text, or use another likelihood for numbers with an order"
            )

    def inputs(self, shape: Shape) -> Shape:
        """Return the shape of the one-hot codes of a datum."""
        levels = self.levels or 1
        return (shape[0] * levels, *shape[1:]) if shape else (levels,)

    def beside(self, mask: Tensor) -> Tensor:
        """Return a mask of categories as one of their codes."""
        return self._laid(mask.unsqueeze(-1).expand(*mask.shape, self.levels or 1))

    def scaled(self, x: Tensor) -> Tensor:
        """Return the one-hot codes of data (*batch, *shape)."""
        return self._laid(torch.eq(x.unsqueeze(-1), self.numbers).to(x.dtype))

    def _laid(self, codes: Tensor) -> Tensor:
        """Return codes (*batch, *shape, K) with the levels beside the first dim of a datum."""
        event = len(self.built_for or ())
        return codes.movedim(-1, -event).flatten(-event - 1, -event) if event else codes

    def bias(self, x: Tensor) -> Tensor:
        """Return the logarithms of the levels' shares, each counted once more."""
        counts = torch.stack([(x == k).sum(0) for k in range(self.params)]).to(x.dtype)
        return ((counts + 1) / (len(x) + self.params)).log()

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps of the levels' log-odds."""
        return IndependentCategorical(torch.stack(maps, -1), event_dim)
