"""Pairs with a cluster for each datum: bounds by enumeration, one cluster, the exact posterior."""

import math

import pytest
import torch

from priory.inference import ELBO, IWAE, Phases
from priory.models import GMVAE, VAE
from priory.nets import MLP

pytestmark = pytest.mark.usefixtures("double")

K, LATENT = 3, 2


def bits(rows=6, columns=5):
    draw = torch.Generator().manual_seed(0)
    return (torch.rand(rows, columns, generator=draw) < 0.5).to(torch.get_default_dtype())


def small(components=K, **options):
    pair = GMVAE(components, MLP((4,)), MLP((4,)), MLP((4,)), latent=LATENT, **options)
    torch.manual_seed(0)
    pair.build(bits())
    return pair


def by_hand(pair, x, z):
    """log p(x, z, c) - log q(z | x, c) for each c, with z[c], `(K, batch)`."""
    rows = []
    for k, code in enumerate(torch.eye(pair.components, dtype=x.dtype)):
        c = code.expand(len(x), -1)
        loc, scale = pair.prior.loc[k], pair.prior.log_scale[k].exp()
        prior = torch.distributions.Normal(loc, scale).log_prob(z[k]).sum(-1)
        joint = prior + pair.decoder(z[k]).log_prob(x) - math.log(pair.components)
        rows.append(joint - pair.encoder(x, c).log_prob(z[k]))
    return torch.stack(rows)


def enumerated(pair, x):
    """The awake phase over all clusters, with z of each."""
    return Phases(pair.model, pair.guide, columns={"x": x}).enumerating(("c",))


@pytest.fixture
def gmvae():
    return small()


def test_the_bound_is_the_sum_over_clusters(gmvae):
    x = bits()
    phases = Phases(gmvae.model, gmvae.guide, columns={"x": x})
    found = ELBO(gradient="enumerate").loss(phases)
    z = phases.enumerating(("c",)).sample["z"]
    q = gmvae.clusters(x).probs.mT
    each = by_hand(gmvae, x, z)
    torch.testing.assert_close(found, -(q * (each - q.log())).sum(0).mean())
    tighter = IWAE(1, gradient="enumerate").loss(phases)
    torch.testing.assert_close(tighter, -each.logsumexp(0).mean())


def test_the_divergence_of_code_and_latent_is_that_by_brute_force(gmvae):
    x = bits(4)
    q = gmvae.clusters(x).probs
    exact = (q * (q.log() + math.log(K))).sum(-1)
    for k, code in enumerate(torch.eye(K, dtype=x.dtype)):
        c = code.expand(len(x), -1)
        of_z = torch.distributions.kl_divergence(gmvae.encoder(x, c), gmvae.prior.component(c))
        exact = exact + q[:, k] * of_z
    awake = enumerated(gmvae, x)
    kl = awake.kl("c") + awake.kl("z")
    torch.testing.assert_close((awake.log_measure(1).exp() * kl).sum(0), exact)


def test_with_the_bounds_as_log_odds_of_clusters_it_is_their_logsumexp(gmvae, monkeypatch):
    x, objective = bits(), ELBO(gradient="enumerate")

    def bound():
        torch.manual_seed(1)  # the noise of z, which does not depend on the clusters
        phases = Phases(gmvae.model, gmvae.guide, columns={"x": x})
        value = -objective.loss(phases)
        return value, by_hand(gmvae, x, phases.enumerating(("c",)).sample["z"])

    _, each = bound()
    bounds = []
    for tilt in (0.0, 0.5):
        logits = each.mT.detach() + tilt * torch.arange(K)
        monkeypatch.setattr(gmvae.classifier, "forward", lambda _, logits=logits: logits)
        bounds.append(bound()[0])
    torch.testing.assert_close(bounds[0], each.logsumexp(0).mean())
    assert bounds[1] < bounds[0] - 1e-3


def test_one_cluster_is_the_vae():
    x = bits()
    pair, plain = small(1), VAE("normal", MLP((4,)), MLP((4,)), latent=LATENT)
    plain.build(x)
    plain.decoder.load_state_dict(pair.decoder.state_dict())
    encoder = dict(pair.encoder.state_dict())
    # The cluster's indicator is a constant 1: its column of weights is a bias.
    first = encoder["net.layers.0.weight"]
    encoder["net.layers.0.bias"] = encoder["net.layers.0.bias"] + first[:, -1]
    encoder["net.layers.0.weight"] = first[:, :-1]
    plain.encoder.load_state_dict(encoder)
    noise = torch.randn(len(x), LATENT)
    bounds = []
    for one in (pair, plain):
        q = one.encoder(x, torch.ones(len(x), 1)) if one is pair else one.encoder(x)
        latents = {"z": q.mean + q.stddev * noise, "c": torch.ones(len(x), 1)}
        bounds.append(Phases(one.model, one.guide, columns={"x": x}, latents=latents).awake)
    torch.testing.assert_close(*(awake.log_weight() for awake in bounds))
