"""One joint sample of a pair, scored per datum."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from priory.inference.parallel.noise import shared_by
from priory.inference.sites import (
    Site,
    batch_frame,
    depth,
    in_batch,
    inner_scale,
    is_deterministic,
    is_latent,
    is_observation,
    is_observed,
    is_one,
    log_prob,
    pick,
    same,
)


class Phase:
    """One joint sample (x, z) of a pair with its densities, per datum.

    Values have the shape `(particles, batch, *event)`, observed ones `(batch, *event)`; densities
    have `(particles, batch)` and are in nats. Built by `Phases`.
    """

    def __init__(self, model: dict[str, Site], guide: dict[str, Site], nesting: int = 0) -> None:
        self._model = model
        self._guide = guide
        sites = [*model.values(), *guide.values()]
        self.single = not any(in_batch(s) for s in sites)
        self.nesting = nesting or depth(sites, self.single)
        self._scores: dict[tuple[str, str], Tensor] = {}
        self.sample = _Values({**guide, **model}, self.nesting)

    def _local(self, site: Site) -> bool:
        return self.single or in_batch(site)

    @property
    def latents(self) -> tuple[str, ...]:
        """Names of the model's latent sites, in the order in which they are drawn."""
        return tuple(n for n, s in self._model.items() if is_latent(s))

    @property
    def local(self) -> tuple[str, ...]:
        """Names of the latent sites in the batch plate: each datum has its own."""
        return tuple(n for n in self.latents if self._local(self._model[n]))

    @property
    def observed(self) -> tuple[str, ...]:
        """Names of the model's observed sites."""
        return tuple(n for n, s in self._model.items() if is_observation(s))

    def distribution(self, site: str, of: str = "guide") -> Any:
        """Answer the Pyro distribution at a site.

        Args:
            site: the site's name.
            of: `"guide"` or `"model"`.

        Raises:
            KeyError: if the program has no such site.
        """
        return pick({"guide": self._guide, "model": self._model}[of], site, of)["fn"]

    def particle(self, k: int) -> dict[str, Tensor]:
        """Answer the k-th particle of every latent, in the shape that a program drew alone has."""
        return {
            n: self.sample[n][k if self._local(self._guide[n]) else 0]
            for n in self.latents
            if n in self._guide
        }

    def log_p(self, *sites: str) -> Tensor:
        """Log density under the model, log p(sites given their parents), `(particles, batch)`.

        All sites of the batch plate if none is named. Without the batch plate's own scale, in
        nats per datum; a `poutine.scale` that all sites share is left out too (`average` applies
        it).
        """
        return _leading(self._sum("model", self._model, sites))

    def log_q(self, *sites: str) -> Tensor:
        """Log density under the guide, log q(sites given x), `(particles, batch)`. See `log_p`."""
        return _leading(self._sum("guide", self._guide, sites))

    def log_weight(self) -> Tensor:
        """Log importance weight of each datum, log p(x, z) - log q(z given x).

        Shape `(particles, batch)`, in nats.
        """
        p, q = self._sum("model", self._model, ()), self._sum("guide", self._guide, ())
        return _leading(p if q is None else -q if p is None else p - q)

    def kl(self, site: str) -> Tensor | None:
        """KL(q(z given x) || p(z given its parents)) in closed form, `(particles, batch)`.

        `None` where no closed form is registered with `torch.distributions.kl`, or where the guide
        draws the site's parents after it, so that the closed form would not be the bound's term.
        """
        q, p = pick(self._guide, site, "guide"), pick(self._model, site, "model")
        order = [n for n in self._guide if n in self._model]
        parents = self.latents[: self.latents.index(site)]
        if any(order.index(parent) > order.index(site) for parent in parents):
            return None
        try:
            value = kl_divergence(q["fn"], p["fn"])
        except NotImplementedError:
            return None
        return _leading(self._reduce(p, value))

    def average(self, bound: Tensor, *, shared: bool = True) -> Tensor:
        """Average a per-datum quantity over particles and batch, in nats per datum.

        Applies the `poutine.scale` that all sites share, outside of any logarithm, and adds the
        global sites' share (log p(w) - log q(w)) / N, with N the batch plate's full size.

        Args:
            bound: `(batch,)` or `(particles, batch)`.
            shared: whether to add the global sites' share.
        """
        scale = self._outer_scale
        value = (bound if is_one(scale) else bound * scale).mean()
        return value + self.shared() if shared and self.has_shared else value

    def shared(self) -> Tensor:
        """Answer one datum's share of the sites outside the batch plate, shape ().

        (log p(w) - log q(w)) / N, with N the batch plate's full size.
        """
        total: Tensor | float = 0.0
        for sign, sites in ((1.0, self._model), (-1.0, self._guide)):
            for site in sites.values():
                if not self._local(site) and not is_deterministic(site):
                    total = total + sign * log_prob(site, site["scale"]).sum()
        return torch.as_tensor(total) / self.size

    def stray_shapes(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Yield program, site and shape of each density that has a dimension of no plate's.

        For a phase with one particle, which takes no dimension.
        """
        for program, sites in (("model", self._model), ("guide", self._guide)):
            for name, site in sites.items():
                shape = tuple(log_prob(site, 1.0).shape)
                plates = {f.dim for f in site["cond_indep_stack"] if f.vectorized}
                if any(n > 1 and d - len(shape) not in plates for d, n in enumerate(shape)):
                    yield program, name, shape

    @functools.cached_property
    def size(self) -> int:
        """Full size N of the batch plate: how many data share the global sites."""
        for site in self._model.values():
            frame = batch_frame(site)
            if frame is not None and frame.full_size in (None, frame.size):
                return int(frame.size) * shared_by()  # the plate is the batch, of all ranks
            if frame is not None:
                return int(frame.full_size)
        return 1

    @functools.cached_property
    def has_shared(self) -> bool:
        """Whether there are sites outside of the batch plate, shared by all data."""
        sites = (*self._model.values(), *self._guide.values())
        return any(not self._local(s) and not is_deterministic(s) for s in sites)

    @functools.cached_property
    def _outer_scale(self) -> Any:
        """The scale of the observed sites, if they agree and it is one number per datum."""
        seen = [s for s in self._model.values() if self._local(s) and is_observation(s)]
        scales = [inner_scale(s) for s in seen]
        if not scales or not all(same(scales[0], s) for s in scales):
            return 1.0
        scale = scales[0]
        if isinstance(scale, Tensor) and scale.dim() > 1:
            return 1.0
        return scale

    def _sum(self, program: str, sites: dict[str, Site], names: tuple[str, ...]) -> Tensor | None:
        """Sum the scores of some sites, `(batch,)` or `(particles, batch)`; `None` of none."""
        chosen: Iterable[str]
        chosen = names or [
            n for n, s in sites.items() if self._local(s) and not is_deterministic(s)
        ]
        total: Tensor | None = None
        for name in chosen:
            score = self._scores.get((program, name))
            if score is None:
                site = pick(sites, name, program)
                outer, inner = self._outer_scale, inner_scale(site)
                scale = 1.0 if same(inner, outer) else inner / outer
                score = self._reduce(site, log_prob(site, scale))
                self._scores[program, name] = score
            total = score if total is None else total + score
        return total

    def _reduce(self, site: Site, score: Tensor) -> Tensor:
        """Sum a site's densities over all dimensions but the particles' and the batch plate's."""
        frame = batch_frame(site)
        keep = {frame.dim, -1 - self.nesting} if frame is not None else {-1 - self.nesting}
        rest = [d for d in range(-score.dim(), 0) if d not in keep]
        if rest:
            score = score.sum(rest)
        if frame is None:  # a single datum: the batch has one row
            score = score.unsqueeze(-1)
        return score


def _leading(score: Tensor | None) -> Tensor:
    """Give a score its particles' dimension."""
    if score is None:
        return torch.zeros(1, 1)
    return score.unsqueeze(0) if score.dim() == 1 else score


class _Values(Mapping[str, Tensor]):
    """Values by site: latents with particles leading, observations as they are."""

    def __init__(self, sites: dict[str, Site], nesting: int) -> None:
        self._sites = sites
        self._nesting = nesting

    def __getitem__(self, name: str) -> Tensor:
        site = pick(self._sites, name, "pair")
        value: Tensor = site["value"]
        if is_observed(site):
            return value
        particles = value.dim() - len(site["fn"].event_shape) > self._nesting
        return value if particles else value.unsqueeze(0)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)
