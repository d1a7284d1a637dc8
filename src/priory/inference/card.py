"""The card of a run's folder: what the run is, in plain words, for people and for model hubs."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import yaml

from priory.data import Data
from priory.data.data import GIVEN
from priory.inference.checkpoints.disk import write_file
from priory.inference.monitor import collected
from priory.inference.validation import warnings_of

CARD = "card.md"
_START, _END = "<!-- figures -->", "<!-- end of figures -->"
_RECIPES = "priory.recipes:RECIPES"  # imported when used: they stand on training
_NONE = "Not evaluated yet: `priory evaluate FOLDER` writes them here."


def card(config: Mapping[str, Any], data: Data, history: Sequence[Mapping[str, Any]]) -> str:
    """Return a run's card: Markdown, with what a model hub reads on top.

    Args:
        config: The run's configuration, as plain values.
        data: What it was trained on.
        history: Its rows.
    """
    pair, fit = config["pair"], config["fit"]
    recipe = resolve_name(_RECIPES).get(fit["recipe"]) if fit.get("recipe") else None
    name = data.config.get("name", "data")
    parts = {"pair": pair, "prior": _part(pair, "prior"), "objective": config["objective"]}
    tags = [spelled(p).partition("(")[0].lower() for p in (pair, parts["prior"]) if p is not None]
    tags = ["priory", "pyro", "generative-model", *tags, Path(str(name)).stem]
    tags += [] if recipe is None else [recipe.name]
    front = {"library_name": "priory", "tags": [*dict.fromkeys(tags)]}
    lines = [f"- {kind}: `{spelled(part)}`" for kind, part in parts.items() if part is not None]
    if recipe is not None:
        lines.append(f"- recipe: `{recipe.name}`, {recipe.paper}; where options differ, these hold")
    warned = warnings_from(history)
    sections = {
        "What it is": "\n".join(lines),
        "Data": "\n".join(_about_data(config, data)),
        "Training": "\n".join(_about_training(fit, history)),
        "Figures": f"{_START}\n{_NONE}\n{_END}",
        "Warnings of the training": "\n".join(f"- {text}" for text in warned) or "None.",
        "How to use it": _usage(pair, name),
    }
    title = f"# {spelled(pair).partition('(')[0]} on {Path(str(name)).stem}"
    body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections.items())
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n{title}\n\n{body}\n"


def write_card(
    folder: Path, config: Mapping[str, Any], data: Data, history: Sequence[Mapping[str, Any]]
) -> None:
    """Write a run's card into its folder.

    Args:
        folder: The run's.
        config: As in `card`, like all that follow.
        data: What it was trained on.
        history: Its rows.
    """
    write_file(folder / CARD, card(config, data, history).encode())


def put_figures(folder: Path, text: str) -> bool:
    """Put an evaluation's figures into a card, and leave the rest of it as it is.

    Args:
        folder: The run's.
        text: The figures, as Markdown.

    Returns:
        Whether the card has a place for them.
    """
    path = folder / CARD
    before, start, rest = path.read_text(encoding="utf-8").partition(_START)
    _, end, after = rest.partition(_END)
    if not (start and end):
        return False
    write_file(path, f"{before}{start}\n{text}\n{end}{after}".encode())
    return True


def warnings_from(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a training's warnings with their steps.

    Args:
        history: The run's rows.
    """
    told = [f"{text} (at step {row['step']:,})" for row in history for text in warnings_of(row)]
    return collected(history) + told


def spelled(config: Any) -> str:
    """Return a part as one would write it in Python, without what its constructor sets by itself.

    Args:
        config: The part's configuration.

    Example:
        >>> spelled({"class": "priory.priors.VampPrior", "components": 100})
        'VampPrior(components=100)'
    """
    if isinstance(config, list | tuple):
        return f"({', '.join(map(spelled, config))}{',' * (len(config) == 1)})"
    if not isinstance(config, Mapping):
        return repr(config)
    path = next((config[k] for k in ("class", "function", "partial") if k in config), None)
    if not isinstance(path, str):
        return "..."
    name = path.rpartition(".")[2]
    if path == "priory.inference.Sum":
        return " + ".join(map(spelled, config["objectives"]))
    if path == "priory.inference.Scaled":
        return f"{spelled(config['weight'])} * {spelled(config['objective'])}"
    usual = _defaults(path)
    own = {k: v for k, v in config.items() if k not in ("class", "function", "partial")}
    told = [f"{k}={spelled(v)}" for k, v in own.items() if k not in usual or _differs(v, usual[k])]
    return f"{name}({', '.join(told)})" if "class" in config else name


def _defaults(path: str) -> dict[str, Any]:
    """Return the defaults of one of Priory's own parts."""
    if not path.startswith("priory."):
        return {}
    parameters = inspect.signature(resolve_name(path)).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _differs(value: Any, default: Any) -> bool:
    """Return whether a plain value is another one than a default; of a part it is not known."""
    known = tuple(value) if isinstance(value, list) else value
    return isinstance(value, Mapping) or bool(known != default)


def _part(pair: Any, name: str) -> Any:
    return pair.get(name) if isinstance(pair, Mapping) else None


def _about_data(config: Mapping[str, Any], data: Data) -> Iterable[str]:
    own = {k: v for k, v in data.config.items() if v is not None}
    yield f"- from: `{', '.join(f'{k}={v}' for k, v in own.items())}`"
    counts = [(len(getattr(data, s)), s) for s in ("train", "valid", "test")]
    yield f"- rows: {', '.join(f'{n:,} {split}' for n, split in counts)}"
    yield f"- columns: {', '.join(f'{k} {tuple(v)}' for k, v in config['shapes'].items())}"
    steps = {k: v for k, v in config["preparation"].items() if v not in (None, False, [], {})}
    shown = yaml.safe_dump(steps, default_flow_style=True, width=10**6).strip() if steps else "none"
    yield f"- preparation: `{shown if len(shown) < 300 else shown[:297] + '...'}`"


def _about_training(fit: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    last: Mapping[str, Any] = history[-1] if history else {"step": 0, "epoch": 0, "seconds": 0.0}
    yield f"- length: {last['step']:,} steps, {last['epoch']:,} epochs, {last['seconds']:.1f} s"
    shown = ("batch_size", "lr", "schedule", "clip", "ema", "patience", "precision", "seed")
    said = {k: fit[k] for k in (*shown, "device") if fit.get(k) is not None}
    yield "- options: " + ", ".join(f"{k} {_plain(v)}" for k, v in said.items())
    if (best := next((row for row in reversed(history) if row.get("best")), None)) is not None:
        yield f"- weights: the best ones, of step {best['step']:,}"
    bounds = [row for row in history if row.get("bound") is not None]
    if bounds:
        yield (
            f"- last validation bound: {bounds[-1]['bound']:.2f} nats (K = "
            f"{fit['valid_particles']}, step {bounds[-1]['step']:,}); for following the training, "
            "not for comparing runs"
        )
    versions = [f"{n} {importlib.metadata.version(n)}" for n in ("torch", "pyro-ppl")]
    yield f"- versions: priory {resolve_name('priory:__version__')}, {', '.join(versions)}"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return spelled(value) if isinstance(value, Mapping) else str(value)


def _usage(pair: Any, data: Any) -> str:
    """Return how a run is read back and drawn from, in Python and on the command line."""
    path = str(_part(pair, "class"))
    given = "" if path.startswith("priory.") else ", pair=MyPair()"
    given += ", data=data" if data in GIVEN else ""
    needs = [f"the pair's class, `{path}`,"] if "pair" in given else []
    needs += [f"the data (the same {GIVEN[data]})"] if "data" in given else []
    note = f"\n\nIt needs {' and '.join(needs)} to be read back." if needs else ""
    return (
        "```python\nimport priory\n\n"
        f'run = priory.load("FOLDER"{given})\n'
        'samples = run.sample(64)["x"]\nprint(priory.evaluate(run))\n```\n\n'
        "```sh\npriory sample FOLDER --n 64 --out samples.png\npriory evaluate FOLDER\n```\n\n"
        f"FOLDER is this folder; `priory pull OWNER/NAME --out FOLDER` fetches it from a hub.{note}"
    )
