"""The verb that trains: a recipe, a pair of the user's own, or a run that was begun before."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from priory.cli.data_source import Source, data_options
from priory.cli.grammar import Command, first_word, values_of
from priory.cli.outputs import free_folder, means_of, output, save_picture
from priory.cli.recipe_options import KEPT, pair_options, trains
from priory.cli.runs import RUN, foreign, parts_of
from priory.inference import Run, fit, load
from priory.inference.checkpoints.folders import CONFIG, Resume, read_config
from priory.inference.checkpoints.lock import check_unlocked
from priory.inference.distributed import ranks
from priory.inference.selection import judged
from priory.parsing import OPTIMS
from priory.recipes import RECIPES, find_recipe
from priory.serialisation import from_config, to_config
from priory.signatures import Collector, Option, options_of, summary

_LENGTH = ("epochs", "steps")
_PARTS = ("pair", "objective", "data")
_BEHIND = 500  # rows of the data behind the snapshots
_NAME = (
    "NAME",
    "a recipe (see priory list recipes), path/to/file.py:Class for a pair of your own, or with "
    "--resume the folder of a run",
)
_WARM = Option("warm", bool, False, "begin another run with this one's weights")
_OBJECTIVE = Option("objective", str, help="what to train by (see priory list objectives)")


def run_fit(words: Sequence[str], wants_help: bool) -> None:
    """Train a recipe, or a pair of your own, and keep the run in a folder."""
    name, rest = first_word(words)
    if name is not None and (Path(name) / CONFIG).is_file():
        _go_on(Path(name), rest, wants_help)
        return
    errors = Collector()
    if name is None and not wants_help:
        errors.found.append("fit needs a name first, for instance: priory fit vae --data digits")
    found = None if name is None else errors.attempt(find_recipe, name)
    if found is None and name is not None and name not in RECIPES and ".py" in name:
        errors.check()  # without the class, its options are not known
    recipe = found or RECIPES["vae"]
    command = Command(
        f"priory fit {name or 'NAME'} [options]",
        f"{summary(run_fit)}. A run that was stopped or killed goes on with --resume, to the same "
        "bits.",
        {
            f"the pair, {recipe.family.__name__}": pair_options(recipe),
            "objective": {"objective": replace(_OBJECTIVE, default=recipe.loss)},
            "training": {
                n: replace(o, default=recipe.training.get(n, o.default))
                for n, o in recipe.trainable().items()
                if n not in KEPT
            },
            "data": data_options(recipe.data, recipe.rendering(recipe.data)),
            "output": output("folder of the run; runs/NAME-DATA-seed by default") | _keeping(),
        },
        _NAME,
        (
            "priory fit vae --data digits --prior vamp:100 --objective iwae:10 --latent 20",
            "priory fit my_pairs.py:MyPair --data my_table.csv --standardise --epochs 50",
            "priory fit runs/vae-digits-seed0 --resume --steps 5000",
            "priory fit runs/vae-digits-seed0 --warm --out runs/warm --lr 1e-4 --epochs 5",
        ),
    )
    if wants_help:
        errors.check()
        print(command.help())
        return
    texts = command.read(rest, errors)
    from priory.comparison import slug

    source = Source(texts, recipe.data, errors, recipe.rendering)
    said = [slug(texts[k]) for k in ("pair.prior", "objective") if k in texts]
    parts = [recipe.name, slug(Path(source.name).stem), *said, f"seed{texts.get('seed', 0)}"]
    out = Path(texts.get("out") or Path("runs", "-".join(parts)))
    prepared = errors.attempt(
        recipe.prepare, folder=out, **{k: v for k, v in texts.items() if trains(k)}
    )
    replaces = texts.get("overwrite") == "true" or texts.get("resume", "false") != "false"
    errors.attempt(free_folder, out, replaces, CONFIG)
    errors.attempt(check_unlocked, out)
    errors.check()
    assert prepared is not None  # noqa: S101
    pair, objective, chosen = prepared
    ranks.barrier()  # every rank has looked at the folder before one writes
    with ranks.main_first():
        data = source.open()
    print(data, flush=True)
    run = fit(pair, objective, data, **chosen)
    _show(run, out, "" if name in RECIPES else f" --pair {name}")


def _go_on(folder: Path, words: Sequence[str], wants_help: bool) -> None:
    """Go on with a run by the options that its folder has, or begin a new one with its weights."""
    command = _run_command()
    if wants_help:
        print(command.help())
        return
    errors = Collector()
    texts = command.read(words, errors)
    resume = texts.pop("resume", "false")
    warm = texts.pop("warm", "false") == "true"
    if warm == (resume != "false"):
        errors.found.append(
            f"{folder} is the folder of a run; pass --resume to go on with it, or --warm --out "
            "FOLDER to begin another one with its weights"
        )
    free = (*_LENGTH, "skip_nonfinite", "progress")
    kept = ("pair", *_keeping())
    changed = [n for n in texts if n not in free and n not in kept and not n.startswith("data")]
    if changed and not warm:
        errors.found.append(
            f"a run goes on with the options that it has, and only {' or '.join(_LENGTH)} may "
            f"change; for another {', '.join(changed)}, begin another run with its weights: priory "
            f"fit {folder} --warm --out FOLDER"
        )
    group = command.options
    out = Path(texts.pop("out", folder))
    if warm and (out.resolve() == folder.resolve()):
        errors.found.append("a warm start needs another folder: --out FOLDER")
    if warm:
        errors.attempt(free_folder, out, texts.get("overwrite") == "true", CONFIG)
    told = {n: t for n, t in texts.items() if n in options_of(fit) and n not in _PARTS}
    values = values_of(group, told, errors)
    pair, data = parts_of(folder, texts, errors)
    config = read_config(folder)
    options = {**config["fit"], "optim": _optim(config["fit"]["optim"])}
    options |= {n: from_config(options[n]) for n in ("schedule", "best") if n in options}
    if any(n in values for n in _LENGTH):
        options |= dict.fromkeys(_LENGTH)
    print(data, flush=True)
    if warm:
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


def _run_command() -> Command:
    return Command(
        "priory fit RUN --resume [options]\n       priory fit RUN --warm --out FOLDER [options]",
        f"Go on with a run, by the options that it has: only {' or '.join(_LENGTH)} may change. Or "
        "begin another one with its weights.",
        {
            "training; the run's own by default": {
                n: replace(o, default=None)
                for n, o in RECIPES["vae"].trainable().items()
                if n not in KEPT
            },
            "run": foreign() | data_options(None),
            "output": output("folder of a warm start's run") | {"warm": _WARM} | _keeping(),
        },
        RUN,
    )


def _keeping() -> dict[str, Option]:
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
    """Draw the run's pictures into its folder, and print how it went."""
    from priory.evaluation.report.charts import training
    from priory.evaluation.report.pictures import generated, snapshots

    if not ranks.is_main():
        return
    if len(run.history) > 1:
        save_picture(training(run.history), out / "training.png")
    save_picture(generated(means_of(run.sample(64))), out / "samples.png")
    if run.snapshots:
        taken = {step: run.data.restore(x) for step, x in run.snapshots.items()}
        real = run.data.restore(run.data.valid.snapshot(_BEHIND)).cpu()
        save_picture(snapshots(taken, real), out / "snapshots.png")
    last = run.history[-1]
    bounds = [row["bound"] for row in run.history if row.get("bound") is not None]
    told = f"bound {bounds[-1]:.2f} nats per validation row, " if bounds else ""
    best = next((row for row in reversed(run.history) if row.get("best")), None)
    if best is not None:
        (name, value), *_ = [*judged(best).items(), ("bound", best.get("bound"))]
        told += f"best {name} {value:.4g} at step {best['step']:,}, "
    passed = f", {last['skipped']} steps passed over" if last.get("skipped") else ""
    print(
        f"{told}loss {last['loss']:.2f} after {last['step']:,} steps in {run.seconds:.1f} s{passed}"
    )
    for text in run.warnings:
        print(f"warning: {text}")
    print(f"saved in {out}\nnext: priory evaluate {out}{own}")
