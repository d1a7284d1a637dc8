"""Calibration by simulation and posterior predictive checks find what was planted, and no more."""

from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from pairs import LinearGaussian
from priory.evaluation import Draws, evaluate
from priory.evaluation.isolation import sealed
from priory.evaluation.posterior.calibration import Calibration, calibration, ranks_of
from priory.evaluation.posterior.predictive import predictive, replicates, row_statistics
from priory.evaluation.record import Unavailable
from priory.evaluation.statistics import holm

ROWS = torch.zeros(50, 5, dtype=torch.float64)
NAMES = ["calibration", "predictive_p", "predictive_outliers"]


def calibrate(pair, columns=None, **options):
    with sealed(pair, pair.model, pair.guide):
        return calibration(pair.model, pair.guide, columns or {"x": ROWS}, **options)


def data(pair, n=300, seed=0):
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        return pair.marginal.sample((n,))


# Calibration


def test_p_values_of_exact_guides_are_uniform():
    draw = torch.Generator().manual_seed(0)
    found = Calibration(torch.randint(100, (1000, 2000), generator=draw), 99, ())
    for p in (found.chi_square, found.symmetry):
        assert stats.kstest(p.numpy(), "uniform").statistic < 0.12
        assert float((p < 0.05).double().mean()) == pytest.approx(0.05, abs=0.02)
    assert torch.allclose(found.contrasts.var(1), torch.ones(2).double(), atol=0.1)
    assert found.verdicts.count("right") > 1995


@pytest.mark.parametrize("seed", range(5))
def test_an_exact_guide_has_uniform_ranks(seed):
    found = calibrate(LinearGaussian(), seed=seed)
    assert found.ranks.shape == (1000, 2)
    assert found.ranks.min() == 0
    assert found.ranks.max() == 99
    assert found.chi_square.min() > 0.01
    assert found.symmetry.min() > 0.01
    assert found.verdicts == ("right", "right")
    assert found.doubts == ()


@pytest.mark.parametrize(
    ("options", "verdict", "words"),
    [
        ({"widen": 0.25}, "narrow", "too narrow in 2 of 2 dimensions"),  # sd halved
        ({"widen": 0.5}, "narrow", "too narrow in 2 of 2"),
        ({"widen": 2.0}, "wide", "too wide in 2 of 2"),
        ({"shift": 0.2}, "shifted", "shifted in 2 of 2"),
        ({"shift": -2.0}, "shifted", "shifted in 2 of 2"),
    ],
)
def test_what_was_planted_is_found_and_named(options, verdict, words):
    found = calibrate(LinearGaussian(**options))
    assert found.verdicts == (verdict, verdict)
    assert words in found.doubts[0]
    assert found.chi_square.max() < 0.01
    assert (found.symmetry.max() < 0.01) == ("shift" in options)


def test_ranks_follow_the_law_of_a_halved_standard_deviation():
    found = calibrate(LinearGaussian(widen=0.25), generated=4000)
    grid = (torch.arange(100).double() + 1) / 100
    # P(u < t) with z / sd standard normal and the guide's quantile at half of it.
    truth = torch.from_numpy(stats.norm.cdf(0.5 * stats.norm.ppf(grid[:-1].numpy())))
    assert (found.ecdf[:-1, 0] - truth).abs().max() < 1.63 / 4000**0.5 + 0.01


def test_the_named_dimension_alone_is_wrong():
    exact = calibrate(LinearGaussian())
    ranks = exact.ranks.clone()
    ranks[:, 1] = ranks[:, 1] // 2 + 25
    found = Calibration(ranks, 99, ("z[0]", "z[1]"))
    assert found.verdicts == ("right", "wide")
    other = Calibration(ranks[:, 1:] % 10 + 10 * (ranks[:, 1:] % 2) * 4 + 30, 99, ("z",))
    assert other.verdicts != ("right",)


def test_discrete_latents_are_ranked_at_random_among_equals():
    def model(x):
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Bernoulli(torch.tensor(0.3).double()))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    def guide(x):
        odds = torch.logit(torch.tensor(0.3).double()) + x - 0.5
        with pyro.plate("data", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=odds))

    pair = SimpleNamespace(model=model, guide=guide)
    found = calibrate(pair, {"x": torch.zeros(9).double()})
    assert found.names == ("b",)
    assert found.verdicts == ("right",)


def chain(slope):
    """Two latents in a row, with the exact conditionals or a slope of the guide's own."""

    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(torch.tensor(0.0).double(), 1.0))
            b = pyro.sample("b", dist.Normal(a, 1.0))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(x / 3, (2 / 3) ** 0.5))
            pyro.sample("b", dist.Normal((a + slope * x) / 2, 0.5**0.5))

    return SimpleNamespace(model=model, guide=guide)


def test_latents_of_latents_are_judged_given_the_true_parents():
    columns = {"x": torch.zeros(9).double()}
    assert calibrate(chain(1.0), columns).verdicts == ("right", "right")
    wrong = calibrate(chain(-1.0), columns)
    assert wrong.names == ("a", "b")
    assert wrong.verdicts[0] == "right"
    assert wrong.verdicts[1] == "narrow"  # far off to either side


def test_a_guide_that_does_not_read_the_dream_is_not_judged():
    def guide(index):
        with pyro.plate("data", len(index)):
            pyro.sample("z", dist.Normal(torch.zeros(len(index), 2).double(), 1.0).to_event(1))

    pair = SimpleNamespace(model=LinearGaussian().model, guide=guide)
    with pytest.raises(
        Unavailable, match="the guide reads index, none of what the model generates"
    ):
        calibrate(pair, {"x": ROWS, "index": torch.arange(50)})


def test_a_deterministic_guide_is_not_judged():
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Delta(x[:, :2], event_dim=1))

    pair = SimpleNamespace(model=LinearGaussian().model, guide=guide)
    assert "deterministic" in evaluate(pair, ROWS, metrics=NAMES)["calibration"].note


def test_holm():
    found = holm(torch.tensor([0.04, 0.01, 0.03, 0.6], dtype=torch.float64))
    assert found.tolist() == pytest.approx([0.09, 0.04, 0.09, 0.6])


def test_the_row_tells_value_error_and_words():
    pair = LinearGaussian(widen=0.25)
    record = evaluate(pair, ROWS, metrics=["calibration"])["calibration"]
    assert record.value == pytest.approx(0.16, abs=0.04)  # max |Phi(q / 2) - Phi(q)|
    assert 0 < record.se < 0.02
    assert record.warnings == ("the guide's posterior is too narrow in 2 of 2 dimensions",)
    assert "z[" in record.note
    again = evaluate(pair, ROWS, metrics=NAMES)["calibration"]
    assert again.value == record.value
    other = evaluate(pair, ROWS, metrics=["calibration"], seed=1)["calibration"]
    assert other.value != record.value


def test_ranks_are_made_once():
    pair = LinearGaussian()
    with sealed(pair):
        draws = Draws(pair.model, pair.guide, {"x": ROWS})
        assert ranks_of(draws) is ranks_of(draws)


def test_bins_must_share_the_ranks():
    with pytest.raises(ValueError, match="bins must divide levels"):
        Calibration(torch.zeros(3, 1).long(), 99, ("z",)).counts(7)


# Posterior predictive checks


def test_statistics_of_rows():
    x = torch.tensor([[0.0, 0.0, 3.0], [1.0, 1.0, 1.0]])
    found = row_statistics(x)
    assert found["mean"].tolist() == [1, 1]
    assert found["sd"].tolist() == pytest.approx([2**0.5, 0])
    assert found["min"].tolist() == [0, 1]
    assert found["max"].tolist() == [3, 1]
    assert found["zeros"].tolist() == pytest.approx([2 / 3, 0])
    assert row_statistics(torch.ones(4), zeros=False).keys() == {"mean"}


@pytest.mark.parametrize("seed", range(3))
def test_data_of_the_model_pass(seed):
    pair = LinearGaussian()
    report = evaluate(pair, data(pair, seed=seed), metrics=NAMES)
    assert report["predictive_p"].value > 0.05
    assert report["predictive_p"].warnings == ()
    assert report["predictive_outliers"].value < 0.06


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_wrong_noise_is_found(factor):
    truth, pair = LinearGaussian(), LinearGaussian()
    pair.log_s.data += torch.tensor(factor).log()
    report = evaluate(pair, data(truth), metrics=NAMES)
    assert report["predictive_p"].value < 1e-3
    assert "log p(x | z) differs" in report["predictive_p"].warnings[0]
    assert (report["predictive_outliers"].value > 0.1) == (factor < 1)


def test_the_effect_of_a_wrong_mean_has_its_size():
    pair = LinearGaussian(latent=1)
    with sealed(pair):
        x = data(pair, 1000)
        draws = Draws(pair.model, pair.guide, {"x": x})
        checks = {check.name: check for check in predictive(draws, rows=1000).checks}
    assert checks["mean"].data == pytest.approx(float(x.mean()))
    assert abs(checks["mean"].effect) < 0.1


def test_replicates_have_the_predictive_law():
    pair = LinearGaussian()
    x = data(pair, 40)
    with sealed(pair):
        draws = Draws(pair.model, pair.guide, {"x": x})
        found = replicates(draws, 20, 500)
        again = replicates(draws, 20, 3)
    assert found.shape == (500, 20, 5)
    assert torch.equal(found[:3], again)
    rows = x[torch.linspace(0, 39, 20, dtype=torch.float64).round().long()]
    with torch.no_grad():
        distribution = pair.posterior(rows)
        mean = distribution.mean @ pair.w.T + pair.b
        spread = pair.w @ distribution.covariance_matrix[0] @ pair.w.T
        variance = spread.diagonal() + (2 * pair.log_s).exp()
    assert ((found.mean(0) - mean).abs() < 5 * (variance / 500).sqrt()).all()
    assert torch.allclose(found.var(0).mean(0), variance, rtol=0.08)


def test_an_implicit_likelihood_has_no_predictive_check():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Delta(z, event_dim=1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0).to_event(1))

    pair = SimpleNamespace(model=model, guide=guide)
    report = evaluate(pair, ROWS[:, :2], metrics=NAMES)
    assert "Delta" in report["predictive_p"].note
    assert report["calibration"].value > 0.1  # the posterior is a point
