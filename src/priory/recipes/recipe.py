"""One row of the zoo: a pair, a prior, an objective and a way to train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

from priory.data import SETS, Data, ImageSet
from priory.inference import Objective, Run, Stage, fit
from priory.inference.fit import pick_device
from priory.inference.options import FitOptions
from priory.inference.stage import LENGTH, check_frozen
from priory.lookup import named
from priory.parsing import parse_objective, read
from priory.signatures import REQUIRED, Collector, Option, options_of


@dataclass(frozen=True)
class Recipe:
    """A published method: which pair, which prior, which objective, and how it is trained.

    Parts are kept as text and built anew at each call, since priors, nets and critics hold weights.

    Args:
        name: by which it is asked for.
        paper: authors, year, title.
        family: the pair's class.
        loss: the objective, as `priory.parsing.parse_objective` reads it.
        options: of the pair's constructor, where they differ from its defaults.
        training: of `fit`, where they differ from its defaults.
        data: name of its default data set.
        grey: whether images keep their grey levels, as a generator without a density needs them.
        stages: trainings before its own, in their order.

    Example:
        >>> from priory.recipes import RECIPES
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
    grey: bool = False
    stages: Sequence[Stage] = ()

    def pair(self, **options: Any) -> Any:
        """Build the pair, anew at each call.

        Args:
            options: of its constructor; text is read as `priory.parsing` describes.

        Raises:
            Errors: naming each option that is unknown or out of range.
        """
        known = options_of(self.family)
        errors = Collector()
        values: dict[str, Any] = {}
        for name, value in {**self.options, **options}.items():
            option = errors.attempt(named, f"option of {self.family.__name__}", name, known)
            if option is not None:
                values[name] = errors.attempt(read, option, value)
        needed = [n for n, o in known.items() if o.default is REQUIRED and n not in values]
        errors.found += [f"{self.family.__name__} needs the option {n}" for n in needed]
        errors.check()
        pair = errors.attempt(self.family, **values)
        errors.check()
        return pair

    def objective(self, text: str | None = None) -> Objective:
        """Build the objective, anew at each call.

        Args:
            text: another one in its place.

        Raises:
            Errors: naming each part that is unknown or out of range.
        """
        return parse_objective(self.loss if text is None else text)

    def trainable(self) -> dict[str, Option]:
        """Return the options of `fit`, with this recipe's defaults."""
        parts = ("pair", "objective", "data", "on_epoch", "stages", "callbacks", "recipe")
        return {n: o for n, o in options_of(fit).items() if n not in parts}

    def staged(self) -> dict[str, Option]:
        """Return the options of the trainings before its own, `autoencoder.epochs` say."""
        return {
            f"{stage.name}.{n}": replace(o, name=f"{stage.name}.{n}", default=getattr(stage, n))
            for stage in self.stages
            for n, o in options_of(type(stage)).items()
            if n not in ("name", "objective", "frozen", "metrics")
        }

    def prepare(self, **options: Any) -> tuple[Any, Any, dict[str, Any]]:
        """Build all that `fit` needs beside the data.

        Args:
            options: `objective`, options of the pair, and options of `fit`; of a name that both
                have, `fit`'s own is meant, and `pair.name` is the pair's; `stage.name` is that of
                a training before, by its name.

        Returns:
            The pair, the objective, and the options of `fit`.

        Raises:
            Errors: naming every error in them.
        """
        mine: dict[str, Any] = {}
        pair_options: dict[str, Any] = {}
        objective = options.pop("objective", None)
        known = {**self.trainable(), **self.staged()}
        errors = Collector()
        pair_known = options_of(self.family)
        for name, value in options.items():
            bare = name.removeprefix("pair.")
            if name in known:
                before = len(errors.found)
                mine[name] = errors.attempt(read, known[name], value)
                if len(errors.found) > before:
                    del mine[name]  # the others are still looked at
            elif errors.attempt(named, "option", bare, {**known, **pair_known}):
                pair_options[bare] = value
        training = {k: v for k, v in self.training.items() if not _replaced(k, mine)}
        mine = {**{k: read(known[k], v) for k, v in training.items()}, **mine}
        if isinstance(objective, str) or objective is None:
            objective = errors.attempt(self.objective, objective)
        own = {n: mine.pop(n) for n in self.staged() if n in mine}
        if self.stages and (stages := errors.attempt(self._stages, own)) is not None:
            mine["stages"] = stages
        mine |= {"recipe": self.name} if self.paper else {}
        errors.attempt(lambda: FitOptions(**mine))
        errors.attempt(pick_device, mine.get("device", "auto"))
        pair = errors.attempt(self.pair, **pair_options)
        if pair is not None and isinstance(frozen := mine.get("frozen"), Sequence):
            errors.attempt(check_frozen, pair, frozen, "frozen")
        errors.check()
        return pair, objective, mine

    def _stages(self, given: Mapping[str, Any]) -> list[Stage]:
        """Return the trainings before its own, with the options that are given."""
        made = []
        for stage in self.stages:
            prefix = f"{stage.name}."
            own = {n.removeprefix(prefix): v for n, v in given.items() if n.startswith(prefix)}
            length = dict.fromkeys(LENGTH) if {*LENGTH} & {*own} else {}
            made.append(replace(deepcopy(stage), **{**length, **own}))
        return made

    def rendering(self, name: str) -> dict[str, Any]:
        """Return the options of a named data set, where they differ from its defaults.

        Args:
            name: the data set's name, or a file's.
        """
        own = isinstance(SETS.get(name), ImageSet)
        return {"binarise": "none"} if self.grey and own else {}

    def own_data(self, name: str | PathLike[str] | None = None) -> Data:
        """Load data as the recipe takes them.

        Args:
            name: of a data set, or a file; its own by default.

        Raises:
            ValueError: if the name fits nothing.
        """
        name = self.data if name is None else name
        return Data.open(name, **self.rendering(str(name)))

    def fit(self, data: Data | str | PathLike[str] | None = None, **options: Any) -> Run:
        """Train it.

        Args:
            data: what on, or its name or file; the recipe's own by default.
            options: as in `prepare`.

        Raises:
            Errors: naming every error in the options.
            ValueError: if the data do not suit the pair.

        Example:
            >>> from priory.recipes import RECIPES
            >>> run = RECIPES["wae-mmd"].fit(latent=4, steps=2, valid_every=0)
            >>> run.history[-1]["step"]
            2
        """
        pair, objective, mine = self.prepare(**options)
        if data is None or isinstance(data, str | PathLike):
            data = self.own_data(data)
        return fit(pair, objective, data, **mine)


def _replaced(name: str, given: Mapping[str, Any]) -> bool:
    """Return whether a default gives way to what the user asked for: steps to epochs, say."""
    return name in given or (name in ("steps", "epochs") and bool({"steps", "epochs"} & {*given}))
