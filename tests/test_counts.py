"""Likelihoods of counts, categories, heavy tails, positive numbers and shares: exact checks."""

import itertools
import math

import mpmath
import pytest
import torch
from scipy import stats

from priory.data import Data
from priory.distributions.categories import IndependentCategorical
from priory.distributions.continuous import IndependentBeta, IndependentGamma, IndependentStudentT
from priory.distributions.counts import (
    IndependentNegativeBinomial,
    IndependentPoisson,
    ZeroInflated,
)
from priory.distributions.stirling import excess, stirling_rest
from priory.evaluation import evaluate
from priory.inference import ELBO, fit, load
from priory.likelihoods import (
    LIKELIHOODS,
    Beta,
    Categorical,
    Gamma,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroInflatedPoisson,
)
from priory.models import VAE
from priory.parsing import parse

pytestmark = pytest.mark.usefixtures("double")
COUNTS = torch.arange(400, dtype=torch.float64).unsqueeze(1)


def one(value):
    return torch.tensor([float(value)])


def of_counts(rate=2.5, dispersion=0.7, odds=-0.4):
    """Each count distribution, with the library's mass of 0, 1, ..."""
    size, n = 1 / dispersion, COUNTS[:, 0].numpy()
    share = 1 / (1 + math.exp(-odds))
    poisson = stats.poisson.pmf(n, rate)
    binomial = stats.nbinom.pmf(n, size, size / (size + rate))
    log_rate = one(math.log(rate))
    found = {
        "poisson": (IndependentPoisson(log_rate, 1), poisson),
        "negative-binomial": (
            IndependentNegativeBinomial(log_rate, one(math.log(dispersion)), 1),
            binomial,
        ),
    }
    for name, (counts, mass) in list(found.items()):
        mixed = (1 - share) * mass + share * (n == 0)
        found[f"zero-inflated-{name}"] = (ZeroInflated(counts, one(odds)), mixed)
    return found


@pytest.mark.parametrize("name", of_counts())
def test_masses_of_counts_are_the_librarys_and_sum_to_one(name):
    distribution, mass = of_counts()[name]
    found = distribution.log_prob(COUNTS).exp()
    torch.testing.assert_close(found, torch.from_numpy(mass), rtol=1e-10, atol=1e-300)
    torch.testing.assert_close(found.sum(), torch.tensor(1.0))
    mean = (found * COUNTS[:, 0]).sum()
    torch.testing.assert_close(distribution.mean[0], mean)
    spread = (found * (COUNTS[:, 0] - mean).square()).sum()
    torch.testing.assert_close(distribution.variance[0], spread)


def test_a_hundred_zeros_more_in_a_hundred_are_a_point_mass_at_zero():
    counts = IndependentPoisson(one(1.0), 1)
    plain, full = (ZeroInflated(counts, one(odds)) for odds in (-200.0, 200.0))
    torch.testing.assert_close(plain.log_prob(COUNTS), counts.log_prob(COUNTS))
    assert full.log_prob(one(0.0)).item() == pytest.approx(0, abs=1e-80)
    assert full.log_prob(one(1.0)).item() < -190


def in_digits(x, log_rate, log_dispersion):
    """The log mass of a negative binomial count, in 60 digits."""
    with mpmath.workdps(60):
        rate, size = mpmath.exp(log_rate), mpmath.exp(-log_dispersion)
        ways = mpmath.loggamma(x + size) - mpmath.loggamma(size) - mpmath.loggamma(x + 1)
        both = size + rate
        return float(ways + size * mpmath.log(size / both) + x * mpmath.log(rate / both))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_negative_binomial_keeps_its_digits_at_every_size(dtype):
    tolerance = 1e-12 if dtype == torch.float64 else 5e-5
    sizes = (-29.0, -20.0, -9.0, -2.5, 0.0, 3.0, 29.0)
    for x, log_rate, log_dispersion in itertools.product(
        (0, 1, 14, 15, 16, 1000, 1_000_000), (-20.0, -1.0, 0.0, 2.7, 13.8, 25.0), sizes
    ):
        given = [torch.tensor([v], dtype=dtype) for v in (log_rate, log_dispersion)]
        found = IndependentNegativeBinomial(*given, 1).log_prob(torch.tensor([x], dtype=dtype))
        exact = in_digits(x, given[0].item(), given[1].item())
        where = (x, log_rate, log_dispersion)
        assert found.item() == pytest.approx(exact, rel=tolerance, abs=tolerance), where


def test_a_negative_binomial_without_dispersion_is_the_poisson():
    for log_rate in (-2.0, 1.0, 6.0):
        plain = IndependentPoisson(one(log_rate), 1).log_prob(COUNTS)
        found = IndependentNegativeBinomial(one(log_rate), one(-30.0), 1).log_prob(COUNTS)
        torch.testing.assert_close(found, plain, atol=1e-7, rtol=1e-9)


def test_pieces_of_factorials():
    x = torch.tensor([1e-6, 0.3, 1.0, 14.9, 15.1, 200.0, 1e9])
    with mpmath.workdps(40):
        exact = [
            mpmath.loggamma(v + 1)
            - (v + mpmath.mpf(0.5)) * mpmath.log(v)
            + v
            - mpmath.log(2 * mpmath.pi) / 2
            for v in map(mpmath.mpf, x.tolist())
        ]
        gaps = [mpmath.expm1(v) - v for v in (-3.0, -0.02, -1e-2, 1e-8, 5e-3, 0.5, 20.0)]
    torch.testing.assert_close(
        stirling_rest(x), torch.tensor([float(v) for v in exact]), rtol=1e-10, atol=1e-14
    )
    found = excess(torch.tensor([-3.0, -0.02, -1e-2, 1e-8, 5e-3, 0.5, 20.0]))
    torch.testing.assert_close(found, torch.tensor([float(v) for v in gaps]), rtol=1e-11, atol=0)


CONTINUOUS = {
    "student-t": lambda a, b: (
        IndependentStudentT(one(a), one(b), 3.5, 1),
        stats.t(3.5, a, math.exp(b)),
    ),
    "gamma": lambda a, b: (
        IndependentGamma(one(a), one(b), 1),
        stats.gamma(math.exp(b), scale=math.exp(a - b)),
    ),
    "beta": lambda a, b: (
        IndependentBeta(one(a), one(b), 1),
        stats.beta(math.exp(b) / (1 + math.exp(-a)), math.exp(b) / (1 + math.exp(a))),
    ),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_densities_are_the_librarys_with_its_moments(name):
    for a, b in itertools.product((-1.3, 0.0, 2.0), (-2.0, 0.4, 3.0, 9.0)):
        distribution, library = CONTINUOUS[name](a, b)
        values = library.ppf([0.05, 0.3, 0.5, 0.8, 0.97])
        values = values[(values > 0) & (values < 1)] if name == "beta" else values
        found = distribution.log_prob(torch.from_numpy(values).unsqueeze(1))
        torch.testing.assert_close(
            found, torch.from_numpy(library.logpdf(values)), rtol=1e-7, atol=1e-7
        )
        assert distribution.mean.item() == pytest.approx(library.mean(), rel=1e-9)
        assert distribution.variance.item() == pytest.approx(library.var(), rel=1e-9)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_draws_have_the_distribution(name):
    distribution, library = CONTINUOUS[name](0.5, 1.0)
    drawn = distribution.sample((4000,))[:, 0].numpy()
    assert stats.kstest(drawn, library.cdf).pvalue > 1e-3
    assert stats.kstest(drawn, CONTINUOUS[name](0.8, 1.0)[1].cdf).pvalue < 1e-3


@pytest.mark.parametrize("name", of_counts())
def test_drawn_counts_have_the_distribution(name):
    distribution, mass = of_counts()[name]
    n = 4000
    drawn = distribution.sample((n,))[:, 0].long().bincount(minlength=400)[:7].numpy()
    expected = n * mass[:7]
    assert (abs(drawn - expected) < 4.5 * expected**0.5).all()


def gradients(distribution, names, value):
    """Gradients of a log density by its parameters, and differences in the place of them."""
    for name in names:
        held = getattr(distribution, name)
        moved = held.clone().requires_grad_()
        setattr(distribution, name, moved)
        (slope,) = torch.autograd.grad(distribution.log_prob(value).sum(), moved)
        step = 1e-5
        ends = []
        for sign in (1, -1):
            setattr(distribution, name, held + sign * step)
            ends.append(distribution.log_prob(value).sum())
        setattr(distribution, name, held)
        yield slope.sum().item(), ((ends[0] - ends[1]) / (2 * step)).item()


@pytest.mark.parametrize(("a", "b"), [(0.3, -0.5), (-6.0, 4.0), (5.0, -7.0), (2.0, 8.0)])
def test_gradients_are_those_of_finite_differences(a, b):
    counts = torch.tensor([[0.0], [1.0], [3.0], [40.0]])
    cases = [
        (IndependentPoisson(one(a), 1), ("log_rate",), counts),
        (IndependentNegativeBinomial(one(a), one(b), 1), ("log_rate", "log_dispersion"), counts),
        (ZeroInflated(IndependentPoisson(one(a), 1), one(b)), ("gate",), counts),
        (CONTINUOUS["student-t"](a, b)[0], ("loc", "log_scale"), counts),
        (CONTINUOUS["gamma"](a, b)[0], ("log_mean", "log_shape"), counts[1:]),
        (CONTINUOUS["beta"](a, b)[0], ("logits", "log_concentration"), (counts + 1) / 50),
        (IndependentCategorical(torch.tensor([[a, b, 0.0]]), 1), ("logits",), counts[:2]),
    ]
    for distribution, names, value in cases:
        for slope, difference in gradients(distribution, names, value):
            assert slope == pytest.approx(difference, rel=2e-5, abs=2e-5), (distribution, names)


def test_categories_sum_to_one_and_other_numbers_have_no_mass():
    logits = torch.randn(2, 3, 4)
    distribution = IndependentCategorical(logits, 1)
    values = torch.tensor([*itertools.product(range(4), repeat=3)], dtype=logits.dtype)
    mass = distribution.log_prob(values.unsqueeze(1)).exp()
    torch.testing.assert_close(mass.sum(0), torch.ones(2))
    library = torch.distributions.Categorical(logits=logits).log_prob(values[:, None].long())
    torch.testing.assert_close(distribution.log_prob(values[:, None]), library.sum(-1))
    with torch.no_grad():
        assert distribution.density(torch.tensor([0.0, 4.0, 1.0])).tolist() == [-math.inf] * 2
        assert distribution.density(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-math.inf] * 2
    drawn = distribution.sample((3000,))
    shares = torch.stack([(drawn == k).double().mean(0) for k in range(4)], -1)
    assert (shares - distribution.probs).abs().max() < 0.05
    with pytest.raises(NotImplementedError, match="no mean"):
        _ = distribution.mean


def test_nets_read_one_hot_codes_of_rows_and_of_images():
    head, x = Categorical(3), torch.tensor([[0.0, 2.0]])
    head.build(x)
    assert head.inputs((2,)) == (6,)
    assert head.read(x).tolist() == [[1, 0, 0, 0, 0, 1]]
    assert head.beside(torch.tensor([[True, False]])).tolist() == [[True] * 3 + [False] * 3]
    images, head = torch.randint(3, (5, 2, 4, 4)).double(), Categorical(3)
    head.build(images)
    code = head.read(images)
    assert code.shape == (5, *head.inputs((2, 4, 4))) == (5, 6, 4, 4)
    torch.testing.assert_close(code.reshape(5, 2, 3, 4, 4).argmax(2).double(), images)


@pytest.mark.parametrize(
    ("head", "values", "message"),
    [
        (Poisson(), [[0.0, 1.0], [2.5, 3.0]], r"counts.*got 2\.5 in row 1 of column 0: round them"),
        (NegativeBinomial(), [[-1.0]], r"got -1 in row 0 of column 0: leave standardise out"),
        (ZeroInflatedPoisson(), [[math.inf]], "expected counts"),
        (Gamma(), [[1.0], [0.0]], r"positive numbers, got 0 in row 1 of column 0"),
        (Beta(), [[0.5, 1.0]], r"below 1, got 1 in row 0 of column 1.*continuous-bernoulli"),
        (Categorical(2), [[2.0]], r"integers 0 to 1.*got 2 in row 0"),
        (StudentT(), [[math.nan]], "finite"),
    ],
)
def test_data_outside_the_support_are_refused_by_value_and_place(head, values, message):
    with pytest.raises(ValueError, match=message):
        head.check(torch.tensor(values))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NegativeBinomial("row"), "'column', 'cell' or a positive number, got row"),
        (lambda: Gamma(-1), "positive number, got -1"),
        (lambda: Beta("pixel"), "'column', 'cell'"),
        (lambda: StudentT(1.0), "above 1.*got 1"),
        (lambda: Categorical(1), "levels must be an integer of 2 or more"),
    ],
)
def test_options_that_are_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_dispersion_may_be_fixed_learned_by_column_or_of_every_cell():
    x = torch.poisson(torch.full((50, 3), 4.0))
    fixed, column, cell = (NegativeBinomial(d) for d in (0.5, "column", "cell"))
    for head in (fixed, column, cell):
        head.build(x)
    assert [head.params for head in (fixed, column, cell)] == [1, 1, 2]
    assert column.log_dispersion.shape == (3,)
    maps = torch.randn(7, 1, 3)
    expected = IndependentNegativeBinomial(maps[:, 0], one(0.5).log(), 1).log_prob(x[:7])
    torch.testing.assert_close(fixed(maps).log_prob(x[:7]), expected)
    both = torch.cat([maps, torch.full((7, 1, 3), math.log(0.5))], 1)
    torch.testing.assert_close(cell(both).log_prob(x[:7]), expected)
    written = parse("likelihood", "negative-binomial:dispersion=0.5", LIKELIHOODS)
    assert (type(written), written.dispersion) == (NegativeBinomial, 0.5)


@pytest.mark.parametrize(
    "likelihood", ["negative-binomial", "gamma:concentration=cell", "beta", "student-t:df=3"]
)
def test_a_run_comes_back_from_its_folder(likelihood, tmp_path):
    u = torch.rand(60, 3)
    x = {"negative-binomial": (9 * u).floor(), "student-t:df=3": 20 * u}.get(likelihood, u + 1e-3)
    x = x.clamp(max=1 - 1e-3) if likelihood == "beta" else x
    pair = VAE(likelihood=parse("likelihood", likelihood, LIKELIHOODS), latent=2)
    run = fit(pair, ELBO(), Data.from_arrays(x), steps=2, compile="off", progress=False)
    again = load(run.save(tmp_path / "run"), data=run.data)
    scores = [r.score(x, particles=3).log_likelihood for r in (run, again)]
    torch.testing.assert_close(*scores)
    report = evaluate(run, particles=3, metrics=["nll", "bits_per_dim"], pictures=False)
    mass = likelihood == "negative-binomial"
    assert ("a mass" if mass else "a density") in report["nll"].quantity
    assert report["bits_per_dim"].applicable is mass
    assert mass is (report["bits_per_dim"].kind == "upper bound")
