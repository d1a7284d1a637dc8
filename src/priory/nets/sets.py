"""Critics of sets of samples, by the mean of their features."""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from priory.lookup import positive
from priory.nets.critics import Critic
from priory.nets.table import net_of
from priory.part import Shape


class _Sets(Critic):
    """What critics of sets share: features of each row, averaged over the set, and a head."""

    separate = False
    least = 1  # sets that a batch must be good for

    def __init__(
        self,
        features: nn.Module | str = "mlp",
        head: nn.Module | str = "mlp",
        width: int = 64,
        size: int = 16,
    ) -> None:
        super().__init__()
        self.features = net_of(features)
        self.head = net_of(head)
        self.width = positive("width", width)
        self.size = positive("size", size)

    def make(self, *inputs: Shape) -> None:
        """Make both nets."""
        self.features.build(inputs[0], (self.width,))
        self.head.build((self.width,), ())

    def group(self, rows: Tensor) -> Tensor:
        """Put rows (n, *shape) together into sets (n // size, size, *shape).

        A smaller batch is taken for as few sets as will do.

        Raises:
            ValueError: There are too few rows for that.
        """
        size = min(self.size, len(rows) // self.least)
        if size < 1:
            raise ValueError(
                f"a critic of sets needs {self.least} rows in a batch, got {len(rows)}"
            )
        count = len(rows) // size
        return rows[: count * size].reshape(count, size, *rows.shape[1:])

    def encode(self, sets: Tensor) -> Tensor:
        """Return the mean features, (sets, width), of sets of rows (sets, size, *shape)."""
        out: Tensor = leaky_relu(self.features(sets), 0.2).mean(1)
        return out


class DeepMean(_Sets):
    r"""A critic of sets, which says whether a set of samples is awake or asleep.

    .. math:: C(X) = h\Big(\frac{1}{|X|} \sum_{x \in X} \phi(x)\Big)

    The one-sample critic with a deep mean encoder of Li, Alvarez-Melis, Xu, Jegelka and Sra, 2017,
    Distributional adversarial networks. A set without some modes differs from one that has them.

    Args:
        features: From a row to phi(x), before a leaky ReLU; a net, any module, or a name.
        head: From the mean features to the score.
        width: Number of features.
        size: Rows of a set; there are as many scores as whole sets in a batch, so that small sets
            give steadier gradients and large ones see more of a distribution.

    Raises:
        ValueError: A number isn't positive.

    Example:
        >>> critic = DeepMean(width=8, size=4)
        >>> critic.build((2,))
        >>> critic(critic.group(torch.zeros(12, 2))).shape
        torch.Size([3])
    """

    name = "deep-mean"

    def forward(self, sets: Tensor) -> Tensor:
        """Score sets (sets, size, *shape), (sets,)."""
        out: Tensor = self.head(self.encode(sets))
        return out


class TwoSample(_Sets):
    r"""A critic of pairs of sets, which says whether the two are of one distribution.

    .. math:: C(X, Y) = h(|m(X) - m(Y)|), \quad m(X) = \frac{1}{|X|} \sum_{x \in X} \phi(x)

    The two-sample critic of Li et al., 2017, Distributional adversarial networks. Pairs of one
    distribution are halves of the data, and halves of the model's samples; they are to be scored
    high. Pairs of two distributions are data against samples; they are to be scored low by the
    critic and high by the pair, whose gradient comes from them alone.

    Args:
        features: From a row to phi(x), before a leaky ReLU; a net, any module, or a name.
        head: From the difference of mean features to the score.
        width: Number of features.
        size: Rows of a set.

    Raises:
        ValueError: A number isn't positive.
    """

    name = "two-sample"

    least = 2

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Score pairs of sets (sets, size, *shape), (sets,)."""
        return self._pairs(self.encode(one), self.encode(other))

    def compare(self, awake: Tensor, asleep: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores of pairs of one distribution, and of pairs of two.

        Samples that carry a gradient get it through the pairs of two distributions alone.

        Args:
            awake: Sets of awake samples, (sets, size, *shape), as `group` makes them.
            asleep: Sets of asleep ones.
        """
        sides = [(s, self.encode(s)) for s in (awake, asleep)]
        fixed = [m.detach() if s.requires_grad else m for s, m in sides]
        count = min(len(awake), len(asleep))
        one_law = torch.cat([self._pairs(*_halves(m)) for m in fixed])
        return one_law, self._pairs(*(m[:count] for _, m in sides))

    def _pairs(self, one: Tensor, other: Tensor) -> Tensor:
        out: Tensor = self.head((one - other).abs())
        return out


def _halves(means: Tensor) -> tuple[Tensor, Tensor]:
    half = len(means) // 2
    return means[:half], means[half : 2 * half]
