"""Tables of any finite numbers: where a pair starts, what its nets read, and that it trains."""

import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

from priory.cli import main
from priory.data import Data
from priory.inference import (
    ELBO,
    Adversarial,
    Constraint,
    Contrast,
    Match,
    Phases,
    Reconstruction,
    fit,
    load,
)
from priory.likelihoods import Delta, Normal
from priory.likelihoods.values import is_binary, squashed
from priory.models import (
    CVAE,
    GAN,
    GLO,
    VAE,
    VIB,
    VLAE,
    Autoregressive,
    InfoGAN,
    StackedGAN,
    VariationalWalkback,
)
from priory.nets import MLP
from priory.recipes import RECIPES
from priory.signatures import options_of

ROWS = 400


def normals(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def odd(value, columns=3):
    x = normals(ROWS, columns)
    x[5, 0] = value
    return x


def cauchy():
    u = torch.rand(ROWS, 3, generator=torch.Generator().manual_seed(1))
    return torch.tan(math.pi * (u - 0.5))


TABLES = {
    "plain": normals(ROWS, 3),
    "one row of 100": odd(100.0),
    "one row of 1e6": odd(1e6),
    "one column": normals(ROWS, 1),
    "one column, odd": odd(1e4, 1),
    "Cauchy": cauchy(),
    "lognormal": (3 * normals(ROWS, 2)).exp(),
    "sparse counts": 40 * (normals(ROWS, 5) > 2.2).float() + (normals(ROWS, 5) > 1.5).float(),
    "huge units": normals(ROWS, 3) * torch.tensor([1e12, 1.0, 1e-9]),
    "far from zero": normals(ROWS, 2) + torch.tensor([1e4, -3e3]),
    "constant column": normals(ROWS, 2) * torch.tensor([1.0, 0.0]) + 7.0,
    "scales": normals(ROWS, 3) * torch.tensor([1e4, 1.0, 1e-4]),
    "float64 far from zero": 1e6 + 1e-3 * normals(ROWS, 2).double(),
    "binary": (normals(ROWS, 4) > 1).float(),
    "one binary column": (normals(ROWS, 1) > 1).float(),
}
FEW = {"steps": 1, "valid_every": 0, "compile": "off", "progress": False}


def kind(recipe):
    """What a recipe's first loss is in: images alone, a game's value, squared errors or nats.

    What is fitted by EM has units of its own, or asks for its kind of data: see test_classical.py;
    what predicts labels has no bound of the data, and a sum of constraints counts it twice.
    """
    if recipe.objective().whole:
        return "fitted"
    if recipe.family is VIB:
        return "labels"
    if recipe.name in OTHERS or isinstance(recipe.objective(), Contrast):
        return "other data, or no nats"
    if sum(isinstance(term, Constraint) for term in recipe.objective().terms()) > 1:
        return "several bounds"
    terms = [getattr(term, "objective", term) for term in recipe.objective().terms()]
    costs = {getattr(term, "cost", "") for term in terms}
    if ":" in recipe.data or "dcgan" in recipe.loss or "laplacian" in costs:
        return "images"
    if any("x" in adversary.sites for adversary in recipe.objective().adversaries()):
        return "game"
    return "squared" if "squared" in costs else "nats"


# Of bits, levels, images, several columns or one beside x; or by a cost that is no bound.
OTHERS = {
    *("binomial-diffusion", "variational-glow", "glow", "nice", "realnvp", "gp-vae"),
    *("ddpm", "ddpm-cosine", "ddpm-guided", "dae", "dae-walkback", "gsn", "flow-matching", "dbn"),
    "deep-autoencoder",
    "infusion",
}
KINDS = {name: kind(recipe) for name, recipe in RECIPES.items()}
NATS, SQUARED, GAMES = (
    [name for name, own in KINDS.items() if own == kind] for kind in ("nats", "squared", "game")
)
NETS = {"encoder": "mlp:8", "decoder": "mlp:8", "generator": "mlp:8"}


def labelled(x):
    return Data.from_arrays(x, torch.arange(len(x)) % 3, valid=0.0, test=0.0)


def first(recipe, x):
    """The loss of the first step, at the defaults."""
    options = {n: v for n, v in NETS.items() if n in options_of(RECIPES[recipe].family)}
    if RECIPES[recipe].family in (Autoregressive, VLAE):
        options["decoder"] = "made:8"  # of a table
    if RECIPES[recipe].family is VariationalWalkback:
        options |= {"net": "time-mlp:8:1", "timesteps": 4}
    for stage in RECIPES[recipe].stages:
        few = {"steps": 1, "starts": 1} if hasattr(stage, "starts") else {"steps": 1}
        options |= {f"{stage.name}.{option}": value for option, value in few.items()}
    run = RECIPES[recipe].fit(labelled(x), batch_size=ROWS, **FEW, **options)
    return run.history[0]["loss"]


@functools.cache
def plainly(recipe, *shape):
    return first(recipe, normals(*shape))


def baseline(x):
    """The nats of independent columns, normal or binary; of constant ones, as wide as the rest."""
    x = x.double()
    mean, spread = x.mean(0), x.std(0, correction=0)
    if is_binary(x):
        return float(-(torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).sum())
    varying = spread[spread > 0]
    share = len(varying) / len(spread)
    return float(len(spread) / 2 * math.log(2 * math.pi * math.e * share) + varying.log().sum())


@pytest.mark.parametrize("name", TABLES)
def test_the_first_bound_is_near_that_of_independent_columns(name):
    x = TABLES[name]
    assert abs(first("vae", x) - baseline(x)) < 0.4 + 0.1 * x.shape[1]


HARD = ("one column, odd", "Cauchy", "scales")


@pytest.mark.parametrize("recipe", NATS)
def test_every_bound_begins_above_that_of_independent_columns_as_on_a_plain_table(recipe):
    for name in HARD:
        x = TABLES[name]
        penalty = plainly(recipe, *x.shape) - baseline(normals(*x.shape))  # that a recipe adds
        apart = first(recipe, x) - baseline(x) - penalty
        assert abs(apart) < 0.5 + 0.2 * x.shape[1] + 0.15 * abs(penalty), name


@pytest.mark.parametrize("recipe", SQUARED)
def test_every_squared_error_begins_at_the_variance(recipe):
    for name in HARD:
        x = TABLES[name]
        variance, unit = (v.double().var(0, correction=0).sum() for v in (x, normals(*x.shape)))
        penalty = plainly(recipe, *x.shape) - float(unit)
        apart = first(recipe, x) - float(variance) - penalty
        assert abs(apart) < 0.1 * variance + 0.2 * abs(penalty), name


@pytest.mark.parametrize("recipe", GAMES)
def test_every_game_begins_as_on_a_plain_table(recipe):
    for name in HARD:
        x = TABLES[name]
        assert abs(first(recipe, x)) < 5 * (1 + abs(plainly(recipe, *x.shape))), name


@pytest.mark.parametrize(
    "recipe",
    ["vae", "sb-vae", "aae", "aae-clusters", "wae-mmd", "info-vae", "vae-gan", "ali", "wgan-gp"],
)
@pytest.mark.parametrize("name", ["Cauchy", "one column, odd"])
def test_training_on_odd_tables_goes_on(name, recipe):
    options = {**FEW, "steps": 12, "lr": 2e-3, "batch_size": 64}
    run = RECIPES[recipe].fit(labelled(TABLES[name]), **options)
    assert all(math.isfinite(row["loss"]) for row in run.history)
    assert run.sample(20)["x"].isfinite().all()


def test_the_gradients_of_the_first_bound_are_moderate():
    for name, x in TABLES.items():
        torch.manual_seed(0)
        pair = VAE(latent=2)
        pair.build(x)
        ELBO()(pair.model, pair.guide, x).backward()
        size = torch.stack([p.grad.norm() for p in pair.parameters() if p.grad is not None]).max()
        assert size < 20 * x.shape[1], name


def test_an_odd_row_costs_the_others_little():
    x = normals(1000, 3)
    x[5, 0] = 100.0
    data = Data.from_arrays(x, valid=0.0, test=0.0)
    run = fit(VAE(latent=2), ELBO(), data, steps=150, lr=2e-3, valid_every=0, progress=False)
    with torch.no_grad():
        loss = ELBO()(run.pair.model, run.pair.guide, x).item()
    assert loss < baseline(x) + 0.5


def test_values_are_read_as_they_are_up_to_five_deviations_and_by_their_logarithm_beyond(double):
    reach = torch.tensor(3.0)
    x = torch.tensor([-1e30, -50.0, -3.0, 0.0, 1.0, 2.99, 3.0, 3.01, 1e6], requires_grad=True)
    found = squashed(x, reach)
    expected = [-(3 + math.log1p(1e30 - 3)), -(3 + math.log1p(47)), -3, 0, 1, 2.99, 3]
    expected += [3 + math.log1p(0.01), 3 + math.log1p(1e6 - 3)]
    assert found.tolist() == pytest.approx(expected)
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert slope.tolist() == pytest.approx([1e-30, 1 / 48, 1, 1, 1, 1, 1, 1 / 1.01, 1e-6], rel=1e-4)


def test_a_critic_reads_units_of_the_columns_and_costs_are_in_those_of_the_data(double):
    x = normals(500, 2).double() * torch.tensor([1e3, 1e-4]) + torch.tensor([5e4, 2.0])
    z = (x - x.mean(0)) / x.std(0, correction=0)
    pair = GAN(latent=2)
    pair.build(x)
    torch.testing.assert_close(pair.likelihood.read(x), squashed(z, torch.tensor(5.0)))
    seen = []

    class Critic(nn.Module):
        def forward(self, rows):
            seen.append(rows.detach())
            return rows.sum(1)

    phases = Phases(pair.model, pair.guide, (x,))
    Adversarial(Critic(), "x").both(phases)
    torch.testing.assert_close(seen[0], pair.likelihood.read(x))
    assert seen[1].abs().max() < 30
    compared = []
    Match(lambda a, b: compared.append((a, b)) or a.sum(), "x").loss(phases)
    assert torch.equal(compared[0][0], x)
    vae = VAE(likelihood="delta", latent=2, deterministic=True)
    vae.build(x)
    cost = Reconstruction(cost="squared")(vae.model, vae.guide, x)
    mean = vae.decoder(vae.encoder(x).mean).mean
    assert cost.item() == pytest.approx((mean - x).square().sum(1).mean().item())
    assert cost.item() < 3 * x.var(0).sum()


def test_samples_are_in_the_datas_units_and_bounded_data_keep_theirs():
    x = normals(ROWS, 2) * 1e3 + 5e4
    for pair in (GAN(latent=2), GAN(generator=MLP((8,), output="sigmoid"), latent=2)):
        pair.build(x)
        made = pair.generator(torch.randn(200, 2)).mean
        assert (made.mean(0) - x.mean(0)).abs().max() < 4e3
    low, high = x.amin(0), x.amax(0)
    assert ((made >= low - 1) & (made <= high + 1)).all()
    for bounded in (torch.rand(50, 2), torch.tensor([[-1.0, 0.5], [1.0, 0.1]])):
        for head in (Delta(), Normal()):
            head.build(bounded)
            far = 40 * bounded
            assert torch.equal(head.read(far), far)


@pytest.mark.parametrize("recipe", ["vae", "gan", "autoencoder"])
@pytest.mark.parametrize("standardise", [[], ["--standardise"]])
def test_the_command_line_samples_in_the_datas_units(recipe, standardise, tmp_path):
    x = (normals(ROWS, 2).double() * torch.tensor([1e3, 1e-3]) + torch.tensor([5e4, 2.0])).numpy()
    table, run, drawn = (str(tmp_path / name) for name in ("t.npy", "run", "drawn.npz"))
    np.save(table, x)
    options = ["--data", table, "--steps", "2", "--compile", "off", "--valid-every", "0"]
    assert main(["fit", recipe, *options, *standardise, "--latent", "2", "--out", run]) == 0
    assert main(["sample", run, "--n", "200", "--out", drawn]) == 0
    with np.load(drawn) as file:
        found = dict(file)
    for name in ("x", "x_mean"):
        assert (abs(found[name].mean(0) - x.mean(0)) < 3 * x.std(0)).all()
        assert (found[name].std(0) < 4 * x.std(0)).all()


def test_images_are_read_as_before():
    images = 255 * torch.rand(20, 1, 4, 4)
    head = Delta()
    head.build(images)
    assert not list(head.buffers())
    assert head.read(images) is images
    head = Normal()
    head.build(images)
    torch.testing.assert_close(
        head.read(images), (images - images.mean()) / images.std(correction=0)
    )


def test_every_pair_reads_a_table_in_its_units():
    x = normals(60, 3) * 1e6 + 3e7
    y = torch.arange(60) % 3
    for pair in (InfoGAN(latent=2, codes=3), GLO(latent=2), StackedGAN(classes=3), CVAE(classes=3)):
        labels = {"y": y} if isinstance(pair, StackedGAN | CVAE) else {}
        pair.build(x, **labels)
        assert pair.likelihood.read(x).abs().max() < 6
        assert pair.likelihood.scaled(x).std(0, correction=0).tolist() == pytest.approx([1] * 3)
    codes = GLO(latent=2)
    codes.build(x)
    assert codes.eval().find(x[:5]).isfinite().all()


def test_a_run_from_before_units_reads_as_it_did(tmp_path):
    x = normals(ROWS, 2) * 10 + 50
    data = Data.from_arrays(x)
    run = RECIPES["gan"].fit(data, steps=1, valid_every=0, progress=False)
    run.save(tmp_path / "run")
    again = load(tmp_path / "run", data=data)
    assert torch.equal(again.pair.likelihood.unit, run.pair.likelihood.unit)
    from priory.inference.checkpoints.weights import tensors_of
    from priory.inference.run import _as_now

    own = tensors_of(again.pair, again.objective, {})
    old = {n: t for n, t in own.items() if ".likelihood." not in n}
    old["pair.prior.pseudo"] = own["pair.prior.pseudo"] = torch.zeros(4, 2)
    now = _as_now(old, own)
    assert now["pair.generator.likelihood.centre"].tolist() == [0, 0]
    assert now["pair.generator.likelihood.unit"].tolist() == [1, 1]
    assert now["pair.generator.likelihood.reach"].item() == math.inf
