"""From pairs to ArviZ: what LOO finds against closed forms, and every group in its place."""

import functools
import math
import sys
import warnings
from types import ModuleType, SimpleNamespace

import matplotlib
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pairs import LinearGaussian
from priory import fit
from priory.data import Data
from priory.evaluation.arviz import container as last_step
from priory.evaluation.arviz import loo, to_arviz
from priory.inference import ELBO, Adversarial
from priory.models import GAN, VAE
from priory.nets import MLP
from processes import ended, start_logged

az = last_step.import_arviz()

OLD = "InferenceData" in vars(az)  # before ArviZ 1
NAMES = {"elpd_loo": "elpd", "p_loo": "p", "loo_i": "elpd_i"}
old_alone = pytest.mark.skipif(not OLD, reason="of ArviZ before 1")

HIGH_K = "ignore:Estimated shape parameter:UserWarning"


@functools.cache
def truth(widen=1.0, shift=0.0, n=200):
    """A pair, its data, and log p(x) of each."""
    pair = LinearGaussian(widen=widen, shift=shift)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        x = pair.marginal.sample((n,))
        return pair, x, pair.marginal.log_prob(x).numpy()


@functools.cache
def digits(prior="normal"):
    with torch.random.fork_rng():
        return fit(VAE(prior=prior, latent=4), ELBO(), Data.named("digits"), epochs=2)


def compare(models):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pandas' to ArviZ
        return az.compare(models) if OLD else az.compare(models, round_to="none")


def of(found, name):
    """What `arviz.loo` or `arviz.compare` has found, by its name before ArviZ 1."""
    return getattr(found, name if OLD else NAMES[name])


def groups(idata):
    return [*idata.groups()] if OLD else [*idata.children]


def smoothed(idata):
    """log mean of the Pareto-smoothed weights of each datum."""
    log_w = idata.sample_stats.log_weight.values[0]
    normal, _ = last_step._psis()(log_w.copy())
    log_sum = log_w.min(0) - np.take_along_axis(normal, log_w.argmin(0)[None], 0)[0]
    return log_sum - math.log(len(log_w))


# Leave-one-out


@pytest.mark.filterwarnings(HIGH_K)
@pytest.mark.parametrize(("widen", "shift"), [(1.3, 0.0), (2.0, 0.1), (0.7, 0.0), (1.5, -0.2)])
def test_loo_is_the_smoothed_importance_weighted_bound(widen, shift):
    pair, x, exact = truth(widen, shift)
    idata = to_arviz(pair, 400, x, prior=0)
    found = az.loo(idata, pointwise=True)
    assert np.allclose(of(found, "loo_i"), smoothed(idata), rtol=0, atol=1e-9)
    assert np.allclose(found.pareto_k, idata.sample_stats.pareto_k, rtol=0, atol=1e-6)
    error = of(found, "loo_i").values - exact
    assert abs(error.mean()) < 4 * error.std() / math.sqrt(len(x)) + error.var()
    assert abs(of(found, "elpd_loo") - exact.sum()) < 0.005 * len(x)


@pytest.mark.parametrize("widen", [0.7, 1.3])
def test_p_loo_is_the_guides_chi_squared(widen):
    """E_q[q / p(z | x)] = (c (2 - c))^(-d / 2) for a covariance c times the exact one."""
    pair, x, _ = truth(widen)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter")
        found = loo(pair, 1000, x)
    assert of(found, "p_loo") == pytest.approx(-len(x) * math.log(widen * (2 - widen)), rel=0.05)


def test_an_exact_guide_gives_the_exact_likelihood_without_a_warning():
    pair, x, exact = truth()
    for found in (az.loo(to_arviz(pair, 50, x), pointwise=True), loo(pair, 100, x)):
        assert np.allclose(of(found, "loo_i"), exact, rtol=0, atol=1e-7)
        assert of(found, "p_loo") == pytest.approx(0, abs=1e-6)
        assert not found.warning


@pytest.mark.filterwarnings(HIGH_K)
def test_log_likelihood_given_the_latent_misleads_loo():
    """Its limit is log p(x) for an exact guide, and minus infinity for one twice as wide."""
    off = {}
    for widen in (0.7, 1.0, 2.0):
        pair, x, exact = truth(widen)
        idata = to_arviz(pair, 400, x, prior=0)
        z = torch.as_tensor(idata.posterior.z.values)
        with torch.no_grad():
            distribution = dist.Normal(z @ pair.w.T + pair.b, pair.log_s.exp()).to_event(1)
            idata.log_likelihood["x"].values[:] = distribution.log_prob(x).numpy()
        off[widen] = (of(az.loo(idata, pointwise=True), "loo_i").values - exact).mean()
    assert off[0.7] > off[1.0] > 0.3
    assert off[2.0] < -1


@pytest.mark.filterwarnings(HIGH_K)
def test_k_hat_tells_a_poor_guide_from_a_good_one():
    k_hat = {c: to_arviz(*_args(c)).sample_stats.pareto_k.values.mean() for c in (0.3, 0.7, 1.3)}
    assert k_hat[1.3] < 0.2 < k_hat[0.7] < 0.6 < k_hat[0.3]


def _args(widen):
    pair, x, _ = truth(widen)
    return pair, 400, x, "test", None, 0


@pytest.mark.filterwarnings(HIGH_K)
def test_compare_takes_containers_and_answers_of_loo():
    good, x, _ = truth(1.3)
    poor = LinearGaussian(widen=1.3)
    with torch.no_grad():
        poor.b += 1.0
    by_loo = compare({"poor": loo(poor, 200, x), "good": loo(good, 200, x)})
    by_data = compare({"poor": to_arviz(poor, 200, x), "good": to_arviz(good, 200, x)})
    for table in (by_loo, by_data):
        assert list(table.index) == ["good", "poor"]
        assert abs(table.loc["poor", "elpd_diff"]) > 3 * table.loc["poor", "dse"] > 0
    assert of(by_loo, "elpd_loo")["good"] == pytest.approx(of(by_data, "elpd_loo")["good"], abs=2)
    assert of(loo(to_arviz(good, 200, x)), "elpd_loo") == of(by_data, "elpd_loo")["good"]


def test_draws_do_not_depend_on_who_else_draws():
    pair, x, _ = truth(1.3)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two = to_arviz(pair, 30, x, seed=1), to_arviz(pair, 30, x, prior=0, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(one.posterior.z, two.posterior.z)
    assert np.array_equal(one.posterior_predictive.x, two.posterior_predictive.x)
    assert not np.array_equal(one.posterior.z, to_arviz(pair, 30, x, prior=0).posterior.z)


def test_draws_have_the_laws_of_their_groups():
    pair, x, _ = truth(1.3)
    idata = to_arviz(pair, 500, x[:40])
    with torch.no_grad():
        distribution = pair.posterior(x[:40])
        mean, sd = distribution.mean.numpy(), distribution.variance.sqrt().numpy()
        marginal = pair.marginal
    z = idata.posterior.z.values[0]
    assert np.abs((z.mean(0) - mean) / (sd / math.sqrt(500))).max() < 4.5
    assert np.allclose(z.std(0), sd, rtol=0.2)
    prior = idata.prior.z.values.reshape(-1, 2)
    assert np.allclose(prior.mean(0), 0, atol=0.03)
    assert np.allclose(np.cov(prior.T), np.eye(2), atol=0.04)
    generated = idata.prior_predictive.x.values.reshape(-1, 5)
    assert np.allclose(generated.mean(0), marginal.mean.detach(), atol=0.06)
    assert np.allclose(np.cov(generated.T), marginal.covariance_matrix.detach(), atol=0.2)
    residual = idata.posterior_predictive.x.values[0] - (
        z @ pair.w.detach().numpy().T + pair.b.detach().numpy()
    )
    assert residual.std() == pytest.approx(0.7, rel=0.02)
    stats = idata.sample_stats
    assert np.allclose(stats.log_weight, stats.lp - stats.log_q)
    assert np.allclose(stats.log_q.values[0], distribution.log_prob(torch.as_tensor(z)).detach())


# Groups


@pytest.mark.filterwarnings(HIGH_K)
def test_a_run_on_digits_is_plotted_and_compared(tmp_path):
    matplotlib.use("Agg")
    runs = {prior: digits(prior) for prior in ("normal", "stick-breaking")}
    data = {name: to_arviz(run, 50, rows=12) for name, run in runs.items()}
    for idata in data.values():
        assert {*groups(idata)} == {
            *("posterior", "posterior_predictive", "prior", "prior_predictive"),
            *("log_likelihood", "sample_stats", "observed_data", "constant_data"),
        }
        assert idata.posterior.z.shape == (1, 50, 12, 4)
        assert idata.posterior_predictive.x.shape == (1, 50, 12, 1, 8, 8)
        assert idata.prior_predictive.x.dtype == np.int32 == idata.observed_data.x.dtype
        assert list(idata.posterior.row.values) == [int(r) for r in idata.constant_data.row]
        labels = runs["normal"].data.test.columns["y"].numpy()
        assert np.array_equal(idata.constant_data.y, labels[idata.posterior.row.values])
        assert idata.attrs["inference_library"] == "priory"
        assert not [name for name in idata.attrs if name.startswith("no_")]
    sticks = data["stick-breaking"]
    assert 0 < sticks.posterior.z.min() < sticks.posterior.z.max() < 1
    for group in ("posterior", "prior"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # matplotlib's and ArviZ's own
            if OLD:
                shown = az.plot_ppc(data["normal"], num_pp_samples=5, group=group)
            else:
                own = {"num_samples": 5, "group": f"{group}_predictive", "backend": "matplotlib"}
                shown = az.plot_ppc_dist(data["normal"], **own)
            assert shown is not None
    assert sorted(compare(data).index) == sorted(data)
    data["normal"].to_netcdf(str(tmp_path / "normal.nc"))
    again = az.from_netcdf(tmp_path / "normal.nc")
    assert of(az.loo(again), "elpd_loo") == of(az.loo(data["normal"]), "elpd_loo")
    matplotlib.pyplot.close("all")


def test_rows_are_chosen_by_number():
    pair, x, _ = truth(1.3)
    some = to_arviz(pair, 30, x, rows=[5, 2, 199], prior=3)
    assert some.posterior.row.values.tolist() == [5, 2, 199]
    assert np.array_equal(some.observed_data.x, x[[5, 2, 199]])
    assert some.prior.z.shape == (1, 3, 3, 2)


def test_a_gan_has_dreams_and_says_why_it_has_no_more():
    critic = Adversarial(MLP(hidden=(8,)), "x")
    run = fit(GAN(latent=2), critic, Data.named("ring", rows=200), epochs=1)
    idata = to_arviz(run, 30, rows=10)
    assert {*groups(idata)} >= {"prior", "prior_predictive", "observed_data"}
    assert not {"posterior", "log_likelihood"} & {*groups(idata)}
    assert "the guide does not" in idata.attrs["no_log_likelihood"]
    with pytest.raises(ValueError, match="loo needs log p"):
        loo(run, rows=10)


class Deep(nn.Module):
    """Two latents, the deeper discrete, and labels that are observed too."""

    def model(self, x, y):
        with pyro.plate("data", len(x)):
            z2 = pyro.sample("z2", dist.Bernoulli(torch.tensor(0.5).expand(2)).to_event(1))
            z1 = pyro.sample("z1", dist.Normal(z2, 1.0).to_event(1))
            pyro.sample("y", dist.Bernoulli(logits=z1[..., 0]), obs=y)
            pyro.sample("x", dist.Normal(z1, 1.0).to_event(1), obs=x)

    def guide(self, x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("z2", dist.Bernoulli(logits=x).to_event(1))
            pyro.sample("z1", dist.Normal(x / 2, 0.8).to_event(1))


@pytest.mark.filterwarnings(HIGH_K)
def test_many_sites_and_callables():
    deep = Deep()
    pair = SimpleNamespace(model=deep.model, guide=deep.guide)
    columns = {"x": torch.randn(9, 2), "y": torch.tensor([0.0, 1.0, 1.0] * 3), "w": torch.rand(9)}
    idata = to_arviz(pair, 40, columns)
    assert {*idata.posterior.data_vars} == {"z1", "z2"} == {*idata.prior.data_vars}
    assert idata.posterior.z2.dtype == np.int32
    assert {*idata.observed_data.data_vars} == {"x", "y"} == {*idata.prior_predictive.data_vars}
    assert {*idata.constant_data.data_vars} == {"w"}
    assert idata.posterior_predictive.y.shape == (1, 40, 9)
    assert list(idata.log_likelihood.data_vars) == ["y_x"]
    assert np.isfinite(of(az.loo(idata), "elpd_loo"))


class Shared(LinearGaussian):
    """A latent that all data share, outside of the plate."""

    def model(self, x):
        pyro.sample("m", dist.Normal(torch.zeros(3).double(), 1.0).to_event(1))
        super().model(x)

    def guide(self, x):
        pyro.sample("m", dist.Normal(torch.ones(3).double(), 1.0).to_event(1))
        super().guide(x)


def test_shared_latents_have_no_rows_and_no_pointwise_likelihood():
    idata = to_arviz(Shared(), 40, truth()[1][:7])
    assert idata.posterior.m.dims == ("chain", "draw", "m_dim_0")
    assert idata.posterior.z.shape == (1, 40, 7, 2)
    assert len(np.unique(idata.posterior.m)) == 120
    assert "all data share" in idata.attrs["no_log_likelihood"]


class Pointed(LinearGaussian):
    """A deterministic guide."""

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Delta(self.posterior(x).mean, event_dim=1))


def test_a_deterministic_guide_has_draws_but_no_density():
    idata = to_arviz(Pointed(), 30, truth()[1][:7])
    assert np.ptp(idata.posterior.z.values, axis=1).max() == 0
    assert idata.posterior_predictive.x.std("draw").min() > 0.3
    assert not hasattr(idata, "sample_stats")
    assert "deterministic guide" in idata.attrs["no_log_likelihood"]


class Plain(nn.Module):
    """No latents at all: log p(x) is exact."""

    def model(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x)

    def guide(self, x):
        pass


def test_a_model_without_latents_is_compared_by_its_exact_likelihood():
    x = torch.randn(20, 2)
    exact = dist.Normal(torch.zeros(2), 1.0).to_event(1).log_prob(x).sum()
    assert of(loo(Plain(), 50, x), "elpd_loo") == pytest.approx(float(exact), abs=1e-4)
    assert "no latents" in to_arviz(Plain(), 50, x).attrs["no_posterior"]


def test_tied_weights_of_a_discrete_latent():
    class Coin(Plain):
        def model(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))
                pyro.sample("x", dist.Normal(z[..., None], 1.0).to_event(1), obs=x)

        def guide(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))

    x = torch.randn(15, 1)
    both = [dist.Normal(m, 1.0).log_prob(x).sum(-1) for m in (0.0, 1.0)]
    exact = float((torch.stack(both).logsumexp(0) - math.log(2)).sum())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter")
        assert of(loo(Coin(), 2000, x), "elpd_loo") == pytest.approx(exact, abs=0.2)


# Refusals


def test_too_much_is_refused_with_the_remedy(monkeypatch):
    pair, x, _ = truth()
    monkeypatch.setattr("priory.evaluation.arviz.adapter.ROOM", 2**20)
    with pytest.raises(
        ValueError, match=r"200 draws of guide and model x 200 rows x 56 bytes.*rows=93"
    ):
        to_arviz(pair, 100, x)
    assert to_arviz(pair, 100, x, rows=200).posterior.z.shape[1:3] == (100, 200)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "draws must be at least 1"),
        ({"prior": -1}, "prior must not be negative"),
        ({"rows": 0}, "rows must be at least 1"),
        ({"rows": [0, 200]}, "numbers from 0 to 199"),
        ({"rows": [0.5]}, "numbers from 0 to 199"),
        ({"rows": []}, "numbers from 0 to 199"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_wrong_numbers_are_refused(options, message):
    pair, x, _ = truth()
    with pytest.raises(ValueError, match=message):
        to_arviz(pair, data=x, **options)


def test_few_draws_have_no_log_likelihood():
    pair, x, _ = truth()
    assert "at least 25 draws" in to_arviz(pair, 10, x).attrs["no_log_likelihood"]
    with pytest.raises(ValueError, match="at least 25 draws, got 10"):
        loo(pair, 10, x)


def test_absence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match="pip install arviz"):
        to_arviz(truth()[0], 30, truth()[1])


@pytest.mark.parametrize("home", ["empty", "unwritable"])
def test_the_import_leaves_the_home_alone(home, tmp_path):
    place = tmp_path / "home"
    place.mkdir() if home == "empty" else place.touch()  # a file is unwritable to root as well
    told = {"HOME": str(place), "MPLCONFIGDIR": str(tmp_path / "plots")}
    code = """if True:
        import os, sys, warnings
        assert not {"arviz", "matplotlib"} & {*sys.modules}
        for name in [name for name in os.environ if name.startswith("XDG_")]:
            del os.environ[name]
        warnings.simplefilter("error")
        from priory.evaluation.arviz.container import import_arviz
        import_arviz().from_dict
    """
    log = tmp_path / "import"
    exit_code, _, err = ended(start_logged(exec, code, {}, log=log, **told), log)
    assert (exit_code, err) == (0, "")
    assert home == "unwritable" or not [*place.rglob("*")]


@old_alone
def test_a_younger_arviz_gets_a_tree(monkeypatch):
    pair, x, _ = truth(1.3)
    old = to_arviz(pair, 40, x)
    young, stats = ModuleType("arviz"), ModuleType("arviz_stats.base")
    stats.array_stats = SimpleNamespace(psislw=lambda log_lik: az.psislw(-log_lik))
    young.__version__ = "1.3.0"
    monkeypatch.setitem(sys.modules, "arviz", young)
    monkeypatch.setitem(sys.modules, "arviz_stats.base", stats)
    tree = to_arviz(pair, 40, x)
    assert type(tree).__name__ == "DataTree"
    assert tree.attrs == old.attrs
    assert [*tree.children] == [*old.groups()]
    for name in old.groups():
        assert tree[name].to_dataset().identical(old[name])
    monkeypatch.delattr("xarray.DataTree")
    with pytest.raises(ImportError, match=r"ArviZ 1\.3\.0 has no InferenceData"):
        to_arviz(pair, 40, x)
    del stats.array_stats
    with pytest.raises(ImportError, match=r"ArviZ 1\.3\.0 has no psislw"):
        loo(pair, 40, x)


@old_alone
def test_a_psislw_of_neither_sign_is_refused(monkeypatch):
    monkeypatch.setattr(az, "psislw", lambda log_w: (0.5 * log_w, 0.0))
    with pytest.raises(ImportError, match="no psislw of a known kind"):
        last_step.pointwise(np.random.default_rng(0).normal(size=(50, 3)))


@old_alone
def test_a_psislw_of_the_other_sign_gives_the_same(monkeypatch):
    log_w = np.random.default_rng(0).normal(size=(50, 3))
    usual, k_hat = last_step.pointwise(log_w)
    own = az.psislw
    monkeypatch.setattr(az, "psislw", lambda log_lik: own(-log_lik))
    other, other_k = last_step.pointwise(log_w)
    assert np.array_equal(usual, other)
    assert np.array_equal(k_hat, other_k)


# Units


@pytest.mark.filterwarnings(HIGH_K)
def test_standardised_data_come_back_in_their_own_units():
    x = truth()[1].numpy() * 1e3 + 5e3
    columns, found = x.shape[1], {}
    for standardise in (False, True):
        data = Data.from_arrays(x, standardise=standardise, valid=0, test=0.5)
        run = fit(VAE(latent=2), ELBO(), data, steps=3, valid_every=0, progress=False)
        idata = to_arviz(run, 60, rows=10)
        for group in ("observed_data", "posterior_predictive", "prior_predictive"):
            values = idata[group]["x"].values.reshape(-1, columns)
            assert np.allclose(values.mean(0), x.mean(0), atol=0.7 * x.std(0).max()), group
        lp = idata.log_likelihood["x"].values
        assert np.isclose(lp.mean(), -columns * math.log(1e3), atol=3 * columns)
        found[standardise] = (idata, of(loo(run, 60, rows=10), "elpd_loo"))
    (raw, elpd), (standard, other) = found.values()
    assert np.allclose(raw.observed_data["x"], standard.observed_data["x"], rtol=1e-5)
    assert np.allclose(raw.log_likelihood["x"], standard.log_likelihood["x"], atol=0.05)
    assert elpd == pytest.approx(other, abs=0.5)
