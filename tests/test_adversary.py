"""Adversarial terms: who gets which gradient, what the critic is given, and what a step costs."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from priory import fit, load
from priory.data import Data
from priory.inference import SVI, Adversarial, Linear, Phases, Reconstruction
from priory.inference.objectives.base import Sum
from priory.inference.objectives.games import GAMES
from priory.inference.objectives.penalties import slopes, two_sided, zero_centred
from priory.models import GAN
from priory.nets import (
    MLP,
    Conv,
    DCGANCritic,
    DeepMean,
    Joint,
    Planes,
    Projection,
    TwoSample,
    one_hot,
)
from priory.parsing import parse_objective
from priory.serialisation import from_config, to_config

pytestmark = pytest.mark.usefixtures("double")

SGD = partial(torch.optim.SGD, lr=0.1)
CLASSES = 3


class Pair(nn.Module):
    """Both sides move: z awake by the encoder, x asleep by the decoder; c is a label of x."""

    def __init__(self, latent=2, shape=(1, 4, 4), drawn=True, counted=True):
        super().__init__()
        self.latent, self.shape, self.drawn, self.counted = latent, shape, drawn, counted
        self.encoder = nn.Linear(16, latent)
        self.decoder = nn.Linear(latent + CLASSES, 16)
        self.calls = {"guide": 0, "model": 0, "decoder": 0}
        if not drawn:
            self.classes = CLASSES

    def count(self, name):
        if self.counted:
            self.calls[name] += 1

    def model(self, x, c):
        self.count("model")
        pyro.module("pair", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.latent), 1.0).to_event(1))
            if self.drawn:
                c = pyro.sample("c", dist.Categorical(torch.ones(CLASSES)), obs=c)
            self.count("decoder")
            labels = one_hot(c, CLASSES).expand(*z.shape[:-1], CLASSES)
            loc = self.decoder(torch.cat([z, labels], -1))
            distribution = dist.Normal(loc.reshape(*z.shape[:-1], *self.shape), 0.1).to_event(3)
            pyro.sample("x", distribution, obs=x)

    def guide(self, x, c):
        self.count("guide")
        pyro.module("pair", self)
        with pyro.plate("data", len(x)):
            loc = self.encoder(x.flatten(-3))
            pyro.sample("z", dist.Normal(loc, 0.5).to_event(1))


def batch(n=12):
    return {"x": torch.rand(n, 1, 4, 4), "c": torch.arange(n) % CLASSES}


def phases(pair, rows=None, **options):
    return Phases(pair.model, pair.guide, columns=rows or batch(), **options)


def built(adversarial, pair):
    adversarial.build(phases(pair))
    return adversarial


def reached(module):
    """Which parameters have a gradient, and which one that is not zero."""
    grads = {n: p.grad for n, p in module.named_parameters()}
    module.zero_grad()
    there = {n for n, g in grads.items() if g is not None}
    return there, {n for n in there if grads[n].abs().max() > 0}


def names(module):
    return {n for n, _ in module.named_parameters()}


OPTIONS = {
    "plain": {},
    "penalty": {"gradient_penalty": 10.0},
    "r1 and r2": {"r1": 1.0, "r2": 1.0},
    "packed": {"pack": 3, "gradient_penalty": 1.0},
    "noisy": {"noise": 0.1},
    "clipped": {"clip": 0.05},
}
CRITICS = {
    "mlp": (lambda: MLP((6,)), ("z", "x")),
    "spectral": (lambda: MLP((6,), spectral=True), ("z", "x")),
    "one site": (lambda: Conv((2,), 4, spectral=True, dropout=0.1), ("x",)),
    "batch norm": (lambda: DCGANCritic((2, 3)), ("x",)),
    "projection": (lambda: Projection(MLP((5,)), 4), ("x", "c")),
    "joint": (lambda: Joint(Conv((2,), 4), MLP((5,)), 4), ("x", "z", "c")),
    "planes": (lambda: Planes(Conv((2,), 4)), ("x", "c")),
    "sets": (lambda: DeepMean(MLP((5,)), MLP((4,)), 4, 4), ("z", "x")),
    "pairs of sets": (lambda: TwoSample(MLP((5,)), MLP((4,)), 4, 3), ("z", "x")),
}


def check_players(adversarial, pair):
    """Each loss reaches its player alone, and all of it."""
    built(adversarial, pair)
    critic, moved = adversarial.critic, set()
    moved |= {"encoder.weight", "encoder.bias"} if "z" in adversarial.sites else set()
    moved |= {"decoder.weight", "decoder.bias"} if "x" in adversarial.sites else set()
    adversarial.loss(phases(pair)).backward()
    assert reached(critic)[0] == set()
    assert reached(pair) == (moved, moved)
    loss = adversarial.critic_loss(phases(pair))
    assert loss.shape == ()
    loss.backward()
    assert reached(pair)[0] == set()
    there, nonzero = reached(critic)
    assert there == names(critic)
    # The last bias shifts both sides' scores alike: differences don't see it.
    assert {n for n in there if n.endswith("weight")} <= nonzero
    assert all(p.requires_grad for p in critic.parameters())
    value = adversarial.value(phases(pair))
    assert value.shape == ()
    assert not value.requires_grad


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("game", GAMES)
def test_each_game_moves_each_player_alone(game, options):
    check_players(Adversarial(MLP((6,)), ("z", "x"), game=game, **OPTIONS[options]), Pair())


@pytest.mark.parametrize("game", ["non-saturating", "wasserstein", "relativistic"])
@pytest.mark.parametrize("critic", CRITICS)
def test_each_critic_plays(critic, game):
    make, sites = CRITICS[critic]
    for drawn in (True, False):
        check_players(Adversarial(make(), sites, game=game), Pair(drawn=drawn))


@pytest.mark.parametrize("game", sorted(set(GAMES) - {"relativistic"}))
@pytest.mark.parametrize("site", ["x", "z"])
def test_a_side_without_a_gradient_contributes_nothing(game, site):
    pair = Pair()
    adversarial = built(Adversarial(MLP((6,)), site, game=game), pair)
    torch.manual_seed(0)
    loss = adversarial.loss(phases(pair))
    torch.manual_seed(0)
    p = phases(pair)
    samples = p.data("z") if site == "z" else p.sampled("x")
    rule = GAMES[game].player_awake if site == "z" else GAMES[game].player_asleep
    torch.testing.assert_close(loss, rule(adversarial.scores(samples)).mean(), check_device=False)


def test_without_anything_to_move_the_loss_is_zero():
    pair = Pair()
    adversarial = built(Adversarial(MLP((6,)), "c"), pair)
    loss = adversarial.loss(phases(pair))
    assert float(loss) == 0
    assert not loss.requires_grad


@pytest.mark.parametrize(
    ("sites", "critic", "player"),
    [
        (("x",), (0, 1, 1), (0, 1, 1)),
        (("z",), (1, 1, 0), (1, 1, 0)),
        (("z", "x"), (1, 1, 1), (1, 1, 1)),
        (("c",), (0, 1, 0), (0, 1, 0)),
        (("x", "c"), (0, 1, 1), (0, 1, 1)),
    ],
)
@pytest.mark.parametrize("drawn", [True, False])
def test_a_step_runs_each_program_no_further_than_its_sites_ask(sites, critic, player, drawn):
    """The guide, the model and its decoder; the sites' model is broken off after the last."""
    pair = Pair(drawn=drawn)
    adversarial = built(Adversarial(MLP((6,)), sites, r1=1.0), pair)
    for loss, expected in ((adversarial.critic_loss, critic), (adversarial.loss, player)):
        pair.calls = dict.fromkeys(pair.calls, 0)
        loss(phases(pair))
        calls = pair.calls
        assert (calls["guide"], calls["decoder"]) == (
            expected[0],
            max(expected[2], "c" in sites and not drawn),
        )
        assert calls["model"] <= len(sites)


def test_terms_of_a_sum_share_the_awake_draw():
    pair = Pair()
    adversarial = built(Adversarial(MLP((6,)), "z"), pair)
    for loss in (adversarial + Reconstruction(), Reconstruction() + adversarial):
        pair.calls = dict.fromkeys(pair.calls, 0)
        loss(pair.model, pair.guide, **batch())
        assert pair.calls["guide"] == 1
        assert pair.calls["decoder"] == 1


def test_a_column_meets_every_particle_of_its_row():
    pair, rows = Pair(), batch(5)
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x.sum(1)

    p = phases(pair, rows, particles=3)
    Adversarial(Spy(), ("z", "x")).loss(p)
    awake = seen[0]
    assert awake.shape == (15, 18)
    torch.testing.assert_close(awake[:, 2:].view(3, 5, 16)[1], rows["x"].flatten(1))
    torch.testing.assert_close(awake[:, :2].view(3, 5, 2), p.awake.sample["z"])


def given(sites, **options):
    """What a critic gets of both sides."""
    seen = []

    class Spy(nn.Module):
        separate = options.pop("separate", False)

        def forward(self, *samples):
            seen.append(samples)
            return samples[0].flatten(1).sum(1)

    Adversarial(Spy(), sites, **options).critic_loss(phases(Pair()))
    return seen


def test_images_stay_images_and_labels_are_indicators():
    (x,), _ = given(["x"])
    assert x.shape == (12, 1, 4, 4)
    (joined,), _ = given(["x", "c"])
    assert joined.shape == (12, 16 + CLASSES)
    assert torch.equal(joined[:, 16:], one_hot(torch.arange(12) % CLASSES, CLASSES))
    (x, c), (_, generated) = given(["x", "c"], separate=True)
    assert (x.shape, c.shape) == ((12, 1, 4, 4), (12, CLASSES))
    assert torch.equal(generated.sum(1), torch.ones(12))


def test_packing_joins_rows_along_their_first_dimension():
    (whole,), _ = given(["x"])
    (packed,), _ = given(["x"], pack=5)
    assert packed.shape == (2, 5, 4, 4)
    assert torch.equal(packed.sum((1, 2, 3)), packed.flatten(1).sum(1))
    (vectors,), _ = given(["x", "c"], pack=4)
    assert vectors.shape == (3, 4 * (16 + CLASSES))
    assert whole.shape[0] == 12
    with pytest.raises(ValueError, match="pack=13 needs as many rows in a batch, got 12"):
        given(["x"], pack=13)


def test_noise_has_the_scale_that_is_asked_for():
    torch.manual_seed(0)
    pair, rows = Pair(), {"x": torch.zeros(4000, 1, 4, 4), "c": torch.zeros(4000).long()}
    scale = Linear(0.5, 0.1, 10)
    for step, expected in ((0, 0.5), (10, 0.1)):
        scale.move(step)
        seen = []
        critic = nn.Flatten(0, -1)
        critic.register_forward_pre_hook(lambda _, x, seen=seen: seen.append(x[0]))
        adversarial = Adversarial(
            nn.Sequential(critic, nn.Unflatten(0, (4000, 16)), Total()), "x", noise=scale
        )
        adversarial.critic_loss(phases(pair, rows))
        assert float(seen[0].std()) == pytest.approx(expected, rel=0.01)


class Total(nn.Module):
    def forward(self, x):
        return x.sum(1)


def test_penalties_are_those_of_known_critics():
    """Of a linear critic w x: (|w| - 1)^2 and |w|^2 / 2; of |x|^2: E |2 x|^2 / 2."""
    w = torch.randn(5, requires_grad=True)
    a, b = torch.randn(9, 5), torch.randn(7, 5)

    def line(samples):
        return samples[0] @ w

    torch.testing.assert_close(two_sided(line, (a,), (b,)), (w.norm() - 1).square())
    torch.testing.assert_close(zero_centred(line, (a,)), w.square().sum() / 2)
    (slope,) = torch.autograd.grad(zero_centred(line, (a,)), w)
    torch.testing.assert_close(slope, w.detach())

    def bowl(samples):
        return sum(s.square().sum(1) for s in samples)

    torch.testing.assert_close(slopes(bowl, (a, 2 * a)), 20 * a.square().sum(1))
    torch.testing.assert_close(zero_centred(bowl, (a,)), 2 * a.square().sum(1).mean())
    # Along the segment from 0 to 0 the slope is 0 and the penalty 1, with a gradient.
    zero = (torch.zeros(4, 5),)
    assert two_sided(bowl, zero, zero).item() == pytest.approx(1, abs=1e-5)


def test_penalties_under_no_grad_are_the_same():
    net, a = MLP((4,)), torch.randn(6, 3)
    net.build((3,), ())
    with torch.no_grad():
        inside = slopes(lambda s: net(*s), (a,))
    torch.testing.assert_close(inside, slopes(lambda s: net(*s), (a,)))


def test_sets_are_judged_whatever_the_order_of_their_rows():
    critic = DeepMean(MLP((5,)), MLP((4,)), 6, 4)
    critic.build((3,))
    rows = torch.randn(10, 3)
    sets = critic.group(rows)
    assert sets.shape == (2, 4, 3)
    torch.testing.assert_close(critic(sets), critic(sets[:, torch.randperm(4)]))
    assert not torch.allclose(critic(sets[:1]), critic(sets[1:]))
    assert critic.group(rows[:3]).shape == (1, 3, 3)


def test_two_samples_are_compared_alike_in_both_orders():
    critic = TwoSample(MLP((5,)), MLP((4,)), 6, 4)
    critic.build((3,))
    a, b = (critic.group(torch.randn(16, 3)) for _ in range(2))
    torch.testing.assert_close(critic(a, b), critic(b, a))
    # A set compared with itself says what the head says of no difference.
    torch.testing.assert_close(critic(a, a), critic.head(torch.zeros(4, 6)))
    high, low = critic.compare(a, b)
    assert (high.shape, low.shape) == ((4,), (4,))
    torch.testing.assert_close(high[:2], critic(a[:2], a[2:]))
    torch.testing.assert_close(low, critic(a, b))
    moving = b.clone().requires_grad_()
    high, _ = critic.compare(a, moving)
    with pytest.raises(RuntimeError, match=r"unused|not require"):
        torch.autograd.grad(high.sum(), moving)
    assert critic.group(torch.randn(2, 3)).shape == (2, 1, 3)
    with pytest.raises(ValueError, match="needs 2 rows in a batch, got 1"):
        critic.group(torch.randn(1, 3))


def test_projection_is_linear_in_the_label():
    critic = Projection(MLP((5,)), 4)
    critic.build(((2,), (CLASSES,)))
    x, labels = torch.randn(6, 2), torch.eye(CLASSES)
    scores = torch.stack([critic(x, y.expand(6, -1)) for y in labels], 1)
    blank = critic(x, torch.zeros(6, CLASSES))
    mixed = critic(x, torch.full((6, CLASSES), 0.5))
    torch.testing.assert_close(mixed, blank + 0.5 * (scores - blank[:, None]).sum(1))


def test_clip_and_rate_hold_in_every_step():
    pair, rows = Pair(), batch()
    loss = Adversarial(MLP((6,)), "x", clip=0.02, steps=3, game="wasserstein")
    svi = SVI(pair.model, pair.guide, SGD, loss)
    for _ in range(3):
        svi.step(**rows)
        assert max(p.abs().max().item() for p in loss.critic.parameters()) <= 0.02
    assert max(p.abs().max().item() for p in pair.parameters()) > 0.1

    def moved(rate):
        pyro.clear_param_store()
        torch.manual_seed(0)
        pair = Pair()
        loss = built(Adversarial(MLP((6,)), "x", rate=rate), pair)
        before = [p.clone() for p in loss.critic.parameters()]
        torch.manual_seed(1)
        SVI(pair.model, pair.guide, SGD, loss).step(**rows)
        return [p - b for p, b in zip(loss.critic.parameters(), before, strict=True)]

    for slow, fast in zip(moved(1.0), moved(4.0), strict=True):
        torch.testing.assert_close(4 * slow, fast)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"game": "hing"}, "unknown game 'hing', nearest 'hinge'"),
        ({"r1": -1.0}, "r1 must not be negative, got -1.0"),
        ({"gradient_penalty": float("nan")}, "gradient_penalty must not be negative"),
        ({"noise": -0.1}, "noise must not be negative"),
        ({"rate": 0.0}, "rate must be positive, got 0.0"),
        ({"clip": -0.01}, "clip must be positive"),
        ({"pack": 0}, "pack must be a positive integer"),
        ({"steps": 1.5}, "steps must be a positive integer"),
    ],
)
def test_options_out_of_range_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        Adversarial(MLP(()), "x", **options)


def test_what_does_not_fit_together_is_told():
    with pytest.raises(ValueError, match="needs sites"):
        Adversarial(MLP(()), ())
    with pytest.raises(ValueError, match="no gradient at a sample alone"):
        Adversarial(TwoSample(), "x", r1=1.0)
    pair = Pair(drawn=False)
    del pair.classes
    with pytest.raises(ValueError, match=r"'c' holds integers.*draw it from a Categorical"):
        built(Adversarial(MLP(()), "c"), pair)
    for critic, sites, words in (
        (Projection(), ("x",), "reads two sites, the data and their label, got 1"),
        (Joint(), ("x",), "Joint reads two sites or more, got 1"),
        (Planes(), ("z", "c"), r"Planes expected images .* got \(2,\)"),
    ):
        with pytest.raises(ValueError, match=words):
            built(Adversarial(critic, sites), Pair())


TEXTS = (
    "adversarial:x,c:critic=(projection:features=(mlp:8:spectral=true):width=4:spectral=true)"
    ":game=wasserstein:steps=2:gradient_penalty=10:rate=4",
    "adversarial:x:critic=(mlp:8:dropout=0.2:batch-norm=true):noise=(linear:0.1:0:100):r1=1:r2=0.5"
    ":game=relativistic",
    "adversarial:x:critic=(two-sample:features=(mlp:8):size=8):clip=0.01:pack=2",
)


@pytest.mark.parametrize("text", TEXTS)
def test_text_configuration_and_saved_runs_give_the_same_critic_back(text, tmp_path):
    objective = parse_objective("reconstruction + " + text)
    config = to_config(objective)
    assert to_config(from_config(config)) == config
    pair, rows = Pair(), batch(32)
    data = Data.from_arrays(**{k: v.numpy() for k, v in rows.items()}, valid=8, test=8)
    run = fit(pair, objective, data, steps=4, batch_size=16, progress=False)
    back = load(run.save(tmp_path / "run"), pair=Pair(), data=data)
    critic, found = (o.adversaries()[0].critic.state_dict() for o in (objective, back.objective))
    assert found.keys() == critic.keys()
    assert all(torch.equal(found[k], critic[k]) for k in critic)


def steps(compile, terms):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    # What counts its runs has a state that no graph repeats.
    pair, rows, loss = Pair(counted=False), batch(), 0.1 * Sum(terms())
    svi = SVI(pair.model, pair.guide, SGD, loss, compile=compile)
    losses = torch.stack([svi.step(**rows) for _ in range(3)])
    modules = [pair, *(a.critic for a in loss.adversaries())]
    return losses, [v for m in modules for v in m.state_dict().values()], svi


def check_traced_steps(terms):
    eager, traced = (steps(mode, terms) for mode in ("off", "trace"))
    assert traced[2].engine == "traced"
    assert all(player.compiler.engine == "traced" for _, player in traced[2].critics)
    torch.testing.assert_close(traced[0], eager[0], atol=1e-10, rtol=0)
    for a, b in zip(traced[1], eager[1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


HARD = {"gradient_penalty": 1.0, "r1": 1.0, "r2": 1.0, "clip": 0.5, "rate": 2.0}


def every_game():
    return [Adversarial(MLP((4,)), ("z", "x"), game=game) for game in GAMES]


def every_critic():
    kinds = [v for k, v in CRITICS.items() if k not in ("mlp", "spectral")]
    return [Adversarial(make(), sites) for make, sites in kinds]


def every_option():
    critic = MLP((6,), "leaky-relu", spectral=True, dropout=0.2)
    noise = Linear(0.2, 0.0, 3)
    return [Adversarial(critic, ("z", "x"), game="wasserstein", noise=noise, pack=2, **HARD)]


@pytest.mark.parametrize("terms", [every_game, every_critic, every_option])
def test_traced_steps_are_the_eager_ones(terms):
    check_traced_steps(terms)


def test_a_broken_training_goes_on_to_the_same_bits(tmp_path):
    def train(folder, **options):
        torch.manual_seed(0)
        critic = MLP((8,), "leaky-relu-0.2", spectral=True, dropout=0.1)
        game = {"game": "relativistic", "noise": Linear(0.3, 0.0, 8), "r1": 1.0, "clip": 0.5}
        data = Data.named("ring", rows=400)
        options = {"epochs": 3, "batch_size": 100, "compile": "off", **options}
        objective = Adversarial(critic, "x", rate=2.0, **game)
        pair = GAN(generator=MLP((8,), batch_norm=True), latent=2)
        return fit(pair, objective, data, folder=folder, progress=False, **options)

    def broken(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", checkpoint_every=0.0, on_epoch=broken)
    again = train(tmp_path / "run", resume=True)
    for one, two in ((whole.pair, again.pair), (whole.objective.critic, again.objective.critic)):
        assert all(
            torch.equal(a, b)
            for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
        )
    assert [r["loss"] for r in whole.history] == [r["loss"] for r in again.history]
