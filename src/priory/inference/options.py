"""The options of a training run: what they are, and what they may be."""

from __future__ import annotations

import inspect
import math
import numbers
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import torch
from pyro.optim import PyroOptim

from priory.inference.callback import Callback
from priory.inference.checkpoints.folders import Resume
from priory.inference.engine.tracing import Mode
from priory.inference.loggers import Logger, as_loggers
from priory.inference.objectives.schedules import NAMES, Schedule, named_schedule
from priory.inference.phases.precision import Precision
from priory.inference.selection import Criterion
from priory.inference.stage import Stage
from priory.serialisation import to_config

_LEAST = {
    "epochs": 1,
    "steps": 1,
    "batch_size": 1,
    "patience": 1,
    "valid_every": 0,
    "keep": 2,
    "valid_particles": 1,
    "seed": 0,
    "skip_nonfinite": 0,
    "skip": 0,
    "snapshot_every": 0,
}
_WORDS: dict[str, tuple[Any, ...]] = {
    "compile": get_args(Mode),
    "precision": get_args(Precision),
    "resume": (False, True, "auto"),
    "progress": (None, False, True),
    **dict.fromkeys(("watch", "check", "inexact", "overwrite"), (False, True)),
}
_OPTIONAL = {"epochs", "steps", "patience", "clip", "ema"}
_NOT_KEPT = {  # of no meaning to what a run is
    "check",
    "folder",
    "checkpoint_every",
    "keep",
    "resume",
    "inexact",
    "overwrite",
    "progress",
    "on_epoch",
    "log",
    "callbacks",
}


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The options of `fit`: each is a field, an argument of `fit` and an option of `priory fit`.

    Args:
        epochs: passes over the training rows; 20 if neither `epochs` nor `steps` is given.
        steps: training steps, in place of epochs.
        batch_size: rows a step; a shorter last batch of an epoch is left out.
        lr: learning rate at the start.
        schedule: a schedule of a factor on `lr`, or its name; "cosine" falls to 1% of `lr` over
            the whole run, "linear" to 0.
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
            can keep, is run eager, and so are recurrent nets, of which a graph would hold every
            step apart.
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
        frozen: parts of the pair that are not trained, by the names of their attributes.
        stages: trainings of the same pair before this one; see `Stage`.
        progress: whether to show a progress bar; by default if the output is a terminal.
        on_epoch: called with each epoch's row of the history.
        log: loggers, or their names, with where they write after a colon: tensorboard,
            mlflow:http://host:5000. A run that is resumed goes on in the same logs.
        callbacks: called at the turns of the training; see `Callback`.
        recipe: name of the recipe that the run is begun by, for its description.

    Raises:
        ValueError: if options are out of range or contradict each other, naming each.

    Example:
        >>> FitOptions(lr=0.1).batch_size
        128
    """

    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 128
    lr: float = 1e-3
    schedule: Schedule | Literal["constant", "cosine", "linear"] = "constant"
    optim: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
    clip: float | None = None
    ema: float | None = None
    best: Criterion | None = None
    patience: int | None = None
    valid_every: int = 1
    valid_particles: int = 16
    watch: bool = True
    snapshot_every: int = 0
    seed: int = 0
    device: str = "auto"
    check: bool = True
    compile: Mode = "auto"
    precision: Precision = "float32"
    skip_nonfinite: int = 0
    folder: str | os.PathLike[str] | None = None
    checkpoint_every: float = 60.0
    keep: int = 2
    resume: Resume = False
    inexact: bool = False
    overwrite: bool = False
    frozen: Sequence[str] | None = None
    stages: Sequence[Stage] = ()
    progress: bool | None = None
    on_epoch: Callable[[dict[str, Any]], None] | None = None
    log: Sequence[Logger] = ()
    callbacks: Sequence[Callback] = ()
    recipe: str | None = None

    def __post_init__(self) -> None:
        for name, value in check_options(vars(self)).items():
            object.__setattr__(self, name, value)

    @property
    def config(self) -> dict[str, Any]:
        """What a run's configuration holds of them, as plain values; empty lists left out."""
        optional = ("frozen", "stages", "recipe")
        left_out = {*_NOT_KEPT, *(n for n in optional if not getattr(self, n))}
        return {
            f.name: str(self.device) if f.name == "device" else to_config(getattr(self, f.name))
            for f in fields(self)
            if f.name not in left_out
        }

    def of_stage(self, stage: Stage) -> FitOptions:
        """Return the options of a stage's training: its own, and what it shares with the run's.

        Args:
            stage: of this run.
        """
        none: dict[str, Any] = {"best": None, "patience": None, "snapshot_every": 0, "stages": ()}
        return replace(self, **stage.training, **none, frozen=stage.frozen)

    def total(self, batches: int) -> int:
        """Return the number of steps of the whole training.

        Args:
            batches: of an epoch.
        """
        return self.steps or batches * (20 if self.epochs is None else self.epochs)

    def schedule_over(self, total: int) -> Schedule | None:
        """Return the schedule of a factor on the learning rate.

        Args:
            total: steps of the whole training.
        """
        if isinstance(self.schedule, Schedule):
            return self.schedule
        return named_schedule(self.schedule, total)


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of `fit` as plain Python numbers, or raise one error that names all errors.

    Args:
        options: those that are to be looked at, by name; `best` and `optim` as objects, `schedule`
            as an object or a name.

    Raises:
        ValueError: with what was given and what is expected, one by one.
    """
    plain = {name: _plain(value) for name, value in options.items()}
    if isinstance(plain.get("log"), str):
        plain["log"] = (plain["log"],)
    errors = [*_counts(plain), *_numbers(plain), *_choices(plain), *_parts(plain), *_pairs(plain)]
    if errors:
        raise ValueError("; ".join(errors))
    return plain | ({"log": as_loggers(plain["log"])} if "log" in plain else {})


def _plain(value: Any) -> Any:
    """Return a number of NumPy or torch as Python's, anything else as it is."""
    foreign = isinstance(value, torch.Tensor) or type(value).__module__ == "numpy"
    return value.item() if foreign and getattr(value, "ndim", None) == 0 else value


def _counts(options: Mapping[str, Any]) -> Iterator[str]:
    for name, low in _LEAST.items():
        value = options.get(name, low)
        if value is None and name in _OPTIONAL:
            continue
        if type(value) is not int or value < low:
            yield f"{name} must be an integer from {low}, got {value!r}"


def _numbers(options: Mapping[str, Any]) -> Iterator[str]:
    rules: dict[str, tuple[Callable[[float], bool], str]] = {
        "checkpoint_every": (lambda v: v >= 0, "0 or more"),
        "lr": (lambda v: 0 < v < math.inf, "positive"),
        "clip": (lambda v: v > 0, "positive"),
    }
    for name, (holds, words) in rules.items():
        value = options.get(name, 1)
        if not (value is None and name in _OPTIONAL) and not (_is_number(value) and holds(value)):
            yield f"{name} must be {words}, got {value!r}"
    ema = options.get("ema")
    if ema is not None and not (_is_number(ema) and 0 < ema < 1):
        yield f"ema must lie between 0 and 1, got {ema!r}"


def _choices(options: Mapping[str, Any]) -> Iterator[str]:
    for name in _WORDS:
        if name in options and (error := _choice(name, options[name])):
            yield error


def _choice(name: str, value: Any) -> str:
    allowed: Collection[Any] = _WORDS[name]
    if any(value is a or (isinstance(value, str) and value == a) for a in allowed):
        return ""
    return f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}"


def _parts(options: Mapping[str, Any]) -> Iterator[str]:
    best, schedule = options.get("best"), options.get("schedule", "constant")
    if not isinstance(best, Criterion | None):
        yield (
            "best must be a Criterion, for instance priory.evaluation.ByMetric('mmd'), got "
            f"{best!r}"
        )
    named = isinstance(schedule, str) and schedule in NAMES
    if not named and not isinstance(schedule, Schedule):
        yield f"schedule must be {', '.join(map(repr, NAMES))} or a Schedule, got {schedule!r}"
    device = options.get("device", "auto")
    if not isinstance(device, str | torch.device):
        yield f"device must be a name such as 'cpu' or a torch.device, got {device!r}"
    if not isinstance(options.get("folder"), str | os.PathLike | None):
        yield f"folder must be a path, got {options['folder']!r}"
    frozen = options.get("frozen") or ()
    if not isinstance(frozen, Sequence) or isinstance(frozen, str) or {*map(type, frozen)} - {str}:
        yield f"frozen must be a list of names of the pair's parts, got {frozen!r}"
    yield from _stages(options.get("stages", ()))
    if options.get("on_epoch") is not None and not callable(options["on_epoch"]):
        yield f"on_epoch must be callable, got {options['on_epoch']!r}"
    yield from _called(options)
    if "optim" in options:
        yield from _optimiser(options["optim"], options.get("lr", 1e-3))


def _called(options: Mapping[str, Any]) -> Iterator[str]:
    """Find out whether loggers are such and know where to write, and callbacks are such."""
    try:
        for log in as_loggers(options.get("log", ())):
            log.check(options.get("folder"))
    except ValueError as error:
        yield str(error)
    callbacks = options.get("callbacks", ())
    several = isinstance(callbacks, Sequence)
    if not several or not all(isinstance(one, Callback) for one in callbacks):
        yield f"callbacks must be a list of priory.inference.Callback, got {callbacks!r}"


def _stages(stages: Any) -> Iterator[str]:
    """Find out whether something is a sequence of stages, each with options that hold."""
    if not isinstance(stages, Sequence) or not all(isinstance(s, Stage) for s in stages):
        yield f"stages must be a list of Stage, got {stages!r}"
        return
    for stage in stages:
        try:
            check_options(stage.training)
        except ValueError as error:
            yield f"of the stage {stage.name}, {error}"


def _optimiser(optim: Any, lr: Any) -> Iterator[str]:
    """Find out whether something is what `fit` can call with parameters and a learning rate."""
    expected = "a torch optimiser's class or a functools.partial of one"
    if not callable(optim) or isinstance(optim, PyroOptim | torch.optim.Optimizer):
        yield f"optim must be {expected}, got {optim!r}; SVI takes those of pyro.optim"
        return
    own = getattr(optim, "keywords", {}).get("lr", lr)
    if own != lr:
        yield f"optim has lr={own!r}, which fit's lr={lr!r} would overrule; give fit lr={own!r}"
        return
    try:
        made = optim([torch.zeros(1, requires_grad=True)], lr=1e-3)
    except (TypeError, ValueError) as error:
        yield f"optim must be {expected}, and {optim!r} cannot be called as one: {error}"
        return
    if not isinstance(made, torch.optim.Optimizer):
        yield f"optim must be {expected}, got {optim!r}, which makes a {type(made).__name__}"
        return
    closure = inspect.signature(type(made).step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        yield f"optim must step without a closure, which {type(made).__name__} asks for"


def _pairs(options: Mapping[str, Any]) -> Iterator[str]:
    if options.get("epochs") is not None and options.get("steps") is not None:
        yield "give epochs or steps, not both"
    for name in ("best", "patience"):
        if options.get(name) is not None and options.get("valid_every") == 0:
            yield f"{name} needs evaluations: valid_every must not be 0"


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
