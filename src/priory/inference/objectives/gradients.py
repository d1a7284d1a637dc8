r"""Estimators of a bound's gradient, where the plain one is noisy, biased or not to be had.

With K particles of a datum the log weights and the bound of order :math:`\alpha` are

.. math:: \ell_k = \log p(x, z_k) - \log q(z_k \mid x), \qquad
    L = \frac{1}{1 - \alpha} \log \frac 1K \sum_k e^{(1 - \alpha) \ell_k}, \qquad
    v_k = \frac{e^{(1 - \alpha) \ell_k}}{\sum_j e^{(1 - \alpha) \ell_j}},

the ELBO for :math:`\alpha \to 1` and the importance-weighted bound for :math:`\alpha = 0`. An
estimator returns L itself, with a gradient of its own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from priory.inference.phases.antithetic import logits_of
from priory.inference.phases.enumeration import listed_sites, marked_sites
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.pathwise import refuse_guide
from priory.inference.phases.phases import Phases
from priory.lookup import named
from priory.registry import registry

Weights = Callable[[Phase], Tensor]


def bound(log_weight: Tensor, alpha: float, log_measure: Tensor | None = None) -> Tensor:
    """Return the bound of order alpha, `(batch,)`; for alpha = 1 each particle's, to be averaged.

    Args:
        log_weight: `(particles, batch)`, in nats.
        alpha: the order.
        log_measure: logs of the particles' shares of the mean, `(particles, batch)`; all alike
            without it.
    """
    power = 1 - alpha
    if log_measure is not None:
        if alpha == 1:
            return (log_measure.exp() * log_weight).sum(0)
        return (log_measure + power * log_weight).logsumexp(0) / power
    if alpha == 1:
        return log_weight
    return ((power * log_weight).logsumexp(0) - math.log(log_weight.shape[0])) / power


class Gradient(ABC):
    """An estimator of the gradient of a bound.

    Attributes:
        name: What it is called.
    """

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, phases: Phases, weights: Weights, alpha: float) -> tuple[Phase, Tensor]:
        """Return the awake phase, and the bound of each datum, `(batch,)` or `(particles, batch)`.

        Args:
            phases: The batch's.
            weights: From a phase to the log weights, `(particles, batch)`.
            alpha: The bound's order.

        Raises:
            ValueError: The latents do not suit the estimator.
        """


class Pathwise(Gradient):
    """The gradient through reparameterised latents, as autograd finds it.

    Latents that the guide marks, as `pyro.infer.config_enumerate` does, are enumerated; of a
    `StratifiedMixture` every component is drawn from, and weighed by its weight.
    """

    name = "pathwise"

    def __call__(self, phases: Phases, weights: Weights, alpha: float) -> tuple[Phase, Tensor]:
        """Return the bound with its own gradient."""
        sites = self.enumerated(phases.awake)
        awake = phases.enumerating(sites) if sites else phases.awake
        refuse_guide(awake.guide_sites)
        awake.refuse_soft()
        return awake, bound(weights(awake), alpha, awake.log_measure(phases.particles))

    def enumerated(self, awake: Phase) -> tuple[str, ...]:
        """Return the names of the latents whose values are enumerated.

        Args:
            awake: The guide's draws.
        """
        return marked_sites(awake.guide_sites)


class Enumerate(Pathwise):
    r"""The exact sum over the values c of the latents that have no reparameterised samples.

    .. math::

        L = \frac{1}{1 - \alpha}
            \log \frac 1K \sum_k \sum_c q(c \mid x) e^{(1 - \alpha) \ell_{kc}}

    with the other latents drawn K times for each c. All combinations of such latents' values are
    taken, up to 4,096 for a datum.
    """

    name = "enumerate"

    def enumerated(self, awake: Phase) -> tuple[str, ...]:
        """Return the names of the latents without reparameterised samples, and those marked.

        Those whose values can be listed are found without gradients too, as in validation.
        """
        found = {*awake.unreparameterised, *listed_sites(awake.guide_sites)}
        return tuple(n for n in awake.guide_sites if n in found)


class StickTheLanding(Gradient):
    r"""The path's gradient alone: q's parameters are constants in log q(z | x).

    What is left out has mean 0 for the ELBO; at the exact posterior the estimator has no variance.
    With several particles under a logarithm what is left out has another mean: the gradient of the
    guide is then biased (Tucker et al., 2019), and `dreg` is the one without bias. Roeder, Wu and
    Duvenaud, Sticking the Landing, 2017.
    """

    name = "stl"

    def __call__(self, phases: Phases, weights: Weights, alpha: float) -> tuple[Phase, Tensor]:
        """Return the bound, with the path's gradient."""
        _check(phases, points=True)
        fixed = phases.by_constants(leaves=False)
        return fixed, bound(weights(fixed), alpha)


class DoublyReparameterised(Gradient):
    r"""The doubly reparameterised gradient: lower variance, and a signal that grows with K.

    .. math:: \nabla_\phi L = \mathbb E \sum_k (\alpha v_k + (1 - \alpha) v_k^2)
        \frac{\partial \ell_k}{\partial z_k} \frac{\partial z_k}{\partial \phi}

    Tucker, Lawson, Gu and Maddison, Doubly Reparameterized Gradient Estimators for Monte Carlo
    Objectives, 2019. For the ELBO it is `stl`.
    """

    name = "dreg"

    def __call__(self, phases: Phases, weights: Weights, alpha: float) -> tuple[Phase, Tensor]:
        """Return the bound, with the doubly reparameterised gradient."""
        awake, fixed = along_the_path(phases)
        log_weight = weights(fixed)
        value = bound(log_weight, alpha)
        v = shares(log_weight.detach(), alpha)
        return fixed, value + through(awake, fixed, log_weight, alpha * v + (1 - alpha) * v**2)


class TailAdaptive(Gradient):
    r"""The guide learns by a divergence that covers the posterior's tails, whatever they weigh.

    .. math:: \frac{1}{\sum_j \gamma_j} \sum_k \gamma_k \frac{\partial \ell_k}{\partial z_k}
        \frac{\partial z_k}{\partial \phi}, \qquad
        \gamma_k^{-1} = \frac 1K \#\{j : w_j \ge w_k\}

    By the ranks of the weights alone, so that no heavy tail makes its variance infinite. It is the
    gradient of no bound: the model's is that of the bound, the guide's that of an f-divergence that
    adapts to the weights. Wang, Liu and Liu, Variational Inference with Tail-adaptive f-Divergence,
    2018.
    """

    name = "tail-adaptive"

    def __call__(self, phases: Phases, weights: Weights, alpha: float) -> tuple[Phase, Tensor]:
        """Return the bound, with the tail-adaptive gradient of the guide."""
        awake, fixed = along_the_path(phases)
        log_weight = weights(fixed)
        known = log_weight.detach()
        tail = (known.unsqueeze(0) >= known.unsqueeze(1)).to(known).mean(1)
        share = tail.reciprocal() / tail.reciprocal().sum(0)
        return fixed, bound(log_weight, alpha) + through(awake, fixed, log_weight, share)


class LeaveOneOut(Gradient):
    r"""The score-function gradient, each particle against the bound of the others.

    .. math:: \nabla L + \sum_k (L - L_{-k}) \nabla \log q(z_k \mid x)

    The score is that of the latents without reparameterised samples; the others' gradient goes
    through their draws. Unbiased, as :math:`L_{-k}` does not depend on :math:`z_k`; with one
    particle there is nothing to compare with, and the variance is large. Williams, REINFORCE, 1992;
    Kool, van Hoof and Welling, Buy 4 REINFORCE Samples, Get a Baseline for Free!, 2019.
    """

    name = "score"

    def others(self, log_weight: Tensor, alpha: float) -> Tensor:
        """Return the baseline of each particle, `(particles, batch)`.

        Args:
            log_weight: `(particles, batch)`, without a gradient.
            alpha: The bound's order.
        """
        k = len(log_weight)
        if k == 1:
            return torch.zeros_like(log_weight)
        if alpha == 1:
            return (log_weight.sum(0) - log_weight) / (k - 1)
        power = 1 - alpha
        return (_without_each(power * log_weight).logsumexp(0) - math.log(k - 1)) / power

    def __call__(self, phases: Phases, weights: Weights, alpha: float) -> tuple[Phase, Tensor]:
        """Return the bound, with the score-function gradient."""
        awake = phases.awake
        awake.refuse_soft()
        awake.refuse_shared(f"the gradient {self.name!r}", points=True)
        log_weight = weights(awake)
        value, known = bound(log_weight, alpha), log_weight.detach()
        advantage = bound(known, alpha) - self.others(known, alpha)
        score = awake.log_q(awake.unreparameterised) if awake.unreparameterised else None
        if score is None:
            return awake, value
        per_datum = advantage * score if alpha == 1 else (advantage * score).sum(0)
        return awake, value + per_datum - per_datum.detach()


class VIMCO(LeaveOneOut):
    r"""As `score`, with the geometric mean of the others in a particle's place.

    .. math:: L_{-k} = \log \frac 1K \Bigl(\sum_{j \ne k} w_j + \hat w_k\Bigr), \qquad
        \log \hat w_k = \frac{1}{K - 1} \sum_{j \ne k} \ell_j

    Mnih and Rezende, Variational Inference for Monte Carlo Objectives, 2016.
    """

    name = "vimco"

    def others(self, log_weight: Tensor, alpha: float) -> Tensor:
        """Return the baseline of each particle, `(particles, batch)`."""
        k = len(log_weight)
        if k == 1:
            raise ValueError("the gradient 'vimco' compares particles: give 2 or more")
        mean = (log_weight.sum(0) - log_weight) / (k - 1)
        if alpha == 1:
            return mean
        return _replaced(log_weight, mean, alpha)


class DisARM(Gradient):
    r"""The gradient of bits by antithetic twins, whose common part is integrated out.

    .. math:: \tfrac12 \sum_i (L(b) - L(\tilde b)) (b_i - \tilde b_i) \sigma(|l_i|) \nabla l_i,
        \qquad b_i = 1[u_i < \sigma(l_i)], \quad \tilde b_i = 1[1 - u_i < \sigma(l_i)]

    Each particle has a twin for each site of bits: the same above the site, antithetic there, with
    draws of its own below, so that S sites cost 1 + S times the draws. L(b) - L(b~) is the change
    of the bound where one particle is exchanged for its twin, the others being all first draws, or
    all twins: the mean of the two. The bound is the mean of those of the first draws and of the
    twins, each of K particles. Unbiased, with one particle too. Dong, Mnih and Tucker, DisARM: An
    Antithetic Gradient Estimator for Binary Latent Variables, 2020; Yin et al., 2020, call it U2G.
    """

    name = "disarm"

    def __call__(self, phases: Phases, weights: Weights, alpha: float) -> tuple[Phase, Tensor]:
        """Return the bound, with the gradient by twins."""
        awake, k = phases.antithetic, phases.particles
        awake.refuse_soft()
        awake.refuse_shared(f"the gradient {self.name!r}", points=True)
        if not awake.unreparameterised:
            return awake, bound(weights(awake), alpha)
        groups = weights(awake).unflatten(0, (-1, k))
        value = torch.stack([_whole(bound(each, alpha), alpha) for each in groups]).mean(0)
        first, *twins = groups.detach()
        for n, name in enumerate(awake.unreparameterised):
            site = awake.guide_sites[name]
            bits, logits = site["value"].split(k), logits_of(site)[:k]
            slope = (bits[0] - bits[n + 1]) * logits.detach().abs().sigmoid() / 2
            score = awake.sum_per_datum(name, slope * logits)
            gain = _whole(_gains(first, twins[n], alpha) * score, alpha)
            value = value + gain - gain.detach()
        return awake, value


class StraightThrough(Gradient):
    r"""Bits and one-hot codes hand on the gradient of their means, as if they were these.

    .. math:: b = b' + p - \mathrm{const}(p), \qquad b' \sim \mathrm{Bernoulli}(p)

    The values are whole, and so is the bound; the gradient of the guide is biased, of low variance,
    and costs one run. Bengio, Leonard and Courville, 2013, Estimating or propagating gradients
    through stochastic neurons for conditional computation.
    """

    name = "straight-through"

    def __call__(self, phases: Phases, weights: Weights, alpha: float) -> tuple[Phase, Tensor]:
        """Return the bound, with the gradient of the means."""
        awake = phases.straight_through
        awake.refuse_soft()
        return awake, bound(weights(awake), alpha)


_OWN = (
    Pathwise,
    Enumerate,
    StickTheLanding,
    DoublyReparameterised,
    TailAdaptive,
    LeaveOneOut,
    VIMCO,
    DisARM,
    StraightThrough,
)
GRADIENTS: dict[str, type[Gradient]] = registry(Gradient, _OWN)
"""The estimators by name."""


def estimator(name: str) -> Gradient:
    """Return an estimator by its name.

    Raises:
        ValueError: There is none of that name; the nearest one is named.
    """
    kind: type[Gradient] = named("gradient", name, GRADIENTS)
    return kind()


def shares(log_weight: Tensor, alpha: float) -> Tensor:
    """Return the particles' shares v of a bound, which add up to 1 for each datum.

    Args:
        log_weight: `(particles, batch)`.
        alpha: The bound's order.
    """
    return ((1 - alpha) * log_weight).softmax(0)


def through(awake: Phase, fixed: Phase, log_weight: Tensor, coefficient: Tensor) -> Tensor:
    r"""Return 0 for each datum, `(batch,)`, with the gradient through the guide's draws.

    .. math:: \sum_k c_k \frac{\partial \ell_k}{\partial z_k} \frac{\partial z_k}{\partial \phi}

    Args:
        awake: The guide's draws.
        fixed: The same values as leaves, from which the log weights are computed.
        log_weight: `(particles, batch)`; each row's depends on its own draws.
        coefficient: c, `(particles, batch)`.
    """
    values = {n: site["value"] for n, site in fixed.guide_sites.items()}
    leaves = {n: v for n, v in values.items() if v.is_leaf and v.requires_grad}
    slopes = torch.autograd.grad(
        log_weight.sum(), list(leaves.values()), retain_graph=True, allow_unused=True
    )
    total = torch.zeros_like(log_weight)
    for name, slope in zip(leaves, slopes, strict=True):
        if slope is not None:
            total = total + awake.sum_per_datum(name, slope * awake.guide_sites[name]["value"])
    per_datum = (coefficient * total).sum(0)
    return per_datum - per_datum.detach()


def along_the_path(phases: Phases) -> tuple[Phase, Phase]:
    """Return the awake phase, and its values as leaves, scored by a guide of constants.

    Args:
        phases: The batch's.

    Raises:
        ValueError: A latent has no reparameterised samples, or is not of a single datum.
    """
    return _check(phases), phases.by_constants(leaves=True)


def _check(phases: Phases, *, points: bool = False) -> Phase:
    """Return the awake phase, all of whose latents are reparameterised and of single data.

    Args:
        phases: The batch's.
        points: Whether a point mass may be of all data.
    """
    awake = phases.reparameterised
    awake.refuse_soft()
    awake.refuse_shared("a gradient along the path alone", points=points)
    return awake


def _whole(per_particle: Tensor, alpha: float) -> Tensor:
    """Return a datum's total of its particles' parts of a bound, `(batch,)`."""
    if per_particle.dim() == 1:
        return per_particle
    return per_particle.mean(0) if alpha == 1 else per_particle.sum(0)


def _gains(first: Tensor, twin: Tensor, alpha: float) -> Tensor:
    """Return what a bound gains by each particle over its twin, `(particles, batch)`.

    Args:
        first: the log weights of the first draws, `(particles, batch)`.
        twin: those of the twins.
        alpha: the bound's order.
    """
    if alpha == 1:
        return first - twin
    among_first = bound(first, alpha) - _replaced(first, twin, alpha)
    among_twins = _replaced(twin, first, alpha) - bound(twin, alpha)
    return (among_first + among_twins) / 2


def _replaced(log_weight: Tensor, other: Tensor, alpha: float) -> Tensor:
    """Return for each particle the bound with another log weight in its place."""
    power = 1 - alpha
    values = torch.cat([_without_each(power * log_weight), power * other.unsqueeze(0)])
    return (values.logsumexp(0) - math.log(len(log_weight))) / power


def _without_each(values: Tensor) -> Tensor:
    """Return for each particle the others' values, `(particles - 1, particles, batch)`."""
    every = torch.arange(len(values), device=values.device)
    others = every[:-1].unsqueeze(1)
    return values[others + (others >= every)]
