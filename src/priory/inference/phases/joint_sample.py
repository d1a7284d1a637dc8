r"""One joint sample of a pair, scored per datum: what a density is, defined once.

Sites in the batch plate are *local*, one for each datum; all others are *shared*, `pyro.factor`
included, and enter a datum's density by their share 1/N, N being the batch plate's full size.

.. math:: \log p(x_i, z_i, w) = \log p(x_i, z_i \mid w) + \tfrac1N \log p(w)

The batch plate's own subsampling scale is taken out, so that a density is one datum's. Every other
scale, of `poutine.scale` or of an inner subsampled plate, multiplies the site's log density, as in
Pyro, and so stands inside of a multi-sample bound's logarithm; a mask leaves elements out. Weights
of rows are no part of the density: they are the data's column `weight`, by which `Phase.average`
averages. Under `recorder.unscaled`, as in evaluation, `poutine.scale` is left out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from pyro.distributions import Delta, MaskedDistribution
from torch import Tensor
from torch.distributions import kl_divergence

from priory.distributions.categorical import StraightThroughCode
from priory.inference.distributed.noise import shared_by
from priory.inference.phases.pathwise import marked
from priory.inference.phases.sites import (
    BATCH_PLATE,
    Site,
    base,
    batch_frame,
    depth,
    element_masks,
    in_batch,
    inner_scale,
    is_deterministic,
    is_discrete,
    is_latent,
    is_observation,
    is_observed,
    is_stratified,
    log_prob,
    masked,
    pick,
    rows_of,
    same,
)


class Phase:
    """One joint sample (x, z) of a pair with its densities, per datum.

    Values have the shape `(particles, batch, *event)`, observed ones `(batch, *event)`; densities
    have `(particles, batch)` and are in nats. Built by `Phases`.

    Args:
        model: the model's sites by name.
        guide: the guide's.
        nesting: number of plate dimensions to the right of the particles; found if 0.
        weight: weights of the rows, `(batch,)`.
        enumerated: the guide's latents whose values are all there, rather than draws.
    """

    def __init__(
        self,
        model: dict[str, Site],
        guide: dict[str, Site],
        nesting: int = 0,
        weight: Tensor | None = None,
        enumerated: tuple[str, ...] = (),
    ) -> None:
        self._model = model
        self._guide = guide
        self.weight, self.enumerated = weight, enumerated
        sites = [*model.values(), *guide.values()]
        self.single = not any(in_batch(s) for s in sites)
        self.nesting = nesting or depth(sites, self.single)
        self._scores: dict[tuple[str, str], Tensor] = {}
        self.sample = _Values({**guide, **model}, self.nesting)

    @property
    def guide_sites(self) -> dict[str, Site]:
        """The guide's sites by name, in the order in which they are drawn."""
        return self._guide

    @property
    def model_sites(self) -> dict[str, Site]:
        """The model's sites by name, in the order in which they are drawn."""
        return self._model

    def latents_before(self, site: str) -> tuple[str, ...]:
        """Names of the model's latents that are drawn before a site of the model."""
        order = [*self._model, site]
        return tuple(n for n in order[: order.index(site)] if is_latent(self._model[n]))

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
        """Return the Pyro distribution at a site.

        Args:
            site: the site's name.
            of: `"guide"` or `"model"`.

        Raises:
            KeyError: if the program has no such site.
        """
        return self.site(site, of)["fn"]

    def site(self, site: str, of: str) -> Site:
        """Return a site of a program, as Pyro recorded it.

        Args:
            site: the site's name.
            of: `"guide"` or `"model"`.

        Raises:
            KeyError: if the program has no such site.
        """
        return pick({"guide": self._guide, "model": self._model}[of], site, of)

    @property
    def auxiliary(self) -> tuple[str, ...]:
        """Names of the sites that the guide draws and the model does not."""
        known = self.latents
        return tuple(n for n, s in self._guide.items() if is_latent(s) and n not in known)

    @property
    def unscaled(self) -> tuple[str, ...]:
        """Names of the sites whose `poutine.scale` was left out (see `recorder.unscaled`)."""
        sites = {**self._guide, **self._model}
        return tuple(n for n, s in sites.items() if s["infer"].get("_unscaled"))

    @property
    def subsampled(self) -> tuple[str, ...]:
        """Names of plates other than the batch's that see a part of their elements."""
        frames = (f for s in self._model.values() for f in s["cond_indep_stack"])
        inner = (f for f in frames if f.name != BATCH_PLATE)
        return tuple(dict.fromkeys(f.name for f in inner if f.full_size not in (None, f.size)))

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the guide's sites that have a density, auxiliary ones and factors included."""
        return tuple(n for n, s in self._guide.items() if not is_deterministic(s))

    def drawn_per_datum(self, site: str) -> bool:
        """Return whether each datum has its own random draw of a guide's site."""
        own = self._guide[site]
        return is_latent(own) and self._local(own) and not isinstance(base(own["fn"]), Delta)

    @property
    def unreparameterised(self) -> tuple[str, ...]:
        """Names of the guide's sites whose draws lost a gradient, as a Bernoulli's do."""
        return tuple(marked(self._guide))

    def refuse_shared(self, what: str, *, points: bool = False) -> None:
        """Raise a ValueError if the guide has latents outside of the batch plate.

        Args:
            what: what takes none.
            points: whether it takes point masses, which stand for parameters.
        """
        for name, site in self._guide.items():
            free = points and isinstance(base(site["fn"]), Delta)
            if is_latent(site) and not self._local(site) and not free:
                raise ValueError(
                    f"{what} is that of each datum's own latents, and the guide draws {name!r} "
                    "outside of the batch plate, once for all data; take gradient='pathwise'"
                )

    def sum_per_datum(self, site: str, elements: Tensor) -> Tensor:
        """Sum a value of a guide's site over all that belongs to a datum, `(particles, batch)`.

        Args:
            site: the site's name.
            elements: of the shape of the site's values.
        """
        own = pick(self._guide, site, "guide")
        event = own["fn"].event_dim
        if event:
            elements = elements.sum(tuple(range(-event, 0)))
        return _leading(self._reduce(own, elements))

    def particle(self, k: int) -> dict[str, Tensor]:
        """Return the k-th particle of all that the guide draws, in the shape of a single draw."""
        return {
            n: self.sample[n][k if self._local(s) else 0]
            for n, s in self._guide.items()
            if is_latent(s)
        }

    def log_p(self, sites: str | Iterable[str] | None = None) -> Tensor:
        """Log density under the model, log p(sites | their parents), `(particles, batch)`, in nats.

        Args:
            sites: a name or names, `None` for all local sites; a shared one enters by 1/N.
        """
        return _leading(self._sum("model", sites))

    def log_q(self, sites: str | Iterable[str] | None = None) -> Tensor:
        """Log density under the guide, log q(sites | x), `(particles, batch)`, in nats.

        Args:
            sites: a name or names, `None` for all local sites; a shared one enters by 1/N.
        """
        return _leading(self._sum("guide", sites))

    def log_weight(self) -> Tensor:
        """Log importance weight of each datum, log p(x, z) - log q(z | x), of the local sites.

        Shape `(particles, batch)`, in nats.
        """
        p, q = self._sum("model", None), self._sum("guide", None)
        return _leading(p if q is None else -q if p is None else p - q)

    def log_measure(self, draws: int) -> Tensor | None:
        r"""Log of each particle's weight, :math:`\log q(c \mid x) - \log K`; None if all are equal.

        Of a mixture c is the component. A datum's weights add up to 1. Shape `(particles, batch)`.

        Args:
            draws: K, particles for each combination of the values c.
        """
        if not self.enumerated:
            return None
        mixtures = [n for n in self.enumerated if is_stratified(self._guide[n])]
        log_share = self.log_q([n for n in self.enumerated if n not in mixtures])
        for name in mixtures:
            site = self._guide[name]
            log_share = log_share + _leading(self._reduce(site, site["fn"].log_share))
        return log_share - math.log(draws)

    def mean_log_p(self, sites: Iterable[str]) -> Tensor:
        """Log density of some of the model's sites, averaged over particles and data, shape ().

        Args:
            sites: names; none give 0.
        """
        return self._mean("model", sites)

    def mean_log_q(self, sites: Iterable[str]) -> Tensor:
        """Log density of some of the guide's sites, averaged over particles and data, shape ().

        Args:
            sites: names; none give 0.
        """
        return self._mean("guide", sites)

    def kl(self, site: str) -> Tensor | None:
        """KL(q(z | x) || p(z | its parents)) in closed form, `(particles, batch)`, in nats.

        With the scale and the mask that both sites carry; a shared site's enters by 1/N. `None`
        where the closed form would not be the bound's term: none is registered with
        `torch.distributions.kl`, the two sites carry different scales or masks, the guide's is a
        point mass, whose density is that of a change of variables, or the guide draws the site's
        parents after it.
        """
        q, p = pick(self._guide, site, "guide"), pick(self._model, site, "model")
        if not self.follows_parents(site) or not self._alike(q, p):
            return None
        try:
            value = kl_divergence(q["fn"], p["fn"])
        except NotImplementedError:
            return None
        return _leading(self._score(p, masked(p, value)))

    def follows_parents(self, site: str) -> bool:
        """Return whether the guide draws a latent after those that the model draws before it.

        Only then is the mean of log q - log p at the site a divergence, and not negative.

        Args:
            site: the latent's name.
        """
        order = [n for n in self._guide if n in self._model]
        parents = self.latents[: self.latents.index(site)]
        return all(order.index(parent) < order.index(site) for parent in parents)

    def may_collapse(self, site: str) -> bool:
        """Return whether a latent's rate is a divergence that training may push to 0.

        A site that the guide marks by `infer={"as_model": True}` is drawn from the model's own
        distribution, and its rate is 0 by that.

        Args:
            site: the latent's name.
        """
        return self.follows_parents(site) and not self._guide[site]["infer"].get("as_model")

    def _alike(self, q: Site, p: Site) -> bool:
        """Return whether two sites weigh their densities alike."""
        if isinstance(base(q["fn"]), Delta) or self._local(q) != self._local(p):
            return False
        if any(isinstance(s["fn"], MaskedDistribution) for s in (q, p)):
            return False
        masks = [None if s["mask"] is True else s["mask"] for s in (q, p)]
        return same(inner_scale(q), inner_scale(p)) and masks[0] is masks[1]

    def mean_kl(self, site: str) -> Tensor | None:
        """KL of a site in closed form, averaged over particles and data, shape (); see `kl`."""
        value = self.kl(site)
        if value is None:
            return None
        return self._weighted(value) if self._local(self._model[site]) else value.sum()

    def mean_elements(self, site: str, elements: Tensor, of: str) -> Tensor:
        """Average what stands in the place of a site's log density, shape ().

        It is scaled and summed over a datum's elements, and averaged over particles and data, as
        the log density would be; a shared site's enters by 1/N.

        Args:
            site: the site's name.
            elements: of the site's batch shape.
            of: `"guide"` or `"model"`.
        """
        own = pick(self._sites(of), site, of)
        value = self._score(own, elements)
        return self._weighted(_leading(value)) if self._local(own) else value

    def masks(self, site: str, of: str) -> list[Tensor]:
        """Return the masks of a site and its distribution, broadcast over its values' elements.

        Args:
            site: the site's name.
            of: `"guide"` or `"model"`.
        """
        return element_masks(pick(self._sites(of), site, of))

    def rows(self, site: str, value: Tensor, of: str) -> Tensor:
        """Return a value of a site as rows, `(particles * batch, *inner plates, *event)`.

        Args:
            site: the site's name.
            value: `(*particles, *plates, *event)`.
            of: `"guide"` or `"model"`.
        """
        own = pick(self._sites(of), site, of)
        lead = value.dim() - own["fn"].event_dim
        nesting = self.nesting if lead > self.nesting else 0
        return rows_of(own, value, nesting, single=self.single)

    def refuse_scale(self, site: str, of: str) -> None:
        """Raise a ValueError if a site is scaled, which a cost of whole rows cannot apply.

        Args:
            site: the site's name.
            of: `"guide"` or `"model"`.
        """
        scale = inner_scale(pick(self._sites(of), site, of))
        if isinstance(scale, Tensor) or scale != 1.0:
            raise ValueError(
                f"{site!r} has a scale, of poutine.scale or of a subsampled plate, which features "
                "of whole rows cannot take; weigh the term itself, as in 0.1 * term"
            )

    def average(self, bound: Tensor, *, shared: bool = True) -> Tensor:
        """Average a per-datum quantity over particles and batch, shape ().

        Rows count by their weight, where they have one; the shared sites' share is added.

        Args:
            bound: `(batch,)` or `(particles, batch)`.
            shared: whether to add the shared sites' share (log p(w) - log q(w)) / N.
        """
        value = self._weighted(bound)
        return value + self.shared() if shared and self.has_shared else value

    def shared(self) -> Tensor:
        """Return one datum's share of the sites outside the batch plate, shape (), in nats.

        (log p(w) - log q(w)) / N, with N the batch plate's full size.
        """
        total: Tensor | float = 0.0
        for sign, program in ((1.0, "model"), (-1.0, "guide")):
            for name, site in self._sites(program).items():
                if not self._local(site) and not is_deterministic(site):
                    total = total + sign * self._scored(program, name)
        return torch.as_tensor(total)

    def no_bound(self) -> str:
        """Say why the guide's density is not that of the model's latents; "" where it is.

        A guide may draw auxiliary sites a. Where the latents are a function of a, and their point
        masses carry the change of variables, as in Pyro's autoguides, the densities are exact.
        Where q(z | x) is an integral over a, p(x, z) / q(z, a | x) bounds log p(x) only with a
        reverse model r(a | x, z), which the model does not have. A relaxed draw of a discrete
        latent has no probability under the model. An energy has no density before its normaliser
        is known, and what a procedure draws has none at all.
        """
        for site in self._model.values():
            if reason := getattr(base(site["fn"]), "no_density", ""):
                return str(reason)
        for name in self.latents:
            if name in self._guide and self._is_relaxed(name):
                return (
                    f"the guide draws {name!r} from a relaxed distribution: a relaxed code has no "
                    "probability under the model's discrete distribution"
                )
        if not self.auxiliary:
            return ""
        points = [n for n in self.latents if isinstance(base(self._guide[n]["fn"]), Delta)]
        sizes = [sum(self._guide[n]["value"].numel() for n in g) for g in (self.auxiliary, points)]
        if points and sizes[0] <= sizes[1]:
            return ""
        return (
            f"the guide draws the auxiliary site {self.auxiliary[0]!r}, and the latents are no "
            "function of it: q(z | x) is an integral, and the weights p(x, z) / q(z, a | x) bound "
            "nothing without a reverse model of the site"
        )

    def _is_relaxed(self, site: str) -> bool:
        """Return whether the guide draws a latent, discrete in the model, from a continuum."""
        distribution = self._guide[site]["fn"]
        whole = is_discrete(distribution) or isinstance(base(distribution), Delta)
        return is_discrete(self._model[site]["fn"]) and (not whole or self._is_soft(site))

    def _is_soft(self, site: str) -> bool:
        """Return whether the guide's value of a latent lies between those of the model."""
        value, drawn = self._guide[site]["value"], self._guide[site]["fn"]
        whole = not drawn.has_rsample or isinstance(base(drawn), StraightThroughCode)
        if is_discrete(drawn) and whole:
            return False  # known without a look, which a traced step cannot take
        return is_discrete(self._model[site]["fn"]) and bool(
            ((value - value.round()).abs() > 0).any()
        )

    def refuse_soft(self) -> None:
        """Raise a ValueError if a latent's value has no probability under the model.

        A straight-through draw has one: its value is whole, and its gradient is a known surrogate.
        """
        for name in self.latents:
            if self._is_soft(name):
                kind = type(base(self._model[name]["fn"])).__name__
                raise ValueError(
                    f"the guide draws {name!r} between the values of the model's {kind}, where it "
                    "has no probability, so that log p - log q is no divergence; draw it from the "
                    "same relaxed distribution in both programs, straight-through, or train the "
                    "code by Match or Adversarial"
                )

    @property
    def weighs_rows_by_scale(self) -> bool:
        """Whether every local site carries a tensor of scales: weights of the rows, it seems."""
        sites = [*self._model.values(), *self._guide.values()]
        scales = [s["scale"] for s in sites if self._local(s) and not is_deterministic(s)]
        return bool(scales) and all(isinstance(s, Tensor) and s.numel() > 1 for s in scales)

    def stray_shapes(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Yield program, site and shape of each density that has a dimension of no plate's.

        For a phase with one particle, which takes no dimension.
        """
        for program, sites in (("model", self._model), ("guide", self._guide)):
            for name, site in sites.items():
                shape = tuple(log_prob(site).shape)
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

    def _sites(self, program: str) -> dict[str, Site]:
        return self._model if program == "model" else self._guide

    def _sum(self, program: str, names: str | Iterable[str] | None) -> Tensor | None:
        """Sum the scores of some sites, `(batch,)` or `(particles, batch)`; `None` of none."""
        if names is None:
            sites = self._sites(program).items()
            names = [n for n, s in sites if self._local(s) and not is_deterministic(s)]
        total: Tensor | None = None
        for name in (names,) if isinstance(names, str) else names:
            score = self._scored(program, name)
            total = score if total is None else total + score
        return total

    def _mean(self, program: str, names: Iterable[str]) -> Tensor:
        sites = self._sites(program)
        local: list[str] = []
        shared: list[str] = []
        for name in names:
            (local if self._local(pick(sites, name, program)) else shared).append(name)
        total = [self._weighted(_leading(self._sum(program, local)))] if local else []
        total += [self._scored(program, name) for name in shared]
        return sum(total[1:], total[0]) if total else torch.zeros(())

    def _weighted(self, values: Tensor) -> Tensor:
        """Average over particles and data, by the rows' weights where there are any."""
        if self.weight is None:
            return values.mean()
        if values.dim() == 1 and len(values) % len(self.weight) == 0:  # particles, then rows
            values = values.reshape(-1, len(self.weight))
        if values.shape[-1] != len(self.weight):
            raise ValueError(
                f"the column 'weight' has {len(self.weight)} rows, and the pair's density has "
                f"{values.shape[-1]}: rows are weighted within the plate {BATCH_PLATE!r}"
            )
        return (values * self.weight.to(values)).mean()

    def _scored(self, program: str, name: str) -> Tensor:
        """Score a site once: `(batch,)` or `(particles, batch)`, or () for a shared one's share."""
        score = self._scores.get((program, name))
        if score is None:
            site = pick(self._sites(program), name, program)
            score = self._scores[program, name] = self._score(site, log_prob(site))
        return score

    def _score(self, site: Site, elements: Tensor) -> Tensor:
        """Scale and sum a site's masked elements: of each datum, or all by 1/N."""
        scale = inner_scale(site)
        if isinstance(scale, Tensor) or scale != 1.0:
            elements = elements * scale
        return self._reduce(site, elements) if self._local(site) else elements.sum() / self.size

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
    if score.dim() == 0:
        return score.reshape(1, 1)
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
