"""The time of one training step: Priory beside hand-written PyTorch and Pyro, in one process.

All train the VAE of Burda, Grosse and Salakhutdinov 2016 (Importance weighted autoencoders): 784
pixels, two tanh layers of 200 units either way, 50 Gaussian latents, Bernoulli pixels; batches of
128 random images, resident on the device. In each round every contender takes the same number of
steps, in a fresh order. A contender's time is the median over rounds; its ratio is the median of
the rounds' ratios to the faster of the two hand-written losses.

    python -m benchmarks.step --rounds 30 --steps 20 --threads 2
"""

import argparse
import functools
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro import distributions as dist
from pyro.infer import Trace_ELBO
from torch import Tensor, nn
from torch.nn import functional

from priory.inference import ELBO, SVI
from priory.models import VAE
from priory.nets import MLP

PIXELS, HIDDEN, LATENT, BATCH, RATE = 784, 200, 50, 128, 1e-3
RESULT = Path(__file__).parent / "results" / "step.json"


@dataclass(frozen=True)
class Contender:
    """One way of training the pair.

    Args:
        step: takes a batch (128, 784), answers the loss.
        size: the number of data that the loss sums over, 1 for a mean.
        validation: whether Pyro's and torch's checks are on, as they are by default.
        state: of Pyro's parameter store, one for each contender.
    """

    step: Callable[[Tensor], Tensor | float]
    size: int = 1
    validation: bool = True
    state: dict[str, Any] = field(default_factory=lambda: {"params": {}, "constraints": {}})


def net(inputs: int, outputs: int) -> nn.Sequential:
    """Two tanh layers, for encoder and decoder alike, started as Glorot and Bengio 2010 do."""
    layers = [nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, outputs)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


def by_hand(likelihood: Callable[[Tensor, Tensor], Tensor], device: torch.device) -> Contender:
    """Plain PyTorch, with the Gaussian KL in closed form.

    Args:
        likelihood: the negative log-likelihood of logits and pixels, summed.
        device: where the parameters live.
    """
    nets = nn.ModuleList([net(PIXELS, 2 * LATENT), net(LATENT, PIXELS)]).to(device)
    encoder, decoder = nets
    optimiser = torch.optim.Adam(nets.parameters(), lr=RATE, fused=True)

    def step(x: Tensor) -> Tensor:
        loc, log_scale = encoder(x).chunk(2, -1)
        scale = log_scale.exp()
        z = torch.addcmul(loc, scale, torch.randn_like(scale))
        kl = 0.5 * (loc.square() + scale.square() - 1).sum() - log_scale.sum()
        loss = (likelihood(decoder(z), x) + kl) / len(x)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return Contender(step)


def softplus(logits: Tensor, x: Tensor) -> Tensor:
    """Answer -log p(x), the sum of log(1 + e^logit) - x logit."""
    return functional.softplus(logits).sum() - torch.dot(logits.flatten(), x.flatten())


def cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    """Answer -log p(x) as torch has it."""
    return functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")


def by_pyro(name: str, validation: bool, device: torch.device) -> Contender:
    """Pyro's own SVI, as its tutorial writes it.

    Args:
        name: of the nets in the parameter store.
        validation: whether checks are on.
        device: where the parameters live.
    """
    encoder, decoder = net(PIXELS, 2 * LATENT).to(device), net(LATENT, PIXELS).to(device)

    def model(x: Tensor) -> None:
        pyro.module(f"{name} decoder", decoder)
        with pyro.plate("data", len(x)):
            zeros = x.new_zeros(len(x), LATENT)
            z = pyro.sample("z", dist.Normal(zeros, torch.ones_like(zeros)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module(f"{name} encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": RATE}), Trace_ELBO())
    return Contender(svi.step, size=BATCH, validation=validation)


def by_priory(x: Tensor, compile: str) -> Contender:
    """Priory's SVI.

    Args:
        x: a batch (128, 784) to build the pair with.
        compile: how steps are run, as `SVI` has it.
    """
    pair = VAE(
        encoder=MLP((HIDDEN, HIDDEN), "tanh"),
        decoder=MLP((HIDDEN, HIDDEN), "tanh"),
        likelihood="bernoulli",
        latent=LATENT,
    )
    pair.build(x)
    optimiser = functools.partial(torch.optim.Adam, lr=RATE, fused=True)
    svi = SVI(pair.model, pair.guide, optimiser, ELBO(), compile=compile)
    return Contender(svi.step)


def seconds(contender: Contender, batches: Iterable[Tensor], device: torch.device) -> float:
    """Time a step, averaged over some batches."""
    batches = list(batches)
    store = pyro.get_param_store()
    with pyro.validation_enabled(contender.validation), store.scope(contender.state):
        synchronise(device)
        start = time.perf_counter()
        for x in batches:
            contender.step(x)
        synchronise(device)
        return (time.perf_counter() - start) / len(batches)


def synchronise(device: torch.device) -> None:
    """Wait for a device that works asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def check_same_work(contenders: dict[str, Contender], x: Tensor) -> None:
    """Raise RuntimeError if some contender's loss per datum is another than the rest's."""
    losses = {}
    for name, contender in contenders.items():
        with pyro.get_param_store().scope(contender.state):
            losses[name] = float(contender.step(x)) / contender.size
    middle = statistics.median(losses.values())
    if any(abs(loss - middle) > 0.05 * abs(middle) for loss in losses.values()):
        raise RuntimeError(f"the contenders' losses differ by more than 5%: {losses}")


def measure(rounds: int, steps: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds per step of every contender in every round.

    Args:
        rounds: how often every contender has its turn.
        steps: training steps per turn.
        device: where everything lives.
    """
    pyro.set_rng_seed(0)
    x = torch.rand(steps, BATCH, PIXELS, device=device).round()
    contenders = {
        "priory": by_priory(x[0], "off"),
        "priory, traced": by_priory(x[0], "trace"),
        "priory, compiled": by_priory(x[0], "inductor"),
        "torch, softplus": by_hand(softplus, device),
        "torch, cross entropy": by_hand(cross_entropy, device),
        "pyro": by_pyro("validated", True, device),
        "pyro, no validation": by_pyro("bare", False, device),
    }
    check_same_work(contenders, x[0])
    for contender in contenders.values():
        seconds(contender, x, device)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order, shuffle = list(contenders), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            times[name].append(seconds(contenders[name], x, device))
    return times


def hardware(device: torch.device) -> str:
    """Name the processor and the versions that a time belongs to."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((s.partition(": ")[2] for s in lines if s.startswith("model name")), model)
    if device.type == "cuda":
        model = f"{torch.cuda.get_device_name(device)}, {model}"
    return (
        f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, pyro {pyro.__version__}"
    )


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=30, help="turns of every contender")
    parser.add_argument("--steps", type=int, default=20, help="training steps per turn")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--json", type=Path, default=RESULT, help="the file to write")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    times = measure(options.rounds, options.steps, options.device)
    peer = min(
        (n for n in times if n.startswith("torch")), key=lambda n: statistics.median(times[n])
    )
    rows = [
        {
            "contender": name,
            "milliseconds": 1e3 * statistics.median(values),
            "ratio": statistics.median(a / b for a, b in zip(values, times[peer], strict=True)),
            "seconds": values,
        }
        for name, values in times.items()
    ]
    place = hardware(options.device)
    print(f"{place}\n{options.rounds} rounds of {options.steps} steps; ratio to {peer}\n")
    print(f"{'':22}{'ms per step':>12}{'ratio':>8}")
    for row in rows:
        print(f"{row['contender']:22}{row['milliseconds']:12.3f}{row['ratio']:8.2f}")

    options.json.parent.mkdir(parents=True, exist_ok=True)
    result = {"hardware": place, "rounds": options.rounds, "steps": options.steps, "peer": peer}
    options.json.write_text(json.dumps(result | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
