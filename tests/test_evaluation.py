"""Metrics against closed forms, and the promise to leave nothing behind."""

import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from priory.evaluation import (
    active_units,
    aggregate_log_density,
    evaluate,
    independent_marginals,
    knn_hits,
    log_likelihood,
    median_bandwidths,
    mmd2,
    split_kl,
)
from priory.evaluation.record import Estimate
from priory.evaluation.table import choose

LATENT, FEATURES, NOISE = 3, 5, 0.6


class PPCA(nn.Module):
    """Probabilistic principal components with the exact posterior, its covariance widened by c."""

    def __init__(self, c=1.0, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        weight = torch.randn(FEATURES, LATENT, generator=draw, dtype=torch.float64)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.randn(FEATURES, generator=draw, dtype=torch.float64))
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()
        self.c = c

    def model(self, x):
        pyro.module("ppca", self, update_module_params=True)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT).double(), 1.0).to_event(1))
            mean = self.frozen(self.dropout(z @ self.weight.T + self.bias))
            pyro.sample("x", dist.Normal(mean, NOISE).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("ppca", self, update_module_params=True)
        precision = self.weight.T @ self.weight + NOISE**2 * torch.eye(LATENT).double()
        mean = torch.linalg.solve(precision, self.weight.T @ (x - self.bias).T).T
        covariance = self.c * NOISE**2 * torch.linalg.inv(precision)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.MultivariateNormal(mean, covariance))

    @torch.no_grad()
    def log_p(self, x):
        return self.distribution().log_prob(x)

    def distribution(self):
        covariance = self.weight @ self.weight.T + NOISE**2 * torch.eye(FEATURES).double()
        return dist.MultivariateNormal(self.bias, covariance)

    @torch.no_grad()
    def data(self, n, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.distribution().sample((n,))


class Gan(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Linear(2, FEATURES).double()

    def model(self, x):
        pyro.module("gan", self)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Delta(self.generator(z), event_dim=1), obs=x)

    def guide(self, x):
        pass


def is_anchor(record):
    return record.name.endswith(("_real", "_baseline"))


def three_se(values, truth):
    return abs(float(values.mean()) - truth) <= 3 * float(values.std()) / math.sqrt(len(values))


# The K-sample bound


@pytest.mark.parametrize("particles", [1, 7, 50])
@pytest.mark.parametrize("block", [None, (1, 1), (4, 3), (50, 20)])
def test_exact_posterior_gives_the_exact_likelihood(particles, block):
    pair = PPCA()
    x = pair.data(20)
    bounds = log_likelihood(pair.model, pair.guide, x, particles, block=block)
    assert torch.allclose(bounds.log_likelihood, pair.log_p(x), atol=1e-9)
    assert torch.allclose(bounds.elbo, pair.log_p(x), atol=1e-9)
    assert torch.allclose(bounds.ess, torch.full((20,), float(particles)).double(), rtol=1e-9)


def test_a_widened_posterior_loses_what_it_should():
    c = 1.5
    pair = PPCA(c=c)
    x = pair.data(4000)
    gaps = {
        k: log_likelihood(pair.model, pair.guide, x, k).log_likelihood - pair.log_p(x)
        for k in (1, 5, 50)
    }
    assert gaps[1].mean() < gaps[5].mean() < gaps[50].mean() < 0
    assert three_se(gaps[1], -LATENT / 2 * (c - 1 - math.log(c)))
    variance = (c / math.sqrt(2 * c - 1)) ** LATENT - 1
    assert three_se(gaps[50], -variance / (2 * 50))


def test_elbo_and_ess_of_a_widened_posterior():
    c = 1.5
    pair = PPCA(c=c)
    x = pair.data(300)
    bounds = log_likelihood(pair.model, pair.guide, x, 400)
    assert three_se(bounds.elbo - pair.log_p(x), -LATENT / 2 * (c - 1 - math.log(c)))
    variance = (c / math.sqrt(2 * c - 1)) ** LATENT - 1
    assert float(bounds.ess.mean()) / 400 == pytest.approx(1 / (1 + variance), rel=0.02)


def test_blocks_agree_within_noise():
    pair = PPCA(c=2.0)
    x = pair.data(500)
    one, other = (
        log_likelihood(pair.model, pair.guide, x, 20, block=block).log_likelihood
        for block in ((20, 500), (3, 7))
    )
    assert three_se(one - other, 0.0)


def test_same_seed_same_number():
    pair = PPCA(c=2.0)
    x = pair.data(30)
    first, again = (log_likelihood(pair.model, pair.guide, x, 5, seed=4) for _ in range(2))
    other = log_likelihood(pair.model, pair.guide, x, 5, seed=5)
    assert torch.equal(first.log_likelihood, again.log_likelihood)
    assert not torch.equal(first.log_likelihood, other.log_likelihood)


def test_permuted_rows_give_permuted_bounds():
    pair = PPCA()
    x = pair.data(30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    straight = log_likelihood(pair.model, pair.guide, x, 5).log_likelihood
    permuted = log_likelihood(pair.model, pair.guide, x[order], 5).log_likelihood
    assert torch.allclose(straight[order], permuted, atol=1e-9)


def test_float32_data_follow_a_float64_pair():
    pair = PPCA()
    x = pair.data(20).float()
    bounds = log_likelihood(pair.model, pair.guide, x, 5)
    assert torch.allclose(bounds.log_likelihood, pair.log_p(x.double()), atol=1e-9)


def test_a_model_without_latents_is_scored_exactly():
    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1), obs=x)

    x = torch.randn(10, 2, generator=torch.Generator().manual_seed(0)).double()
    report = evaluate(SimpleNamespace(model=model, guide=lambda x: None), x)
    truth = -dist.Normal(0.0, 1.0).log_prob(x).sum(1).mean()
    assert report["nll"].kind == "exact"
    assert report["nll"].value == pytest.approx(float(truth), abs=1e-12)
    assert "no latents" in report["ess"].note
    assert "exactly one latent site" in report["kl"].note


def test_sites_outside_of_the_plate_are_refused():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([len(x)]).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        pyro.sample("z", dist.Normal(x, 1.0).to_event(1))

    x = torch.zeros(4)
    with pytest.raises(ValueError, match=r"pyro\.plate"):
        log_likelihood(model, guide, x, 5)
    report = evaluate(SimpleNamespace(model=model, guide=guide), x, metrics=["nll"])
    assert not report["nll"].applicable


# Nothing is left behind


def test_modes_store_and_random_state_are_restored():
    pair = PPCA()
    x = pair.data(12)
    pair.train()
    pair.frozen.eval()
    pyro.clear_param_store()
    other = PPCA(seed=1)
    other.model(x)  # leaves its weights in the store under the same names
    scale = pyro.param("scale", torch.tensor(2.0), constraint=dist.constraints.positive)
    before = {name: id(p) for name, p in pyro.get_param_store().named_parameters()}
    state, grad = torch.get_rng_state(), torch.is_grad_enabled()
    validation = torch.distributions.Distribution._validate_args
    truth = -float(pair.log_p(x).mean())
    assert evaluate(pair, x, particles=3)["nll"].value == pytest.approx(truth, abs=1e-9)
    assert -float(pair.log_p(x).mean()) == truth
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: id(p) for name, p in pyro.get_param_store().named_parameters()} == before
    assert torch.equal(pyro.param("scale"), scale)
    assert torch.distributions.Distribution._validate_args == validation
    assert torch.is_grad_enabled() == grad
    assert pair.training
    assert pair.dropout.training
    assert not pair.frozen.training
    pyro.clear_param_store()


def test_training_is_the_same_with_evaluation_in_between():
    def train(judge):
        torch.manual_seed(0)
        pyro.clear_param_store()
        pair = PPCA(c=1.3)
        x = pair.data(40)
        optimiser = torch.optim.Adam(pair.parameters(), 0.01)
        svi = pyro.infer.Trace_ELBO()
        for _ in range(4):
            optimiser.zero_grad()
            svi.differentiable_loss(pair.model, pair.guide, x).backward()
            optimiser.step()
            if judge:
                evaluate(pair, {"x": x, "y": torch.arange(40) % 2}, particles=3)
        return pair.weight.detach().clone()

    assert torch.equal(train(judge=False), train(judge=True))
    pyro.clear_param_store()


def test_a_pair_of_functions_reads_its_parameters_from_the_store():
    pyro.clear_param_store()
    pyro.param("mean", torch.tensor(3.0).double())

    def model(x):
        mean = pyro.param("mean", torch.tensor(0.0).double())
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(1).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + mean, 1.0).to_event(1), obs=x)

    def guide(x):
        mean = pyro.param("mean", torch.tensor(0.0).double())
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal((x - mean) / 2, math.sqrt(0.5)).to_event(1))

    x = torch.full((6, 1), 3.0).double()
    bounds = log_likelihood(model, guide, x, 4)
    truth = dist.Normal(3.0, math.sqrt(2.0)).log_prob(x).flatten()
    assert torch.allclose(bounds.log_likelihood, truth.double(), atol=1e-6)
    pyro.clear_param_store()


def test_one_metric_alone_gives_the_same_number_as_among_all():
    pair = PPCA(c=1.5)
    columns = {"x": pair.data(60), "y": torch.arange(60) % 3}
    whole = evaluate(pair, columns, particles=5)
    for name in choose(None):
        alone = evaluate(pair, columns, particles=5, metrics=[name], pictures=False)
        assert alone[name] == whole[name]


# Latents


def test_mutual_information_of_separated_and_of_equal_posteriors():
    n = 40
    means = torch.arange(n).double()[:, None]
    apart = [dist.Normal(means, 1e-3).to_event(1)]
    equal = [dist.Normal(torch.zeros(n, 1).double(), 1.0).to_event(1)]
    for posteriors, truth in ((apart, math.log(n)), (equal, 0.0)):
        z = posteriors[0].mean
        log_q = posteriors[0].log_prob(z)
        aggregate = aggregate_log_density(z, posteriors)
        split = split_kl(log_q, torch.zeros(n), aggregate)
        assert float(split.mutual_information.mean()) == pytest.approx(truth, abs=1e-9)
        assert torch.allclose(split.kl, split.mutual_information + split.mismatch)


def test_aggregate_density_does_not_depend_on_blocks():
    draw = torch.Generator().manual_seed(0)
    means = torch.randn(50, 2, generator=draw).double()
    z = torch.randn(50, 2, generator=draw).double()
    whole = aggregate_log_density(z, [dist.Normal(means, 0.5).to_event(1)], block=50)
    parts = [dist.Normal(m[None], 0.5).to_event(1) for m in means.split(7)]
    assert torch.allclose(aggregate_log_density(z, parts, block=3), whole, atol=1e-12)


def test_mutual_information_of_a_linear_encoder():
    """I(x; z) = 1/2 logdet(I + A S A' / s^2), and the aggregate is N(0, A S A' + s^2)."""
    n, slope, noise = 6000, 0.8, 1.0
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(n, 1, generator=draw).double()
    q = dist.Normal(slope * x, noise).to_event(1)
    z = slope * x + noise * torch.randn(n, 1, generator=draw).double()
    log_p = dist.Normal(0.0, 1.0).log_prob(z).sum(1)
    split = split_kl(q.log_prob(z), log_p, aggregate_log_density(z, [q]))
    assert three_se(split.mutual_information, 0.5 * math.log(1 + slope**2 / noise**2))
    total = slope**2 + noise**2
    assert three_se(split.mismatch, 0.5 * (total - 1 - math.log(total)))


def test_kl_record_is_the_sum_of_its_parts_and_right():
    pair = PPCA()
    x = pair.data(3000)
    names = ["kl", "mutual_information", "mismatch"]
    report = evaluate(pair, x, metrics=names, particles=2, pictures=False)
    parts = report["mutual_information"].value + report["mismatch"].value
    assert report["kl"].value == pytest.approx(parts, abs=1e-9)
    weight = pair.weight.detach()
    precision = weight.T @ weight + NOISE**2 * torch.eye(LATENT).double()
    truth = float(-0.5 * torch.logdet(NOISE**2 * torch.linalg.inv(precision)))
    assert abs(report["kl"].value - truth) <= 3 * report["kl"].se


@pytest.mark.parametrize("live", [0, 2, 5])
def test_active_units_counts_live_dimensions(live):
    draw = torch.Generator().manual_seed(0)
    means = torch.randn(200, 5, generator=draw).double()
    means[:, live:] *= 0.05
    assert active_units(means)[0] == live


def test_neighbours_on_separated_classes_and_on_noise():
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 4
    noise = torch.randn(200, 2, generator=draw)
    apart = noise + 100 * labels[:, None]
    assert knn_hits(apart, labels).mean() == 1
    assert knn_hits(apart, labels, (apart, 3 - labels)).mean() == 0
    assert torch.equal(knn_hits(noise, labels), knn_hits(noise, labels * 10 + 3))
    assert abs(float(knn_hits(noise, labels).mean()) - 0.25) < 0.1
    duplicated = torch.cat([noise, noise])
    assert knn_hits(duplicated, labels.repeat(2), neighbours=1).mean() == 1
    with pytest.raises(ValueError, match="nothing to predict"):
        knn_hits(noise, torch.zeros(200))
    with pytest.raises(ValueError, match="need more than 5 rows"):
        knn_hits(noise[:4], labels[:4])


# Samples


def rbf(shift, a, b, s, d):
    total = s**2 + a**2 + b**2
    return (s**2 / total) ** (d / 2) * math.exp(-(shift**2) / (2 * total))


def test_mmd_between_gaussians_has_its_closed_form():
    d, shift, a, b, widths = 3, 1.0, 1.0, 1.5, (1.0, 2.0)
    truth = sum(
        rbf(0, a, a, s, d) + rbf(0, b, b, s, d) - 2 * rbf(shift, a, b, s, d) for s in widths
    ) / len(widths)
    draw = torch.Generator().manual_seed(0)
    x = a * torch.randn(1500, d, generator=draw).double()
    y = b * torch.randn(1100, d, generator=draw).double()
    y[:, 0] += shift
    value, se = mmd2(x, y, widths)
    assert abs(value - truth) <= 3 * se
    assert se < 0.1 * truth


def test_mmd_is_unbiased_and_its_error_is_honest():
    draw = torch.Generator().manual_seed(0)

    def repeat(shift):
        sets = torch.randn(120, 2, 60, 2, generator=draw).double()
        found = [mmd2(a, b + shift, (1.0,)) for a, b in sets]
        values = torch.tensor([value for value, _ in found]).double()
        return values, sum(se for _, se in found) / len(found) / float(values.std())

    equal, ratio = repeat(0.0)
    assert three_se(equal, 0.0)
    assert 1.0 < ratio < 1.8
    apart, ratio = repeat(1.0)
    truth = 2 * (rbf(0, 1, 1, 1, 2) - rbf(math.sqrt(2), 1, 1, 1, 2))
    assert three_se(apart, truth)
    assert 0.85 < ratio < 1.3


def test_mmd_ignores_order_and_far_offsets():
    draw = torch.Generator().manual_seed(0)
    a = torch.randn(1500, 2, generator=draw).double()
    b = 1.3 * torch.randn(90, 2, generator=draw).double()
    straight = mmd2(a, b, (1.0,))
    assert mmd2(a.flip(0), b.flip(0), (1.0,)) == pytest.approx(straight, abs=1e-12)
    assert mmd2(b, a, (1.0,)) == pytest.approx(straight, abs=1e-12)
    assert mmd2(a + 1e5, b + 1e5, (1.0,)) == pytest.approx(straight, abs=1e-6)


def test_bandwidths_and_their_faults():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    assert median_bandwidths(x)[2] == 2.0
    with pytest.raises(ValueError, match="all 5 rows of data are equal"):
        median_bandwidths(torch.ones(5, 2))
    with pytest.raises(ValueError, match="at least 3 samples"):
        mmd2(x[:2], x, (1.0,))


def test_baseline_keeps_marginals_and_drops_their_dependence():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 1, generator=draw).double()
    real = torch.cat([x, x + 5], 1)
    fake = independent_marginals(real, 4000, draw)
    assert torch.allclose(fake.mean(0), real.mean(0), atol=0.1)
    assert abs(float(torch.corrcoef(fake.T)[0, 1])) < 0.06


# The whole


def splits(x, y):
    parts = {"train": slice(0, 400), "valid": slice(400, 500), "test": slice(500, None)}
    made = {k: SimpleNamespace(columns={"x": x[s], "y": y[s]}) for k, s in parts.items()}
    return SimpleNamespace(name="toy", **made)


def test_every_metric_on_a_run():
    pair = PPCA(c=1.2)
    x = pair.data(900)
    data = splits(x, (x[:, 0] > 0).long())
    run = SimpleNamespace(pair=pair, data=data, history=[])
    report = evaluate(run, particles=50)
    absent = {record.name for record in report if not record.applicable and not is_anchor(record)}
    factors = {"mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness"}
    known_mixture = {"modes", "high_quality", "mode_kl"}
    outliers = {"outlier_auroc", "outlier_auroc_complexity", "outlier_auroc_ratio"}
    own = {"layer_loss", "sticks", "bits_per_dim", "mmd_hamming", "class_kl"}
    own |= {"code_accuracy", "code_information", "label_agreement"}
    own |= {"level_ari", "dendrogram_purity", "end_kl"}
    own |= {"chain_burn_in", "chain_rhat", "chain_ess"}
    own |= {"accuracy", "label_nll", "label_information"}
    domains = {"pairing_accuracy", "pairing_accuracy_back", "cycle_error"}
    assert absent == own | domains | factors | known_mixture | outliers
    assert {*choose(None)} == {record.name for record in report if not is_anchor(record)}
    truth = -float(pair.log_p(data.test.columns["x"]).mean())
    assert report["nll"].value == pytest.approx(truth, abs=0.02)
    assert report["nll"].n == 400
    assert report["active_units"].value == LATENT
    assert report["knn_accuracy"].value > 0.7
    for name in ("mmd", "mmd_real"):
        assert abs(report[name].value) <= 3 * report[name].se
    assert report["mmd_baseline"].value > 3 * report["mmd_baseline"].se


def test_planted_defects_move_the_right_metric():
    pair, broken = PPCA(), PPCA()
    broken.bias.data += 1.0
    x = pair.data(400)
    good, bad = (evaluate(p, x, particles=10) for p in (pair, broken))
    assert bad["nll"].value > good["nll"].value + 3 * bad["nll"].se
    assert bad["mmd"].value > good["mmd"].value + 3 * bad["mmd"].se
    assert bad["mmd_real"].value == good["mmd_real"].value


def test_reconstruction_error_of_the_exact_posterior():
    pair = PPCA()
    x = pair.data(4000)
    record = evaluate(pair, x, metrics=["reconstruction"])["reconstruction"]
    weight = pair.weight.detach()
    inverse = torch.linalg.inv(weight.T @ weight + NOISE**2 * torch.eye(LATENT).double())
    residual = torch.eye(FEATURES).double() - weight @ inverse @ weight.T
    total = pair.distribution().covariance_matrix.detach()
    truth = (residual @ total @ residual.T + NOISE**2 * weight @ inverse @ weight.T).trace()
    assert abs(record.value - float(truth) / FEATURES) <= 3 * record.se


def test_what_does_not_apply_says_why():
    gan = Gan()
    x = PPCA().data(100)
    report = evaluate(gan, x, particles=5)
    for name in ("nll", "elbo", "ess", "kl", "active_units", "reconstruction"):
        assert report[name].value is None
        assert "'z', which the guide does not" in report[name].note
    assert "no labels" in report["knn_accuracy"].note
    assert report["mmd"].applicable
    assert report["mmd_baseline"].applicable

    gan.guide = lambda x: PPCA.guide(PPCA(), x)
    gan.generator = nn.Linear(LATENT, FEATURES).double()
    gan.model = lambda x: _implicit(gan.generator, x)
    report = evaluate(gan, x, particles=5)
    assert "implicit likelihood" in report["nll"].note
    assert report["kl"].applicable
    assert report["reconstruction"].applicable


def _implicit(generator, x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(LATENT).double(), 1.0).to_event(1))
        pyro.sample("x", dist.Delta(generator(z), event_dim=1), obs=x)


def test_a_deterministic_guide_has_no_density():
    pair = PPCA()
    inner = pair.guide

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Delta(x[:, :LATENT], event_dim=1))

    report = evaluate(SimpleNamespace(model=pair.model, guide=guide), pair.data(50), particles=3)
    assert "deterministic guide" in report["nll"].note
    assert "is a Delta" in report["kl"].note
    assert report["active_units"].value == LATENT
    assert inner is not guide


def test_two_latents_have_a_likelihood_but_no_latent_map():
    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(0.0, 1.0))
            z2 = pyro.sample("z2", dist.Normal(z1, 1.0))
            pyro.sample("x", dist.Normal(z2[..., None], 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z2", dist.Normal(x[:, 0], 1.0))
            pyro.sample("z1", dist.Normal(x[:, 0], 1.0))

    x = torch.randn(30, 1, generator=torch.Generator().manual_seed(0))
    report = evaluate(SimpleNamespace(model=model, guide=guide), x, particles=20)
    assert report["nll"].applicable
    assert report["kl"].note.startswith("z1 ")
    assert "the model has 2: z1, z2" in report["mutual_information"].note


def test_an_impossible_datum_is_named():
    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Uniform(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Uniform(z, z + 1).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Uniform(torch.zeros(len(x), 1), 1.0).to_event(1))

    x = torch.tensor([[1.0], [5.0], [1.0]])
    report = evaluate(SimpleNamespace(model=model, guide=guide), x, particles=500)
    assert "1 of 3 rows have no finite value; row 1 has inf" in report["nll"].note


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"particles": 0}, "particles must be at least 1, got 0"),
        ({"metrics": ["nlll"]}, "unknown metric 'nlll'; did you mean 'nll'"),
        ({"split": "tset"}, "got 'tset'; did you mean 'test'"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"data": torch.zeros(0, 5)}, "no rows"),
        ({"data": torch.tensor([[0.0], [math.nan]])}, "first of them row 1"),
        ({"data": {"x": torch.zeros(3, 1), "y": torch.zeros(2)}}, "same number of rows"),
        ({"data": "mnist"}, "got str"),
        ({"data": None}, "data must be given"),
    ],
)
def test_faults_are_explained(options, message):
    options = {"data": torch.zeros(3, FEATURES).double(), **options}
    with pytest.raises(ValueError, match=message):
        evaluate(PPCA(), **options)


def test_a_pair_needs_its_two_programs():
    with pytest.raises(ValueError, match="has no guide"):
        evaluate(SimpleNamespace(model=print), torch.zeros(3, 1))


def test_a_limit_takes_evenly_spaced_rows():
    pair = PPCA()
    x = pair.data(101)
    report = evaluate(pair, x, limit=11, particles=1)
    truth = -float(pair.log_p(x[::10]).mean())
    assert report["nll"].value == pytest.approx(truth, abs=1e-9)
    assert report["nll"].n == 11


def test_a_single_datum_has_no_standard_error():
    pair = PPCA()
    report = evaluate(pair, pair.data(1), particles=3)
    assert report["nll"].se is None
    assert "no standard error" in report["nll"].note
    assert not report["active_units"].applicable
    assert not report["mmd"].applicable


def test_a_share_of_all_or_none_is_not_certain():
    """Agresti and Coull: 0 of 96 is (0 + 2) / 100, with the error of that share."""
    none, all_ = (Estimate.share(torch.full((96,), v), kind="unbiased") for v in (0.0, 1.0))
    assert (none.value, all_.value) == (0.0, 1.0)
    assert none.se == pytest.approx(math.sqrt(0.02 * 0.98 / 100), abs=1e-12)
    assert all_.se == pytest.approx(none.se, abs=1e-12)
    some = torch.tensor([0.0, 1.0, 1.0, 0.0])
    found = Estimate.share(some, kind="unbiased")
    assert found.se == pytest.approx(float(some.double().std()) / 2, abs=1e-12)
