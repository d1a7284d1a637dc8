"""Awake and asleep: the two joint samples of a Pyro pair. The only code that touches poutine."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from priory.inference.arguments import Program, bind, named
from priory.inference.engine.precision import casting, widened
from priory.inference.phase import Phase
from priory.inference.sites import Site, depth, in_batch, is_latent, is_observed, pick
from priory.names import suggestion

_HINT = " (did you mean {!r}?)"


class MismatchError(ValueError):
    """The model and the guide do not fit together: a site is missing, surplus or drawn twice."""


class DeeperPlates(Exception):
    """A site sits in more plates than dimensions were set aside for, to the right of particles."""

    def __init__(self, nesting: int) -> None:
        super().__init__(nesting)
        self.nesting = nesting


class Recorder(Messenger):
    """Runs a program once and keeps its sample sites.

    Does in one handler what `trace`, `replay` and `uncondition` do in three, and draws `particles`
    samples of each site inside the batch plate. Sites outside of it (global latents) are drawn
    once: the particles of one datum must share them for a multi-sample bound to be a bound.

    Args:
        replay: values by site name, used in place of fresh draws.
        dream: draw the observed sites too.
        particles: samples of each site in the batch plate, as a new leading dimension.
        nesting: number of plate dimensions to the right of the particles.
        single: there is no batch plate: the whole program is one datum.
    """

    hears_sites_alone = True

    def __init__(
        self,
        replay: Mapping[str, Tensor] | None = None,
        *,
        dream: bool = False,
        particles: int = 1,
        nesting: int = 1,
        single: bool = False,
    ) -> None:
        super().__init__()
        self.replay = replay or {}
        self.dream = dream
        self.particles = particles
        self.nesting = nesting
        self.single = single
        self.casting = casting()
        self.sites: dict[str, Site] = {}
        self.subsamples: dict[str, Tensor] = {}

    def _process_message(self, msg: Site) -> None:
        # Most messages are a module's parameters: they pass at the price of one comparison.
        if msg["type"] == "sample":
            self._pyro_sample(msg)

    def _postprocess_message(self, msg: Site) -> None:
        if msg["type"] == "sample":
            self._pyro_post_sample(msg)

    def _pyro_sample(self, msg: Site) -> None:
        name = msg["name"]
        if self.casting:
            msg["fn"] = widened(msg["fn"])
        if name in self.replay and not msg["is_observed"]:
            msg["value"] = self.replay[name]
            msg["done"] = True
        elif site_is_subsample(msg):
            return
        elif msg["is_observed"]:
            if self.dream and not msg["infer"].get("_deterministic"):
                msg["is_observed"] = False
                msg["infer"]["was_observed"] = True
                msg["value"] = None
                msg["done"] = False
        elif self.particles > 1 and (self.single or in_batch(msg)):
            self._expand(msg)

    def _expand(self, msg: Site) -> None:
        shape = msg["fn"].batch_shape
        if len(shape) <= self.nesting:
            padding = (1,) * (self.nesting - len(shape))
            msg["fn"] = msg["fn"].expand((self.particles, *padding, *shape))

    def _pyro_post_sample(self, msg: Site) -> None:
        name = msg["name"]
        if site_is_subsample(msg):
            self.subsamples[name] = msg["value"]
            return
        if name in self.sites:
            raise MismatchError(f"two sites are called {name!r}; give each site its own name")
        if self.particles > 1 and (plates := depth([msg], self.single)) > self.nesting:
            raise DeeperPlates(plates)
        self.sites[name] = msg


class Phases:
    """Awake and asleep joint samples of a model/guide pair, each traced once, when first asked for.

    Awake, the guide reads the data and the model is replayed on its latents: x ~ data,
    z ~ q(z given x). Asleep, the model dreams and the guide is replayed on the dream:
    (z, x) ~ p(z, x). Arguments are bound by name: each program gets the columns that its signature
    names, and a dream replaces those whose sites it drew.

    Args:
        model: Pyro program of p(x, z); the data's plate is called `data`.
        guide: Pyro program of q(z given x).
        args: positional arguments of both programs.
        columns: arguments by name.
        particles: samples of the latents per datum, awake.
        latents: values of the guide's sites that are given rather than drawn, awake.

    Raises:
        ValueError: if `particles` is not positive, or an argument has no column.
        MismatchError: when awake, if a latent of the model is missing from the guide, the guide
            draws one that the model lacks, or two sites share a name.

    Example:
        >>> phases = Phases(pair.model, pair.guide, (x,), particles=5)   # doctest: +SKIP
        >>> phases.awake.log_weight().shape                              # doctest: +SKIP
        torch.Size([5, 128])
    """

    def __init__(
        self,
        model: Program,
        guide: Program,
        args: tuple[Any, ...] = (),
        columns: Mapping[str, Any] | None = None,
        *,
        particles: int = 1,
        latents: Mapping[str, Tensor] | None = None,
    ) -> None:
        if particles < 1:
            raise ValueError(f"particles must be at least 1, got {particles}")
        self.model, self.guide, self.particles = model, guide, particles
        self.latents = latents
        self.columns = {**named(model, args), **(columns or {})}

    @functools.cached_property
    def awake(self) -> Phase:
        """The data, the guide's latents for them, and both densities."""
        nesting, single = 1, False
        while True:
            try:
                phase = self._awake(nesting, single)
            except DeeperPlates as deeper:
                nesting = deeper.nesting
                continue
            except (RuntimeError, ValueError) as error:
                # A plate of the model's may have run into the particles' dimension.
                needed = self._nesting(error) if self.particles > 1 else 0
                if needed <= nesting:
                    raise
                nesting = needed
                continue
            if self.particles == 1 or single or not phase.single:
                return phase
            single = True

    def _nesting(self, error: Exception) -> int:
        """Answer how many dimensions the plates take, by a run with one particle."""
        if isinstance(error, MismatchError):
            return 0
        return Phases(self.model, self.guide, columns=self.columns).awake.nesting

    def _awake(self, nesting: int, single: bool) -> Phase:
        many = functools.partial(Recorder, particles=self.particles, nesting=nesting, single=single)
        guide = many(self.latents)
        with guide:
            self.guide(**bind(self.guide, self.columns))
        drawn = {n: s["value"] for n, s in guide.sites.items() if not is_observed(s)}
        model = many({**drawn, **guide.subsamples})
        with model:
            self.model(**bind(self.model, self.columns))
        check_match(model.sites, guide.sites)
        return Phase(model.sites, guide.sites, nesting if self.particles > 1 else 0)

    @functools.cached_property
    def asleep(self) -> Phase:
        """One dream of the model per row of the batch, and the guide replayed on it."""
        model = self._dream
        drawn = {n: s["value"] for n, s in model.sites.items()}
        columns = {n: drawn.get(n, value) for n, value in self.columns.items()}
        guide = Recorder({**drawn, **model.subsamples})
        with guide:
            self.guide(**bind(self.guide, columns))
        return Phase(model.sites, guide.sites)

    @functools.cached_property
    def _dream(self) -> Recorder:
        model = Recorder(dream=True)
        with model:
            self.model(**bind(self.model, self.columns))
        return model

    def data(self, site: str) -> Tensor:
        """Answer a site's awake value: the column of that name, else the guide's draw.

        Particles and batch are flattened together: `(samples, *event)`. A column is not traced,
        so that an implicit model whose guide has no latents can be compared with its data.
        """
        if site in self.columns:
            value: Tensor = self.columns[site]
            return value
        return self.awake.sample[site].flatten(0, 1)

    def dream(self, site: str) -> Tensor:
        """Answer a site's asleep value, `(batch, *event)`. Runs the model alone, not the guide."""
        value: Tensor = pick(self._dream.sites, site, "model")["value"]
        return value


def generate(
    model: Program,
    columns: Mapping[str, Tensor],
    n: int,
    replay: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Draw n dreams from a model.

    Args:
        model: Pyro program.
        columns: the data's columns, tensors with rows first; rows are repeated to make n. They
            give the shapes, and whatever the model is conditioned on.
        n: number of dreams.
        replay: values of sites that are given rather than drawn.

    Returns:
        The value of each site, `(n, *event)`, and under `site + "_mean"` the mean of each observed
        site's distribution, where it has one.
    """
    rows = {k: v[torch.arange(n, device=v.device) % len(v)] for k, v in columns.items()}
    recorder = Recorder(replay, dream=True)
    with recorder:
        model(**bind(model, rows))
    out = {name: site["value"] for name, site in recorder.sites.items()}
    for name, site in recorder.sites.items():
        if site["infer"].get("was_observed"):
            try:
                out[name + "_mean"] = site["fn"].mean
            except NotImplementedError:
                continue
    return out


def check_match(model: Mapping[str, Site], guide: Mapping[str, Site]) -> None:
    """Raise a MismatchError unless the guide draws exactly the model's latents."""
    latents = {n for n, s in model.items() if is_latent(s)}
    drawn = {n for n, s in guide.items() if is_latent(s) and not s["infer"].get("is_auxiliary")}
    if missing := sorted(latents - drawn):
        raise MismatchError(
            f"the model draws {missing[0]!r}, which the guide does not"
            f"{suggestion(missing[0], drawn, _HINT)}; add the site to the guide, or observe it in "
            "the model"
        )
    if surplus := sorted(drawn - latents):
        raise MismatchError(
            f"the guide draws {surplus[0]!r}, which is no latent of the model"
            f"{suggestion(surplus[0], latents, _HINT)}; if that is meant, mark it "
            "infer={'is_auxiliary': True}"
        )


class ParameterRecorder(Messenger):
    """Keeps the unconstrained parameters that programs ask the store for while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.params: dict[str, Tensor] = {}

    def _pyro_post_param(self, msg: Site) -> None:
        value = msg["value"]
        # Pyro's setting module_local_params gives parameters that are in no store.
        self.params[msg["name"]] = getattr(value, "unconstrained", lambda: value)()
