"""Awake and asleep: the two joint samples of a Pyro pair."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical

from priory.data.missing import SEEN
from priory.data.split import WEIGHT
from priory.inference.phases.antithetic import Antithetic
from priory.inference.phases.arguments import Program, bind, likelihood_at, modules_of, named, owner
from priory.inference.phases.enumeration import Strata, combinations
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.observed import arguments_of
from priory.inference.phases.pathwise import (
    check_means,
    frozen,
    keep_marks,
    marked,
    refuse_guide,
    refuse_model,
    refuse_random,
    rows_apart,
)
from priory.inference.phases.recorder import DeeperPlates, Enough, MismatchError, Recorder
from priory.inference.phases.sites import (
    Site,
    base,
    in_batch,
    is_latent,
    is_observed,
    is_stratified,
    pick,
    rows_of,
)
from priory.lookup import suggestion
from priory.nets.one_hot import one_hot
from priory.priors.training_rows import scored

_HINT = " (did you mean {!r}?)"


class Phases:
    """Awake and asleep joint samples of a model/guide pair, each traced once, when first asked for.

    Awake, the guide reads the data and the model is replayed on its latents: x ~ data,
    z ~ q(z | x). Asleep, the model is sampled and the guide is replayed on the sample:
    (z, x) ~ p(z, x). Arguments are bound by name: each program gets the columns that its signature
    names, and a sample replaces those whose sites it drew.

    Args:
        model: Pyro program of p(x, z); the data's plate is called `data`.
        guide: Pyro program of q(z | x).
        args: positional arguments of both programs.
        columns: arguments by name. `weight`, `(batch,)`, is no argument: it is the rows' weights,
            by which densities are averaged, outside of any logarithm.
        particles: samples of the latents per datum, awake.
        latents: values of the guide's sites that are given rather than drawn, awake.
        point: whether the guide's latents are their distributions' means, with one particle.

    Raises:
        ValueError: if `particles` is not positive, or an argument has no column.
        MismatchError: when awake, if a latent of the model is missing from the guide, the guide
            draws one that the model lacks, or two sites share a name.

    Example:
        >>> phases = Phases(pair.model, pair.guide, (x,), particles=5)
        >>> phases.awake.log_weight().shape
        torch.Size([5, 12])
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
        constant_guide: bool = False,
        enumerated: tuple[str, ...] = (),
        draw: Antithetic | None = None,
        straight: bool = False,
        point: bool = False,
    ) -> None:
        if particles < 1:
            raise ValueError(f"particles must be at least 1, got {particles}")
        self.model, self.guide, self.particles = model, guide, particles
        self.latents, self.constant_guide = latents, constant_guide
        self.enumerated, self.draw, self.straight = enumerated, draw, straight
        self.point = point
        self._subsamples: dict[str, Tensor] = {}
        self._enumerated: dict[tuple[str, ...], Phase] = {}
        self._generated: dict[frozenset[str], Recorder] = {}  # by the sites that are their means
        self._replayed: dict[Any, Phase] = {}
        self.columns = {**named(model, args), **(columns or {})}
        self.weight: Tensor | None = self.columns.get(WEIGHT)
        self._inputs = {n: v for n, v in self.columns.items() if n != WEIGHT}

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
        """Return how many dimensions the plates take, by a run with one particle."""
        if isinstance(error, MismatchError):
            return 0
        return Phases(self.model, self.guide, columns=self.columns).awake.nesting

    def _awake(self, nesting: int, single: bool) -> Phase:
        every = combinations(self._guided.sites, self.enumerated) if self.enumerated else {}
        combined = max(map(len, every.values()), default=1)
        count = self.particles * combined
        mixtures = [n for n in every if is_stratified(self._guided.sites[n])]
        strata = {n: every[n].repeat(self.particles) for n in mixtures}
        values = {n: v for n, v in every.items() if n not in strata}
        before = itertools.takewhile(lambda n: n not in every, self._guided.sites if strata else ())
        dealt = Strata(strata, {*before}, combined) if strata else self.draw
        many = functools.partial(Recorder, particles=count, nesting=nesting, single=single)
        latents = {**(self.latents or {}), **self._dealt(values, nesting)}
        guide = (
            self._guided
            if count == 1
            else self._guide(many(latents, draw=dealt, straight=self.straight))
        )
        self._subsamples = guide.subsamples
        drawn = {n: s["value"] for n, s in guide.sites.items() if not is_observed(s)}
        model = many({**drawn, **guide.subsamples})
        with model, scored(self._inputs.get("index")):
            self.model(**bind(self.model, self._inputs))
        check_match(model.sites, guide.sites)
        nesting = nesting if count > 1 else 0
        return Phase(model.sites, guide.sites, nesting, self.weight, self.enumerated)

    def _dealt(self, values: Mapping[str, Tensor], nesting: int) -> dict[str, Tensor]:
        """Return enumerated values for each particle and row, `(particles, *plates, *event)`."""
        dealt = {}
        for name, value in values.items():
            distribution = self._guided.sites[name]["fn"]
            batch = distribution.batch_shape
            plates = (1,) * (nesting - len(batch)) + tuple(batch)
            lead = value.reshape(len(value), *(1,) * len(plates), *value.shape[1:])
            every = lead.repeat(self.particles, *(1,) * (lead.dim() - 1))
            dealt[name] = every.expand(-1, *plates, *value.shape[1:])
        return dealt

    def enumerating(self, sites: tuple[str, ...]) -> Phase:
        """Return the awake phase over all values, or components, of some of the guide's latents.

        The particles are K for each combination; `Phase.log_measure` weighs them.

        Args:
            sites: names of the latents.

        Raises:
            ValueError: if a site's values cannot be listed, or there are too many.
        """
        if sites not in self._enumerated:
            every = Phases(
                self.model,
                self.guide,
                columns=self.columns,
                particles=self.particles,
                enumerated=sites,
            )
            self._enumerated[sites] = every.awake
        return self._enumerated[sites]

    @functools.cached_property
    def antithetic(self) -> Phase:
        """The awake phase with twins of each particle, K for each of the guide's sites of bits.

        The sites are those without reparameterised samples; see `Antithetic` for the order.

        Raises:
            ValueError: if such a site is of no bits, or the guide is random beside its draws.
        """
        sites = self._guided.sites
        order = [n for n, s in sites.items() if is_latent(s)]
        draw = Antithetic(order, [*marked(sites)], self.particles)
        if draw.groups == 1:
            return self.awake
        refuse_random(modules_of(self.guide))
        count = draw.groups * self.particles
        twins = Phases(self.model, self.guide, columns=self.columns, particles=count, draw=draw)
        return twins.awake

    @functools.cached_property
    def straight_through(self) -> Phase:
        """The awake phase whose draws of bits and codes hand on the gradient of their means.

        Raises:
            ValueError: if another draw has no reparameterised samples.
        """
        straight = Phases(
            self.model, self.guide, columns=self.columns, particles=self.particles, straight=True
        )
        return straight.awake

    @functools.cached_property
    def at_means(self) -> Phase:
        """The awake phase with each latent at its mean in the guide, given those before it.

        Raises:
            ValueError: if a latent's distribution has no mean.
        """
        return Phases(self.model, self.guide, columns=self.columns, point=True).awake

    @functools.cached_property
    def _guided(self) -> Recorder:
        """The guide on the data, where one particle asks for no dimension of its own."""
        return self._guide(Recorder(self.latents, straight=self.straight, point=self.point))

    def _guide(self, recorder: Recorder) -> Recorder:
        constants = (
            frozen(*modules_of(self.guide)) if self.constant_guide else contextlib.nullcontext()
        )
        with constants, recorder:
            self.guide(**bind(self.guide, self._inputs))
        return recorder

    def by_constants(self, *, leaves: bool) -> Phase:
        """Return the awake phase once more, where the guide's parameters are constants.

        Its draws are those of `awake`, so that log q depends on the parameters through them alone.

        Args:
            leaves: whether the draws are leaves, so that nothing depends on the parameters.

        Raises:
            ValueError: if the guide is random beside its draws, or rows whose draws are leaves
                meet in a batch norm.
        """
        draws = self._draws()
        if not leaves:
            return self._again(draws, constant_guide=True)
        draws = {
            n: v.detach().requires_grad_() if v.is_floating_point() else v for n, v in draws.items()
        }
        with rows_apart([*modules_of(self.model), *modules_of(self.guide)]):
            return self._again(draws, constant_guide=True)

    @functools.cached_property
    def constant_draws(self) -> Phase:
        """The awake phase with draws that are constants: no gradient flows through them.

        Raises:
            ValueError: if the guide is random beside its draws.
        """
        draws = self._draws()
        if not any(v.requires_grad for v in draws.values()):
            return self.awake
        return self._again(_constants(draws))

    def _draws(self) -> dict[str, Tensor]:
        return {n: s["value"] for n, s in self.awake.guide_sites.items() if is_latent(s)}

    def _again(self, draws: Mapping[str, Tensor], *, constant_guide: bool = False) -> Phase:
        """Return the awake phase of given draws."""
        refuse_random(modules_of(self.guide))
        again = Phases(
            self.model,
            self.guide,
            columns=self.columns,
            particles=self.particles,
            latents={**draws, **self._subsamples},
            constant_guide=constant_guide,
        )
        return again.awake

    @property
    def reparameterised(self) -> Phase:
        """The awake phase, for a loss whose gradient flows through all that the guide draws.

        Raises:
            ValueError: if the guide has a draw that gives no gradient where one is to be had.
        """
        awake = self.awake
        refuse_guide(awake.guide_sites)
        return awake

    def reading(self, site: str) -> Phase:
        """Return the awake phase, for a loss that scores a site of the model on the guide's draws.

        Raises:
            ValueError: as in `reparameterised`, of those draws that the site may depend on.
        """
        awake = self.awake
        before = awake.latents_before(site)
        order = [n for n in awake.guide_sites if n in before]
        if order:
            refuse_guide(awake.guide_sites, order[-1])
        return awake

    @functools.cached_property
    def asleep(self) -> Phase:
        """One sample of the model per row of the batch, and the guide replayed on it."""
        return self.replayed()

    def replayed(
        self,
        mean: Collection[str] = (),
        detached: bool = False,
        arguments: Mapping[str, str] | None = None,
    ) -> Phase:
        """Return what the model generates, one for each row, and the guide replayed on it.

        Args:
            mean: observed sites that are taken by their means rather than drawn.
            detached: whether what the model generates is a constant, which gives it no gradient.
            arguments: the observed site that stands for an argument of the guide; by default the
                one that observed it.

        Raises:
            ValueError: if an observed site and an argument cannot be matched.
        """
        key = (tuple(mean), detached, tuple((arguments or {}).items()))
        if key not in self._replayed:
            model = self._generate(mean=mean)
            check_means(mean, model.given)
            given = arguments_of(model, self._inputs, bind(self.guide, self._inputs), arguments)
            drawn = _drawn(model)
            if detached:
                given, drawn = _constants(given), _constants(drawn)
            guide = Recorder(drawn)
            with guide:
                self.guide(**bind(self.guide, {**self._inputs, **given}))
            sites = {n: {**s, "value": drawn[n]} for n, s in model.sites.items()}
            self._replayed[key] = Phase(sites, guide.sites)
        return self._replayed[key]

    @property
    def generated(self) -> Phase:
        """One sample of the model per row of the batch, without the guide."""
        return Phase(self._generate().sites, {})

    def _generate(self, until: str | None = None, mean: Collection[str] = ()) -> Recorder:
        """Run the model, up to a site if one is named; what an earlier run drew stays."""
        key = frozenset(mean)
        found = self._generated.get(key)
        if found is not None and (found.whole or until in found.sites):
            return found
        drawn: dict[str, Tensor] = {}
        marks: list[str] = []
        for kind, recorder in self._generated.items():
            values = _drawn(recorder)
            if kind != key:  # its observed sites are others
                values = {n: v for n, v in values.items() if n not in recorder.given}
            drawn |= values
            marks += [n for n in marked(recorder.sites) if n in values]
        model = Recorder(drawn, draw_observed=True, until=until, mean=key)
        with contextlib.suppress(Enough), model:
            self.model(**bind(self.model, self._inputs))
            model.whole = True
        keep_marks(model.sites, marks)
        self._generated[key] = model
        return model

    def data(self, site: str, mean: Collection[str] = ()) -> Tensor:
        """Return a site's awake value: what the model observes there, else the guide's draw.

        Particles and batch are flattened together: `(samples, *inner plates, *event)`. The guide
        is not run for an observed site, so that an implicit model whose guide has no latents can be
        compared with its data, and a latent asks for the guide alone. A column that the model takes
        as an argument and does not observe is as it is.

        Args:
            site: the site's name.
            mean: observed sites that the same comparison takes by their means, asleep.

        Raises:
            ValueError: if the guide's draw gives no gradient where one is to be had.
        """
        self.refuse_missing(f"a comparison of {site!r}", site)
        column = site in self.columns
        guide = self._guided.sites if not column and self._lone(site) else None
        if guide is None and (model := self._generate(site, mean)) and site in model.given:
            return rows_of(model.sites[site], model.given[site], single=_single(model.sites))
        if column:
            value: Tensor = self.columns[site]
            return value
        sites = guide or self.awake.guide_sites
        refuse_guide(sites, site)
        found = pick(sites, site, "guide")
        nesting = self.awake.nesting if self.particles > 1 else 0
        return rows_of(found, found["value"], nesting, single=_single(sites))

    def _lone(self, site: str) -> bool:
        """Return whether the guide alone gives a site's awake value."""
        return "awake" not in self.__dict__ and self.particles == 1 and site in self._guided.sites

    def sampled(self, site: str, mean: Collection[str] = (), detached: bool = False) -> Tensor:
        """Return a site's asleep value, `(batch, *inner plates, *event)`.

        Runs the model alone, not the guide, and no further than to the site. What the model takes
        as an argument and does not draw is the column.

        Args:
            site: the site's name.
            mean: observed sites that are taken by their means rather than drawn.
            detached: whether the value is a constant, which gives the model no gradient.

        Raises:
            ValueError: if the sample gives no gradient where one is to be had.
        """
        model = self._generate(site, mean)
        sites = model.sites
        if site in mean:
            check_means([site], model.given)
        if site not in sites and site in self.columns:
            column: Tensor = self.columns[site]
            return column
        found = pick(sites, site, "model")
        if not detached:
            refuse_model(sites, site)
        rows = rows_of(found, found["value"], single=_single(sites))
        return rows.detach() if detached else rows

    def samples(
        self,
        sites: Sequence[str],
        *,
        asleep: bool,
        mean: Collection[str] = (),
        detached: bool = False,
    ) -> list[Tensor]:
        """Return the rows of some sites beside one another, each `(n, ...)`, as real numbers.

        A column meets each particle of its row; integers that the model draws from a
        Categorical are given one-hot.

        Args:
            sites: their names.
            asleep: whether they are the model's; see `sampled` for what follows.
            mean: observed sites that are taken by their means.
            detached: whether they are constants.
        """
        sampled = functools.partial(self.sampled, mean=mean, detached=detached)
        draw = sampled if asleep else functools.partial(self.data, mean=mean)
        # Labels first: one that the model does not draw is looked for through the whole model.
        order = sorted(sites, key=lambda s: not self._is_label(s))
        if not asleep:  # the guide draws before the model does
            order = sorted(order, key=lambda s: s in self.columns)
        drawn = {s: draw(s) for s in order}
        like = next((v for v in drawn.values() if v.is_floating_point()), None)
        most = max(map(len, drawn.values()))
        return [self._row(site, drawn[site], like, most) for site in sites]

    def _row(self, site: str, v: Tensor, like: Tensor | None, most: int) -> Tensor:
        v = v if v.is_floating_point() else one_hot(v, self.classes(site), like)
        v = v.unsqueeze(1) if v.dim() == 1 else v
        if most % len(v):
            raise ValueError(
                f"the site {site!r} has {len(v)} rows beside {most}; sites that are compared "
                "together lie in the batch plate"
            )
        return torch.cat([v] * (most // len(v))) if len(v) < most else v

    def _is_label(self, site: str) -> bool:
        column = self.columns.get(site)
        return isinstance(column, Tensor) and not column.is_floating_point()

    def read(self, site: str, value: Tensor) -> Tensor:
        """Return a site's values as nets are to read them; see `Likelihood.read`.

        Args:
            site: the site, awake or asleep.
            value: its values.
        """
        likelihood = likelihood_at(self.model, site)
        return value if likelihood is None else likelihood.read(value)

    def refuse_weights(self, what: str) -> None:
        """Raise a ValueError if rows have weights, which a comparison of sets cannot apply.

        Args:
            what: the name of what compares.
        """
        if self.weight is not None:
            raise ValueError(
                f"{what} compares sets of samples, which have no weights; leave the column "
                f"{WEIGHT!r} out, or draw the rows in proportion to it"
            )

    def refuse_missing(self, what: str, site: str) -> None:
        """Raise a ValueError if entries of a site's data may be missing.

        Args:
            what: what would take a value for each.
            site: the site; the mask is that of x.
        """
        if SEEN in self.columns and site in ("x", SEEN):
            raise ValueError(
                f"{what} takes a value for every entry, and entries may be missing "
                "(missing='integrate'); train by a bound, such as IWAE(5)"
            )

    def classes(self, site: str) -> int:
        """Return how many classes a site of integers has: those of the model's Categorical.

        A model that takes the site as an argument only says it by an attribute `classes`.

        Raises:
            ValueError: if the model says neither.
        """
        distribution = base(self._generate(site).sites.get(site, {}).get("fn"))
        if isinstance(distribution, Categorical):
            return int(distribution.logits.shape[-1])
        classes = getattr(owner(self.model), "classes", None)
        if not isinstance(classes, int):
            raise ValueError(
                f"{site!r} holds integers, and the model does not say how many classes there "
                "are; draw it from a Categorical, or give the pair an attribute `classes`"
            )
        return classes


def _single(sites: Mapping[str, Site]) -> bool:
    return not any(in_batch(s) for s in sites.values())


def _constants(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: v.detach() for n, v in values.items()}


def _drawn(recorder: Recorder) -> dict[str, Tensor]:
    """Return the values that a recorder has seen, of sites and of plates."""
    return {n: s["value"] for n, s in recorder.sites.items()} | recorder.subsamples


def generate(
    model: Program,
    columns: Mapping[str, Tensor],
    n: int,
    replay: Mapping[str, Tensor] | None = None,
    *,
    point: bool = False,
) -> dict[str, Tensor]:
    """Draw n samples from a model.

    Args:
        model: Pyro program.
        columns: the data's columns, tensors with rows first; rows are repeated to make n. They
            give the shapes, and whatever the model is conditioned on.
        n: number of samples.
        replay: values of sites that are given rather than drawn; of arguments that the model does
            not draw, in place of the columns.
        point: whether latents that are not given are their distributions' means rather than drawn.

    Returns:
        The value of each site, `(n, *event)`, and under `site + "_mean"` the mean of each observed
        site's distribution, where it has one; a categorical has none.
    """
    rows = {k: v[torch.arange(n, device=v.device) % len(v)] for k, v in columns.items()}
    rows |= {k: v for k, v in (replay or {}).items() if k in rows}
    recorder = Recorder(replay, draw_observed=True, point=point)
    with recorder:
        model(**bind(model, rows))
    out = {name: site["value"] for name, site in recorder.sites.items()}
    for name, site in recorder.sites.items():
        if site["infer"].get("was_observed") and not isinstance(base(site["fn"]), Categorical):
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
