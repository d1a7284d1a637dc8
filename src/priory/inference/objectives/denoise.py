"""Denoising, one step of a chain at a time, or along its way."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from priory.inference.objectives.base import Objective
from priory.inference.phases.arguments import bind, owner
from priory.inference.phases.phases import Phases
from priory.inference.phases.precision import widened
from priory.inference.phases.sites import base
from priory.lookup import positive


class Denoise(Objective):
    r"""How well a denoising chain finds a datum again that it has walked away from.

    .. math:: -\sum_{k=1}^K \log p(x \mid z_k), \qquad
        z_k \sim C(z \mid x_{k-1}), \quad x_k \sim p(x \mid z_k), \quad x_0 = x

    in nats per datum, averaged over the batch; no bound on log p(x). With K = 1 it is the denoising
    autoencoder's cross entropy. More steps are walkback training: the chain goes on by its own
    draws, and is taught to come back from wherever they lead, to the datum itself, which takes away
    modes that no datum has (Bengio, Yao, Alain and Vincent, 2013, Generalized denoising
    auto-encoders as generative models). The visible draws on the way are constants, without a
    gradient; the hidden layers of a `GSN` have one through all steps.

    Args:
        walkback: K.

    Raises:
        ValueError: K isn't positive; at the first loss, if the pair is no denoising chain, its
            likelihood is a point mass, or entries of x may be missing.

    Example:
        >>> from priory.models import DAE
        >>> pair, x = DAE(), torch.eye(4)
        >>> Denoise(3)(pair.model, pair.guide, x).shape
        torch.Size([])
    """

    name = "denoise"

    def __init__(self, walkback: int = 1) -> None:
        self.walkback = positive("walkback", walkback)

    def needs_awake(self, phases: Phases) -> bool:  # noqa: ARG002
        """Return no: the chain corrupts the data by itself."""
        return False

    def loss(self, phases: Phases) -> Tensor:
        """Return the mean cost of all steps."""
        pair: Any = owner(phases.model)
        if not callable(getattr(pair, "walk", None)):
            raise ValueError(
                "Denoise() takes the steps of a chain that corrupts and denoises, a pair such as "
                f"DAE or GSN, and {type(pair).__name__} is none: train it by a bound, such as "
                "ELBO()"
            )
        phases.refuse_missing("Denoise()", "x")
        x: Tensor = bind(phases.model, phases.columns)["x"]
        pair.register(x)
        cost = torch.zeros((), dtype=x.dtype, device=x.device)
        for cleaner in pair.walk(x, self.walkback):
            if isinstance(base(cleaner), dist.Delta):
                raise ValueError(
                    "Denoise() takes log p(x | z), and the likelihood is a point mass, which has "
                    "none: take another, such as likelihood='normal'"
                )
            cost = cost - widened(cleaner).log_prob(x)
        return (cost if phases.weight is None else cost * phases.weight.to(cost)).mean()
