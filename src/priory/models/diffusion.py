"""Diffusion: a datum is drowned in noise step by step, and a net learns to undo each step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.independent import IndependentNormal, StandardNormal
from priory.distributions.pixels import IndependentBernoulli
from priory.likelihoods import Bernoulli, DiscretizedNormal, Likelihood
from priory.lookup import named
from priory.models.chain import MarkovChain
from priory.models.class_prior import ClassPrior
from priory.models.corruption import NOISES, BitFlips, GaussianNoise
from priory.models.pair import Labelled
from priory.nets import Denoiser, TimedNet

TARGETS = ("noise", "x0", "v")
VARIANCES = ("beta", "beta-tilde", "learned")
SAMPLERS = ("ancestral", "ddim")
_HYBRID = 1e-3  # the bound's weight beside the squared error
_NO_SIGNAL = 1e-12  # of the datum's share, of which noise can't be taken off


class TimedChain(MarkovChain):
    """A chain whose transitions a net with a time makes, within its part `denoiser`."""

    denoiser: Denoiser

    @property
    def net(self) -> TimedNet:
        """The net with a time."""
        found: TimedNet = self.denoiser.net
        return found


class GaussianDiffusion(TimedChain):
    r"""What diffusions with Gaussian steps share; see `Diffusion` for the arguments.

    Args:
        net: A net with a time, or its name.
        timesteps: T.
        noise: The schedule of the betas.
        target: What the net says.
        variance: sigma_t^2.
        likelihood: Of a datum given z_1.
        sampler: How ways are drawn.
        sample_steps: Steps of a drawn way.
        labels: What the net reads of a label beside the state, if it reads one.

    Raises:
        ValueError: As in `Diffusion`.
    """

    corruption: GaussianNoise
    weightings: ClassVar[tuple[str, ...]] = ("bound", "simple", "hybrid")

    def __init__(
        self,
        net: TimedNet | str,
        timesteps: int,
        noise: str,
        target: str,
        variance: str,
        likelihood: Likelihood | str,
        sampler: str,
        sample_steps: int | None,
        labels: ClassPrior | None = None,
    ) -> None:
        super().__init__(timesteps)
        named("noise schedule", noise, NOISES)
        named("target", target, dict.fromkeys(TARGETS))
        named("variance", variance, dict.fromkeys(VARIANCES))
        if target == "noise" and float(GaussianNoise(timesteps, noise, 1).left[-1]) < _NO_SIGNAL:
            raise ValueError(
                f"by the schedule {noise!r} the last state is noise alone, and no estimate of the "
                "datum is made of the noise in it: take target='v' or 'x0'"
            )
        self.noise, self.target, self.variance = noise, target, variance
        self.sampler, self.sample_steps = sampler, sample_steps
        self.check_sampling()
        if labels is not None:
            self.labels = labels
        params = 2 if variance == "learned" else 1
        self.denoiser = Denoiser(net, likelihood, params, 0 if labels is None else labels)

    def corrupting(self, event_dim: int) -> GaussianNoise:
        """Return the noise."""
        return GaussianNoise(self.timesteps, self.noise, event_dim)

    def start(self) -> TorchDistribution:
        """Return p(z_T), standard normal."""
        return StandardNormal(self.zeros, self.zeros.dim())

    def transition(self, z: Tensor, t: Tensor, *given: Tensor) -> TorchDistribution:
        """Return p(z_{t-1} | z_t)."""
        return self._transition(self._maps(z, t, *given), z, t)

    def observe(self, first: TorchDistribution) -> TorchDistribution:
        """Return p(x | z_1), in the data's units."""
        assert isinstance(first, IndependentNormal)  # noqa: S101
        return self.head.distribution((first.loc, first.log_scale), self.zeros.dim())

    def _maps(self, z: Tensor, t: Tensor, *given: Tensor) -> Tensor:
        """Return the net's maps, (params, *batch, *shape)."""
        maps: Tensor = self.denoiser(z, t / self.timesteps, *given)
        return maps.movedim(-1 - self.zeros.dim(), 0)

    def _transition(self, maps: Tensor, z: Tensor, t: Tensor) -> TorchDistribution:
        loc = self.corruption.between(z, t, self.estimate(maps[0], z, t))
        return self.corruption.normal(loc, self._log_scale(maps, t))

    def _log_scale(self, maps: Tensor, t: Tensor) -> Tensor:
        """Return log sigma_t, to be broadcast with states."""
        noise = self.corruption
        large, small = (noise.at(table, t) / 2 for table in (noise.log_beta, noise.log_tilde))
        if self.variance == "learned":
            share = (maps[1] + 1) / 2
            return share * large + (1 - share) * small
        return large if self.variance == "beta" else small

    def estimate(self, said: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return the estimate of the datum, (*batch, *shape), that the net's target makes.

        Args:
            said: What the net says of the target.
            z: States z_t.
            t: Their steps, (*batch).
        """
        signal, spread = self._shares(t)
        found = {
            "noise": lambda: (z - spread * said) / signal,
            "x0": lambda: said,
            "v": lambda: signal * z - spread * said,
        }[self.target]()
        keep = not self.training and isinstance(self.likelihood, DiscretizedNormal)
        return found.clamp(-1, 1) if keep else found

    def sought(self, z: Tensor, t: Tensor, start: Tensor) -> Tensor:
        """Return the target itself, (*batch, *shape).

        Args:
            z: States z_t.
            t: Their steps, (*batch).
            start: The data in the states' units.
        """
        if self.target == "x0":
            return start.expand_as(z)
        signal, spread = self._shares(t)
        noise = (z - signal * start) / spread
        return noise if self.target == "noise" else signal * noise - spread * start

    def _shares(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return how much of a state is the datum and how much noise."""
        noise = self.corruption
        return noise.at(noise.signal, t), noise.at(noise.log_spread, t).exp()

    def cost_of_step(
        self, z: Tensor, t: Tensor, x: Tensor, *given: Tensor, weighting: str = "bound"
    ) -> Tensor:
        """Return a step's part of the bound, or the squared error of the target, (*batch).

        "simple" is the squared error, summed over a datum, of Ho et al.; "hybrid" adds 0.001 times
        the bound, by which the variance alone is learned, of Nichol and Dhariwal.

        Raises:
            ValueError: "simple" is asked of a learned variance, of which it says nothing.
        """
        maps = self._maps(z, t, *given)
        if weighting == "bound":
            return self.divergence(self._transition(maps, z, t), z, t, x)
        error = maps[0] - self.sought(z, t, self.head.scaled(x))
        simple = error.square().sum(tuple(range(-self.zeros.dim(), 0)))
        if weighting == "simple":
            if self.variance == "learned":
                raise ValueError(
                    "the squared error says nothing of a learned variance: take "
                    "Steps('hybrid') or Steps('bound'), or a fixed variance"
                )
            return simple
        fixed = torch.cat([maps[:1].detach(), maps[1:]])
        bound = self.divergence(self._transition(fixed, z, t), z, t, x)
        return simple + _HYBRID * self.timesteps * bound

    def descend(self, z: Tensor, *given: Tensor) -> Iterator[Tensor]:
        """Yield draws of z_T, ..., z_1 by the sampler; the first is given."""
        whole = self.sampler == "ancestral" and self.sample_steps in (None, self.timesteps)
        places = self.places()
        for now, then in itertools.pairwise(places):
            for _ in range(now - then):
                yield z
            t = torch.full((), now, device=z.device)
            maps = self._guided(z, t, *given)
            z = self._transition(maps, z, t)() if whole else self._leap(maps, z, t, then)
        yield z

    def places(self) -> list[int]:
        """Return the steps at which a drawn way moves, from T to 1."""
        count = self.timesteps if self.sample_steps is None else self.sample_steps
        return torch.linspace(self.timesteps, 1, count, dtype=torch.float64).round().long().tolist()

    def _guided(self, z: Tensor, t: Tensor, *given: Tensor) -> Tensor:
        """Return the net's maps by which ways are drawn."""
        return self._maps(z, t, *given)

    def _leap(self, maps: Tensor, z: Tensor, t: Tensor, then: int) -> Tensor:
        """Draw a state from an earlier one, over the steps between.

        Song, Meng and Ermon's equation 12; with all its noise it is q(z_s | z_t, x) at the estimate
        in the place of x.

        Args:
            maps: The net's.
            z: States z_t.
            t: Their step, ().
            then: s, the step before it to be drawn.
        """
        left = self.corruption.at(self.corruption.left, t)
        after = self.corruption.left[then]
        start = self.estimate(maps[0], z, t)
        signal, spread = self._shares(t)
        noise = (z - signal * start) / spread
        variance = (1 - after) / (1 - left) * (1 - left / after)
        variance = variance * (self.sampler == "ancestral")
        mean = after.sqrt() * start + (1 - after - variance).clamp(min=0).sqrt() * noise
        return mean + variance.sqrt() * torch.randn_like(z)

    def check_sampling(self) -> None:
        """Raise a ValueError unless ways can be drawn as the attributes say."""
        named("sampler", self.sampler, dict.fromkeys(SAMPLERS))
        least, steps = min(2, self.timesteps), self.sample_steps
        if steps is not None and not least <= steps <= self.timesteps:
            raise ValueError(
                f"sample_steps must lie between {least} and the {self.timesteps} timesteps, got "
                f"{steps}"
            )

    @contextmanager
    def sampling(self, **options: Any) -> Iterator[None]:
        """Draw by other options for a while: `sampler`, `sample_steps`, `guidance`.

        Raises:
            ValueError: There is no such option, or it is out of range.
        """
        known = ["sampler", "sample_steps", *(["guidance"] if isinstance(self, Labelled) else [])]
        for option in options:
            named("option of the sampler", option, dict.fromkeys(known))
        former = {option: getattr(self, option) for option in options}
        try:
            self._set(options)
            self.check_sampling()
            yield
        finally:
            self._set(former)

    def _set(self, options: dict[str, Any]) -> None:
        for option, value in options.items():
            setattr(self, option, value)


class Diffusion(GaussianDiffusion):
    r"""Denoising diffusion with Gaussian steps.

    .. math::
        z_T \sim N(0, 1), \quad z_{t-1} \sim N(\mu(z_t, \hat x(z_t, t)), \sigma_t^2), \quad
        x \sim p(x \mid N(\hat x(z_1, 1), \sigma_1^2)); \qquad
        z_t \sim N(\sqrt{1 - \beta_t} z_{t-1}, \beta_t)

    Sohl-Dickstein et al., 2015, Deep unsupervised learning using nonequilibrium thermodynamics; Ho,
    Jain and Abbeel, 2020, Denoising diffusion probabilistic models; Nichol and Dhariwal, 2021,
    Improved denoising diffusion probabilistic models. mu is the mean of q(z_{t-1} | z_t, x) with
    the net's estimate in the place of x. Data on levels of [0, 1] have a mass, by the normal
    gathered over each level's bin; others a density. In evaluation mode estimates of data on levels
    are kept in their range, in draws and in densities alike.

    Args:
        net: A net with a time, or its name.
        timesteps: T.
        noise: The schedule of the betas, a name in `NOISES`.
        target: What the net says, of which the estimate is made: "noise", "x0" or "v", which is
            their mixture :math:`\sqrt{\bar\alpha_t} \epsilon - \sqrt{1 - \bar\alpha_t} x` (Salimans
            and Ho, 2022, Progressive distillation for fast sampling of diffusion models).
        variance: sigma_t^2: "beta", "beta-tilde", or "learned", between the two by a map of the
            net's.
        likelihood: Of a datum given z_1; "auto" takes the discretised normal where the training
            data lie on levels of [0, 1], else the normal.
        sampler: How ways are drawn: "ancestral", or "ddim", which adds no noise (Song, Meng and
            Ermon, 2021, Denoising diffusion implicit models). Densities are those of the ancestral
            way of T steps.
        sample_steps: Steps of a drawn way; None for T. Between them a way stands still.

    Raises:
        ValueError: A number isn't positive, a name is unknown, or noise is to be taken off a state
            that is noise alone; when it is built, if the last state knows more than 0.001 nats per
            dimension of the data.

    Example:
        >>> from priory.nets import TimeMLP
        >>> pair = Diffusion(TimeMLP(8, 1), 10, "cosine")
        >>> x = torch.arange(6.0).reshape(3, 2)
        >>> pair.build(x)
        >>> pair.terms(x).total.shape
        torch.Size([3])
    """

    name = "diffusion"

    def __init__(
        self,
        net: TimedNet | str = "time-mlp",
        timesteps: int = 200,
        noise: str = "linear",
        target: str = "noise",
        variance: str = "beta",
        likelihood: Likelihood | str = "auto",
        sampler: str = "ancestral",
        sample_steps: int | None = None,
    ) -> None:
        super().__init__(net, timesteps, noise, target, variance, likelihood, sampler, sample_steps)


class ConditionalDiffusion(GaussianDiffusion, Labelled):
    r"""Diffusion given a label, which classifier-free guidance may exaggerate.

    .. math:: y \sim p(y), \quad z \sim p(z \mid y), \quad x \sim p(x \mid z_1, y); \qquad
        \hat f(z_t, y) = (1 + w) f(z_t, y) - w f(z_t, \varnothing)

    Ho and Salimans, 2022, Classifier-free diffusion guidance. In training the net goes without the
    label now and then, so that it knows f without one as well. Guidance is one of draws: densities
    and the last step, p(x | z_1, y), are those of w = 0.

    Args:
        classes: Number of labels; y is an integer from 0. None takes the training rows'.
        drop: Probability that a row's label is left out in training.
        guidance: w, of draws; `priory sample` may set another.
        net: As in `Diffusion`, as are the others.
        timesteps: T.
        noise: The schedule of the betas.
        target: What the net says.
        variance: sigma_t^2.
        likelihood: Of a datum given z_1.
        sampler: How ways are drawn.
        sample_steps: Steps of a drawn way; None for T.

    Raises:
        ValueError: As in `Diffusion`; or the probability or w is out of range.

    Example:
        >>> from priory.nets import TimeMLP
        >>> pair = ConditionalDiffusion(net=TimeMLP(8, 1), timesteps=10, noise="cosine")
        >>> pair.build(torch.randn(6, 2), torch.arange(6) % 3)
        >>> pair.terms(torch.randn(4, 2), y=torch.tensor([0, 1, 2, 0])).total.shape
        torch.Size([4])
    """

    name = "conditional-diffusion"
    guidance = 0.0

    def __init__(
        self,
        classes: int | None = None,
        drop: float = 0.1,
        guidance: float = 0.0,
        net: TimedNet | str = "time-mlp",
        timesteps: int = 200,
        noise: str = "linear",
        target: str = "noise",
        variance: str = "beta",
        likelihood: Likelihood | str = "auto",
        sampler: str = "ancestral",
        sample_steps: int | None = None,
    ) -> None:
        if not 0 <= drop < 1:
            raise ValueError(f"drop must be at least 0 and below 1, got {drop}")
        super().__init__(
            net,
            timesteps,
            noise,
            target,
            variance,
            likelihood,
            sampler,
            sample_steps,
            ClassPrior(classes),
        )
        self.drop, self.guidance = drop, guidance
        self.check_sampling()

    def model(self, x: Tensor, y: Tensor) -> None:  # type: ignore[override]
        with self.batch(x):
            y = pyro.sample("y", self.labels(), obs=y)
            self.generate(x, *self.given(y=y))

    def given(self, **columns: Tensor) -> tuple[Tensor, ...]:
        """Return the labels' indicators, (*batch, classes); zeros where one is left out."""
        y = columns["y"]
        indicators = self.labels.indicators(y, self.zeros)
        if self.training and self.drop:
            kept = torch.rand(y.shape, device=y.device) >= self.drop
            indicators = indicators * kept.unsqueeze(-1)
        return (indicators,)

    def drawn_columns(self, n: int) -> dict[str, Tensor]:
        """Draw n labels."""
        return {"y": self.labels().expand((n,)).sample()}

    def cost_of_labels(self, **columns: Tensor) -> Tensor:
        """Return -log p(y), in nats, (*rows)."""
        return -self.labels().log_prob(columns["y"])

    def check_sampling(self) -> None:
        """Raise a ValueError unless ways can be drawn as the attributes say."""
        super().check_sampling()
        if not 0 <= self.guidance < math.inf:
            raise ValueError(f"guidance must not be negative or infinite, got {self.guidance}")

    def _guided(self, z: Tensor, t: Tensor, *given: Tensor) -> Tensor:
        maps = self._maps(z, t, *given)
        if not self.guidance:
            return maps
        alone = self._maps(z, t, *map(torch.zeros_like, given))
        said = maps[:1] + self.guidance * (maps[:1] - alone[:1])
        return torch.cat([said, maps[1:]])


class BinomialDiffusion(TimedChain):
    r"""Diffusion of bits, which turn into fair coins.

    .. math:: z_T \sim B(1/2), \quad
        p(z_{t-1} \mid z_t) = \sum_{\hat x} \hat p(\hat x \mid z_t, t) \,
        q(z_{t-1} \mid z_t, \hat x), \quad x \sim \hat p(x \mid z_1, 1); \qquad
        z_t \sim B((1 - \beta_t) z_{t-1} + \beta_t / 2)

    Sohl-Dickstein et al., 2015, Deep unsupervised learning using nonequilibrium thermodynamics,
    with their binomial kernel. The net says the log-odds of the datum's bits, from which a
    transition is summed, as in Austin et al., 2021, Structured denoising diffusion models in
    discrete state-spaces.

    Args:
        net: A net with a time, or its name.
        timesteps: T.
        noise: The schedule of the betas, a name in `NOISES`.

    Raises:
        ValueError: A number isn't positive, or a name is unknown; when it is built, if the data are
            no bits, or the last state knows more than 0.001 nats per dimension of them.

    Example:
        >>> from priory.nets import TimeMLP
        >>> pair, x = BinomialDiffusion(TimeMLP(8, 1), 10), torch.eye(4)
        >>> pair.build(x)
        >>> pair.terms(x).end
        tensor([0., 0., 0., 0.], dtype=torch.float64)
    """

    name = "binomial-diffusion"
    corruption: BitFlips

    def __init__(
        self, net: TimedNet | str = "time-mlp", timesteps: int = 50, noise: str = "harmonic"
    ) -> None:
        super().__init__(timesteps)
        named("noise schedule", noise, NOISES)
        self.noise = noise
        self.denoiser = Denoiser(net, Bernoulli())

    def corrupting(self, event_dim: int) -> BitFlips:
        """Return the flips."""
        return BitFlips(self.timesteps, self.noise, event_dim)

    def start(self) -> TorchDistribution:
        """Return p(z_T), fair coins."""
        return IndependentBernoulli(self.zeros, self.zeros.dim())

    def transition(self, z: Tensor, t: Tensor, *given: Tensor) -> TorchDistribution:
        """Return p(z_{t-1} | z_t)."""
        said = self.denoiser(2 * z - 1, t / self.timesteps, *given)
        logits = said.squeeze(-1 - self.zeros.dim())
        mixed = self.corruption.mixed(z, t, logits)
        first = t.reshape(*t.shape, *(1,) * self.zeros.dim()) == 1
        return self.corruption.bits(torch.where(first, logits, mixed))

    def observe(self, first: TorchDistribution) -> TorchDistribution:
        """Return p(x | z_1)."""
        assert isinstance(first, IndependentBernoulli)  # noqa: S101
        return self.head.distribution((first.logits,), self.zeros.dim())
