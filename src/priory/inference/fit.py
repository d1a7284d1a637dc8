"""fit: the one loop that trains every pair."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import pyro
import torch
from torch import nn

from priory.data import Data
from priory.inference.checkpoints.folders import Resume
from priory.inference.checkpoints.keeper import keeping
from priory.inference.distributed import ranks
from priory.inference.distributed.launch import check_device, start
from priory.inference.engine.tracing import Mode
from priory.inference.loop import Loop, stateful
from priory.inference.objectives.base import Objective
from priory.inference.objectives.bounds import ELBO
from priory.inference.objectives.schedules import Cosine, Schedule
from priory.inference.options import check_options
from priory.inference.phases.alone import alone
from priory.inference.phases.arguments import Program, bind, build
from priory.inference.phases.precision import Precision
from priory.inference.progress import Progress
from priory.inference.randomness import own_randomness
from priory.inference.run import Pair, Run, described
from priory.inference.selection import Criterion
from priory.inference.support import check_compared
from priory.inference.svi import SVI
from priory.serialisation import to_config


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
    best: Criterion | None = None,
    patience: int | None = None,
    valid_every: int = 1,
    valid_particles: int = 16,
    watch: bool = True,
    snapshot_every: int = 0,
    seed: int = 0,
    device: str = "auto",
    check: bool = True,
    compile: Mode = "auto",
    precision: Precision = "float32",
    skip_nonfinite: int = 0,
    folder: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    keep: int = 2,
    resume: Resume = False,
    inexact: bool = False,
    overwrite: bool = False,
    progress: bool | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """Train a pair by an objective on data.

    The pair's parameters live in a parameter store of their own, and the global random state is
    left as it was: two fits in one process do not touch each other. In two threads the second
    waits for the first, as Pyro's handlers are the process's own. With a `folder`, nothing is lost:
    checkpoints are written into it, and what was killed at any step goes on by `resume` to the
    same bits as if it had not been.

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
        optim: a torch optimiser's class or `functools.partial`, called with `lr`; a partial's own
            `lr` must be the same.
        clip: largest global norm of the gradient.
        ema: decay of a moving average of the pair's weights, by which the run is evaluated and
            which it ends with; buffers, such as running means, are taken as they are.
        best: return the weights that are the best by a metric of the validation rows, looked at
            with each evaluation; without it, and without patience, those of the last step.
        patience: stop after so many evaluations without a better value of `best`, or without it a
            better validation bound, and return the best weights.
        valid_every: epochs between evaluations; 0 for none.
        valid_particles: K of the validation bound.
        watch: whether to look at adversarial training with the evaluations, and warn
            when samples collapse or a critic has won.
        snapshot_every: epochs between snapshots of the same samples (the same noise), at the start
            and the end too; 0 for none.
        seed: seed of initial weights, order of the data, and all draws.
        device: "auto" is CUDA where there is one; else any torch device.
        check: whether to look at the pair before the first step; see `SVI`.
        compile: how steps are run; see `SVI`. "auto" looks at the number of steps alone, so that
            the same run is always run the same way. A term with a state of its own, which no graph
            can keep, is run eager.
        precision: of the nets; see `SVI`.
        skip_nonfinite: how many steps whose loss or gradient is NaN or infinite may be passed
            over; the history counts them.
        folder: where the run is kept, locked against a second one, from its beginning on.
        checkpoint_every: seconds between checkpoints; 0 for one after every step. One is written at
            the end and, before the process stops, at SIGINT, SIGTERM and SIGHUP too.
        keep: checkpoints that stay.
        resume: go on from the folder's newest checkpoint that is whole; "auto" begins anew where
            there is none. Only epochs or steps may have changed.
        inexact: resume on another device, thread count or version too, not bit for bit.
        overwrite: remove the run that is in the folder.
        progress: whether to show a progress bar; by default if the output is a terminal.
        on_epoch: called with each epoch's row of the history.

    Returns:
        The trained run.

    Raises:
        ValueError: if an option is out of range, the pair does not fit itself or the data, a
            trainable parameter gets no gradient, a loss or gradient is NaN or infinite, the folder
            is in use, or its run is another one or damaged.
        OSError: if the folder holds something else, cannot be written, or has no run to resume.
        MemoryError: if the memory does not suffice for a step.
        KeyboardInterrupt: after Ctrl-C; with a folder, once the step is done and saved. A second
            one is obeyed at once.
        SystemExit: with 128 + n after SIGTERM or SIGHUP, likewise.

    Example:
        >>> from priory.models import VAE
        >>> run = fit(VAE(latent=2), ELBO(), Data.named("digits"), steps=2)
        >>> len(run.history)
        1
    """
    if not isinstance(data, Data):
        raise ValueError(
            "fit needs data, for instance Data.named('digits') or Data.from_arrays(...), got "
            f"{'none' if data is None else type(data).__name__}"
        )
    options: dict[str, Any] = {
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "schedule": to_config(schedule),
        "optim": to_config(optim),
        "clip": clip,
        "ema": ema,
        "best": to_config(best),
        "patience": patience,
        "valid_every": valid_every,
        "valid_particles": valid_particles,
        "watch": watch,
        "snapshot_every": snapshot_every,
        "seed": seed,
        "device": str(device),
        "compile": compile,
        "precision": precision,
        "skip_nonfinite": skip_nonfinite,
    }
    given = {**options, "best": best, "schedule": schedule, "optim": optim, "device": device}
    given |= {"check": check, "checkpoint_every": checkpoint_every, "keep": keep, "folder": folder}
    given |= {"resume": resume, "inexact": inexact, "overwrite": overwrite, "on_epoch": on_epoch}
    plain = check_options({**given, "progress": progress})
    described_by = ("best", "schedule", "optim", "device")
    options |= {name: plain[name] for name in options if name not in described_by}
    with alone(), start():
        objective = ELBO() if objective is None else objective
        pair = Pair(*pair) if isinstance(pair, tuple) else pair
        where = pick_device(device)
        data = data.to(where)
        size = min(plain["batch_size"], len(data.train))
        ranks.each(size)
        check_device(where)
        passes = 20 if epochs is None else plain["epochs"]
        total = plain["steps"] or len(data.train) // size * passes
        kept: Any = nullcontext()
        if folder is not None:
            kept = keeping(
                folder,
                every=checkpoint_every,
                keep=plain["keep"],
                resume=resume,
                overwrite=overwrite,
            )
        with (
            kept as keeper,
            pyro.get_param_store().scope() as state,
            own_randomness(where, plain["seed"]),
            Progress(progress if ranks.is_main() else False, total) as bar,
        ):
            check_compared(objective, data.train.columns)
            prepare(pair, data, where)
            svi = SVI(
                *_programs(pair, objective),
                functools.partial(optim, lr=plain["lr"]),
                objective,
                rate=_rate(schedule, total),
                clip=plain["clip"],
                ema=plain["ema"],
                check=check,
                compile="off" if any(True for _ in stateful(objective)) else compile,
                horizon=total,
                precision=precision,
                skip=plain["skip_nonfinite"],
                tell=bar.tell,
            )
            loop = Loop(
                pair,
                objective,
                data,
                svi,
                total,
                size,
                {**options, "check": check},
                keeper,
                criterion=best,
                tell=bar.tell,
            )
            loop.prepare()
            listeners = [bar.update, *([on_epoch] if on_epoch else [])]
            if keeper is None:
                loop.run(listeners)
            else:
                config = described(pair, objective, data, options)
                keeper.run(loop, config, listeners, resume=resume, inexact=inexact)
        taken = loop.evaluations.snapshots.taken
        return Run(pair, objective, data, options, loop.history, state, taken)


def pick_device(device: str | torch.device) -> torch.device:
    """Return the device of a name; "auto" is CUDA where there is one.

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
        build(pair, data.train.resident().snapshot(), data.train.columns)
    if isinstance(pair, nn.Module):
        pair.to(device)


def _programs(pair: Any, objective: Any) -> tuple[Program, Program]:
    """Return the pair's programs; other people's losses get them without surplus columns."""
    if isinstance(objective, Objective):
        return pair.model, pair.guide
    return _accepting(pair.model), _accepting(pair.guide)


def _accepting(program: Program) -> Program:
    @functools.wraps(program)
    def run(**columns: Any) -> Any:
        return program(**bind(program, columns))

    return run


def _rate(schedule: Any, total: int) -> Schedule | None:
    if isinstance(schedule, Schedule):
        return schedule
    return Cosine(1.0, 0.01, total) if schedule == "cosine" else None
