"""Entropic transport between two sets, in the log domain, without a matrix of costs."""

import itertools
import math

import torch
from torch import Tensor

from priory.divergences.pairwise import BLOCK, even, pieces, product, sample_sets, sum_of_blocks

_RELAXATION = 1.8


def sinkhorn(
    a: Tensor,
    b: Tensor,
    eps: float = 0.05,
    steps: int = 100,
    debias: bool = True,
    block: int = BLOCK,
) -> Tensor:
    r"""Return the entropic transport cost between two sets, for the squared distance.

    .. math:: S = T_\epsilon(a, b) - \tfrac12 T_\epsilon(a, a) - \tfrac12 T_\epsilon(b, b), \quad
        T_\epsilon = \max_{f, g} E f + E g - \epsilon E (e^{(f + g - c) / \epsilon} - 1)

    Genevay, Peyre and Cuturi, 2018, Learning generative models with Sinkhorn divergences; Feydy et
    al., 2019, Interpolating between optimal transport and MMD using Sinkhorn divergences. The
    potentials are iterated without gradients, from a large temperature down to `eps`; the last step
    alone carries the gradient, which is exact at the optimum. At the last temperature the steps
    between two sets are over-relaxed (Thibault et al., 2021, Overrelaxed Sinkhorn-Knopp algorithm
    for regularized optimal transport), those within one averaged.

    Args:
        a: Samples, (n, d).
        b: Samples, (m, d).
        eps: Temperature, in units of squared distance; the smaller, the nearer to transport and the
            more steps are needed.
        steps: Number of iterations.
        debias: Whether to take off the two self-terms, so that a set is at distance 0 of itself.
        block: Pairs of samples held at a time; larger sets are compared block by block.

    Raises:
        ValueError: The shapes don't fit, or `eps`, `steps` or `block` isn't positive.
    """
    a, b = sample_sets(a, b)
    if not eps > 0 or steps < 1 or block < 1:
        raise ValueError(f"eps, steps and block must be positive, got {eps}, {steps} and {block}")
    centre = b.detach().mean(0)
    a, b = a - centre, b - centre
    with torch.autocast(a.device.type, enabled=False):
        temperatures = _temperatures(a.detach(), b.detach(), eps, steps)
        cost = _between(a, b, temperatures, block)
        if not debias:
            return cost
        # Averaged steps halve the error at least, so that half as many do.
        temperatures = temperatures[::-2][::-1]
        own = [_within(c, temperatures, block) for c in (a, b)]
        return cost - 0.5 * (own[0] + own[1])


def _temperatures(a: Tensor, b: Tensor, eps: float, steps: int) -> list[Tensor]:
    """Return temperatures that fall geometrically over the first half, and then stay at `eps`."""
    radius = a.square().sum(1).amax().sqrt() + b.square().sum(1).amax().sqrt()
    start = radius.square().clamp(min=eps)
    fall = [start * (eps / start) ** (2 * (i + 1) / steps) for i in range(steps // 2)]
    return fall + [torch.full_like(start, eps)] * (steps - len(fall))


def _between(a: Tensor, b: Tensor, temperatures: list[Tensor], block: int) -> Tensor:
    x, y, last = a.detach(), b.detach(), temperatures[-1]
    f, g = -x.square().sum(1), -y.square().sum(1)
    with torch.no_grad():
        for t in temperatures:
            weight = _RELAXATION if t is last else 1.0
            f = f.lerp(soft_minimum(x, y, g, t, block), weight)
            g = g.lerp(soft_minimum(y, x, f, t, block), weight)
    # Each potential's own last step carries the whole gradient, so the two are averaged.
    return 0.5 * (_value(a, b, g, last, block) + _value(b, a, f, last, block))


def _within(a: Tensor, temperatures: list[Tensor], block: int) -> Tensor:
    x = a.detach()
    f = -x.square().sum(1)
    with torch.no_grad():
        for t in temperatures:
            f = f.lerp(soft_minimum(x, x, f, t, block), 0.5)
    return _value(a, a, f, temperatures[-1], block)


def _value(a: Tensor, b: Tensor, potential: Tensor, temperature: Tensor, block: int) -> Tensor:
    """Return the value of the dual at a potential of b and its soft minimum."""
    squares = b.square().sum(1)
    g = (potential + squares).detach()
    rows, columns = _bordered(a, b, g - squares, temperature)
    height = even(len(a), block // len(b))
    if len(a) * len(b) <= block:
        total = _total(rows, columns)
    else:
        blocks = itertools.product(pieces(len(a), height), [slice(0, len(b))])
        total = sum_of_blocks(_total, blocks, rows, columns)
    soft = temperature * (math.log(len(b)) - total / len(a))
    return a.square().sum(1).mean() + soft + g.mean()


def _total(rows: Tensor, columns: Tensor) -> Tensor:
    return product(rows, columns.mT).logsumexp(1).sum()  # backward may run under autocast


def _bordered(
    a: Tensor, b: Tensor, potential: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor]:
    """Return two matrices whose product is (2 a b' + potential) / temperature."""
    rows = torch.nn.functional.pad(a * (2 / temperature), (0, 1), value=1.0)
    return rows, torch.cat([b, (potential / temperature).unsqueeze(1)], 1)


def soft_minimum(
    a: Tensor, b: Tensor, potential: Tensor, temperature: Tensor, block: int = BLOCK
) -> Tensor:
    r"""Return each sample's soft minimum over the other set, less its own square, (n,).

    .. math:: f_i - |a_i|^2 = -t \log \frac{1}{m} \sum_j e^{(g_j - |b_j|^2 + 2 a_i \cdot b_j) / t}

    So f_i is the soft minimum of |a_i - b_j|^2 - g_j, with the squares multiplied out. The sets
    should be centred for that.

    Args:
        a: samples, (n, d).
        b: samples, (m, d).
        potential: g_j - |b_j|^2, (m,).
        temperature: t, shape ().
        block: pairs held at a time.
    """
    rows, logits = a * (2 / temperature), potential / temperature
    blocks = rows.split(even(len(a), block // len(b)))
    parts = [_log_sums(torch.addmm(logits, some, b.mT)) for some in blocks]
    sums = parts[0] if len(parts) == 1 else torch.cat(parts)
    return (math.log(len(b)) - sums) * temperature


def _log_sums(logits: Tensor) -> Tensor:
    """Return the log of each row's sum of exponentials, from the normaliser of one column.

    Fused, and so several times as fast as `logsumexp`, whose small exponentials are denormal.
    """
    return logits[:, 0] - logits.log_softmax(1)[:, 0]
