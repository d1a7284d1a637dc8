"""Critics, and the terms that make a pair play against them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from priory.inference.objectives.base import Adversary, Objective, joined
from priory.inference.objectives.games import GAMES
from priory.inference.objectives.penalties import Samples, two_sided, zero_centred
from priory.inference.objectives.schedules import Schedule, current
from priory.inference.phases.pathwise import frozen, names_of
from priory.inference.phases.phases import Phases
from priory.lookup import lookup, named, positive
from priory.nets import CRITICS, Critic


class Adversarial(Objective):
    """A critic that distinguishes awake from asleep samples of some sites; the pair fools it.

    The critic C scores awake samples high and asleep ones low, whichever side the pair moves:
    through the sample for a GAN on `x` (Goodfellow et al., 2014), through the guide for an
    adversarial autoencoder on `z` (Makhzani et al., 2016), through both for a bidirectional GAN on
    `x, z` (Donahue et al., 2017; Dumoulin et al., 2017). The game says what the two want of the
    scores. The critic belongs to the objective, never to the pair; `SVI` trains it as a second
    player, by `critic_loss`, on the same batch with draws of its own.

    The critic gets one site's samples `(n, *event)` as the pair's nets read them (a table's in
    units of its columns; see `Likelihood.read`), several sites' flattened and
    joined, `(n, d)`; one with `separate = True` gets the sites one by one. A site that holds
    integers, because the model draws it from a Categorical, is given one-hot. A critic with a
    method `group` puts rows together into sets before it scores them; one with a method `compare`
    returns the scores of both sides at once.

    Penalties take one sample's score to depend on that sample alone: a critic with batch norm
    breaks that, and a gradient penalty then constrains something else.

    Args:
        critic: module from samples to scores `(n,)`, or a name in `priory.nets.CRITICS`; a `Net` is
            built when first needed.
        sites: the site, or sites, to distinguish.
        game: a name in `priory.inference.objectives.GAMES`.
        steps: critic steps per step of the pair.
        rate: the critic's learning rate over the pair's (Heusel et al., two time-scale update
            rule, 2017).
        gradient_penalty: weight of E (|grad C| - 1)^2 between the sides (Gulrajani et al., 2017).
        r1: weight of E |grad C|^2 / 2 at awake samples (Mescheder et al., 2018).
        r2: the same at asleep samples.
        clip: bound on each of the critic's weights (Arjovsky et al., 2017); none by default.
        pack: samples of one side that are joined into one along their first dimension, such as an
            image's channels, before they are scored (Lin et al., PacGAN, 2018).
        noise: standard deviation of normal noise on both sides' samples, a number or a schedule
            (Sonderby et al., 2017; Arjovsky and Bottou, 2017).
        mean: those observed sites of which the mean given the latents is compared with the data, in
            the place of a sample: where no gradient flows through a draw, as of a Bernoulli.
        detached: whether the model's samples are constants, which give it no gradient.

    Raises:
        ValueError: if no site is named, the game is unknown or an option out of range; at the first
            loss, if samples give their program no gradient.

    Example:
        >>> wgan = Adversarial(critic, "x", game="wasserstein", steps=5, gradient_penalty=10)
        ...
    """

    name = "adversarial"
    text_first = ("sites",)

    def __init__(
        self,
        critic: Critic | nn.Module | str = "mlp",
        sites: str | tuple[str, ...] = ("z",),
        game: str = "non-saturating",
        steps: int = 1,
        rate: float = 1.0,
        gradient_penalty: float = 0.0,
        r1: float = 0.0,
        r2: float = 0.0,
        clip: float | None = None,
        pack: int = 1,
        noise: float | Schedule = 0.0,
        mean: Sequence[str] = (),
        detached: bool = False,
    ) -> None:
        sites = names_of(sites)
        if not sites:
            raise ValueError('Adversarial needs sites, for instance Adversarial(critic, "z")')
        named("game", game, GAMES)
        weights = {"gradient_penalty": gradient_penalty, "r1": r1, "r2": r2}
        weights |= {} if isinstance(noise, Schedule) else {"noise": noise}
        for name, weight in weights.items():
            if not weight >= 0:
                raise ValueError(f"{name} must not be negative, got {weight}")
        for name, bound in (("rate", rate), ("clip", 1.0 if clip is None else clip)):
            if not bound > 0:
                raise ValueError(f"{name} must be positive, got {bound}")
        made: nn.Module = lookup("critic", critic, CRITICS)
        if hasattr(made, "compare") and (gradient_penalty or r1 or r2):
            raise ValueError(
                "a critic that compares sets has no gradient at a sample alone; leave "
                "gradient_penalty, r1 and r2 out"
            )
        self.critic = made
        self.sites = sites
        self.game = game
        self.steps = positive("steps", steps)
        self.rate = rate
        self.gradient_penalty = gradient_penalty
        self.r1 = r1
        self.r2 = r2
        self.clip = clip
        self.pack = positive("pack", pack)
        self.noise = noise
        self.mean = names_of(mean, sites)
        self.detached = detached

    def needs_awake(self, phases: Phases) -> bool:
        """Return whether one of the sites is the guide's."""
        return any(site not in phases.columns for site in self.sites)

    def loss(self, phases: Phases) -> Tensor:
        """Return the pair's loss, shape (); the critic gets no gradient from it."""
        awake, asleep = self._sides(phases)
        game = GAMES[self.game]
        with frozen(self.critic):
            if game.relative or hasattr(self.critic, "compare"):
                loss = game.player(*self._scored(awake, asleep))
            else:
                moved = (s if any(t.requires_grad for t in s) else None for s in (awake, asleep))
                loss = game.player(*(None if s is None else self._scores(s) for s in moved))
        return loss.to(awake[0].device)

    def critic_loss(self, phases: Phases) -> Tensor:
        """Return the critic's loss, shape (); the pair gets no gradient from it."""
        with torch.no_grad():
            awake, asleep = self._sides(phases)
        loss = GAMES[self.game].critic(*self._scored(awake, asleep))
        if self.gradient_penalty:
            loss = loss + self.gradient_penalty * two_sided(self._scores, awake, asleep)
        for weight, side in ((self.r1, awake), (self.r2, asleep)):
            if weight:
                loss = loss + weight * zero_centred(self._scores, side)
        return loss

    @torch.no_grad()
    def value(self, phases: Phases) -> Tensor:
        """Return what the critic maximises, without penalties, shape (); see `Game.value`."""
        return GAMES[self.game].value(*self.both(phases))

    @torch.no_grad()
    def both(self, phases: Phases) -> tuple[Tensor, Tensor]:
        """Return the critic's scores of awake samples, `(n,)`, and of asleep ones, `(m,)`."""
        return self._scored(*self._sides(phases))

    def scores(self, *samples: Tensor) -> Tensor:
        """Return the critic's scores, `(n,)`, of samples as it gets them."""
        return self._scores(samples)

    def build(self, phases: Phases) -> None:
        """Make a lazy critic's parameters for the sites' shapes, and bring them within `clip`."""
        build = getattr(self.critic, "build", None)
        if build is not None:
            with torch.no_grad():
                asleep = self._samples(phases, asleep=True)
            shapes = tuple(tuple(s.shape[1:]) for s in self._packed(asleep))
            build(shapes if getattr(self.critic, "separate", False) else shapes[0], ())
            self.critic.to(asleep[0].device, asleep[0].dtype)
        self.bound()

    @torch.no_grad()
    def bound(self) -> None:
        """Bring the critic's weights within `clip`, if there is one."""
        if self.clip is not None:
            weights: list[Tensor] = [p for p in self.critic.parameters() if p.requires_grad]
            torch._foreach_clamp_min_(weights, -self.clip)
            torch._foreach_clamp_max_(weights, self.clip)

    def adversaries(self) -> list[Adversary]:
        """Return itself."""
        return [self]

    def modules(self) -> list[nn.Module]:
        """Return the critic."""
        return [self.critic]

    def _sides(self, phases: Phases) -> tuple[Samples, Samples]:
        """Return both sides' samples, with noise, packed and grouped, as the critic gets them."""
        phases.refuse_weights(type(self).__name__)
        awake, asleep = self._samples(phases, asleep=False), self._samples(phases, asleep=True)
        return self._ready(awake), self._ready(asleep)

    def _samples(self, phases: Phases, *, asleep: bool) -> Samples:
        """Return one side's samples as nets read them, of each site or of all sites joined."""
        drawn = phases.samples(self.sites, asleep=asleep, mean=self.mean, detached=self.detached)
        values = [phases.read(s, v) for s, v in zip(self.sites, drawn, strict=True)]
        if len(values) > 1 and not getattr(self.critic, "separate", False):
            return (joined(values),)
        return tuple(values)

    def _ready(self, samples: Samples) -> Samples:
        if isinstance(self.noise, Schedule) or self.noise:
            scale = current(self.noise)
            samples = tuple(s + scale * torch.randn_like(s) for s in samples)
        samples = self._packed(samples)
        group = getattr(self.critic, "group", None)
        return samples if group is None else tuple(group(s) for s in samples)

    def _packed(self, samples: Samples) -> Samples:
        """Join `pack` rows at a time along their first dimension."""
        if self.pack == 1:
            return samples
        count = len(samples[0]) // self.pack
        if not count:
            raise ValueError(
                f"pack={self.pack} needs as many rows in a batch, got {len(samples[0])}; "
                "raise batch_size"
            )
        rows = [s[: count * self.pack] for s in samples]
        return tuple(s.reshape(count, -1, *s.shape[2:]) for s in rows)

    def _scores(self, samples: Samples) -> Tensor:
        scores: Tensor = self.critic(*samples)
        return scores.reshape(len(samples[0]))

    def _scored(self, awake: Samples, asleep: Samples) -> tuple[Tensor, Tensor]:
        compare = getattr(self.critic, "compare", None)
        if compare is None:
            return self._scores(awake), self._scores(asleep)
        high, low = compare(*awake, *asleep)
        return high, low
