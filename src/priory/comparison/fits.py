"""Every combination of recipes, priors, posteriors and objectives, judged alike, on every core."""

from __future__ import annotations

import copy
import functools
import itertools
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from priory.comparison.backends import check_backend, workers
from priory.comparison.parts import Parts, fresh, labelled, slug
from priory.data import Data
from priory.data.data import GIVEN
from priory.evaluation import evaluate
from priory.inference import Logger, fit
from priory.recipes import RECIPES, Recipe, find_recipe
from priory.signatures import Collector, Failures

if TYPE_CHECKING:
    from priory.evaluation import Comparison, Entry

# Pyro's store and torch's random state are the process's: the threads of a worker take turns.
_TURN = threading.Lock()


class FailedFits(Failures):
    """Some fits of a comparison failed; the others are kept.

    Args:
        failures: one sentence each, which names the combination.
        comparison: what the other fits amount to, None if there are none.
    """

    def __init__(self, failures: list[str], comparison: Comparison | None) -> None:
        super().__init__(failures)
        self.comparison = comparison


@dataclass(frozen=True)
class Task:
    """One fit and its evaluation, as it is sent to a worker: plain values, text and unbuilt parts.

    Args:
        label: names the combination.
        recipe: a recipe, or its name.
        options: of the recipe: the prior, the objective, the pair's and `fit`'s.
        data: the data, or the configuration from which they can be opened.
        judge: options of `evaluate`.
        folder: where to save the run; nowhere if it is None.
    """

    label: str
    recipe: str | Recipe
    options: dict[str, Any]
    data: Any
    judge: dict[str, Any]
    folder: Path | None = None

    def prepare(self) -> tuple[Any, Any, dict[str, Any]]:
        """Build pair, objective and options of `fit`, with fresh parts.

        Raises:
            Errors: naming every error in them.
        """
        return _recipe(self.recipe).prepare(**{k: fresh(v) for k, v in self.options.items()})


def compare(
    data: Data | str,
    *,
    priors: Parts | None = None,
    posteriors: Parts | None = None,
    objectives: Parts | None = None,
    recipes: Parts = "vae",
    seeds: int | Sequence[int] = 3,
    jobs: int | None = None,
    backend: str = "loky",
    particles: int = 500,
    metrics: Sequence[str] | None = None,
    runs: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> Comparison:
    """Train every combination of recipes and parts, and judge all of them alike.

    Every fit has the same options and data and one thread; every run is judged by the same
    K-sample bound on the test rows, never by its own loss.

    Args:
        data: what on, or its name.
        priors: text ("vamp:100"), objects that are not built yet, or a mapping from labels to
            these; the recipes' own if None.
        posteriors: likewise, of recipes whose pair can be asked for one.
        objectives: likewise.
        recipes: names, `path/to/file.py:Class`, or `Recipe` objects.
        seeds: how many, from 0 on, or which.
        jobs: processes at once: all cores if None (one on CUDA), in this process if 1.
        backend: what runs them: loky, processes of this machine; dask or ray, a cluster of this
            machine's own, or with an address a running one, all of it: dask:tcp://host:8786.
        particles: K of the bound.
        metrics: names of metrics; all if None.
        runs: folder in which to save every run; on a cluster, one that all its machines share.
        progress: whether to write a line to the standard error after each fit.
        options: of the pair and of `fit`, the same for all; those of earlier stages,
            `autoencoder.steps` say, go to the recipes that have them.

    Raises:
        Errors: if an option or a part is wrong, before the first fit.
        FailedFits: if fits failed, after the last; it names the combinations and has the others.
        ImportError: if the backend's library is not installed; names the extra.

    Example:
        >>> options = {"steps": 2, "seeds": 1, "jobs": 1, "metrics": ["nll"]}
        >>> table = compare("digits", priors=["normal", "vamp:5"], **options)
        >>> [entry.label for entry in table.entries]
        ['normal', 'vamp:5']
    """
    tasks = plan(
        data,
        priors=priors,
        posteriors=posteriors,
        objectives=objectives,
        recipes=recipes,
        seeds=seeds,
        particles=particles,
        metrics=metrics,
        runs=runs,
        backend=backend,
        **options,
    )
    jobs = default_jobs() if jobs is None else jobs
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    from joblib import delayed

    from priory.evaluation import comparison_table

    entries: dict[int, Entry] = {}
    failures: dict[int, str] = {}
    with workers(backend, min(jobs, len(tasks))) as parallel:
        results = parallel(delayed(run_task)(n, task) for n, task in enumerate(tasks))
        for done, (number, result, error) in enumerate(results, 1):
            if result is not None:
                entries[number] = result
            else:
                failures[number] = error
            if progress:
                line = error if result is None else _told(result)
                print(f"[{done}/{len(tasks)}] {line}", file=sys.stderr, flush=True)
    finished = [entries[n] for n in sorted(entries)]
    table = comparison_table(finished) if finished else None
    if failures or table is None:
        raise FailedFits([failures[n] for n in sorted(failures)], table)
    return table


def plan(
    data: Data | str,
    *,
    priors: Parts | None = None,
    posteriors: Parts | None = None,
    objectives: Parts | None = None,
    recipes: Parts = "vae",
    seeds: int | Sequence[int] = 3,
    particles: int = 500,
    metrics: Sequence[str] | None = None,
    runs: str | Path | None = None,
    backend: str = "loky",
    **options: Any,
) -> list[Task]:
    """Return the tasks of a comparison, after a trial of each combination without data.

    Args:
        data: as in `compare`, like all that follow.
        priors: of the latents.
        posteriors: of the latents.
        objectives: to train by.
        recipes: to start from.
        seeds: how many, or which.
        particles: K of the bound.
        metrics: names of metrics.
        runs: folder for the runs.
        backend: what will run them; looked at only.
        options: of the pair and of `fit`.

    Raises:
        Errors: naming every error.
    """
    errors = Collector()
    errors.attempt(check_backend, backend)
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not chosen:
        errors.found.append(f"seeds must be at least 1, got {seeds}")
    if "seed" in options:
        errors.found.append("give seeds, not seed: a comparison sets the seed of each fit")
    if particles < 1:
        errors.found.append(f"particles must be at least 1, got {particles}")
    axes = {
        "recipe": recipes,
        "prior": priors,
        "posterior": posteriors,
        "objective": objectives,
    }
    choices = {axis: labelled(given) for axis, given in axes.items() if given is not None}
    said = [axis for axis in choices if len(choices[axis]) > 1] or list(choices)[-1:]
    known = {n: _staged(recipe, errors) for n, recipe in choices["recipe"].items()}
    staged = set[str]().union(*known.values())
    others = {n: staged - own for n, own in known.items()}
    strange = {n for recipe in RECIPES.values() for n in recipe.staged()} - staged
    for name in strange & {*options}:
        del options[name]
        errors.found.append(f"{name} is no option of {', '.join(known)}, without such a stage")
    sent = sendable(data)
    tasks = []
    for combination in itertools.product(*(c.items() for c in choices.values())):
        parts = dict(zip(choices, combination, strict=True))
        label = ", ".join(parts[axis][0] for axis in said)
        values = {axis: value for axis, (_, value) in parts.items()}
        recipe = values.pop("recipe")
        for seed in chosen or (0,):
            judge = {"particles": particles, "metrics": metrics, "pictures": (seed,) == chosen[:1]}
            folder = None if runs is None else Path(runs) / f"{slug(label)}-seed{seed}"
            own = {"valid_every": 0, **options, **values, "seed": seed, "progress": False}
            own = {n: v for n, v in own.items() if n not in others[parts["recipe"][0]]}
            tasks.append(Task(label, recipe, own, sent, judge, folder))
        errors.attempt(tasks[-1].prepare)
    errors.check()
    return tasks


def sendable(data: Data | str) -> Any:
    """Return data as they are sent to a worker: what was given itself, else what opens them."""
    if isinstance(data, str):
        return {"name": data}
    return data if data.config.get("name") in GIVEN else data.config


def opened(data: Any) -> Data:
    """Return the data that `sendable` has made fit to be sent."""
    return data if isinstance(data, Data) else _opened(*data.items())


def _recipe(given: str | Recipe) -> Recipe:
    return find_recipe(given) if isinstance(given, str) else given


def _staged(given: str | Recipe, errors: Collector) -> set[str]:
    """Return the names of the options of a recipe's earlier stages."""
    recipe = errors.attempt(_recipe, given)
    return set() if recipe is None else {*recipe.staged()}


def default_jobs() -> int:
    """Return how many fits run at once: one for each core, one on CUDA."""
    from joblib import cpu_count

    return 1 if torch.cuda.is_available() else cpu_count()


def run_task(number: int, task: Task) -> tuple[int, Entry | None, str]:
    """Train and judge one combination on one thread; return its entry, or why there is none.

    Args:
        number: the task's, returned with the result.
        task: what to do.
    """
    try:
        with alone_in_turn():
            return number, _run(task), ""
    except Exception as error:  # reported at the end, under the combination's name
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return number, None, f"{task.label}, seed {task.options['seed']} failed: {kind}{error}"


@contextmanager
def alone_in_turn() -> Iterator[None]:
    """Take one thread, and the process's turn, for a fit."""
    with _TURN:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _run(task: Task) -> Entry:
    from priory.evaluation import Entry

    pair, objective, options = task.prepare()
    data = opened(task.data)
    if "log" in options:
        title = f"{slug(task.label)}-seed{task.options['seed']}"
        options["log"] = [called(log, title) for log in options["log"]]
    run = fit(pair, objective, data, **options)
    if task.folder is not None:
        run.save(task.folder, overwrite=True)
    report = evaluate(run, **task.judge)
    return Entry(task.label, options["seed"], report, run.seconds)


def called(log: Logger, title: str) -> Logger:
    """Return a copy of a logger for one fit of several, whose run has a name of its own."""
    own = copy.copy(log)
    own.run = title if log.run is None else f"{log.run}-{title}"
    return own


@functools.lru_cache(maxsize=1)
def _opened(*config: tuple[str, Any]) -> Data:
    return Data.open(**dict(config))


def _told(entry: Entry) -> str:
    bound = f"{entry.report['nll']}" if "nll" in entry.report else ""
    return f"{entry.label}, seed {entry.seed}: {bound}  {entry.seconds:.0f} s"
