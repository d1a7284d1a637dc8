"""Normal distributions in closed form, of any rank, and sets that are fitted by them."""

import math

import pytest
import torch

from priory.divergences import gaussian, gaussian_mmd2, gaussian_wasserstein2

pytestmark = pytest.mark.usefixtures("double")


def covariance(d, rank):
    root = torch.randn(d, rank)
    return root @ root.mT / rank


@pytest.mark.parametrize("d", [1, 4])
def test_commuting_covariances(d):
    one, other, shift = torch.rand(d) + 0.1, torch.rand(d) + 0.1, torch.randn(d)
    turn = torch.linalg.qr(torch.randn(d, d)).Q
    a, b = (turn @ torch.diag(v) @ turn.mT for v in (one, other))
    expected = shift.square().sum() + (one.sqrt() - other.sqrt()).square().sum()
    found = gaussian_wasserstein2(shift, a, torch.zeros(d), b)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


def test_the_library_agrees():
    ot = pytest.importorskip("ot")
    means, distributions = torch.randn(2, 3), [covariance(3, 5) for _ in range(2)]
    expected = ot.gaussian.bures_wasserstein_distance(*means, *distributions).squeeze() ** 2
    found = gaussian_wasserstein2(means[0], distributions[0], means[1], distributions[1])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    a, b = torch.randn(30, 3), torch.randn(20, 3) @ torch.randn(3, 3)
    expected = gaussian_wasserstein2(a.mean(0), a.mT.cov(), b.mean(0), b.mT.cov())
    torch.testing.assert_close(gaussian(a, b), expected, rtol=1e-10, atol=0)


def test_a_linear_map_is_its_own_transport():
    """x -> T x with T symmetric and positive is optimal, so its cost is the distance."""
    a = torch.randn(40, 3)
    centred = a - a.mean(0)
    there = covariance(3, 6)
    b = centred @ there + 1
    cost = (a.mean(0) - 1).square().sum() + (centred - centred @ there).square().sum() / 39
    torch.testing.assert_close(gaussian(a, b), cost, rtol=1e-9, atol=0)


@pytest.mark.parametrize("ranks", [(4, 4), (2, 4), (4, 2), (1, 3)])
def test_covariances_of_any_rank(ranks):
    distributions = [covariance(4, r).requires_grad_() for r in ranks]
    zero = torch.zeros(4)
    value = gaussian_wasserstein2(zero, distributions[0], zero, distributions[1])
    a, b = (c.detach() + 1e-12 * torch.eye(4) for c in distributions)
    near = gaussian_wasserstein2(zero, a, zero, b)
    torch.testing.assert_close(value, near, rtol=0, atol=2e-5)
    assert all(g.isfinite().all() for g in torch.autograd.grad(value, distributions))
    same = gaussian_wasserstein2(zero, distributions[0], zero, distributions[0])
    assert abs(same.item()) < 1e-12


@pytest.mark.parametrize("shape", [(12, 3), (3, 6), (2, 2)])
def test_gradient_of_sets_smaller_than_their_dimension(shape):
    n, d = shape
    a, b = torch.randn(n, d, requires_grad=True), torch.randn(9, d, requires_grad=True)
    assert torch.autograd.gradcheck(gaussian, (a, b), atol=1e-6)
    # Down the gradient to distance 0 along the best map, in one step.
    (slope,) = torch.autograd.grad(gaussian(a, b), a)
    if n > d:
        step = 0.5 * (n - 1) * (slope - slope.mean(0)) + 0.5 * n * slope.mean(0)
        assert gaussian(a - step, b).item() == pytest.approx(0, abs=1e-9)


def test_gradients_of_moments():
    means = [torch.randn(3, requires_grad=True) for _ in range(2)]
    roots = [torch.randn(3, 3, requires_grad=True) for _ in range(2)]

    def distance(mean_a, root_a, mean_b, root_b):
        return gaussian_wasserstein2(mean_a, root_a @ root_a.mT, mean_b, root_b @ root_b.mT)

    inputs = means[0], roots[0], means[1], roots[1]
    assert torch.autograd.gradcheck(distance, inputs, atol=1e-6)
    # Equal spectra are no obstacle.
    one = torch.eye(3, requires_grad=True)
    value = gaussian_wasserstein2(torch.zeros(3), one, torch.zeros(3), 4 * torch.eye(3))
    torch.testing.assert_close(torch.autograd.grad(value, one)[0], -torch.eye(3))


def test_points_and_single_precision():
    points, other = torch.full((5, 2), 3.0), torch.full((4, 2), 1.0)
    points.requires_grad_()
    value = gaussian(points, other)
    assert value.item() == pytest.approx(8)
    assert torch.autograd.grad(value, points)[0].isfinite().all()
    a, b = torch.randn(50, 20), torch.randn(15, 20)
    single = gaussian(a.float(), b.float()).double()
    torch.testing.assert_close(single, gaussian(a, b), rtol=1e-5, atol=0)


def test_the_discrepancy_of_normals_by_quadrature():
    width = 0.7
    grid = torch.linspace(-12, 12, 1201)
    distributions = [
        torch.distributions.Normal(*p).log_prob(grid).exp() for p in ((0.5, 1.2), (-1.0, 0.8))
    ]
    kernel = torch.exp(-(grid.unsqueeze(1) - grid).square() / (2 * width**2))
    difference = (distributions[0] - distributions[1]) * (grid[1] - grid[0])
    expected = difference @ kernel @ difference
    moments = [(torch.tensor([m]), torch.tensor([[s**2]])) for m, s in ((0.5, 1.2), (-1.0, 0.8))]
    found = gaussian_mmd2(*moments[0], *moments[1], width)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    assert gaussian_mmd2(*moments[0], *moments[0], width) == 0
    # Independent coordinates multiply, a turn changes nothing.
    turn = torch.linalg.qr(torch.randn(2, 2)).Q
    wide = [
        (turn @ torch.cat([m, m]), turn @ torch.diag(v[0].repeat(2)) @ turn.mT) for m, v in moments
    ]
    between = [
        (distributions[i] @ kernel @ distributions[j]).item() * (grid[1] - grid[0]).item() ** 2
        for i, j in ((0, 0), (1, 1), (0, 1))
    ]
    expected = between[0] ** 2 + between[1] ** 2 - 2 * between[2] ** 2
    assert gaussian_mmd2(*wide[0], *wide[1], width).item() == pytest.approx(expected, rel=1e-9)
    assert math.isfinite(expected)


def test_mistakes_are_told():
    zero, one = torch.zeros(2), torch.eye(2)
    with pytest.raises(ValueError, match=r"expected means of shape \(d,\)"):
        gaussian_wasserstein2(zero, one, zero, torch.eye(3))
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        gaussian_mmd2(zero, one, zero, one, 0)
    with pytest.raises(ValueError, match="at least 2 samples in each set, got 1, 3"):
        gaussian(torch.zeros(1, 2), torch.zeros(3, 2))
