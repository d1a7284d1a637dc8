"""Divergences against closed forms, exact assignments and each other's limits."""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import energy_distance, wasserstein_distance

from priory.divergences import DIVERGENCES, energy, mmd, sinkhorn, sliced, squared_distances

pytestmark = pytest.mark.usefixtures("double")


def rbf_mmd(a, b, shift, sigma, d):
    """MMD^2 of N(0, a^2 I) and N(shift, b^2 I), |shift| given, under the RBF kernel."""

    def term(variance, distance):
        total = sigma**2 + variance
        return (sigma**2 / total) ** (d / 2) * math.exp(-(distance**2) / (2 * total))

    return term(2 * a**2, 0) + term(2 * b**2, 0) - 2 * term(a**2 + b**2, shift)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_contract(name):
    f = DIVERGENCES[name]
    a, b = torch.randn(20, 3, requires_grad=True), torch.randn(15, 3) + 3
    value = f(a, b)
    assert value.shape == ()
    assert value > 0
    gradient = torch.autograd.grad(value, a)[0]
    assert gradient.isfinite().all()
    # To move against the gradient brings the sets together.
    torch.manual_seed(1)
    before = f(a, b)
    torch.manual_seed(1)
    step = a - 1e-3 * gradient / gradient.norm()
    assert f(step, b) < before
    single = f(a.float(), b.float())
    assert single.dtype == torch.float32
    with pytest.raises(ValueError, match=r"got \(20, 3\) and \(15, 2\)"):
        f(a, b[:, :2])


@pytest.mark.parametrize("name", sorted(set(DIVERGENCES) - {"sliced"}))
def test_order_of_samples_does_not_matter(name):
    a, b = torch.randn(12, 2), torch.randn(9, 2) * 2
    f = DIVERGENCES[name]
    shuffled = f(a[torch.randperm(12)], b[torch.randperm(9)])
    torch.testing.assert_close(shuffled, f(a, b))
    torch.testing.assert_close(f(b, a), f(a, b))


@pytest.mark.parametrize(("d", "shift", "b"), [(1, 1.0, 1.0), (3, 0.7, 2.0), (2, 0.0, 1.0)])
def test_rbf_mmd_of_normals(d, shift, b):
    values = []
    for _ in range(200):
        x, y = torch.randn(60, d), torch.randn(50, d) * b
        y[:, 0] += shift
        values.append(mmd(x, y, "rbf", 1.3))
    values = torch.stack(values)
    error = 3 * values.std() / math.sqrt(len(values))
    assert abs(values.mean() - rbf_mmd(1.0, b, shift, 1.3, d)) < error


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_unbiased_mmd_has_mean_zero_under_equality_and_biased_is_positive(kernel):
    pairs = [(torch.randn(30, 2), torch.randn(20, 2)) for _ in range(400)]
    values = torch.stack([mmd(a, b, kernel, 1.0) for a, b in pairs])
    assert values.mean().abs() < 3 * values.std() / math.sqrt(len(values))
    assert all(mmd(a, b, kernel, 1.0, unbiased=False) >= 0 for a, b in pairs)


def test_imq_mmd_by_the_loop():
    a, b = torch.randn(5, 3), torch.randn(4, 3)

    def k(x, y):
        square = (x - y).square().sum()
        return sum(6 * c / (6 * c + square) for c in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))

    inner = [
        sum(k(s[i], s[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        for s, n in ((a, 5), (b, 4))
    ]
    cross = sum(k(x, y) for x in a for y in b) / 20
    torch.testing.assert_close(mmd(a, b), inner[0] + inner[1] - 2 * cross)
    gram = mmd(a * 3, b * 3, "imq", 3.0)
    torch.testing.assert_close(gram, mmd(a, b))


def test_median_scale_makes_mmd_scale_free():
    a, b = torch.randn(30, 2), torch.randn(20, 2) + 1
    torch.testing.assert_close(mmd(a * 50, b * 50, "rbf"), mmd(a, b, "rbf"))


def test_distances_far_from_the_origin():
    a, b = torch.randn(8, 3), torch.randn(7, 3)
    exact = (a.unsqueeze(1) - b).square().sum(-1)
    torch.testing.assert_close(squared_distances(a, b), exact)
    far = squared_distances((a + 1000).float(), (b + 1000).float())
    moved = (a + 1000).float().double().unsqueeze(1) - (b + 1000).float().double()
    torch.testing.assert_close(far.double(), moved.square().sum(-1), rtol=1e-4, atol=1e-4)


def test_energy_is_scipys_in_one_dimension():
    a, b = torch.randn(40, 1), torch.randn(30, 1) + 0.5
    expected = energy_distance(a[:, 0], b[:, 0]) ** 2
    assert energy(a, b, unbiased=False).item() == pytest.approx(expected)
    assert energy(a, a.clone(), unbiased=False).item() == pytest.approx(0, abs=1e-12)
    same = torch.zeros(4, 2, requires_grad=True)
    energy(same, same.detach().clone()).backward()
    assert same.grad.isfinite().all()


@pytest.mark.parametrize("d", [1, 3, 10])
def test_sliced_under_a_shift(d):
    a, shift = torch.randn(50, d), torch.randn(d)
    value = sliced(a, a + shift, projections=20_000)
    expected = shift.square().sum() / d
    assert value.item() == pytest.approx(expected.item(), rel=0.03)


def test_sliced_of_unlike_sizes_is_exact():
    a, b = torch.randn(6, 1), torch.randn(4, 1) + 1
    # Repeating each sample changes no law: 6 and 4 samples become 12 and 12.
    expected = sliced(a.repeat_interleave(2, 0), b.repeat_interleave(3, 0))
    torch.testing.assert_close(sliced(a, b), expected)
    generators = [torch.Generator().manual_seed(4) for _ in range(2)]
    a, b = torch.randn(6, 3), torch.randn(6, 3)
    assert sliced(a, b, 5, generators[0]) == sliced(a, b, 5, generators[1])


def test_sinkhorn_tends_to_the_best_assignment():
    a, b = torch.randn(12, 2), torch.randn(12, 2) + 1
    cost = squared_distances(a, b)
    rows, columns = linear_sum_assignment(cost)
    expected = cost[rows, columns].mean().item()
    value = sinkhorn(a, b, eps=2e-3, steps=4000, debias=False)
    assert value.item() == pytest.approx(expected, rel=0.02)
    assert sinkhorn(a, b, eps=2e-3, steps=4000).item() == pytest.approx(expected, rel=0.02)


def test_sinkhorn_of_a_set_with_itself_and_under_a_shift():
    a, shift = torch.randn(30, 3), torch.tensor([1.0, -2.0, 0.5])
    assert sinkhorn(a, a.clone()).item() == pytest.approx(0, abs=1e-9)
    value = sinkhorn(a, a + shift, eps=0.1, steps=500)
    assert value.item() == pytest.approx(shift.square().sum().item(), rel=1e-3)


def test_sinkhorn_gradient_is_that_of_its_value():
    a, b = torch.randn(6, 2, requires_grad=True), torch.randn(5, 2)

    def f(a):
        return sinkhorn(a, b, eps=0.5, steps=300)

    assert torch.autograd.gradcheck(f, (a,), atol=1e-5)


def test_one_dimension_by_sorting():
    a, b = torch.randn(25, 1), torch.randn(25, 1)
    expected = (a.sort(0).values - b.sort(0).values).square().mean()
    torch.testing.assert_close(sliced(a, b), expected)
    first = (a.sort(0).values - b.sort(0).values).abs().mean().item()
    assert wasserstein_distance(a[:, 0], b[:, 0]) == pytest.approx(first)


def test_mistakes_are_told():
    a, b = torch.zeros(3, 2), torch.zeros(4, 2)
    with pytest.raises(ValueError, match="unknown kernel 'rfb', nearest 'rbf'"):
        mmd(a, b, "rfb")
    with pytest.raises(ValueError, match="at least 2 samples in each set, got 1, 4"):
        mmd(a[:1], b)
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        mmd(a, b, scale=0)
    with pytest.raises(ValueError, match="projections must be positive, got 0"):
        sliced(a, b, 0)
    with pytest.raises(ValueError, match="eps and steps must be positive, got -1"):
        sinkhorn(a, b, eps=-1)
