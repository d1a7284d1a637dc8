"""Bounds on the log likelihood, and the divergence in them."""

from __future__ import annotations

import functools

from torch import Tensor

from priory.inference.objectives.base import Objective, Weight
from priory.inference.objectives.gradients import estimator
from priory.inference.objectives.schedules import Schedule, current
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
        self.gradient = estimator(gradient).name
        if self.gradient != "pathwise" and analytic_kl:
            raise ValueError(f"a closed-form KL has the pathwise gradient alone, not {gradient!r}")

    def loss(self, phases: Phases) -> Tensor:
        """Return -ELBO."""
        plain = not isinstance(self.beta, Schedule) and self.beta == 1
        if (plain and not self.analytic_kl) or self.gradient != "pathwise":
            awake, value = estimator(self.gradient)(phases, self._weights, 1)
            return -awake.average(value)
        awake = _scored(phases)
        kl = divergence(awake, self.analytic_kl)
        return current(self.beta) * kl - awake.mean_log_p(awake.observed)

    def _weights(self, phase: Phase) -> Tensor:
        if not isinstance(self.beta, Schedule) and self.beta == 1:
            return phase.log_weight()
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
    if particles > 1:
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
        self.gradient = estimator(gradient).name

    def loss(self, phases: Phases) -> Tensor:
        """Return -L_K."""
        return _loss(phases, self.gradient, 0)


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
        self.gradient = estimator(gradient).name

    def loss(self, phases: Phases) -> Tensor:
        """Return -L."""
        return _loss(phases, self.gradient, self.alpha)


def _loss(phases: Phases, gradient: str, alpha: float) -> Tensor:
    """Return a bound of order alpha with its sign turned, averaged over the batch, shape ()."""
    weights = functools.partial(_joint, particles=phases.particles)
    awake, value = estimator(gradient)(phases, weights, alpha)
    return -awake.average(value)
