"""Sticks: a concentration that is learned, a truncation that costs nothing, those in use."""

import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from benchmarks.sticks import SeriesELBO, drawn, series_kl
from torch.distributions import Beta, kl_divergence

from priory.distributions.beta import InnerBeta
from priory.distributions.kumaraswamy import Kumaraswamy
from priory.evaluation import evaluate
from priory.evaluation.latents.sticks import sticks_in_use
from priory.inference import ELBO, KL, Phases, Reconstruction
from priory.models import VAE
from priory.nets import MLP
from priory.parsing import parse
from priory.posteriors import GammaPosterior, KumaraswamyPosterior, LogitNormalPosterior
from priory.priors import PRIORS, StickBreaking
from priory.priors.sticks import READINGS
from priory.serialisation import from_config, to_config

pytestmark = pytest.mark.usefixtures("double")


def built(latent, posterior="auto", **options):
    pair = VAE(
        StickBreaking(**options), MLP((4,)), "linear", "bernoulli", latent, posterior=posterior
    )
    pair.build(bits())
    return pair


def bits(rows=8):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(rows, 5, generator=generator, dtype=torch.float64).round()


def test_a_learned_concentration_is_that_of_most_likelihood():
    """n / -sum log(1 - v) for shares v, and -1 / E log(1 - v) for their distributions."""
    prior = parse("prior", "stick-breaking:2:learned=true", PRIORS)
    prior.build(3, torch.zeros(1, 4))
    prior.double()
    (parameter,) = prior.parameters()
    assert prior().base_dist.concentration0.tolist() == pytest.approx([2.0] * 3)
    v = Beta(torch.tensor(1.0), torch.tensor(3.0)).sample((500, 3))
    best = v.numel() / -torch.log1p(-v).sum()
    for value, sign in ((best, 0), (0.7 * best, 1), (1.4 * best, -1)):
        with torch.no_grad():
            parameter.copy_(value.log())
        (slope,) = torch.autograd.grad(prior().log_prob(v).sum(), [parameter])
        assert slope.item() == pytest.approx(0, abs=1e-9) if not sign else slope * sign > 1
    q = InnerBeta(torch.rand(6, 3) + 0.5, 4 * torch.rand(6, 3) + 0.5)
    log_rest = torch.digamma(q.concentration0) - torch.digamma(q.concentration0 + q.concentration1)
    with torch.no_grad():
        parameter.copy_((-1 / log_rest.mean()).log())
    loss = kl_divergence(q.to_event(1), prior()).sum()
    assert torch.autograd.grad(loss, [parameter])[0].item() == pytest.approx(0, abs=1e-9)


def test_the_bound_learns_the_concentration_and_the_run_keeps_it():
    pair, x = built(3, "gamma", learned=True), bits()
    before = pair.prior.log_concentration.item()
    assert before == pytest.approx(math.log(5))
    sgd = torch.optim.SGD([pair.prior.log_concentration], lr=0.3)
    objective = ELBO(analytic_kl=True)
    for _ in range(100):
        sgd.zero_grad()
        objective(pair.model, pair.guide, x).backward()
        sgd.step()
    q = pair.encoder(x).base_dist
    log_rest = torch.digamma(q.concentration0) - torch.digamma(q.concentration0 + q.concentration1)
    learned = pair.prior.log_concentration.exp().item()
    assert learned == pytest.approx((-1 / log_rest.mean()).item(), rel=1e-6)
    assert learned != pytest.approx(5, rel=1e-3)
    again = from_config(to_config(pair.prior))
    assert (again.concentration, again.learned) == (5.0, True)
    assert "prior.log_concentration" in pair.state_dict()
    assert not [*built(3).prior.parameters()]


@pytest.mark.parametrize("reads", READINGS)
def test_the_bound_is_not_worse_for_a_larger_truncation(reads):
    """One stick more, broken as by the prior and read as what was left, or not, costs nothing."""
    few, many, x = built(2, reads=reads), built(3, reads=reads), bits()
    with torch.no_grad():
        many.decoder.net.load_state_dict(
            {**many.decoder.net.state_dict(), "last.bias": few.decoder.net.last.bias}
        )
        weight = few.decoder.net.last.weight
        if reads == "weights":
            weight = weight * (3 / 4)  # they are in units of their mean
            weight = torch.cat([weight, weight[:, -1:]], 1)
        else:
            weight = torch.cat([weight, torch.zeros_like(weight[:, :1])], 1)
        many.decoder.net.last.weight.copy_(weight)
        for key in ("layers.0.weight", "layers.0.bias"):
            if key in few.encoder.net.state_dict():
                many.encoder.net.state_dict()[key].copy_(few.encoder.net.state_dict()[key])
        for part in ("weight", "bias"):  # features: both shapes of each stick
            old = getattr(few.encoder.net.last, part).unflatten(0, (2, 2))
            new = getattr(many.encoder.net.last, part).unflatten(0, (2, 3))
            new.zero_()
            new[:, :2] = old
    v = few.encoder(x).sample()
    more = torch.cat([v, torch.rand(len(x), 1)], 1)
    lower, upper = (
        Phases(pair.model, pair.guide, (x,), latents={"z": z}).awake
        for pair, z in ((few, v), (many, more))
    )
    torch.testing.assert_close(lower.log_p("x"), upper.log_p("x"))
    torch.testing.assert_close(lower.kl("z"), upper.kl("z"), atol=1e-7, rtol=0)


@pytest.mark.parametrize("concentration", [0.5, 5.0])
def test_shares_that_are_read_are_in_standard_units(concentration):
    prior = parse("prior", f"stick-breaking:{concentration}:reads=shares", PRIORS)
    prior.build(2, torch.zeros(1, 4))
    share = Beta(torch.tensor(1.0), torch.tensor(concentration))
    units = torch.tensor([0.0, 1.0, -2.0])
    v = (share.mean + units * share.stddev).unsqueeze(-1).expand(3, 2)
    torch.testing.assert_close(prior.embed(v), units.unsqueeze(-1).expand(3, 2))
    assert (prior.features, from_config(to_config(prior)).reads) == (2, "shares")
    # They say as much as the weights, of which they can be made.
    weights = prior.weights(torch.tensor([0.3, 0.6]))
    left = 1 - weights.cumsum(-1)
    again = weights[:2] / torch.stack([torch.tensor(1.0), left[0]])
    torch.testing.assert_close(again, torch.tensor([0.3, 0.6]))
    with pytest.raises(ValueError, match="unknown reading of sticks 'share', nearest 'shares'"):
        StickBreaking(reads="share")


@pytest.mark.parametrize(("head", "least"), [(KumaraswamyPosterior, 0.15), (GammaPosterior, 0.1)])
def test_features_are_logarithms_of_shapes(head, least):
    """A stick near v, as narrow as e^-f: all of its shapes within reach of small features."""
    f = torch.linspace(-6, 11, 9)
    q = head()(torch.stack([f, -f])).base_dist
    a, b = (q.a, q.b) if head is KumaraswamyPosterior else (q.concentration1, q.concentration0)
    torch.testing.assert_close((a - least) / (1 - least), f.exp())
    torch.testing.assert_close((b - least) / (5 - least), (-f).exp())


@pytest.mark.parametrize("head", [KumaraswamyPosterior, LogitNormalPosterior, GammaPosterior])
def test_no_divergence_by_draws_is_below_zero(head):
    """Draws that leave single precision have another's density: too small, the bound too large."""
    sizes = torch.tensor([-1e6, -90.0, -12.0, -3.0, 0.0, 3.0, 11.0, 90.0, 1e6])
    q = head()(torch.cartesian_prod(sizes, sizes).T.unsqueeze(0).float()).base_dist
    torch.manual_seed(0)
    v = q.sample((500,))
    prior = Beta(torch.tensor(1.0).float(), torch.tensor(5.0).float())
    kl = (q.log_prob(v) - prior.log_prob(v)).double()
    assert (kl.mean(0) > -5 * kl.std(0) / math.sqrt(500) - 1e-3).all()
    assert kl.mean(0).max() > 1


def test_the_sticks_in_use_are_the_fewest_that_hold_the_share():
    weights = torch.tensor([[0.6, 0.3, 0.1], [0.995, 0.005, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    assert sticks_in_use(weights).tolist() == [3, 1, 3]
    assert sticks_in_use(weights, 0.9).tolist() == [2, 1, 3]
    equal = torch.full((1, 100), 0.01)
    assert sticks_in_use(equal).tolist() == [99]


def test_sticks_in_use_are_reported_with_their_error():
    pair = built(6, concentration=1.0)
    report = evaluate(pair, bits(300), metrics=["sticks"])
    found = report["sticks"]
    assert 1 <= found.value <= 7
    assert 0 < found.se < 0.3
    assert "of 7" in found.note
    assert "concentration 1, fixed" in found.note
    assert not found.warnings or "take a larger latent" in found.warnings[0]
    short = evaluate(built(1, concentration=9.0), bits(300), metrics=["sticks"])["sticks"]
    assert "left beyond the truncation: take a larger latent" in short.warnings[0]
    other = evaluate(VAE(latent=2), bits(), metrics=["sticks"])["sticks"]
    assert not other.applicable


def test_ten_terms_of_the_series_are_short_of_the_divergence():
    a, b = torch.tensor([[2.0, 5.0, 1.0], [3.0, 5.0, 1.0]])
    one, five = torch.ones(3), torch.full((3,), 5.0)
    right = kl_divergence(Kumaraswamy(a, b), Beta(one, five))
    ten, many = (series_kl(a, b, one, five, terms) for terms in (10, 100_000))
    assert ten.tolist() == pytest.approx([1.3722, 3.4641, 2.0269], abs=1e-4)
    assert right.tolist() == pytest.approx([1.3990, 3.5289, 2.3905], abs=1e-4)
    torch.testing.assert_close(many, right, atol=1e-4, rtol=0)
    assert right[2].item() == pytest.approx(math.log(1 / 5) + 5 - 1)


def test_the_series_stands_in_the_place_of_the_divergence_alone():
    pair, x = built(3), bits()
    phases = Phases(pair.model, pair.guide, (x,))
    wrong, cost, kl = (t.loss(phases) for t in (SeriesELBO(), Reconstruction(), KL(analytic=True)))
    q, prior = pair.encoder(x).base_dist, pair.prior().base_dist
    ten = series_kl(q.a, q.b, prior.concentration1, prior.concentration0)
    torch.testing.assert_close(wrong, cost + ten.sum(-1).mean())
    short = kl_divergence(q, prior) - ten
    torch.testing.assert_close(cost + kl - wrong, short.sum(-1).mean())
    assert (short > 1e-4).all()


def test_neighbours_are_those_of_drawn_weights():
    run = SimpleNamespace(pair=built(3), scope=nullcontext)
    found = drawn(run, bits(), seed=3)
    torch.testing.assert_close(found.sum(-1), torch.ones(8))
    assert torch.equal(found, drawn(run, bits(), seed=3))
    assert not torch.equal(found, drawn(run, bits(), seed=4))
