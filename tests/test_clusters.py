"""Pairs with a cluster for each datum: bounds by enumeration, one cluster, the exact posterior."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from priory.distributions.chosen import Chosen
from priory.distributions.independent import IndependentNormal
from priory.inference import ELBO, IWAE, Phases
from priory.models import GMVAE, VAE, HierarchicalGMVAE
from priory.nets import MLP, StochasticLayer
from priory.priors import GaussianMixture

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


def test_the_datum_is_multiplied_once_for_all_clusters(gmvae):
    x = bits(columns=5)
    every = torch.eye(K)[:, None].expand(K, len(x), K)
    with FlopCounterMode(display=False) as counted:
        found = gmvae.encoder(x, every)
    hidden, features = 4, 2 * LATENT
    once, each = x.numel() * hidden, K * len(x) * hidden * (K + features)
    assert counted.get_total_flops() == 2 * (once + each)
    joined = torch.cat([x.expand(K, -1, -1), every], -1)
    apart = gmvae.encoder.head(gmvae.encoder.net(joined))
    torch.testing.assert_close(found.mean, apart.mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.stddev, apart.stddev, rtol=0, atol=1e-10)


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


# --- the hierarchy of w, c and z ----------------------------------------------------------------


def hierarchy(components=K):
    torch.manual_seed(0)
    nets = {part: MLP((4,), "tanh") for part in ("encoder", "upper_encoder", "upper", "decoder")}
    pair = HierarchicalGMVAE(components, latents=(LATENT, 3), **nets)
    pair.build(bits())
    return pair


def drawn(pair, x, seed=1):
    """The awake phase, and its w and z."""
    torch.manual_seed(seed)
    awake = Phases(pair.model, pair.guide, columns={"x": x}).awake
    return awake, awake.sample["w"][0], awake.sample["z"][0]


def summed(pair, x, w, z):
    """log p(x, z, w) - log q(z, w | x) with the cluster summed out, `(batch,)`."""
    components = pair.upper(w)
    each = [
        torch.distributions.Normal(components.loc[:, k], components.log_scale[:, k].exp())
        .log_prob(z)
        .sum(-1)
        for k in range(pair.components)
    ]
    prior = torch.stack(each).logsumexp(0) - math.log(pair.components) + pair.prior().log_prob(w)
    q = pair.encoder(x).log_prob(z) + pair.upper_encoder(x).log_prob(w)
    return prior + pair.decoder(z).log_prob(x) - q


def test_one_draw_of_the_cluster_gives_the_bound_with_it_summed_out():
    pair, x = hierarchy(), bits()
    awake, w, z = drawn(pair, x)
    exact = summed(pair, x, w, z)
    torch.testing.assert_close(awake.log_weight()[0], exact)
    # Every other cluster gives the same, by brute force.
    for code in torch.eye(K):
        latents = {"w": w, "z": z, "c": code.expand(len(x), -1)}
        other = Phases(pair.model, pair.guide, columns={"x": x}, latents=latents).awake
        torch.testing.assert_close(other.log_weight()[0], exact)


@pytest.mark.parametrize("objective", [ELBO(), ELBO(beta=0.5), IWAE(3)])
def test_the_gradient_of_one_draw_is_that_with_the_cluster_summed_out(objective):
    pair, x = hierarchy(), bits()
    torch.manual_seed(1)
    phases = Phases(pair.model, pair.guide, columns={"x": x}, particles=objective.particles)
    loss = objective.loss(phases)
    found = torch.autograd.grad(loss, [*pair.parameters()], retain_graph=True)
    w, z = phases.awake.sample["w"], phases.awake.sample["z"]
    exact = torch.stack([summed(pair, x, *pairs) for pairs in zip(w, z, strict=True)])
    if objective.particles > 1:
        exact = exact.logsumexp(0) - math.log(objective.particles)
    elif objective.beta != 1:
        likelihood = pair.decoder(z[0]).log_prob(x)
        exact = likelihood + objective.beta * (exact - likelihood)
    torch.testing.assert_close(loss, -exact.mean())
    for own, other in zip(
        found, torch.autograd.grad(-exact.mean(), [*pair.parameters()]), strict=True
    ):
        torch.testing.assert_close(own, other)


def test_the_price_of_the_clusters_and_its_gradient_have_the_exact_mean():
    pair, x = hierarchy(), bits(1)
    _, w, z = (v.detach() if isinstance(v, torch.Tensor) else v for v in drawn(pair, x))
    parameters = [*pair.upper.parameters()]
    q = pair.clusters(z, w)
    exact = (q.probs * (q.probs.log() + math.log(K))).sum()
    total = [torch.zeros_like(p) for p in parameters]
    for weight, code in zip(q.probs[0].detach(), torch.eye(K), strict=True):
        # A straight-through draw of each value, as the guide makes it.
        c = code + q.probs - q.probs.detach()
        one = (q.log_prob(c) + math.log(K)).sum()
        slopes = torch.autograd.grad(one, parameters, retain_graph=True)
        total = [t + weight * s for t, s in zip(total, slopes, strict=True)]
    for own, other in zip(total, torch.autograd.grad(exact, parameters), strict=True):
        torch.testing.assert_close(own, other)


def test_the_clusters_are_bayes_rule_and_sum_to_one():
    pair, x = hierarchy(), bits()
    _, w, z = drawn(pair, x)
    q = pair.clusters(z, w)
    torch.testing.assert_close(q.probs.sum(-1), torch.ones(len(x)))
    joint = []
    for code in torch.eye(K):
        c = code.expand(len(x), -1)
        joint.append(Chosen(c, pair.upper(w)).log_prob(z) - math.log(K))
    torch.testing.assert_close(q.probs, torch.stack(joint, -1).softmax(-1))


def test_one_cluster_is_a_vae_of_two_layers():
    pair, x = hierarchy(1), bits()
    awake, w, z = drawn(pair, x)
    chain = StochasticLayer(MLP((4,), "tanh"))
    chain.build(3, LATENT)
    chain.net.load_state_dict(pair.upper.net.state_dict())
    prior = chain(w).log_prob(z) + pair.prior().log_prob(w)
    q = pair.encoder(x).log_prob(z) + pair.upper_encoder(x).log_prob(w)
    exact = prior + pair.decoder(z).log_prob(x) - q
    torch.testing.assert_close(awake.log_weight()[0], exact)


def test_a_chosen_normal_is_drawn_by_its_own_moments():
    loc, scale = torch.tensor([[0.0, 1.0], [5.0, -5.0]]), torch.tensor([[1.0, 2.0], [0.1, 0.5]])
    chosen = Chosen(torch.eye(2)[1], IndependentNormal(loc, scale.log(), 1))
    torch.testing.assert_close(chosen.mean, loc[1])
    torch.testing.assert_close(chosen.variance, scale[1].square())
    torch.manual_seed(0)
    draws = chosen.expand((20_000,)).rsample()
    torch.testing.assert_close(draws.mean(0), loc[1], atol=0.02, rtol=0)
    torch.testing.assert_close(draws.std(0), scale[1], atol=0.02, rtol=0)
    normal = torch.distributions.Normal(loc[1], scale[1])
    torch.testing.assert_close(
        chosen.expand((7,)).log_prob(draws[:7]), normal.log_prob(draws[:7]).sum(-1)
    )


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: GMVAE(0), "components must be a positive integer"),
        (lambda: HierarchicalGMVAE(0), "components must be a positive integer"),
        (lambda: HierarchicalGMVAE(latents=(3,)), "latents must be two numbers, of z and of w"),
        (lambda: GaussianMixture(equal=True).component(torch.eye(10)), "call build first"),
    ],
)
def test_mistakes_are_said(make, told):
    with pytest.raises((ValueError, RuntimeError), match=told):
        make()
