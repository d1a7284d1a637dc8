"""Pyro's own SVI, as its tutorial writes it."""

from __future__ import annotations

import itertools
import warnings

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import JitTrace_ELBO, RenyiELBO, Trace_ELBO
from torch import Tensor

from benchmarks.cases import RATE, Case
from benchmarks.contenders.base import Contender, Missing
from benchmarks.contenders.nets import decoder, encoder

COUNT = itertools.count()


def contender(
    case: Case, device: torch.device, validation: bool = True, jit: bool = False
) -> Contender:
    """Return `pyro.infer.SVI` with Pyro's Adam.

    Args:
        case: what is trained.
        device: where the parameters live.
        validation: whether Pyro's checks are on.
        jit: whether the loss is `JitTrace_ELBO`.

    Raises:
        Missing: if Pyro has no such loss.
    """
    if case.loss == "wae":
        raise Missing("Pyro's Trace_MMD compares particles, not the batch's latents")
    if case.loss == "iwae" and jit:
        raise Missing("Pyro's RenyiELBO has no jitted form")
    name = f"net {next(COUNT)}"
    encode, decode = encoder(case).to(device), decoder(case).to(device)
    event = len(case.shape)

    def model(x: Tensor) -> None:
        pyro.module(f"{name} decoder", decode)
        with pyro.plate("data", len(x)):
            zeros = x.new_zeros(len(x), case.latent)
            z = pyro.sample("z", dist.Normal(zeros, torch.ones_like(zeros)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(event), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module(f"{name} encoder", encode)
        with pyro.plate("data", len(x)):
            loc, log_scale = encode(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    many = {"num_particles": case.particles, "vectorize_particles": True}
    if case.loss == "iwae":
        loss = RenyiELBO(alpha=0, max_plate_nesting=1, **many)
    else:
        loss = JitTrace_ELBO(ignore_jit_warnings=True) if jit else Trace_ELBO()
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": RATE}), loss)

    def step(x: Tensor) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, by torch
            return svi.step(x)

    return Contender(step if jit else svi.step, size=case.batch, validation=validation)
