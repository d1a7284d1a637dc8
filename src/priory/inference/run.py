"""A trained run: the pair, what it was trained by and on, and how it went; saved and loaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyro
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from priory.config import from_config, to_config
from priory.data import Data
from priory.inference.arguments import Program
from priory.inference.objectives import Objective
from priory.inference.phases import generate
from priory.inference.randomness import own_randomness
from priory.nets import Net

SCHEMA = 1


class Pair:
    """Two Pyro callables as a pair.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z given x).
    """

    def __init__(self, model: Program, guide: Program) -> None:
        self.model = model
        self.guide = guide


@dataclass
class Run:
    """A trained pair with its data and history, as `fit` answers it.

    Attributes:
        pair: the trained pair.
        objective: what it was trained by.
        data: what it was trained on.
        config: `fit`'s options, as plain values.
        history: one dict per epoch: epoch, step, loss and bound (nats per datum), rate (the
            learning rate), seconds.
        store: the parameters that the programs hold in Pyro's store, by name.
    """

    pair: Any
    objective: Any
    data: Data
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    store: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Training time in seconds."""
        return float(self.history[-1]["seconds"]) if self.history else 0.0

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make the run's own parameter store Pyro's for a while."""
        state = self.store or {"params": {}, "constraints": {}}
        with pyro.get_param_store().scope(state):
            yield

    @torch.no_grad()
    def sample(self, n: int = 64, *, seed: int = 0) -> dict[str, Tensor]:
        """Draw n dreams: each site's value `(n, *event)`, and the mean of x as `x_mean`.

        Args:
            n: number of dreams.
            seed: seed of the draws; the global random state is left as it was.

        Raises:
            ValueError: if n is not positive.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        columns = self.data.train.columns
        with self.scope(), own_randomness(columns["x"].device, seed), evaluating(self.pair):
            return generate(self.pair.model, columns, n)

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the run into a folder: config.yaml, weights.safetensors, history.json.

        Args:
            folder: where to; made if it does not exist.
            overwrite: whether a run that is there may be replaced.

        Raises:
            FileExistsError: if the folder is not empty and `overwrite` is off, or holds anything
                but a run.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            if not (folder / "config.yaml").is_file():
                raise FileExistsError(f"{folder} holds other things than a run; choose another")
            if not overwrite:
                raise FileExistsError(f"{folder} has a run; pass overwrite=True to replace it")
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f".{folder.name}.{os.getpid()}")
        part.mkdir()
        try:
            self._write(part)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return folder

    def _write(self, folder: Path) -> None:
        columns = {k: [*v.shape[1:]] for k, v in self.data.train.columns.items()}
        config = {
            "schema": SCHEMA,
            "pair": to_config(self.pair),
            "objective": to_config(self.objective),
            "data": self.data.config,
            "shapes": columns,
            "dtype": str(self.data.train.x.dtype).removeprefix("torch."),
            "critics": [[*(getattr(c, "inputs", None) or ())] for c in _critics(self.objective)],
            "fit": self.config,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (folder / "history.json").write_text(json.dumps(self.history, indent=1))
        save_file(
            {k: v.detach().cpu().contiguous().clone() for k, v in self._tensors().items()},
            folder / "weights.safetensors",
        )

    def _tensors(self) -> dict[str, Tensor]:
        """Answer everything trained, by name: the pair's state, the critics', and bare params."""
        tensors: dict[str, Tensor] = {}
        if isinstance(self.pair, nn.Module):
            tensors |= {f"pair.{k}": v for k, v in self.pair.state_dict().items()}
        for number, critic in enumerate(_critics(self.objective)):
            tensors |= {f"critic{number}.{k}": v for k, v in critic.state_dict().items()}
        own = {id(p) for p in self.pair.parameters()} if isinstance(self.pair, nn.Module) else set()
        params: Mapping[str, Tensor] = self.store.get("params", {})
        tensors |= {f"store.{k}": v for k, v in params.items() if id(v) not in own}
        return tensors


def load(folder: str | os.PathLike[str], *, pair: Any = None, data: Data | None = None) -> Run:
    """Read a run back. Runs no code but Priory's own.

    Args:
        folder: where the run was saved.
        pair: the pair to load the weights into; needed if its class is not Priory's.
        data: the data; needed if they were given as arrays.

    Raises:
        FileNotFoundError: if there is no run.
        ValueError: if a part cannot be rebuilt, or the weights do not fit the pair.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(f"{folder} holds no run: there is no config.yaml in it")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    if config.get("schema") != SCHEMA:
        raise ValueError(f"{folder} has schema {config.get('schema')}, this version reads {SCHEMA}")
    pair = from_config(config["pair"]) if pair is None else pair
    data = Data.open(**config["data"]) if data is None else data
    objective = _objective(config["objective"])
    dtype = getattr(torch, config["dtype"])
    if hasattr(pair, "build"):
        pair.build(torch.zeros(2, *config["shapes"]["x"], dtype=dtype))
    for critic, inputs in zip(_critics(objective), config.get("critics", ()), strict=True):
        if inputs and isinstance(critic, Net):
            critic.build(tuple(inputs), ())
            critic.to(dtype=dtype)
    run = Run(
        pair, objective, data, config["fit"], json.loads((folder / "history.json").read_text())
    )
    _read(run, load_file(folder / "weights.safetensors"), folder)
    return run


@contextmanager
def evaluating(pair: Any) -> Iterator[None]:
    """Put a pair's modules into evaluation mode for a while, and back as each was."""
    modules = list(pair.modules()) if isinstance(pair, nn.Module) else []
    modes = [m.training for m in modules]
    if isinstance(pair, nn.Module):
        pair.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _critics(objective: Any) -> list[nn.Module]:
    return [a.critic for a in objective.adversaries()] if isinstance(objective, Objective) else []


def _objective(config: Any) -> Any:
    """Rebuild the objective, or keep its description: evaluation does not need it."""
    try:
        return from_config(config)
    except ValueError:
        return config


def _read(run: Run, tensors: dict[str, Tensor], folder: Path) -> None:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    if isinstance(run.pair, nn.Module):
        _fill(run.pair, parts.get("pair", {}), folder)
    for number, critic in enumerate(_critics(run.objective)):
        _fill(critic, parts.get(f"critic{number}", {}), folder)
    if "store" in parts:
        params = {k: v.requires_grad_() for k, v in parts["store"].items()}
        run.store = {"params": params, "constraints": {}}


def _fill(module: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
    """Load a state into a module, after a look at every name and shape."""
    own = module.state_dict()
    for name in [*own, *state]:
        expected, got = own.get(name), state.get(name)
        if expected is None or got is None or expected.shape != got.shape:
            raise ValueError(
                f"{folder}: the weights do not fit {type(module).__name__}: {name!r} is "
                f"{_shape(got)} in the file and {_shape(expected)} in the pair"
            )
    module.load_state_dict(state)


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else str(tuple(tensor.shape))
