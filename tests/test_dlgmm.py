"""The deep latent Gaussian mixture: its bound by hand and by quadrature; the VAE in it."""

import numpy as np
import pytest
import torch
from torch.distributions import Beta, Normal

from priory.inference import ELBO, Phases, Reconstruction
from priory.inference.objectives.gradients import bound
from priory.models import DLGMM, VAE
from priory.models.dlgmm import log_shares
from priory.nets import MLP
from priory.priors import GaussianMixture, StickBreaking

pytestmark = pytest.mark.usefixtures("double")


def bits(rows=4, columns=5):
    draw = torch.Generator().manual_seed(0)
    return (torch.rand(rows, columns, generator=draw) < 0.5).to(torch.get_default_dtype())


def made(components, latent):
    torch.manual_seed(0)
    nets = {part: MLP((4,)) for part in ("encoder", "weigher", "decoder")}
    pair = DLGMM(components, **nets, latent=latent)
    pair.build(bits())
    return pair


def log_ratio(pair, x, v, z):
    """log p(x, z, v) - log q(z, v | x) with torch's own normals, (*batch)."""
    log_weights, each, rest = log_shares(v), pair.encoder(x), pair.components - 1
    ours = Normal(each.mean, each.stddev), Normal(pair.prior.loc, pair.prior.log_scale.exp())
    q, p = ((log_weights + n.log_prob(z.unsqueeze(-2)).sum(-1)).logsumexp(-1) for n in ours)
    sticks = Beta(torch.ones(rest), torch.arange(rest, 0, -1.0)).log_prob(v).sum(-1)
    return pair.decoder(z).log_prob(x) + p - q + sticks - pair.weigher(x).log_prob(v)


def test_every_component_enters_the_bound_with_the_same_sticks():
    pair, x = made(3, 2), bits()
    phases = Phases(pair.model, pair.guide, columns={"x": x}, particles=2)
    phase = phases.enumerating(("z",))
    v, z = (phase.sample[n].unflatten(0, (2, 3)) for n in ("v", "z"))
    assert torch.equal(v, v[:, :1].expand_as(v))
    assert not torch.equal(v[0], v[1])
    weights = log_shares(v[:, 0]).exp()
    torch.testing.assert_close(weights, StickBreaking(1.0).weights(v[:, 0]))
    each = torch.stack([log_ratio(pair, x, v[:, 0], z[:, c]) for c in range(3)], -1)
    by_hand = (weights * each).sum(-1).mean()
    torch.testing.assert_close(ELBO(particles=2).loss(phases), -by_hand)
    joint = bound(phase.log_weight(), 0, phase.log_measure(2))
    torch.testing.assert_close(joint, (weights * each.exp()).sum(-1).mean(0).log())


def test_the_bound_and_its_gradients_are_those_by_quadrature():
    """K = 2, z of one coordinate: v by its quantiles, z by Gauss and Hermite's rule."""
    pair, x = made(2, 1), bits(1)
    u = (torch.arange(2000) + 0.5) / 2000
    sticks = pair.weigher(x).base_dist
    v = (1 - (1 - u) ** (1 / sticks.b)) ** (1 / sticks.a)
    v = v.reshape(-1, 1, 1)
    nodes, shares = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(24))
    each, exact = pair.encoder(x), 0.0
    for c in range(2):
        z = each.mean[:, c] + each.stddev[:, c] * nodes.reshape(-1, 1, 1, 1)
        ratio = log_ratio(pair, x, v.expand(24, -1, -1, -1), z.expand(-1, 2000, -1, -1))
        inner = (shares.reshape(-1, 1, 1) * ratio).sum(0) / shares.sum()
        exact = exact + (log_shares(v)[..., c].exp() * inner).mean()
    torch.manual_seed(1)
    found = ELBO(particles=20_000)(pair.model, pair.guide, x)
    torch.testing.assert_close(found, -exact, atol=0.03, rtol=0)
    parameters = [*pair.parameters()]
    slopes = torch.autograd.grad(found, parameters)
    for own, other in zip(slopes, torch.autograd.grad(-exact, parameters), strict=True):
        torch.testing.assert_close(own, other, atol=0.03, rtol=0)


def test_with_all_of_the_stick_on_one_component_it_is_the_vae():
    pair, x = made(3, 2), bits()
    twin = VAE(GaussianMixture(1), MLP((4,)), MLP((4,)), latent=2)
    twin.build(x)
    with torch.no_grad():
        for parameter in pair.weigher.net.parameters():
            parameter.zero_()
        pair.weigher.net.last.bias[:2] = 1e6  # Kumaraswamy(10^6, 5): v is 1
        twin.decoder.load_state_dict(pair.decoder.state_dict())
        twin.prior.loc.copy_(pair.prior.loc[:1])
        twin.prior.log_scale.copy_(pair.prior.log_scale[:1])
        twin.encoder.net.load_state_dict(
            {
                k: t[: len(twin.encoder.net.state_dict()[k])]
                for k, t in pair.encoder.net.state_dict().items()
            }
        )
    phases = Phases(pair.model, pair.guide, columns={"x": x}, particles=3)
    phase = phases.enumerating(("z",))
    z = phase.sample["z"][::3]
    one = Phases(twin.model, twin.guide, columns={"x": x}, latents={"z": z}, particles=3).awake
    sticks = (phase.log_p(["v"]) - phase.log_q(["v"]))[::3]
    torch.testing.assert_close(
        -ELBO(particles=3).loss(phases), (one.log_weight() + sticks).mean(), atol=1e-3, rtol=0
    )


def test_the_weights_are_uniform_on_the_simplex():
    draws = Beta(torch.ones(2), torch.tensor([2.0, 1.0])).sample((40_000,))
    weights = log_shares(draws).exp()
    torch.testing.assert_close(weights.sum(-1), torch.ones(40_000))
    moments = weights.mT @ weights / 40_000  # of Dirichlet(1, 1, 1)
    exact = (torch.ones(3, 3) + torch.eye(3)) / 12
    torch.testing.assert_close(moments, exact, atol=3e-3, rtol=0)


def test_what_has_no_gradient_by_the_weights_is_refused():
    pair = made(2, 1)
    with pytest.raises(ValueError, match="has no path to the mixture's weights"):
        Reconstruction()(pair.model, pair.guide, bits())
    with pytest.raises(ValueError, match="components must be"):
        DLGMM(1)
