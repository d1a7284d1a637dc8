"""Autoregressive nets, decoders and pairs: what an output reads, and that densities are exact."""

from __future__ import annotations

import itertools
import math

import pyro
import pytest
import torch
from torch.func import jacrev

from priory import evaluate, fit
from priory.cli import main
from priory.data import Data
from priory.evaluation.interpolation import Codec
from priory.evaluation.likelihood.imputation import impute
from priory.evaluation.record import Unavailable
from priory.inference import ELBO, IWAE, Adversarial, Match, Phases, Reconstruction
from priory.likelihoods import LIKELIHOODS, Delta, Normal
from priory.models import VLAE, Autoregressive, CycleGAN
from priory.nets import AUTOREGRESSIVE, MADE, MLP, Affine, AutoregressiveDecoder, PixelCNN
from priory.nets.autoregressive_decoder import watched
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed

NETS = {
    "made": (lambda: MADE((7, 5), "tanh"), (6,)),
    "no hidden layer": (lambda: MADE(()), (5,)),
    "narrow": (lambda: MADE((2,), "tanh"), (2, 3)),
    "dropout": (lambda: MADE((7, 5), "tanh", 0.5).eval(), (6,)),
    "one number": (lambda: MADE((3,), "tanh"), ()),
    "pixelcnn": (lambda: PixelCNN(channels=4, activation="tanh"), (1, 4, 5)),
    "window 1": (lambda: PixelCNN(1, 4, 1, activation="tanh"), (2, 4, 4)),
    "window 2": (lambda: PixelCNN(2, 4, 3, activation="tanh"), (1, 5, 6)),
    "window 9": (lambda: PixelCNN(9, 4, 1, activation="tanh"), (1, 3, 4)),
    "window 3": (lambda: PixelCNN(3, 4, 0, activation="tanh"), (1, 5, 5)),
}


@pytest.fixture(autouse=True)
def exact(double):
    """In double precision."""


def random(module, scale=0.5):
    """Draw all parameters, which are partly zero at the start."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, scale)
    return module


def net_of(case, params=2, given=3):
    make, shape = NETS[case]
    net = make()
    net.build(shape, params, given)
    return random(net), torch.randn(2, *shape), torch.randn(2, given)


def may_read(net, shape):
    """Which coordinate may read which, (d, d): those before it, of images those in the window."""
    d = math.prod(shape)
    if not isinstance(net, PixelCNN):
        return torch.ones(d, d).tril(-1) > 0
    _, height, width = shape
    window = net.window or max(height, width)
    row, column = torch.arange(d) % (height * width) // width, torch.arange(d) % width
    up, left = row[:, None] - row, column[:, None] - column
    above = (up > 0) & (up <= window) & (left.abs() <= window)
    return above | ((up == 0) & (left > 0) & (left <= window))


@pytest.mark.parametrize("given", [0, 3])
@pytest.mark.parametrize("case", NETS)
def test_an_output_depends_on_what_it_may_read_and_on_nothing_else(case, given):
    net, x, c = net_of(case, given=given)
    d = x[0].numel()
    slopes = jacrev(lambda v: net(v, c[:1]))(x[:1]).reshape(2, d, d)
    assert torch.equal(slopes.abs().sum(0) > 0, may_read(net, x.shape[1:]))
    if given:
        slopes = jacrev(lambda v: net(x[:1], v))(c[:1]).reshape(2 * d, given)
        assert (slopes != 0).all()


def test_dropout_leaves_hidden_outputs_out_in_training_alone():
    net, x, c = net_of("dropout")
    alike = MADE((7, 5), "tanh")
    alike.build((6,), 2, 3)
    alike.load_state_dict(net.state_dict())
    assert torch.equal(net(x, c), alike(x, c))
    many = [v.expand(20_000, -1) for v in (x[0], c[0])]
    one = MADE((7,), "tanh", 0.5)
    one.build((6,), 2, 3)
    drawn = random(one).train()(*many)  # linear in what is left out: the mean is the net without
    assert drawn.std(0).max() > 0.1
    error = (drawn.mean(0) - one.eval()(x[:1], c[:1])[0]).abs() / (drawn.std(0) + 1e-9)
    assert error.max() < 5 / 20_000**0.5


@pytest.mark.parametrize("case", NETS)
def test_what_may_not_be_read_changes_no_bit(case):
    """A masked weight is a product with 0, which NaN passes; the PixelCNN's kernels are cut."""
    net, x, c = net_of(case)
    reads = may_read(net, x.shape[1:])
    value = torch.nan if isinstance(net, PixelCNN) else 1e6
    before = net(x, c).reshape(2, 2, -1)
    for j in range(x[0].numel()):
        other = x.clone()
        other.view(2, -1)[:, j] = value
        after = net(other, c).reshape(2, 2, -1)
        assert torch.equal(after[..., ~reads[:, j]], before[..., ~reads[:, j]])
        assert (after[..., reads[:, j]] != before[..., reads[:, j]]).all()


@pytest.mark.parametrize("case", NETS)
def test_a_walk_finds_at_each_place_what_a_pass_does(case):
    net, x, c = net_of(case)
    seen, whole = torch.full_like(x, 9.0), net(x, c).reshape(2, 2, -1)
    places = []
    for place, features in net.walk(seen, c):
        torch.testing.assert_close(features.reshape(2, 2, -1)[..., place], whole[..., place])
        seen.view(2, -1)[:, place] = x.reshape(2, -1)[:, place]
        places += [*range(x[0].numel())[place]]
    assert sorted(places) == [*range(x[0].numel())]
    assert net.places == len(places) // (x.shape[1] if isinstance(net, PixelCNN) else 1)


def images(shape):
    d = math.prod(shape)
    return torch.tensor([*itertools.product((0.0, 1.0), repeat=d)]).reshape(-1, *shape)


@pytest.mark.parametrize("latent", [0, 2])
@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_the_probabilities_of_all_images_sum_to_one(name, latent):
    """With a latent given each of two values, in one pass over both."""
    x = images((1, 3, 3))
    pair = VLAE(decoder=name, latent=latent) if latent else Autoregressive(name)
    pair.build(x)
    random(pair)
    p = pair.decoder(torch.randn(2, 1, latent)) if latent else pair.decoder()
    mass = p.log_prob(x).exp()
    assert mass.shape == ((2, 512) if latent else (512,))
    torch.testing.assert_close(mass.sum(-1), torch.ones(mass.shape[:-1]), rtol=0, atol=1e-9)
    assert mass.std() > 0.1 / 512


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
@pytest.mark.parametrize("latent", [0, 2])
def test_draws_have_the_frequencies_of_the_exact_table(name, latent):
    x, n = images((1, 2, 2)), 8000
    pair = VLAE(decoder=name, latent=latent) if latent else Autoregressive(name)
    pair.build(x)
    random(pair)
    p = pair.decoder(torch.randn(latent)) if latent else pair.decoder()
    expected = n * p.log_prob(x).exp().detach()
    drawn = p.sample((n,))
    assert drawn.shape == (n, 1, 2, 2)
    counts = (drawn.flatten(1) @ 2.0 ** torch.arange(3, -1, -1)).long().bincount(minlength=16)
    statistic = ((counts - expected).square() / expected).sum()
    assert float(statistic) < 37.7  # 0.1% of chi-squares of 15 degrees
    even = ((counts - n / 16).square() / (n / 16)).sum()
    assert float(even) > 100, "the table is far from an even one"


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
@pytest.mark.parametrize("likelihood", sorted({*LIKELIHOODS} - {"delta", "columns", "categorical"}))
def test_it_starts_at_the_likelihood_of_the_training_mean(name, likelihood):
    x = torch.rand(40, 2, 3, 3).mul(255).round() / 255
    x = 0.2 + x / 2 if likelihood in ("beta", "gamma") else x
    counts = "poisson" in likelihood or "binomial" in likelihood
    x = x.round() if counts or likelihood == "bernoulli" else x
    pair = Autoregressive(name, likelihood)
    pair.build(x)
    head = pair.likelihood
    torch.testing.assert_close(pair.decoder().log_prob(x), head(head.bias(x)).log_prob(x))
    assert pair.decoder().support.check(pair.decoder().sample((3,))).all()


def test_a_linear_net_is_the_regression_on_the_columns_before():
    """The chain rule of a normal distribution is its Cholesky factor; units are the columns'."""
    factor = torch.randn(4, 4).tril() + 3 * torch.eye(4)
    mean = torch.tensor([100.0, -3.0, 0.0, 7.0])
    normal = torch.distributions.MultivariateNormal(mean, scale_tril=factor)
    x = normal.sample((3000,))
    pair = Autoregressive(MADE(()), Normal("pixel"))
    pair.build(x)
    centre, unit = pair.likelihood.centre, pair.likelihood.unit
    scale = factor.diagonal()
    weights = torch.eye(4) - scale[:, None] * torch.linalg.inv(factor)  # of x - mean
    start = mean - centre - weights @ (mean - centre)
    with torch.no_grad():
        pair.decoder.net.last.weight[:4] = weights * unit / unit[:, None]
        pair.decoder.net.bias.copy_(torch.stack([start / unit, (scale / unit).log()]))
    p = pair.decoder()
    torch.testing.assert_close(p.log_prob(x), normal.log_prob(x))
    drawn = p.sample((20_000,))
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=0.12)
    spread = torch.linalg.solve(factor, drawn.T.cov()) @ torch.linalg.inv(factor).T
    torch.testing.assert_close(spread, torch.eye(4), rtol=0, atol=0.05)


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_a_decoder_blind_to_the_code_has_no_rate_and_the_density_without_it(name):
    x = torch.rand(5, 1, 3, 3).round()
    pair = VLAE(encoder=Affine(), decoder=name, latent=2)
    pair.build(x)
    random(pair)
    with torch.no_grad():
        for parameter in (*pair.encoder.parameters(), *pair.decoder.net.given.parameters()):
            parameter.zero_()
    expected = pair.decoder(torch.zeros(2)).log_prob(x)
    if name == "pixelcnn":  # a MADE's units have other degrees where a code is given
        alone = Autoregressive(name)
        alone.build(x)
        own = pair.decoder.net.state_dict().items()
        alone.decoder.net.load_state_dict({k: v for k, v in own if not k.startswith("given")})
        torch.testing.assert_close(alone.decoder().log_prob(x), expected)
    phases = Phases(pair.model, pair.guide, columns={"x": x}, particles=3)
    torch.testing.assert_close(phases.awake.log_p("x"), expected.expand(3, 5))
    torch.testing.assert_close(phases.awake.log_p("z"), phases.awake.log_q("z"))
    bounds = [loss(pair.model, pair.guide, x) for loss in (ELBO(), ELBO(analytic_kl=True), IWAE(4))]
    torch.testing.assert_close(torch.stack(bounds), -expected.mean().expand(3))


def test_without_a_latent_every_bound_is_the_density():
    x = torch.rand(7, 5).round()
    pair = Autoregressive()
    pair.build(x)
    random(pair, 0.3)
    density = -pair.decoder().log_prob(x).mean().detach()
    for objective in (ELBO(), ELBO(particles=3), IWAE(4)):
        torch.testing.assert_close(objective(pair.model, pair.guide, x), density)
    report = evaluate(pair, {"x": x}, metrics=["nll", "elbo", "kl", "active_units"])
    assert report["nll"].value == pytest.approx(float(density))
    assert report["nll"].kind == "exact"
    assert report["kl"].value is None


def test_particles_are_scored_as_one_by_one():
    x = torch.rand(4, 1, 3, 3).round()
    pair = VLAE(decoder=PixelCNN(1), latent=2)
    pair.build(x)
    random(pair)
    z = torch.randn(6, 4, 2)
    together = pair.decoder(z).log_prob(x)
    apart = [[pair.decoder(z[k, i]).log_prob(x[i]) for i in range(4)] for k in range(6)]
    torch.testing.assert_close(together, torch.stack([torch.stack(row) for row in apart]))
    many = pair.decoder(z.repeat(100, 1, 1))
    with torch.no_grad():  # in blocks
        torch.testing.assert_close(many.log_prob(x), together.repeat(100, 1))
    assert pair.decoder(z[0]).expand((6, 4)).sample((2,)).shape == (2, 6, 4, 1, 3, 3)


# --- what asks for a mean -----------------------------------------------------------------------


@pytest.fixture
def lossy():
    x = torch.rand(40, 1, 3, 3).round()
    pair = VLAE(encoder=MLP((8,)), decoder=PixelCNN(1, 4, 1), latent=2)
    pair.build(x)
    return random(pair, 0.3), x


def test_what_needs_a_mean_is_refused_in_words(lossy):
    pair, x = lossy
    metrics = ["reconstruction", "imputation_nll", "nll", "predictive_p", "mmd"]
    options = {"particles": 5, "n_samples": 40}
    report = evaluate(pair, {"x": x}, metrics=metrics, few=10, **options)
    assert "(Autoregressive) has no mean" in report["reconstruction"].note
    assert "(Autoregressive) is not known to have independent" in report["imputation_nll"].note
    for name in ("nll", "predictive_p", "mmd"):
        assert math.isfinite(report[name].value)
    codec = Codec.of_pair(pair.model, pair.guide, {"x": x})
    with pytest.raises(Unavailable, match="no mean that a path could show"):
        codec.decode(torch.zeros(3, 2))
    with pytest.raises(Unavailable, match="not known to have independent features"):
        impute(pair.model, pair.guide, {"x": x}, torch.rand(x.shape) < 0.5, chains=1, steps=1)


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (Reconstruction(cost="squared"), "Autoregressive in the model has none that is a value"),
        (Match("mmd", "x"), r"\(Autoregressive\) has no reparameterised samples"),
        (Match("mmd", "x", mean="x"), "needs a mean, and Autoregressive has none"),
        (Adversarial(MLP((4,)), "x"), r"\(Autoregressive\) has no reparameterised samples"),
    ],
)
def test_an_objective_without_a_gradient_is_refused_in_words(lossy, objective, words):
    pair, x = lossy
    if isinstance(objective, Adversarial):
        objective.build(Phases(pair.model, pair.guide, columns={"x": x}))
    with pytest.raises(ValueError, match=words):
        objective(pair.model, pair.guide, x)


def test_pictures_show_draws_where_there_is_no_mean(lossy):
    pair, x = lossy
    run = fit(pair, ELBO(), Data.from_arrays(x=x), steps=1, valid_every=0, snapshot_every=1)
    drawn = run.sample(5)
    assert "x_mean" not in drawn
    data, redrawn = evaluate(run, metrics=["elbo"], particles=2).gallery.reconstructed
    assert redrawn.shape == data.shape == (len(data), 1, 3, 3)
    assert ((redrawn == 0) | (redrawn == 1)).all()
    assert ((drawn["x"] == 0) | (drawn["x"] == 1)).all()
    assert torch.equal(run.sample(5)["x"], drawn["x"])


def test_what_does_not_suit_is_refused_in_words():
    x = torch.rand(10, 4)
    with pytest.raises(ValueError, match="unknown autoregressive net 'mlp'; the names are made"):
        VLAE(decoder="mlp")
    with pytest.raises(TypeError, match="read what stands before them, such as made, pixelcnn"):
        AutoregressiveDecoder(MLP((4,)))
    with pytest.raises(ValueError, match="likelihood with a density, got delta"):
        Autoregressive(likelihood=Delta()).build(x)
    with pytest.raises(ValueError, match=r"expected images .*, got \(4,\): use MADE"):
        Autoregressive("pixelcnn").build(x)
    with pytest.raises(ValueError, match="window must be a positive integer, got 0"):
        PixelCNN(window=0)
    with pytest.raises(ValueError, match="hidden widths must be positive"):
        MADE((0,))
    with pytest.raises(ValueError, match="dropout must be at least 0 and less than 1, got 1"):
        MADE((3,), dropout=1)
    pair = Autoregressive()
    pair.build(x)
    with pytest.raises(ValueError, match="expected data of shape"):
        pair.decoder.net(torch.zeros(3, 5), torch.zeros(3, 0))


# --- training -----------------------------------------------------------------------------------

ROWS = [n for n, recipe in RECIPES.items() if recipe.family in (VLAE, Autoregressive)]
SMALL = {"made": {"decoder": "made:16"}, "pixelcnn": {"decoder": "pixelcnn:2:4:1"}}
SMALL["vlae"] = {**SMALL["pixelcnn"], "encoder": "mlp:8", "latent": 2, "prior": "flow:1:8:maf"}


@pytest.mark.parametrize("name", ROWS)
def test_a_traced_step_is_the_eager_one_and_a_broken_run_goes_on(name, tmp_path):
    torch.set_default_dtype(torch.float32)
    data, recipe = Data.named("digits", rows=200), RECIPES[name]
    options = {**SMALL[name], "batch_size": 50, "valid_every": 0, "steps": 6}
    back = check_traced_and_resumed(recipe, options, data, tmp_path / "run", atol=1e-5)
    assert back.history[-1]["step"] == options["steps"]


def test_draws_report_their_places_to_who_watches_and_a_terminal_shows_a_bar(
    tmp_path, monkeypatch, capsys
):
    torch.set_default_dtype(torch.float32)
    run = RECIPES["made"].fit(Data.named("digits", rows=100), **SMALL["made"], steps=1)
    reported = []
    with watched(lambda *places: reported.append(places)):
        run.sample(2)
    assert reported == [(done, 64) for done in range(1, 65)]
    run.sample(2)
    assert len(reported) == 64
    words = ["sample", str(run.save(tmp_path / "run")), "--n", "2", "--out"]
    assert main([*words, str(tmp_path / "dark.npz")]) == 0
    assert "sampling" not in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert main([*words, str(tmp_path / "shown.npz")]) == 0
    assert "sampling" in capsys.readouterr().err


def test_a_translation_without_a_mean_is_refused_in_words(monkeypatch):
    pair, x = CycleGAN(MLP(()), MLP(())), torch.randn(20, 2)
    pair.build(x)

    def mean(_):
        raise NotImplementedError("no closed form")

    monkeypatch.setattr(pyro.distributions.Delta, "mean", property(mean))
    report = evaluate(pair, {"x": x, "other": -x}, metrics=["pairing_accuracy"])
    assert report["pairing_accuracy"].note == "a translation back has no mean: no closed form"
