"""Games at their optima: densities' ratios, divergences in closed form, transport's distance."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

from priory.inference import Adversarial, Phases
from priory.inference.objectives.games import GAMES
from priory.nets import MLP

pytestmark = pytest.mark.usefixtures("double")

GRID = torch.linspace(-12, 12, 40001, dtype=torch.float64)
ZERO_SUM = {"minimax", "kl", "reverse-kl", "chi-square", "wasserstein"}


def normal(loc, scale=1.0):
    return dist.Normal(torch.tensor(loc, dtype=torch.float64), scale)


def quantiles(distribution, n):
    return distribution.icdf((torch.arange(n, dtype=torch.float64) + 0.5) / n)[:, None]


def phases(awake, asleep):
    """The two sides as given points, without randomness."""

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Delta(asleep, event_dim=1), obs=x)

    return Phases(model, lambda x: None, (awake,))


def trained(awake, asleep, critic, rounds=150, **options):
    """The critic's best answer to two sides, by L-BFGS; by Adam where the loss is random."""
    adversarial = Adversarial(critic, "x", **options)
    adversarial.build(phases(awake, asleep))
    params = list(critic.parameters())
    noisy = adversarial.gradient_penalty or hasattr(critic.last, "u")

    def closure():
        optim.zero_grad()
        loss = adversarial.critic_loss(phases(awake, asleep))
        loss.backward()
        return loss

    if noisy:
        optim = torch.optim.Adam(params, lr=0.02, betas=(0.5, 0.9))
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optim, rounds)
        for _ in range(rounds):
            optim.step(closure)
            rate.step()
    else:
        optim = torch.optim.LBFGS(params, max_iter=rounds, line_search_fn="strong_wolfe")
        optim.step(closure)
    return adversarial


def expectation(game, awake, asleep, scores):
    """What the critic maximises, by integration over a grid."""
    p, q = awake.log_prob(GRID).exp(), asleep.log_prob(GRID).exp()
    game = GAMES[game]
    loss = p * game.critic_awake(scores) + q * game.critic_asleep(scores)
    return -torch.trapezoid(loss, GRID)


PAIRS = [(normal(0.5), normal(0.0)), (normal(0.3, 0.8), normal(0.0))]
LOG_RATIO = [a.log_prob(GRID) - b.log_prob(GRID) for a, b in PAIRS]


def chi_square(a, b):
    """Of normal laws: E_b (a / b)^2 - 1."""
    precision = 2 / a.variance - 1 / b.variance
    shift = 2 * a.mean / a.variance - b.mean / b.variance
    log = shift.square() / (2 * precision) - a.mean.square() / a.variance
    log = log + b.mean.square() / (2 * b.variance)
    return log.exp() * b.stddev / a.variance / precision.sqrt() - 1


# For each f-divergence: the best scores, as a function of log p/q, and the value in closed form.
F_GANS = {
    "kl": (lambda r: 1 + r, kl_divergence),
    "reverse-kl": (lambda r: r, lambda a, b: kl_divergence(b, a)),
    "chi-square": (lambda r: 2 * (r.exp() - 1), chi_square),
}


@pytest.mark.parametrize("pair", [0, 1])
@pytest.mark.parametrize("game", F_GANS)
def test_f_gans_value_is_the_divergence_at_the_best_critic_alone(game, pair):
    (a, b), ratio = PAIRS[pair], LOG_RATIO[pair]
    best, closed = F_GANS[game]
    value = expectation(game, a, b, best(ratio))
    torch.testing.assert_close(value, closed(a, b), rtol=1e-6, atol=0)
    for other in (0.9 * best(ratio), best(ratio) - 0.1, best(ratio) + 0.1 * GRID.sin()):
        assert expectation(game, a, b, other) < value


class Quadratic(nn.Module):
    """Holds the log ratio of two normal laws, and can't grow without bound at a lone sample."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(2, 1)

    def forward(self, x):
        return self.last(torch.cat([x, x.square()], 1))


@pytest.mark.parametrize("game", F_GANS)
def test_a_trained_f_gan_estimates_the_divergence(game):
    (a, b), (_, closed) = PAIRS[1], F_GANS[game]
    samples = quantiles(a, 2000), quantiles(b, 2000)
    critic = MLP((16,), "tanh") if game == "chi-square" else Quadratic()
    adversarial = trained(*samples, critic, 60, game=game)
    value = adversarial.value(phases(*samples))
    torch.testing.assert_close(value, closed(a, b), rtol=0.02, atol=0)


@pytest.mark.parametrize("game", ["minimax", "non-saturating"])
def test_logistic_games_learn_the_log_ratio(game):
    """D* = p / (p + g); the value is 2 JSD - log 4."""
    (a, b) = PAIRS[1]
    samples = quantiles(a, 2000), quantiles(b, 2000)
    adversarial = trained(*samples, MLP((16,), "tanh"), game=game)
    x = torch.linspace(-2, 2, 41)[:, None]
    ratio = (a.log_prob(x) - b.log_prob(x)).squeeze(1)
    spread = ratio.max() - ratio.min()
    assert (adversarial.scores(x) - ratio).abs().max() < 0.02 * spread
    p, q = a.log_prob(GRID).exp(), b.log_prob(GRID).exp()
    m = ((p + q) / 2).log()
    jsd = torch.trapezoid(p * (p.log() - m) + q * (q.log() - m), GRID) / 2
    torch.testing.assert_close(
        adversarial.value(phases(*samples)), 2 * jsd - math.log(4), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("game", ["minimax", "non-saturating"])
def test_where_the_laws_are_one_the_value_is_minus_log_4(game):
    samples = quantiles(normal(0.0), 500)
    adversarial = trained(samples, samples.flip(0), MLP((8,), "tanh"), game=game)
    value = adversarial.value(phases(samples, samples.flip(0)))
    assert float(value) == pytest.approx(-math.log(4), rel=1e-6)


def test_least_squares_learns_the_share_of_the_awake():
    (a, b) = PAIRS[1]
    samples = quantiles(a, 2000), quantiles(b, 2000)
    adversarial = trained(*samples, MLP((16,), "tanh"), game="least-squares")
    x = torch.linspace(-2, 2, 41)[:, None]
    share = torch.sigmoid(a.log_prob(x) - b.log_prob(x)).squeeze(1)
    assert (adversarial.scores(x) - share).abs().max() < 0.02


def test_hinge_value_is_the_total_variation():
    (a, b), ratio = PAIRS[0], LOG_RATIO[0]
    overlap = 2 * (1 - normal(0.0).cdf(torch.tensor(0.25)))  # of N(0, 1) and N(1/2, 1)
    value = expectation("hinge", a, b, ratio.sign())
    torch.testing.assert_close(value, -2 * overlap, rtol=1e-4, atol=0)
    assert expectation("hinge", a, b, ratio) < value


def test_relativistic_value_counts_pairs_of_the_two_laws():
    game = GAMES["relativistic"]
    equal = torch.zeros(5)
    assert float(game.value(equal, equal)) == pytest.approx(-math.log(2))
    awake, asleep = torch.randn(6), torch.randn(3)
    expected = torch.nn.functional.softplus(asleep - awake.view(2, 3)).mean()
    torch.testing.assert_close(game.critic(awake, asleep), expected)
    torch.testing.assert_close(game.critic(awake + 7, asleep + 7), expected)


@pytest.mark.parametrize("name", GAMES)
def test_critic_and_player_pull_scores_apart_and_together(name):
    game = GAMES[name]
    s = torch.linspace(0.05, 0.95, 19)
    assert (game.critic_awake(s).diff() < 0).all()
    assert (game.critic_asleep(s).diff() > 0).all()
    assert (game.player_awake(s).diff() > 0).all()
    assert (game.player_asleep(s).diff() < 0).all()


@pytest.mark.parametrize("name", sorted(ZERO_SUM))
def test_in_a_zero_sum_game_the_pair_loses_what_the_critic_wins(name):
    game = GAMES[name]
    awake, asleep = (torch.randn(7, requires_grad=True) for _ in range(2))
    torch.testing.assert_close(game.player(awake, asleep), -game.critic(awake, asleep))


def test_at_the_best_critic_the_pair_descends_the_divergence():
    """d/dm of the value at fixed scores is that of KL(N(m, 1) || N(0, 1)) = m^2 / 2."""
    m = torch.tensor(0.7, requires_grad=True)
    x = quantiles(normal(0.0), 200_000) + m
    scores = 1 + (m.detach() * x - m.detach() ** 2 / 2)
    (slope,) = torch.autograd.grad(GAMES["kl"].player(scores, None), m)
    torch.testing.assert_close(slope, m.detach(), rtol=1e-6, atol=0)


# Transport: the two sides, and the distance between them by the sorted samples.
SIDES = {
    "two points": tuple(torch.tensor([[x]], dtype=torch.float64) for x in (0.3, 0.1)),
    "shift": (quantiles(normal(0.3), 64), quantiles(normal(0.0, 0.9), 64) - 0.3),
    "spread": (quantiles(normal(0.0, 0.1), 64), quantiles(normal(0.0, 0.4), 64)),
}


def steepest(critic, *sides):
    """The largest slope between the outermost points."""
    points = torch.cat(sides)
    x = torch.linspace(float(points.min()), float(points.max()), 2001)[:, None].requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x)
    return float(slope.abs().max())


def distance(awake, asleep):
    return float((awake.sort(0)[0] - asleep.sort(0)[0]).abs().mean())


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("hidden", [(16,), (16, 16)])
def test_a_spectral_critic_never_exceeds_the_distance(hidden, sides):
    awake, asleep = SIDES[sides]
    critic = MLP(hidden, "leaky-relu-0.2", spectral=True)
    adversarial = trained(awake, asleep, critic, 200, game="wasserstein")
    critic.eval()
    assert steepest(critic, awake, asleep) <= 1 + 1e-4
    ratio = float(adversarial.value(phases(awake, asleep))) / distance(awake, asleep)
    assert ratio <= 1 + 1e-4
    if sides != "spread":  # a hat of slope 1 is beyond layers of spectral norm 1 with rectifiers
        assert ratio > 0.98


@pytest.mark.parametrize("sides", ["two points", "spread"])
def test_a_penalised_critic_estimates_the_distance(sides):
    """The penalty grows in between: at once it would be a barrier between slopes 1 and -1."""
    awake, asleep = SIDES[sides]
    critic = MLP((64,), "leaky-relu-0.2")
    for penalty in (0.1, 1.0, 20.0):
        options = {"game": "wasserstein", "gradient_penalty": penalty}
        adversarial = trained(awake, asleep, critic, 150, **options)
    value = float(adversarial.value(phases(awake, asleep)))
    assert value == pytest.approx(distance(awake, asleep), rel=0.02)
    bound = distance(awake, asleep) * steepest(critic, awake, asleep)
    assert value <= bound * (1 + 1e-9)


def test_a_clipped_critic_is_as_steep_as_its_bound_allows():
    """A linear critic of one input with a weight within c: the distance times c."""
    awake, asleep = torch.tensor([[0.3]]), torch.tensor([[0.1]])
    adversarial = Adversarial(MLP(()), "x", game="wasserstein", clip=0.05)
    adversarial.build(phases(awake, asleep))
    optim = torch.optim.SGD(adversarial.critic.parameters(), lr=1.0)
    for _ in range(5):
        optim.zero_grad()
        adversarial.critic_loss(phases(awake, asleep)).backward()
        optim.step()
        adversarial.bound()
    assert float(adversarial.value(phases(awake, asleep))) == pytest.approx(0.05 * 0.2)
