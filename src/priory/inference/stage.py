"""Stages of a run: trainings before its own, on the same pair."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from priory.data import Data
from priory.inference.checkpoints.weights import critics_of
from priory.inference.objectives.base import Objective
from priory.inference.objectives.schedules import Schedule

LENGTH = ("epochs", "steps")
_TRAINING = (*LENGTH, "lr", "schedule", "clip", "ema", "valid_every")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A training before a run's own, with whose weights the next one begins.

    `fit(..., stages=[...])` runs the stages one after the other, each with an optimiser of its own.
    What is not said here, such as the size of a batch, is as in the run. A subclass that moves the
    pair between two stages does so in `finish`; it must do the same at each call with the same
    weights, rows and seed, so that a run that was killed goes on to the same bits.

    Args:
        name: By which its options and its rows of the history are called.
        objective: What it is trained by; one without a critic.
        frozen: Parts of the pair that are not trained, by the names of their attributes.
        metrics: Names of metrics of the validation rows, for the history: taken at the end of the
            stage, once the pair is moved, and again at the end of the run.
        epochs: Passes over the training rows; 20 if neither `epochs` nor `steps` is given.
        steps: Training steps, in place of epochs.
        lr: Learning rate at the start.
        schedule: A schedule of a factor on `lr`, or its name; "cosine" and "linear"
            fall over the stage.
        clip: Largest global norm of the gradient.
        ema: Decay of a moving average of the weights, which the stage ends with.
        valid_every: Epochs between evaluations; 0 for none.

    Raises:
        ValueError: The name is no plain word, or the objective is none or has a critic.

    Example:
        >>> from priory.inference import Reconstruction, Stage
        >>> first = Stage(name="autoencoder", objective=Reconstruction(point=True), steps=2)
        >>> run = fit(VAE(latent=2), ELBO(), data, stages=[first], steps=2)
        >>> [(row.get("stage"), row["step"]) for row in run.history]
        [('autoencoder', 2), (None, 4)]
    """

    name: str
    objective: Objective
    frozen: Sequence[str] = ()
    metrics: Sequence[str] = ()
    epochs: int | None = None
    steps: int | None = None
    lr: float = 1e-3
    schedule: Schedule | Literal["constant", "cosine", "linear"] = "constant"
    clip: float | None = None
    ema: float | None = None
    valid_every: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(f"a stage's name must be one word, got {self.name!r}")
        if not isinstance(self.objective, Objective) or critics_of(self.objective):
            raise ValueError(
                f"the stage {self.name} needs an objective without a critic, got {self.objective!r}"
            )

    @property
    def training(self) -> dict[str, Any]:
        """Its own options of training, by name."""
        return {name: getattr(self, name) for name in _TRAINING}

    def check(self, pair: Any) -> None:
        """Raise unless the stage can be run on a pair; before any training.

        Args:
            pair: built.

        Raises:
            ValueError: if the pair has not the parts that are frozen.
        """
        check_frozen(pair, self.frozen, f"frozen of the stage {self.name}")

    def finish(self, pair: Any, data: Data, seed: int) -> dict[str, float]:  # noqa: ARG002
        """Move the pair to where the next stage begins; return numbers for the history.

        Args:
            pair: with the weights that the stage ends with, in evaluation mode.
            data: what it is trained on.
            seed: seed of all draws.
        """
        return {}


def check_frozen(pair: Any, names: Sequence[str], what: str) -> None:
    """Raise unless a pair has the parts that are to be frozen.

    Args:
        pair: built.
        names: of its attributes.
        what: freezes them, for the message.

    Raises:
        ValueError: naming the first part that the pair has not.
    """
    for name in names:
        if not isinstance(getattr(pair, name, None), nn.Module):
            raise ValueError(f"{what} names {name!r}, which is no part of {type(pair).__name__}")


@contextmanager
def freezing(pair: Any, names: Sequence[str]) -> Iterator[None]:
    """Take parts of a pair out of the training for a while.

    Args:
        pair: built.
        names: of its attributes.
    """
    parts = [getattr(pair, name) for name in names]
    found = [p for part in parts for p in part.parameters() if p.requires_grad]
    for parameter in found:
        parameter.requires_grad_(False)
    try:
        with warnings.catch_warnings():  # Pyro's, of every parameter that is not trained
            warnings.filterwarnings("ignore", ".* not registered in the param store")
            yield
    finally:
        for parameter in found:
            parameter.requires_grad_(True)


def check_stages(stages: Any, objective: Any) -> None:
    """Raise unless a run can have some stages before its training.

    Args:
        stages: of the run.
        objective: what it is trained by after them.

    Raises:
        ValueError: if two have one name, or the run's objective has a critic, whose training no
            stage would begin.
    """
    names = [stage.name for stage in stages]
    if len({*names}) < len(names):
        raise ValueError(f"stages need different names, got {', '.join(names)}")
    if stages and critics_of(objective):
        raise ValueError(
            "a run in stages takes an objective without a critic; train the stage by itself, and "
            "go on from its weights: fit(run.pair, objective, data)"
        )
