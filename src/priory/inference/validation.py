"""What is looked at while a pair is trained, its bound among it, and what weights it ends with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from priory.data import Data, Split
from priory.data.missing import SEEN
from priory.inference.checkpoints.weights import check_fit, put, tensors_of
from priory.inference.checks import check_plates
from priory.inference.modules import eval_mode, modules
from priory.inference.monitor import Watch
from priory.inference.objectives.base import Objective, schedules
from priory.inference.objectives.rates import rate
from priory.inference.options import FitOptions
from priory.inference.phases.arguments import Program, bind, is_estimated, owner
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.particles import bound, vectorises
from priory.inference.phases.phases import Phases
from priory.inference.phases.recorder import MismatchError, unscaled
from priory.inference.phases.sites import base
from priory.inference.randomness import own_randomness
from priory.inference.selection import Criterion, NoValue, Selection
from priory.inference.snapshots import Snapshots
from priory.inference.svi import SVI

_ROWS = 4096  # particles of the bound at a time
COLLAPSED = 0.01  # nats, below which a layer holds nothing of the data
FALLEN = 10.0  # nats, by which a bound has fallen at the least where that is reported


class Evaluations:
    """Judges the weights that a run would end with now, at epochs' ends, and keeps the best.

    With a moving average these are the averages, together with the buffers (running means, say) as
    they are. Training goes on as if nothing had been looked at.

    Args:
        pair: the pair.
        objective: what it is trained by.
        data: what on; validation rows are looked at.
        svi: takes the steps.
        options: of `fit`; the best weights are chosen by `best`, with patience alone by the bound.
        log: gets a message of what goes wrong.

    Attributes:
        before: steps of the stages before this training, on from which its own are counted.
    """

    def __init__(
        self,
        pair: Any,
        objective: Any,
        data: Data,
        svi: SVI,
        options: FitOptions,
        log: Callable[[str], object],
    ) -> None:
        self.pair, self.objective, self.data, self.svi = pair, objective, data, svi
        self.options, self.log = options, log
        self.before = 0
        self.bounded = bool(options.valid_every and len(data.valid))
        _check_rows(data, options.best, options.patience)
        self.selection = Selection(options.best, options.patience)
        self.snapshots = Snapshots(options.snapshot_every, options.seed)
        found = objective.adversaries() if isinstance(objective, Objective) else []
        watched = found if options.watch else []
        self.watch = Watch(pair, data, svi, watched, options.seed, log)

    def begin(self) -> None:
        """Prove, before the first step, that the criterion has a value.

        Raises:
            NoValue: if it has none.
        """
        self._judge()

    def add(self, row: dict[str, Any], history: Sequence[Mapping[str, Any]], *, last: bool) -> None:
        """Evaluate, where it is time to, and write the numbers into an epoch's row.

        Args:
            row: of the epoch that has ended.
            history: the rows before it.
            last: whether no step is to come.
        """
        every = self.options.valid_every
        if every == 0 or not (last or row["epoch"] % every == 0):
            return
        if self.bounded:
            row["bound"] = self._bound()
        criterion = self.selection.criterion
        if criterion is not None:
            try:
                row[criterion.name] = self._judge()
            except NoValue:  # it had one before the first step: samples are NaN or infinite, say
                row[criterion.name] = None
        if self.watch.due(row["step"], history, last=last):
            self.watch.note(row, history)
        if row.get("bound") is not None:
            best = fallen(row, history)
            if best is not None:
                row["fallen"] = best
            self._layers(row, history)
            for text in warnings_of(row):
                self.log(f"warning, step {self.before + row['step']:,}: {text}")

    def out_of_patience(self, row: dict[str, Any]) -> bool:
        """Keep the weights if they are the best so far; return whether patience is out.

        Args:
            row: of the epoch that has ended, with its numbers.
        """
        return self.selection.consider(row, self._copies)

    def snapshot(self, epochs: int, *, last: bool) -> bool:
        """Take a snapshot of the samples if it is time to; return whether it was.

        Args:
            epochs: how many are behind.
            last: whether no step is to come.
        """
        if not self.snapshots.due(epochs, last=last):
            return False
        with self.svi.averaged():
            self.snapshots.take(self.before + self.svi.steps, self.pair, self.data)
        return True

    def state(self) -> dict[str, Any]:
        """Return what a later epoch depends on, as plain values; `best` has the weights."""
        taken = [*self.snapshots.taken]
        return {"bounded": self.bounded, "snapshots": taken, **self.selection.state()}

    @property
    def best(self) -> dict[str, Tensor]:
        """The best weights and buffers so far, by name; none without patience or a criterion."""
        return self.selection.weights

    def restore(self, state: Mapping[str, Any], best: Mapping[str, Tensor]) -> None:
        """Go on from `state` and `best`.

        Args:
            state: plain values.
            best: weights and buffers.

        Raises:
            ValueError: if these are of another pair.
        """
        if best:
            check_fit(self._tensors(), best, Path("the best weights of the checkpoint"))
        self.bounded = state["bounded"]
        self.selection.restore(state, {n: v.to(self.data.device) for n, v in best.items()})

    @torch.no_grad()
    def finish(self) -> None:
        """Leave the pair with the weights that it is to be judged by."""
        if self.best:
            put(self._tensors(), self.best)
        else:
            self.svi.adopt_average()
        if isinstance(self.pair, nn.Module):
            self.pair.eval()

    def _bound(self) -> float | None:
        try:
            with self._answering():
                bound = validation_bound(
                    self.pair.model,
                    self.pair.guide,
                    self.data.valid,
                    particles=self.options.valid_particles,
                    seed=self.options.seed,
                )
                scale = self.data.scale  # of standardised data: a density in their own units
                if scale is None:
                    return bound
                seen = self.data.valid.columns.get(SEEN, torch.ones(1, device=scale.device))
                return bound - float((scale.double().log() * seen).sum()) / len(seen)
        except NoBound as error:
            if self.options.patience is not None and self.selection.criterion is None:
                raise ValueError(
                    f"patience needs a validation bound, but {error}; name a metric to count by, "
                    "for instance best=ByMetric('mmd')"
                ) from error
            self.bounded = False
            return None

    def _layers(self, row: dict[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        """Write each layer's rate into a row, and which one has collapsed."""
        with self._answering():
            rates, kls = layer_rates(
                self.pair.model, self.pair.guide, self.data.valid, seed=self.options.seed
            )
        row |= {_KL + site: nats for site, nats in rates.items()}
        ended = max((getattr(s, "steps", 0) for s in schedules(self.objective)), default=0)
        dead = collapsed(row, history, kls, ended)
        if dead:
            row["collapsed"] = dead

    def _judge(self) -> float | None:
        criterion, seed = self.selection.criterion, self.options.seed
        if criterion is None:
            return None
        with self._answering(), own_randomness(self.data.device, seed):
            return criterion(self.pair, self.data, seed)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Give the pair the weights that it would end with now, in evaluation mode."""
        with eval_mode(modules(self.pair.model, self.pair.guide)), self.svi.averaged():
            yield

    def _tensors(self) -> dict[str, Tensor]:
        return tensors_of(self.pair, self.objective, self.svi.params)

    def _copies(self) -> dict[str, Tensor]:
        """Return copies of the weights that the run would end with now, and of all buffers."""
        with self.svi.averaged():
            return {n: v.detach().clone() for n, v in self._tensors().items()}


def _check_rows(data: Data, criterion: Criterion | None, patience: int | None) -> None:
    """Raise unless there are validation rows, or none are needed."""
    asked = {"best": criterion, "patience": patience}
    if not len(data.valid) and (named := [n for n, value in asked.items() if value is not None]):
        raise ValueError(
            f"{' and '.join(named)} compare weights on validation rows, and the data have none; "
            "keep some, for instance valid=0.1, or leave the option out"
        )


class NoBound(ValueError):
    """The pair defines no bound on log p(x): an implicit model, say."""


@torch.no_grad()
def validation_bound(
    model: Program, guide: Program, split: Split, *, particles: int = 16, seed: int = 0
) -> float:
    """Return the mean importance-weighted bound on a split, in nats per datum.

    The model itself is judged: `poutine.scale` is left out.

    Draws from a random state of its own, so that training goes on as if it had not been called.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        split: held-out rows.
        particles: K of the bound; of a Markov chain as many of its steps.
        seed: seed of the draws.

    Raises:
        NoBound: if the guide lacks the model's latents, or a site is a point mass.
    """
    device = split.device
    chain: Any = owner(model)
    if hasattr(chain, "sketch"):
        return _chain_bound(chain, split, particles, seed)
    particles = 1 if is_estimated(model) else particles
    total = torch.zeros((), dtype=torch.float64, device=device)
    with own_randomness(device, seed), pyro.validation_enabled(False), unscaled():
        try:
            first = next(split.batches(8))
            awake = Phases(model, guide, columns=first).awake
            check_plates(awake, len(first["x"]))
            if masses := _point_masses(awake):
                raise NoBound(f"{masses[0]!r} is a point mass, which has no density")
            if reason := awake.no_bound():
                raise NoBound(reason)
            together = vectorises(model, guide, first)
        except MismatchError as error:
            raise NoBound(str(error)) from error
        for batch in split.batches(max(1, _ROWS // particles)):
            phases = Phases(model, guide, columns=batch, particles=particles)
            total += bound(phases, together=together).double() * len(batch["x"])
    return float(total) / len(split)


def _chain_bound(chain: Any, split: Split, particles: int, seed: int) -> float:
    """Return a Markov chain's mean bound by K steps of each datum, in nats per datum."""
    if "bound" not in chain.weightings:
        raise NoBound("the chain's steps have no bound")
    total = 0.0
    with own_randomness(split.device, seed), pyro.validation_enabled(False):
        for batch in split.batches(_ROWS // 8):
            total -= float(chain.sketch(particles=particles, **bind(chain.model, batch)).sum())
    return total / len(split)


_KL = "kl."  # before a layer's name, in a row of the history


@torch.no_grad()
def layer_rates(
    model: Program, guide: Program, split: Split, *, seed: int = 0
) -> tuple[dict[str, float], list[str]]:
    r"""Return each layer's :math:`KL(q(z_l \mid .) \| p(z_l \mid .))`, in nats per datum.

    By one draw of the latents, in closed form where there is one; see `rate`. They add up to the
    whole divergence. Of a layer that the guide draws before those above it, it is no divergence
    itself, and may be negative.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        split: Held-out rows.
        seed: Of the draws.

    Returns:
        By the latents' names, and the names of those that may collapse; nothing of a pair with a
        single latent, or with auxiliary draws.
    """
    totals: dict[str, float] = {}
    with own_randomness(split.device, seed), pyro.validation_enabled(False), unscaled():
        first = Phases(model, guide, columns=next(split.batches(8))).awake
        if len(first.local) < 2 or first.auxiliary:
            return {}, []
        for batch in split.batches(_ROWS):
            awake = Phases(model, guide, columns=batch).awake
            for site in awake.local:
                part = float(rate(awake, site, analytic=True)) * len(batch["x"]) / len(split)
                totals[site] = totals.get(site, 0.0) + part
    return totals, [site for site in totals if first.may_collapse(site)]


def collapsed(
    row: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    sites: Sequence[str],
    after: int = 0,
) -> list[str]:
    """Return the layers that have been below `COLLAPSED` for two evaluations, for the first time.

    Args:
        row: The last row of the history.
        history: The rows before it.
        sites: The layers that may collapse.
        after: Step at which the weights of the objective have their last values.
    """
    rows = [r for r in [*history, row] if r["step"] >= after]
    found = []
    for site in sites:
        dead = [r[_KL + site] < COLLAPSED for r in rows if _KL + site in r]
        twice = [a and b for a, b in itertools.pairwise(dead)]
        if twice and twice[-1] and not any(twice[:-1]):
            found.append(site)
    return found


def fallen(row: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the best bound before a row that has fallen by as much as it is worth, else None.

    A fall by less than `FALLEN` nats, or after a reported one, is none.

    Args:
        row: The last row of the history.
        history: The rows before it.
    """
    before = [r["bound"] for r in history if r.get("bound") is not None]
    if not before or any("fallen" in r for r in history):
        return None
    best = float(max(before))
    return best if best - row["bound"] > max(abs(best), FALLEN) else None


def warnings_of(row: Mapping[str, Any]) -> list[str]:
    """Return what a row of the history warns of: a bound that fell, layers that have collapsed.

    Args:
        row: The row.
    """
    found = []
    if "fallen" in row:
        found.append(
            f"the validation bound has fallen from {row['fallen']:.5g} to {row['bound']:.5g} nats: "
            "the training has diverged, or overfits badly; lower lr, clip the gradient "
            "(clip=1.0), or keep the best weights (patience=10)"
        )
    return found + [
        f"the layer {site} holds {row[_KL + site]:.2g} nats of a datum, as if it were not there: "
        "raise the weight of the KL from 0 over the first half of the steps "
        "(elbo:beta=(linear:0:1:STEPS)), leave each layer some nats free (elbo + free-bits:0.5), "
        "or take a ladder-vae"
        for site in row.get("collapsed", ())
    ]


def _point_masses(awake: Phase) -> list[str]:
    """Return the sites at which the guide's distribution, or an observation's, is a point mass."""
    distributions = [] if awake.auxiliary else [(site, "guide") for site in awake.latents]
    distributions += [(site, "model") for site in awake.observed]
    return [
        s for s, of in distributions if isinstance(base(awake.distribution(s, of=of)), dist.Delta)
    ]
