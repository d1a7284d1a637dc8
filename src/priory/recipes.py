"""The zoo: one row per published method, each a pair, a prior, an objective and a way to train."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from priory.data import Data
from priory.data.files import find
from priory.inference import Objective, Run, fit
from priory.inference.fit import check_options, pick_device
from priory.models import GAN, VAE
from priory.names import named
from priory.signatures import REQUIRED, Collector, Option, options_of, summary
from priory.specs import parse_objective, read


@dataclass(frozen=True)
class Recipe:
    """A published method: which pair, which prior, which objective, and how it is trained.

    Parts are kept as text and built anew at each call, since priors, nets and critics hold weights.

    Args:
        name: by which it is asked for.
        paper: authors, year, title.
        family: the pair's class.
        loss: the objective, as `priory.specs.parse_objective` reads it.
        options: of the pair's constructor, where they differ from its defaults.
        training: of `fit`, where they differ from its defaults.
        data: name of a data set on which it is at home.

    Example:
        >>> RECIPES["vamp-vae"].pair(latent=4).prior.components
        500
    """

    name: str
    paper: str
    family: type[Any]
    loss: str = "elbo"
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    data: str = "digits"

    def pair(self, **options: Any) -> Any:
        """Build the pair, anew at each call.

        Args:
            options: of its constructor; text is read as `priory.specs` describes.

        Raises:
            Faults: naming each option that is unknown or out of range.
        """
        known = options_of(self.family)
        faults = Collector()
        values: dict[str, Any] = {}
        for name, value in {**self.options, **options}.items():
            option = faults.attempt(named, f"option of {self.family.__name__}", name, known)
            if option is not None:
                values[name] = faults.attempt(read, option, value)
        needed = [n for n, o in known.items() if o.default is REQUIRED and n not in values]
        faults.found += [f"{self.family.__name__} needs the option {n}" for n in needed]
        faults.check()
        pair = faults.attempt(self.family, **values)
        faults.check()
        return pair

    def objective(self, text: str | None = None) -> Objective:
        """Build the objective, anew at each call.

        Args:
            text: another one in its place.

        Raises:
            Faults: naming each part that is unknown or out of range.
        """
        return parse_objective(self.loss if text is None else text)

    def trainable(self) -> dict[str, Option]:
        """Answer the options of `fit`, with this recipe's defaults."""
        parts = ("pair", "objective", "data", "on_epoch")
        return {n: o for n, o in options_of(fit).items() if n not in parts}

    def prepare(self, **options: Any) -> tuple[Any, Any, dict[str, Any]]:
        """Build all that `fit` needs beside the data.

        Args:
            options: `objective`, options of the pair, and options of `fit`; of a name that both
                have, `fit`'s own is meant, and `pair.name` is the pair's.

        Returns:
            The pair, the objective, and the options of `fit`.

        Raises:
            Faults: naming every fault in them.
        """
        mine, pair_options = {}, {}
        objective = options.pop("objective", None)
        known = self.trainable()
        faults = Collector()
        pair_known = options_of(self.family)
        for name, value in options.items():
            bare = name.removeprefix("pair.")
            if name in known:
                before = len(faults.found)
                mine[name] = faults.attempt(read, known[name], value)
                if len(faults.found) > before:
                    del mine[name]  # the others are still looked at
            elif faults.attempt(named, "option", bare, {**known, **pair_known}):
                pair_options[bare] = value
        training = {k: v for k, v in self.training.items() if not _replaced(k, mine)}
        mine = {**{k: read(known[k], v) for k, v in training.items()}, **mine}
        if isinstance(objective, str) or objective is None:
            objective = faults.attempt(self.objective, objective)
        defaults = {name: option.default for name, option in known.items()}
        faults.attempt(check_options, {**defaults, **mine})
        faults.attempt(pick_device, mine.get("device", "auto"))
        pair = faults.attempt(self.pair, **pair_options)
        faults.check()
        return pair, objective, mine

    def fit(self, data: Data | None = None, **options: Any) -> Run:
        """Train it.

        Args:
            data: what on; the recipe's own by default.
            options: as in `prepare`.

        Raises:
            Faults: naming every fault in the options.
            ValueError: if the data do not suit the pair.

        Example:
            >>> run = RECIPES["wae-mmd"].fit(latent=4, steps=2, valid_every=0)
            >>> run.history[-1]["step"]
            2
        """
        pair, objective, mine = self.prepare(**options)
        return fit(pair, objective, Data.open(self.data) if data is None else data, **mine)


def _replaced(name: str, given: Mapping[str, Any]) -> bool:
    """Say whether a default gives way to what the user asked for: steps to epochs, say."""
    return name in given or (name in ("steps", "epochs") and bool({"steps", "epochs"} & {*given}))


def _vae(name: str, paper: str, loss: str = "elbo", prior: str = "normal") -> Recipe:
    """Answer a row for a VAE, with nets and training sized for the digits."""
    options = {"prior": prior, "encoder": "mlp:128", "decoder": "mlp:128"}
    training = {"steps": 1000, "lr": 2e-3, "schedule": "cosine"}
    return Recipe(name, paper, VAE, loss, options, training)


_GAN = {"steps": 5000, "batch_size": 256, "optim": "adam:betas=0.5,0.999"}

_ROWS = (
    _vae("vae", "Kingma and Welling, 2014, Auto-encoding variational Bayes"),
    _vae(
        "beta-vae", "Higgins et al., 2017, beta-VAE: learning basic visual concepts", "elbo:beta=2"
    ),
    _vae("iwae", "Burda et al., 2016, Importance weighted autoencoders", "iwae:5"),
    _vae(
        "gm-vae",
        "Jiang et al., 2017, Variational deep embedding; the component is summed out",
        prior="mixture:10",
    ),
    _vae("vamp-vae", "Tomczak and Welling, 2018, VAE with a VampPrior", prior="vamp:500"),
    _vae(
        "sb-vae",
        "Nalisnick and Smyth, 2017, Stick-breaking variational autoencoders",
        prior="stick-breaking:5",
    ),
    _vae(
        "wae-mmd",
        "Tolstikhin et al., 2018, Wasserstein auto-encoders",
        "reconstruction + 10*match:mmd:z",
    ),
    _vae(
        "aae",
        "Makhzani et al., 2016, Adversarial autoencoders",
        "reconstruction + adversarial:z:critic=(mlp:128,128)",
    ),
    Recipe(
        "gan",
        "Goodfellow et al., 2014, Generative adversarial nets",
        GAN,
        "adversarial:x:critic=(mlp:128,128)",
        {"generator": "mlp:128,128"},
        _GAN,
        data="ring",
    ),
)

RECIPES: dict[str, Recipe] = {row.name: row for row in _ROWS}


def find_recipe(name: str) -> Recipe:
    """Answer a recipe by its name, or one for a pair of the user's own.

    Args:
        name: a name in `RECIPES`, or `path/to/file.py:Class`. The file is run.

    Raises:
        ValueError: if the name is unknown, or the file has no such class.
    """
    found = re.fullmatch(r"(.+\.py)(?::(\w+))?", name)
    if found is None:
        return named("recipe", name, RECIPES)
    family = pair_class(found[1], found[2])
    return Recipe(family.__name__, summary(family), family)


def pair_class(path: str, name: str | None = None) -> type[Any]:
    """Answer a pair's class from a file of the user's own, which is run.

    Args:
        path: the file.
        name: the class; the file's only pair if it is None.

    Raises:
        ValueError: if there is no such file or class, or the class is no pair.
    """
    file = find(path)
    if not file.is_file():
        raise ValueError(f"no file {path}")
    module = _module(file)
    pairs = {
        n: v
        for n, v in vars(module).items()
        if isinstance(v, type) and v.__module__ == module.__name__ and _is_pair(v)
    }
    if not pairs:
        raise ValueError(f"{path} has no pair: a class with the methods model and guide")
    if name is None and len(pairs) > 1:
        raise ValueError(f"{path} has several pairs; say which: {path}:{next(iter(pairs))}")
    return named(f"pair in {path}", name or next(iter(pairs)), pairs)


def _module(file: Path) -> ModuleType:
    """Run a file, once in a process, as the module of its name."""
    name = file.stem
    while name in sys.modules:
        if getattr(sys.modules[name], "__file__", None) == str(file):
            return sys.modules[name]
        name += "_"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # noqa: S101
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_pair(found: type) -> bool:
    return all(callable(getattr(found, program, None)) for program in ("model", "guide"))
