"""Objectives: what a pair is trained to do, as comparisons of its awake and asleep samples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from priory.inference.arguments import Program
from priory.inference.parallel import ranks
from priory.inference.phases import Phases
from priory.inference.schedules import Schedule, current

if TYPE_CHECKING:
    from priory.inference.adversary import Adversarial

Weight = float | Schedule
Divergence = Callable[[Tensor, Tensor], Tensor]


class Objective(ABC):
    """Something to minimise: a function of a pair's two phases.

    Calling one follows Pyro's custom-loss signature, so that an objective can be given to
    `pyro.infer.SVI` too. Objectives add, and scale by a number or a `Schedule`; the terms of a sum
    share the same phases, so that nothing is traced twice.

    Example:
        >>> loss = Reconstruction() + 10 * Match(mmd, "z")      # doctest: +SKIP
        >>> loss(pair.model, pair.guide, x)                     # doctest: +SKIP
    """

    particles: int = 1

    def __call__(self, model: Program, guide: Program, *args: Any, **columns: Any) -> Tensor:
        """Answer the loss of one batch, shape (), in nats per datum where nats apply.

        Args:
            model: Pyro program of p(x, z).
            guide: Pyro program of q(z given x).
            args: positional arguments of both programs.
            columns: arguments by name; each program gets those that its signature names.
        """
        return self.loss(Phases(model, guide, args, columns, particles=self.particles))

    @abstractmethod
    def loss(self, phases: Phases) -> Tensor:
        """Answer the loss on given phases, shape ()."""

    def terms(self) -> tuple[Objective, ...]:
        """Answer the objectives that this one is made of, itself if it is simple."""
        return (self,)

    def adversaries(self) -> list[Adversarial]:
        """Answer the terms that own a critic."""
        found = [a for t in self.terms() if t is not self for a in t.adversaries()]
        return list(dict.fromkeys(found))

    def __add__(self, other: Objective) -> Sum:
        """Add two objectives."""
        return Sum(self, other) if isinstance(other, Objective) else NotImplemented

    def __mul__(self, weight: Weight) -> Scaled:
        """Scale an objective by a number or a schedule."""
        return (
            Scaled(weight, self) if isinstance(weight, int | float | Schedule) else NotImplemented
        )

    __rmul__ = __mul__


class Sum(Objective):
    """The sum of objectives on the same phases.

    Args:
        objectives: the terms; sums among them are flattened.
    """

    def __init__(self, *objectives: Objective) -> None:
        self.objectives: tuple[Objective, ...] = tuple(
            t for o in objectives for t in (o.objectives if isinstance(o, Sum) else (o,))
        )
        counts = {o.particles for o in self.objectives} - {1}
        if len(counts) > 1:
            raise ValueError(
                f"the terms of a sum share their particles, got {sorted(counts)}; give all the same"
            )
        self.particles = max(counts, default=1)

    def loss(self, phases: Phases) -> Tensor:
        """Answer the sum of the terms' losses."""
        return torch.stack([o.loss(phases) for o in self.objectives]).sum()

    def terms(self) -> tuple[Objective, ...]:
        """Answer the terms."""
        return self.objectives


class Scaled(Objective):
    """An objective times a number or a schedule.

    Args:
        weight: the factor.
        objective: what it scales.
    """

    def __init__(self, weight: Weight, objective: Objective) -> None:
        self.weight = weight
        self.objective = objective
        self.particles = objective.particles

    def loss(self, phases: Phases) -> Tensor:
        """Answer the scaled loss."""
        return current(self.weight) * self.objective.loss(phases)

    def terms(self) -> tuple[Objective, ...]:
        """Answer the scaled objective."""
        return (self.objective,)


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
        bound = awake.log_p(*awake.observed) - current(self.beta) * self._kl(phases)
        return -awake.average(bound)

    def _kl(self, phases: Phases) -> Tensor:
        """Answer KL(q(z given x) || p(z)) of the latents in the batch plate, per datum."""
        awake = phases.awake
        total = awake.log_p(*awake.observed) - awake.log_weight()
        if self.analytic_kl:
            for site in awake.latents:
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


class Reconstruction(Objective):
    """Negative log-likelihood of the data under their own latents, averaged over the batch.

    -E_q[log p(site given z)], in nats per datum.

    Args:
        site: the observed site.
    """

    def __init__(self, site: str = "x") -> None:
        self.site = site

    def loss(self, phases: Phases) -> Tensor:
        """Answer the mean negative log-likelihood."""
        awake = phases.awake
        return -awake.average(awake.log_p(self.site), shared=False)


class Match(Objective):
    """A divergence between awake and asleep samples of some sites.

    D(samples of q, samples of p); with `mmd` on `z` this is the penalty of WAE-MMD (Tolstikhin et
    al., Wasserstein Auto-Encoders, 2018) and InfoVAE. Every particle of every datum is a sample;
    several sites are joined into one vector.

    Args:
        divergence: function of two sample sets `(n, d)` and `(m, d)`, answering shape ().
        sites: the sites to compare.

    Raises:
        ValueError: if no site is named.
    """

    def __init__(self, divergence: Divergence, *sites: str) -> None:
        if not sites:
            raise ValueError('Match needs the sites to compare, for instance Match(mmd, "z")')
        self.divergence = divergence
        self.sites = sites

    def loss(self, phases: Phases) -> Tensor:
        """Answer the divergence, between the samples of all ranks where there are several."""
        awake, asleep = (joined(draw, self.sites) for draw in (phases.data, phases.dream))
        return self.divergence(ranks.gather(awake), ranks.gather(asleep))


def joined(draw: Callable[[str], Tensor], sites: tuple[str, ...]) -> Tensor:
    """Answer the sites' samples side by side, `(n, d)`."""
    return torch.cat([draw(site).flatten(1) for site in sites], 1)


def positive(name: str, value: int) -> int:
    """Answer a positive integer.

    Raises:
        ValueError: if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return value
