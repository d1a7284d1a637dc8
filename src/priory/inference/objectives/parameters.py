"""The term by which parameters that have a distribution are trained to the most probable point."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from priory.inference.objectives.base import Objective
from priory.inference.phases.arguments import owner
from priory.inference.phases.phases import Phases
from priory.priors import Prior


class MAP(Objective):
    r"""Minus the log density of the parameters of the pair's prior, a training row's share of it.

    .. math:: -\frac1n \log p(\theta)

    `ELBO() + MAP()` is minus a lower bound on :math:`\frac1n \log p(x_1, \dots, x_n, \theta)`, so
    that training finds the most probable :math:`\theta` where it would else find the likeliest. A
    point's log density is no KL divergence: nothing is said of how sure :math:`\theta` is, and with
    other units of :math:`\theta` the value shifts by a constant. `NestedCRP` has such parameters.

    Raises:
        ValueError: At the first loss, no prior of the pair has a distribution of its parameters.

    Example:
        >>> from priory.inference import ELBO
        >>> from priory.models import VAE
        >>> pair, x = VAE("nested-crp", latent=2), torch.rand(20, 3)
        >>> (ELBO() + MAP())(pair.model, pair.guide, x).shape
        torch.Size([])
    """

    name = "map"

    def needs_awake(self, phases: Phases) -> bool:  # noqa: ARG002
        """Return no: parameters are not of a datum."""
        return False

    def loss(self, phases: Phases) -> Tensor:
        """Return minus the share of all priors that have one."""
        pair = owner(phases.model)
        parts = pair.modules() if isinstance(pair, nn.Module) else ()
        shares = [part.log_share() for part in parts if isinstance(part, Prior)]
        found = [share for share in shares if share is not None]
        if not found:
            raise ValueError(
                f"MAP() needs a prior whose parameters have a distribution, such as nested-crp, "
                f"and {type(pair).__name__} has none: leave the term out, or exchange the prior"
            )
        return -torch.stack(found).sum()
