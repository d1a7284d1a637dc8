"""What metrics judge a pair by: draws from it, each made once and only when needed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from priory.evaluation.columns import Columns, blocks, place, rows_of, thin
from priory.evaluation.latents import aggregate_log_density
from priory.evaluation.likelihood import Bounds, log_likelihood
from priory.evaluation.samples import flags, independent_marginals, median_bandwidths
from priory.evaluation.sealed import placement, reseed
from priory.inference.phase import Phase
from priory.inference.phases import Phases, generate
from priory.inference.recorder import MismatchError

SAMPLES = 2000  # rows of each set that sample metrics compare: their cost grows with the square
SHOWN = 64  # rows that pictures show
_ROWS = 500  # rows at a time
_MEAN_DRAWS = 64  # draws behind a posterior mean that has no closed form
_PROBE, _LATENTS, _RECONSTRUCTIONS, _DREAMS = 2, 3, 4, 5  # random streams; log_likelihood has 1


class Unavailable(Exception):  # an answer, not a failure: hence the name
    """A pair or its data cannot give a draw; the message says why."""


class Latents(NamedTuple):
    """Posterior draws of the single latent site, one per datum.

    Args:
        z: draws, `(n, *event)`.
        mean: posterior means, `(n, latent)`.
        log_q: log q(z given x), `(n,)`, in nats.
        log_p: log p(z), `(n,)`.
        posteriors: the distributions, by blocks of rows.
        exact: whether the means are in closed form rather than averages over draws.
    """

    z: Tensor
    mean: Tensor
    log_q: Tensor
    log_p: Tensor
    posteriors: tuple[Any, ...]
    exact: bool


class Reconstructions(NamedTuple):
    """Means of p(x given z) at z ~ q(z given x).

    Args:
        error: mean squared error over a datum's features, `(n,)`.
        x: the first data, `(SHOWN, *shape)`.
        mean: their reconstructions.
    """

    error: Tensor
    x: Tensor
    mean: Tensor


class Draws:
    """Draws of a pair on some data, made lazily: a metric reads what it declares to need.

    An attribute that the pair or the data cannot give raises `Unavailable` with the reason. To be
    read inside `sealed`.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z given x).
        columns: the rows to evaluate on.
        reference: training columns, for neighbours and anchors, if there are any.
        particles: importance samples K per datum.
        seed: seed of all draws.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        columns: Columns,
        *,
        reference: Columns | None = None,
        particles: int = 1000,
        seed: int = 0,
    ) -> None:
        self.model, self.guide, self.columns, self.reference = model, guide, columns, reference
        self.particles, self.seed = particles, seed
        self.n = len(next(iter(columns.values())))
        self._like = placement(model, guide)
        self._device = (next(iter(columns.values())) if self._like is None else self._like).device
        self._anchor: Literal["real", "baseline"] | None = None

    def anchored(self, anchor: Literal["real", "baseline"]) -> Draws:
        """Answer the same draws with other dreams: real data, or data robbed of their structure.

        Args:
            anchor: real: training rows, or half of the rows against the other half where there are
                none; baseline: each feature drawn by itself from its marginal.
        """
        other = copy.copy(self)
        other._anchor = anchor
        for name in ("dreams", "real"):
            other.__dict__.pop(name, None)
        return other

    @cached_property
    def x(self) -> Tensor:
        """The data, `(n, *shape)`."""
        if "x" not in self.columns:
            raise Unavailable(f"the data have no column x, only {', '.join(self.columns)}")
        return self.columns["x"]

    @cached_property
    def labels(self) -> Tensor:
        """The labels, `(n,)`."""
        if "y" not in self.columns:
            raise Unavailable("the data have no labels (no column y)")
        return self.columns["y"]

    @cached_property
    def flags(self) -> tuple[str, ...]:
        """What makes every number of these data less than it seems."""
        return flags(self.columns["x"]) if "x" in self.columns else ()

    @cached_property
    def phase(self) -> Phase:
        """An awake phase of two rows, to ask what sites and distributions the pair has."""
        rows = place({name: value[:2] for name, value in self.columns.items()}, self._like)
        reseed(self._device, self.seed, _PROBE)
        try:
            return Phases(self.model, self.guide, columns=rows).awake
        except MismatchError as error:
            raise Unavailable(str(error)) from error

    @cached_property
    def density(self) -> Phase:
        """The phase, if its densities are proper: a Delta has none."""
        for site in self.phase.observed:
            if _is_delta(self.phase.distribution(site, of="model")):
                raise Unavailable(
                    f"p({site} | z) is a Delta: an implicit likelihood has no density"
                )
        for site in self.phase.latents:
            if _is_delta(self.phase.distribution(site)):
                raise Unavailable(f"q({site} | x) is a Delta: a deterministic guide has no density")
        if self.phase.log_weight().shape[-1] != min(2, self.n):
            raise Unavailable("the pair has no plate 'data' of one row per datum, dim=-1")
        if float(self.phase.shared()) != 0.0:
            raise Unavailable("the pair has latents that all data share, outside the plate 'data'")
        return self.phase

    @cached_property
    def log_weight(self) -> Bounds:
        """Bounds from K importance samples per datum."""
        k = self.particles if self.density.latents else 1
        return log_likelihood(self.model, self.guide, self.columns, k, self.seed)

    @cached_property
    def latent_site(self) -> str:
        """Name of the single latent site."""
        sites = self.phase.latents
        if len(sites) != 1:
            found = f"{len(sites)}: {', '.join(sites)}" if sites else "none"
            raise Unavailable(f"needs exactly one latent site; the model has {found}")
        return sites[0]

    @cached_property
    def latents(self) -> Latents:
        """Posterior draws for the data."""
        return self._infer(self.columns)

    @cached_property
    def posterior(self) -> Latents:
        """Posterior draws for the data, with proper densities."""
        if _is_delta(self.phase.distribution(self.latent_site)):
            raise Unavailable(f"q({self.latent_site} | x) is a Delta: it has no density")
        return self.latents

    @cached_property
    def log_aggregate(self) -> Tensor:
        """Log density of the aggregated posterior at the draws, `(n,)`, in nats."""
        return aggregate_log_density(self.posterior.z, self.posterior.posteriors)

    @cached_property
    def train_latents(self) -> Latents | None:
        """Posterior draws for the training rows, if there are any."""
        return None if self.reference is None else self._infer(self.reference)

    @cached_property
    def reconstructions(self) -> Reconstructions:
        """Reconstructions of the data."""
        if "x" not in self.phase.observed:
            raise Unavailable("the model has no observed site x")
        errors, shown = [], (self.x[:0], self.x[:0])
        for start, rows in blocks(self.columns, _ROWS, self._like):
            reseed(self._device, self.seed, _RECONSTRUCTIONS, start)
            law = Phases(self.model, self.guide, columns=rows).awake.distribution("x", of="model")
            try:
                mean = law.mean.reshape(rows["x"].shape)
            except NotImplementedError as error:
                raise Unavailable(f"p(x | z), a {type(law).__name__}, has no mean") from error
            errors.append(rows_of(rows["x"] - mean).double().square().mean(1).cpu())
            if start == 0:
                shown = (rows["x"][:SHOWN].cpu(), mean[:SHOWN].cpu())
        return Reconstructions(torch.cat(errors), *shown)

    @cached_property
    def real(self) -> Tensor:
        """Data that dreams are compared with, `(m, d)`."""
        rows = self.x[1::2] if self._halved else self.x
        return rows_of(thin({"x": rows}, SAMPLES)["x"])

    @cached_property
    def dreams(self) -> Tensor:
        """Dreams of x, flattened, `(m, d)`; or the anchor in their place."""
        if self._anchor is None:
            return rows_of(self.dream("x", SAMPLES)).to(self.real)
        source = self.x if self.reference is None else self.reference["x"]
        source = rows_of(source[::2] if self._halved else source).to(self.real)
        if self._anchor == "real":
            return thin({"x": source}, SAMPLES)["x"]
        stream = torch.Generator().manual_seed(self.seed)
        return independent_marginals(source, SAMPLES, stream)

    @cached_property
    def bandwidths(self) -> tuple[float, ...]:
        """Kernel widths for comparing samples, set by the data alone."""
        return median_bandwidths(rows_of(thin({"x": self.x}, SAMPLES)["x"]))

    def dream(self, site: str, n: int) -> Tensor:
        """Draw a site n times from the model, `(n, *event)`.

        Args:
            site: a site's name, or `x_mean` for the means of p(x given z).
            n: number of draws.
        """
        parts = []
        for start in range(0, n, _ROWS):
            size = min(_ROWS, n - start)
            index = torch.arange(start, start + size) % self.n
            rows = {name: value[index.to(value.device)] for name, value in self.columns.items()}
            reseed(self._device, self.seed, _DREAMS, start)
            drawn = generate(self.model, place(rows, self._like), size)
            if site not in drawn:
                raise Unavailable(f"a dream has no {site}, only {', '.join(drawn)}")
            parts.append(drawn[site].cpu())
        return torch.cat(parts)

    @property
    def _halved(self) -> bool:
        """Whether real data are compared with themselves, for want of training rows."""
        return self._anchor == "real" and self.reference is None

    def _infer(self, columns: Columns) -> Latents:
        site, parts, posteriors, exact = self.latent_site, [], [], True
        for start, rows in blocks(columns, _ROWS, self._like):
            reseed(self._device, self.seed, _LATENTS, start)
            phase = Phases(self.model, self.guide, columns=rows).awake
            z, law = phase.sample[site][0], phase.distribution(site)
            try:
                mean = law.mean
            except NotImplementedError:
                mean, exact = law.sample((_MEAN_DRAWS,)).mean(0), False
            mean = mean.reshape(len(z), -1)
            parts.append((z, mean, phase.log_q(site)[0], phase.log_p(site)[0]))
            posteriors.append(law)
        z, mean, log_q, log_p = (torch.cat(column) for column in zip(*parts, strict=True))
        return Latents(z, mean, log_q, log_p, tuple(posteriors), exact)


def _is_delta(law: Any) -> bool:
    while hasattr(law, "base_dist"):
        law = law.base_dist
    return isinstance(law, dist.Delta)
