"""Plain PyTorch, as one writes it for this one case."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.cases import PENALTY, RATE, Case
from benchmarks.contenders.base import Contender, Missing
from benchmarks.contenders.nets import decoder, encoder

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def contender(case: Case, device: torch.device, mode: str) -> Contender:
    """Return a loop written by hand, with torch's fused Adam.

    Args:
        case: what is trained.
        device: where the parameters live.
        mode: "eager"; "compiled", with the loss under `torch.compile`; or "graph", the whole step
            captured as one CUDA graph.

    Raises:
        Missing: if this machine can't run steps so.
    """
    if mode == "graph" and device.type != "cuda":
        raise Missing("graphs of CUDA kernels need a CUDA device")
    nets = nn.ModuleList([encoder(case), decoder(case)]).to(device)
    options = {"capturable": True} if mode == "graph" else {}
    optimiser = torch.optim.Adam(nets.parameters(), lr=RATE, fused=True, **options)
    loss = LOSSES[case.loss](case, *nets)
    if mode == "compiled":
        loss = torch.compile(loss)

    def step(x: Tensor) -> Tensor:
        value = loss(x)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()
        return value.detach()

    return Contender(captured(step, case, device) if mode == "graph" else step)


def captured(
    step: Callable[[Tensor], Tensor], case: Case, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Return the step as one CUDA graph; three steps are taken on the way."""
    x = case.batches(1, device)[0]
    aside = torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(3):
            step(x)
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step(x)

    def replay(batch: Tensor) -> Tensor:
        x.copy_(batch)
        graph.replay()
        return loss

    return replay


Loss = Callable[[Tensor], Tensor]


def elbo(case: Case, encode: nn.Module, decode: nn.Module) -> Loss:
    """Return the negative ELBO with the Gaussian KL in closed form."""

    def loss(x: Tensor) -> Tensor:
        loc, log_scale = encode(x).chunk(2, -1)
        scale = log_scale.exp()
        logits = decode(torch.addcmul(loc, scale, torch.randn_like(scale)))
        kl = 0.5 * (loc.square() + scale.square() - 1).sum() - log_scale.sum()
        pixels = functional.softplus(logits).sum() - torch.dot(logits.flatten(), x.flatten())
        return (pixels + kl) / case.batch

    return loss


def iwae(case: Case, encode: nn.Module, decode: nn.Module) -> Loss:
    """Return the negative importance-weighted bound."""
    k = case.particles

    def loss(x: Tensor) -> Tensor:
        loc, log_scale = encode(x).chunk(2, -1)
        noise = torch.randn(k, *loc.shape, device=x.device)
        z = torch.addcmul(loc, log_scale.exp(), noise)
        logits = decode(z)
        pixels = (x * logits).sum(-1) - functional.softplus(logits).sum(-1)
        log_weight = pixels + 0.5 * (noise.square() - z.square()).sum(-1) + log_scale.sum(-1)
        return math.log(k) - log_weight.logsumexp(0).mean()

    return loss


def wae(case: Case, encode: nn.Module, decode: nn.Module) -> Loss:
    """Return half the squared error plus the unbiased MMD by inverse multiquadratics."""
    n = case.batch

    def loss(x: Tensor) -> Tensor:
        loc, log_scale = encode(x).chunk(2, -1)
        z = torch.addcmul(loc, log_scale.exp(), torch.randn_like(loc))
        error = 0.5 * (x - decode(z)).square().sum() / n
        both = torch.cat([z, torch.randn_like(z)])
        norms = both.square().sum(1)
        squares = (norms[:, None] + norms - 2 * both @ both.mT).clamp(min=0)
        base = 2 * case.latent
        kernel = sum(c * base / (c * base + squares) for c in SCALES)
        own = kernel[:n, :n].sum() + kernel[n:, n:].sum() - kernel.diagonal().sum()
        return error + PENALTY * (own / (n * (n - 1)) - 2 * kernel[:n, n:].mean())

    return loss


LOSSES: dict[str, Callable[..., Loss]] = {"elbo": elbo, "iwae": iwae, "wae": wae}
