"""Sums over all pairs of two sample sets, block by block where there are many."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor

BLOCK = 2**20
"""Pairs that are held at a time, unless a call says otherwise."""

Profile = Callable[[Tensor], Tensor]  # squared distances -> kernel, alike in shape
Part = Callable[[Tensor, Tensor], Tensor]


def sample_sets(a: Tensor, b: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """Return two sample sets in single precision or better, or raise an error.

    Args:
        a: samples, (n, d).
        b: samples, (m, d).
        least: samples that each set must have.

    Raises:
        ValueError: if a set is no matrix of floating-point numbers, the widths differ, or samples
            are too few.
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"expected two sample sets of shape (n, d) and (m, d), got {tuple(a.shape)} and "
            f"{tuple(b.shape)}"
        )
    if not (a.is_floating_point() and b.is_floating_point()):
        raise ValueError(
            f"expected samples in floating point, got {a.dtype} and {b.dtype}; make integers "
            "one-hot or convert them"
        )
    if min(len(a), len(b)) < least:
        raise ValueError(f"expected at least {least} samples in each set, got {len(a)}, {len(b)}")
    kind = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return a.to(kind), b.to(kind)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return |a_i - b_j|^2, (n, m), for samples (n, d) and (m, d).

    The product form, after a shift by the mean of `b` that keeps rounding small.

    Args:
        a: samples, (n, d).
        b: samples, (m, d).
    """
    centre = b.detach().mean(0)
    a, b = a - centre, b - centre
    squares = a.square().sum(1, keepdim=True) + b.square().sum(1)
    return (squares - 2 * product(a, b.mT)).clamp(min=0)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a matrix product in the precision of its factors, under autocast too.

    A squared distance is a small difference of large products, of which bfloat16 leaves nothing.

    Args:
        a: matrix, (n, d).
        b: matrix, (d, m).
    """
    if not torch.is_autocast_enabled(a.device.type):
        return a @ b
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def mean_between(a: Tensor, b: Tensor, profile: Profile, block: int = BLOCK) -> Tensor:
    """Return the mean of a kernel over all pairs of two sets, shape ().

    Args:
        a: samples, (n, d).
        b: samples, (m, d).
        profile: the kernel of squared distances.
        block: pairs held at a time, backward as well as forward.
    """
    n, m = len(a), len(b)
    if n * m <= block:
        return profile(squared_distances(a, b)).mean()

    height = even(n, max(math.isqrt(block), block // m))
    blocks = itertools.product(pieces(n, height), pieces(m, even(m, block // height)))

    def part(rows: Tensor, columns: Tensor) -> Tensor:
        return profile(squared_distances(rows, columns)).sum()

    return sum_of_blocks(part, blocks, a, b) / (n * m)


def mean_within(a: Tensor, profile: Profile, unbiased: bool = True, block: int = BLOCK) -> Tensor:
    """Return the mean of a kernel over the pairs of one set, shape ().

    Of many pairs, those above the diagonal alone are made.

    Args:
        a: samples, (n, d).
        profile: the kernel of squared distances.
        unbiased: whether to leave out each sample's pair with itself.
        block: pairs held at a time, backward as well as forward.
    """
    n = len(a)
    if n * n <= block:
        kernel = profile(squared_distances(a, a))
        apart = kernel.sum() - kernel.diagonal().sum()
    else:
        rows = pieces(n, even(n, math.isqrt(block)))

        def diagonal(a: Tensor, b: Tensor) -> Tensor:
            kernel = profile(squared_distances(a, b))
            return kernel.sum() - kernel.diagonal().sum()

        def above(a: Tensor, b: Tensor) -> Tensor:
            return 2 * profile(squared_distances(a, b)).sum()

        apart = sum_of_blocks(diagonal, zip(rows, rows, strict=True), a, a)
        apart = apart + sum_of_blocks(above, itertools.combinations(rows, 2), a, a)
    if unbiased:
        return apart / (n * (n - 1))
    return (apart + n * profile(a.new_zeros(()))) / n**2  # without the diagonal's rounding


def even(n: int, most: int) -> int:
    """Return the size of blocks as even as can be.

    Blocks of one size leave no holes in the memory that the next would not fit into.

    Args:
        n: how many are to be split.
        most: of a block; it has one at least.

    Example:
        >>> even(10, 4)
        4
        >>> even(10, 9)
        5
    """
    return -(-n // -(-n // max(1, most)))


def pieces(n: int, size: int) -> list[slice]:
    """Return the rows of each block.

    Args:
        n: rows in all.
        size: rows of a block.
    """
    return [slice(start, min(n, start + size)) for start in range(0, n, size)]


def sum_of_blocks(
    part: Part, blocks: Iterable[tuple[slice, slice]], a: Tensor, b: Tensor
) -> Tensor:
    """Return the sum of a function of two sets over blocks of their rows, shape ().

    One block is held at a time, backward as well as forward: backward makes each anew (Chen, Xu,
    Zhang and Guestrin, 2016, Training deep nets with sublinear memory cost). Of all blocks there is
    one step in autograd's graph: many small steps would lie scattered among the large blocks, and
    keep a processor's allocator from using their room again. Second derivatives can be had, but
    keep all blocks.

    Args:
        part: function of rows of either set, shape (), without randomness.
        blocks: which rows of each set.
        a: samples, (n, d).
        b: samples, (m, d).
    """
    return cast(Tensor, _SumOfBlocks.apply(part, list(blocks), a, b))


class _SumOfBlocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, part: Part, blocks: list[tuple[slice, slice]], a: Tensor, b: Tensor
    ) -> Tensor:
        ctx.part, ctx.blocks = part, blocks
        ctx.save_for_backward(a, b)
        total = a.new_zeros(())
        for rows, columns in blocks:
            total = total + part(a[rows], b[columns])
        return total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        again = torch.is_grad_enabled()  # a second derivative is wanted
        slopes = [torch.zeros_like(t) for t in ctx.saved_tensors]
        for block in ctx.blocks:
            with torch.enable_grad():
                inputs = [t[rows] for t, rows in zip(ctx.saved_tensors, block, strict=True)]
                inputs = [t if again and t.requires_grad else t.detach() for t in inputs]
                value = ctx.part(*[t.requires_grad_() for t in inputs])
            found = torch.autograd.grad(value, inputs, slope, create_graph=again)
            for total, rows, more in zip(slopes, block, found, strict=True):
                total[rows] += more
        return None, None, *slopes
