"""Paths of models without a guide: points of samples, points that are searched for, and flows."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from priory import evaluate, fit, load
from priory.cli import main
from priory.data import Data
from priory.distributions.categorical import OneHot
from priory.evaluation import Draws, Unavailable
from priory.evaluation.interpolation import (
    Codec,
    along,
    class_moments,
    codec_of,
    points_of,
    strips,
)
from priory.evaluation.isolation import sealed
from priory.inference.phases.phases import generate
from priory.models import GAN, Diffusion, HierarchicalVAE, InfoGAN, NormalizingFlow
from priory.nets import MLP, TimeMLP
from priory.recipes import RECIPES


def normal(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


class Linear(nn.Module):
    """A generator x = W z + b, without a density and without a guide."""

    def __init__(self, unit=False):
        super().__init__()
        self.weight, self.bias = nn.Parameter(normal(6, 3)), nn.Parameter(normal(6, seed=1))
        self.unit = unit

    def model(self, x):
        pyro.module("linear", self)
        zeros = self.weight.new_zeros(3)
        prior = dist.Uniform(zeros, zeros + 1) if self.unit else dist.Normal(zeros, zeros + 1)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior.to_event(1))
            pyro.sample("x", dist.Delta(self.at(z), event_dim=1), obs=x)

    def guide(self, x):
        pyro.module("linear", self)

    def at(self, z):
        return z @ self.weight.T + self.bias


@pytest.fixture(scope="module")
def linear():
    """The generator, and rows of its own whose class is the sign of the first latent."""
    pair, z = Linear(), normal(300, 3, seed=2)
    columns = {"x": pair.at(z).detach(), "y": (z[:, 0] > 0).long()}
    return pair, {n: v[:240] for n, v in columns.items()}, {n: v[240:] for n, v in columns.items()}


def test_a_search_finds_the_latent_of_a_linear_generator(linear):
    pair, z = linear[0], 1.5 * normal(40, 3, seed=3)
    codec = Codec.of_generator(pair.model, {"x": linear[1]["x"]})
    state = torch.get_rng_state()
    off = normal(20, 6, seed=4)
    found = codec.encode(torch.cat([pair.at(z).detach(), off]))
    torch.testing.assert_close(found[:40], z, rtol=0, atol=1e-4)
    assert torch.equal(state, torch.get_rng_state())
    assert pair.weight.grad is None
    # Of data off the generator's range it is the nearest point there: least squares.
    best = (off - pair.bias) @ torch.linalg.pinv(pair.weight).T
    torch.testing.assert_close(found[40:], best.detach(), rtol=0, atol=1e-4)
    torch.testing.assert_close(codec.encode(off[:1])[0], found[40], rtol=0, atol=1e-12)


def test_a_search_keeps_to_the_support(linear):
    pair = Linear(unit=True)
    z = torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    codec = Codec.of_generator(pair.model, {"x": linear[1]["x"]})
    x = pair.at(z).detach()
    assert not codec.straight
    assert "interval" in codec.note
    torch.testing.assert_close(codec.encode(x).sigmoid(), z, rtol=0, atol=1e-4)
    far = codec.decode(codec.encode(pair.at(z + 2).detach()))  # no latent of the support has it
    inside = (far - pair.bias) @ torch.linalg.pinv(pair.weight).T
    assert (inside > -1e-9).all()
    assert (inside < 1 + 1e-9).all()


def test_more_steps_leave_less_error(linear):
    pair, train, _ = linear
    codecs = [Codec.of_generator(pair.model, train, steps=n) for n in (1, 30, 300)]
    errors = [float((c.decode(c.encode(train["x"])) - train["x"]).square().sum()) for c in codecs]
    assert errors[0] > errors[1] > 100 * errors[2]


def test_class_means_of_samples_points_are_those_of_the_samples(linear):
    pair, train, test = linear
    points = points_of(pair.model, pair.guide, train, test)
    codec = points.codec
    assert points.sampled
    assert len(points.x) == len(points.y) == len(test["x"])
    torch.testing.assert_close(codec.decode(points.own), points.x, rtol=0, atol=0)
    right = (points.own[:, 0] > 0).long() == points.y
    assert right.double().mean() > 0.9
    torch.testing.assert_close(codec.decode(points.z), points.rows, rtol=0, atol=0)
    z = class_moments(points.z, points.labels)
    images = class_moments(points.rows, points.labels).mean
    torch.testing.assert_close(codec.decode(z.mean), images, rtol=0, atol=1e-8)
    # Moved by the difference of the points' means, one class's mean sample is the other's.
    vector = z.mean[1] - z.mean[0]
    moved = along(codec, images[:1], vector, (1.0,), z=z.mean[:1])[0, 0]
    torch.testing.assert_close(moved, images[1], rtol=0, atol=1e-8)
    again = points_of(pair.model, pair.guide, train, test)
    assert torch.equal(again.z, points.z)
    assert not torch.equal(points_of(pair.model, pair.guide, train, test, seed=1).z, points.z)


def test_rows_of_a_generator_are_by_its_samples_or_by_a_search(linear):
    pair, train, test = linear

    class Splits:
        pass

    data = Splits()
    data.train, data.valid, data.test = train, test, test
    sampled = evaluate(pair, data, metrics=["paths"], pictures=False)
    assert "of 2000 that a classifier labels" in sampled["arithmetic_target"].note
    assert sampled["arithmetic_target"].value > 0.85
    assert sampled["arithmetic_identity"].value > 0.85
    assert "codes='inversion'" in sampled["round_trip"].note
    found = evaluate(pair, data, metrics=["paths"], codes="inversion", pictures=False)
    assert found["arithmetic_target"].value > 0.85
    assert found["round_trip"].value < 1e-8
    assert "a search of 300 steps, which leave a squared error of" in found["round_trip"].note
    with pytest.raises(ValueError, match="source of codes"):
        evaluate(pair, data, metrics=["paths"], codes="search", pictures=False)


def test_strips_of_a_generator_join_its_samples(linear):
    pair, train, _ = linear
    with sealed(pair):
        draws = Draws(pair.model, pair.guide, train)
        frames = strips(draws, 4, 5)
        points = Codec.of_samples(pair.model, train).draw(8)
    torch.testing.assert_close(frames[:, 0], pair.at(points[:4]).detach())
    torch.testing.assert_close(frames[:, -1], pair.at(points[4:]).detach())


@pytest.mark.parametrize("kind", ["continuous", "levels"])
def test_a_flow_is_its_own_exact_encoder(kind, double):
    levels = kind == "levels"
    x = torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
    x = (x * 7).round() / 7 if levels else x
    pair = NormalizingFlow("maf" if levels else "nsf")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pair.build(x)
    for parameter in pair.parameters():  # away from the identity, where nothing could be wrong
        parameter.data += 0.1 * torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(1)
        )
    codec = codec_of(pair.model, pair.guide, {"x": x})
    u = codec.encode(x)
    torch.testing.assert_close(codec.decode(u), x, rtol=0, atol=0 if levels else 1e-9)
    if not levels:  # the noise, whose density and slope are the datum's
        jacobian = torch.autograd.functional.jacobian(pair.density().noise, x[0])
        base = dist.Normal(0.0, 1.0).log_prob(u[0]).sum()
        expected = base + torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(pair.density().log_prob(x[0]), expected)
    with pytest.raises(Unavailable, match="own inverse"):
        codec_of(pair.model, pair.guide, {"x": x}, "samples")


def test_what_has_no_points_says_why(linear):
    pair, train, test = linear
    with pytest.raises(Unavailable, match="240 data have no points"):
        codec_of(pair.model, pair.guide, train).encode(train["x"])
    with pytest.raises(ValueError, match="steps must be at least 1"):
        Codec.of_generator(pair.model, train, steps=0)

    def rounded(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Delta(z.round().detach(), event_dim=1), obs=x)

    with pytest.raises(Unavailable, match="no gradient by z"):
        Codec.of_generator(rounded, {"x": train["x"][:, :2]}).encode(train["x"][:, :2])
    one = Linear()  # its samples are all of class 0
    one.bias.data -= 5 * one.weight[:, 0].detach()
    with pytest.raises(Unavailable, match="finds class 1 in 0 of 2000 samples"):
        points_of(one.model, one.guide, train, test)
    chain = Diffusion(TimeMLP(8, 1), 10, "cosine")
    chain.build(train["x"].float())
    with pytest.raises(Unavailable, match="whole way of a chain"):
        codec_of(chain.model, chain.guide, train, "samples")


def test_a_gan_of_images_is_moved():
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pair = GAN("uniform", latent=3)
    with torch.random.fork_rng():
        pair.build(x)
    draws = Draws(pair.model, pair.guide, {"x": x})
    assert strips(draws, 2, 3).shape == (2, 3, 1, 8, 8)
    codec = codec_of(pair.model, pair.guide, {"x": x}, "inversion")
    z = Codec.of_samples(pair.model, {"x": x}).draw(3)
    error = codec.decode(codec.encode(codec.decode(z))) - codec.decode(z)
    assert float(error.square().mean()) < 1e-4


# --- several latents, independent a priori --------------------------------------------------------


class Coded(nn.Module):
    """A generator that is linear in a one-hot code c, a u in (-1, 1)^2 and a normal z."""

    def __init__(self, hang=False):
        super().__init__()
        self.c, self.u, self.z = (nn.Parameter(normal(n, 9, seed=n)) for n in (3, 2, 4))
        with torch.no_grad():
            self.c *= 6
        self.hang = hang

    def model(self, x):
        pyro.module("coded", self)
        zeros = self.z.new_zeros(4)
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", OneHot(logits=zeros[:3]))
            u = pyro.sample("u", dist.Uniform(zeros[:2] - 1, zeros[:2] + 1).to_event(1))
            shift = c[:, :1] if self.hang else 0.0
            z = pyro.sample("z", dist.Normal(zeros + shift, 1.0).to_event(1))
            pyro.sample("x", dist.Delta(self.at(c, u, z), event_dim=1), obs=x)

    def guide(self, x):
        pyro.module("coded", self)

    def at(self, c, u, z):
        return c @ self.c + u @ self.u + z @ self.z


def places(u):
    """Return c, u and z at points: by hand."""
    c = nn.functional.one_hot(u[:, :3].argmax(1), 3).double()
    return c, 2 * u[:, 3:5].sigmoid() - 1, u[:, 5:]


def test_a_path_moves_all_latents_and_stays_where_the_model_draws():
    pair, x = Coded(), normal(20, 9)
    codec = Codec.of_samples(pair.model, {"x": x})
    points = codec.draw(400)
    c, u, z = places(points)
    assert torch.equal(points[:, :3], c), "of a draw, the code itself"
    assert torch.equal(c.sum(0) > 100, torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(codec.decode(points), pair.at(c, u, z).detach())
    ends = points[:200], points[200:]
    for t in (0.0, 0.3, 0.49, 0.51, 1.0, 1.4):
        way = ends[0] + t * (ends[1] - ends[0])
        c, u, z = places(way)
        assert (c.sum(1) == 1).all()
        assert (u.abs() < 1).all()
        torch.testing.assert_close(codec.decode(way), pair.at(c, u, z).detach())
    assert codec.note == (
        "c, u, z move together; c takes the category of its greatest coordinate; "
        "paths in coordinates that keep u in its support, interval(-1, 1)"
    )


def test_a_search_finds_all_latents():
    pair, x = Coded(), normal(20, 9)
    codec = Codec.of_samples(pair.model, {"x": x}, seed=5)
    points = codec.draw(30)
    points = points[(points[:, 3:5].abs() < 3).all(1)]
    searched = Codec.of_generator(pair.model, {"x": x}, steps=1000)
    found = searched.encode(codec.decode(points))
    assert torch.equal(places(found)[0], places(points)[0])
    torch.testing.assert_close(found, points, rtol=0, atol=1e-3)


def test_latents_that_hang_on_others_are_refused():
    x = normal(20, 9)
    words = "or several that are independent; the model has c, u, z, and z hangs on those before it"
    for make in (Codec.of_samples, Codec.of_generator):
        with pytest.raises(Unavailable, match=words):
            make(Coded(hang=True).model, {"x": x})
    pair = HierarchicalVAE(latents=(3, 2))
    pair.build(x.float())
    with pytest.raises(Unavailable, match="and z1 hangs on those before it"):
        codec_of(pair.model, pair.guide, {"x": x.float()})
    with pytest.raises(Unavailable, match="the model has 2; take codes='samples'"):
        codec_of(pair.model, pair.guide, {"x": x.float()}, "encoder")


@pytest.fixture(scope="module")
def infogan(tmp_path_factory):
    """A run of InfoGAN, hardly trained on images of its own, whose class is the code."""
    torch.manual_seed(0)
    pair = InfoGAN(codes=2, continuous=1, latent=2, generator=MLP((6,)), encoder=MLP((6,)))
    pair.build(torch.rand(9, 1, 5, 5))
    with torch.no_grad():
        pair.generator.net.layers[0].weight[:, :] *= 3
    drawn = generate(pair.model, {"x": torch.rand(9, 1, 5, 5)}, 300)
    folder = tmp_path_factory.mktemp("infogan")
    np.savez(folder / "own.npz", x=drawn["x"].detach().numpy(), y=drawn["c"].argmax(1).numpy())
    data = Data.from_file(folder / "own.npz")
    options = {"steps": 1, "batch_size": 50, "lr": 1e-9, "progress": False, "check": False}
    fit(pair, RECIPES["infogan"].objective(), data, folder=folder / "run", **options)
    return folder / "run"


@pytest.mark.parametrize("codes", ["auto", "inversion"])
def test_a_run_of_infogan_is_moved_by_samples_or_a_search(infogan, codes, tmp_path, capsys):
    out = tmp_path / "paths.png"
    words = [] if codes == "auto" else ["--codes", codes]
    assert main(["paths", str(infogan), "--out", str(out), *words]) == 0
    said = capsys.readouterr().out
    assert "c, u, z move together; c takes the category of its greatest coordinate" in said
    assert ("samples are moved" in said) == (codes == "auto")
    assert ("points by a search of 300 steps" in said) == (codes == "inversion")
    assert out.stat().st_size > 1000


def test_the_metrics_of_paths_of_infogan_are_of_samples(infogan):
    run = load(infogan)
    found = evaluate(run, metrics=["paths"], pictures=False)
    assert found["arithmetic_target"].value is not None
    assert "samples are moved" in found["arithmetic_target"].note
    with run.scope():
        train = {n: v for n, v in run.data.train.columns.items() if n in ("x", "y")}
        points = points_of(run.pair.model, run.pair.guide, train, train)
        torch.testing.assert_close(points.codec.decode(points.z).cpu(), points.rows)
    with pytest.raises(Unavailable, match="the model has 3; take codes='samples'"):
        codec_of(run.pair.model, run.pair.guide, train, "encoder")
