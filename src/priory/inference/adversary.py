"""Critics and the games they play."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from priory.inference.objectives import Objective, joined, positive
from priory.inference.phases import Phases

Score = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Game:
    """Two functions of a critic's scores of awake and asleep samples, both to be minimised.

    Attributes:
        critic: the critic's loss.
        player: the pair's loss for its awake samples and for its asleep ones. Only the side
            that carries a gradient is used.
    """

    critic: Score
    player_awake: Callable[[Tensor], Tensor]
    player_asleep: Callable[[Tensor], Tensor]


NON_SATURATING = Game(
    critic=lambda awake, asleep: softplus(-awake).mean() + softplus(asleep).mean(),
    player_awake=lambda awake: softplus(awake).mean(),
    player_asleep=lambda asleep: softplus(-asleep).mean(),
)

GAMES = {"non-saturating": NON_SATURATING}


class Adversarial(Objective):
    """A critic that tells awake samples of some sites from asleep ones, and the pair that fools it.

    The critic C scores awake samples high: it minimises E softplus(-C(awake)) +
    E softplus(C(asleep)), so that C tends to log p(awake) / p(asleep). The pair minimises the same
    with the labels swapped (the non-saturating game of Goodfellow et al., Generative Adversarial
    Networks, 2014): through the dream for a GAN on `x`, through the guide for an adversarial
    autoencoder on `z` (Makhzani et al., 2016). The critic belongs to the objective, never to the
    pair; `SVI` trains it as a second player.

    Args:
        critic: module from `(n, d)` samples to `(n,)` scores; a `Net` is built when first needed.
        sites: the sites to tell apart, joined into one vector if several.
        game: name of the game.
        steps: critic steps per step of the pair.

    Raises:
        ValueError: if no site is named or the game is unknown.
    """

    def __init__(
        self, critic: nn.Module, *sites: str, game: str = "non-saturating", steps: int = 1
    ) -> None:
        if not sites:
            raise ValueError('Adversarial needs sites, for instance Adversarial(critic, "z")')
        if game not in GAMES:
            raise ValueError(f"unknown game {game!r}; there are {', '.join(GAMES)}")
        self.critic = critic
        self.sites = sites
        self.game = game
        self.steps = positive("steps", steps)

    def loss(self, phases: Phases) -> Tensor:
        """Answer the pair's loss; the critic gets no gradient from it."""
        awake, asleep = self._samples(phases)
        game = GAMES[self.game]
        parts = []
        flags = [(p, p.requires_grad) for p in self.critic.parameters()]
        try:
            for p, _ in flags:
                p.requires_grad_(False)
            if awake.requires_grad:
                parts.append(game.player_awake(self.scores(awake)))
            if asleep.requires_grad:
                parts.append(game.player_asleep(self.scores(asleep)))
        finally:
            for p, flag in flags:
                p.requires_grad_(flag)
        return torch.stack(parts).sum() if parts else awake.new_zeros(())

    def critic_loss(self, phases: Phases) -> Tensor:
        """Answer the critic's loss; the pair gets no gradient from it."""
        with torch.no_grad():
            awake, asleep = self._samples(phases)
        return GAMES[self.game].critic(self.scores(awake), self.scores(asleep))

    def scores(self, samples: Tensor) -> Tensor:
        """Answer the critic's scores of samples `(n, d)`, shape `(n,)`."""
        scores: Tensor = self.critic(samples)
        return scores.reshape(len(samples))

    def build(self, phases: Phases) -> None:
        """Make a lazy critic's parameters for the sites' size."""
        build = getattr(self.critic, "build", None)
        if build is not None:
            with torch.no_grad():
                _, asleep = self._samples(phases)
            build(asleep.shape[1:], ())
            self.critic.to(asleep.device, asleep.dtype)

    def adversaries(self) -> list[Adversarial]:
        """Answer itself."""
        return [self]

    def _samples(self, phases: Phases) -> tuple[Tensor, Tensor]:
        return joined(phases.data, self.sites), joined(phases.dream, self.sites)
