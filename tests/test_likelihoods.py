"""Likelihood heads: each is normalised, broadcasts over particles, and refuses data outside it."""

import itertools
import math

import mpmath
import pytest
import torch
from pyro.distributions import Bernoulli as LibraryBernoulli
from pyro.distributions import Normal as LibraryNormal
from torch.distributions import ContinuousBernoulli as LibraryContinuousBernoulli
from torch.distributions import kl_divergence

from priory.data import Data
from priory.distributions.independent import IndependentNormal
from priory.distributions.pixels import (
    IndependentBernoulli,
    IndependentContinuousBernoulli,
    IndependentDiscretizedNormal,
    IndependentLogistic,
)
from priory.inference import ELBO, fit, load
from priory.inference.phases.sites import is_discrete
from priory.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Beta,
    DiscretizedLogistic,
    DiscretizedNormal,
    Gamma,
    NegativeBinomial,
    Normal,
    ZeroInflatedNegativeBinomial,
    likelihood_for,
)
from priory.likelihoods.values import units
from priory.models import VAE

pytestmark = pytest.mark.usefixtures("double")


HEADS = {
    **{n: made for n, made in LIKELIHOODS.items() if n != "columns"},  # see test_columns.py
    "gamma-cell": lambda: Gamma("cell"),
    "beta-cell": lambda: Beta("cell"),
    "negative-binomial-cell": lambda: NegativeBinomial("cell"),
    "zero-inflated-negative-binomial-cell": lambda: ZeroInflatedNegativeBinomial("cell"),
    "normal-fixed": lambda: Normal(0.3),
    "normal-pixel": lambda: Normal("pixel"),
    "logistic-4": lambda: DiscretizedLogistic(4),
    "discretized-normal-256": lambda: DiscretizedNormal(256),
}
SHAPE = (1, 3, 2)
BITS = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0]).reshape(1, *SHAPE).repeat(5, 1, 1, 1)
WITHIN = ("gamma", "beta")  # neither 0 nor 1


def of(name, x):
    """Data in the support of a likelihood, from some in [0, 1]."""
    return 0.25 + 0.5 * x if name.startswith(WITHIN) else x


def head_of(name):
    head = HEADS[name]()
    head.build(of(name, BITS))
    head.to(torch.float64)
    return head


@pytest.mark.parametrize("name", HEADS)
def test_contract(name):
    head = head_of(name)
    head.check(of(name, BITS))
    features = torch.randn(4, 5, head.params, *SHAPE, requires_grad=True)
    distribution = head(features)
    assert distribution.batch_shape == (4, 5)
    assert distribution.event_shape == SHAPE
    if name != "categorical":
        assert distribution.mean.shape == (4, 5, *SHAPE)
    assert distribution.sample((2,)).shape == (2, 4, 5, *SHAPE)
    assert distribution.has_rsample == (
        name in ("continuous-bernoulli", "delta") or name.startswith("normal")
    )
    if distribution.has_rsample:
        assert distribution.rsample().requires_grad
    if name == "delta":
        return
    value = head(features[0]).sample()
    density = distribution.log_prob(value)
    assert density.shape == (4, 5)
    one_by_one = torch.stack([head(part).log_prob(value) for part in features])
    torch.testing.assert_close(density, one_by_one)
    density.sum().backward()
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("name", sorted(set(HEADS) - {"delta"}))
def test_expanding_repeats(name):
    head = head_of(name)
    distribution = head(torch.randn(5, head.params, *SHAPE))
    value = distribution.sample()
    wide = distribution.expand([3, 5])
    assert wide.batch_shape == (3, 5)
    assert wide.sample().shape == (3, 5, *SHAPE)
    if name != "categorical":
        assert wide.mean.shape == (3, 5, *SHAPE)
    torch.testing.assert_close(wide.log_prob(value), distribution.log_prob(value).expand(3, 5))
    with pytest.raises(ValueError, match="cannot expand"):
        distribution.expand([4])


@pytest.mark.parametrize("name", sorted(set(HEADS) - {"categorical"}))
def test_the_starting_bias_has_the_mean_of_the_data(name):
    head = HEADS[name]()
    x = (torch.rand(50, *SHAPE) * 3).round() / 3
    counts = {n for n in HEADS if "binomial" in n or "poisson" in n}
    x = x.round() if name in counts | {"bernoulli"} else of(name, x)
    head.build(x)
    distribution = head(head.bias(x).unsqueeze(0))
    # A density over levels is cut at the ends, which moves its mean a little.
    tolerance = 0.1 if "logistic" in name or "discretized" in name else 1e-6
    torch.testing.assert_close(distribution.mean[0], x.mean(0), atol=tolerance, rtol=0)


def test_bernoulli_sums_to_one_and_is_the_librarys():
    logits = torch.randn(6) * 3
    distribution = IndependentBernoulli(logits, 1)
    values = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6)))
    torch.testing.assert_close(distribution.log_prob(values).exp().sum(), torch.tensor(1.0))
    library = LibraryBernoulli(logits=logits).to_event(1)
    torch.testing.assert_close(distribution.log_prob(values), library.log_prob(values))
    torch.testing.assert_close(distribution.variance, library.variance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [-800.0, -40.0, -0.51, -0.49, -1e-3, 0.0, 1e-9, 0.2, 0.6, 30.0])
def test_continuous_bernoulli_is_normalised(logit, dtype):
    grid = torch.linspace(0, 1, 400_001)
    curve = (grid * logit - max(logit, 0.0)).exp()
    area = torch.trapezoid(curve, grid)
    mean = torch.trapezoid(grid * curve, grid) / area
    distribution = IndependentContinuousBernoulli(torch.tensor([logit], dtype=dtype), 1)
    value = torch.tensor([0.25], dtype=dtype)
    expected = 0.25 * logit - max(logit, 0.0) - area.log()
    tolerance = 1e-6 if dtype == torch.float64 else 3e-7 * max(1.0, abs(logit))
    assert distribution.log_prob(value).double().item() == pytest.approx(
        expected.item(), abs=tolerance
    )
    assert distribution.mean.double().item() == pytest.approx(mean.item(), abs=1e-6)


def test_continuous_bernoulli_draws_have_its_mean_and_gradients_pass_zero():
    logits = torch.tensor([-5.0, -0.1, 0.0, 1e-3, 2.0, 20.0], requires_grad=True)
    distribution = IndependentContinuousBernoulli(logits, 1)
    draws = distribution.sample((20_000,))
    error = 4 * draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - distribution.mean).abs() < error).all()
    score = torch.autograd.grad(distribution.log_prob(torch.full((6,), 0.3)), logits)[0]
    torch.testing.assert_close(score, 0.3 - distribution.mean.detach())
    library = LibraryContinuousBernoulli(logits=logits[[0, 4]]).log_prob(torch.tensor(0.3))
    ours = IndependentContinuousBernoulli(logits[[0, 4]], 1).log_prob(torch.full((2,), 0.3))
    torch.testing.assert_close(ours, library.sum())


def normal_mass(x, loc, log_scale, levels):
    """The log mass of a level of the discretised normal, in 60 digits."""
    with mpmath.workdps(60):
        top, scale = levels - 1, mpmath.exp(log_scale)
        k = round(x * top)
        above, below = (((2 * k + s) / mpmath.mpf(2 * top) - loc) / scale for s in (1, -1))
        above, below = (above if k < top else mpmath.inf), (below if k > 0 else -mpmath.inf)
        if above + below < 0:  # the tails on the far side have the digits
            above, below = -below, -above
        tails = [mpmath.erfc(z / mpmath.sqrt(2)) for z in (below, above)]
        return float(mpmath.log((tails[0] - tails[1]) / 2))


def test_the_mass_of_a_level_of_the_discretised_normal_is_exact():
    for levels, loc, log_scale in itertools.product(
        (2, 256), (-0.5, 0.31, 1.0), (-6.0, -2.0, 0.5, 3.0, 8.0, 15.0)
    ):
        pixel = IndependentDiscretizedNormal(
            torch.tensor([loc]), torch.tensor([log_scale]), levels, 1
        )
        for x in (0.0, 1 / 255 if levels > 2 else 1.0, 128 / 255 if levels > 2 else 1.0, 1.0):
            exact = normal_mass(x, loc, log_scale, levels)
            found = float(pixel.log_prob(torch.tensor([x])))
            assert found == pytest.approx(exact, rel=1e-9, abs=1e-9), (levels, loc, log_scale, x)


def test_levels_have_masses():
    shape = torch.zeros(1)
    assert is_discrete(IndependentLogistic(shape, shape, 4, 1))
    assert is_discrete(IndependentDiscretizedNormal(shape, shape, 4, 1))
    assert not is_discrete(IndependentContinuousBernoulli(shape, 1))


@pytest.mark.parametrize("levels", [2, 4, 256])
@pytest.mark.parametrize("loc", [-0.5, 0.0, 0.31, 1.0, 3.0])
@pytest.mark.parametrize("log_scale", [-9.0, -3.0, 0.0, 5.0])
def test_discretised_logistic_sums_to_one(levels, loc, log_scale):
    distribution = IndependentLogistic(torch.tensor([loc]), torch.tensor([log_scale]), levels, 1)
    values = torch.arange(levels).unsqueeze(-1) / (levels - 1)
    mass = distribution.log_prob(values).exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-10)
    torch.testing.assert_close(distribution.mean, (mass.unsqueeze(-1) * values).sum(0))
    draws = distribution.sample((4000,))
    DiscretizedLogistic(levels).check(draws)
    variance = (mass.unsqueeze(-1) * (values - distribution.mean).square()).sum().item()
    error = 5 * math.sqrt(variance / len(draws)) + 5 / len(draws)
    assert abs(draws.mean().item() - distribution.mean.item()) < error


@pytest.mark.parametrize("scalar", [True, False])
def test_normal_is_the_librarys(scalar):
    loc, log_scale = torch.randn(3, 4, 2), torch.randn(()) if scalar else torch.randn(3, 4, 2)
    distribution = IndependentNormal(loc, log_scale, 2)
    library = LibraryNormal(loc, log_scale.exp()).to_event(2)
    value = torch.randn(5, 3, 4, 2)
    torch.testing.assert_close(distribution.log_prob(value), library.log_prob(value))
    torch.testing.assert_close(distribution.entropy(), library.entropy())
    torch.testing.assert_close(distribution.variance, library.variance)
    torch.testing.assert_close(distribution.stddev, library.stddev)
    other = IndependentNormal(torch.randn(3, 4, 2), torch.randn(3, 4, 2), 2)
    library_other = LibraryNormal(other.loc, other.scale).to_event(2)
    expected = kl_divergence(library, library_other)
    torch.testing.assert_close(kl_divergence(distribution, library_other), expected)
    torch.testing.assert_close(kl_divergence(library, other), expected)
    torch.testing.assert_close(kl_divergence(distribution, other), expected)


def test_data_outside_the_support_are_refused():
    grey, bytes_ = torch.tensor([[0.3, 1.0]]), torch.tensor([[0.0, 255.0]])
    with pytest.raises(ValueError, match=r"got values in \[0\.3, 1\].*binarise.*continuous-bern"):
        Bernoulli().check(grey)
    with pytest.raises(ValueError, match=r"got values in \[0, 255\].*scale.*binarise"):
        Bernoulli().check(bytes_)
    with pytest.raises(ValueError, match=r"got values in \[0, 255\]: scale"):
        LIKELIHOODS["continuous-bernoulli"]().check(bytes_)
    with pytest.raises(ValueError, match=r"k / 255 in \[0, 1\], got values in \[0, 255\]"):
        DiscretizedLogistic().check(bytes_)
    with pytest.raises(ValueError, match="round them"):
        DiscretizedLogistic(4).check(grey)
    with pytest.raises(ValueError, match="finite"):
        Normal().check(torch.tensor([torch.nan]))
    with pytest.raises(ValueError, match="positive number, got -1"):
        Normal(-1)
    with pytest.raises(ValueError, match="at least 2, got 1"):
        DiscretizedLogistic(1)
    with pytest.raises(RuntimeError, match="call build first"):
        Bernoulli()(torch.zeros(1, 2))


def test_the_likelihood_follows_from_the_data():
    kinds = [
        type(likelihood_for(torch.tensor([values]))).__name__
        for values in ([0.0, 1.0], [0.0, 0.5], [-1.0, 0.5], [0.0, 255.0])
    ]
    assert kinds == ["Bernoulli", "ContinuousBernoulli", "Normal", "Normal"]


def test_learned_scale_starts_at_the_data_and_is_one_number():
    x = torch.randn(1000, 3) / 2
    head = Normal()
    head.build(x)
    assert [tuple(p.shape) for p in head.parameters()] == [()]
    assert head.log_scale.exp().item() == pytest.approx(1)
    torch.testing.assert_close(head.unit, x.std(0, correction=0))
    images = x.reshape(-1, 1, 1, 3)
    head = Normal()
    head.build(images)
    assert head.log_scale.exp().item() == pytest.approx(x.std(correction=0).item())
    assert not list(Normal(0.5).parameters())


# --- units ----------------------------------------------------------------------------------------


def table(rows=400):
    """Columns of the order of one, far from zero, large, constant, and both."""
    noise = torch.randn(rows, 5, generator=torch.Generator().manual_seed(0))
    return noise * torch.tensor([0.5, 1.0, 3e4, 0.0, 0.0]) + torch.tensor([0.2, 2e3, 0, 7.0, 0.3])


def test_columns_of_any_size_are_read_at_the_order_of_one_and_bounded_ones_as_they_are():
    x = table()
    centre, unit = units(x)
    torch.testing.assert_close(centre, x.mean(0))
    assert unit[3] == unit[4] == 1
    torch.testing.assert_close(unit[:3], x[:, :3].std(0, correction=0))
    for bounded in (torch.rand(9, 3), torch.tensor([[-1.0, 0.2], [0.3, 1.0]])):
        centre, unit = units(bounded)
        assert centre.tolist() == [0] * bounded.shape[1]
        assert unit.tolist() == [1] * bounded.shape[1]
    far = 1.7e9 + 1e-3 * torch.randn(50, 1, dtype=torch.float64)
    assert units(far)[1].item() == pytest.approx(1e-3, rel=0.3)
    step = 1.7e9 + 128 * (torch.arange(50.0) % 2).unsqueeze(1)
    assert units(step.float())[1].item() == 1  # constant to within the precision of its size
    large = torch.tensor([[1e30], [3e30]], dtype=torch.float32)
    torch.testing.assert_close(units(large)[1], torch.tensor([1e30], dtype=torch.float32))
    assert units(torch.randn(9))[1].shape == ()
    assert [v.shape for v in units(256 * torch.rand(9, 1, 4, 4))] == [(), ()]
    assert [v.item() for v in units(torch.rand(9, 1, 4, 4))] == [0, 1]


@pytest.mark.parametrize("scale", ["learned", "pixel", 0.3])
def test_densities_are_in_the_units_of_the_data(scale):
    x = table()[:, :3]
    head = Normal(scale)
    head.build(x)
    head.to(torch.float64)
    maps = torch.randn(7, head.params, 3)
    distribution = head(maps)
    inner = {"learned": lambda: head.log_scale.exp(), "pixel": lambda: maps[:, 1].exp()}
    spread = head.unit * inner[scale]() if scale in inner else torch.tensor(0.3)
    library = LibraryNormal(head.centre + head.unit * maps[:, 0], spread.expand(7, 3)).to_event(1)
    torch.testing.assert_close(distribution.log_prob(x[:7]), library.log_prob(x[:7]))
    torch.testing.assert_close(distribution.scale, library.base_dist.scale)


def test_a_table_in_any_units_trains_alike_and_comes_back_from_a_file(tmp_path):
    x = table()[:, :3].to(torch.float32)
    factor = torch.tensor([1.0, 10.0, 0.1])
    runs = [
        fit(VAE(latent=2), ELBO(), Data.from_arrays(v), steps=20, valid_every=0, progress=False)
        for v in (x, x * factor)
    ]
    first, second = (run.history[-1]["loss"] for run in runs)
    assert second - first == pytest.approx(factor.log().sum().item(), abs=1e-2)
    runs[0].save(tmp_path / "run")
    again = load(tmp_path / "run", data=Data.from_arrays(x))
    torch.testing.assert_close(again.pair.likelihood.unit, runs[0].pair.likelihood.unit)
    assert again.pair.encoder(x).loc.abs().max() < 50


# --- extremes -------------------------------------------------------------------------------------

CENTRES = (-1e6, -1e3, -1.0, 0.0, 0.3, 0.5, 1.0, 2.0, 1e3, 1e6)
LOG_SCALES = (-1e6, -100.0, -60.0, -25.0, -8.0, -5.0, 0.0, 5.0, 20.0, 40.0, 60.0, 90.0, 1e6)
ODDS = (-1e30, -1e6, -100.0, -1e-3, 0.0, 1e-6, 0.1, 100.0, 1e6, 1e30)
COUNTS = (0.0, 1.0, 7.0, 1e3, 16_777_216.0)
EXTREMES = {
    "bernoulli": ((0.0, 1.0), [(o,) for o in ODDS]),
    "continuous-bernoulli": ((0.0, 0.3, 1.0), [(o,) for o in ODDS]),
    "discretized-normal": ((0.0, 1.0), [*itertools.product(CENTRES, LOG_SCALES)]),
    "discretized-normal-256": (
        (0.0, 1 / 255, 128 / 255, 1.0),
        [*itertools.product(CENTRES, LOG_SCALES)],
    ),
    "logistic": ((0.0, 1 / 255, 128 / 255, 1.0), [*itertools.product(CENTRES, LOG_SCALES)]),
    "poisson": (COUNTS, [(o,) for o in ODDS]),
    "negative-binomial": (COUNTS, [(o,) for o in ODDS]),
    "negative-binomial-cell": (COUNTS, [*itertools.product(ODDS, ODDS)]),
    "zero-inflated-poisson": (COUNTS, [*itertools.product(ODDS, ODDS)]),
    "zero-inflated-negative-binomial": (COUNTS, [*itertools.product(ODDS, ODDS)]),
    "zero-inflated-negative-binomial-cell": (COUNTS, [*itertools.product(ODDS, ODDS, ODDS)]),
    "categorical": ((0.0, 1.0), [*itertools.product(ODDS, ODDS)]),
    "gamma": ((1e-30, 0.3, 1e6), [(o,) for o in ODDS]),
    "gamma-cell": ((1e-30, 0.3, 1e6), [*itertools.product(ODDS, LOG_SCALES)]),
    "beta": ((1e-30, 0.3, 1 - 1e-7), [(o,) for o in ODDS]),
    "beta-cell": ((1e-30, 0.3, 1 - 1e-7), [*itertools.product(ODDS, LOG_SCALES)]),
    "student-t": ((0.0, 0.3, 1e3), [(c,) for c in (*CENTRES, -1e30, 1e30)]),
    "normal": ((0.0, 0.3, 1e3), [(c,) for c in CENTRES]),
    "normal-pixel": ((0.0, 0.3, 1e3), [*itertools.product(CENTRES, LOG_SCALES)]),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_any_parameters_of_a_net_give_a_finite_density_gradient_and_sample(name):
    values, params = EXTREMES[name]
    head = HEADS[name]()
    head.build(of(name, torch.tensor([[0.0], [1.0]], dtype=torch.float32)))
    features = torch.tensor(params, dtype=torch.float32).unsqueeze(-1).requires_grad_()
    for value in values:
        distribution = head(features)
        density = distribution.log_prob(torch.tensor([value], dtype=torch.float32))
        assert density.isfinite().all()
        (slope,) = torch.autograd.grad(density.sum(), features)
        assert slope.isfinite().all()
    drawn = distribution.sample()
    assert drawn.isfinite().all()
    if name != "categorical":
        assert distribution.mean.isfinite().all()
    if name not in ("student-t", "normal", "normal-pixel"):
        head.check(drawn)


def test_a_learned_scale_of_any_size_has_a_finite_density():
    head = Normal()
    head.build(torch.tensor([[0.0], [1e8]], dtype=torch.float32))
    for log_scale in (-1e6, -100.0, 90.0, 1e6):
        head.log_scale.data.fill_(log_scale)
        density = head(torch.zeros(1, 1, 1)).log_prob(torch.tensor([[0.0]]))
        assert density.isfinite()


def logistic_mass(x, loc, log_scale, levels):
    """The log mass of a level, in 60 digits."""
    with mpmath.workdps(60):
        top, scale = levels - 1, mpmath.exp(log_scale)
        k = round(x * top)
        upper, lower = (((2 * k + s) / mpmath.mpf(2 * top) - loc) / scale for s in (1, -1))
        mass = mpmath.mpf(0)
        mass -= mpmath.log1p(mpmath.exp(-upper)) if k < top else 0
        mass -= mpmath.log1p(mpmath.exp(lower)) if k > 0 else 0
        mass += mpmath.log(-mpmath.expm1(lower - upper)) if 0 < k < top else 0
        return float(mass)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_discretised_logistic_is_exact_at_every_size(dtype):
    tolerance = 5e-6 if dtype == torch.float32 else 1e-13
    scales = (-25.0, -8.0, -5.0, 0.0, 20.0, 40.0, 90.0)
    for x, loc, log_scale in itertools.product((0.0, 1 / 255, 128 / 255, 1.0), CENTRES, scales):
        given = [torch.tensor([v], dtype=dtype) for v in (loc, log_scale)]
        found = IndependentLogistic(*given, 256, 1).log_prob(torch.tensor([x], dtype=dtype))
        exact = logistic_mass(x, given[0].item(), log_scale, 256)
        assert found.item() == pytest.approx(exact, rel=tolerance, abs=tolerance)


def test_levels_sum_to_one_in_single_precision():
    values = (torch.arange(256) / 255).float().unsqueeze(-1)
    for loc, log_scale in itertools.product((-3.0, 0.0, 0.2, 0.5, 1.5), (-12.0, -8.0, -5.5, 3.0)):
        given = [torch.tensor([v], dtype=torch.float32) for v in (loc, log_scale)]
        mass = IndependentLogistic(*given, 256, 1).log_prob(values).exp()
        assert mass.sum().item() == pytest.approx(1, abs=1e-5)
