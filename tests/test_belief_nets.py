"""Sigmoid belief nets against enumeration: likelihood, posterior, and what every way learns."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pyro
import pytest
import torch
from torch.distributions import Bernoulli

from priory.evaluation.likelihood.bound import log_likelihood
from priory.inference import ELBO, IWAE, SVI, Phases, Sleep
from priory.inference.objectives.wake import Wake
from priory.models import HelmholtzMachine
from priory.recipes import RECIPES

pytestmark = pytest.mark.usefixtures("double")

PIXELS = 6
ROWS = [name for name, recipe in RECIPES.items() if recipe.family is HelmholtzMachine]


def rows(n=5):
    draw = torch.Generator().manual_seed(2)
    return (torch.rand(n, PIXELS, generator=draw, dtype=torch.float64) < 0.4).double()


def machine(layers=(4, 2), seed=0, scale=1.0):
    torch.manual_seed(seed)
    pair = HelmholtzMachine(layers)
    pair.build(rows(50))
    with torch.no_grad():
        for p in pair.parameters():
            p.copy_(scale * torch.randn_like(p))
    return pair


def every(layers):
    """All combinations of the layers' bits, one tensor `(combinations, 1, bits)` for each layer."""
    bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=sum(layers)))).unsqueeze(1)
    return bits.split(list(layers), -1)


def mass(logits, bits):
    return Bernoulli(logits=logits).log_prob(bits).sum(-1)


def densities(pair, x):
    """log p(x, z) and log q(z | x) for all z, written out, `(combinations, batch)`."""
    layers = every(pair.layers)
    q = mass(pair.encoder.net(x - pair.encoder.centre)[..., 0, :], layers[0])
    p = mass(pair.top, layers[-1]) + mass(pair.decoder.net(layers[0])[..., 0, :], x)
    for low, high, up, down in zip(layers, layers[1:], pair.up, pair.down, strict=False):
        q = q + mass(up.net(low)[..., 0, :], high)
        p = p + mass(down.net(high)[..., 0, :], low)
    return p, q


def flat(grads):
    return torch.cat([g.flatten() for g in grads])


def slopes(value, pair):
    """The gradient by all of the pair's parameters, `(parameters,)`."""
    params = list(pair.parameters())
    found = torch.autograd.grad(value, params, retain_graph=True, allow_unused=True)
    return flat(torch.zeros_like(p) if g is None else g for p, g in zip(params, found, strict=True))


@pytest.mark.parametrize("layers", [(3,), (4, 2), (3, 2, 2)])
def test_the_exact_likelihood_and_its_gradient(layers):
    """The enumerated bounds of one draw: log p(x) itself, and the exact ELBO."""
    pair, x = machine(layers), rows()
    p, q = densities(pair, x)
    torch.testing.assert_close(q.exp().sum(0), torch.ones(len(x)))
    exact = {
        IWAE(1, "enumerate"): -p.logsumexp(0).mean(),
        ELBO(gradient="enumerate"): -(q.exp() * (p - q)).sum(0).mean(),
    }
    for objective, expected in exact.items():
        loss = objective(pair.model, pair.guide, x)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(slopes(loss, pair), slopes(expected, pair))


def test_all_data_have_a_probability_that_adds_up_to_one():
    pair = machine()
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=PIXELS)))
    p, _ = densities(pair, x)
    torch.testing.assert_close(p.exp().sum(), torch.ones(()))


def test_the_judges_bound_comes_to_the_exact_likelihood():
    pair, x = machine(scale=0.5), rows()
    exact = densities(pair, x)[0].logsumexp(0).detach()
    found = log_likelihood(pair.model, pair.guide, {"x": x}, 20_000, 0)
    torch.testing.assert_close(found.log_likelihood.double(), exact, atol=0.03, rtol=0)


def mean_and_error(objective, pair, x, times):
    """The mean gradient over many copies of the rows, and its standard error."""
    draws = torch.stack([slopes(objective(pair.model, pair.guide, x), pair) for _ in range(times)])
    return draws.mean(0), draws.std(0) / math.sqrt(times)


def exact_wake(pair, x):
    """-grad of E_posterior[log p(x, z) + log q(z | x)], what the wake phase tends to with K."""
    p, q = densities(pair, x)
    posterior = p.log_softmax(0).exp().detach()
    return slopes(-(posterior * (p + q)).sum(0).mean(), pair)


def test_the_wake_phase_tends_to_the_exact_gradient_with_particles():
    """Its model's half is -grad log p(x), its guide's that of KL(posterior || q)."""
    pair, x = machine(), rows(3)
    exact = exact_wake(pair, x)
    torch.manual_seed(0)
    apart = []
    for k, copies in ((2, 500), (20, 50), (1000, 1)):
        mean, error = mean_and_error(Wake(k), pair, x.repeat(copies, 1), 50)
        apart.append(float((mean - exact).norm()))
    assert apart[0] > 2 * apart[1] > 4 * apart[2]
    assert ((mean - exact).abs() < 4 * error + 1e-3).all()
    p, _ = densities(pair, x)
    whole, mine = slopes(-p.logsumexp(0).mean(), pair), model_part(pair)
    torch.testing.assert_close(exact[mine], whole[mine])


def model_part(pair):
    """Which entries of the flat gradient are the model's."""
    names = [(n, p.numel()) for n, p in pair.named_parameters()]
    return torch.cat(
        [torch.full((size,), n.startswith(("top", "down", "decoder"))) for n, size in names]
    )


def test_the_sleep_phase_is_enumerated_over_all_that_the_model_generates():
    """The mean of its gradient is that of -E_p log q(z | x), and the model has none."""
    pair = machine((2, 2))
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=PIXELS)))
    p, q = densities(pair, x)
    exact = slopes(-(p.exp().detach() * q).sum(), pair)
    torch.manual_seed(0)
    objective, many = Sleep(detached=True), x[:1].expand(2000, -1)
    mean, error = mean_and_error(objective, pair, many, 100)
    assert ((mean - exact).abs() < 4 * error + 1e-9).all()
    assert not mean[model_part(pair)].any()


def test_a_factorial_posterior_is_a_fixed_point_of_wake_sleep():
    """A model whose bits the data do not depend on: once q is p(z), neither phase moves on."""
    pair, x = machine((3,)), rows(1)
    with torch.no_grad():
        pair.decoder.net.last.weight.zero_()
        pair.decoder.net.last.bias.copy_(torch.logit(x.clamp(0.2, 0.8))[0])
        pair.encoder.net.last.weight.zero_()
        pair.encoder.net.last.bias.copy_(pair.top)
    p, q = densities(pair, x)
    torch.testing.assert_close(p.log_softmax(0), q)
    guide, model = ~model_part(pair), model_part(pair)
    # The wake phase with one draw from the posterior is the exact gradient of the likelihood.
    exact = slopes(-p.logsumexp(0).mean(), pair)
    awake = slopes(-(q.exp().detach() * p).sum(0).mean(), pair)
    torch.testing.assert_close(awake[model], exact[model])
    every_x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=PIXELS)))
    p, q = densities(pair, every_x)
    asleep = slopes(-(p.exp().detach() * q).sum(), pair)
    torch.testing.assert_close(asleep[guide], torch.zeros(int(guide.sum())))
    # And of Wake(K) the weights are all alike, so that its guide learns nothing either.
    phases = Phases(pair.model, pair.guide, (x,), particles=7)
    torch.testing.assert_close(phases.awake.log_weight(), p_of(x, pair).expand(7, 1))


def p_of(x, pair):
    return densities(pair, x)[0].logsumexp(0)


@pytest.mark.parametrize("gradient", ["score", "vimco", "disarm"])
@pytest.mark.parametrize("name", ["elbo", "iwae"])
def test_estimators_have_the_mean_of_enumeration(name, gradient):
    """Of layers of bits, over many draws; over all tuples in test_gradient_estimators.py."""
    pair, x = machine((2, 2), seed=1), rows(1)
    k = 2
    p, q = densities(pair, x)
    w, share = (p - q)[:, 0], q[:, 0]
    if name == "elbo":
        exact = -(share.exp() * w).sum()
    else:
        pairs = torch.logaddexp(w[:, None], w) - math.log(2)
        exact = -((share[:, None] + share).exp() * pairs).sum()
    objective = ELBO(particles=k, gradient=gradient) if name == "elbo" else IWAE(k, gradient)
    torch.manual_seed(0)
    mean, error = mean_and_error(objective, pair, x.expand(500, -1), 150)
    expected = slopes(exact, pair)
    assert ((mean - expected).abs() < 4 * error + 1e-9).all()


@pytest.mark.parametrize("name", ROWS)
def test_traced_steps_are_the_eager_ones(name):
    found = []
    for mode in ("off", "trace"):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        pair, x = machine((3, 2)), rows(9)
        optim = partial(torch.optim.SGD, lr=0.1)
        svi = SVI(pair.model, pair.guide, optim, RECIPES[name].objective(), compile=mode)
        pyro.set_rng_seed(1)
        losses = torch.stack([svi.step(x=x) for _ in range(4)])
        found.append((losses, *(p.detach() for p in pair.parameters())))
        assert svi.engine == {"off": "eager", "trace": "traced"}[mode]
    torch.testing.assert_close(*found, atol=1e-10, rtol=0)


def test_what_a_machine_refuses():
    for layers in ((), (3, 0)):
        with pytest.raises(ValueError, match="layers"):
            HelmholtzMachine(layers)
    pair = machine()
    with pytest.raises(ValueError, match="no reparameterised samples"):
        ELBO()(pair.model, pair.guide, rows())
    deep = HelmholtzMachine((5, 4), hidden=(7,))
    deep.build(rows())
    assert deep.down[0].net.hidden == (7,)
    with pytest.raises(ValueError, match=r"combinations of values .* more than the 4,096"):
        ELBO(gradient="enumerate")(*programs(HelmholtzMachine((13,))), rows())


def programs(pair):
    return pair.model, pair.guide
