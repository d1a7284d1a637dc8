"""A pair's joint density as a function of unconstrained latents: what samplers and optimisers see.

The data are repeated, one copy for each chain, so that a program sees an ordinary batch and need
not know of chains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import biject_to

from priory.evaluation.likelihood.masking import masked_log_prob
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import Columns
from priory.inference.phases.arguments import bind
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.recorder import Recorder
from priory.inference.phases.sites import (
    Site,
    base,
    batch_frame,
    in_batch,
    is_latent,
    is_observation,
)

Values = dict[str, Tensor]


class Joint:
    r"""The density of a batch's latents, made real vectors u by their distributions' bijections.

    .. math:: \log p(x, z(u)) + \log |\det \partial z / \partial u|

    All arrays of vectors have the shape `(chains, rows, dim)`, densities `(chains, rows)`, in nats.
    To be used inside `sealed`.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        columns: the batch, on the pair's device.
        chains: independent copies of each datum.
        mask: where x is seen, boolean, `(rows, *shape)`; the rest is integrated out.

    Raises:
        Unavailable: if a latent is discrete, is a point mass, is shared by all data, or has a
            support that moves with another latent; with a mask, if features are not independent.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        columns: Columns,
        chains: int = 1,
        mask: Tensor | None = None,
    ) -> None:
        if chains < 1:
            raise ValueError(f"chains must be at least 1, got {chains}")
        self.model, self.guide, self.chains = model, guide, chains
        self.rows = len(next(iter(columns.values())))
        self.columns = {n: v.repeat(chains, *(1,) * (v.dim() - 1)) for n, v in columns.items()}
        self._mask = None if mask is None else mask.repeat(chains, *(1,) * (mask.dim() - 1))
        first, again = self._generate(), self._generate()
        self._sites = {n: s for n, s in first.items() if is_latent(s)}
        self.observed = tuple(n for n, s in first.items() if is_observation(s))
        if not self._sites:
            raise Unavailable("the model has no latents: log p(x) is exact, nothing is sampled")
        for name, site in self._sites.items():
            _check(name, site, again[name])
        self._bijections = {n: biject_to(s["fn"].support) for n, s in self._sites.items()}
        self._shapes: dict[str, torch.Size] = {}
        self._cached: dict[str, Site] | None = None
        self.start = self._join({n: s["value"] for n, s in self._sites.items()})

    @property
    def latents(self) -> tuple[str, ...]:
        """Names of the latent sites, in the order in which the vectors hold them."""
        return tuple(self._sites)

    @property
    def dim(self) -> int:
        """Length of a datum's vector."""
        return self.start.shape[-1]

    def prior(self) -> Tensor:
        """Draw vectors from the model's prior, `(chains, rows, dim)`."""
        drawn = self._generate()
        return self._join({n: drawn[n]["value"] for n in self._sites})

    def recognised(self) -> Tensor:
        """Draw vectors from the guide, `(chains, rows, dim)`."""
        recorder = Recorder()
        with recorder:
            self.guide(**bind(self.guide, self.columns))
        if missing := [n for n in self._sites if n not in recorder.sites]:
            raise Unavailable(f"the guide does not draw {missing[0]!r}")
        extra = [n for n, s in recorder.sites.items() if is_latent(s) and n not in self._sites]
        if extra:
            raise Unavailable(f"the guide draws {extra[0]!r} besides: it has no density of z alone")
        return self._join({n: recorder.sites[n]["value"] for n in self._sites})

    def of(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return the vectors of given latents, the same for all chains, `(chains, rows, dim)`.

        Args:
            values: latents by site, as a program draws them for the batch, once.
        """
        repeated = {}
        for name, site in self._sites.items():
            copies = [1] * values[name].dim()
            copies[_batch_dim(site)] = self.chains
            repeated[name] = values[name].repeat(copies)
        return self._join(repeated)

    def latent_values(self, u: Tensor) -> Values:
        """Return the latents by site that vectors stand for, over `chains * rows` rows.

        Args:
            u: `(chains, rows, dim)`.
        """
        return self._split(u)[0]

    def densities(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prior's density of u and the likelihood given u, each `(chains, rows)`.

        Args:
            u: `(chains, rows, dim)`.
        """
        values, stretch = self._split(u)
        recorder = Recorder(values)
        with recorder:
            self.model(**bind(self.model, self.columns))
        phase = Phase(recorder.sites, {})
        prior = phase.log_p(self._sites)[0] + stretch
        seen, likelihood = self.observed, torch.zeros_like(prior)
        if self._mask is not None:
            seen = tuple(n for n in seen if n != "x")
            likelihood = masked_log_prob(recorder.sites["x"], self._mask)
        if seen:
            likelihood = likelihood + phase.log_p(seen)[0]
        return self._fold(prior), self._fold(likelihood)

    def log_density(self, u: Tensor) -> Tensor:
        """Return log p(x, z(u)) with the bijections' log determinant, `(chains, rows)`.

        Args:
            u: `(chains, rows, dim)`.
        """
        prior, likelihood = self.densities(u)
        return prior + likelihood

    def guide_density(self, u: Tensor) -> Tensor:
        """Return log q(z(u) | x) with the log determinant, `(chains, rows)`.

        Args:
            u: `(chains, rows, dim)`.
        """
        values, stretch = self._split(u)
        if self._cached is None or len(self._sites) > 1:  # one site depends on x alone
            recorder = Recorder(values)
            with recorder, torch.set_grad_enabled(u.requires_grad and len(self._sites) > 1):
                self.guide(**bind(self.guide, self.columns))
            self._cached = recorder.sites
        sites = {n: {**self._cached[n], "value": values[n]} for n in self._sites}
        return self._fold(Phase({}, sites).log_q()[0] + stretch)

    def _generate(self) -> dict[str, Site]:
        """Run the model with its latents drawn from the prior."""
        recorder = Recorder()
        with recorder:
            self.model(**bind(self.model, self.columns))
        return recorder.sites

    def _fold(self, density: Tensor) -> Tensor:
        return density.expand(self.chains * self.rows).reshape(self.chains, self.rows)

    def _join(self, values: Mapping[str, Tensor]) -> Tensor:
        parts = []
        for name, site in self._sites.items():
            u = self._bijections[name].inv(values[name])
            self._shapes[name] = u.shape
            parts.append(u.movedim(_batch_dim(site), 0).reshape(self.chains * self.rows, -1))
        return torch.cat(parts, 1).unflatten(0, (self.chains, self.rows))

    def _split(self, u: Tensor) -> tuple[Values, Tensor]:
        """Return the latents by site, and the log determinant by row of the program's batch."""
        flat, start = u.flatten(0, 1), 0
        values, stretch = {}, flat.new_zeros(len(flat))
        for name, site in self._sites.items():
            shape, dim = self._shapes[name], _batch_dim(site)
            rest = [*shape[:dim], *shape[dim + 1 :]]
            width = torch.Size(rest).numel()
            raw = flat[:, start : start + width].reshape(len(flat), *rest).movedim(0, dim)
            start += width
            values[name] = self._bijections[name](raw)
            grown = self._bijections[name].log_abs_det_jacobian(raw, values[name])
            stretch = stretch + grown.movedim(dim, 0).reshape(len(flat), -1).sum(1)
        return values, stretch


def _batch_dim(site: Site) -> int:
    """Return which dimension of a site's value is the batch, from the left."""
    return len(site["fn"].batch_shape) + int(batch_frame(site).dim)


def _check(name: str, site: Site, again: Site) -> None:
    """Raise Unavailable unless a latent is continuous, of one datum, of an unmoving support."""
    if not in_batch(site):
        raise Unavailable(f"{name} is no latent of one datum: it is outside the plate 'data'")
    if isinstance(base(site["fn"]), dist.Delta):
        raise Unavailable(f"p({name}) is a Delta: it has no density")
    support, other = site["fn"].support, again["fn"].support
    if support.is_discrete:
        raise Unavailable(f"the latent {name} is discrete: it cannot be moved by gradients")
    for key, bound in _bounds(support).items():
        if not torch.equal(bound, _bounds(other).get(key, bound + 1)):
            raise Unavailable(f"the support of {name} moves with other latents")


def _bounds(support: Any) -> dict[str, Tensor]:
    """Return the tensors that a constraint holds."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return {k: v for k, v in vars(support).items() if isinstance(v, Tensor)}
