"""Divergences against closed forms, exact assignments and each other's limits."""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import energy_distance, wasserstein_distance

from priory.divergences import (
    DIVERGENCES,
    IMQ_SCALES,
    energy,
    gaussian_mmd2,
    max_sliced,
    mmd,
    sinkhorn,
    sliced,
    squared_distances,
)
from priory.evaluation.samples import discrepancy as judged
from priory.evaluation.samples import kernels as judged_kernels
from priory.evaluation.samples import transport as judged_transport
from priory.signatures import options_of

pytestmark = pytest.mark.usefixtures("double")


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


@pytest.mark.parametrize("name", DIVERGENCES)
def test_neither_order_nor_place_nor_kind_of_number_matters(name):
    a, b = torch.randn(12, 2), torch.randn(9, 2) * 2
    orders = torch.randperm(12), torch.randperm(9)

    def f(a, b):
        torch.manual_seed(3)  # of the directions
        return DIVERGENCES[name](a, b)

    value = f(a, b)
    torch.testing.assert_close(f(a[orders[0]], b[orders[1]]), value)
    torch.testing.assert_close(f(a - 7.0, b - 7.0), value)
    # The steps of `sinkhorn` begin with one of the two sets.
    torch.testing.assert_close(f(b, a), value, rtol=1e-4, atol=0)
    if name in ("sliced", "max-sliced"):
        return  # other directions
    near = f(a.float() + 100, b.float() + 100).double()
    torch.testing.assert_close(near, value, rtol=1e-3, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(f(a.float(), b.float()).double(), value, rtol=1e-4, atol=1e-5)
    assert f(a.bfloat16(), b.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("name", DIVERGENCES)
def test_arguments_can_be_typed(name):
    options = options_of(DIVERGENCES[name])
    plain = {bool, float, int, str, float | None}
    assert list(options)[:2] == ["a", "b"]
    kinds = {n: o.annotation for n, o in options.items() if n not in ("a", "b", "generator")}
    assert set(kinds.values()) <= plain
    assert all(options[n].help for n in options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mmd", {"kernel": "imq"}),
        ("mmd", {"kernel": "rbf", "scale": 1.2}),
        ("mmd", {"kernel": "rbf-mixture", "scale": 1.2, "unbiased": False}),
        ("energy", {}),
        ("sliced", {"projections": 7}),
        ("sinkhorn", {"eps": 0.5}),
        ("gaussian", {}),
    ],
)
@pytest.mark.parametrize("m", [6, 5])
def test_gradients_are_those_of_the_values(name, options, m):
    a, b = torch.randn(6, 2, requires_grad=True), torch.randn(m, 2, requires_grad=True)

    def f(a, b):
        torch.manual_seed(5)
        return DIVERGENCES[name](a, b, **options)

    assert torch.autograd.gradcheck(f, (a, b), atol=1e-5)


@pytest.mark.parametrize(("d", "shift", "b"), [(1, 1.0, 1.0), (3, 0.7, 2.0), (2, 0.0, 1.0)])
def test_rbf_mmd_of_normals(d, shift, b):
    values = []
    for _ in range(200):
        x, y = torch.randn(60, d), torch.randn(50, d) * b
        y[:, 0] += shift
        values.append(mmd(x, y, "rbf", 1.3))
    values = torch.stack(values)
    error = 3 * values.std() / math.sqrt(len(values))
    mean = torch.zeros(d).index_fill(0, torch.tensor(0), shift)
    expected = gaussian_mmd2(torch.zeros(d), torch.eye(d), mean, b**2 * torch.eye(d), 1.3)
    assert abs(values.mean() - expected) < error


@pytest.mark.parametrize("kernel", ["energy", "imq", "rbf", "rbf-mixture"])
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


@pytest.mark.parametrize("kernel", ["rbf", "rbf-mixture"])
def test_median_scale_makes_mmd_scale_free(kernel):
    a, b = torch.randn(30, 2), torch.randn(20, 2) + 1
    torch.testing.assert_close(mmd(a * 50, b * 50, kernel), mmd(a, b, kernel))
    both = torch.cat([a, b])
    median = (both.unsqueeze(1) - both).norm(dim=2).median().item()
    torch.testing.assert_close(mmd(a, b, kernel, median), mmd(a, b, kernel))
    # Of many samples no more than 512 are looked at, those evenly spaced.
    many = torch.randn(400, 2), torch.randn(300, 2) + 1
    thin = torch.cat(many)[::2]
    median = (thin.unsqueeze(1) - thin).norm(dim=2).median().item()
    torch.testing.assert_close(mmd(*many, kernel, median), mmd(*many, kernel))
    same = torch.zeros(4, 2, requires_grad=True)
    value = mmd(same, torch.zeros(3, 2), kernel)
    assert value == 0
    assert torch.autograd.grad(value, same)[0].eq(0).all()


def test_the_mixture_is_the_mean_of_its_kernels():
    a, b = torch.randn(9, 2), torch.randn(7, 2) + 1
    parts = [mmd(a, b, "rbf", c * 1.4) for c in (0.25, 0.5, 1.0, 2.0, 4.0)]
    torch.testing.assert_close(mmd(a, b, "rbf-mixture", 1.4), torch.stack(parts).mean())


def test_a_mixture_sees_what_one_width_does_not():
    def slope(kernel, **options):
        a = torch.randn(30, 2, requires_grad=True)
        far = 20 + torch.randn(30, 2)
        value = mmd(a, far, kernel, **options)
        return torch.autograd.grad(value, a)[0].sum(0).norm()  # how all are pulled

    assert slope("rbf", scale=1.0) < 1e-12
    assert slope("rbf-mixture") > 1e-4
    assert slope("imq") > 1e-7
    assert slope("energy") > 0.1


def test_energy_is_the_discrepancy_of_its_kernel():
    a, b = torch.randn(9, 2), torch.randn(7, 2) + 1
    for unbiased in (True, False):
        torch.testing.assert_close(
            mmd(a, b, "energy", unbiased=unbiased), energy(a, b, unbiased), atol=0, rtol=1e-12
        )
    torch.testing.assert_close(mmd(a, b, "energy", 2.0), energy(a, b) / 2)


def test_the_estimators_of_the_evaluation_agree():
    a, b = torch.randn(40, 3), torch.randn(30, 3) + 0.5
    widths = tuple(0.8 * c for c in (0.25, 0.5, 1.0, 2.0, 4.0))
    expected = judged.mmd2(a, b, widths)[0]
    assert mmd(a, b, "rbf-mixture", 0.8).item() == pytest.approx(expected, rel=1e-12)
    profiles = {
        "rbf": (judged_kernels.rbf([0.8]), 1.0),
        # The evaluation takes the mean over the scales, of which one has C = c s^2.
        "imq": (judged_kernels.imq(0.8 * math.sqrt(2 * 3)), len(IMQ_SCALES)),
        "energy": (judged_kernels.minus_distance, 1 / 0.8),
    }
    for kernel, (profile, factor) in profiles.items():
        found = judged.discrepancies(a, b, judged_kernels.radial(profile))
        value = mmd(a, b, kernel, 0.8).item()
        assert value == pytest.approx(factor * found[0][0], rel=1e-10)


def test_the_transport_of_the_evaluation_agrees():
    a, b = torch.randn(40, 3), torch.randn(30, 3) + 0.5
    streams = [torch.Generator().manual_seed(2) for _ in range(2)]
    expected = judged_transport.sliced_wasserstein2(a, b, streams[0], 60)[0]
    assert sliced(a, b, 60, streams[1]).item() == pytest.approx(expected, rel=1e-10)
    b = torch.randn(40, 3) + 0.5
    expected = judged_transport.wasserstein2(a, b)[0]
    found = sinkhorn(a, b, eps=1e-3, steps=2000, debias=False)
    # The entropy that is left is within eps log n.
    assert 0 <= found.item() - expected < 1e-3 * math.log(40)


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
    assert energy(a, a.clone(), unbiased=False).item() == pytest.approx(0, abs=1e-9)
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
    values = [sinkhorn(a, b, eps, 1000, debias=False).item() for eps in (0.1, 1e-2, 1e-3)]
    assert values == sorted(values, reverse=True)  # the entropy is part of the cost
    assert values[-1] == pytest.approx(expected, rel=1e-3)
    assert sinkhorn(a, b, eps=1e-3, steps=1000).item() == pytest.approx(expected, rel=0.02)


def test_sinkhorn_of_a_set_with_itself_and_under_a_shift():
    a, shift = torch.randn(30, 3), torch.tensor([1.0, -2.0, 0.5])
    assert sinkhorn(a, a.clone()).item() == pytest.approx(0, abs=1e-6)
    value = sinkhorn(a, a + shift, eps=0.1, steps=500)
    assert value.item() == pytest.approx(shift.square().sum().item(), rel=1e-3)


def test_sinkhorn_is_the_dual_optimum():
    """The potentials and the plan of the library, from which value and gradient follow."""
    ot = pytest.importorskip("ot")
    a, b, eps = torch.randn(30, 2, requires_grad=True), torch.randn(20, 2) + 1, 0.1
    with torch.no_grad():
        cost = squared_distances(a, b)
    rows, columns = torch.full((30,), 1 / 30), torch.full((20,), 1 / 20)
    plan = ot.sinkhorn(
        rows, columns, cost, eps, method="sinkhorn_log", numItermax=20_000, stopThr=1e-12
    )
    entropy = (plan * (plan * 600).clamp(min=1e-300).log()).sum()
    value = sinkhorn(a, b, eps, debias=False)
    torch.testing.assert_close(value.detach(), (plan * cost).sum() + eps * entropy)
    gradient = torch.autograd.grad(value, a)[0]
    slope = 2 * (a.detach() * rows.unsqueeze(1) - plan @ b)
    torch.testing.assert_close(gradient, slope, atol=1e-5, rtol=1e-4)


def test_sinkhorn_is_geomloss_at_the_same_temperature():
    geomloss = pytest.importorskip("geomloss")
    a, b, eps = torch.randn(30, 2), torch.randn(20, 2) + 1, 0.2
    # There the cost is half the square, and the temperature the square of the blur.
    loss = geomloss.SamplesLoss("sinkhorn", p=2, blur=math.sqrt(eps / 2), scaling=0.99)
    expected = 2 * loss(a.contiguous(), b.contiguous())
    assert sinkhorn(a, b, eps).item() == pytest.approx(expected.item(), rel=1e-4)
    kernel = geomloss.SamplesLoss("energy")(a, b)
    assert energy(a, b, unbiased=False).item() == pytest.approx(2 * kernel.item(), rel=1e-4)
    kernel = geomloss.SamplesLoss("gaussian", blur=0.7)(a, b)
    value = mmd(a, b, "rbf", 0.7, unbiased=False)
    assert value.item() == pytest.approx(2 * kernel.item())


@pytest.mark.parametrize("case", ["outliers", "clusters", "copies", "high", "small"])
def test_the_usual_steps_of_sinkhorn_are_enough(case):
    a, b = torch.randn(60, 2), torch.randn(50, 2) + 0.4
    eps = 0.05
    if case == "outliers":
        a = torch.cat([a, 50 * torch.randn(2, 2)])
    elif case == "clusters":  # mass must go from one to the other
        a, b = (torch.cat([c[:k], c[k:] + 10]) for c, k in ((a / 100, 30), (b / 100, 15)))
    elif case == "copies":
        a = a[:6].repeat(10, 1)
    elif case == "high":
        a, b = torch.randn(60, 30), torch.randn(50, 30)
    elif case == "small":
        eps = 0.005
    value, exact = sinkhorn(a, b, eps), sinkhorn(a, b, eps, steps=3000)
    assert value.item() == pytest.approx(exact.item(), rel=1e-3)


def test_sliced_is_that_of_the_library():
    ot = pytest.importorskip("ot")
    a, b = torch.randn(30, 3), torch.randn(20, 3) + 1
    u = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    u = u / u.norm(dim=0)
    expected = ot.sliced_wasserstein_distance(a, b, projections=u) ** 2
    value = sliced(a, b, 50, torch.Generator().manual_seed(1))
    assert value.item() == pytest.approx(expected.item())
    expected = ot.max_sliced_wasserstein_distance(a, b, n_projections=5000, seed=0) ** 2
    # Those are random directions, ours climb.
    assert expected.item() * 0.999 < max_sliced(a, b).item() < expected.item() * 1.02


@pytest.mark.parametrize("d", [1, 2, 20])
def test_max_sliced_finds_the_direction(d):
    a, shift = torch.randn(100, d), torch.randn(d)
    a.requires_grad_()
    value = max_sliced(a, a.detach() + shift)
    assert value.item() == pytest.approx(shift.square().sum().item(), rel=1e-6)
    slope = (-2 * shift / 100).expand(100, d)
    torch.testing.assert_close(torch.autograd.grad(value, a)[0], slope, rtol=1e-4, atol=1e-6)
    a = a.detach()
    # With one mean, the direction in which the spread is different; others do not matter.
    wide = torch.ones(d).index_fill(0, torch.tensor(0), 3.0)
    expected = 4 * (a[:, 0] - a[:, 0].mean()).square().mean()
    found = max_sliced(a - a.mean(0), (a - a.mean(0)) * wide)
    assert found.item() == pytest.approx(expected.item(), rel=0.02)
    assert found >= sliced(a - a.mean(0), (a - a.mean(0)) * wide) - 1e-12


def test_max_sliced_repeats_itself():
    a, b = torch.randn(20, 4), torch.randn(15, 4)
    first, second = (max_sliced(a, b, 3, 5, torch.Generator().manual_seed(4)) for _ in range(2))
    assert first == second
    same = torch.zeros(5, 3, requires_grad=True)
    value = max_sliced(same, same.detach().clone())
    assert torch.autograd.grad(value, same)[0].eq(0).all()


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
    with pytest.raises(ValueError, match="eps, steps and block must be positive, got -1"):
        sinkhorn(a, b, eps=-1)
    with pytest.raises(ValueError, match="starts and steps must be positive, got 8 and 0"):
        max_sliced(a, b, steps=0)
    with pytest.raises(ValueError, match="block must be positive, got 0"):
        energy(a, b, block=0)
    with pytest.raises(ValueError, match="floating point, got torch"):
        energy(a.long(), b)
