"""A rank's share of the random numbers that one process would have drawn for the global batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from priory.inference.distributed import ranks

Widen = Callable[[Tensor, int], Tensor]

_SEEDED = torch.Tag.nondeterministic_seeded
_SHAPED = {"rand", "randn", "randint", "normal"}
_FILLED = {
    *("rand_like", "randn_like", "randint_like", "normal", "bernoulli"),
    *("normal_", "uniform_", "exponential_", "bernoulli_", "cauchy_", "geometric_"),
    *("log_normal_", "random_", "native_dropout", "_fused_dropout"),
}
# Rejection samplers: how much a row takes of the stream depends on its values.
_GATHERED = {"_standard_gamma", "_sample_dirichlet", "poisson", "binomial"}
_NORMS = {
    *("native_batch_norm", "_native_batch_norm_legit", "_batch_norm_with_update"),
    *("cudnn_batch_norm", "miopen_batch_norm"),
}
_PER_RANK = (
    "a BatchNorm layer takes its statistics over the rows of one rank, not of the whole batch; "
    "pass the module that holds it to share_statistics, or use another norm"
)


def global_noise(rows: int) -> AbstractContextManager[Any]:
    """Make every draw inside this rank's part of the global batch's draw; see `GlobalNoise`.

    To be entered by the function that is run or traced, never around the replay of a traced graph:
    that holds the global draw already.

    Args:
        rows: of this rank's batch.
    """
    if ranks.world() == 1:
        return nullcontext()
    return GlobalNoise(ranks.rank(), ranks.world(), rows)


def rows_of(values: Iterable[Any]) -> int:
    """Return the rows of a batch, 1 if there is no tensor in it.

    Args:
        values: a batch's arguments.
    """
    return next((len(v) for v in values if isinstance(v, Tensor) and v.dim()), 1)


def shared_by() -> int:
    """Return how many ranks share the batch that is being looked at: 1 outside of global noise."""
    return GlobalNoise.present.world if GlobalNoise.present else 1


def own_rows(make: Callable[[int], Tensor], rows: int) -> Tensor:
    """Return this rank's part, by its last dimension, of what is made for the whole batch.

    For what is laid out over the rows of a batch and not drawn by each of them alone.

    Args:
        make: From a number of rows to a tensor (..., rows).
        rows: Of this rank's batch.
    """
    here = GlobalNoise.present
    if here is None:
        return make(rows)
    return make(rows * here.world).narrow(-1, rows * here.rank, rows)


class GlobalNoise(TorchDispatchMode):
    """Draws for the rows of all ranks, and keeps those of this one.

    The ranks share one random state. A draw whose shape has a dimension of `rows` is made with
    `world * rows` in its place, so that the stream moves on as it would in one process, and cut
    to the rows of this rank. Any other draw, of a global latent, say, is the same on all ranks.
    Sees every operation below autograd, dropout and `torch.distributions` included, and leaves the
    draw and the cut in a traced graph.

    The batch is the first dimension of `rows`, else a multiple of it that comes first (particles
    and rows in one dimension). Where another dimension happens to be as long as the batch, the
    draws have the right distribution, but may not be those of one process. Holds for the forward
    pass: what a backward pass draws (activation checkpointing) is not seen.

    Args:
        rank: number of this rank.
        world: number of ranks.
        rows: of this rank's batch.

    Raises:
        RuntimeError: if an operation draws in a way that cannot be split.

    Example:
        >>> whole = torch.randn(8, 3, generator=torch.manual_seed(0))
        >>> torch.manual_seed(0).initial_seed()
        0
        >>> with GlobalNoise(rank=1, world=2, rows=4):
        ...     noise = torch.randn(4, 3)
        >>> torch.equal(noise, whole[4:])
        True
    """

    present: ClassVar[GlobalNoise | None] = None

    def __init__(self, rank: int, world: int, rows: int) -> None:
        super().__init__()
        self.rank, self.world, self.rows = rank, world, rows
        self._former: list[GlobalNoise | None] = []

    def __enter__(self) -> GlobalNoise:
        """Begin."""
        super().__enter__()
        self._former.append(GlobalNoise.present)
        GlobalNoise.present = self
        return self

    def __exit__(self, *error: Any) -> None:
        """End."""
        GlobalNoise.present = self._former.pop()
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation."""
        kwargs = kwargs or {}
        name = func._overloadpacket.__name__
        if _SEEDED not in func.tags:
            if name in _NORMS and any(a is True for a in args[3:6]):
                warnings.warn(_PER_RANK, stacklevel=2)
            return func(*args, **kwargs)
        names = [a.name for a in func._schema.arguments]
        if "out" in names:
            return self._alone(func, args, kwargs)
        if name in _SHAPED and "size" in names:
            return self._shaped(func, names.index("size"), args, kwargs)
        if name == "randperm":
            return self._permutation(func, args, kwargs)
        if name == "multinomial":
            return self._multinomial(func, args, kwargs)
        if name in _FILLED:
            return self._spread(func, args, kwargs, self._pad)
        if name in _GATHERED:
            event = 1 if name == "_sample_dirichlet" else 0
            return self._spread(func, args, kwargs, _gathered, event)
        return self._alone(func, args, kwargs)

    def _shaped(self, func: Any, place: int, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        """Draw from a shape alone."""
        size = list(args[place])
        d = self._batch(size)
        if d is None:
            return func(*args, **kwargs)
        size[d] *= self.world
        return self._cut(func(*args[:place], size, *args[place + 1 :], **kwargs), d)

    def _spread(
        self, func: Any, args: tuple[Any, ...], kwargs: Any, widen: Widen, event: int = 0
    ) -> Any:
        """Draw from tensors, the rows of all ranks; the last `event` dimensions hold no batch."""
        first = next(a for a in args if isinstance(a, Tensor))
        d = self._batch(first.shape, event)
        if d is None:
            return func(*args, **kwargs)
        wide = [self._widened(a, widen, event) if isinstance(a, Tensor) else a for a in args]
        drawn = func(*wide, **kwargs)
        if drawn is wide[0]:  # in place
            return first.copy_(self._cut(drawn, d))
        several = isinstance(drawn, tuple)
        return tuple(self._cut(x, d) for x in drawn) if several else self._cut(drawn, d)

    def _multinomial(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        """Draw classes: the batch is the rows of the weights, or else the samples of one row."""
        weights, samples, *rest = args
        if weights.dim() == 2 and len(weights) % self.rows == 0:
            return self._spread(func, args, kwargs, self._pad, 1)
        replace = rest[0] if rest else kwargs.get("replacement", False)
        if not replace or samples % self.rows:
            return func(*args, **kwargs)
        drawn = func(weights, samples * self.world, *rest, **kwargs)
        return self._cut(drawn, drawn.dim() - 1)

    def _permutation(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        """Permute the rank's own rows, by the order of its part of a permutation of all."""
        if args[0] != self.rows:
            return func(*args, **kwargs)
        drawn = func(args[0] * self.world, *args[1:], **kwargs)
        return self._cut(drawn, 0).argsort()

    def _alone(self, func: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
        """Run an operation that may draw or not, such as attention with or without dropout."""
        before = ranks.random_states()
        answer = func(*args, **kwargs)
        if not all(map(torch.equal, before, ranks.random_states())):
            raise RuntimeError(
                f"{func} draws random numbers in a way that cannot be shared out to ranks; leave "
                "that dropout out, or train in one process"
            )
        return answer

    def _batch(self, shape: Sequence[int], event: int = 0) -> int | None:
        """Return which dimension holds the batch."""
        sizes = list(shape[: len(shape) - event])
        if self.rows in sizes:
            return sizes.index(self.rows)
        return 0 if len(shape) > 1 and sizes and sizes[0] and sizes[0] % self.rows == 0 else None

    def _widened(self, x: Tensor, widen: Widen, event: int) -> Tensor:
        """Put the rows of all ranks in the place of this rank's."""
        d = self._batch(x.shape, event)
        if d is None:
            return x
        if x.shape[d] == self.rows:
            return widen(x, d)
        return widen(x.unflatten(d, (-1, self.rows)), d + 1).flatten(d, d + 1)

    def _pad(self, x: Tensor, d: int) -> Tensor:
        """Stand in for the rows of the other ranks, where their values do not matter."""
        ones = torch.ones_like(x)
        return torch.cat([x if r == self.rank else ones for r in range(self.world)], d)

    def _cut(self, drawn: Tensor, d: int) -> Tensor:
        """Return this rank's rows of a draw for all."""
        first, every = self.rank * self.rows, self.world * self.rows
        if drawn.shape[d] == every:
            return drawn.narrow(d, first, self.rows).clone()
        parts = drawn.unflatten(d, (-1, every)).narrow(d + 1, first, self.rows)
        return parts.flatten(d, d + 1)


def _gathered(x: Tensor, d: int) -> Tensor:
    return ranks.all_gather(x.movedim(d, 0)).movedim(0, d)
