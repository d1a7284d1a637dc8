"""Whether adversarial training collapses: samples that are all alike, modes lost, critics that won.

What is looked at are plain numbers of samples and scores; what is said of them depends on these
numbers alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyro
import torch
from torch import Tensor

from priory.data import Data, Split
from priory.inference.modules import eval_mode, modules
from priory.inference.objectives.base import Adversary
from priory.inference.phases.phases import Phases, generate
from priory.inference.randomness import own_randomness
from priory.inference.svi import SVI

APART = 200
"""Steps from one look to the next, at least: a look costs about as much as three steps."""
LASTING = 3
"""Looks in a row at which something must be so before it is warned of."""

ALIKE, LOST, WON, FAINT, GROWN = 0.1, 0.75, 0.999, 1e-3, 1e3
"""Bounds: of the variance's ratio, of modes, of right orders, of the gradient, of the scores."""

_ROWS = 256  # samples, and rows, of a look
_GROUND = 2000  # training rows that the modes are found among
_SCORES = 64  # from which on their order says something: critics of whole sets give few
_CLUSTERS = 20
_DUE = 0.1  # share of its due from which on a mode counts as reached

Look = dict[str, Any]


def alarms(looks: Sequence[Look]) -> dict[str, str]:
    """Return warnings by their kind, of what has been so at the last looks in a row.

    Args:
        looks: the numbers of all looks so far, as `Watch` takes them.

    Example:
        >>> alarms([{"spread": 0.01, "critics": []}] * 3)["alike"][:32]
        'the samples are nearly all alike'
    """
    found = [_wrong(looks[: n + 1]) for n in range(len(looks))[-LASTING:]]
    if len(found) < LASTING:
        return {}
    return {kind: text for kind, text in found[-1].items() if all(kind in one for one in found)}


def collected(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each kind of warning once, in its last form, and when it was given.

    Args:
        history: a run's.
    """
    rows = [row for row in history if row.get("watch")]
    looks = [row["watch"] for row in rows]
    steps: dict[str, list[int]] = {}
    texts: dict[str, str] = {}
    for n, row in enumerate(rows):
        for kind, text in alarms(looks[: n + 1]).items():
            steps.setdefault(kind, []).append(row["step"])
            texts[kind] = text
    told = []
    for kind, at in steps.items():
        over = "" if at[-1] == rows[-1]["step"] else f", and no longer after step {at[-1]:,}"
        told.append(f"{texts[kind]} (from step {at[0]:,} on{over})")
    return told


def _wrong(looks: Sequence[Look]) -> dict[str, str]:
    """Return what is wrong by the numbers of the last look, and of those before it."""
    now, found = looks[-1], {}
    if _below(now.get("spread"), ALIKE):
        found["alike"] = (
            f"the samples are nearly all alike: their variance is {now['spread']:.2%} of the "
            "data's; lower lr, let the critic see several samples at once (pack=2), or add r1"
        )
    if now.get("modes") is not None and now["modes"] < LOST * now["of"]:
        found["modes"] = (
            f"the samples reach {now['modes']} modes, and as many rows of the data {now['of']}: "
            "mode collapse; let the critic see several samples at once (pack=2), or try "
            "game=wasserstein with gradient_penalty=10"
        )
    for n, critic in enumerate(now["critics"]):
        name = f"the critic on {critic['sites']}"
        former = [look["critics"][n] for look in looks]
        free = critic["game"] == "wasserstein"
        if not free and _below(WON, critic["order"]):
            found[f"won {n}"] = (
                f"{name} separates held-out rows from samples ({critic['order']:.2%} of "
                "pairs in the right order): it has won, and what it hands on says little; give it "
                "fewer steps or a lower rate, noise, or r1"
            )
        peak = max((c["gradient"] or 0.0) for c in former)
        if critic["gradient"] is not None and critic["gradient"] <= FAINT * peak:
            found[f"faint {n}"] = (
                f"{name} hands on a gradient of {critic['gradient']:.2g}, and it was {peak:.2g}: it"
                " is saturated or dead; try game=non-saturating or wasserstein, or a lower lr"
            )
        early = max(abs(c["gap"] or 0.0) for c in former[:LASTING])
        if critic["gap"] is not None and abs(critic["gap"]) > GROWN * max(early, 1e-6):
            found[f"grown {n}"] = (
                f"the scores of {name} drift apart without end, by {critic['gap']:.3g} after "
                f"{early:.3g}: nothing holds its slope; give it gradient_penalty=10, clip or r1"
            )
    return found


class Watch:
    """Looks at an adversarial training now and then, and says what goes wrong.

    Training goes on as if it had not looked: it draws from a random state of its own.

    Args:
        pair: the pair.
        data: what it is trained on; the critics are asked about validation rows, or training
            rows where there are none.
        svi: takes the steps.
        critics: the adversaries of the objective.
        seed: of all draws.
        log: gets a warning of what begins to go wrong.
    """

    def __init__(
        self,
        pair: Any,
        data: Data,
        svi: SVI,
        critics: Sequence[Adversary],
        seed: int,
        log: Callable[[str], object],
    ) -> None:
        self.pair, self.data, self.svi, self.critics = pair, data, svi, critics
        self.seed, self.log = seed, log
        self._ground: tuple[Tensor, Modes | None, int] | None = None

    def due(self, step: int, history: Sequence[Mapping[str, Any]], *, last: bool) -> bool:
        """Return whether it is time for a look.

        Args:
            step: number of steps behind.
            history: rows so far.
            last: whether no step is to come.
        """
        before = next((row["step"] for row in reversed(history) if row.get("watch")), 0)
        return bool(self.critics) and (last or step - before >= APART)

    def note(self, row: dict[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        """Take a look, and write it into a row of the history: `watch`, and perhaps `warnings`.

        Args:
            row: of the epoch that has ended.
            history: the rows before it.
        """
        row["watch"] = self.look()
        looks = [r["watch"] for r in [*history, row] if r.get("watch")]
        wrong, before = alarms(looks), alarms(looks[:-1])
        if wrong:
            row["warnings"] = list(wrong.values())
        for kind, text in wrong.items():
            if kind not in before:
                self.log(f"warning, step {row['step']:,}: {text}")

    def look(self) -> Look:
        """Return the numbers of samples and critics at this moment, as plain values."""
        resting = modules(self.pair.model, self.pair.guide, *(a.critic for a in self.critics))
        device = self.data.device
        held = _evenly(self.data.valid if len(self.data.valid) else self.data.train, _ROWS)
        with (
            own_randomness(device, self.seed),
            eval_mode(resting),
            pyro.validation_enabled(False),
        ):
            with self.svi.averaged(), torch.no_grad():
                drawn = generate(self.pair.model, held, _ROWS)
            generated = drawn.get("x_mean", drawn.get("x"))
            seen = {} if generated is None else self._generated(_flat(generated))
            return {**seen, "critics": [self._critic(a, held) for a in self.critics]}

    def _generated(self, generated: Tensor) -> Look:
        if self._ground is None:
            rows = _flat(_evenly(self.data.train, _GROUND)["x"]).to(generated)
            modes = modes_of(self.data, rows)
            few = rows[torch.linspace(0, len(rows) - 1, min(_ROWS, len(rows))).long()]
            self._ground = rows, modes, 0 if modes is None else reached(few, modes)
        rows, modes, of = self._ground
        finite = bool(generated.isfinite().all())
        look: Look = {"spread": _plain(spread(generated, rows))}
        if modes is not None:
            look |= {"modes": reached(generated, modes) if finite else 0, "of": of}
        return look

    def _critic(self, adversary: Adversary, held: dict[str, Tensor]) -> Look:
        phases = Phases(self.pair.model, self.pair.guide, columns=held)
        params = [p for p in self.svi.params.values() if p.requires_grad]
        loss = adversary.loss(phases)
        found: Sequence[Tensor | None] = ()
        if loss.requires_grad:
            found = torch.autograd.grad(loss, params, allow_unused=True)
        norms = [g.norm() for g in found if g is not None]
        awake, asleep = adversary.both(phases)
        return {
            "sites": ",".join(adversary.sites),
            "game": adversary.game,
            "value": _plain(float(adversary.value(phases))),
            "order": order(awake, asleep) if min(map(len, (awake, asleep))) >= _SCORES else None,
            "gap": _plain(float(awake.mean() - asleep.mean())),
            "gradient": _plain(float(torch.stack(norms).norm()) if norms else 0.0),
        }


def _evenly(split: Split, n: int) -> dict[str, Tensor]:
    """Return rows of a split, evenly spaced; of batches, those that are held."""
    split = getattr(split, "head", split)
    rows = torch.linspace(0, len(split) - 1, min(n, len(split)), dtype=torch.float64).round()
    return split.take(rows.long().to(split.columns["index"].device))


def _flat(x: Tensor) -> Tensor:
    return x.flatten(1) if x.dim() > 1 else x[:, None]


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _below(value: float | None, bound: float | None) -> bool:
    return value is not None and bound is not None and value < bound


class Modes(NamedTuple):
    """Places where the data are dense.

    Args:
        centres: `(modes, d)`.
        shares: of the data, `(modes,)`.
        reach: how far from its centre a mode ends, `(modes,)`.
    """

    centres: Tensor
    shares: Tensor
    reach: Tensor


def modes_of(data: Data, x: Tensor) -> Modes | None:
    """Return the modes of the data's density where it is a known mixture, else clusters of rows.

    A mode of a mixture ends half way to the next one. Clusters are those of k-means, and a sample
    belongs to the nearest.

    Args:
        data: may know their density.
        x: training rows, `(n, d)`.

    Returns:
        None if there are too few rows to find any.
    """
    if data.density is not None:
        centres = data.density.centres.to(x)
        gaps = torch.cdist(centres, centres).fill_diagonal_(math.inf).min(1).values
        return Modes(centres, x.new_full((len(centres),), 1 / len(centres)), gaps / 2)
    count = min(_CLUSTERS, len(x) // 20)
    if count < 2:
        return None
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):  # sums in the same order at every run
        found = KMeans(count, n_init=1, max_iter=50, random_state=0).fit(x.cpu().double().numpy())
    centres = torch.as_tensor(found.cluster_centers_).to(x)
    sizes = torch.as_tensor(found.labels_, device=x.device).bincount(minlength=count)
    return Modes(centres, sizes.to(x) / len(x), x.new_full((count,), math.inf))


def reached(samples: Tensor, modes: Modes) -> int:
    """Count the modes that at least a tenth of their due of the samples lie in.

    Args:
        samples: `(n, d)`.
        modes: of the data.

    Example:
        >>> two = Modes(torch.tensor([[0.0], [4.0]]), torch.tensor([0.5, 0.5]), torch.ones(2))
        >>> reached(torch.zeros(10, 1), two)
        1
    """
    distance, nearest = torch.cdist(samples, modes.centres).min(1)
    inside = nearest[distance <= modes.reach[nearest]]
    counts = inside.bincount(minlength=len(modes.centres))
    return int((counts >= (_DUE * len(samples) * modes.shares).clamp_min(1)).sum())


def spread(samples: Tensor, rows: Tensor) -> float:
    """Return the samples' total variance over the data's; 0 where all samples are alike.

    Args:
        samples: `(n, d)`.
        rows: of the data, `(m, d)`.
    """
    return float(samples.var(0).sum() / rows.var(0).sum())


def order(awake: Tensor, asleep: Tensor) -> float:
    """Return the share of pairs that a critic puts in the right order: P(awake above asleep).

    The area under its ROC curve: 1 if it separates them without fail, 0.5 if it cannot. It does
    not depend on where a game's scores have their boundary.

    Args:
        awake: scores `(n,)`.
        asleep: scores `(m,)`.
    """
    above = (awake[:, None] > asleep).double() + 0.5 * (awake[:, None] == asleep).double()
    return float(above.mean())
