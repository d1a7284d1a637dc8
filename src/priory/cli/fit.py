"""The verb that trains: a recipe, a pair of the user's own, or a run that was begun before."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from priory.cli.data_source import Source, data_options
from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.cli.outputs import check_folder, folder_options, means_of, save_picture
from priory.cli.recipe_options import is_of_recipe, pair_options, training_options
from priory.cli.runs import RUN, is_run, pair_option, parts_of
from priory.inference import Run, fit, load
from priory.inference.checkpoints.folders import CONFIG, Resume, read_config
from priory.inference.checkpoints.lock import check_unlocked
from priory.inference.columns import lines
from priory.inference.distributed import ranks
from priory.inference.selection import judged
from priory.parsing import OPTIMS
from priory.recipes import RECIPES, Recipe, find_recipe, in_file
from priory.serialisation import from_config, to_config
from priory.signatures import Option, options_of

_LENGTH = ("epochs", "steps")
_TRAINING = "training; the run's own by default"
_REAL = 500  # rows of the data that are drawn behind the snapshots
_NAME = (
    "NAME",
    "a recipe (see priory list recipes), path/to/file.py:Class for a pair of your own, or with "
    "--resume the folder of a run",
)
_WARM = Option("warm", bool, False, "begin another run with this one's weights")
_OBJECTIVE = Option("objective", str, help="what to train by (see priory list objectives)")


def command(request: Request) -> Command:
    """Return what may be typed: options of a recipe, or after the folder of a run, of this."""
    if request.name is not None and is_run(request.name):
        return _of_run()
    return _of_recipe(request.name, _recipe(request))


def _recipe(request: Request) -> Recipe:
    """Return the recipe that is named, the VAE's after an error."""
    name, errors = request.name, request.errors
    if name is None:
        return RECIPES["vae"]
    found = errors.attempt(find_recipe, name)
    if found is None and name not in RECIPES and ".py" in name:
        errors.check()  # without the class, its options are not known
    return found or RECIPES["vae"]


def _of_recipe(name: str | None, recipe: Recipe) -> Command:
    return Command(
        f"priory fit {name or 'NAME'} [options]",
        f"{VERBS['fit']}. A run that was stopped or killed goes on with --resume, to the same "
        "bits.",
        {
            f"the pair, {recipe.family.__name__}": pair_options(recipe),
            "objective": {"objective": replace(_OBJECTIVE, default=recipe.loss)},
            "training": training_options(recipe),
            **({"earlier stages": recipe.staged()} if recipe.stages else {}),
            "data": data_options(recipe.data, recipe.rendering(recipe.data)),
            "output": folder_options("folder of the run; runs/NAME-DATA-seed by default")
            | _checkpoint_options(),
        },
        functools.partial(train, recipe),
        _NAME,
        (
            "priory fit vae --data digits --prior vamp:100 --objective iwae:10 --latent 20",
            "priory fit my_pairs.py:MyPair --data my_table.csv --standardise --epochs 50",
            "priory fit runs/vae-digits-seed0 --resume --steps 5000",
            "priory fit runs/vae-digits-seed0 --warm --out runs/warm --lr 1e-4 --epochs 5",
        ),
    )


def _of_run() -> Command:
    training = training_options(RECIPES["vae"])
    return Command(
        "priory fit RUN --resume [options]\n       priory fit RUN --warm --out FOLDER [options]",
        f"Go on with a run, by the options that it has: only {' or '.join(_LENGTH)} may change. Or "
        "begin another one with its weights.",
        {
            _TRAINING: {n: replace(o, default=None) for n, o in training.items()},
            "run": pair_option() | data_options(None),
            "output": folder_options("folder of a warm start's run")
            | {"warm": _WARM}
            | _checkpoint_options(),
        },
        go_on,
        RUN,
    )


def train(recipe: Recipe, request: Request) -> None:
    """Train a recipe, draw the run's pictures and print how it went.

    Args:
        recipe: what to train.
        request: the options.
    """
    from priory.comparison import slug

    texts, errors = request.texts, request.errors
    if request.name is None:
        errors.found.insert(0, "fit needs a name first, for instance: priory fit vae --data digits")
    name = texts.get("data", recipe.data)
    source = Source(name, texts, errors, recipe.rendering(name))
    parts = [slug(texts[k]) for k in ("pair.prior", "objective") if k in texts]
    parts = [recipe.name, slug(Path(name).stem), *parts, f"seed{texts.get('seed', 0)}"]
    out = Path(texts.get("out") or Path("runs", "-".join(parts)))
    of_recipe = {k: v for k, v in texts.items() if is_of_recipe(k)}
    prepared = errors.attempt(recipe.prepare, folder=out, **of_recipe)
    replaces = request.overwrite or texts.get("resume", "false") != "false"
    errors.attempt(check_folder, out, replaces, CONFIG)
    errors.attempt(check_unlocked, out)
    errors.check()
    assert prepared is not None  # noqa: S101
    pair, objective, options = prepared
    ranks.barrier()  # every rank has looked at the folder before one writes
    with ranks.main_first():
        data = source.open()
    print(data, *lines(pair, data), sep="\n", flush=True)
    run = fit(pair, objective, data, **options)
    _show(run, out, f" --pair {request.name}" if in_file(str(request.name)) else "")


def go_on(request: Request) -> None:
    """Go on with a run by the options that its folder has, or begin a new one with its weights."""
    texts, folder = request.texts, Path(str(request.name))
    resume = texts.pop("resume", "false")
    warm = texts.pop("warm", "false") == "true"
    out = Path(texts.get("out", folder))
    _check_start(folder, out, request, resume=resume != "false", warm=warm)
    texts.pop("out", None)
    values = request.values(_TRAINING) | request.values("output")
    pair, data = parts_of(str(folder), request)
    config = read_config(folder)
    options = {**config["fit"], "optim": _optim(config["fit"]["optim"])}
    options |= {n: from_config(options[n]) for n in ("schedule", "best", "stages") if n in options}
    if any(n in values for n in _LENGTH):
        options |= dict.fromkeys(_LENGTH)
    print(data, flush=True)
    if warm:
        options.pop("stages", None)  # their work is in the weights
        begun = load(folder, pair=pair, data=data)
        pair, objective, data = begun.pair, begun.objective, begun.data
        print(f"warm start: the weights of {folder}, with a new optimiser", flush=True)
        if begun.store.get("params"):
            raise ValueError(
                "a warm start takes the weights of modules, and this pair keeps parameters by "
                "pyro.param alone: " + ", ".join(begun.store["params"])
            )
    else:
        objective = from_config(config["objective"])
        values["resume"] = "auto" if resume == "auto" else True
    run = fit(pair, objective, data, folder=out, **{**options, **values})
    _show(run, out, f" --pair {texts['pair']}" if "pair" in texts else "")


def _check_start(folder: Path, out: Path, request: Request, *, resume: bool, warm: bool) -> None:
    """Take down why a run cannot go on as it was typed, or another one begin with its weights."""
    texts, errors = request.texts, request.errors
    if warm == resume:
        errors.found.append(
            f"{folder} is the folder of a run; pass --resume to go on with it, or --warm --out "
            "FOLDER to begin another one with its weights"
        )
    free = (*_LENGTH, "skip_nonfinite", "progress", "log", "pair", *_checkpoint_options())
    changed = [n for n in texts if n not in free and not n.startswith("data")]
    if changed and not warm:
        errors.found.append(
            f"a run goes on with the options that it has, and only {' or '.join(_LENGTH)} may "
            f"change; for another {', '.join(changed)}, begin another run with its weights: priory "
            f"fit {folder} --warm --out FOLDER"
        )
    if warm and out.resolve() == folder.resolve():
        errors.found.append("a warm start needs another folder: --out FOLDER")
    if warm:
        errors.attempt(check_folder, out, request.overwrite, CONFIG)


def _checkpoint_options() -> dict[str, Option]:
    known = options_of(fit)
    resume = "go on with the run in the folder; --resume=auto begins one where there is none"
    names = ("checkpoint_every", "keep", "inexact")
    return {"resume": Option("resume", Resume, False, resume), **{n: known[n] for n in names}}


def _optim(config: Any) -> Callable[..., Any]:
    """Return the optimiser that a configuration names; of torch's, those that Priory names."""
    inner = config.get("partial", config) if isinstance(config, Mapping) else {}
    for made in OPTIMS.values():
        if to_config(made) == inner:
            keywords = {k: from_config(v) for k, v in config.items() if k != "partial"}
            return functools.partial(made, **keywords) if "partial" in config else made
    found: Callable[..., Any] = from_config(config)
    return found


def _show(run: Run, out: Path, own: str) -> None:
    """Draw a run's pictures into its folder, and print how it went."""
    from priory.evaluation.report.charts import training
    from priory.evaluation.report.pictures import generated, snapshots

    if not ranks.is_main():
        return
    if len(run.history) > 1:
        save_picture(training(run.history), out / "training.png")
    draws = run.sample(64)
    if "x" in draws:
        save_picture(generated(means_of(draws)), out / "samples.png")
    if run.snapshots:
        taken = {step: run.data.restore(x) for step, x in run.snapshots.items()}
        real = run.data.restore(run.data.valid.snapshot(_REAL)).cpu()
        save_picture(snapshots(taken, real), out / "snapshots.png")
    last = run.history[-1]
    bounds = [row["bound"] for row in run.history if row.get("bound") is not None]
    shown = f"bound {bounds[-1]:.2f} nats per validation row, " if bounds else ""
    best = next((row for row in reversed(run.history) if row.get("best")), None)
    if best is not None:
        (name, value), *_ = [*judged(best).items(), ("bound", best.get("bound"))]
        shown += f"best {name} {value:.4g} at step {best['step']:,}, "
    name = getattr(run.objective, "quantity", "loss")
    passed = f", {last['skipped']} steps passed over" if last.get("skipped") else ""
    print(
        f"{shown}{name} {last['loss']:.2f} after {last['step']:,} steps "
        f"in {run.seconds:.1f} s{passed}"
    )
    for row in run.history:
        if "stage" in row and (values := judged(row)):
            ended = {n: v for n, v in judged(last).items() if n in values}
            then = f"; at the end: {_values(ended)}" if ended else ""
            print(f"after the stage {row['stage']}: {_values(values)}{then}")
    for text in run.warnings:
        print(f"warning: {text}")
    print(f"saved in {out}\nnext: priory evaluate {out}{own}")


def _values(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
