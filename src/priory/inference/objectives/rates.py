"""Terms on each latent's rate KL(q || p): what any bound may be added to, to hold its layers up."""

from __future__ import annotations

import torch
from torch import Tensor

from priory.inference.objectives.base import Objective, Weight
from priory.inference.objectives.schedules import Schedule, current
from priory.inference.phases.arguments import modules_of
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.phases import Phases
from priory.priors.boltzmann import refuse_offset


def rate(awake: Phase, site: str, analytic: bool = False) -> Tensor:
    r"""Return a latent's rate :math:`KL(q(z \mid x, .) \| p(z \mid .))`, shape (), in nats.

    Args:
        awake: The data and the guide's latents.
        site: The latent's name.
        analytic: Whether in closed form where there is one; else by the draws.
    """
    exact = awake.mean_kl(site) if analytic else None
    return awake.mean_log_q([site]) - awake.mean_log_p([site]) if exact is None else exact


class FreeBits(Objective):
    r"""Frees each latent's first nats from the bound's price: a layer is not pushed below them.

    .. math:: \sum_s \max(\lambda - KL_s, 0)

    `ELBO() + FreeBits(0.5)` charges :math:`\max(KL_s, \lambda)` of each latent site s,
    averaged over the batch. Kingma et al., Improved Variational Inference with Inverse
    Autoregressive Flow, 2016.

    Args:
        nats: :math:`\lambda`, nats per datum of each site, a number or a schedule.
        sites: The latents; all of single data if none is named.
        analytic: Whether the rates are in closed form where there is one, as in the bound beside
            it: `ELBO(analytic_kl=True)`.

    Raises:
        ValueError: `nats` is negative; at the first loss, a site is no latent, or the prior's log Z
            is not known in training.
    """

    name = "free-bits"

    def __init__(
        self, nats: Weight = 0.5, sites: str | tuple[str, ...] = (), analytic: bool = False
    ) -> None:
        _check("nats", nats)
        self.nats = nats
        self.sites, self.analytic = sites, analytic

    def loss(self, phases: Phases) -> Tensor:
        """Return what is missing of the nats."""
        rates = _rates(phases, self.sites, self.analytic)
        return torch.stack([(current(self.nats) - r).clamp(min=0) for r in rates]).sum()


class Capacity(Objective):
    r"""Holds the rate of all latents near a capacity, which a schedule may raise.

    .. math:: \gamma\, |KL - C| - KL

    `ELBO() + Capacity(Linear(0, 25, 100_000), 100)` is the expected log likelihood under that
    price: Burgess et al., Understanding disentangling in beta-VAE, 2018.

    Args:
        nats: C, nats per datum, a number or a schedule.
        weight: :math:`\gamma`.
        sites: The latents; all of single data if none is named.
        analytic: Whether the rates are in closed form where there is one, as in the bound beside
            it: `ELBO(analytic_kl=True)`.

    Raises:
        ValueError: A number is negative; at the first loss, a site is no latent.
    """

    name = "capacity"

    def __init__(
        self,
        nats: Weight = 25.0,
        weight: Weight = 100.0,
        sites: str | tuple[str, ...] = (),
        analytic: bool = False,
    ) -> None:
        _check("nats", nats)
        _check("weight", weight)
        self.nats, self.weight = nats, weight
        self.sites, self.analytic = sites, analytic

    def loss(self, phases: Phases) -> Tensor:
        """Return the price of the distance, less the rate."""
        total = torch.stack(_rates(phases, self.sites, self.analytic)).sum()
        return current(self.weight) * (total - current(self.nats)).abs() - total


def _rates(phases: Phases, sites: str | tuple[str, ...], analytic: bool) -> list[Tensor]:
    awake = phases.reparameterised
    awake.refuse_soft()
    refuse_offset(modules_of(phases.model), "a term on a latent's rate")
    names = ((sites,) if isinstance(sites, str) else tuple(sites)) or awake.local
    for name in names:
        if name not in awake.latents:
            raise ValueError(f"{name!r} is no latent; the latents are {', '.join(awake.latents)}")
    return [rate(awake, name, analytic) for name in names]


def _check(name: str, value: Weight) -> None:
    if not isinstance(value, Schedule) and value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")
