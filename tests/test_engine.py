"""The engine's guard, its state, mixed precision and captured steps."""

from __future__ import annotations

import copy
import io
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from priory.data import Data, Feed, Split
from priory.inference import ELBO, SVI, Adversarial, Linear, Phases, Reconstruction
from priory.inference.engine.average import MovingAverage
from priory.inference.engine.guard import Buffers, Guard, NonFinite
from priory.inference.engine.optim import JointOptim
from priory.inference.validation import validation_bound
from priory.models import VAE
from priory.nets import MLP
from priory.parsing import parse_objective

ADAM = partial(torch.optim.Adam, lr=1e-2)


class Fragile(nn.Module):
    """A Gaussian around a batch norm of the data, whose loss or gradient can be spoilt."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.scale = nn.Parameter(torch.zeros(3))

    def model(self, x):
        pyro.module("fragile", self)
        with pyro.plate("data", len(x)):
            root = ((x - 1) * self.scale.exp()).abs().sum(-1, keepdim=True).sqrt()
            pyro.sample("x", dist.Normal(root + self.norm(x), 1.0).to_event(1), obs=x)

    def guide(self, x):
        pass


def spoilt(kind):
    """A batch with a NaN loss, or with a finite loss whose gradient is not: sqrt at 0."""
    return torch.full((4, 3), float("nan")) if kind == "the loss" else torch.ones(4, 3)


def everything(pair, svi):
    state = svi.state_dict()
    return copy.deepcopy({"pair": pair.state_dict(), **state})


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("what", ["the loss", "the gradient"])
@pytest.mark.parametrize("compile", ["off", "trace"])
def test_what_is_not_finite_stops_before_it_touches_anything(what, compile):
    pyro.set_rng_seed(0)
    pair = Fragile()
    svi = SVI(pair.model, pair.guide, ADAM, ELBO(), ema=0.9, clip=5.0, compile=compile)
    for _ in range(3):
        svi.step(torch.randn(4, 3))
    before = everything(pair, svi)
    with pytest.raises(NonFinite, match=f"{what} of step 3 is NaN or infinite") as caught:
        svi.step(spoilt(what))
    assert (caught.value.step, caught.value.what) == (3, what)
    assert same(everything(pair, svi), before)
    svi.step(torch.randn(4, 3))


def test_as_many_steps_as_asked_for_may_be_passed_over():
    pyro.set_rng_seed(0)
    pair = Fragile()
    svi = SVI(pair.model, pair.guide, ADAM, ELBO(), skip=2)
    svi.step(torch.randn(4, 3))
    before = copy.deepcopy(pair.state_dict())
    for _ in range(2):
        svi.step(spoilt("the loss"))
    assert (svi.skipped, svi.steps) == (2, 3)
    assert same(dict(pair.state_dict()), dict(before))
    with pytest.raises(NonFinite):
        svi.step(spoilt("the loss"))
    assert svi.skipped == 2
    with pytest.raises(ValueError, match="skip must be an integer from 0, got -1"):
        SVI(pair.model, pair.guide, ADAM, ELBO(), skip=-1)


def test_a_critic_is_guarded_too():
    class Spoilt(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return (x * self.weight).sum(-1).log()

    pair = VAE("normal", MLP((5,)), MLP((5,)), "normal", 2)
    pair.build(torch.randn(9, 6))
    loss = Reconstruction() + Adversarial(Spoilt(), "z")
    svi = SVI(pair.model, pair.guide, ADAM, loss)
    with pytest.raises(NonFinite, match="the critic's loss of step 0"):
        svi.step(torch.randn(9, 6))


def test_verdicts_that_stay_on_the_device():
    guard, p = Guard(skip=1), nn.Parameter(torch.zeros(2))
    flags = []
    for step, gradient in enumerate([1.0, float("inf"), 2.0, float("nan"), 3.0]):
        p.grad = torch.full((2,), gradient)
        flags.append(float(guard.flag(torch.tensor(step), torch.tensor(0.5), [p])))
        if step == 2:
            guard.poll()
            assert guard.skipped == 1
    assert flags == [0, 1, 0, 1, 1]  # after one too many, no step moves a weight
    with pytest.raises(NonFinite, match="step 3 "):
        guard.poll()


def test_flags_reach_optimiser_average_and_buffers():
    p, module = nn.Parameter(torch.ones(3)), nn.BatchNorm1d(3)
    optim, average = JointOptim(torch.optim.Adam, {"lr": 0.1}), MovingAverage(0.5)
    buffers = Buffers([module])
    average._weight = torch.tensor(0.5)
    for flag in (torch.tensor(1.0), torch.tensor(0.0)):
        p.grad = torch.ones(3)
        optim.add([p])
        assert optim.obeys_flags
        optim.flag(flag)
        optim([p])
        average.update({"p": p}, flag)
        module.running_mean.add_(1)
        buffers.settle(flag)
        moved = not flag
        assert bool((p != 1).all()) is moved
        assert bool((module.running_mean == 1).all()) is moved
    torch.testing.assert_close(average.values["p"], 0.5 * (p.detach() + 1))


def adversarial(seed, **options):
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    pair = VAE("normal", MLP((5,)), MLP((5,)), "bernoulli", 2)
    x = torch.rand(9, 6).round()
    pair.build(x)
    loss = Reconstruction() + Linear(0.0, 1.0, 5) * Adversarial(MLP((4,)), "z")
    svi = SVI(pair.model, pair.guide, ADAM, loss, ema=0.9, rate=Linear(1.0, 0.1, 9), **options)
    svi.prepare(x)
    return pair, loss, svi, x


@pytest.mark.parametrize("compile", ["off", "trace"])
def test_state_goes_on_bit_for_bit(compile):
    pair, loss, svi, x = adversarial(0, compile=compile)
    for _ in range(4):
        svi.step(x)
    critic = loss.adversaries()[0].critic
    saved = io.BytesIO()
    rng = torch.get_rng_state()
    torch.save([pair.state_dict(), critic.state_dict(), svi.state_dict(), rng], saved)
    for _ in range(4):
        svi.step(x)
    wanted = everything(pair, svi)

    saved.seek(0)
    weights, critics, state, rng = torch.load(saved, weights_only=True)
    pair, loss, svi, _ = adversarial(1, compile=compile)
    pair.load_state_dict(weights)
    loss.adversaries()[0].critic.load_state_dict(critics)
    svi.load_state_dict(state)
    torch.set_rng_state(rng)
    for _ in range(4):
        svi.step(x)
    assert same(everything(pair, svi), wanted)


def test_state_of_another_shape_is_refused_whole():
    _, _, svi, x = adversarial(0)
    svi.step(x)
    state = svi.state_dict()
    pyro.clear_param_store()
    pair = VAE("normal", MLP((7,)), MLP((5,)), "bernoulli", 2)
    pair.build(x)
    loss = Reconstruction() + Adversarial(MLP((4,)), "z")
    other = SVI(pair.model, pair.guide, ADAM, loss, ema=0.9)
    other.prepare(x)
    with pytest.raises(ValueError, match=r"has the shape \(4, 5\), expected \(4, 7\)"):
        other.load_state_dict(state)
    assert other.steps == 0
    alone = SVI(pair.model, pair.guide, ADAM, ELBO())
    alone.prepare(x)
    with pytest.raises(ValueError, match="2 players, this training 1"):
        alone.load_state_dict(state)


def test_densities_stay_in_float32_under_bf16():
    pair = VAE("normal", MLP((5,)), MLP((5,)), "bernoulli", 2)
    x = torch.rand(9, 6).round()
    pair.build(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert pair.encoder.net(x).dtype == torch.bfloat16
        awake = Phases(pair.model, pair.guide, (x,)).awake
        parts = awake.sample["z"], awake.log_p("x"), awake.log_q("z"), awake.kl("z")
    assert {part.dtype for part in parts} == {torch.float32}
    exact = Phases(pair.model, pair.guide, (x,), latents={"z": awake.sample["z"][0]}).awake
    torch.testing.assert_close(awake.log_p("x"), exact.log_p("x"), rtol=2e-2, atol=2e-2)


def test_bf16_reaches_the_bound_of_float32():
    data = Data.named("digits")
    bounds = {}
    for precision in ("float32", "bf16"):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        pair = VAE("normal", MLP((64,)), MLP((64,)), "bernoulli", 8)
        pair.build(data.train.snapshot())
        svi = SVI(pair.model, pair.guide, ADAM, ELBO(), precision=precision)
        for epoch in range(30):
            for batch in data.train.batches(128, epoch=epoch, shuffle=True, drop_last=True):
                svi.step(x=batch["x"])
        bounds[precision] = validation_bound(pair.model, pair.guide, data.valid, particles=100)
    assert bounds["bf16"] != bounds["float32"]
    assert abs(bounds["bf16"] - bounds["float32"]) < 0.1


def test_a_feed_serves_the_batches_of_its_split():
    split = Split({"x": torch.rand(20, 3), "y": torch.arange(20)})
    feed = Feed(split, 6)
    batches = split.batches(6, epoch=2, seed=1, shuffle=True, drop_last=True)
    rows = split.order(epoch=2, seed=1).split(6)
    for number, batch in enumerate(batches):
        feed.load(rows[number], epoch=2, seed=1, batch=number)
        assert same(feed.columns(), batch)


def test_steps_from_a_feed_are_steps_on_its_batches():
    split = Split({"x": torch.rand(18, 6).round()})
    losses = {}
    for fed in (True, False):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        pair = VAE("normal", MLP((5,)), MLP((5,)), "bernoulli", 2)
        pair.build(split.x)
        svi, feed = SVI(pair.model, pair.guide, ADAM, ELBO()), Feed(split, 6)
        rows = split.order().split(6)
        svi.prepare(x=split.x[:6])
        for number, batch in enumerate(split.batches(6, shuffle=True)):
            feed.load(rows[number], epoch=0, seed=0, batch=number)
            losses[fed, number] = svi.step_from(feed) if fed else svi.step(**batch)
    assert all(losses[True, n] == losses[False, n] for n in range(3))


@pytest.mark.cuda
def test_a_feed_draws_the_pixels_of_its_split():
    split = Split({"x": torch.rand(20, 3)}, dynamic=True).to("cuda")
    feed, rows = Feed(split, 6), split.order(epoch=2, seed=1).split(6)
    batches = split.batches(6, epoch=2, seed=1, shuffle=True, drop_last=True)
    for number, batch in enumerate(batches):
        feed.load(rows[number], epoch=2, seed=1, batch=number)
        assert same(feed.columns(), batch)


CAPTURED = [
    "critic=(mlp:4):steps=2",
    "critic=(mlp:4:spectral=true):game=hinge",
    "critic=(mlp:4:batch_norm=true):game=least-squares:noise=0.1",
    "critic=(mlp:4):game=wasserstein:gradient_penalty=10:rate=2",
    "critic=(mlp:4):game=wasserstein:clip=0.1",
    "critic=(mlp:4):game=relativistic:r1=1:r2=1:pack=3",
]


@pytest.mark.cuda
@pytest.mark.parametrize("game", CAPTURED)
@pytest.mark.parametrize("ema", [None, 0.9])
def test_captured_steps_are_the_eager_ones(ema, game):
    def train(compile):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        x = torch.rand(9, 6, device="cuda").round()
        pair = VAE("normal", MLP((5,)), MLP((5,)), "bernoulli", 2)
        pair.build(x)
        loss = ELBO(Linear(0.0, 1.0, 5)) + parse_objective(f"adversarial:z:{game}")
        options = {"ema": ema, "rate": Linear(1.0, 0.1, 9), "compile": compile, "clip": 5.0}
        svi = SVI(pair.model, pair.guide, ADAM, loss, **options)
        losses = torch.stack([svi.step(x) for _ in range(10)])
        return losses, [p.detach() for p in pair.parameters()], svi

    eager, captured = train("off"), train("cudagraph")
    assert captured[2].engine == "captured"
    torch.testing.assert_close(captured[0], eager[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(captured[1], eager[1], rtol=1e-3, atol=1e-4)


@pytest.mark.cuda
def test_a_captured_step_that_is_not_finite_moves_no_weight():
    pyro.set_rng_seed(0)
    pair = Fragile().cuda()
    svi = SVI(pair.model, pair.guide, ADAM, ELBO(), compile="cudagraph")
    for _ in range(6):
        svi.step(torch.randn(4, 3, device="cuda"))
    before = copy.deepcopy(pair.state_dict())
    for _ in range(2):
        svi.step(spoilt("the loss").cuda())
    with pytest.raises(NonFinite, match="step 6 "):
        svi.poll()
    assert same(dict(pair.state_dict()), dict(before))


@pytest.mark.cuda
def test_what_waits_for_the_device_is_not_captured():
    pair = Fragile().cuda()

    def model(x):
        if float(x.sum()) < 1e9:
            pair.model(x)

    svi = SVI(model, pair.guide, ADAM, ELBO(), compile="cudagraph")
    for _ in range(4):
        svi.step(torch.randn(4, 3, device="cuda"))
    with pytest.warns(UserWarning, match="not captured and runs eager"):
        svi.step(torch.randn(4, 3, device="cuda"))
    svi.step(torch.randn(4, 3, device="cuda"))


def test_without_cuda_captured_steps_run_eager_with_a_warning():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    pair = Fragile()
    with pytest.warns(UserWarning, match="there is no CUDA device"):
        svi = SVI(pair.model, pair.guide, ADAM, ELBO(), compile="cudagraph")
    svi.step(torch.randn(4, 3))
    assert svi.engine == "eager"
