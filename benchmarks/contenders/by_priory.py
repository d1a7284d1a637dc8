"""Priory's SVI, eager or by a graph."""

from __future__ import annotations

import functools

import torch

from benchmarks.cases import PENALTY, RATE, Case
from benchmarks.contenders.base import Contender, Missing
from priory.divergences import mmd
from priory.inference import ELBO, IWAE, SVI, Match, Objective, Reconstruction
from priory.inference.phases.precision import Precision
from priory.likelihoods import Normal
from priory.models import VAE
from priory.nets import MLP, Conv, Deconv


def pair(case: Case) -> VAE:
    """Return the case's pair, not yet built."""
    if case.conv:
        options = {"channels": case.channels, "hidden": case.hidden}
        nets = Conv(**options), Deconv(**options)
    else:
        nets = tuple(MLP((case.hidden, case.hidden), "tanh") for _ in range(2))
    likelihood = Normal(1.0) if case.loss == "wae" else "bernoulli"
    return VAE("normal", *nets, likelihood, case.latent)


def objective(case: Case) -> Objective:
    """Return the case's objective."""
    if case.loss == "elbo":
        return ELBO()
    if case.loss == "iwae":
        return IWAE(case.particles)
    return Reconstruction() + PENALTY * Match(mmd, "z")


def contender(
    case: Case, device: torch.device, mode: str, precision: Precision = "float32"
) -> Contender:
    """Return Priory's SVI.

    Args:
        case: what is trained.
        device: where the parameters live.
        mode: how steps are run: `compile` of `SVI`.
        precision: of the nets: `precision` of `SVI`.

    Raises:
        Missing: if this machine can't run steps so.
    """
    if mode == "cudagraph" and device.type != "cuda":
        raise Missing("graphs of CUDA kernels need a CUDA device")
    if precision == "bf16" and not has_bfloat16(device):
        raise Missing("this processor has no products in bfloat16")
    trained = pair(case)
    x = case.batches(1, device)[0]
    trained.build(x)
    trained.decoder.net.set_bias(torch.zeros(1, *case.shape, device=device))  # as the others start
    optimiser = functools.partial(torch.optim.Adam, lr=RATE, fused=True)
    options = {"compile": mode, "precision": precision}
    svi = SVI(trained.model, trained.guide, optimiser, objective(case), **options)
    return Contender(svi.step, constant=normaliser(case))


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16 by instructions of its own."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # as torch finds them out
    return any(getattr(torch.cpu, name, bool)() for name in names)


def normaliser(case: Case) -> float:
    """Return the constant of the Normal pixels' density, which hand-written losses leave out."""
    return 0.5 * float(torch.log(torch.tensor(2 * torch.pi))) * case.pixels * (case.loss == "wae")
