"""Ways through the latent space: identities that hold exactly, and defects that show."""

import json
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from benchmarks import interpolation
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from torch import nn

from pairs import LinearGaussian
from priory.data import Data
from priory.evaluation import METRICS, Draws, Unavailable, evaluate
from priory.evaluation.interpolation import (
    Codec,
    Judge,
    along,
    arithmetic,
    class_moments,
    lerp,
    pair_paths,
    slerp,
    strips,
)
from priory.evaluation.interpolation.path import pairs
from priory.evaluation.isolation import sealed
from priory.models import VAE

ROWS = ("arithmetic_target", "arithmetic_identity", "round_trip")


def normal(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


@pytest.fixture(scope="module")
def blobs():
    """Three classes around far corners, in 6 dimensions, as training and test columns."""
    centres = 6 * torch.eye(6, dtype=torch.float64)[:3]

    def draw(n, seed):
        y = torch.arange(n) % 3
        return {"x": centres[y] + 0.5 * normal(n, 6, seed=seed), "y": y}

    return draw(300, 1), draw(60, 2)


# Ways


@pytest.mark.parametrize("way", [lerp, slerp])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ways_begin_and_end_bit_for_bit(way, dtype):
    a, b = normal(20, 7).to(dtype), 3 * normal(20, 7, seed=1).to(dtype)
    path = way(a, b, 5)
    assert path.shape == (20, 5, 7)
    assert path.dtype == dtype
    assert torch.equal(path[:, 0], a)
    assert torch.equal(path[:, -1], b)


def test_ways_reversed_are_the_ways_back():
    a, b = normal(20, 7), normal(20, 7, seed=1)
    for way in (lerp, slerp):
        torch.testing.assert_close(way(a, b, 9).flip(1), way(b, a, 9), rtol=0, atol=1e-12)


def test_lerp_is_even_steps():
    steps = lerp(normal(5, 3), normal(5, 3, seed=1), 8).diff(dim=1)
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps), rtol=0, atol=1e-14)


def test_slerp_turns_evenly_and_its_norm_changes_evenly():
    a, b = normal(30, 5), 2.5 * normal(30, 5, seed=1)
    path = slerp(a, b, 11)
    norms = path.norm(dim=-1)
    torch.testing.assert_close(norms, lerp(norms[:, :1], norms[:, -1:], 11)[..., 0])
    unit = path / norms[..., None]
    turns = (unit[:, 1:] * unit[:, :-1]).sum(-1).clamp(-1, 1).arccos()
    torch.testing.assert_close(turns, turns[:, :1].expand_as(turns), rtol=0, atol=1e-7)


def test_slerp_between_equal_norms_is_shoemakes():
    a, b = (5 * x / x.norm(dim=-1, keepdim=True) for x in (normal(9, 4), normal(9, 4, seed=1)))
    theta = ((a * b).sum(-1, keepdim=True) / 25).arccos()[:, None]
    t = torch.linspace(0, 1, 6, dtype=torch.float64).reshape(1, -1, 1)
    shoemake = (((1 - t) * theta).sin() * a[:, None] + (t * theta).sin() * b[:, None]) / theta.sin()
    torch.testing.assert_close(slerp(a, b, 6), shoemake, rtol=0, atol=1e-12)
    quarter = slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 3)[0, 1]
    torch.testing.assert_close(quarter, torch.full((2,), math.sqrt(0.5)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slerp_where_no_great_circle_is_given(dtype):
    a = normal(6, 4).to(dtype)
    antipodal = slerp(a, -a, 5)
    norm = a.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(antipodal.norm(dim=-1), norm.expand(6, 5))
    assert ((antipodal[:, 2] * a).sum(-1).abs() < 1e-5 * norm[:, 0] ** 2).all()  # at right angles
    torch.testing.assert_close(slerp(a, 3 * a, 5), lerp(a, 3 * a, 5))
    torch.testing.assert_close(slerp(a, a, 5), a[:, None].expand(6, 5, 4))
    near = a * (1 + 1e-7)
    torch.testing.assert_close(slerp(a, near, 5), lerp(a, near, 5))
    zero = torch.zeros_like(a)
    torch.testing.assert_close(slerp(zero, a, 5), lerp(zero, a, 5))
    assert slerp(zero, zero, 5).isfinite().all()


def test_pairs_are_of_different_classes_and_every_class_comes_up():
    labels = torch.arange(100) // 10
    start, end = pairs(100, 10, labels, seed=3)
    assert (labels[start] != labels[end]).all()
    assert torch.cat([labels[start], labels[end]]).bincount().tolist() == [2] * 10
    odd = pairs(99, 20, torch.arange(99) % 3, seed=1)
    assert (odd[0] % 3 != odd[1] % 3).all()
    alone = pairs(4, 50, None)
    assert (alone[0] != alone[1]).all()
    assert pairs(100, 10, labels, seed=3)[0].equal(start)


# Codecs


def test_pca_is_the_best_linear_codec():
    x = normal(200, 6) @ normal(6, 6, seed=1)
    codec = Codec.pca(x, 2)
    again = codec.decode(codec.encode(x))
    values = torch.linalg.svdvals(x - x.mean(0))
    assert float((x - again).square().sum()) == pytest.approx(float(values[2:].square().sum()))
    torch.testing.assert_close(codec.encode(again), codec.encode(x))
    torch.testing.assert_close(Codec.pca(x, 6).decode(Codec.pca(x, 6).encode(x)), x)
    with pytest.raises(ValueError, match="from 1 to 6"):
        Codec.pca(x, 7)


def test_codec_of_a_pair_is_its_posterior_mean_and_its_mean_image():
    pair, x = LinearGaussian(), normal(1203, 5)
    codec = Codec.of_pair(pair.model, pair.guide, {"x": x})
    state = torch.get_rng_state()
    z = codec.encode(x)
    torch.testing.assert_close(z, pair.posterior(x).mean.detach())
    torch.testing.assert_close(codec.decode(z), (z @ pair.w.T + pair.b).detach())
    assert torch.equal(state, torch.get_rng_state())
    assert codec.straight
    assert not codec.note


class Boxed(nn.Module):
    """A latent with a support of its own, an implicit likelihood, and a guide that is exact."""

    def __init__(self, simplex):
        super().__init__()
        self.simplex = simplex
        self.weight = nn.Parameter(normal(6, 3))

    def model(self, x):
        pyro.module("boxed", self)
        ones = torch.ones(3, dtype=torch.float64)
        prior = dist.Dirichlet(ones) if self.simplex else dist.Beta(ones, ones).to_event(1)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", prior)
            pyro.sample("x", dist.Delta(z @ self.weight.T, event_dim=1), obs=x)

    def guide(self, x):
        z = (x @ torch.linalg.pinv(self.weight).T).clamp(1e-3, 1)
        with pyro.plate("data", len(x)):
            if self.simplex:
                pyro.sample("z", dist.Dirichlet(1e5 * z / z.sum(-1, keepdim=True)))
            else:
                pyro.sample("z", dist.Beta(1e5 * z, 1e5 * (1 - z).clamp_min(1e-3)).to_event(1))


@pytest.mark.parametrize("simplex", [True, False])
def test_paths_stay_inside_the_support(simplex):
    pair = Boxed(simplex)
    z = torch.softmax(3 * normal(40, 3), -1) if simplex else torch.sigmoid(3 * normal(40, 3))
    x = (z @ pair.weight.T).detach()
    codec = Codec.of_pair(pair.model, pair.guide, {"x": x})
    points = codec.encode(x)
    assert not codec.straight
    assert ("simplex" if simplex else "interval") in codec.note
    assert points.shape == (40, 2 if simplex else 3)
    torch.testing.assert_close(codec.decode(points), x, atol=0.05, rtol=0)
    far = codec.decode(4 * points)  # as far out as it gets
    back = far @ torch.linalg.pinv(pair.weight).T.detach()
    assert (back > -1e-9).all()
    assert (back < 1 + 1e-9).all()
    if simplex:
        torch.testing.assert_close(back.sum(1), torch.ones(40, dtype=torch.float64))
    assert codec.free(torch.zeros(2, 3).double()).isfinite().all()


def test_codec_says_what_it_cannot_do():
    def labelled(x, y):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(y.double(), 1.0))
            pyro.sample("x", dist.Normal(z[:, None], 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x[:, 0], 1.0))

    def switch(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))
            pyro.sample("x", dist.Normal(z[:, None], 1.0).to_event(1), obs=x)

    def guess(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(x[:, 0].sigmoid()))

    columns = {"x": torch.zeros(4, 2)}
    with pytest.raises(Unavailable, match="needs the argument 'y'"):
        Codec.of_pair(labelled, guide, columns)
    with pytest.raises(Unavailable, match="discrete"):
        Codec.of_pair(switch, guess, columns)
    with pytest.raises(Unavailable, match="guide does not"):
        Codec.of_pair(switch, lambda x: None, columns)


def test_strips_end_in_the_reconstructions():
    pair, x = LinearGaussian(), normal(30, 5)
    with sealed(pair):
        draws = Draws(pair.model, pair.guide, {"x": x, "y": torch.arange(30) % 5}, seed=4)
        frames = strips(draws, 4, 7)
    assert frames.shape == (4, 7, 5)
    start, end = pairs(30, 4, draws.labels, 4)
    mean = (pair.posterior(x).mean @ pair.w.T + pair.b).detach()
    torch.testing.assert_close(frames[:, 0], mean[start])
    torch.testing.assert_close(frames[:, -1], mean[end])


@pytest.mark.parametrize("prior", ["normal", "stick-breaking"])
def test_strips_of_images(prior):
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()
    pair = VAE(prior, latent=3)
    with torch.random.fork_rng():
        pair.build(x)
    draws = Draws(pair.model, pair.guide, {"x": x})
    frames = strips(draws)
    assert frames.shape == (6, 11, 1, 8, 8)
    assert (frames >= 0).all()
    assert (frames <= 1).all()
    assert torch.equal(frames, strips(Draws(pair.model, pair.guide, {"x": x})))


# Arithmetic


def test_class_moments_are_the_sample_moments():
    x, y = normal(90, 4, seed=5), torch.arange(90) % 3 * 2
    found = class_moments(x, y)
    theirs = GaussianNB(var_smoothing=0.0).fit(x.numpy(), y.numpy())
    assert found.classes.tolist() == theirs.classes_.tolist()
    for mine, other in ((found.mean, theirs.theta_), (found.variance, theirs.var_)):
        torch.testing.assert_close(mine, torch.from_numpy(other), rtol=0, atol=1e-12)
    assert found.share.tolist() == theirs.class_prior_.tolist()


@pytest.mark.parametrize("kind", ["pca", "identity", "pair"])
def test_a_linear_codec_maps_centroid_on_centroid(kind, blobs):
    train, _ = blobs
    if kind == "pair":
        pair = LinearGaussian(latent=3, observed=6)
        codec = Codec.of_pair(pair.model, pair.guide, train)
    else:
        codec = Codec.pca(train["x"], 3) if kind == "pca" else Codec.identity((6,))
    z = codec.encode(train["x"])
    centroids = class_moments(z, train["y"])
    for a, b in ((0, 1), (2, 1)):
        moved = z + (centroids.mean[a] - centroids.mean[b])
        mean = moved[train["y"] == b].mean(0)
        torch.testing.assert_close(mean, centroids.mean[a], rtol=0, atol=1e-8)
        # The centroid of the data, encoded and moved, decodes to the other's image.
        inside = class_moments(codec.decode(z), train["y"]).mean
        vector = centroids.mean[a] - centroids.mean[b]
        image = along(codec, class_moments(train["x"], train["y"]).mean[b : b + 1], vector, (1.0,))
        torch.testing.assert_close(image[0, 0], inside[a], rtol=0, atol=1e-8)


def test_judge_is_scikit_learns(blobs):
    train, test = blobs
    judge = Judge(train["x"], train["y"])
    theirs = LogisticRegression(max_iter=100, tol=1e-3).fit(train["x"].numpy(), train["y"].numpy())
    said = theirs.predict_proba(test["x"].numpy())
    torch.testing.assert_close(judge.probability(test["x"]), torch.from_numpy(said))
    assert float(judge.hits(test["x"], test["y"]).mean()) == theirs.score(test["x"], test["y"])
    two = train["y"] < 2
    judge = Judge(train["x"][two], train["y"][two])
    theirs = theirs.fit(train["x"][two].numpy(), train["y"][two].numpy())
    said = theirs.predict_proba(test["x"].numpy())
    torch.testing.assert_close(judge.probability(test["x"]), torch.from_numpy(said))
    with pytest.raises(ValueError, match="at least 2 classes"):
        Judge(train["x"], torch.zeros(300))


def test_arithmetic_of_the_identity(blobs):
    train, test = blobs
    judge = Judge(train["x"], train["y"])
    codec = Codec.identity((6,))
    centroids = class_moments(train["x"], train["y"])
    found = arithmetic(codec, judge, test["x"], test["y"], centroids, (0.0, 0.5, 1.0))
    assert found.target.shape == found.own.shape == (60, 3, 3)
    assert float(found.error.max()) == 0
    assert float(found.round_trip.max()) < 1e-24
    said = judge.probability(test["x"])
    torch.testing.assert_close(found.target[:, :, 0], said)
    own = said.gather(1, test["y"][:, None])
    torch.testing.assert_close(found.own[:, :, 0], own.expand(60, 3))
    moved = judge.probability(test["x"] + centroids.mean[2] - centroids.mean[test["y"]])
    torch.testing.assert_close(found.target[:, 2, 2], moved[:, 2])
    target = found.elsewhere(found.target)
    assert float(target[:, 2].mean()) > 0.99
    assert float(target[:, 0].mean()) < 0.01
    by_pair = found.by_pair(found.target)
    torch.testing.assert_close(by_pair[1, 2], found.target[test["y"] == 1, 2].mean(0))
    off = ~torch.eye(3, dtype=torch.bool)
    torch.testing.assert_close(by_pair[off].mean(0), target.mean(0))  # 20 images of each class
    assert found.at(0.5) == 1
    with pytest.raises(ValueError, match="must hold"):
        found.at(0.7)


def test_a_lossy_codec_loses_on_the_way_what_it_lost_before(blobs):
    train, test = blobs
    judge, codec = Judge(train["x"], train["y"]), Codec.pca(train["x"], 2)
    centroids = class_moments(codec.encode(train["x"]), train["y"])
    found = arithmetic(codec, judge, test["x"], test["y"], centroids, (0.0, 1.0))
    again = codec.decode(codec.encode(test["x"]))
    torch.testing.assert_close(found.error, (test["x"] - again).square().sum(1))
    torch.testing.assert_close(found.round_trip, found.error[:, None].expand(60, 3))


def test_arithmetic_refuses_what_it_does_not_know(blobs):
    train, test = blobs
    judge, codec = Judge(train["x"], train["y"]), Codec.identity((6,))
    centroids = class_moments(train["x"], train["y"])
    with pytest.raises(ValueError, match="label 7 of row 0"):
        arithmetic(codec, judge, test["x"], torch.full((60,), 7), centroids)
    fewer = class_moments(train["x"][train["y"] > 0], train["y"][train["y"] > 0])
    with pytest.raises(ValueError, match="the judge knows"):
        arithmetic(codec, judge, test["x"], test["y"], fewer)


def test_pair_paths_go_from_each_class_to_each_later_one(blobs):
    train, test = blobs
    codec = Codec.identity((6,))
    centroids = class_moments(train["x"], train["y"])
    frames = pair_paths(codec, test["x"], test["y"], centroids, (0.0, 1.0))
    assert frames.shape == (3, 2, 6)
    for row, (a, b) in enumerate([(0, 1), (0, 2), (1, 2)]):
        torch.testing.assert_close(
            frames[row, 1] - frames[row, 0], centroids.mean[b] - centroids.mean[a]
        )
        assert (frames[row, 0] == test["x"][test["y"] == a]).all(1).any()


# Rows of the table


class Splits:
    def __init__(self, train, test):
        self.train, self.valid, self.test = train, test, test


class Ppca(LinearGaussian):
    """Fitted to the data: principal components with a little noise."""

    def __init__(self, x, latent, *, deaf=False):
        super().__init__(latent, x.shape[1])
        codec = Codec.pca(x, latent)
        with torch.no_grad():
            self.b.copy_(x.mean(0))
            self.w.copy_((codec.decode(torch.eye(latent).double()) - x.mean(0)).T * 3)
            self.log_s.fill_(-3.0)
        self.deaf = deaf

    def posterior(self, x):
        return super().posterior(x.mean(0).expand_as(x) if self.deaf else x)


def test_rows_tell_a_good_pair_from_a_deaf_one(blobs):
    good, deaf = (
        evaluate(Ppca(blobs[0]["x"], 3, deaf=deaf), Splits(*blobs), metrics=["paths"])
        for deaf in (False, True)
    )
    assert {r.name for r in good.records} >= set(ROWS)
    assert good["arithmetic_target"].value > 0.99
    assert good["arithmetic_identity"].value > 0.99
    assert good["arithmetic_identity"].n == 60
    assert deaf["arithmetic_target"].value == pytest.approx(1 / 3, abs=0.1)
    assert deaf["arithmetic_identity"].value == pytest.approx(1 / 3, abs=0.1)
    assert deaf["round_trip"].value > 5 * good["round_trip"].value


def test_rows_are_the_same_alone_and_among_others(blobs):
    pair = Ppca(blobs[0]["x"], 3)
    together = evaluate(pair, Splits(*blobs), metrics=[*ROWS, "rare", "kl"], particles=5)
    for name in ROWS:
        alone = evaluate(pair, Splits(*blobs), metrics=[name])[name]
        assert alone.value == together[name].value
        assert alone.se == together[name].se


def test_rows_say_why_they_have_no_value(blobs):
    pair, (train, test) = Ppca(blobs[0]["x"], 3), blobs
    plain = evaluate(pair, test, metrics=["paths"])
    assert "no training rows" in plain["round_trip"].note
    bare = evaluate(pair, Splits({"x": train["x"]}, test), metrics=["paths"])
    assert "no labels" in bare["round_trip"].note
    one = {"x": train["x"], "y": torch.zeros(300)}
    same = evaluate(pair, Splits(one, one), metrics=["paths"])
    assert "from 2 to 100 classes" in same["round_trip"].note
    assert {METRICS[name].group for name in ROWS} == {"paths"}


# The benchmark


def test_the_benchmark_measures_and_draws():
    data = Data.named("digits", binarise="none")
    train, test = ({n: s.columns[n] for n in ("x", "y")} for s in (data.train, data.test))
    judge = Judge(train["x"], train["y"])
    codecs = (Codec.pca(train["x"], 10), Codec.identity((1, 8, 8)))
    found = [interpolation.judged(c, judge, train, test, train) for c in codecs]
    rows, images = [row for row, _ in found], {row["codec"]: i for row, i in found}
    assert rows[0]["half_squared_error"][0] > rows[1]["half_squared_error"][0] == 0
    assert rows[0]["neighbour"][0] > rows[1]["neighbour"][0]  # linear, but not superposition
    assert interpolation.pairs_picture(images["PCA 10"]["pairs"], "PCA").axes
    assert interpolation.sevens_picture({n: i["sevens"] for n, i in images.items()}).axes
    result = json.loads(interpolation.FILE.read_text())
    assert interpolation.paths_picture(result).axes
    text = interpolation.table(result)
    assert all(row["codec"] in text for row in result["rows"])
