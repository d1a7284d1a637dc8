"""fit: the one loop that trains every pair."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import pyro
import torch
from torch import nn

from priory.config import to_config
from priory.data import Data
from priory.inference.arguments import Program, bind
from priory.inference.loop import Loop
from priory.inference.objectives import ELBO, Objective
from priory.inference.progress import Progress
from priory.inference.randomness import own_randomness
from priory.inference.run import Pair, Run
from priory.inference.schedules import Cosine, Schedule
from priory.inference.svi import SVI


def fit(
    pair: Any,
    objective: Any = None,
    data: Data | None = None,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    lr: float = 1e-3,
    schedule: Schedule | Literal["constant", "cosine"] = "constant",
    optim: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    clip: float | None = None,
    ema: float | None = None,
    patience: int | None = None,
    valid_every: int = 1,
    valid_particles: int = 16,
    seed: int = 0,
    device: str = "auto",
    check: bool = True,
    compile: Literal["off", "trace", "inductor"] = "off",
    progress: bool | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """Train a pair by an objective on data.

    The pair's parameters live in a parameter store of their own, and the global random state is
    left as it was: two fits in one process do not touch each other.

    Args:
        pair: a module with `model` and `guide`, or a tuple of two Pyro callables.
        objective: an `Objective`, one of Pyro's ELBOs or a callable; `ELBO()` by default.
        data: what to train on; each program gets the columns that its signature names.
        epochs: passes over the training rows; 20 if neither `epochs` nor `steps` is given.
        steps: training steps, in place of epochs.
        batch_size: rows a step; a shorter last batch of an epoch is left out.
        lr: learning rate at the start.
        schedule: a schedule of a factor on `lr`, or its name; "cosine" falls to 1% of `lr` over
            the whole run.
        optim: a torch optimiser's class or `functools.partial`, called with `lr`.
        clip: largest global norm of the gradient.
        ema: decay of a moving average of the weights, by which the run is evaluated and which it
            ends with.
        patience: stop after so many evaluations without a better validation bound, and answer the
            best weights.
        valid_every: epochs between evaluations of the validation bound; 0 for none.
        valid_particles: K of the validation bound.
        seed: seed of initial weights, order of the data, and all draws.
        device: "auto" is CUDA where there is one; else any torch device.
        check: whether to look at the pair before the first step; see `SVI`.
        compile: how steps are run; see `SVI`. "inductor" repays itself in runs of minutes.
        progress: whether to show a progress bar; by default if the output is a terminal.
        on_epoch: called with each epoch's row of the history.

    Returns:
        The trained run.

    Raises:
        ValueError: if an option is out of range, the pair does not fit itself or the data, a
            trainable parameter gets no gradient, or the loss is not finite.

    Example:
        >>> from priory.models import VAE
        >>> run = fit(VAE(latent=2), ELBO(), Data.named("digits"), steps=2)
        >>> len(run.history)
        1
    """
    if data is None:
        raise ValueError("fit needs data, for instance Data.named('digits')")
    options = {
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "schedule": to_config(schedule),
        "optim": to_config(optim),
        "clip": clip,
        "ema": ema,
        "patience": patience,
        "valid_every": valid_every,
        "valid_particles": valid_particles,
        "seed": seed,
        "device": str(device),
        "compile": compile,
    }
    check_options(options)
    objective = ELBO() if objective is None else objective
    pair = Pair(*pair) if isinstance(pair, tuple) else pair
    where = pick_device(device)
    data = data.to(where)
    size = min(batch_size, len(data.train))
    total = steps or len(data.train) // size * (20 if epochs is None else epochs)
    with (
        pyro.get_param_store().scope() as state,
        own_randomness(where, seed),
        Progress(progress, total) as bar,
    ):
        prepare(pair, data, where)
        svi = SVI(
            *_programs(pair, objective),
            functools.partial(optim, lr=lr),
            objective,
            rate=Cosine(1.0, 0.01, total) if schedule == "cosine" else _rate(schedule),
            clip=clip,
            ema=ema,
            check=check,
            compile=compile,
        )
        listeners = [bar.update, *([on_epoch] if on_epoch else [])]
        loop = Loop(pair, objective, data, svi, total, size, {**options, "check": check})
        history = loop.run(listeners)
    return Run(pair, objective, data, options, history, state)


def check_options(options: dict[str, Any]) -> None:
    """Raise one error that names every option of `fit` that is out of range.

    Raises:
        ValueError: with one line per fault.
    """
    least = {"epochs": 1, "steps": 1, "batch_size": 1, "patience": 1}
    least |= {"valid_every": 0, "valid_particles": 1, "seed": 0}
    faults = [
        f"{name} must be a whole number from {low}, got {options[name]!r}"
        for name, low in least.items()
        if options[name] is not None and (type(options[name]) is not int or options[name] < low)
    ]
    if not options["lr"] > 0:
        faults.append(f"lr must be positive, got {options['lr']!r}")
    if options["clip"] is not None and not options["clip"] > 0:
        faults.append(f"clip must be positive, got {options['clip']!r}")
    if options["ema"] is not None and not 0 < options["ema"] < 1:
        faults.append(f"ema must lie between 0 and 1, got {options['ema']!r}")
    if options["epochs"] is not None and options["steps"] is not None:
        faults.append("give epochs or steps, not both")
    if options["patience"] is not None and options["valid_every"] == 0:
        faults.append("patience needs the validation bound: valid_every must not be 0")
    if faults:
        raise ValueError("; ".join(faults))


def pick_device(device: str | torch.device) -> torch.device:
    """Answer the device of a name; "auto" is CUDA where there is one.

    Raises:
        ValueError: if there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        made = torch.device(device)
        torch.empty(0, device=made)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"no device {device!r} on this machine: {error}") from error
    return made


def prepare(pair: Any, data: Data, device: torch.device) -> None:
    """Build a lazy pair from the training rows, and move it to the device."""
    if hasattr(pair, "build"):
        pair.build(data.train.snapshot())
    if isinstance(pair, nn.Module):
        pair.to(device)


def _programs(pair: Any, objective: Any) -> tuple[Program, Program]:
    """Answer the pair's programs; other people's losses get them without surplus columns."""
    if isinstance(objective, Objective):
        return pair.model, pair.guide
    return _accepting(pair.model), _accepting(pair.guide)


def _accepting(program: Program) -> Program:
    @functools.wraps(program)
    def run(**columns: Any) -> Any:
        return program(**bind(program, columns))

    return run


def _rate(schedule: Any) -> Schedule | None:
    if isinstance(schedule, Schedule):
        return schedule
    if schedule != "constant":
        raise ValueError(f"schedule must be 'constant', 'cosine' or a Schedule, got {schedule!r}")
    return None
