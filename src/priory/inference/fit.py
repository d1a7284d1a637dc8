"""fit: the one verb that trains every pair."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, replace
from typing import Any, ParamSpec, Protocol

import pyro
import torch
from torch import nn

from priory.data import Data, Split
from priory.data.batches import Batches
from priory.data.steps import LENGTH
from priory.distributions.padded import carried
from priory.inference.alone import alone
from priory.inference.callback import Callback, Guarded, OnEpoch
from priory.inference.checkpoints.keeper import keeping, standing
from priory.inference.checks import check_ranks
from priory.inference.columns import meet
from priory.inference.distributed import ranks
from priory.inference.distributed.launch import check_device, start
from priory.inference.loop import Loop, stateful
from priory.inference.measures import Measured, measured
from priory.inference.modules import modules
from priory.inference.objectives.base import Objective
from priory.inference.objectives.bounds import ELBO
from priory.inference.objectives.em import check_whole
from priory.inference.options import FitOptions
from priory.inference.phases.arguments import Program, bind, build
from priory.inference.progress import Progress
from priory.inference.randomness import own_randomness
from priory.inference.run import Programs, Run, described
from priory.inference.stage import Stage, check_frozen, check_stages, freezing
from priory.inference.support import check_compared, check_padding, check_seen
from priory.inference.svi import SVI
from priory.lookup import suggestion
from priory.priors import Prior

P = ParamSpec("P")


class Fit(Protocol[P]):
    """The type of `fit`: the parts by position or name, the options by name."""

    def __call__(
        self,
        pair: Any,
        objective: Any = None,
        data: Any = None,
        *args: P.args,
        **options: P.kwargs,
    ) -> Run:
        """Train a pair by an objective on data."""


def takes(kind: Callable[P, FitOptions]) -> Callable[[Callable[..., Run]], Fit[P]]:
    """Give a function the fields of a class of options as its keyword arguments.

    They stand in its signature and its documentation, for `help`, editors and the command line.

    Args:
        kind: The class of the options.
    """

    def decorate(function: Callable[..., Run]) -> Fit[P]:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind < p.VAR_KEYWORD]
        options = inspect.signature(kind).parameters.values()
        function.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        function.__annotations__ |= typing.get_type_hints(kind)
        # As `getdoc` gives them: from Python 3.13 on, the compiler takes the indentation off.
        described = re.search(r"^Args:\n(.*?)\n\n", inspect.getdoc(kind) or "", re.S | re.M)
        if described and (text := inspect.getdoc(function)):
            function.__doc__ = re.sub(r" {4}options: .*", lambda _: described[1], text, count=1)
        return typing.cast(Fit[P], function)

    return decorate


@takes(FitOptions)
def fit(pair: Any, objective: Any = None, data: Any = None, **options: Any) -> Run:
    """Train a pair by an objective on data.

    The pair's parameters live in a parameter store of their own, and the global random state is
    left as it was: two fits in one process do not touch each other. In two threads the second
    waits for the first, as Pyro's handlers are the process's own. With a `folder`, nothing is lost:
    checkpoints are written into it, and what was killed at any step goes on by `resume` to the
    same bits as if it had not been.

    Args:
        pair: a module with `model` and `guide`, or a tuple of two Pyro callables.
        objective: an `Objective`, one of Pyro's ELBOs or a callable; `ELBO()` by default.
        data: what to train on, a `Data` or what `Data.of` takes; each program gets the columns that
            its signature names.
        options: the fields of `FitOptions`.

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
    known = {f.name for f in fields(FitOptions)}
    for name in options.keys() - known:
        hint = suggestion(name, known)
        raise TypeError(f"fit() got an unexpected keyword argument {name!r}{hint}")
    if data is None:
        raise ValueError(
            "fit needs data, for instance Data.named('digits') or Data.from_arrays(...), got none"
        )
    data = Data.of(data)
    wanted = FitOptions(**options)
    with alone(), start():
        objective = ELBO() if objective is None else objective
        pair = Programs(*pair) if isinstance(pair, tuple) else pair
        device = pick_device(wanted.device)
        data = data.to(device)
        wanted = _sized(wanted, data.train)
        size = min(wanted.batch_size, len(data.train))
        _check_ranks(size, data)
        trainings = [*((s.objective, wanted.of_stage(s)) for s in wanted.stages)]
        trainings.append((objective, wanted))
        for each, _ in trainings:
            check_whole(each, size, len(data.train))
        check_stages(wanted.stages, objective)
        check_device(device)
        totals = [own.total(len(data.train) // size) for _, own in trainings]
        kept: AbstractContextManager[Callback] = nullcontext(Callback())
        with (
            keeping(wanted, objective) if wanted.folder is not None else kept as keeper,
            pyro.get_param_store().scope() as state,
            own_randomness(device, wanted.seed),
            Progress(wanted.progress if ranks.is_main() else False, sum(totals)) as bar,
        ):
            for each, _ in trainings:
                check_compared(each, data.train.columns)
            check_seen(pair.model, data.train.columns)
            check_padding(pair.model, data.train.columns, data.preparation.padded)
            prepare(pair, data, device)
            for each, _ in trainings:
                check_ranks(each, pair.model, pair.guide)
            for stage in wanted.stages:
                stage.check(pair)
            check_frozen(pair, wanted.frozen or (), "frozen")
            own_ones = [*wanted.log, *wanted.callbacks] if ranks.is_main() else []
            guarded = [Guarded(callback, len(wanted.stages)) for callback in own_ones]
            callbacks = [bar, OnEpoch(wanted.on_epoch), keeper, *guarded]
            config = _config(pair, objective, data, wanted) if guarded else {}
            history: list[dict[str, Any]] = []
            for number in range(standing(wanted), len(trainings)):
                (each, own), total = trainings[number], totals[number]
                svi = _svi(pair, each, own, total, bar.log)
                loop = Loop(pair, each, data, svi, total, size, own, callbacks, bar.log)
                loop.config = config
                with _watched(guarded, loop):
                    _train(loop, wanted.stages, number, history)
                history = loop.history
                if loop.answered:
                    break
        return Run(pair, objective, data, wanted.config, loop.history, state, loop.snapshots)


@contextmanager
def _watched(callbacks: Sequence[Guarded], loop: Loop) -> Iterator[None]:
    """Let callbacks know what ends a training early."""
    try:
        yield
    except BaseException as error:
        for callback in callbacks:
            callback.fail(loop, error)
        raise


def _config(pair: Any, objective: Any, data: Data, options: FitOptions) -> dict[str, Any]:
    """Return a run's configuration for callbacks; of a pair that cannot be rebuilt, its name."""
    try:
        return described(pair, objective, data, options.config)
    except ValueError:
        return {"pair": type(pair).__name__, "data": data.config, "fit": options.config}


def _train(
    loop: Loop, stages: Sequence[Stage], number: int, history: Sequence[Mapping[str, Any]]
) -> None:
    """Run a stage, and move the pair to where the next one begins; or the run's own training."""
    pair, data, seed = loop.pair, loop.data, loop.options.seed
    stage = stages[number] if number < len(stages) else None
    loop.follow(number, history, "" if stage is None else stage.name)
    if stage is None:
        loop.callbacks = [Measured(stages), *loop.callbacks]
    with freezing(pair, loop.options.frozen or ()):
        loop.prepare()
        loop.run()
    if stage is None or loop.answered:
        return
    with own_randomness(data.device, seed):
        loop.history[-1] |= stage.finish(pair, data, seed)
    loop.history[-1] |= measured(stage.metrics, pair, data, seed)


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
    meet(pair, data.preparation)
    parts = pair.modules() if isinstance(pair, nn.Module) else ()
    if hasattr(pair, "build") or any(isinstance(part, Prior) for part in parts):
        held = data.train.resident()
        x = held.snapshot()
        length = {LENGTH: held.columns[LENGTH]} if LENGTH in held.columns else {}
        build(pair, x, data.train.columns | length)
        _show_rows(pair, data.train, carried(x, *length.values()) if length else x)
    if isinstance(pair, nn.Module):
        pair.to(device)


def _show_rows(pair: Any, train: Split, x: torch.Tensor) -> None:
    """Show the pair's priors the training rows that it is built from."""
    for part in pair.modules() if isinstance(pair, nn.Module) else ():
        if isinstance(part, Prior):
            part.set_rows(len(train), x, train.resident_rows())


def _svi(
    pair: Any, objective: Any, options: FitOptions, total: int, log: Callable[[str], object]
) -> SVI:
    eager = any(True for _ in stateful(objective)) or _unrolled(pair)
    return SVI(
        *_programs(pair, objective),
        functools.partial(options.optim, lr=options.lr),
        objective,
        rate=options.schedule_over(total),
        clip=options.clip,
        ema=options.ema,
        check=options.check,
        compile="off" if eager else options.compile,
        horizon=total,
        precision=options.precision,
        skip=options.skip_nonfinite,
        log=log,
    )


def _check_ranks(size: int, data: Data) -> None:
    """Raise a ValueError if several ranks cannot share the batches of a size, or the data."""
    ranks.each(size)
    if ranks.world() > 1 and data.config["name"] == "iterator":
        raise ValueError(
            "several ranks cannot share one iterator, of which each would read other rows: give a "
            "file, arrays or a Dataset"
        )


def _sized(options: FitOptions, train: Split) -> FitOptions:
    """Return the options with the size of batches that are taken as they come."""
    if not isinstance(train, Batches):
        return options
    size = train.source.size
    if options.batch_size not in (FitOptions.batch_size, size):
        raise ValueError(
            f"the batches have {size} rows and are taken as they come, got batch_size="
            f"{options.batch_size}: leave it out, or set it where the batches are made"
        )
    return replace(options, batch_size=size)


def _unrolled(pair: Any) -> bool:
    """Return whether a pair has recurrent nets, of which a graph would hold every step apart."""
    roots = modules(pair.model, pair.guide)
    return any(isinstance(part, nn.RNNBase) for root in roots for part in root.modules())


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
