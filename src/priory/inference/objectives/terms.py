"""Terms of an objective: what is compared awake, asleep, or across the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from priory.data.class_names import UNKNOWN
from priory.data.split import LABELLED
from priory.divergences import DIVERGENCES, Divergence
from priory.inference.distributed import ranks
from priory.inference.objectives.base import Adversary, Objective, joined
from priory.inference.objectives.costs import COSTS, squared
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.pathwise import frozen, names_of, refuse_guide, refuse_model
from priory.inference.phases.phases import Phases
from priory.inference.phases.sites import base
from priory.lookup import named
from priory.nets.one_hot import one_hot


class Reconstruction(Objective):
    """How far the data are from what their own latents say of them, averaged over the batch.

    -E_q[log p(site | z)], in nats per datum; or a cost of taking the mean of p(site | z)
    for the datum, summed over a datum's features: "squared", "absolute", "laplacian" (the distance
    of two images' Laplacian pyramids), or "features", the squared distance in the last hidden layer
    of the critic that judges the same site in the same sum (Larsen et al., Autoencoding beyond
    pixels using a learned similarity metric, 2016).

    Args:
        site: the observed site.
        cost: "likelihood" or the name of a cost.
        point: whether the latents are the guide's means, without a draw, as in an autoencoder.

    Raises:
        ValueError: if there is no such cost; at the first loss, if the likelihood is a point mass,
            no critic's features are to be had, or a latent has no mean where it is asked for.
    """

    name = "reconstruction"

    def __init__(
        self,
        site: str = "x",
        cost: str = "likelihood",
        point: bool = False,
    ) -> None:
        _check_cost(cost, "features")
        self.site = site
        self.cost = cost
        self.point = point
        self._critic: nn.Module | None = None

    def loss(self, phases: Phases) -> Tensor:
        """Return the mean cost."""
        if self.cost != "likelihood":
            phases.refuse_missing(f"the cost {self.cost!r}", self.site)
        awake = phases.at_means if self.point else phases.reading(self.site)
        if self.cost != "features":
            return _cost(awake, self.site, "model", self.cost)
        if self._critic is None:
            raise ValueError(
                f"Reconstruction({self.site!r}, 'features') needs a critic of {self.site!r} alone "
                f'in the same sum, for instance Adversarial(critic, "{self.site}")'
            )
        awake.refuse_scale(self.site, "model")
        value, mean = _compared(awake, self.site, "model")
        with frozen(self._critic):
            features: Any = self._critic.features
            rows = [
                features(phases.read(self.site, awake.rows(self.site, v, "model")))
                for v in (mean, value)
            ]
            return awake.average(squared(*rows), shared=False)

    def meet(self, adversaries: Sequence[Adversary]) -> None:
        """Take the critic that judges the same site."""
        found = [a.critic for a in adversaries if a.sites == (self.site,)]
        self._critic = found[0] if found else None


class Sleep(Objective):
    """How well the guide finds the latents of what the model generates, averaged over the samples.

    -E_p[log q(sites | x)], in nats per sample, or a cost as in `Reconstruction` between a latent
    and the guide's mean. The gradient flows through the sample into the model too. For a code c of
    InfoGAN (Chen et al., 2016), H(c) less this is a lower bound on the mutual information I(c; x);
    in CycleGAN (Zhu et al., 2017) it is one of the two round trips. With `detached` the guide alone
    learns, as in the sleep phase of wake-sleep (Hinton et al., 1995).

    Args:
        sites: the latent, or latents, to be found; all that the guide draws if none is named.
        cost: "likelihood" or the name of a cost.
        mean: observed sites of which the guide reads the mean given the latents in the place of a
            sample: those through whose draws no gradient flows, such as a Bernoulli's.
        detached: whether the sample is a constant, which gives the model no gradient.
        arguments: the observed site whose sample stands for an argument of the guide; by default
            the one that observed it.

    Raises:
        ValueError: if there is no such cost; at the first loss, if the guide is a point mass there,
            the model's samples give it no gradient, or a site and an argument cannot be matched.
    """

    name = "sleep"

    def __init__(
        self,
        sites: str | tuple[str, ...] = (),
        cost: str = "likelihood",
        mean: Sequence[str] = (),
        detached: bool = False,
        arguments: Mapping[str, str] | None = None,
    ) -> None:
        _check_cost(cost)
        self.sites = names_of(sites)
        self.cost = cost
        self.mean = names_of(mean)
        self.detached = detached
        self.arguments = arguments

    def needs_awake(self, phases: Phases) -> bool:  # noqa: ARG002
        """Return no: the guide reads samples of the model."""
        return False

    def loss(self, phases: Phases) -> Tensor:
        """Return the mean cost."""
        asleep = phases.replayed(self.mean, self.detached, self.arguments)
        if not self.detached:
            refuse_model(asleep.model_sites)
        sites = self.sites or asleep.latents
        for site in sites:
            refuse_guide(asleep.guide_sites, site, itself=False)
        return torch.stack([_cost(asleep, s, "guide", self.cost) for s in sites]).sum()


class Classification(Objective):
    """How well the guide predicts the labels of those data whose labels may be seen.

    -log q(site = label | x), in nats, averaged over the rows of the batch whose label is known
    (not -1) and whose column `labelled` is true, where there is one; 0 if there are none. What
    stands in the place of other labels has no effect.

    Args:
        site: a site that the guide draws from a categorical distribution.
        labels: the column of labels, integers from 0.

    Raises:
        ValueError: at the first loss, if there is no such column or the site is not categorical.
    """

    name = "classification"

    def __init__(self, site: str = "c", labels: str = "y") -> None:
        self.site = site
        self.labels = labels

    def loss(self, phases: Phases) -> Tensor:
        """Return the mean negative log-probability."""
        name = type(self).__name__
        labels, seen = seen_labels(phases, self.labels, name)
        awake = phases.awake
        refuse_guide(awake.guide_sites, self.site, itself=False)
        logits = log_odds(awake, self.site, name).log_softmax(-1)
        rows = one_hot(labels, logits.shape[-1], logits)
        cost = torch.where(seen, -(rows * logits).sum(-1), 0.0)
        if phases.weight is not None:
            cost = cost * phases.weight.to(cost)
        return cost.sum() / seen.expand_as(cost).sum().clamp(min=1)


def log_odds(awake: Phase, site: str, what: str) -> Tensor:
    """Return the log-odds of a categorical site of the guide, (*batch, classes).

    Args:
        awake: The guide's draws.
        site: The site's name.
        what: The name of what asks.

    Raises:
        ValueError: The site is not categorical.
    """
    distribution = awake.distribution(site)
    logits: Tensor | None = getattr(base(distribution), "logits", None)
    if logits is None:
        raise ValueError(
            f"{what} needs a categorical distribution at {site!r}, the guide has "
            f"{type(distribution).__name__}"
        )
    return logits


def seen_labels(phases: Phases, column: str, what: str) -> tuple[Tensor, Tensor]:
    """Return labels, 0 in the place of those that may not be seen, and which may, both (batch,).

    What stands in the place of an unseen label, or comes of it, is never multiplied.

    Args:
        phases: The batch's.
        column: Name of the labels' column.
        what: The name of what asks.

    Raises:
        ValueError: There is no such column.
    """
    if column not in phases.columns:
        raise ValueError(
            f"{what} needs the column {column!r}, the data have {', '.join(phases.columns)}"
        )
    labels = phases.columns[column]
    seen = labels != UNKNOWN
    if LABELLED in phases.columns:
        seen = seen & phases.columns[LABELLED].bool()
    return torch.where(seen, labels, 0), seen


class Match(Objective):
    """A divergence between awake and asleep samples of some sites.

    D(samples of q, samples of p); with `mmd` on `z` this is the penalty of WAE-MMD (Tolstikhin et
    al., Wasserstein Auto-Encoders, 2018) and InfoVAE. Every particle of every datum is a sample;
    several sites are joined into one vector.

    Args:
        divergence: function of two sample sets `(n, d)` and `(m, d)`, returning shape (), or a name
            in `priory.divergences.DIVERGENCES`.
        sites: the site, or sites, to compare.
        mean: those observed ones of which the mean given the latents is compared with the data, in
            the place of a sample: where no gradient flows through a draw, as of a Bernoulli.
        detached: whether the model's samples are constants, which give it no gradient.

    Raises:
        ValueError: if no site is named; at the first loss, if samples give their program no
            gradient.
    """

    name = "match"

    def __init__(
        self,
        divergence: Divergence | str = "mmd",
        sites: str | tuple[str, ...] = ("z",),
        mean: Sequence[str] = (),
        detached: bool = False,
    ) -> None:
        sites = names_of(sites)
        if not sites:
            raise ValueError('Match needs the sites to compare, for instance Match(mmd, "z")')
        if isinstance(divergence, str):
            divergence = named("divergence", divergence, DIVERGENCES)
        self.divergence = divergence
        self.sites = sites
        self.mean = names_of(mean, sites)
        self.detached = detached

    def needs_awake(self, phases: Phases) -> bool:
        """Return whether one of the sites is the guide's."""
        return any(site not in phases.columns for site in self.sites)

    def loss(self, phases: Phases) -> Tensor:
        """Return the divergence, between the samples of all ranks where there are several."""
        phases.refuse_weights(type(self).__name__)
        awake = phases.samples(self.sites, asleep=False)
        options: dict[str, Any] = {"mean": self.mean, "detached": self.detached}
        asleep = phases.samples(self.sites, asleep=True, **options)
        return self.divergence(*(ranks.gather(joined(rows)) for rows in (awake, asleep)))


def _check_cost(cost: str, *more: str) -> None:
    known = ("likelihood", *COSTS, *more)
    if cost not in known:
        raise ValueError(f"unknown cost {cost!r}; there are {', '.join(known)}")


def _cost(phase: Phase, site: str, of: str, cost: str) -> Tensor:
    """Return the mean cost, shape ()."""
    if cost == "likelihood":
        distribution = phase.distribution(site, of=of)
        if isinstance(base(distribution), dist.Delta):
            raise ValueError(
                f"{site!r} is a point mass in the {of}, which gives no density to learn from; "
                "name a cost, for instance cost='squared'"
            )
        return -(phase.mean_log_p([site]) if of == "model" else phase.mean_log_q([site]))
    value, mean = _compared(phase, site, of)
    event = mean.shape[mean.dim() - phase.distribution(site, of=of).event_dim :]
    rows = (v.reshape(-1, *event) for v in (value, mean))
    elements = COSTS[cost](*rows).reshape(value.shape[: value.dim() - len(event)])
    return phase.mean_elements(site, elements, of)


def _compared(phase: Phase, site: str, of: str) -> tuple[Tensor, Tensor]:
    """Return a site's values and a program's means of them, `(*batch, *event)`.

    Where a mask leaves elements out the mean stands for the value, which costs nothing.
    """
    distribution, value = phase.distribution(site, of=of), phase.sample[site]
    try:
        mean = distribution.mean
    except NotImplementedError:
        mean = None
    if mean is None or isinstance(base(distribution), dist.Categorical | dist.OneHotCategorical):
        raise ValueError(
            f"a cost compares {site!r} with its mean, and {type(base(distribution)).__name__} in "
            f"the {of} has none that is a value; take cost='likelihood'"
        )
    shape = torch.broadcast_shapes(value.shape, mean.shape)
    value, mean = value.expand(shape), mean.expand(shape)
    for mask in phase.masks(site, of):
        value = torch.where(mask, value, mean)
    return value, mean
