"""The whole idea with torch and Pyro alone: a pair of programs, seen awake and asleep.

awake:   x ~ data, z ~ q(z | x)    the guide reads data, the model is replayed on its latents
asleep:  z, x ~ p(x, z)            the model is sampled, the guide replayed on its sample
"""

import math

import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from sklearn.datasets import load_digits
from torch import nn

LATENT = 8


def mlp(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 128), nn.Tanh(), nn.Linear(128, outputs))


def model(nets, x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=nets.decoder(z)).to_event(1), obs=x)


def guide(nets, x):
    with pyro.plate("data", len(x)):
        loc, log_scale = nets.encoder(x).chunk(2, -1)
        pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def awake(nets, x, detach=False):
    q = poutine.trace(guide).get_trace(nets, x)
    if detach:
        q.detach_()
    return poutine.trace(poutine.replay(model, trace=q)).get_trace(nets, x), q


def asleep(nets, x):
    p = poutine.trace(poutine.uncondition(model)).get_trace(nets, x)
    return p, poutine.trace(poutine.replay(guide, trace=p)).get_trace(nets, p.nodes["x"]["value"])


def log_prob(trace):
    trace.compute_log_prob()
    return sum(trace.nodes[site]["log_prob"] for site in ("z", "x") if site in trace.nodes)


def vae(nets, x):
    p, q = awake(nets, x)
    return -(log_prob(p) - log_prob(q)).mean()  # -E_q [log p(x, z) - log q(z | x)]


def wake_sleep(nets, x):
    (p, _), (_, q) = awake(nets, x, detach=True), asleep(nets, x)
    return -(log_prob(p) + log_prob(q)).mean()  # -E_q log p(x, z) - E_p log q(z | x)


@torch.no_grad()
def bound(nets, x, particles=50):
    draws = (awake(nets, x) for _ in range(particles))
    log_w = torch.stack([log_prob(p) - log_prob(q) for p, q in draws])
    return (log_w.logsumexp(0) - math.log(particles)).mean()  # log p(x) >= log 1/K sum_k p / q


train, test = torch.tensor(load_digits().data > 8, dtype=torch.float32).split(1500)
for loss in (vae, wake_sleep):
    pyro.set_rng_seed(0)
    nets = nn.ModuleDict({"encoder": mlp(64, 2 * LATENT), "decoder": mlp(LATENT, 64)})
    optimiser = torch.optim.Adam(nets.parameters(), lr=3e-3)
    print(f"{loss.__name__:10} log p(x) >= {bound(nets, test):6.2f} nats before, ", end="")
    for rows in torch.randint(len(train), (600, 100)):
        optimiser.zero_grad()
        loss(nets, train[rows]).backward()
        optimiser.step()
    print(f"{bound(nets, test):6.2f} after")
