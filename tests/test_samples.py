"""Sample metrics against closed forms, other libraries and planted truths."""

import itertools
import math

import numpy as np
import pytest
import torch

from priory.data.toys import GRID, RING
from priory.divergences import squared_distances
from priory.evaluation import independent_marginals, median_bandwidths, mmd2
from priory.evaluation.samples import discrepancy
from priory.evaluation.samples.discrepancy import discrepancies, permutation_p
from priory.evaluation.samples.frechet import frechet2, frechet_distance
from priory.evaluation.samples.kernel_distance import cubic
from priory.evaluation.samples.kernels import (
    hamming,
    imq,
    minus_distance,
    radial,
    rbf,
)
from priory.evaluation.samples.manifold import expected_coverage, manifold
from priory.evaluation.samples.memorisation import copying, nearest_training, shared_components
from priory.evaluation.samples.modes import histogram_kl, modes
from priory.evaluation.samples.pairwise import nearest, stream
from priory.evaluation.samples.transport import potentials, sliced_wasserstein2, wasserstein2
from priory.evaluation.samples.two_sample import logistic_test, nearest_neighbour_test


def normal(n, d, *, shift=0.0, scale=1.0, seed=0):
    x = scale * torch.randn(n, d, generator=stream(seed, n, d), dtype=torch.float64)
    x[:, 0] += shift
    return x


def error_ratio(estimate, repeats=60):
    """The mean standard error over the values' own spread."""
    values, errors = torch.tensor([estimate(seed) for seed in range(repeats)]).double().T
    return float(errors.mean() / values.std()), values


# Kernels


def naive(a, b, kernel):
    def mean(x, y, pairs):
        return sum(kernel(x[i], y[j]) for i, j in pairs) / len(pairs)

    n, m = len(a), len(b)
    return (
        mean(a, a, list(itertools.permutations(range(n), 2)))
        + mean(b, b, list(itertools.permutations(range(m), 2)))
        - 2 * mean(a, b, list(itertools.product(range(n), range(m))))
    )


KERNELS = {
    "rbf": (radial(rbf((1.0, 2.0))), lambda u, v: sum(
        math.exp(-float((u - v).square().sum()) / (2 * s * s)) for s in (1.0, 2.0)) / 2),
    "hamming": (radial(hamming(3)), lambda u, v: math.exp(-float((u != v).sum()) / 3)),
    "energy": (radial(minus_distance), lambda u, v: -float((u - v).norm())),
    "cubic": (cubic, lambda u, v: float(u @ v / 3 + 1) ** 3),
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_discrepancy_is_the_sum_over_pairs_whatever_the_blocks(name, monkeypatch):
    gram, kernel = KERNELS[name]
    a, b = normal(9, 3), normal(7, 3, shift=1.0, seed=1)
    if name == "hamming":
        a, b = (a > 0).double(), (b > 0).double()
    truth = naive(a, b, kernel)
    assert discrepancies(a, b, gram)[0][0] == pytest.approx(truth, abs=1e-12)
    whole = discrepancies(a, b, gram)[0]
    monkeypatch.setattr(discrepancy, "_ELEMENTS", 20)
    assert discrepancies(a, b, gram)[0] == pytest.approx(whole, abs=1e-12)
    assert discrepancies(b, a.flip(0), gram)[0] == pytest.approx(whole, abs=1e-12)
    assert discrepancies(a.float(), b.float(), gram)[0] == pytest.approx(whole, abs=1e-5)


def test_kernels_together_are_the_kernels_alone():
    a, b = normal(40, 3), normal(30, 3, shift=0.5, seed=1)
    profiles = [rbf((1.0,)), imq(1.0), minus_distance]
    together = discrepancies(a, b, radial(*profiles))
    alone = [discrepancies(a, b, radial(profile))[0] for profile in profiles]
    assert np.allclose(together, alone, rtol=1e-12)
    assert together[0] == pytest.approx(mmd2(a, b, (1.0,)), rel=1e-12)


def test_energy_of_shifted_points_and_the_square_of_cramer():
    # In one dimension the energy distance is twice the integral of (F - G)^2.
    a, b = normal(400, 1), normal(300, 1, shift=0.7, seed=1)
    grid = torch.cat([a, b]).flatten().sort().values
    gap = torch.searchsorted(a.flatten().sort().values, grid, right=True).double() / len(a)
    gap = gap - torch.searchsorted(b.flatten().sort().values, grid, right=True).double() / len(b)
    biased = 2 * float((gap[:-1].square() * grid.diff()).sum())
    within = [float((x - x.T).abs().sum()) / len(x) ** 2 / (len(x) - 1) for x in (a, b)]
    value, se = discrepancies(a, b, radial(minus_distance))[0]
    assert value == pytest.approx(biased - sum(within), abs=1e-10)
    assert value > 3 * se


def test_errors_of_discrepancies_are_honest():
    for gram in (radial(imq(1.0)), radial(minus_distance), cubic):
        ratio, _ = error_ratio(
            lambda seed, gram=gram: discrepancies(
                normal(100, 2, shift=1.0, seed=2 * seed), normal(100, 2, seed=2 * seed + 1), gram
            )[0]
        )
        assert 0.8 < ratio < 1.3


def test_energy_and_kernel_distance_agree_with_other_libraries():
    geomloss = pytest.importorskip("geomloss")
    kid = pytest.importorskip("torchmetrics.image.kid")
    a, b = normal(50, 4), normal(50, 4, shift=0.5, seed=1)
    found = discrepancies(a, b, radial(minus_distance))[0][0]
    other = 2 * float(geomloss.SamplesLoss("energy", backend="tensorized")(a, b))
    own = [float(torch.cdist(x, x).sum()) * (1 / 2500 - 1 / 2450) for x in (a, b)]
    assert found == pytest.approx(other + sum(own), rel=1e-4)  # it keeps roots off 0
    other = float(kid.poly_mmd(a, b, degree=3, gamma=None, coef=1.0))
    assert discrepancies(a, b, cubic)[0][0] == pytest.approx(other, abs=1e-10)


def test_permutation_statistics_are_those_of_the_permuted_sets():
    from priory.evaluation.samples.discrepancy import _statistics

    a, b = normal(12, 2), normal(8, 2, shift=1.0, seed=1)
    x, gram = torch.cat([a, b]), radial(rbf((1.0,)))
    orders = [torch.randperm(20, generator=stream(i)) for i in range(5)]
    member = torch.stack([torch.zeros(20).double().index_fill(0, o[:12], 1.0) for o in orders], 1)
    truth = [discrepancies(x[o[:12]], x[o[12:]], gram)[0][0] for o in orders]
    assert np.allclose(_statistics(x, member, gram), truth, atol=1e-12)


def test_permutation_p_is_uniform_under_equality_and_small_apart():
    gram = radial(rbf((1.0,)))
    p = [
        permutation_p(normal(25, 2, seed=2 * s), normal(20, 2, seed=2 * s + 1), gram, stream(s), 39)
        for s in range(200)
    ]
    values = torch.tensor([value for value, _ in p])
    assert abs(float(values.mean()) - 0.5125) < 3 * 0.29 / math.sqrt(200)
    for level in (0.05, 0.25, 0.5):
        share = float((values <= level + 1e-9).double().mean())
        assert share <= level + 3 * math.sqrt(level * (1 - level) / 200)
    apart = permutation_p(normal(80, 2), normal(80, 2, shift=1.0, seed=1), gram, stream(0))
    assert apart[0] == pytest.approx(1 / 201)
    with pytest.raises(ValueError, match="permutations must be at least 1"):
        permutation_p(normal(5, 1), normal(5, 1), gram, stream(0), 0)


def test_exact_permutation_p_of_four_points():
    # Of the 6 divisions of {0, 1, 10, 11}, two separate the pairs: p tends to 1/3.
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[10.0], [11.0]])
    p, se = permutation_p(a, b, radial(minus_distance), stream(0), 4000)
    assert abs(p - 1 / 3) < 3 * se


# Transport


def test_sliced_distance_of_a_shift():
    # Under a shift c every direction has (u . c)^2, whose mean is |c|^2 / d.
    a = normal(200, 5)
    shift = torch.tensor([3.0, 0.0, -1.0, 2.0, 0.5]).double()
    value, se = sliced_wasserstein2(a + shift, a, stream(0), 2000)
    truth = float(shift.square().sum()) / 5
    assert abs(value - truth) < 3 * se
    assert sliced_wasserstein2(a, a, stream(0), 10)[0] == 0.0


def test_sliced_distance_agrees_with_pot_and_ignores_order():
    ot = pytest.importorskip("ot")
    a, b = normal(60, 3), normal(45, 3, shift=1.0, scale=2.0, seed=1)
    u = torch.randn(3, 50, generator=stream(7), dtype=torch.float64)
    u = u / u.norm(dim=0)
    other = ot.sliced_wasserstein_distance(a.numpy(), b.numpy(), projections=u.numpy()) ** 2
    straight = sliced_wasserstein2(a, b, stream(7), 50)
    assert straight[0] == pytest.approx(float(other), rel=1e-10)
    assert sliced_wasserstein2(b.flip(0), a, stream(7), 50) == pytest.approx(straight, rel=1e-10)
    assert sliced_wasserstein2(a + 1e5, b + 1e5, stream(7), 50) == pytest.approx(straight, rel=1e-7)


def test_assignment_agrees_with_pot_and_its_duals_are_feasible():
    ot = pytest.importorskip("ot")
    from scipy.optimize import linear_sum_assignment

    a, b = normal(60, 3), normal(60, 3, shift=1.0, scale=2.0, seed=1)
    cost = squared_distances(a, b)
    other = float(ot.emd2([], [], cost.numpy()))
    value, se = wasserstein2(a, b)
    assert value == pytest.approx(other, rel=1e-10)
    matched = cost[:, torch.as_tensor(linear_sum_assignment(cost.numpy())[1])]
    f, g = potentials(matched)
    assert (f.unsqueeze(1) + g <= matched + 1e-9).all()
    assert float((f + g).mean()) == pytest.approx(value, rel=1e-12)
    assert wasserstein2(a.flip(0), b) == pytest.approx((value, se), rel=1e-9)
    with pytest.raises(ValueError, match="two sets of one size, got 60 and 59"):
        wasserstein2(a, b[1:])


def test_assignment_in_one_dimension_is_the_sorted_one():
    a, b = normal(80, 1), normal(80, 1, shift=1.0, scale=0.5, seed=1)
    truth = float((a.sort(0).values - b.sort(0).values).square().mean())
    assert wasserstein2(a, b)[0] == pytest.approx(truth, rel=1e-12)
    assert sliced_wasserstein2(a, b, stream(0), 4)[0] == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize(
    "distance", [wasserstein2, lambda a, b: sliced_wasserstein2(a, b, stream(0), 50)]
)
def test_errors_of_transport_are_honest(distance):
    # In one dimension, where all directions are alike.
    ratio, values = error_ratio(
        lambda seed: distance(
            normal(100, 1, shift=1.5, scale=1.5, seed=2 * seed), normal(100, 1, seed=2 * seed + 1)
        ),
        repeats=100,
    )
    assert 0.8 < ratio < 1.25
    assert abs(float(values.mean()) - 1.5**2 - 0.5**2) < 0.15


# Frechet


def gaussian(d, seed):
    w = normal(d, d, seed=seed)
    return normal(1, d, seed=seed)[0], w @ w.T


def test_frechet_distance_of_diagonal_gaussians_and_of_itself():
    m, s = (
        torch.tensor([[0.0, 1.0, 2.0], [1.0, 1.0, 0.0]]),
        torch.tensor([[1.0, 2, 0], [2, 0.5, 1]]),
    )
    found = frechet_distance(m[0], s[0].square().diag(), m[1], s[1].square().diag())
    truth = float((m[0] - m[1]).square().sum() + (s[0] - s[1]).square().sum())
    assert found == pytest.approx(truth, abs=1e-6)
    mean, covariance = gaussian(20, 0)
    assert frechet_distance(mean, covariance, mean, covariance) == pytest.approx(0, abs=1e-10)
    x = normal(30, 64)  # a singular covariance
    assert frechet2(x, x)[0] == pytest.approx(0, abs=1e-9)


def test_frechet_distance_agrees_with_other_libraries():
    ot = pytest.importorskip("ot")
    fid = pytest.importorskip("torchmetrics.image.fid")
    (m1, s1), (m2, s2) = gaussian(8, 1), gaussian(8, 2)
    found = frechet_distance(m1, s1, m2, s2)
    other = ot.gaussian.bures_wasserstein_distance(m1, m2, s1, s2)
    assert found == pytest.approx(float(other) ** 2, rel=1e-8)
    assert found == pytest.approx(float(fid._compute_fid(m1, s1, m2, s2)), rel=1e-8)
    assert frechet_distance(m2, s2, m1, s1) == pytest.approx(found, rel=1e-10)
    a, b = normal(100, 5), normal(90, 5, shift=1.0, scale=2.0, seed=1)
    truth = frechet_distance(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert frechet2(a, b)[0] == pytest.approx(truth, rel=1e-10)


def test_error_of_the_frechet_distance_is_honest():
    ratio, values = error_ratio(
        lambda seed: frechet2(
            normal(200, 3, shift=1.0, scale=1.5, seed=2 * seed), normal(200, 3, seed=2 * seed + 1)
        )
    )
    assert 0.8 < ratio < 1.25
    assert abs(float(values.mean()) - 1.0 - 3 * 0.25) < 0.15


# Balls


def test_manifold_agrees_with_prdc():
    prdc = pytest.importorskip("prdc")
    a, b = normal(300, 4), normal(200, 4, shift=0.5, scale=0.8, seed=1)
    found = manifold(a, b, 5)
    other = prdc.compute_prdc(a.numpy(), b.numpy(), nearest_k=5)
    for name, value in other.items():
        assert float(getattr(found, name).mean()) == pytest.approx(float(value), abs=1e-12)
    turned = manifold(a.flip(0), b + 0.0, 5)
    assert torch.equal(turned.recall, found.recall.flip(0))


def test_density_and_coverage_under_equality():
    found = [manifold(normal(60, 3, seed=s), normal(90, 3, seed=1000 + s), 5) for s in range(60)]
    coverage, density = (
        torch.tensor([float(getattr(f, name).mean()) for f in found])
        for name in ("coverage", "density")
    )
    truth = expected_coverage(60, 90, 5)
    assert truth == pytest.approx(1 - math.prod((60 - i) / (150 - i) for i in range(1, 6)))
    assert abs(float(coverage.mean()) - truth) < 3 * float(coverage.std()) / math.sqrt(60)
    assert abs(float(density.mean()) - 60 / 59) < 3 * float(density.std()) / math.sqrt(60) + 0.02


def test_a_lost_class_costs_recall_and_blur_costs_precision():
    real = torch.cat([normal(150, 4, shift=8.0 * i, seed=i) for i in range(3)])
    fresh = torch.cat([normal(150, 4, shift=8.0 * i, seed=10 + i) for i in range(3)])
    good = manifold(real, fresh)
    lost = manifold(real, torch.cat([fresh[:300], normal(150, 4, seed=20)]))
    assert float(lost.precision.mean()) > float(good.precision.mean()) - 0.02
    for name in ("recall", "coverage"):
        assert float(getattr(lost, name).mean()) < float(getattr(good, name).mean()) - 0.25
    spoilt = manifold(real, fresh + normal(450, 4, scale=2.0, seed=30))
    assert float(spoilt.precision.mean()) < float(good.precision.mean()) - 0.2
    assert frechet2(fresh, real)[0] < 0.2 * frechet2(fresh + normal(450, 4, scale=2.0), real)[0]


# Two samples


def test_classifier_test_of_shifted_normals():
    truth = 0.5 * (1 + math.erf(0.5 / math.sqrt(2)))
    assert truth == pytest.approx(0.6915, abs=1e-4)
    found = logistic_test(normal(4000, 3, shift=1.0), normal(4000, 3, seed=1))
    assert abs(found.accuracy - truth) < 3 * found.se
    assert found.p < 1e-10
    assert found.se == pytest.approx(math.sqrt(truth * (1 - truth) / 4000), rel=0.02)


@pytest.mark.parametrize("test", [logistic_test, nearest_neighbour_test])
def test_two_sample_tests_have_their_level(test):
    found = [test(normal(100, 2, seed=2 * s), normal(100, 2, seed=2 * s + 1)) for s in range(60)]
    z = torch.tensor([(f.accuracy - 0.5) / f.chance for f in found])
    assert abs(float(z.mean())) < 3 / math.sqrt(60) + 0.1
    assert 0.75 < float(z.std()) < 1.25


def test_nearest_neighbour_test_is_sklearns_and_finds_copies():
    from sklearn.neighbors import KNeighborsClassifier

    a, b = normal(150, 3, shift=0.8), normal(150, 3, seed=1)
    x, y = torch.cat([a, b]).numpy(), np.repeat([0, 1], 150)
    near = KNeighborsClassifier(1).fit(x, y).kneighbors(n_neighbors=1, return_distance=False)
    truth = float((y[near[:, 0]] == y).mean())
    assert nearest_neighbour_test(a, b).accuracy == pytest.approx(truth)
    copies = nearest_neighbour_test(a, a.flip(0))
    assert copies.accuracy == 0.0
    assert nearest_neighbour_test(a, a + 1e-3 * b).accuracy < 0.05
    again = nearest_neighbour_test(a[torch.arange(150) // 2], a)  # each copied twice: ties
    assert again.accuracy == pytest.approx(0.125 + 0.5 * 0.5, abs=0.15)


# Modes


def draw(mixture, n, seed=0):
    x, mode = mixture.draw(n, np.random.default_rng(seed))
    return torch.from_numpy(x), torch.from_numpy(mode)


@pytest.mark.parametrize("mixture", [RING, GRID], ids=["ring", "grid"])
def test_a_perfect_sampler_has_all_modes(mixture):
    x, _ = draw(mixture, 20_000)
    found = modes(x, mixture.centres, mixture.sd)
    assert found.found == found.total == len(mixture.centres)
    assert found.perfect == pytest.approx(1 - math.exp(-4.5), abs=1e-12)
    error = math.sqrt(found.perfect * (1 - found.perfect) / 20_000)
    assert abs(float(found.near.mean()) - found.perfect) < 3 * error
    assert found.kl < 3 * (found.total - 1) / 40_000 + 1e-4
    assert found.spread == pytest.approx(1.0, abs=0.03)
    eye = torch.eye(2, dtype=torch.float64)
    assert torch.allclose(found.covariance, eye, atol=0.05)


def test_lost_modes_and_narrow_ones_are_found():
    x, mode = draw(GRID, 20_000)
    few = modes(GRID.centres[:5].repeat(10, 1), GRID.centres, GRID.sd)
    assert (few.found, few.kl) == (5, pytest.approx(math.log(25 / 5), abs=1e-12))
    assert few.kl_se == pytest.approx(0, abs=1e-6)
    assert modes(x[mode != 3], GRID.centres, GRID.sd).found == 24
    narrow = modes(GRID.centres[mode] + 0.5 * (x - GRID.centres[mode]), GRID.centres, GRID.sd)
    assert float(narrow.near.mean()) > narrow.perfect
    assert narrow.spread < 0.3
    far = modes(x + 50, GRID.centres, GRID.sd)
    assert (far.found, far.spread) == (0, None)


def test_error_of_a_histograms_divergence_is_honest():
    truth, distribution = (
        torch.tensor([0.2, 0.3, 0.5]).double(),
        torch.tensor([0.5, 0.25, 0.25]).double(),
    )

    def estimate(seed):
        drawn = torch.multinomial(distribution, 500, replacement=True, generator=stream(seed))
        return histogram_kl(drawn.bincount(minlength=3), truth)

    ratio, values = error_ratio(estimate, 200)
    assert 0.85 < ratio < 1.15
    assert float(values.mean()) == pytest.approx(
        float((distribution * (distribution / truth).log()).sum()), abs=0.02
    )


# Memory


def test_copies_are_told_from_fresh_data():
    train, fresh = normal(400, 3), normal(200, 3, seed=1)
    none = copying(normal(300, 3, seed=2), train, fresh)
    assert abs(none.preference - 0.5) < 3 * none.preference_se
    assert abs(none.z) < 3
    assert none.copied <= 0.01 + 3 * none.copied_se
    copies = copying(train[:200], train, fresh)
    assert (copies.preference, copies.copied) == (1.0, 1.0)
    assert copies.z > 5
    some = copying(torch.cat([train[:100], normal(200, 3, seed=2)]), train, fresh)
    assert some.copied == pytest.approx(1 / 3, abs=0.05)
    assert some.z > 3


def test_blurred_and_far_dreams_are_no_copies():
    """Dreams at the mean are near to all rows, and have the same one nearest again and again."""
    train, fresh = normal(400, 20), normal(200, 20, seed=1)
    for generated in (0.05 * normal(300, 20, seed=2), normal(300, 20, shift=9.0, seed=2)):
        assert abs(copying(generated, train, fresh).z) < 3


def test_preference_by_hand():
    train, fresh = torch.tensor([[0.0], [10.0], [20.0]]), torch.tensor([[1.0], [11.0]])
    found = copying(torch.tensor([[0.1], [0.2], [10.9], [19.0], [21.0]]), train, fresh)
    a, b = 4 / 3, 1 / 2  # dreams for each training row, for each fresh one
    assert found.preference == pytest.approx(a / (a + b), abs=1e-12)
    counts = torch.tensor([2.0, 0.0, 2.0, 0.0, 1.0]).double()
    spread = math.sqrt(2 * 3 / 5 * float(counts.var()))
    assert found.z == pytest.approx((5 * 2 / 5 - 1) / spread, abs=1e-12)


@pytest.mark.parametrize("dimensions", [2, 30])
def test_preference_has_its_level_and_error(dimensions):
    def judged(seed):
        sets = (normal(n, dimensions, seed=3 * seed + i) for i, n in enumerate((150, 200, 90)))
        return copying(*sets)

    found = [judged(seed) for seed in range(150)]
    z = torch.tensor([f.z for f in found])
    assert abs(float(z.mean())) < 3 / math.sqrt(150)
    assert float(z.std()) == pytest.approx(1.0, abs=0.2)
    values = torch.tensor([f.preference for f in found])
    errors = torch.tensor([f.preference_se for f in found])
    assert float(errors.mean() / values.std()) == pytest.approx(1.0, abs=0.25)


def test_components_are_shared():
    a, b = normal(50, 100), normal(30, 100, seed=1)
    few = shared_components(a, b)
    assert [part.shape for part in few] == [(50, 64), (30, 64)]
    whole = torch.pdist(torch.cat([a, b]))
    assert (torch.pdist(torch.cat(few)) <= whole + 1e-9).all()
    assert torch.equal(shared_components(a[:, :3], b[:, :3])[1], b[:, :3])


def test_nearest_rows_are_sklearns():
    from sklearn.neighbors import NearestNeighbors

    a, b = normal(600, 5) + 1e4, normal(700, 5, seed=1) + 1e4
    distance, index = (
        NearestNeighbors(n_neighbors=3, algorithm="brute").fit(b.numpy()).kneighbors(a.numpy())
    )
    found = nearest(a, b, 3)
    assert np.array_equal(found.row.numpy(), index)
    assert np.allclose(found.distance.numpy(), distance, rtol=1e-5)
    assert torch.equal(nearest_training(b[:5], b).row.flatten(), torch.arange(5))
    own = nearest(a, a, 1, own=True).row.flatten()
    assert (own != torch.arange(600)).all()
    with pytest.raises(ValueError, match="k must be from 1 to 2 for 3 rows, got 3"):
        nearest(a[:3], a[:3], 3, own=True)


# All


def test_faults_are_told():
    a = normal(10, 2)
    for function in (
        lambda x, y: discrepancies(x, y, cubic),
        frechet2,
        manifold,
        logistic_test,
        nearest_neighbour_test,
        wasserstein2,
    ):
        with pytest.raises(ValueError, match=r"shapes \(n, d\) and \(m, d\), got \(10, 2\)"):
            function(a, normal(10, 3))
        with pytest.raises(ValueError, match="samples of each set, got 1 and 10; draw more"):
            function(a[:1], a)


def test_baseline_is_worse_than_fresh_data_by_every_distance():
    x = normal(300, 1)
    real = torch.cat([x, x + 0.1 * normal(300, 1, seed=1)], 1)
    y = normal(300, 1, seed=2)
    fresh = torch.cat([y, y + 0.1 * normal(300, 1, seed=3)], 1)
    bad = independent_marginals(real, 300, stream(0))
    for distance in (
        lambda a, b: mmd2(a, b, median_bandwidths(b)),
        lambda a, b: discrepancies(a, b, radial(imq(1.0)))[0],
        lambda a, b: discrepancies(a, b, radial(minus_distance))[0],
        lambda a, b: sliced_wasserstein2(a, b, stream(0)),
        wasserstein2,
        frechet2,
    ):
        (good, _), (worse, se) = distance(fresh, real), distance(bad, real)
        assert worse > good + 2 * se
