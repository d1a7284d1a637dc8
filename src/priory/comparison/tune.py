"""A search for the options of a recipe: trials, pruned early, and the best one kept."""

from __future__ import annotations

import math
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import yaml

from priory.comparison.backends import check_backend, workers
from priory.comparison.fits import alone_in_turn, called, default_jobs, opened, sendable
from priory.comparison.parts import fresh, spell
from priory.comparison.spaces import Range, Space, read_spaces
from priory.data import Data
from priory.evaluation import evaluate
from priory.inference import fit
from priory.inference.card import put_figures
from priory.recipes import Recipe, find_recipe
from priory.signatures import Collector, Option, options_of

if TYPE_CHECKING:
    from priory.evaluation.report.tuning import Trial, Tuned

SEARCH, BEST = "search.yaml", "best"
_JOURNAL, _STUDY = "trials.log", "priory"
_WARM_UP = 2  # epochs before which no trial is pruned
_FIRST = 4  # finished trials before any is pruned
_FEW = 8  # finished trials, below which no importance is looked for
_STATES: dict[str, Any] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass(frozen=True)
class Search:
    """A search, as it is sent to a worker: plain values, text and unbuilt parts.

    Args:
        recipe: A recipe, or its name.
        data: As `sendable` returns them.
        spaces: By the names of options.
        options: Of the recipe, the same for every trial.
        seeds: Of the fits of one trial.
        seed: Of the search.
        prune: Whether trials may be stopped early.
        folder: Of the search, which all workers share.
        better: Direction of what trials are judged by.
    """

    recipe: str | Recipe
    data: Any
    spaces: Mapping[str, Space]
    options: Mapping[str, Any]
    seeds: Sequence[int]
    seed: int
    prune: bool
    folder: Path
    better: Literal["higher", "lower"]

    def prepare(self, **tried: Any) -> tuple[Any, Any, dict[str, Any]]:
        """Build pair, objective and options of `fit`, with fresh parts.

        Args:
            **tried: Options of a trial.

        Raises:
            Errors: Naming every error in them.
        """
        recipe = find_recipe(self.recipe) if isinstance(self.recipe, str) else self.recipe
        own = {"progress": False, **self.options, **tried}
        return recipe.prepare(**{name: fresh(value) for name, value in own.items()})


def tune(
    recipe: str | Recipe,
    data: Data | str,
    *,
    search: Mapping[str, Any],
    trials: int = 20,
    seeds: int | Sequence[int] = 1,
    seed: int = 0,
    prune: bool = True,
    jobs: int | None = 1,
    backend: str = "loky",
    out: str | Path = "tuned",
    resume: bool = False,
    overwrite: bool = False,
    particles: int = 500,
    metrics: Sequence[str] | None = None,
    progress: bool = True,
    **options: Any,
) -> Tuned:
    """Search for the options of a recipe that are best by its validation bound.

    The trials are drawn by Optuna's tree-structured Parzen estimator: Bergstra, Bardenet, Bengio
    and Kegl 2011, Algorithms for hyper-parameter optimization. One whose validation bound is below
    the median of the others' at the same evaluation is stopped early. The best one is trained
    again, with its first seed, into the folder `best`, and judged on the test rows: these have no
    part in the choice.

    Args:
        recipe: a recipe, its name, or `path/to/file.py:Class`.
        data: what on, or its name.
        search: values by the names of options: text, as `1e-4..1e-2:log`, `2,8,32` or
            `normal,vamp:50`, or lists of values and of objects that are not built yet.
        trials: how many in all, those of a search that is resumed among them.
        seeds: of each trial's fits, how many, from 0 on, or which; a trial is judged by their mean,
            and pruned by the first.
        seed: of the search. The same trials come again with one job; with several, what a trial
            knows of the others depends on the time.
        prune: whether trials may be stopped early.
        jobs: trials at once; all cores if None.
        backend: what runs them, as in `compare`; its workers share the folder.
        out: folder of the search, its page and its best run.
        resume: go on with the search in the folder; only `trials` may have grown.
        overwrite: remove the search that is in the folder.
        particles: K of the bound on test rows.
        metrics: names of metrics on test rows; all if None.
        progress: whether to write a line to the standard error after each trial.
        options: of the pair and of `fit`, the same for all; `best` names another metric by which
            trials are judged, where a pair has no bound.

    Raises:
        Errors: if an option or a space is wrong, before the first fit.
        ValueError: if no trial is finished; it has the reasons.
        OSError: if the folder holds something else, or a search and none of `resume` and
            `overwrite` is asked for.
        ImportError: if a library is not installed; names the extra.

    Example:
        >>> found = tune(
        ...     "vae", "digits", search={"latent": [2, 8]}, trials=2, steps=2, progress=False,
        ...     metrics=["nll"], particles=5, out="tuned",
        ... )
        >>> [trial.state for trial in found.trials]
        ['finished', 'finished']
    """
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    search_of = plan_search(recipe, data, search, chosen, seed, prune, Path(out), backend, options)
    if trials < 1:
        raise ValueError(f"trials must be at least 1, got {trials}")
    jobs = default_jobs() if jobs is None else jobs
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    _begin(search_of, resume=resume, overwrite=overwrite)
    with _quiet():
        study = _study(search_of, seed)
        _close_abandoned(study)
        behind = sum(not _abandoned(t) for t in study.trials)
        _run(search_of, range(behind, trials), jobs, backend, progress=progress)
        study = _study(search_of, seed)
        found = _table(search_of, study)
        if not any(t.state == "finished" for t in found.trials):
            reasons = "; ".join(dict.fromkeys(t.reason for t in found.trials if t.reason))
            raise ValueError(f"no trial is finished, of {len(found.trials)}: {reasons}")
        return _judged(search_of, study, found, particles, metrics)


def plan_search(
    recipe: str | Recipe,
    data: Data | str,
    search: Mapping[str, Any],
    seeds: Sequence[int],
    seed: int,
    prune: bool,
    folder: Path,
    backend: str,
    options: Mapping[str, Any],
) -> Search:
    """Return a search, after a trial of each value without data.

    Args:
        recipe: as in `tune`, like all that follow.
        data: what on.
        search: spaces.
        seeds: of a trial's fits.
        seed: of the search.
        prune: whether trials may be stopped early.
        folder: of the search.
        backend: looked at only.
        options: the same for all trials.

    Raises:
        Errors: naming every error.
    """
    errors = Collector()
    errors.attempt(check_backend, backend)
    found = errors.attempt(lambda: find_recipe(recipe) if isinstance(recipe, str) else recipe)
    errors.check()
    assert found is not None  # noqa: S101
    known = {**options_of(found.family), **found.trainable(), **found.staged()}
    known["objective"] = Option("objective", str)
    spaces = errors.attempt(read_spaces, search, known) or {}
    if not seeds:
        errors.found.append("seeds must be at least 1")
    if "seed" in {*spaces, *options}:
        errors.found.append("give seeds, not seed, of the fits; seed is the search's")
    both = sorted({*spaces} & {name.replace("-", "_") for name in options})
    errors.found += [f"{name} is searched, and given as an option too" for name in both]
    sent = sendable(data)
    plan = Search(recipe, sent, spaces, dict(options), seeds, seed, prune, folder, "higher")
    first = {name: space.values()[0] for name, space in spaces.items()}
    tried = [{**first, name: v} for name, space in spaces.items() for v in space.values()]
    made = [errors.attempt(lambda one=one: plan.prepare(**one)) for one in tried]
    errors.check()
    prepared = made[0][2] if made and made[0] is not None else {}
    if prepared.get("valid_every") == 0:
        errors.found.append("trials are judged by validation rows: valid_every must not be 0")
    errors.check()
    best = prepared.get("best")
    return plan if best is None else replace(plan, better=best.better)


def run_trial(plan: Search, number: int) -> str:
    """Run one trial in this process, write what came of it, and return it on one line.

    Args:
        plan: The search.
        number: The trial's, from which its draws follow.
    """
    from optuna import TrialPruned
    from optuna.trial import TrialState

    with _quiet(), alone_in_turn():
        study = _study(plan, trial_seed(plan.seed, number))
        trial = study.ask()
        tried = {name: space.suggest(trial, name) for name, space in plan.spaces.items()}
        started = time.perf_counter()
        state, value, reason = TrialState.COMPLETE, None, ""
        try:
            value = statistics.fmean(_values(plan, trial, tried))
        except TrialPruned:
            state = TrialState.PRUNED
        except Exception as error:  # the search goes on, and says why
            state = TrialState.FAIL
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            reason = " ".join(f"{kind}{error}".split())
            trial.set_user_attr("reason", reason)
        trial.set_user_attr("seconds", time.perf_counter() - started)
        study.tell(trial, value, state=state)
        shown = ", ".join(f"{k}={v}" for k, v in trial.params.items())
        became = f"failed: {reason}" if reason else "pruned" if value is None else f"{value:.4f}"
        return f"trial {trial.number} ({shown}): {became}"


def trial_seed(seed: int, number: int) -> int:
    """Return the seed of a trial's draws, from the search's.

    Args:
        seed: Of the search.
        number: Of the trial.
    """
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _values(plan: Search, trial: Any, tried: Mapping[str, Any]) -> Iterator[float]:
    """Train a trial's seeds, and yield the value of each; the first reports its course.

    Raises:
        TrialPruned: The trial has no prospect.
        ValueError: There is no value to judge it by.
    """
    from optuna import TrialPruned

    data = opened(plan.data)
    for seed in plan.seeds:
        pair, objective, options = plan.prepare(**tried, seed=seed)
        title = f"{plan.folder.name}-trial{trial.number}-seed{seed}"
        options["log"] = [called(log, title) for log in options.get("log", ())]
        best = options.get("best")
        name = "bound" if best is None else best.name

        def look(row: dict[str, Any], name: str = name, seed: int = seed) -> None:
            if seed != plan.seeds[0]:
                return
            trial.set_user_attr("steps", row["step"])
            value = row.get(name)
            if value is None or "stage" in row or not math.isfinite(value):
                return
            trial.report(value, row["epoch"])
            if plan.prune and trial.should_prune():
                raise TrialPruned

        run = fit(pair, objective, data, **options, on_epoch=look)
        rows = [r for r in run.history if r.get(name) is not None and "stage" not in r]
        if not rows:
            raise ValueError(
                f"the pair has no {name} of validation rows to be judged by; name a metric, "
                "for instance best=ByMetric('mmd') (--best mmd), and keep validation rows"
            )
        marked = [row for row in rows if row.get("best")]
        yield float((marked or rows)[-1][name])


def _run(plan: Search, numbers: range, jobs: int, backend: str, *, progress: bool) -> None:
    from joblib import delayed

    if not numbers:
        return
    with workers(backend, min(jobs, len(numbers))) as parallel:
        for done, line in enumerate(parallel(delayed(run_trial)(plan, n) for n in numbers), 1):
            if progress:
                print(f"[{done}/{len(numbers)}] {line}", file=sys.stderr, flush=True)


def _begin(plan: Search, *, resume: bool, overwrite: bool) -> None:
    """Make the search's folder, or take it up.

    Raises:
        OSError: If it may not be written, or is another search's.
        ValueError: If both options are given, or the search was begun otherwise.
    """
    folder, path = plan.folder, plan.folder / SEARCH
    if resume and overwrite:
        raise ValueError("give resume or overwrite, not both")
    content = [*folder.iterdir()] if folder.is_dir() else []
    if (folder.exists() and not folder.is_dir()) or (content and not path.is_file()):
        raise FileExistsError(f"{folder} holds other things than a search; choose another")
    if content and not resume and not overwrite:
        raise FileExistsError(
            f"{folder} has a search; pass resume=True (--resume) to go on with it, overwrite=True "
            "(--overwrite) to replace it, or choose another"
        )
    if content and overwrite:
        shutil.rmtree(folder)
    asked = _described(plan)
    if content and resume:
        former = yaml.safe_load(path.read_text(encoding="utf-8"))
        changed = [k for k in asked if former.get(k) != asked[k]]
        if changed:
            said = [f"{k} was {former.get(k)!r}, now {asked[k]!r}" for k in changed]
            raise ValueError(
                f"the search in {folder} was begun otherwise: {'; '.join(said)}; ask for the same, "
                "or choose another folder"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(asked, sort_keys=False), encoding="utf-8")


def _described(plan: Search) -> dict[str, Any]:
    """Return what makes a search what it is, as plain values."""
    data = plan.data.config if isinstance(plan.data, Data) else plan.data
    return {
        "recipe": plan.recipe if isinstance(plan.recipe, str) else plan.recipe.name,
        "data": {k: str(v) for k, v in data.items()},
        "search": {name: str(space) for name, space in plan.spaces.items()},
        "options": {k: v if isinstance(v, str) else _text(v) for k, v in plan.options.items()},
        "seeds": [*plan.seeds],
        "seed": plan.seed,
        "prune": plan.prune,
    }


def _text(value: Any) -> str:
    plain = value is None or isinstance(value, bool | int | float | list | tuple | Path)
    return str(value) if plain else spell(value)


def _study(plan: Search, seed: int) -> Any:
    """Open the trials of a search; its next one draws by a seed."""
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise ImportError("tune needs an extra: pip install 'priory[tune]'") from error
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(
            JournalFileBackend(str(plan.folder.absolute() / _JOURNAL))
        ),
        study_name=_STUDY,
        direction="maximize" if plan.better == "higher" else "minimize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_FIRST, n_warmup_steps=_WARM_UP),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's own lines off the terminal: there is one for each trial already."""
    try:
        from optuna import logging
    except ImportError as error:
        raise ImportError("tune needs an extra: pip install 'priory[tune]'") from error
    former = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(former)


def _close_abandoned(study: Any) -> None:
    """Mark trials whose process has ended: they are run again under another number."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study._storage.set_trial_user_attr(trial._trial_id, "reason", "its process has ended")
        study._storage.set_trial_user_attr(trial._trial_id, "abandoned", True)
        study.tell(trial.number, state=TrialState.FAIL)


def _abandoned(trial: Any) -> bool:
    return bool(trial.user_attrs.get("abandoned"))


def _table(plan: Search, study: Any) -> Tuned:
    """Return the trials so far, without a report."""
    from priory.evaluation.report.tuning import Tuned

    best = plan.prepare(**_tried(plan, study.trials[0]))[2].get("best")
    name = "validation bound in nats" if best is None else f"{best.name} of validation rows"
    return Tuned(
        name=plan.recipe if isinstance(plan.recipe, str) else plan.recipe.name,
        quantity=name,
        better=plan.better,
        spaces={name: str(space) for name, space in plan.spaces.items()},
        trials=tuple(_trial(t) for t in study.trials),
        log=tuple(n for n, s in plan.spaces.items() if isinstance(s, Range) and s.log),
        importance=_importance(study),
        seeds=len(plan.seeds),
    )


def _trial(trial: Any) -> Trial:
    from priory.evaluation.report.tuning import Trial

    own, state = trial.user_attrs, _STATES[trial.state.name]
    last = trial.intermediate_values[trial.last_step] if trial.intermediate_values else None
    value = trial.value if state == "finished" else last if state == "pruned" else None
    facts = {k: own[k] for k in ("steps", "seconds", "reason") if k in own}
    return Trial(trial.number, state, value, trial.params, **facts)


def _importance(study: Any) -> dict[str, float]:
    """Return the importance of each option; nothing of too few or equal trials."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < _FEW or len({t.value for t in done}) < 2:
        return {}
    try:
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    except (RuntimeError, ValueError):  # Optuna's words for what cannot be told apart
        return {}
    return {name: float(share) for name, share in found.items()}


def _tried(plan: Search, trial: Any) -> dict[str, Any]:
    """Return the values that a trial has tried, from their labels."""
    return {
        name: trial.params[name] if isinstance(space, Range) else space.known[trial.params[name]]
        for name, space in plan.spaces.items()
    }


def _judged(
    plan: Search, study: Any, found: Tuned, particles: int, metrics: Sequence[str] | None
) -> Tuned:
    """Train the best trial again into a folder, judge it on the test rows, and write the page."""
    from priory.evaluation.report.markdown import figures_text

    trial = study.trials[found.best.number]
    pair, objective, options = plan.prepare(**_tried(plan, trial), seed=plan.seeds[0])
    folder = plan.folder / BEST
    with alone_in_turn():
        own = {"folder": folder, "overwrite": (folder / "config.yaml").is_file()}
        run = fit(pair, objective, opened(plan.data), **{**options, **own})
        report = evaluate(run, particles=particles, metrics=metrics)
    judged = int(study.user_attrs.get("judged", 0)) + 1
    study.set_user_attr("judged", judged)
    report.to_html(folder / "report.html")
    report.to_json(folder / "report.json")
    put_figures(folder, figures_text(report))
    found = replace(found, report=report, judged=judged)
    found.to_html(plan.folder / "index.html")
    found.to_json(plan.folder / "trials.json")
    return found
