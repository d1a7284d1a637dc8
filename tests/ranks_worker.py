"""One rank, or the one process it is compared with: trains by a loop written out by hand."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from priory.divergences import mmd
from priory.evaluation import evaluate
from priory.evaluation.likelihood.bound import log_likelihood
from priory.inference import ELBO, IWAE, Adversarial, Infuse, Match, Phases, Reconstruction, Steps
from priory.inference.distributed import ranks
from priory.inference.distributed.batchnorm import share_statistics
from priory.inference.distributed.launch import start
from priory.inference.distributed.noise import global_noise
from priory.models import Diffusion, FlowMatching, Infusion, VariationalWalkback
from priory.nets import TimeMLP

BATCH, STEPS = 12, 6


def shared(x):
    """This rank's rows of a global batch."""
    return x[ranks.rank() * ranks.each(len(x)) :][: ranks.each(len(x))].clone()


class Pair(nn.Module):
    """A VAE with dropout, BatchNorm, another law or a global latent where they are asked for."""

    def __init__(self, dropout=0.0, norm=False, distribution="normal", shared=False):
        super().__init__()
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.encoder = nn.Sequential(
            nn.Linear(5, 8, bias=not norm), self.norm, nn.Tanh(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(8, 4)
        self.decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(dropout))
        self.out = nn.Linear(8, 5)
        self.distribution = distribution
        self.shift = nn.Parameter(torch.zeros(3)) if shared else None

    def common(self, loc):
        """Draw what all data share."""
        if self.shift is not None:
            pyro.sample("w", dist.Normal(loc, 1.0).to_event(1))

    def model(self, x):
        pyro.module("pair", self)
        self.common(torch.ones(3))
        with pyro.plate("data", len(x)):
            gamma = dist.Gamma(torch.ones(2), 1.0).to_event(1)
            normal = dist.Normal(torch.zeros(2), 1.0).to_event(1)
            z = pyro.sample("z", gamma if self.distribution == "gamma" else normal)
            pyro.sample("x", dist.Normal(self.out(self.decoder(z)), 1.0).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("pair", self)
        self.common(self.shift)
        with pyro.plate("data", len(x)):
            loc, scale = self.head(self.encoder(x)).chunk(2, -1)
            gamma = dist.Gamma(loc.exp(), scale.exp()).to_event(1)
            normal = dist.Normal(loc, scale.exp()).to_event(1)
            pyro.sample("z", gamma if self.distribution == "gamma" else normal)


def critic():
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))


def chain(make, **options):
    """A chain, or a flow that matches a field, built for rows of five numbers."""
    pair = make(TimeMLP(8, 1), **options)
    pair.build(torch.randn(40, 5, generator=torch.Generator().manual_seed(2)))
    return pair


CASES = {
    "elbo": (Pair, ELBO),
    "iwae": (partial(Pair, dropout=0.3), partial(IWAE, 5)),
    "wae": (Pair, lambda: Reconstruction() + 10 * Gathered(mmd, "z")),
    "aae": (Pair, lambda: Reconstruction() + Adversarial(critic(), "z")),
    "norm": (partial(Pair, norm=True), ELBO),
    "global": (partial(Pair, shared=True), ELBO),
    "gamma": (partial(Pair, distribution="gamma"), ELBO),
    "steps": (partial(chain, Diffusion, timesteps=4, noise="cosine"), partial(Steps, "simple")),
    "whole": (partial(chain, Diffusion, timesteps=4, noise="cosine"), ELBO),
    "field": (partial(chain, FlowMatching), partial(Steps, "simple")),
    "infused": (partial(chain, Infusion, timesteps=4), Infuse),
    "walked": (partial(chain, VariationalWalkback, timesteps=4), ELBO),
}


class Gathered(Match):
    """A divergence between the sets of all ranks."""

    def loss(self, phases):
        return self.divergence(
            ranks.gather(phases.data("z").flatten(1)),
            ranks.gather(phases.sampled("z").flatten(1)),
        )


def train(name):
    """Answer every weight and buffer, and the losses, after some steps on global batches."""
    torch.manual_seed(0)
    make, aim = CASES[name]
    pair, objective = make(), aim()
    critics = [a.critic for a in objective.adversaries()]
    share_statistics(pair, *critics)
    players = [pair, *critics]
    optims = [torch.optim.Adam(p.parameters(), lr=0.01) for p in players]
    rows = torch.randn(STEPS, BATCH, 5, generator=torch.Generator().manual_seed(1))
    losses = []
    for x in rows:
        batch = {"x": shared(x)}
        pyro.clear_param_store()
        for adversary, optim in zip(objective.adversaries(), optims[1:], strict=True):
            step(
                lambda a=adversary, b=batch: a.critic_loss(Phases(pair.model, pair.guide, (), b)),
                optim,
                len(batch["x"]),
            )
        loss = step(
            lambda b=batch: objective(pair.model, pair.guide, **b), optims[0], len(batch["x"])
        )
        losses.append(loss)
    ranks.agree("the random state", ranks.random_states())
    ranks.agree("the weights", [p for player in players for p in player.parameters()])
    state = {f"{i}.{k}": v for i, p in enumerate(players) for k, v in p.state_dict().items()}
    return {**state, "losses": torch.stack(losses), "random state": torch.get_rng_state()}


def step(loss, optim, rows):
    with global_noise(rows):
        value = loss()
    value.backward()
    value = value.detach()
    gradients = [p.grad for g in optim.param_groups for p in g["params"]]
    ranks.average_([value, *gradients])
    optim.step()
    optim.zero_grad()
    return value


def traced(_):
    """Answer the draws of a traced function: its graph holds the global draw and the cut."""
    torch.manual_seed(0)
    x = torch.arange(BATCH * 2.0).view(BATCH, 2)

    def draw(x):
        with global_noise(len(x)):
            noise = nn.functional.dropout(torch.randn_like(x), 0.5) + torch.rand(len(x), 2)
            total = ranks.gather(x * noise).square().sum()
            return (noise, *torch.autograd.grad(total, x))

    own = shared(x).requires_grad_()
    graph = make_fx(draw)(own)
    torch.manual_seed(0)
    return dict(zip(("noise", "gradient"), graph(own), strict=True))


def helpers(_):
    """Answer what the small functions say."""
    mine = torch.tensor([float(ranks.rank())])
    ranks.broadcast_([mine])
    order = []
    with ranks.main_first():
        order.append(ranks.rank())
    told = {"any": ranks.any_rank(ranks.rank() == 1), "broadcast": mine, "each": ranks.each(BATCH)}
    for name, call in {
        "uneven": lambda: ranks.each(BATCH + 1),
        "drifted": lambda: ranks.agree("the random state", [torch.tensor(ranks.rank())]),
    }.items():
        try:
            call()
        except (ValueError, RuntimeError) as error:
            told[name] = str(error)
    with warnings.catch_warnings(record=True) as caught, global_noise(2):
        warnings.simplefilter("always")
        nn.BatchNorm1d(3)(torch.randn(2, 3))
    return {**told, "warned": [str(w.message) for w in caught]}


def judge(_):
    """Answer a report's numbers; K and the block need several blocks on each rank."""
    torch.manual_seed(0)
    pair, x = Pair(), torch.randn(101, 5)
    bounds = log_likelihood(pair.model, pair.guide, x, particles=50, block=(7, 9))
    first = pair.guide

    def narrow(x):
        if ranks.rank() == ranks.world() - 1 and len(x) > 5:
            raise torch.OutOfMemoryError("a device that holds 5 rows")
        return first(x)

    shrunk = log_likelihood(pair.model, narrow, x, particles=50, block=(7, 9))
    report = evaluate(pair, x, particles=50)
    return {
        "bounds": list(bounds),
        "shrunk": list(shrunk),
        "report": {r.name: (r.value, r.se) for r in report.records},
    }


def fail(how):
    """Take steps until rank 1 fails; the main rank keeps count."""
    for number in range(1000):
        gradient = torch.full((3,), float(ranks.rank()))
        if ranks.rank() == 1 and number == 3:
            if how == "raise":
                raise ValueError("the third batch is bad")
            if how == "hang":
                time.sleep(600)
            os.kill(os.getpid(), signal.SIGKILL)
        ranks.average_([gradient])


def main(out, *names):
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    with start(quiet=True):
        if names[0] in ("raise", "kill", "hang"):
            fail(names[0])
        own = {"traced": traced, "helpers": helpers, "judge": judge}
        results = {name: own.get(name, train)(name) for name in names}
        print("trained")
        torch.save(results, Path(out) / f"{ranks.rank()}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
