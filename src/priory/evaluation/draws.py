"""What metrics judge a pair by: draws from it, each made once and only when needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from priory.data.toys import Mixture
from priory.distributions.drawn import Drawn
from priory.evaluation.isolation import placement, reseed, seeded
from priory.evaluation.latents.information import aggregate_log_density, mean_of
from priory.evaluation.likelihood.auxiliary import wrong_jacobian
from priory.evaluation.likelihood.bound import Bounds, log_likelihood
from priory.evaluation.likelihood.normaliser import known_of
from priory.evaluation.likelihood.quantity import Quantity, quantity_of
from priory.evaluation.likelihood.steps import chain_of, refuse_way, step_bounds, step_terms
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import Columns, blocks, has_missing, place, rows_of
from priory.evaluation.sample_sets import Sets, Units
from priory.evaluation.subject import FEW, SAMPLES, STEPS, CodesFrom
from priory.inference.checks import check_plates
from priory.inference.modules import device_of
from priory.inference.phases.arguments import is_estimated, owner
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.phases import Phases, generate
from priory.inference.phases.recorder import MismatchError
from priory.inference.phases.sites import base
from priory.models.chain import MarkovChain, Terms
from priory.models.pair import Tractable
from priory.priors.boltzmann import Normaliser

SHOWN = 64  # rows that pictures show
_ROWS = 500  # rows at a time
_PROBE, _LATENTS, _RECONSTRUCTIONS, _GENERATED = 2, 3, 4, 5  # random streams; log_likelihood has 1


class Latents(NamedTuple):
    """Posterior draws of the single latent site, one per datum.

    Args:
        z: draws, `(n, *event)`.
        mean: posterior means, `(n, latent)`.
        log_q: log q(z | x), `(n,)`, in nats.
        log_p: log p(z), `(n,)`.
        posteriors: the distributions q(z | x), by blocks of rows.
        priors: the distributions p(z), likewise.
        exact: whether the means are in closed form rather than averages over draws.
    """

    z: Tensor
    mean: Tensor
    log_q: Tensor
    log_p: Tensor
    posteriors: tuple[Any, ...]
    priors: tuple[Any, ...]
    exact: bool


class Reconstructions(NamedTuple):
    """Means of p(x | z) at z ~ q(z | x).

    Args:
        error: mean squared error over a datum's features, `(n,)`.
        x: the first data, `(SHOWN, *shape)`.
        mean: their reconstructions.
    """

    error: Tensor
    x: Tensor
    mean: Tensor


class Draws(Sets):
    """Draws of a pair on some data, made lazily: a metric reads what it declares to need.

    An attribute that the pair or the data cannot give raises `Unavailable` with the reason. To be
    read inside `sealed`.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        columns: the rows to evaluate on.
        reference: training columns, for neighbours and anchors, if there are any.
        particles: importance samples K per datum.
        n_samples: as in `Sets`.
        features: as in `Sets`.
        mixture: as in `Sets`.
        steps: annealing temperatures, or steps of a chain, of the slow metrics.
        few: how many rows the slow metrics look at, evenly spaced.
        codes: where the points come from that paths join; see `interpolation.codec_of`.
        outliers: columns of another kind, which the pair is to distinguish from the data, if any.
        background: a run on mutated data, to judge likelihoods against, if there is one.
        seed: seed of all draws.
        units: as in `Sets`.
        sizes: likewise.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        columns: Columns,
        *,
        reference: Columns | None = None,
        particles: int = 1000,
        n_samples: int = SAMPLES,
        features: Any = "auto",
        mixture: Mixture | None = None,
        steps: int = STEPS,
        few: int = FEW,
        codes: CodesFrom = "auto",
        outliers: Columns | None = None,
        background: Any = None,
        seed: int = 0,
        units: Units | None = None,
        sizes: Sequence[int] = (),
    ) -> None:
        super().__init__(
            columns,
            reference=reference,
            n_samples=n_samples,
            features=features,
            mixture=mixture,
            seed=seed,
            units=units,
            sizes=sizes,
        )
        self.model, self.guide, self.particles = model, guide, particles
        self.steps, self.few, self.codes = steps, few, codes
        self._outliers, self._background = outliers, background
        self._like = placement(model, guide)
        self._device = device_of([self._like, *columns.values()])

    @cached_property
    def phase(self) -> Phase:
        """An awake phase of two rows, to ask what sites and distributions the pair has."""
        found = self._awake(2)
        try:
            check_plates(found, min(2, self.n))
        except ValueError as error:
            self._refuse_plate(error)
        return found

    def _refuse_plate(self, error: ValueError) -> None:
        """Raise Unavailable if the plate's size is that of three rows, too: it is the batch's."""
        try:
            check_plates(self._awake(3), min(3, self.n))
        except ValueError:
            raise Unavailable(str(error)) from error

    def _awake(self, rows: int) -> Phase:
        """Return the awake phase of the first rows."""
        few = place({name: value[:rows] for name, value in self.columns.items()}, self._like)
        reseed(self._device, self.seed, _PROBE)
        try:
            return Phases(self.model, self.guide, columns=few).awake
        except MismatchError as error:
            raise Unavailable(str(error)) from error

    @cached_property
    def exact(self) -> bool:
        """Whether the log weights are log p(x) itself: no latents, or their exact posterior."""
        pair = owner(self.model)
        tractable = isinstance(pair, Tractable) and owner(self.guide) is pair
        return tractable or not (self.density.latents or self.estimated)

    @cached_property
    def estimated(self) -> bool:
        """Whether the log densities are unbiased estimates, so that K is 1."""
        return is_estimated(self.model)

    @cached_property
    def density(self) -> Phase:
        """The phase, if its densities are proper: a Delta has none."""
        for site in self.phase.observed:
            if _is_delta(self.phase.distribution(site, of="model")):
                raise Unavailable(
                    f"p({site} | z) is a Delta: an implicit likelihood has no density"
                )
        if reason := self.phase.no_bound() or self._wrong_jacobian():
            raise Unavailable(reason)
        for site in self.phase.latents if not self.phase.auxiliary else ():
            if _is_delta(self.phase.distribution(site)):
                raise Unavailable(f"q({site} | x) is a Delta: a deterministic guide has no density")
        if plates := self.phase.subsampled:
            raise Unavailable(
                f"the plate {plates[0]!r} is subsampled: its scaled density is an estimate, whose "
                "logarithm bounds nothing"
            )
        if self.phase.log_weight().shape[-1] != min(2, self.n):
            raise Unavailable("the pair has no plate 'data' of one row per datum, dim=-1")
        if self.phase.has_shared:
            raise Unavailable("the pair has latents that all data share, outside the plate 'data'")
        return self.phase

    def _wrong_jacobian(self) -> str:
        if not self.phase.auxiliary:
            return ""
        rows = place({name: value[:2] for name, value in self.columns.items()}, self._like)
        reseed(self._device, self.seed, _PROBE)
        return wrong_jacobian(self.guide, self.phase, rows)

    @cached_property
    def log_weight(self) -> Bounds:
        """Bounds from K importance samples per datum, of densities in the data's own units."""
        return self.bounds(self.columns)

    @cached_property
    def chain(self) -> MarkovChain | None:
        """The chain that the pair is, whose bound is a sum over its steps."""
        return chain_of(self.model)

    @cached_property
    def terms(self) -> Terms:
        """The parts of the chain's negative bound, in the units that it is given x in."""
        chain = chain_of(self.model)
        if chain is None:
            raise Unavailable("the model is no Markov chain: its bound is no sum over steps")
        return step_terms(chain, self.columns, self.particles, self.seed)

    def bounds(self, columns: Columns) -> Bounds:
        """Bound log p of any rows, in the data's own units.

        Args:
            columns: the rows.
        """
        k = self.particles if self.density.latents else 1
        if (chain := self.chain) is not None:
            mine = columns is self.columns
            terms = self.terms if mine else step_terms(chain, columns, k, self.seed)
            found = step_bounds(terms)
        else:
            found = log_likelihood(self.model, self.guide, columns, k, self.seed)
        own = self.units is not None and self.quantity.is_density
        volume = self.units.log_volume(columns) if self.units is not None and own else 0.0
        return found._replace(
            log_likelihood=found.log_likelihood - volume, elbo=found.elbo - volume
        )

    @cached_property
    def normaliser(self) -> Normaliser | None:
        """What is known of the log normaliser of the pair's Boltzmann machines, if it has any."""
        return known_of(self.model, self.guide)

    @cached_property
    def quantity(self) -> Quantity:
        """What the pair's log likelihood is."""
        return quantity_of(self.density, self.model, self.columns)

    @property
    def log_scale(self) -> float:
        """What a log density in the data's own units is less by, in nats per datum.

        Raises:
            Unavailable: if it is not the same for all rows.
        """
        if self.units and self.quantity.is_density and has_missing(self.columns):
            raise Unavailable("rows that miss other entries have other units of density")
        return self.units.log_scale if self.units and self.quantity.is_density else 0.0

    @cached_property
    def flags(self) -> tuple[str, ...]:
        """What every number is to be read with."""
        try:
            sites = self.phase.unscaled
        except Unavailable:
            sites = ()
        left = f"poutine.scale at {', '.join(sites)} left out: the model itself is judged"
        return (*super().flags, *([left] if sites else []))

    @property
    def outliers(self) -> Columns:
        """Columns of another kind than the data."""
        if self._outliers is None:
            raise Unavailable("no outliers were given to be distinguished from the data")
        return self._outliers

    @property
    def background(self) -> Any:
        """A run on mutated data, to judge likelihoods against."""
        if self._background is None:
            raise Unavailable("no background run was named, one that is trained on mutated data")
        return self._background

    @cached_property
    def latent_site(self) -> str:
        """Name of the single latent site."""
        refuse_way(self.model)
        sites = self.phase.latents
        if len(sites) != 1:
            found = f"{len(sites)}: {', '.join(sites)}" if sites else "none"
            raise Unavailable(f"needs exactly one latent site; the model has {found}")
        if sites[0] not in self.phase.local:
            raise Unavailable(f"{sites[0]} is shared by all data: no datum has its own latent")
        prior = base(self.phase.distribution(sites[0], of="model"))
        if isinstance(prior, Drawn):
            raise Unavailable(prior.no_density)
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
        if reason := self.phase.no_bound():
            raise Unavailable(reason)
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
        refuse_way(self.model)
        if "x" not in self.phase.observed:
            raise Unavailable("the model has no observed site x")
        errors: list[Tensor] = []
        shown = self.x[:0], self.x[:0]
        for rows in seeded(self, _RECONSTRUCTIONS, _ROWS):
            distribution = Phases(self.model, self.guide, columns=rows).awake.distribution(
                "x", of="model"
            )
            try:
                mean = distribution.mean.reshape(rows["x"].shape)
            except NotImplementedError as error:
                raise Unavailable(
                    f"p(x | z) ({type(distribution).__name__}) has no mean"
                ) from error
            if not errors:
                shown = (rows["x"][:SHOWN].cpu(), mean[:SHOWN].cpu())
            errors.append(rows_of(rows["x"] - mean).double().square().mean(1).cpu())
        return Reconstructions(torch.cat(errors), *shown)

    def generated_rows(self, n: int) -> Tensor:
        """Draw n generated samples of x, `(n, *shape)`.

        Args:
            n: how many.
        """
        return self.generate("x", n)

    def generate(self, site: str, n: int, given: Mapping[str, Tensor] | None = None) -> Tensor:
        """Draw a site n times from the model, `(n, *event)`.

        Args:
            site: a site's name, or `x_mean` for the means of p(x | z).
            n: number of draws.
            given: values of other sites, such as labels, `(n, *event)` each.
        """
        parts = []
        for start in range(0, n, _ROWS):
            size = min(_ROWS, n - start)
            index = torch.arange(start, start + size) % self.n
            rows = {name: value[index.to(value.device)] for name, value in self.columns.items()}
            reseed(self._device, self.seed, _GENERATED, start)
            held = {k: v[start : start + size] for k, v in (given or {}).items()}
            held = {k: v.to(self._device) for k, v in place(held, self._like).items()}
            drawn = generate(self.model, place(rows, self._like), size, held)
            if site not in drawn:
                raise Unavailable(f"a sample of the model has no {site}, only {', '.join(drawn)}")
            parts.append(drawn[site].cpu())
        return torch.cat(parts)

    def _infer(self, columns: Columns) -> Latents:
        site, parts, exact = self.latent_site, [], True
        posteriors, priors = [], []
        for start, rows in blocks(columns, _ROWS, self._like):
            reseed(self._device, self.seed, _LATENTS, start)
            phase = Phases(self.model, self.guide, columns=rows).awake
            z, distribution = phase.sample[site][0], phase.distribution(site)
            mean, closed = mean_of(distribution)
            exact = exact and closed
            parts.append((z, mean.reshape(len(z), -1), phase.log_q(site)[0], phase.log_p(site)[0]))
            posteriors.append(distribution)
            priors.append(phase.distribution(site, of="model"))
        z, mean, log_q, log_p = (torch.cat(column) for column in zip(*parts, strict=True))
        return Latents(z, mean, log_q, log_p, tuple(posteriors), tuple(priors), exact)


def _is_delta(distribution: Any) -> bool:
    return isinstance(base(distribution), dist.Delta)
