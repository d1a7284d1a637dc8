"""Games between a critic and a pair: functions of the critic's scores, each a row of one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from priory.registry import registry

Score = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Game:
    """What a critic and a pair want of the critic's scores; each minimises the mean of its losses.

    Attributes:
        name: by which it is asked for.
        paper: authors, title, year.
        critic_awake: the critic's loss of the score of an awake sample.
        critic_asleep: the critic's loss of the score of an asleep sample.
        player_awake: the pair's loss where it moves the awake sample.
        player_asleep: the pair's loss where it moves the asleep sample.
        relative: the losses are of differences between the scores of an awake and of an asleep
            sample: `critic_awake` of awake less asleep, `player_asleep` of asleep less awake.
    """

    name: str
    paper: str
    critic_awake: Score
    critic_asleep: Score
    player_awake: Score
    player_asleep: Score
    relative: bool = False

    def critic(self, awake: Tensor, asleep: Tensor) -> Tensor:
        """Return the critic's loss, shape (), of the scores of both sides, `(n,)` and `(m,)`."""
        if self.relative:
            return self.critic_awake(_differences(awake, asleep)).mean()
        return self.critic_awake(awake).mean() + self.critic_asleep(asleep).mean()

    def player(self, awake: Tensor | None, asleep: Tensor | None) -> Tensor:
        """Return the pair's loss, shape (); a side without a gradient contributes nothing.

        Args:
            awake: scores of awake samples, `(n,)`; not needed where they have no gradient, unless
                the game is relative.
            asleep: scores of asleep samples, `(m,)`; likewise.
        """
        if self.relative and awake is not None and asleep is not None:
            return self.player_asleep(-_differences(awake, asleep)).mean()
        sides = ((self.player_awake, awake), (self.player_asleep, asleep))
        parts = [f(s).mean() for f, s in sides if s is not None and s.requires_grad]
        return torch.stack(parts).sum() if parts else torch.zeros(())

    def value(self, awake: Tensor, asleep: Tensor) -> Tensor:
        """Return what the critic maximises, shape (): at its best, a divergence of the two sides.

        2 JSD - log 4 for "minimax" and "non-saturating", the f-divergence D_f(awake || asleep) for
        an f-GAN, the Wasserstein distance times the critic's Lipschitz constant.
        """
        return -self.critic(awake, asleep)


def _differences(awake: Tensor, asleep: Tensor) -> Tensor:
    """Return differences of scores; each asleep sample is met by every particle of its row."""
    if len(awake) % len(asleep):
        return awake.unsqueeze(1) - asleep
    return awake.reshape(-1, len(asleep)) - asleep


def _zero_sum(name: str, paper: str, awake: Score, asleep: Score) -> Game:
    """Return the game in which the pair loses what the critic wins.

    Args:
        name: the game's.
        paper: likewise.
        awake: what the critic wins by the score of an awake sample.
        asleep: what it wins by that of an asleep one.
    """
    return Game(
        name,
        paper,
        critic_awake=lambda s: -awake(s),
        critic_asleep=lambda s: -asleep(s),
        player_awake=awake,
        player_asleep=asleep,
    )


def _same(s: Tensor) -> Tensor:
    return s


_GAN = "Goodfellow et al., Generative Adversarial Networks, 2014"
_F_GAN = "Nowozin, Cseke and Tomioka, f-GAN, 2016"

MINIMAX = _zero_sum("minimax", _GAN, lambda s: -softplus(-s), lambda s: -softplus(s))
NON_SATURATING = Game(
    "non-saturating",
    _GAN,
    critic_awake=lambda s: softplus(-s),
    critic_asleep=softplus,
    player_awake=softplus,
    player_asleep=lambda s: softplus(-s),
)
LEAST_SQUARES = Game(
    "least-squares",
    "Mao et al., Least Squares Generative Adversarial Networks, 2017, in the 0-1 coding",
    critic_awake=lambda s: (s - 1).square() / 2,
    critic_asleep=lambda s: s.square() / 2,
    player_awake=lambda s: s.square() / 2,
    player_asleep=lambda s: (s - 1).square() / 2,
)
HINGE = Game(
    "hinge",
    "Lim and Ye, Geometric GAN, 2017",
    critic_awake=lambda s: relu(1 - s),
    critic_asleep=lambda s: relu(1 + s),
    player_awake=_same,
    player_asleep=lambda s: -s,
)
WASSERSTEIN = _zero_sum(
    "wasserstein",
    "Arjovsky, Chintala and Bottou, Wasserstein Generative Adversarial Networks, 2017",
    _same,
    lambda s: -s,
)
# With r1 and r2 it covers modes.
RELATIVISTIC = Game(
    "relativistic",
    "Huang et al., The GAN is dead; long live the GAN!, 2024",
    critic_awake=lambda s: softplus(-s),
    critic_asleep=softplus,
    player_awake=softplus,
    player_asleep=lambda s: softplus(-s),
    relative=True,
)
# The f-GAN's tables 1 and 2: sup over T of E_awake T - E_asleep f*(T)
# is D_f(awake || asleep); T = g(score) by the output activation g of table 2.
KL = _zero_sum("kl", _F_GAN, _same, lambda s: -torch.exp(s - 1))  # g(s) = s, f*(t) = exp(t - 1)
# f*(t) = -1 - log(-t)
REVERSE_KL = _zero_sum("reverse-kl", _F_GAN, lambda s: -torch.exp(-s), lambda s: 1 - s)
# g(s) = s, f*(t) = t^2 / 4 + t
CHI_SQUARE = _zero_sum("chi-square", _F_GAN, _same, lambda s: -(s.square() / 4 + s))

GAMES: dict[str, Game] = registry(Game, globals())
