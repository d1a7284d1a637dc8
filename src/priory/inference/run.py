"""A trained run: the pair, what it was trained by and on, and how it went; saved and loaded."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal

import pyro
import torch
from torch import Tensor, nn

from priory.data import Data, Preparation
from priory.inference.alone import alone
from priory.inference.card import warnings_from, write_card
from priory.inference.checkpoints.disk import sweep, write_folder
from priory.inference.checkpoints.folders import (
    CONFIG,
    WEIGHTS,
    check_folder,
    read_run,
    read_snapshots,
    run_files,
)
from priory.inference.checkpoints.lock import locked
from priory.inference.checkpoints.missing_data import Absent, columns_of, opened
from priory.inference.checkpoints.weights import check_fit, critics_of, put, tensors_of
from priory.inference.distributed import ranks
from priory.inference.hub import SCHEME, fetched, push
from priory.inference.modules import eval_mode, modules
from priory.inference.objectives.base import Objective
from priory.inference.phases.arguments import Program, bind, build, owner
from priory.inference.phases.conditioning import every_value, given_rows
from priory.inference.phases.phases import generate
from priory.inference.randomness import own_randomness
from priory.likelihoods.base import FORMER, Likelihood
from priory.nets import Critic, Decoder, Net
from priory.serialisation import from_config, to_config

_JUDGES = {
    "encode": "priory.evaluation:encode",
    "export": "priory.onnx:export",
    "explore": "priory.evaluation:explore",
    "impute": "priory.evaluation:impute_rows",
    "score": "priory.evaluation:score",
}
"""Where the verbs are that stand on training, imported when used."""


class Programs(nn.Module):
    """Two Pyro callables as a pair; those that are modules, or methods of one, are parts of it.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
    """

    def __init__(self, model: Program, guide: Program) -> None:
        super().__init__()
        self.model = model
        self.guide = guide
        owners = {id(o): o for p in (model, guide) if (o := owner(p)) is not p}
        self.owners = nn.ModuleList(o for o in owners.values() if isinstance(o, nn.Module))


@dataclass
class Run:
    """A trained pair with its data and history, as `fit` returns it.

    Attributes:
        pair: the trained pair.
        objective: what it was trained by.
        data: what it was trained on.
        config: `fit`'s options, as plain values.
        history: one dict per epoch: epoch, step, loss and bound (nats per datum), the metric that
            the best weights are chosen by, best (where they are the best so far), rate (the
            learning rate), watch and warnings (of an adversarial training that collapses), seconds.
        store: the parameters that the programs hold in Pyro's store, by name.
        snapshots: the same samples `(n, *shape)` by the step at which they were drawn.
        preparation: what was done to the training rows, and is done to new ones; the data's own if
            `None`.
    """

    pair: Any
    objective: Any
    data: Data
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    store: dict[str, Any] = field(default_factory=dict)
    snapshots: dict[int, Tensor] = field(default_factory=dict)
    preparation: Preparation | None = None

    def __post_init__(self) -> None:
        if self.preparation is None:
            self.preparation = getattr(self.data, "_preparation", None)

    @property
    def warnings(self) -> list[str]:
        """Warnings of a training that collapses or diverges, of dead layers, with their steps."""
        return warnings_from(self.history)

    @property
    def seconds(self) -> float:
        """Training time in seconds."""
        return float(self.history[-1]["seconds"]) if self.history else 0.0

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make the run's own parameter store Pyro's for a while."""
        state = self.store or {"params": {}, "constraints": {}}
        with alone(), pyro.get_param_store().scope(state):
            yield

    @torch.no_grad()
    def sample(
        self,
        n: int = 64,
        *,
        given: Mapping[str, Any] | None = None,
        seed: int = 0,
        sampler: Literal["ancestral", "ddim"] | None = None,
        sample_steps: int | None = None,
        guidance: float | None = None,
    ) -> dict[str, Tensor]:
        """Draw n samples: each site's value `(n, *event)`, and the mean of x as `x_mean`.

        Both are in the data's own units: where the training rows were standardised, that is undone.

        A given value is held while the model runs: the sites after it follow it, those before it
        do not know of it.

        Args:
            n: number of samples.
            given: values of sites such as a label, `{"y": 3}`, or n of them, one for each sample;
                labels are what the data call them (`data.classes`), and a one-hot code may be
                given by its number.
            seed: seed of the draws; the global random state is left as it was.
            sampler: of a diffusion, how its ways are drawn: ancestral or ddim.
            sample_steps: of a diffusion, the steps of a drawn way.
            guidance: of a diffusion with labels, how much these are exaggerated.

        Raises:
            ValueError: if n is not positive, the model has no such site, a value is not one of
                its own, or the pair does not draw by such an option.
        """
        ways = {"sampler": sampler, "sample_steps": sample_steps, "guidance": guidance}
        ways = {name: value for name, value in ways.items() if value is not None}
        with self._drawing(ways):
            return self._sample(n, given, seed)

    @torch.no_grad()
    def chain(
        self, n: int = 64, *, steps: int | None = None, seed: int = 0, **drawing: Any
    ) -> Tensor:
        """Draw n chains over time, from their start to a sample: `(time, n, *shape)`, on the CPU.

        The pair is one with a method `way(n, steps)`, which yields the states: a chain that
        denoises, or a diffusion. States are in the data's own units.

        Args:
            n: number of chains.
            steps: of each, if the pair leaves them open; its own number if `None`.
            seed: seed of the draws; the global random state is left as it was.
            **drawing: of a diffusion, how its ways are drawn, as in `sample`.

        Raises:
            ValueError: if the pair is no chain, a number is not positive, or the chain has a number
                of steps of its own.
        """
        way = getattr(self.pair, "way", None)
        if way is None:
            raise ValueError(
                f"{type(self.pair).__name__} is no chain, and its samples have no way: leave chain "
                "out, or take a pair such as DAE, GSN or Diffusion"
            )
        for name, count in (("n", n), ("steps", 1 if steps is None else steps)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        programs = modules(self.pair.model, self.pair.guide)
        device = columns_of(self.data)["x"].device
        own = own_randomness(device, seed)
        with self._drawing(drawing), self.scope(), eval_mode(programs), own:
            states = torch.stack([x.cpu() for x in way(n, steps)])
        if self.preparation is None:
            return states
        return self.preparation.restore(states.flatten(0, 1)).reshape(states.shape)

    def _drawing(self, options: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """Return what draws by some options of a chain for a while."""
        if not options:
            return nullcontext()
        sampling = getattr(self.pair, "sampling", None)
        if sampling is None:
            raise ValueError(
                f"{', '.join(options)} are options of a diffusion's draws, and "
                f"{type(self.pair).__name__} is none: leave them out"
            )
        found: AbstractContextManager[Any] = sampling(**options)
        return found

    def _sample(self, n: int, given: Mapping[str, Any] | None, seed: int) -> dict[str, Tensor]:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        columns, model = columns_of(self.data), self.pair.model
        device = columns["x"].device
        with self.scope(), eval_mode(modules(model, self.pair.guide)):
            held = None
            if given:
                with own_randomness(device, seed):
                    held = given_rows(model, columns, given, n, self.data.classes)
            with own_randomness(device, seed):
                draws = generate(model, columns, n, held)
        if self.preparation is None:
            return draws
        restore = self.preparation.restore
        return {k: restore(v) if k in ("x", "x_mean") else v for k, v in draws.items()}

    def encode(self, data: Any = None, **options: Any) -> Any:
        """Encode each row: posterior means, scales and draws, clusters and classes.

        Args:
            data: the rows; the run's test rows if `None`.
            **options: those of `priory.encode`, which this is.

        Returns:
            `priory.evaluation.Codes`.
        """
        return resolve_name(_JUDGES["encode"])(self, data, **options)

    def score(self, data: Any = None, **options: Any) -> Any:
        """Score each row by log p(x) in nats, with its standard error.

        Args:
            data: the rows; the run's test rows if `None`.
            **options: those of `priory.score`, which this is.

        Returns:
            `priory.evaluation.Scores`.
        """
        return resolve_name(_JUDGES["score"])(self, data, **options)

    def impute(self, data: Any = None, **options: Any) -> Any:
        """Fill missing entries in, given what is seen of their rows: means, quantiles and draws.

        Args:
            data: the rows, with NaN where an entry is missing; the run's test rows if `None`.
            **options: those of `priory.impute_rows`, which this is.

        Returns:
            `priory.evaluation.Imputed`.
        """
        return resolve_name(_JUDGES["impute"])(self, data, **options)

    def export(self, folder: str | os.PathLike[str], data: Any = None, **options: Any) -> Any:
        """Write encoder, decoder and sampler as ONNX models, checked against onnxruntime.

        Args:
            folder: where to.
            data: rows to check by; the run's test rows if `None`.
            **options: those of `priory.onnx.export`, which this is.

        Returns:
            `priory.onnx.Exported`.
        """
        return resolve_name(_JUDGES["export"])(self, folder, data, **options)

    def explore(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write a page on which the run's latent space is explored, without a server or a network.

        Args:
            path: where to.
            **options: those of `priory.explore`, which this is.

        Returns:
            The page's path.
        """
        found: Path = resolve_name(_JUDGES["explore"])(self, path, **options)
        return found

    def every_value(self, site: str) -> list[int]:
        """Return the values of a label that the data have, or of a categorical site: 0, 1, ...

        Args:
            site: which; each returned value can be given to `sample`.

        Raises:
            ValueError: if it is neither.
        """
        columns, model = columns_of(self.data), self.pair.model
        own = own_randomness(columns["x"].device, 0)
        with self.scope(), eval_mode(modules(model, self.pair.guide)), own:
            return every_value(model, columns, site, self.data.classes)

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the run into a folder: config.yaml, history.json, weights.safetensors, manifest.

        Beside them is card.md, which says what the run is.

        The folder takes its name when all is on the disk; a run that is replaced is there whole
        until then.

        Args:
            folder: where to; made if it does not exist.
            overwrite: whether a run that is there may be replaced.

        Raises:
            ValueError: if the pair's constructor does not keep its arguments.
            FileExistsError: if the folder is not empty and `overwrite` is off, or holds anything
                but a run.
            OSError: naming the file that cannot be written; a former run stands.
        """
        folder = Path(folder)
        if not ranks.is_main():
            ranks.barrier()  # the main rank writes
            return folder
        sweep(folder.parent, folder.name)
        check_folder(folder, resume=False, overwrite=overwrite)
        config = described(self.pair, self.objective, self.data, self.config)
        tensors = tensors_of(self.pair, self.objective, self.store.get("params", {}))
        with locked(folder) if folder.exists() else nullcontext():
            write_folder(folder, run_files(config, self.history, tensors, self.snapshots))
            write_card(folder, config, self.data, self.history)
        ranks.barrier()
        return folder

    def push(self, repository: str, **options: Any) -> str:
        """Send the run to a model hub, as `save` writes it; return its address there.

        A folder that has a report and pictures too is sent by `priory.inference.push`.

        Args:
            repository: owner/name; made if it does not exist.
            **options: those of `priory.inference.push`.

        Raises:
            OSError: if the hub cannot be reached, or refuses; says why.
        """
        with tempfile.TemporaryDirectory() as place:
            folder = self.save(Path(place) / repository.rpartition("/")[2])
            return push(folder, repository, **options)


def described(pair: Any, objective: Any, data: Data, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's configuration: plain values from which `load` rebuilds it.

    Args:
        pair: the pair.
        objective: what it is trained by.
        data: what on.
        options: `fit`'s.

    Raises:
        ValueError: if the pair's constructor does not keep its arguments.
    """
    return {
        "pair": _writable(pair),
        "objective": to_config(objective),
        "data": data.config,
        "shapes": {k: [*v.shape[1:]] for k, v in data.train.columns.items()},
        "dtype": str(data.train.x.dtype).removeprefix("torch."),
        "preparation": data.preparation.to_config(),
        "likelihoods": {name: to_config(d.likelihood) for name, d in _choosing(pair).items()},
        "critics": [[*(getattr(c, "inputs", None) or ())] for c in critics_of(objective)],
        "fit": dict(options),
    }


def _choosing(pair: Any) -> dict[str, Decoder]:
    """Return a pair's decoders whose likelihood is chosen from the data, by their names."""
    parts = pair.named_modules() if isinstance(pair, nn.Module) else ()
    return {name: part for name, part in parts if isinstance(part, Decoder) and part.auto}


def _writable(pair: Any) -> Any:
    """Return a pair as plain values; two programs alone are given again when they are loaded."""
    config = to_config(pair)
    if not isinstance(pair, Programs) and (errors := [*_unwritable(config)]):
        raise ValueError(
            f"the pair cannot be rebuilt from a folder: {errors[0]}; keep each argument of a "
            "constructor under its own name (self.hidden = hidden), and give functions that stand "
            "at the top of a module, or train without a folder"
        )
    return config


def _unwritable(config: Any) -> Iterator[str]:
    if isinstance(config, Mapping):
        if "unwritable" in config:
            yield config["unwritable"]
        for value in config.values():
            yield from _unwritable(value)
    elif isinstance(config, list):
        for value in config:
            yield from _unwritable(value)


def load(folder: str | os.PathLike[str], *, pair: Any = None, data: Data | None = None) -> Run:
    """Read a run back; of one that is not finished, the newest checkpoint. Runs no foreign code.

    Args:
        folder: where the run was saved; or hf://owner/name, on a model hub, from which it is
            fetched once.
        pair: the pair to load the weights into, or a tuple of two Pyro callables; needed if its
            class is not Priory's. Autoguides may be new ones.
        data: the data; needed if they were given as arrays; prepared as the training rows were. A
            run whose file is not there any more draws and judges data that are given; what needs
            its own rows says that they are absent.

    Raises:
        FileNotFoundError: if there is no run.
        ValueError: if a file is damaged, the pair cannot be rebuilt, or the weights do not fit it;
            it names the file.
        ImportError: if a part needs an extra that is not installed; it names the extra.

    Warns:
        UserWarning: if the objective cannot be rebuilt; `run.objective` is then its description.
    """
    folder = fetched(str(folder)) if str(folder).startswith(SCHEME) else Path(folder)
    config, history, tensors = read_run(folder)
    rebuilt = _pair(config["pair"], folder) if pair is None else None
    pair = Programs(*pair) if isinstance(pair, tuple) else pair
    objective = _objective(config["objective"], folder)
    try:
        x = _rows(config)
        data = opened(config) if data is None else data
        for name, decoder in _choosing(pair or rebuilt).items():  # not from rows of zeros
            chosen = config.get("likelihoods", {}).get(name, config["pair"].get("likelihood"))
            decoder.likelihood = from_config(chosen) if chosen else decoder.likelihood
        x = _inside(pair or rebuilt, x)
        build(rebuilt, x, _labels(rebuilt))
        _build_critics(objective, config, x.dtype)
        preparation = _preparation(config, data)
    except (AttributeError, KeyError, MemoryError, RuntimeError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG} does not describe a run: {error}") from error
    build(pair, x, _labels(pair))  # an error of the user's own class is shown as it is
    pair = rebuilt if pair is None else pair
    if preparation is not None and not isinstance(data, Absent):
        data = data.like(preparation)
    run = Run(pair, objective, data, config["fit"], history, snapshots=read_snapshots(folder))
    tensors = _renamed(tensors, tensors_of(pair, None, {}))
    if set(tensors_of(pair, None, {})) != {n for n in tensors if not n.startswith("critic")}:
        run.store = _declared(pair, data, config["fit"].get("batch_size", 2))
    if not isinstance(objective, Objective):  # its critics are not needed to judge the run
        tensors = {n: t for n, t in tensors.items() if not n.startswith("critic")}
    own = tensors_of(pair, objective, run.store.get("params", {}))
    tensors = _as_now(tensors, own)
    check_fit(own, tensors, folder / WEIGHTS)
    put(own, tensors)
    return run


_MOVED = {  # names of parameters in runs that were saved when a pair held its nets itself
    r"\.(decoder|generator|lower)\.likelihood\.": ".likelihood.",
    r"\.encoder\.normalise\.": ".normalise.",
    r"\.labels\.log_frequencies$": ".log_frequencies",
    r"\.net\.": ".",
}


def _renamed(tensors: dict[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Return a file's tensors by the names that a pair's parts have now."""
    now = dict(tensors)
    for name in own:
        former = name
        for part, before in _MOVED.items():
            former = re.sub(part, before, former, count=1)
        if name not in now and former in now:
            now[name] = now.pop(former)
    return now


def _as_now(tensors: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a file's tensors with those of a likelihood that was saved before it had units."""
    absent = [n for n in own if n not in tensors]
    found = {n: FORMER[n.split(".")[-1]] for n in absent if n.split(".")[-1] in FORMER}
    now = tensors | {n: torch.full_like(own[n], value) for n, value in found.items()}
    if found and (pseudo := now.get("pair.prior.pseudo")) is not None:
        units = [next(n for n in now if n.endswith(f".likelihood.{u}")) for u in ("centre", "unit")]
        centre, unit = (now[name] for name in units)
        now["pair.prior.pseudo"] = (pseudo - centre) / unit
    return now


def _rows(config: dict[str, Any]) -> Tensor:
    """Return rows of zeros, of the shape and type that a configuration has."""
    sizes = config["shapes"]["x"]
    if not all(type(size) is int and size > 0 for size in sizes):
        raise TypeError(f"x can't have rows of shape {sizes}")
    return torch.zeros(2, *sizes, dtype=getattr(torch, config["dtype"]))


def _inside(pair: Any, x: Tensor) -> Tensor:
    """Return rows of zeros as rows that lie in the support of a pair's likelihood."""
    for part in pair.modules() if isinstance(pair, nn.Module) else ():
        if isinstance(part, Decoder) and isinstance(part.likelihood, Likelihood):
            x = part.likelihood.blank(x)
    return x


def _labels(pair: Any) -> dict[str, Tensor]:
    """Return a label of each class that a pair has: the weights hold their frequencies."""
    classes = getattr(pair, "classes", None)
    return {"y": torch.arange(classes)} if isinstance(classes, int) else {}


def _build_critics(objective: Any, config: dict[str, Any], dtype: torch.dtype) -> None:
    """Make the parameters of an objective's critics."""
    known = config["critics"] if isinstance(objective, Objective) else []
    for critic, inputs in zip(critics_of(objective), known, strict=True):
        if inputs and isinstance(critic, Net | Critic):
            shapes: Any = tuple(tuple(i) if isinstance(i, list) else i for i in inputs)
            critic.build(shapes, ())
            critic.to(dtype=dtype)


def _preparation(config: dict[str, Any], data: Data) -> Preparation | None:
    """Return how the training rows were prepared; an old run does not say, and its data do."""
    if "preparation" not in config:
        found: Preparation | None = getattr(data, "_preparation", None)
        return found
    try:
        return Preparation.from_config(config["preparation"])
    except ValueError as error:
        raise TypeError(str(error)) from error


def _pair(config: Any, folder: Path) -> nn.Module:
    """Rebuild a pair of Priory's own."""
    pair = from_config(config)
    if not isinstance(pair, nn.Module):
        raise ValueError(f"{folder / CONFIG} describes no pair, but {config!r:.99}")
    return pair


def _objective(config: Any, folder: Path) -> Any:
    """Rebuild the objective, or warn and keep its description: evaluation does not need it."""
    try:
        objective = from_config(config)
        if isinstance(objective, Objective):
            return objective
        reason: Any = f"it describes no objective, but {config!r:.99}"
    except ValueError as error:
        reason = error
    warnings.warn(
        f"the objective of {folder} cannot be rebuilt, and run.objective is its description "
        f"alone: the run can be sampled and judged, but not trained on: {reason}",
        stacklevel=3,
    )
    return config


def _declared(pair: Any, data: Data, rows: int) -> dict[str, Any]:
    """Return a parameter store in which the programs have declared their parameters.

    Args:
        pair: autoguides make their parameters when they are first run.
        data: what the programs are run on.
        rows: of a training step, which may be the number of some parameters' rows.
    """
    if isinstance(data, Absent):
        batch = data.zeros(rows)
    else:
        batch = next(data.train.batches(min(rows, len(data.train))))
    with (
        alone(),
        pyro.get_param_store().scope() as state,
        own_randomness(data.device),
        eval_mode(modules(pair.model, pair.guide)),
        torch.no_grad(),
    ):
        pair.guide(**bind(pair.guide, batch))
        pair.model(**bind(pair.model, batch))
    return state
