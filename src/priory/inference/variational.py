"""Bounds on the log likelihood, and the divergence in them."""

from __future__ import annotations

import math

from torch import Tensor

from priory.inference.objectives import Objective, Weight, positive
from priory.inference.phase import Phase
from priory.inference.phases import Phases
from priory.inference.schedules import Schedule, current


class ELBO(Objective):
    r"""Negative evidence lower bound, averaged over the batch.

    -ELBO = -E_q[log p(x given z)] + beta (E_q[log q(z given x) - log p(z)]), in nats per datum.
    Kingma and Welling, Auto-Encoding Variational Bayes, 2014; beta: Higgins et al., beta-VAE, 2017.

    Args:
        beta: weight of the latents' term, a number or a schedule.
        particles: draws of the latents per datum that the expectation is averaged over.
        analytic_kl: take KL(q || p) in closed form where `torch.distributions.kl` knows it, which
            lowers the variance; sites without one are estimated as before.

    Raises:
        ValueError: if `beta` is negative or `particles` is not positive.
    """

    def __init__(self, beta: Weight = 1.0, particles: int = 1, analytic_kl: bool = False) -> None:
        if not isinstance(beta, Schedule) and beta < 0:
            raise ValueError(f"beta must not be negative, got {beta}")
        self.beta = beta
        self.particles = positive("particles", particles)
        self.analytic_kl = analytic_kl

    def loss(self, phases: Phases) -> Tensor:
        """Answer -ELBO."""
        awake = phases.awake
        plain = not isinstance(self.beta, Schedule) and self.beta == 1
        if plain and not self.analytic_kl:
            return -awake.average(awake.log_weight())
        bound = awake.log_p(*awake.observed) - current(self.beta) * divergence(
            awake, self.analytic_kl
        )
        return -awake.average(bound)


class KL(Objective):
    r"""Divergence of the guide from the model's latents, averaged over the batch.

    E_q[log q(z given x) - log p(z)], in nats per datum: what the ELBO takes off the expected log
    likelihood. With a reconstruction by other means it makes the VAE-GAN (Larsen et al.,
    Autoencoding beyond pixels using a learned similarity metric, 2016).

    Args:
        analytic: in closed form where `torch.distributions.kl` knows one.
    """

    def __init__(self, analytic: bool = False) -> None:
        self.analytic = analytic

    def loss(self, phases: Phases) -> Tensor:
        """Answer KL(q || p)."""
        awake = phases.awake
        return awake.average(divergence(awake, self.analytic), shared=False) - (
            awake.shared() if awake.has_shared else 0.0
        )


def divergence(awake: Phase, analytic: bool = False) -> Tensor:
    """Answer KL(q(z given x) || p(z)) of the latents in the batch plate, `(particles, batch)`.

    Args:
        awake: the data and the guide's latents.
        analytic: in closed form where there is one.
    """
    total = awake.log_q()
    if awake.local:
        total = total - awake.log_p(*awake.local)
    for site in awake.latents if analytic else ():
        exact = awake.kl(site)
        if exact is not None:
            total = total - (awake.log_q(site) - awake.log_p(site)) + exact
    return total


class IWAE(Objective):
    r"""Negative importance-weighted bound, averaged over the batch.

    -L_K = -E[log 1/K sum_k p(x, z_k) / q(z_k given x)], in nats per datum; L_K grows with K towards
    log p(x). Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016. The sum is
    over the particles of one datum, whatever scales the program's plates carry.

    Args:
        particles: K, draws of the latents per datum.

    Raises:
        ValueError: if `particles` is not positive.
    """

    def __init__(self, particles: int = 5) -> None:
        self.particles = positive("particles", particles)

    def loss(self, phases: Phases) -> Tensor:
        """Answer -L_K."""
        awake = phases.awake
        log_weight = awake.log_weight()
        bound = log_weight.logsumexp(0) - math.log(log_weight.shape[0])
        return -awake.average(bound)


class Renyi(Objective):
    r"""Negative variational Renyi bound, averaged over the batch.

    -L = -1/(1 - alpha) E[log 1/K sum_k w_k^(1 - alpha)], w_k = p(x, z_k) / q(z_k given x), in nats
    per datum. alpha = 0 is the IWAE's bound, alpha -> 1 the ELBO; with alpha > 1 it is no lower
    bound on log p(x). Li and Turner, Renyi Divergence Variational Inference, 2016.

    Args:
        alpha: order of the divergence.
        particles: K, draws of the latents per datum.

    Raises:
        ValueError: if `particles` is not positive.
    """

    def __init__(self, alpha: float = 0.5, particles: int = 5) -> None:
        self.alpha = alpha
        self.particles = positive("particles", particles)

    def loss(self, phases: Phases) -> Tensor:
        """Answer -L."""
        awake = phases.awake
        log_weight = awake.log_weight()
        if self.alpha == 1:
            return -awake.average(log_weight)
        power = 1 - self.alpha
        bound = (power * log_weight).logsumexp(0) - math.log(log_weight.shape[0])
        return -awake.average(bound / power)
