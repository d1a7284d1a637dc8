"""Bounds on the log likelihood, and the divergence in them."""

from __future__ import annotations

import functools

from torch import Tensor

from priory.inference.objectives.base import Objective, Weight
from priory.inference.objectives.gradients import (
    Gradient,
    along_the_path,
    bound,
    estimator,
    through,
)
from priory.inference.objectives.schedules import Schedule, current
from priory.inference.phases.enumeration import marked_sites
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.phases import Phases
from priory.lookup import positive


class ELBO(Objective):
    r"""Negative evidence lower bound, averaged over the batch.

    -ELBO = -E_q[log p(x | z)] + beta (E_q[log q(z | x) - log p(z)]), in nats per datum.
    Kingma and Welling, Auto-Encoding Variational Bayes, 2014; beta: Higgins et al., beta-VAE, 2017.

    Args:
        beta: weight of the latents' term, a number or a schedule.
        particles: draws of the latents per datum that the expectation is averaged over.
        analytic_kl: take KL(q || p) in closed form where `torch.distributions.kl` knows it, which
            lowers the variance; sites without one are estimated as before.
        gradient: the estimator of the gradient: pathwise; stl, which leaves q's score out;
            enumerate, score, vimco or disarm, for latents without reparameterised samples. See
            `priory.inference.Gradient`.

    Raises:
        ValueError: if `beta` is negative or `particles` is not positive; at the first loss, if the
            guide draws a latent between the values of the model's discrete distribution.
    """

    name = "elbo"

    def __init__(
        self,
        beta: Weight = 1.0,
        particles: int = 1,
        analytic_kl: bool = False,
        gradient: str = "pathwise",
    ) -> None:
        if not isinstance(beta, Schedule) and beta < 0:
            raise ValueError(f"beta must not be negative, got {beta}")
        self.beta = beta
        self.particles = positive("particles", particles)
        self.analytic_kl = analytic_kl
        self.gradient, self._estimate = gradient, estimator(gradient)
        if self.gradient != "pathwise" and analytic_kl:
            raise ValueError(f"a closed-form KL has the pathwise gradient alone, not {gradient!r}")

    def loss(self, phases: Phases) -> Tensor:
        """Return -ELBO."""
        plain = not isinstance(self.beta, Schedule) and self.beta == 1
        other = self.gradient != "pathwise" or bool(marked_sites(phases.awake.guide_sites))
        if not self.analytic_kl and (plain or other):
            awake, value = self._estimate(phases, self._weights, 1)
            return -awake.average(value)
        awake = _scored(phases)
        kl = divergence(awake, self.analytic_kl)
        return current(self.beta) * kl - awake.mean_log_p(awake.observed)

    def _weights(self, phase: Phase) -> Tensor:
        if not isinstance(self.beta, Schedule) and self.beta == 1:
            return phase.log_weight()
        if phase.has_shared:  # which `average` adds to each datum, and without the weight
            raise ValueError(
                "with sites outside of the batch plate a beta other than 1 has the pathwise "
                f"gradient alone, of what is drawn, not {self.gradient!r}; take beta=1 or "
                "gradient='pathwise'"
            )
        kl = phase.log_q(phase.scored) - phase.log_p(phase.latents)
        return phase.log_p(phase.observed) - current(self.beta) * kl


class KL(Objective):
    r"""Divergence of the guide from the model's latents, averaged over the batch.

    E_q[log q(z | x) - log p(z)], in nats per datum: what the ELBO takes off the expected log
    likelihood. With a reconstruction by other means it makes the VAE-GAN (Larsen et al.,
    Autoencoding beyond pixels using a learned similarity metric, 2016).

    Args:
        analytic: in closed form where `torch.distributions.kl` knows one.
    """

    name = "kl"

    def __init__(self, analytic: bool = False) -> None:
        self.analytic = analytic

    def loss(self, phases: Phases) -> Tensor:
        """Return KL(q || p)."""
        return divergence(_scored(phases), self.analytic)


def divergence(awake: Phase, analytic: bool = False) -> Tensor:
    """Return KL(q(z | x) || p(z)) of all latents, averaged over particles and data, shape ().

    Args:
        awake: the data and the guide's latents.
        analytic: in closed form where there is one.
    """
    found = {site: awake.mean_kl(site) for site in (awake.latents if analytic else ())}
    exact = {site: kl for site, kl in found.items() if kl is not None}
    sampled = awake.mean_log_q([n for n in awake.scored if n not in exact])
    sampled = sampled - awake.mean_log_p([n for n in awake.latents if n not in exact])
    return sum(exact.values(), sampled)


def _scored(phases: Phases) -> Phase:
    """Return the awake phase, whose latents have a density in both programs, and a gradient."""
    awake = phases.reparameterised
    awake.refuse_soft()
    return awake


def _joint(phase: Phase, particles: int) -> Tensor:
    """Return the log weights of a multi-sample bound, `(particles, batch)`, in nats.

    Raises:
        ValueError: If the weights' mean would bound nothing, or rows are weighted inside of it.
    """
    log_weight = phase.log_weight()
    if max(particles, len(log_weight)) > 1:
        if reason := phase.no_bound():
            raise ValueError(f"no multi-sample bound: {reason}; train by ELBO()")
        if phase.weighs_rows_by_scale:
            raise ValueError(
                "poutine.scale gives every site one scale for each row, which would stand inside "
                "of the multi-sample bound's logarithm; give the rows' weights as the data's "
                "column 'weight', which is applied outside"
            )
        if phase.latents and not any(phase.drawn_per_datum(n) for n in phase.scored):
            raise ValueError(
                f"{particles} particles of one datum cannot be had: the guide draws all "
                "that is random outside of the batch plate, once for all data; train by ELBO()"
            )
    return log_weight


class IWAE(Objective):
    r"""Negative importance-weighted bound, averaged over the batch.

    -L_K = -E[log 1/K sum_k p(x, z_k) / q(z_k | x)], in nats per datum; L_K grows with K towards
    log p(x). Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016. The sum is
    over the particles of one datum: the batch plate's subsampling scale stays outside of the
    logarithm, as do the rows' weights (the data's column `weight`). Any other scale is part of the
    density, as in Pyro.

    Args:
        particles: K, draws of the latents per datum.
        gradient: the estimator of the gradient: pathwise, dreg or stl; enumerate, score, vimco or
            disarm for latents without reparameterised samples. See `priory.inference.Gradient`.

    Raises:
        ValueError: if `particles` is not positive; at the first loss with K > 1, if the guide draws
            auxiliary sites of which the latents are no function, or `poutine.scale` weighs rows.
    """

    name = "iwae"

    def __init__(self, particles: int = 5, gradient: str = "pathwise") -> None:
        self.particles = positive("particles", particles)
        self.gradient, self._estimate = gradient, estimator(gradient)

    def loss(self, phases: Phases) -> Tensor:
        """Return -L_K."""
        return _loss(phases, self._estimate, 0)


class Renyi(Objective):
    r"""Negative variational Renyi bound, averaged over the batch.

    -L = -1/(1 - alpha) E[log 1/K sum_k w_k^(1 - alpha)], w_k = p(x, z_k) / q(z_k | x), in nats
    per datum. alpha = 0 is the IWAE's bound, alpha -> 1 the ELBO; with alpha > 1 it is no lower
    bound on log p(x). Li and Turner, Renyi Divergence Variational Inference, 2016.

    Args:
        alpha: order of the divergence.
        particles: K, draws of the latents per datum.
        gradient: the estimator of the gradient, as in `IWAE`.

    Raises:
        ValueError: if `particles` is not positive.
    """

    name = "renyi"

    def __init__(self, alpha: float = 0.5, particles: int = 5, gradient: str = "pathwise") -> None:
        self.alpha = alpha
        self.particles = positive("particles", particles)
        self.gradient, self._estimate = gradient, estimator(gradient)

    def loss(self, phases: Phases) -> Tensor:
        """Return -L."""
        return _loss(phases, self._estimate, self.alpha)


class MIWAE(Objective):
    r"""Negative mean of several importance-weighted bounds, averaged over the batch.

    .. math:: -L_{M,K} = -\frac 1M \sum_m \log \frac 1K \sum_k w_{mk}

    in nats per datum. As tight as the IWAE's with K particles, with a less noisy gradient of the
    guide. Rainforth et al., Tighter Variational Bounds are Not Necessarily Better, 2018.

    Args:
        particles: M K, draws of the latents per datum.
        groups: M, bounds that are averaged.

    Raises:
        ValueError: if a number is not positive, or the groups are not of equal size; at the first
            loss, as in `IWAE`.
    """

    name = "miwae"

    def __init__(self, particles: int = 64, groups: int = 8) -> None:
        self.particles = positive("particles", particles)
        self.groups = positive("groups", groups)
        if particles % groups:
            raise ValueError(f"{particles} particles are no {groups} groups of equal size")

    def loss(self, phases: Phases) -> Tensor:
        """Return -L_{M, K}."""
        awake = _scored(phases)
        return -awake.average(self._grouped(_joint(awake, phases.particles)).mean(0))

    def _grouped(self, log_weight: Tensor) -> Tensor:
        """Return each group's bound, `(groups, batch)`."""
        return bound(log_weight.unflatten(0, (self.groups, -1)).transpose(0, 1), 0)


class PIWAE(MIWAE):
    r"""The IWAE's bound for the model, of all draws; the mean of several for the guide.

    The model learns by :math:`L_{MK}` and the guide by :math:`L_{M,K}` of `MIWAE`, by its doubly
    reparameterised gradient; its value is the former, with its sign turned, in nats per datum.
    Rainforth et al., Tighter Variational Bounds are Not Necessarily Better, 2018.

    Args:
        particles: M K, draws of the latents per datum.
        groups: M, bounds that are averaged for the guide.

    Raises:
        ValueError: as in `MIWAE`; at the first loss, if a latent has no reparameterised samples.
    """

    name = "piwae"

    def loss(self, phases: Phases) -> Tensor:
        """Return -L_{MK}."""
        awake, fixed = along_the_path(phases)
        log_weight = _joint(fixed, phases.particles)
        grouped = log_weight.detach().unflatten(0, (self.groups, -1))
        shares = grouped.softmax(1).square().flatten(0, 1) / self.groups
        value = bound(log_weight, 0) + through(awake, fixed, log_weight, shares)
        return -fixed.average(value)


class CIWAE(Objective):
    r"""Negative combination of the ELBO and the IWAE's bound on the same draws.

    .. math:: -\beta L_1 - (1 - \beta) L_K

    averaged over the batch, in nats per datum. Rainforth et al., Tighter Variational Bounds are
    Not Necessarily Better, 2018.

    Args:
        beta: Weight of the ELBO, between 0 and 1.
        particles: K, draws of the latents per datum.

    Raises:
        ValueError: if `beta` is out of range or `particles` is not positive; at the first loss, as
            in `IWAE`.
    """

    name = "ciwae"

    def __init__(self, beta: float = 0.5, particles: int = 64) -> None:
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must lie between 0 and 1, got {beta}")
        self.beta = beta
        self.particles = positive("particles", particles)

    def loss(self, phases: Phases) -> Tensor:
        """Return the combination."""
        awake = _scored(phases)
        log_weight = _joint(awake, phases.particles)
        value = self.beta * log_weight.mean(0) + (1 - self.beta) * bound(log_weight, 0)
        return -awake.average(value)


def _loss(phases: Phases, estimate: Gradient, alpha: float) -> Tensor:
    """Return a bound of order alpha with its sign turned, averaged over the batch, shape ()."""
    weights = functools.partial(_joint, particles=phases.particles)
    awake, value = estimate(phases, weights, alpha)
    return -awake.average(value)
