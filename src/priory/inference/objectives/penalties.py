"""Penalties on a critic's gradient by its inputs, which keep it from growing too steep."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Samples = tuple[Tensor, ...]
Scorer = Callable[[Samples], Tensor]


def slopes(score: Scorer, samples: Samples) -> Tensor:
    """Return the squared norm of a critic's gradient at each sample, `(n,)`, differentiable.

    A sample's score must depend on no other sample: a critic with batch norm mixes the rows of a
    batch, and the norms are then those of the mixture.

    Args:
        score: from the sites' samples to scores `(n,)`.
        samples: a tensor `(n, *event)` for each site that the critic reads by itself.
    """
    with torch.enable_grad():
        inputs = [s.detach().requires_grad_() for s in samples]
        total = score(tuple(inputs)).sum()
        gradients = torch.autograd.grad(
            total, inputs, create_graph=True, allow_unused=True, materialize_grads=True
        )
    return torch.stack([g.square().flatten(1).sum(1) for g in gradients]).sum(0)


def two_sided(score: Scorer, awake: Samples, asleep: Samples) -> Tensor:
    r"""Return E (|grad C(x)| - 1)^2 at random points x between awake and asleep samples, shape ().

    Gulrajani et al., Improved Training of Wasserstein GANs, 2017: a point of the segment between an
    awake and an asleep sample, uniform along it.

    Args:
        score: from the sites' samples to scores `(n,)`.
        awake: one side's samples; of unlike numbers, the first are taken.
        asleep: the other's.
    """
    n = min(len(awake[0]), len(asleep[0]))
    place = torch.rand(n, dtype=awake[0].dtype, device=awake[0].device)
    between = []
    for a, b in zip(awake, asleep, strict=True):
        t = place.reshape(-1, *[1] * (a.dim() - 1))
        between.append(t * a[:n] + (1 - t) * b[:n])
    # The root's slope is infinite at 0, where a critic that ignores its input is.
    norms = (slopes(score, tuple(between)) + 1e-12).sqrt()
    return (norms - 1).square().mean()


def zero_centred(score: Scorer, samples: Samples) -> Tensor:
    r"""Return E |grad C(x)|^2 / 2 at samples of one side, shape ().

    R1 on awake samples, R2 on asleep ones. Mescheder, Geiger and Nowozin, Which Training Methods
    for GANs do actually Converge?, 2018.

    Args:
        score: from the sites' samples to scores `(n,)`.
        samples: the side's.
    """
    return slopes(score, samples).mean() / 2
