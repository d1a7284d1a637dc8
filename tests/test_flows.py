"""Flows of data: maps and their inverses, densities and masses that are exact, and their units."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.func import jacrev
from torch.special import ndtri

from priory import evaluate
from priory.data import Data
from priory.distributions.levels import Dequantized, Floor
from priory.inference import ELBO, IWAE
from priory.models import NormalizingFlow
from priory.nets import FLOWS, MAF, NICE, NSF, Glow, RealNVP
from priory.nets.flow import MARGIN
from priory.nets.glow import Conv1x1, squeeze, unsqueeze
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed

CASES = {
    "nice": (lambda: NICE(3, (8,)), (5,)),
    "realnvp": (lambda: RealNVP(3, (8,)), (5,)),
    "maf": (lambda: MAF(2, (8,)), (2, 2)),
    "maf of one number": (lambda: MAF(2, (8,)), ()),
    "nsf": (lambda: NSF(2, (8,), 4), (3,)),
    "nsf of one column": (lambda: NSF(2, (8,), 4), (1,)),
    "glow": (lambda: Glow(2, 2, 4), (1, 4, 8)),
    "glow of one scale": (lambda: Glow(1, 1, 4), (3, 2, 2)),
}


@pytest.fixture(autouse=True)
def exact(double):
    """In double precision."""


def moved(module, scale=0.3):
    """Move all parameters, which are partly zero at the start."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return module


def built(case, rows=20):
    make, shape = CASES[case]
    flow, x = make(), torch.randn(rows, *shape)
    flow.build(x)
    return moved(flow), x


@pytest.mark.parametrize("make", [RealNVP, MAF])
def test_no_affine_map_scales_beyond_its_limit(make):
    flow, x = make(3, (8,), steepest=10.0), torch.randn(200, 2)
    flow.build(x)
    slope = moved(flow, scale=50.0)(x)[1]
    assert slope.abs().max() <= 3 * 2 * math.log(10)
    assert slope.abs().max() > 3 * math.log(10)
    with pytest.raises(ValueError, match="steepest must be above 1"):
        make(3, (8,), steepest=1.0)


@pytest.mark.parametrize("case", CASES)
def test_a_flow_has_its_inverse_and_the_determinant_of_its_jacobian(case):
    flow, x = built(case)
    noise, slope = flow(x[:6].unflatten(0, (2, 3)))
    torch.testing.assert_close(flow.inverse(noise).flatten(0, 1), x[:6], rtol=0, atol=1e-9)
    d = max(1, x[0].numel())
    jacobian = jacrev(lambda v: flow(v)[0])(x[:1]).reshape(d, d)
    torch.testing.assert_close(slope[0, 0], torch.linalg.slogdet(jacobian)[1])
    assert slope.shape == (2, 3)
    assert slope.std() > 1e-3 or case in ("nice", "maf of one number")


@pytest.mark.parametrize("flow", [NICE(2, (8,)), RealNVP(2, (8,)), MAF(2, (8,)), NSF(2, (8,), 4)])
def test_the_density_of_the_plane_integrates_to_one(flow):
    pair, x = NormalizingFlow(flow), 3 + 2 * torch.randn(50, 2)
    pair.build(x)
    moved(flow, 0.2)
    ticks = torch.linspace(-20, 26, 500)
    with torch.no_grad():
        density = pair.density().log_prob(torch.cartesian_prod(ticks, ticks)).exp()
    area = density.sum() * (ticks[1] - ticks[0]) ** 2
    assert float(area) == pytest.approx(1, abs=1e-4)


def test_one_affine_map_on_normal_data_is_the_regression_on_the_columns_before():
    """Its optimum is the Cholesky factor, where the mean density is minus the entropy."""
    factor = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [-3.0, 1.0, 1.5]])
    x = torch.randn(300, 3) @ factor.T + torch.tensor([100.0, 0.0, -3.0])
    pair = NormalizingFlow(MAF(1, ()))
    pair.build(x)
    scales = torch.arange(6) % 2 == 1  # which the columns before are kept from
    pair.flow.maps[0].hyper[-1].weight.register_hook(lambda g: g * ~scales[:, None])
    optimiser = torch.optim.LBFGS(pair.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = -pair.density().log_prob(x).mean()
        value.backward()
        return value

    optimiser.step(loss)
    covariance = x.T.cov(correction=0)
    entropy = 0.5 * torch.logdet(2 * math.pi * math.e * covariance)
    assert loss().item() == pytest.approx(float(entropy), abs=1e-6)
    normal = torch.distributions.MultivariateNormal(x.mean(0), covariance)
    torch.testing.assert_close(pair.density().log_prob(x), normal.log_prob(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", FLOWS)
def test_every_flow_of_images_comes_back_and_changes_volumes_as_its_differences_do(name):
    flow, x = FLOWS[name](), torch.randn(9, 1, 4, 4)
    flow.build(x)
    moved(flow, 0.1)
    noise, slope = flow(x[:1])
    torch.testing.assert_close(flow.inverse(noise), x[:1], rtol=0, atol=1e-8)
    step = 1e-6 * torch.eye(16).reshape(16, 1, 4, 4)
    differences = (flow(x[:1] + step)[0] - flow(x[:1] - step)[0]).flatten(1) / 2e-6
    torch.testing.assert_close(torch.linalg.slogdet(differences)[1], slope[0], rtol=0, atol=1e-4)


def test_additive_maps_keep_volumes():
    flow, x = built("nice")
    with torch.no_grad():
        flow.log_scale.zero_()
    noise, slope = flow(x)
    assert not slope.any()
    assert (noise - x).abs().amax(0).gt(0.01).all()


def test_a_coupling_moves_a_half_by_the_other():
    flow, x = built("realnvp")
    slopes = jacrev(lambda v: flow.maps[0]()(v))(x[0])
    even = torch.arange(5) % 2 == 0
    assert torch.equal(slopes[even] != 0, torch.eye(5).bool()[even])
    odd = torch.eye(5).bool()[~even] | even
    assert torch.equal(slopes[~even] != 0, odd)


# --- Glow ---------------------------------------------------------------------------------------


def test_the_determinant_of_a_mixture_of_channels():
    layer, x = moved(Conv1x1(6)), torch.randn(2, 6, 3, 5)
    slope = layer(x)[1]
    torch.testing.assert_close(slope, 15 * torch.linalg.slogdet(layer.weight())[1])
    torch.testing.assert_close(layer(x)[0][0, :, 1, 2], layer.weight() @ x[0, :, 1, 2])


def test_squares_of_pixels_become_channels_and_come_back():
    x = torch.randn(2, 3, 4, 6)
    assert torch.equal(squeeze(x)[1, 4:8, 1, 2], x[1, 1, 2:4, 4:6].flatten())
    assert torch.equal(unsqueeze(squeeze(x)), x)


def test_activations_start_at_unit_variance_and_depend_on_no_batch_afterwards():
    flow, x = Glow(2, 1, 4), 5 + 3 * torch.randn(200, 1, 4, 4)
    flow.build(x)
    y = flow.layers[0](squeeze(x))[0]
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-9)
    torch.testing.assert_close(y.std((0, 2, 3), correction=0), torch.ones(4))
    before = {k: v.clone() for k, v in flow.state_dict().items()}
    flow.build(x + 7)
    whole = flow(x + 7)[0]
    torch.testing.assert_close(whole[:3], flow(x[:3] + 7)[0])
    assert all(torch.equal(v, before[k]) for k, v in flow.state_dict().items())


# --- levels -------------------------------------------------------------------------------------


class Uniform(nn.Module):
    """Units in which numbers that are uniform on [0, levels] are standard normal."""

    def __init__(self, units):
        super().__init__()
        self.levels, self.centre = units.levels, units.centre

    def forward(self, z):
        y = ndtri(z / self.levels)
        normal = 0.5 * (y.square() + math.log(2 * math.pi))
        dims = (*range(-self.centre.dim(), 0),)
        return y, (normal - self.levels.log()).sum(dims)


def greys(rows=40, shape=(2, 3), top=255):
    x = torch.randint(top + 1, (rows, *shape)) / top
    x[0], x[1] = 0, 1
    return x


@pytest.mark.parametrize("dequantise", ["auto", "uniform"])
def test_uniform_noise_has_eight_bits(dequantise):
    """By the flow that does nothing, every level is equally likely, whatever is drawn."""
    pair, x = NormalizingFlow(MAF(1, ()), dequantise), greys()
    pair.build(x)
    pair.units = Uniform(pair.units)
    report = evaluate(pair, x, metrics=["bits_per_dim", "nll", "ess"], particles=3, pictures=False)
    bits = report["bits_per_dim"]
    assert bits.value == pytest.approx(8, abs=1e-9)
    assert bits.kind == report["nll"].kind == "upper bound"
    assert report["nll"].value == pytest.approx(6 * math.log(256), abs=1e-9)
    assert "x a mass" in str(report["nll"].quantity)


def test_bits_are_those_of_densities_of_log_odds():
    """Papamakarios et al., 2017, appendix E.2: their formula from log p(y), y the log-odds."""
    pair, x = NormalizingFlow(MAF(2, (8,))), greys()
    pair.build(x)
    moved(pair.flow)
    z = pair.noise(x).sample()
    y = torch.logit(MARGIN + (1 - 2 * MARGIN) * z / 256)
    scaled = (y - pair.units.centre) / pair.units.unit
    noise, slope = pair.flow(scaled)
    log_p = -0.5 * (noise.square() + math.log(2 * math.pi)).sum((1, 2))
    log_p = log_p + slope - pair.units.unit.log().sum()
    share = y.sigmoid()
    expected = -log_p / (6 * math.log(2)) - math.log2(1 - 2 * MARGIN) + 8
    expected = expected + (share.log2() + (1 - share).log2()).mean((1, 2))
    torch.testing.assert_close(-pair.density().log_prob(z) / (6 * math.log(2)), expected)


@pytest.mark.parametrize("dequantise", ["uniform", "variational"])
def test_masses_of_levels_sum_to_one_and_are_bounded_from_below(dequantise):
    """One pixel of four levels, by quadrature over the noise."""
    pair, x = NormalizingFlow(MAF(1, ()), dequantise, "linear"), torch.arange(4)[:, None] / 3
    pair.build(x)
    moved(pair.encoder, 0.1)
    pair.eval().requires_grad_(False)
    u = (torch.arange(20_000) + 0.5) / 20_000
    z = torch.arange(4)[:, None, None] + u[:, None]
    mass = pair.density().log_prob(z).exp().mean(1)
    assert float(mass.sum()) == pytest.approx(1, abs=1e-4)
    q = pair.noise(x).expand((20_000, 4)).log_prob(z.transpose(0, 1)).exp()
    torch.testing.assert_close(q.mean(0), torch.ones(4), rtol=0, atol=1e-3)
    bound = (q * (pair.density().log_prob(z).T - q.log())).mean(0)
    drawn = -ELBO(particles=4000)(pair.model, pair.guide, x)
    tight = -IWAE(4000)(pair.model, pair.guide, x)
    assert float(drawn) == pytest.approx(float(bound.mean()), abs=0.05)
    assert float(tight) == pytest.approx(float(mass.log().mean()), abs=0.03)
    assert bound.mean() < mass.log().mean() - 0.01


def test_noise_never_reaches_the_next_level():
    """In single precision, where x + u would round up for the largest levels."""
    top = torch.tensor(255.0, dtype=torch.float32)
    x = (torch.arange(256, dtype=torch.float32) / 255).expand(2000, 256)
    z = Dequantized(x, top, 1).sample()
    assert torch.equal(z.floor(), (x * 255).round())
    assert not Floor(z, top, 1).log_prob(x).any()
    assert (Floor(z + 1, top, 1).log_prob(x) == -torch.inf).all()
    torch.testing.assert_close(Floor(z, top, 1).mean, x)
    assert float((z - z.floor()).mean()) == pytest.approx(0.5, abs=0.01)


def test_all_parts_of_a_variational_noise_learn():
    pair, x = moved(NormalizingFlow(Glow(1, 1, 4), "variational")), greys(shape=(1, 4, 4))
    pair.build(x)
    moved(pair, 0.1)
    ELBO()(pair.model, pair.guide, x).backward()
    assert all(p.grad is not None and p.grad.any() for p in pair.parameters())


# --- what is refused, and how it is judged ------------------------------------------------------

REFUSED = {
    "binary": (torch.rand(9, 4).round(), "auto", "got binary x"),
    "binary, dequantised": (torch.rand(9, 4).round(), "uniform", "got binary x"),
    "a column of two values": (
        torch.cat([torch.randn(9, 2), torch.arange(9)[:, None] % 2], 1),
        "auto",
        "got 1 of 3 coordinates with one or two values",
    ),
    "no levels": (torch.rand(9, 3), "uniform", "expected x at evenly spaced levels"),
    "integers": (torch.arange(12.0).reshape(4, 3), "uniform", "divide levels by their largest"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_data_without_a_density_or_levels_are_refused(case):
    x, dequantise, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        NormalizingFlow("maf", dequantise).build(x.double())


def test_shapes_that_a_flow_can_not_have_are_refused():
    with pytest.raises(ValueError, match="multiples of 4, got data of shape"):
        NormalizingFlow("glow").build(torch.randn(9, 1, 6, 8))
    with pytest.raises(ValueError, match="couples several coordinates, got 1: use 'nsf'"):
        NormalizingFlow("realnvp").build(torch.randn(9, 1))
    with pytest.raises(ValueError, match="bins must be at least 2"):
        NSF(bins=1)
    with pytest.raises(ValueError, match="unknown dequantisation 'unifrom', nearest 'uniform'"):
        NormalizingFlow(dequantise="unifrom")


def test_a_density_of_a_table_is_exact_and_in_its_units():
    pair, x = NormalizingFlow(MAF(1, (4,))), 100 + 20 * torch.randn(60, 3)
    pair.build(x)
    report = evaluate(pair, x, metrics=["nll", "bits_per_dim"], pictures=False)
    assert report["nll"].kind == "exact"
    normal = torch.distributions.Normal(x.mean(0), x.std(0, correction=0))
    expected = -normal.log_prob(x).sum(1).mean()  # a map starts at the identity
    assert report["nll"].value == pytest.approx(float(expected), abs=1e-9)
    assert not report["bits_per_dim"].applicable


TRAINED = {
    "nsf": ("grid", {"flow": "nsf:1:8:4"}),
    "variational-glow": ("digits", {"flow": "glow:2:1:4", "encoder": "mlp:8"}),
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_traced_step_and_a_resumed_run_are_to_the_bit_what_a_plain_one_is(name, tmp_path):
    torch.set_default_dtype(torch.float32)
    recipe, (data, options) = RECIPES[name], TRAINED[name]
    data = Data.named(data, rows=200, **recipe.rendering(data))
    options = {**options, "batch_size": 50, "valid_every": 0, "steps": 6}
    back = check_traced_and_resumed(recipe, options, data, tmp_path / "run", atol=1e-5)
    assert back.history[-1]["step"] == 6
    assert back.pair.dequantise == ("none" if name == "nsf" else "variational")
