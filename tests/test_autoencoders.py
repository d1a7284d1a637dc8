"""Autoencoders whose codes follow the prior, and GLO: known optima, honest codes, who learns."""

import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch

from priory import evaluate, fit, load
from priory.data import Data
from priory.inference import KL, Phases, Reconstruction
from priory.inference.objectives.costs import absolute, laplacian
from priory.models import GLO, VAE
from priory.nets import MLP
from priory.parsing import parse_objective
from priory.recipes import RECIPES

QUIET = {"valid_every": 0, "progress": False}


@pytest.fixture(scope="module")
def plane():
    """Correlated Gaussian rows in six dimensions, of which two matter most."""
    draw = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=draw)).Q
    scales = torch.tensor([4.0, 2.0, 0.5, 0.3, 0.2, 0.1]).sqrt()
    x = torch.randn(512, 6, generator=draw) * scales @ basis.T
    return Data.from_arrays(x + torch.randn(6, generator=draw), valid=0.0, test=0.0)


def principal(x, k):
    """The least mean squared error by k directions, and the projection on the best ones."""
    values, vectors = torch.linalg.eigh((x - x.mean(0)).T.double().cov(correction=0))
    return float(values[:-k].sum()), vectors[:, -k:] @ vectors[:, -k:].T


def span(net, likelihood):
    weight = likelihood.unit.unsqueeze(1) * net.last.weight.detach()
    basis = torch.linalg.qr(weight.double()).Q
    return basis @ basis.T


def phases(pair, **columns):
    return Phases(pair.model, pair.guide, columns=columns)


# --- linear pairs: principal components -----------------------------------------------------------


def test_a_linear_autoencoder_finds_the_principal_components(plane):
    pair = VAE("normal", MLP(()), MLP(()), "delta", latent=2, deterministic=True)
    run = fit(pair, Reconstruction(cost="squared"), plane, steps=600, batch_size=512, lr=0.1,
              schedule="cosine", **QUIET)  # fmt: skip
    error, projection = principal(plane.train.x, 2)
    assert run.history[-1]["loss"] == pytest.approx(error, rel=1e-3)
    torch.testing.assert_close(
        span(pair.decoder.net, pair.likelihood), projection, rtol=0, atol=1e-3
    )


def test_linear_glo_finds_them_without_an_encoder(plane):
    pair = GLO(MLP(()), latent=2, start="normal", rate=1.0)
    run = fit(pair, Reconstruction(cost="squared"), plane, steps=1000, batch_size=512, lr=0.1,
              schedule="cosine", **QUIET)  # fmt: skip
    error, projection = principal(plane.train.x, 2)
    assert run.history[-1]["loss"] == pytest.approx(error, rel=1e-3)
    torch.testing.assert_close(
        span(pair.generator.net, pair.likelihood), projection, rtol=0, atol=1e-3
    )
    # Codes that are searched for are as good as those that were learned.
    found = pair.generator(pair.find(plane.train.x)).mean.detach()
    assert float((found - plane.train.x).square().sum(1).mean()) == pytest.approx(error, rel=1e-3)


# --- GLO ------------------------------------------------------------------------------------------


@pytest.fixture
def glo():
    torch.manual_seed(0)
    pair = GLO(MLP((8,), activation="tanh"), latent=3, search=300)
    pair.build(torch.randn(20, 4, dtype=torch.float64))
    return pair


def test_descent_does_not_leave_the_ball():
    pair = GLO(latent=2, rate=1.0)
    pair.build(torch.zeros(4, 3))
    table = torch.tensor([[0.6, 0.0], [1.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    pair.prior.table.data.copy_(table)
    slope = torch.tensor([[-1.0, 3.0], [-1.0, 3.0], [-1.0, 3.0], [1.0, 3.0]])
    z = pair.prior.of(torch.arange(4))
    torch.testing.assert_close(z.detach(), table.clamp(max=1))
    (z * slope).sum().backward()
    expected = torch.tensor([[-1.0, 3.0], [0.0, 3.0], [0.0, 3.0], [1.0, 3.0]])
    torch.testing.assert_close(pair.prior.table.grad, expected)


def test_a_row_trains_its_own_code(glo):
    x, index = torch.randn(5, 4, dtype=torch.float64), torch.tensor([3, 7, 7, 0, 19])
    Reconstruction(cost="squared").loss(phases(glo, x=x, index=index)).backward()
    touched = glo.prior.table.grad.abs().sum(1).nonzero().flatten().tolist()
    assert touched == [0, 3, 7, 19]


def test_codes_start_from_principal_components():
    torch.manual_seed(0)
    x = torch.randn(50, 2, dtype=torch.float64) @ torch.randn(2, 7, dtype=torch.float64)
    pair = GLO(latent=3)  # one more than the data have
    pair.build(x)
    start = math.sqrt(3) * 10.0 * pair.prior.table.detach()
    torch.testing.assert_close(start[:, :2].T.cov(correction=0), torch.eye(2, dtype=x.dtype))
    centred = x - x.mean(0)
    explained = start[:, :2] @ torch.linalg.lstsq(start[:, :2], centred).solution
    torch.testing.assert_close(explained, centred)
    assert 0.5 < start[:, 2].std() < 1.5
    for rows in (torch.ones(6, 2), torch.ones(1, 2)):  # without a component
        pair = GLO(latent=2)
        pair.build(rows)
        assert pair.prior.table.isfinite().all()


def test_codes_are_learned_at_a_rate_of_their_own():
    moved = {}
    for rate in (1.0, 8.0):
        torch.manual_seed(0)
        pair = GLO(MLP((8,)), latent=4, rate=rate)
        x = torch.randn(10, 3)
        pair.build(x)
        before = pair.prior.of(torch.arange(10)).detach()
        data = Data.from_arrays(x, valid=0.0, test=0.0)
        fit(pair, Reconstruction(cost="squared"), data, steps=1, batch_size=10, lr=1e-3, **QUIET)
        inside = before.norm(dim=1) < 0.9
        moved[rate] = (pair.prior.of(torch.arange(10)).detach() - before)[inside]
    assert len(moved[1.0]) > 2
    torch.testing.assert_close(moved[8.0], 8 * moved[1.0], rtol=1e-2, atol=1e-5)


def test_dreams_follow_the_normal_law_fitted_to_the_codes(glo):
    codes = glo.prior.of(torch.arange(20)).detach()
    assert codes.norm(dim=1).max() <= 1 + 1e-12
    distribution = glo.prior()
    torch.testing.assert_close(distribution.mean, codes.mean(0))
    torch.testing.assert_close(distribution.covariance_matrix, codes.T.cov(), rtol=1e-5, atol=0)
    torch.manual_seed(0)
    z = phases(glo, x=torch.zeros(4000, 4, dtype=torch.float64)).sampled("z").detach()
    error = (distribution.covariance_matrix.diagonal() / len(z)).sqrt()
    assert ((z.mean(0) - distribution.mean).abs() < 4 * error).all()
    torch.testing.assert_close(z.T.cov(), distribution.covariance_matrix, rtol=0.1, atol=0.02)


def test_unseen_rows_have_codes_of_their_own(glo):
    glo.eval()
    z = 0.5 * glo.prior.of(torch.arange(20)).detach()
    x = glo.generator(z).mean.detach()
    first = phases(glo, x=x, index=torch.arange(20)).awake
    other = phases(glo, x=x.flip(0), index=torch.arange(20)).awake
    found = first.sample["z"][0]
    torch.testing.assert_close(found, other.sample["z"][0].flip(0))  # whatever their numbers
    error = (first.distribution("x", of="model").mean - x).square().sum(1)
    assert error.max() < 1e-4
    assert not found.requires_grad
    with torch.no_grad():  # as an evaluation has it
        torch.testing.assert_close(phases(glo, x=x).awake.sample["z"][0], found)


def test_a_search_is_not_better_than_the_optimum():
    torch.manual_seed(0)
    pair = GLO(MLP(()), latent=2, search=200)
    pair.build(torch.rand(30, 5, dtype=torch.float64))  # bounded: the nets have the data's units
    pair.eval()
    x = torch.randn(40, 5, dtype=torch.float64)
    weight, bias = (
        p.detach() for p in (pair.generator.net.last.weight, pair.generator.net.last.bias)
    )
    free = torch.linalg.lstsq(weight, (x - bias).T).solution.T
    found = pair.find(x)
    assert found.norm(dim=1).max() <= 1 + 1e-12
    inside = free.norm(dim=1) < 1
    assert 0 < int(inside.sum()) < 40
    torch.testing.assert_close(found[inside], free[inside], rtol=0, atol=1e-4)
    # On the surface what is left of the slope points inwards along the radius.
    z = found[~inside]
    slope = 2 * (z @ weight.T + bias - x[~inside]) @ weight
    along = (slope * z).sum(1, keepdim=True) * z
    assert (along * z).sum(1).max() < 0
    assert (slope - along).norm(dim=1).max() < 1e-2 * slope.norm(dim=1).max()


def test_particles_lead(glo):
    x = torch.randn(6, 4, dtype=torch.float64)
    awake = Phases(glo.model, glo.guide, columns={"x": x, "index": torch.arange(6)}, particles=3)
    assert awake.awake.sample["z"].expand(3, 6, 3).shape == (3, 6, 3)
    assert glo.find(x.expand(2, 6, 4)).shape == (2, 6, 3)


def test_glo_is_told_what_it_lacks(glo):
    x = torch.zeros(2, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="needs their numbers: give the column 'index'"):
        glo.guide(x)
    with pytest.raises(ValueError, match="codes for 20 training rows, got row 20"):
        glo.guide(x, torch.tensor([3, 20]))
    for name in ("rows", "search", "latent", "rate"):
        with pytest.raises(
            ValueError, match=f"{name} must be (a positive integer|positive), got 0"
        ):
            GLO(**{name: 0})
    with pytest.raises(ValueError, match="start must be 'principal' or 'normal', got 'pca'"):
        GLO(start="pca")


def test_glo_is_kept_resumed_and_judged_on_other_data(tmp_path):
    digits = Data.named("digits", rows=200)
    recipe = RECIPES["glo"]
    options = {"generator": "mlp:16", "latent": 3, "schedule": "constant", "batch_size": 50}
    options |= {"device": "cpu", **QUIET}
    whole = recipe.fit(digits, **options, steps=8)
    recipe.fit(digits, **options, steps=4, folder=tmp_path / "run")
    resumed = recipe.fit(digits, **options, steps=8, folder=tmp_path / "run", resume=True)
    back = load(tmp_path / "run")
    for name, value in whole.pair.state_dict().items():
        assert torch.equal(resumed.pair.state_dict()[name], value), name
        assert torch.equal(back.pair.state_dict()[name], value), name
    assert back.pair.rows == 200
    other = Data.named("digits")
    wanted = {"metrics": ["reconstruction", "latent_mmd", "knn_accuracy"], "pictures": False}
    before, after = (evaluate(run, other, **wanted) for run in (whole, back))
    assert [r.value for r in before] == [r.value for r in after]
    assert all(r.applicable for r in before)
    with pytest.raises(ValueError, match="codes for 200 training rows"):
        fit(back.pair, recipe.objective(), other, steps=30, device="cpu", **QUIET)


def test_a_traced_step_is_the_eager_one():
    found = []
    for compile in ("off", "trace"):
        run = RECIPES["glo"].fit(
            Data.named("digits", rows=200), generator="mlp:8", steps=6, compile=compile, **QUIET
        )
        found.append(run.pair.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, msg=name)


# --- codes that follow the prior ------------------------------------------------------------------

MATCHED = ["wae-mmd", "wae-gan", "sliced-wae", "sinkhorn-ae", "info-vae", "aae"]


@pytest.fixture(scope="module")
def clusters():
    """Rows around four points of a plane in five dimensions: far from normal."""
    draw = torch.Generator().manual_seed(0)
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).repeat(250, 1)
    points = corners + 0.2 * torch.randn(1000, 2, generator=draw)
    x = 0.3 * points @ torch.randn(2, 5, generator=draw)
    return Data.from_arrays(x, valid=0.0, test=0.3)


@pytest.fixture(scope="module")
def unmatched(clusters):
    return mismatch("autoencoder", clusters)


def mismatch(name, data):
    nets = {"encoder": "mlp:32", "decoder": "mlp:32", "latent": 2}
    run = RECIPES[name].fit(data, **nets, steps=200, lr=5e-3, batch_size=100, **QUIET)
    return evaluate(run, metrics=["latent_mmd"], pictures=False)["latent_mmd"].value


@pytest.mark.parametrize("name", MATCHED)
def test_codes_come_to_follow_the_prior(name, clusters, unmatched):
    assert mismatch(name, clusters) < 0.6 * unmatched


def test_a_point_has_no_bound():
    digits = Data.named("digits", rows=200)
    for name in ("autoencoder", "glo", "vae-gan"):
        run = RECIPES[name].fit(digits, latent=2, steps=4, batch_size=50, progress=False)
        assert all(row.get("bound") is None for row in run.history), name
    with pytest.raises(ValueError, match="patience needs a validation bound, but 'z' is a point"):
        RECIPES["autoencoder"].fit(digits, latent=2, steps=4, patience=1, progress=False)


# --- who learns from what -------------------------------------------------------------------------


def reached(pair, critic):
    parts = {"encoder": pair.encoder, "decoder": pair.decoder, "critic": critic}
    return {
        name
        for name, part in parts.items()
        if any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    }


@pytest.mark.parametrize(
    ("term", "learns"),
    [(0, {"encoder"}), (1, {"encoder", "decoder"}), (2, {"decoder"})],
    ids=["kl", "features", "game"],
)
def test_each_term_of_the_vae_gan_trains_its_own_parts(term, learns):
    torch.manual_seed(0)
    x = torch.randn(40, 6)
    pair = RECIPES["vae-gan"].pair(latent=2)
    pair.build(x)
    objective = RECIPES["vae-gan"].objective()
    (game,) = objective.adversaries()
    game.build(phases(pair, x=x))
    objective.terms()[term].loss(phases(pair, x=x)).backward()
    assert reached(pair, game.critic) == learns


def test_features_are_those_of_the_critics_last_layer():
    torch.manual_seed(0)
    x = torch.randn(10, 6)
    pair = VAE("normal", likelihood="delta", latent=2, deterministic=True)
    pair.build(x)
    objective = parse_objective("reconstruction:cost=features + adversarial:x:critic=(mlp:7)")
    (game,) = objective.adversaries()
    both = phases(pair, x=x)
    game.build(both)
    mean = both.awake.distribution("x", of="model").mean
    layer = game.critic.layers[0]
    mean, x = pair.likelihood.read(mean), pair.likelihood.read(x)
    apart = (layer(mean).relu() - layer(x).relu()).square().sum(1).mean()
    torch.testing.assert_close(objective.terms()[0].loss(both), apart)


def test_divergence_needs_no_density_of_the_data():
    torch.manual_seed(0)
    x = torch.randn(2000, 6)
    pair = VAE("normal", likelihood="delta", latent=2)
    pair.build(x)
    pair.encoder.net.temper(10.0)  # as large as weights are drawn, so that the divergence is seen
    distribution = pair.encoder(x)
    exact = torch.distributions.kl_divergence(
        distribution, pair.prior().expand(distribution.batch_shape)
    ).mean()
    torch.testing.assert_close(KL(analytic=True).loss(phases(pair, x=x)), exact)
    assert KL().loss(phases(pair, x=x)).item() == pytest.approx(exact.item(), rel=0.1)


# --- the Laplacian pyramid ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (20, 20), (17, 9), (7, 30), (3, 3)])
def test_a_pyramid_sees_everything_and_a_constant_as_it_is(size):
    draw = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 5, 3, *size, generator=draw, dtype=torch.float64)
    assert laplacian(a, a).eq(0).all()
    torch.testing.assert_close(laplacian(a, b), laplacian(b, a))
    torch.testing.assert_close(laplacian(3 * a, 3 * b), 3 * laplacian(a, b))
    torch.testing.assert_close(laplacian(a, a + 0.5), absolute(a, a + 0.5))
    single = torch.eye(a[0].numel(), dtype=a.dtype).view(-1, *a.shape[1:])
    assert (laplacian(single, 0 * single) > 0.5).all()


def test_a_pyramid_sees_how_far_a_stroke_has_moved():
    image = torch.zeros(1, 1, 32, 32)
    image[..., 2:4] = 1
    costs = [[f(image, image.roll(s, -1)).item() for s in (2, 4, 8, 16)]
             for f in (laplacian, absolute)]  # fmt: skip
    assert costs[0] == sorted(costs[0])
    assert costs[0][-1] > 1.4 * costs[0][0]
    assert len(set(costs[1])) == 1


# --- the mismatch of latents from samples ---------------------------------------------------------


def through(shift=0.0, scale=1.0, d=3):
    """A pair whose code is the datum itself, moved and scaled, under a standard normal prior."""

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(d).to(x), 1.0).to_event(1))
            pyro.sample("x", dist.Delta(z, event_dim=1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Delta(shift + scale * x, event_dim=1))

    return SimpleNamespace(model=model, guide=guide)


def judged(pair, seed=0, n=2000, d=3):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    report = evaluate(pair, {"x": x}, metrics=["latent_mmd", "latent_sliced"], pictures=False)
    return report["latent_mmd"], report["latent_sliced"]


def test_codes_of_the_prior_do_not_differ_from_it():
    found = [judged(through(), seed, n=1000)[0] for seed in range(3)]
    assert max(abs(r.value) / r.se for r in found) < 4
    assert found[0].kind == "unbiased"
    _, transport = judged(through(), n=1000)
    assert transport.value < 0.02
    assert "the prior against itself: 0.0" in transport.note


def test_a_shift_and_a_spread_are_found_as_they_are():
    shift = torch.tensor([0.6, -0.3, 0.2], dtype=torch.float64)
    value, transport = judged(through(shift))
    # Between N(m, I) and N(0, I) by exp(-|u|^2 / 2 s^2): 2 (s^2 / (s^2 + 2))^(d/2) (1 - e^...)
    middle = torch.distributions.Chi2(3.0).sample((200_000,)).mul(2).sqrt().median().item()
    squares = [(middle * c) ** 2 for c in (0.25, 0.5, 1.0, 2.0, 4.0)]
    away = float(shift.square().sum())
    exact = sum(
        2 * (s / (s + 2)) ** 1.5 * (1 - math.exp(-away / (2 * (s + 2)))) for s in squares
    ) / len(squares)
    assert abs(value.value - exact) < 4 * value.se
    assert abs(transport.value - away / 3) < 4 * transport.se
    _, wide = judged(through(scale=2.0))  # W2^2 of N(0, 4) and N(0, 1) is 1 along every line
    assert abs(wide.value - 1) < 4 * wide.se


def test_latents_without_a_distance_say_so():
    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            c = pyro.sample("c", dist.Categorical(torch.ones(3)))
            pyro.sample("x", dist.Normal(c.to(x).unsqueeze(-1), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("c", dist.Categorical(torch.ones(3)))

    for record in judged(SimpleNamespace(model=model, guide=guide), n=20, d=1):
        assert not record.applicable
        assert "integers" in record.note
