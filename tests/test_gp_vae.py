"""The autoencoder whose latents follow a column, against exact Gaussian processes."""

import math

import pyro
import pytest
import torch
from pyro.distributions import MultivariateNormal
from pyro.infer import Trace_ELBO
from torch.distributions import kl_divergence

from priory.data import Data
from priory.data.sunspots import SUNSPOT_NUMBERS
from priory.distributions.expected import ExpectedNormal
from priory.distributions.independent import IndependentNormal
from priory.evaluation import evaluate, log_likelihood
from priory.inference import ELBO, IWAE, Phases
from priory.models import GPVAE, VAE
from priory.nets import MLP, Affine, SparseGP
from priory.nets import sparse_gp as module
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed

pytestmark = pytest.mark.usefixtures("double")

ROWS, NOISE, SHARE, LENGTH = 9, 0.4, 0.8, 1.5
TIMES = torch.tensor([1700, 1701, 1703, 1704, 1706, 1709, 1710, 1712, 1713])


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Inducing points in general position need no jitter, which would show in the last digits."""
    monkeypatch.setitem(module._JITTER, torch.float64, 1e-13)


def table(rows=ROWS):
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(2))


def small(x=None, t=TIMES, **options):
    torch.manual_seed(0)
    net = {"encoder": MLP((5,)), "decoder": MLP((5,)), "latent": 2, "inducing": 6}
    pair = GPVAE(**{**net, "length": LENGTH, "share": SHARE, **options})
    pair.build(table() if x is None else x, t=t)
    return pair


def kernel(a, b):
    """r k(t, t') of two columns, element by element."""
    gaps = (a[:, None] - b[None, :]).double() / LENGTH
    return SHARE * torch.exp(-gaps.square() / 2)


@torch.no_grad()
def linear(points):
    """A pair with the decoder w z + b and the exact q, and its f at the given inducing points."""
    pair = small(encoder=Affine(), decoder=Affine(), latent=1, inducing=len(points))
    process, likelihood = pair.process, pair.likelihood
    process.gp.points.copy_(process.place(points))
    w, b = torch.tensor([1.5, -0.5, 1.0]), torch.tensor([0.3, 0.0, -2.0])
    decoder, encoder = pair.decoder.net.last, pair.encoder.net.last
    decoder.weight.zero_()
    decoder.weight[:3, 0] = w
    decoder.bias.zero_()
    decoder.bias[:3] = b
    likelihood.centre.zero_(), likelihood.unit.fill_(1.0)
    likelihood.log_scale.fill_(math.log(NOISE))
    found = w.square().sum() / NOISE**2  # the precision of z that a datum gives
    encoder.weight.zero_()
    encoder.weight[0] = w / NOISE**2 / found
    encoder.bias.copy_(torch.stack([-(w @ b) / NOISE**2 / found, -found.log() / 2]))
    return pair, w, b


@torch.no_grad()
def best(pair, x, w, b):
    """Let q(u) be p(u | x) of the model whose f at the rows is that given u."""
    process = pair.process
    a = SHARE**0.5 * process.gp.weights(process.place(TIMES))[0]
    noise = (1 - SHARE) + NOISE**2 / w.square().sum()  # of the rows' projections on w
    y = (x - b) @ w / w.square().sum()
    covariance = torch.linalg.inv(torch.eye(a.shape[1]) + a.mT @ a / noise)
    scale = torch.linalg.cholesky(covariance)
    process.gp.loc.copy_((covariance @ a.mT @ y / noise)[None])
    process.gp.log_scale.copy_(scale.diagonal().log())
    process.gp.below.copy_((scale / scale.diagonal()[:, None]).tril(-1))


def evidence(x, w, b, times=TIMES):
    """log p of all rows together, from the covariance of all their entries."""
    z = kernel(times, times) + (1 - SHARE) * torch.eye(len(x))
    covariance = torch.kron(z, torch.outer(w, w)) + NOISE**2 * torch.eye(x.numel())
    return MultivariateNormal(torch.zeros(x.numel()), covariance).log_prob((x - b).flatten())


@torch.no_grad()
def test_with_inducing_points_at_the_rows_every_draw_gives_the_evidence_of_all_rows():
    x = table()
    pair, w, b = linear(TIMES)
    best(pair, x, w, b)
    for objective in (ELBO(), ELBO(), IWAE(3)):
        bound = -ROWS * objective(pair.model, pair.guide, x, t=TIMES)
        torch.testing.assert_close(bound, evidence(x, w, b), rtol=1e-6, atol=0)


@torch.no_grad()
def test_with_fewer_inducing_points_it_is_titsias_bound():
    x = table()
    pair, w, b = linear(TIMES[::2])
    best(pair, x, w, b)
    few = kernel(TIMES[::2], TIMES[::2]) / SHARE
    cross = kernel(TIMES, TIMES[::2])
    known = cross @ torch.linalg.solve(few, cross.mT) / SHARE
    noise = torch.kron((1 - SHARE) * torch.eye(ROWS), torch.outer(w, w))
    noise += NOISE**2 * torch.eye(x.numel())
    covariance = torch.kron(known, torch.outer(w, w)) + noise
    collapsed = MultivariateNormal(torch.zeros(x.numel()), covariance).log_prob((x - b).flatten())
    lost = (kernel(TIMES, TIMES) - known).trace() / (2 * (1 - SHARE))
    assert collapsed - lost < evidence(x, w, b) - 0.01
    for _ in range(2):
        bound = -ROWS * ELBO()(pair.model, pair.guide, x, t=TIMES)
        torch.testing.assert_close(bound, collapsed - lost)


@torch.no_grad()
def test_in_evaluation_it_is_the_regression_at_new_values_of_the_column():
    x, new = table(), torch.tensor([1702, 1711, 1800])
    pair, w, b = linear(TIMES)
    best(pair, x, w, b)
    pair.eval()
    noise = (1 - SHARE) + NOISE**2 / w.square().sum()
    gain = kernel(new, TIMES) @ torch.linalg.inv(kernel(TIMES, TIMES) + noise * torch.eye(ROWS))
    mean = gain @ ((x - b) @ w / w.square().sum())
    variance = 1 - (gain * kernel(new, TIMES)).sum(1)
    fn = pair.process(new)
    torch.testing.assert_close(fn.mean[:, 0], mean)
    torch.testing.assert_close(fn.variance[:, 0], variance)
    torch.testing.assert_close(fn.variance[2], torch.ones(1))  # far from all rows, N(0, 1)

    rows = table(3) + 1
    columns = {"x": rows, "t": new}
    phase = Phases(pair.model, pair.guide, columns=columns).awake
    assert phase.latents == ("z",)
    assert not phase.has_shared
    covariance = variance[:, None, None] * torch.outer(w, w) + NOISE**2 * torch.eye(3)
    expected = MultivariateNormal(mean[:, None] * w + b, covariance).log_prob(rows)
    found = log_likelihood(pair.model, pair.guide, columns, particles=3)
    for bound in (found.elbo, found.log_likelihood):
        torch.testing.assert_close(bound, expected)


@torch.no_grad()
def test_without_a_share_it_is_the_vae():
    pair, x = small(), table()
    plain = VAE(encoder=MLP((5,)), decoder=MLP((5,)), latent=2)
    plain.build(x)
    own = {k: v for k, v in pair.state_dict().items() if not k.startswith("process.")}
    plain.load_state_dict(own, strict=False)
    pair.process.logit.fill_(-80.0)
    pair.eval()
    encoder = pair.encoder(x)
    q = Phases(pair.model, pair.guide, columns={"x": x, "t": TIMES}).awake.distribution("z")
    precision = 1 + (-2 * encoder.log_scale).exp()
    torch.testing.assert_close(q.variance, 1 / precision)
    torch.testing.assert_close(
        pair.process(TIMES).log_prob(x[:, :2]), plain.prior().log_prob(x[:, :2])
    )
    bounds = [
        log_likelihood(pair.model, pair.guide, {"x": x, "t": TIMES}, particles=3000),
        log_likelihood(plain.model, plain.guide, {"x": x}, particles=3000),
    ]
    means = [bound.log_likelihood.mean() for bound in bounds]
    torch.testing.assert_close(*means, atol=0.02, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("particles", [1, 4])
def test_the_inducing_values_enter_by_their_share(particles):
    x, t = table(), TIMES
    pair = small(x, rows=40)
    assert pair.rows == 40
    columns = {"x": x, "t": t}
    phase = Phases(pair.model, pair.guide, columns=columns, particles=particles).awake
    u, gp, z = phase.sample["u"][0], pair.process.gp, phase.sample["z"]
    share = (gp.prior().log_prob(u) - gp.posterior().log_prob(u)) / 40
    fn = pair.process(t, u)
    assert isinstance(fn, ExpectedNormal)
    assert float(fn.uncertainty.max()) > 0.01
    local = pair.decoder(z).log_prob(x) + fn.log_prob(z) - phase.log_q("z")
    torch.testing.assert_close(phase.log_weight(), local)
    torch.testing.assert_close(phase.average(local), local.mean() + share)
    torch.testing.assert_close(phase.mean_kl("u"), kl_divergence(gp.posterior(), gp.prior()) / 40)
    draws = phase.distribution("z").sample((20_000,))
    kl = (phase.distribution("z").log_prob(draws) - fn.log_prob(draws)).mean()
    torch.testing.assert_close(phase.mean_kl("z"), kl, rtol=0.05, atol=0)


@torch.no_grad()
def test_pyros_own_bound_is_that_of_all_rows():
    x = table()
    pair = small(x, rows=40)
    with pyro.poutine.seed(rng_seed=3):
        theirs = Trace_ELBO().loss(pair.model, pair.guide, x, TIMES)
    with pyro.poutine.seed(rng_seed=3):
        ours = ELBO()(pair.model, pair.guide, x, t=TIMES)
    assert theirs == pytest.approx(40 * float(ours))


def test_the_divergence_from_an_uncertain_mean_counts_its_variance():
    p = IndependentNormal(torch.tensor([1.0, 0.0]), torch.tensor([0.1, -0.4]), 1)
    q = ExpectedNormal(torch.zeros(2), torch.tensor([0.3, 0.2]), torch.tensor([0.5, 2.0]), 1)
    plain = IndependentNormal(q.loc, q.log_scale, 1)
    lost = (q.uncertainty / (2 * plain.variance)).sum()
    torch.testing.assert_close(kl_divergence(p, q), kl_divergence(p, plain) + lost)


def test_what_it_does_not_take_is_refused_in_words():
    x = table()
    with pytest.raises(ValueError, match="a column 't', which the training rows have not"):
        GPVAE(latent=2).build(x)
    with pytest.raises(ValueError, match="without two values orders no rows"):
        GPVAE(latent=2).build(x, t=torch.ones(ROWS))
    with pytest.raises(ValueError, match="share must be between 0 and 1, got 1"):
        GPVAE(share=1)
    with pytest.raises(ValueError, match="length must be positive, got 0"):
        GPVAE(length=0)
    with pytest.raises(ValueError, match="fixed is for kernel='rbf'"):
        SparseGP(4, "linear", fixed=True)
    seconds = (1.7e9 + 50 * torch.arange(ROWS)).float()
    with pytest.raises(ValueError, match="take the first t off all"):
        GPVAE(latent=2).build(x, t=seconds)
    pair = small(t=1_700_000_000 + TIMES)  # integers are exact
    pair.eval()
    assert torch.equal(pair.process.place(1_700_000_000 + TIMES), small().process.place(TIMES))
    with pytest.raises(ValueError, match=r"one number for each row, \(rows,\), got \(9, 1\)"):
        pair.guide(x, t=TIMES[:, None])


def test_single_precision_holds_a_column_of_many_lengths():
    t = torch.arange(0.0, 1000.0)
    found = []
    for dtype in (torch.float64, torch.float32):
        pair = small(torch.zeros(1000, 1, dtype=dtype), t, inducing=250, length=8.0)
        found.append(pair.eval().process(t[::9] + 0.3).variance.double())
    assert not found[1].isnan().any()
    torch.testing.assert_close(*found, atol=0.01, rtol=0)


# --- training -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def years():
    return Data.named("sunspot-years")


def test_the_years_are_the_observed_ones_and_no_year_is_in_two_parts(years):
    assert [len(part) for part in (years.train, years.valid, years.test)] == [209, 40, 60]
    every = torch.cat([part.columns["t"] for part in (years.train, years.valid, years.test)])
    assert torch.equal(every.sort().values, torch.arange(1700, 2009))
    columns = years.test.columns
    shown = {int(t): float(x) ** 2 for t, x in zip(columns["t"], columns["x"][:, 0], strict=True)}
    assert all(
        SUNSPOT_NUMBERS[t - 1700] == pytest.approx(number, abs=1e-4) for t, number in shown.items()
    )
    with pytest.raises(ValueError, match="valid=249 leaves no training rows"):
        Data.named("sunspot-years", valid=249)


SMALL = {"encoder": "mlp:8", "decoder": "mlp:8", "inducing": 20, "batch_size": 50, "steps": 10}


def test_a_traced_step_is_the_eager_one_and_a_broken_run_goes_on(years, tmp_path):
    torch.set_default_dtype(torch.float32)
    options = {**SMALL, "steps": 6, "valid_every": 0}
    back = check_traced_and_resumed(RECIPES["gp-vae"], options, years, tmp_path / "run", atol=1e-4)
    assert back.pair.rows == len(years.train)
    assert back.pair.span == (1701.0, 2008.0)
    new = back.sample(2, given={"t": [1750, 2500]})
    assert new["x"].shape == (2, 1)


def test_what_judges_a_vae_judges_it(years):
    torch.set_default_dtype(torch.float32)
    run = RECIPES["gp-vae"].fit(years, **SMALL, objective="iwae:3", compile="off")
    assert math.isfinite(run.history[-1]["loss"])
    names = ["nll", "reconstruction", "active_units", "kl", "mismatch"]
    report = evaluate(run, particles=20, limit=20, metrics=names, pictures=False)
    assert {r.name for r in report if r.applicable} == {*names} - {"mismatch"}
    assert "the prior of z differs from row to row" in report["mismatch"].note
    assert len(run.score(particles=5)) == 60
    assert run.encode().mean["z"].shape == (60, 1)
