"""Draws as maps of noise that is given: normals moved and scaled, uniforms through an inverse."""

from __future__ import annotations

import functools
import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Size, Tensor, distributions

from priory.distributions.categorical import SoftCode
from priory.distributions.chosen import Chosen
from priory.distributions.concrete import LogitConcrete
from priory.distributions.flow import ConditionalFlow
from priory.distributions.independent import IndependentNormal
from priory.distributions.logit_normal import LogitNormal
from priory.distributions.normal_flow import NormalFlow
from priory.distributions.pixels import IndependentBernoulli
from priory.distributions.strata import StratifiedMixture
from priory.priors.flow import FlowDistribution
from priory.priors.mixture import NormalMixture

NORMAL, UNIFORM = "eps", "eps_uniform"
"""The two kinds of noise: standard normal, and uniform on the unit interval."""


class NoMapError(ValueError):
    """The draws of a distribution are no map of noise that is known here."""


class Noise:
    """Columns of noise, taken one after the other.

    Args:
        rows: Number of rows, n.
        given: Noise by kind, (n, columns); of a kind that is not given the columns are counted,
            and the middle of the distribution stands for them.

    Attributes:
        used: Number of columns of each kind that were taken.

    Example:
        >>> noise = Noise(2, {"eps": torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])})
        >>> noise.take("eps", torch.Size([2, 2]), torch.zeros(()))
        tensor([[1., 2.],
                [4., 5.]])
        >>> noise.used
        {'eps': 2, 'eps_uniform': 0}
    """

    def __init__(self, rows: int, given: dict[str, Tensor] | None = None) -> None:
        self.rows, self.given = rows, given or {}
        self.used = {NORMAL: 0, UNIFORM: 0}

    def take(self, kind: str, shape: Size, like: Tensor) -> Tensor:
        """Return the next noise of a kind, of a shape (n, ...).

        Args:
            kind: "eps", standard normal, or "eps_uniform".
            shape: Of the noise.
            like: A tensor of its dtype.

        Raises:
            NoMapError: Its first dim isn't that of the rows.
        """
        if not shape or shape[0] != self.rows:
            raise NoMapError("a latent that all rows share is drawn once, not for each row")
        start, width = self.used[kind], math.prod(shape[1:])
        self.used[kind] = start + width
        if kind not in self.given:
            return torch.full(shape, 0.0 if kind == NORMAL else 0.5, dtype=like.dtype)
        return self.given[kind][:, start : start + width].reshape(shape).to(like.dtype)


def draw(fn: Any, noise: Noise) -> Tensor:
    r"""Return a draw from a distribution as a map of noise, (*batch, *event).

    .. math:: z = m + s \epsilon, \qquad z = F^{-1}(u)

    A category is the first whose cumulative probability exceeds u, a component of a mixture
    likewise; a flow is run from its noise to the draw.

    Args:
        fn: The distribution; the first dim of its batch are the rows.
        noise: Of which the draw is made.

    Raises:
        NoMapError: No such map is known.

    Example:
        >>> noise = Noise(2, {"eps_uniform": torch.tensor([[0.25], [0.75]])})
        >>> draw(torch.distributions.Uniform(torch.zeros(2), 2.0), noise)
        tensor([0.5000, 1.5000])
    """
    return _draw(_bare(fn), fn.batch_shape + fn.event_shape, noise)


def _bare(fn: Any) -> Any:
    """Return a distribution without what was wrapped around it and leaves its draws as they are."""
    wrapped = (
        distributions.Independent,
        dist.MaskedDistribution,
        dist.torch_distribution.ExpandedDistribution,
    )
    while isinstance(fn, wrapped):
        fn = fn.base_dist
    return fn


def _unknown(fn: Any) -> NoMapError:
    return NoMapError(f"no map from noise to a draw of {type(fn).__name__} is known")


@functools.singledispatch
def _draw(fn: Any, shape: Size, noise: Noise) -> Tensor:
    """Draw by the inverse of the distribution function, where a distribution has one."""
    if getattr(fn, "event_shape", (1,)):
        raise _unknown(fn)
    try:
        found: Tensor = fn.icdf(noise.take(UNIFORM, shape, fn.mean))
    except NotImplementedError as error:
        raise _unknown(fn) from error
    return found


@_draw.register
def _(fn: IndependentNormal, shape: Size, noise: Noise) -> Tensor:
    return fn.mean + fn.scale * noise.take(NORMAL, shape, fn.loc)


@_draw.register
def _(fn: distributions.Normal, shape: Size, noise: Noise) -> Tensor:
    return fn.loc + fn.scale * noise.take(NORMAL, shape, fn.loc)


@_draw.register
def _(fn: distributions.MultivariateNormal, shape: Size, noise: Noise) -> Tensor:
    eps = noise.take(NORMAL, shape, fn.loc)
    return fn.loc + (fn.scale_tril @ eps.unsqueeze(-1)).squeeze(-1)


@_draw.register
def _(fn: distributions.Uniform, shape: Size, noise: Noise) -> Tensor:
    return fn.low + (fn.high - fn.low) * noise.take(UNIFORM, shape, fn.low)


@_draw.register
def _(fn: dist.Delta, shape: Size, noise: Noise) -> Tensor:  # noqa: ARG001
    return fn.v.expand(shape)


@_draw.register
def _(fn: distributions.Bernoulli, shape: Size, noise: Noise) -> Tensor:
    return (noise.take(UNIFORM, shape, fn.probs) < fn.probs).to(fn.probs.dtype)


@_draw.register
def _(fn: IndependentBernoulli, shape: Size, noise: Noise) -> Tensor:
    probs = fn.logits.sigmoid()
    return (noise.take(UNIFORM, shape, probs) < probs).to(probs.dtype)


@_draw.register
def _(fn: distributions.Categorical, shape: Size, noise: Noise) -> Tensor:
    return _first(fn.probs, noise.take(UNIFORM, shape, fn.probs))


@_draw.register
def _(fn: distributions.OneHotCategorical, shape: Size, noise: Noise) -> Tensor:
    return _indicator(fn.probs, noise.take(UNIFORM, shape[:-1], fn.probs))


@_draw.register
def _(fn: SoftCode, shape: Size, noise: Noise) -> Tensor:  # noqa: ARG001
    return fn.probs.expand(shape)


@_draw.register
def _(fn: NormalMixture, shape: Size, noise: Noise) -> Tensor:
    code = _indicator(fn.logits.softmax(-1), noise.take(UNIFORM, shape[:-1], fn.loc))
    return code @ fn.loc + (code @ fn.log_scale).exp() * noise.take(NORMAL, shape, fn.loc)


@_draw.register
def _(fn: StratifiedMixture, shape: Size, noise: Noise) -> Tensor:
    code = _indicator(fn.logits.softmax(-1), noise.take(UNIFORM, shape[:-1], fn.loc))
    loc, log_scale = ((code.unsqueeze(-1) * part).sum(-2) for part in (fn.loc, fn.log_scale))
    return loc + log_scale.exp() * noise.take(NORMAL, shape, fn.loc)


@_draw.register
def _(fn: distributions.MixtureSameFamily, shape: Size, noise: Noise) -> Tensor:
    parts = _bare(fn.component_distribution)
    if not isinstance(parts, distributions.MultivariateNormal):
        raise _unknown(parts)
    weights = fn.mixture_distribution.probs
    code = _indicator(weights, noise.take(UNIFORM, shape[:-1], weights))
    loc = (code.unsqueeze(-1) * parts.loc).sum(-2)
    factor = (code[..., None, None] * parts.scale_tril).sum(-3)
    eps = noise.take(NORMAL, shape, loc)
    return loc + (factor @ eps.unsqueeze(-1)).squeeze(-1)


@_draw.register
def _(fn: Chosen, shape: Size, noise: Noise) -> Tensor:
    eps = noise.take(NORMAL, shape, fn.mean)
    return fn.mean + fn.variance.sqrt() * eps


@_draw.register
def _(fn: LogitConcrete, shape: Size, noise: Noise) -> Tensor:
    u = noise.take(UNIFORM, shape, fn.log_odds)
    return (fn.log_odds + _inside(u).logit()) / fn.temperature


@_draw.register
def _(fn: LogitNormal, shape: Size, noise: Noise) -> Tensor:
    eps = noise.take(NORMAL, shape, fn.loc)
    return _inside((fn.loc + fn.log_scale.exp() * eps).sigmoid())


@_draw.register
def _(fn: distributions.Beta, shape: Size, noise: Noise) -> Tensor:
    r"""Draw by the inverse that Beta(1, b) has, v = 1 - (1 - u)^(1/b)."""
    if not noise.given and not bool((fn.concentration1 == 1).all()):
        raise NoMapError("no Beta distribution has an inverse in closed form but Beta(1, b)")
    rest = torch.log1p(-_inside(noise.take(UNIFORM, shape, fn.concentration0)))
    return _inside(-torch.expm1(rest / fn.concentration0))


@_draw.register
def _(fn: FlowDistribution, shape: Size, noise: Noise) -> Tensor:
    flow: Any = fn.flow
    found: Tensor = flow.transform.inv(_draw(_bare(flow.base), shape, noise))
    return found


@_draw.register
def _(fn: ConditionalFlow, shape: Size, noise: Noise) -> Tensor:
    z = _draw(fn.base, shape, noise)
    for each in fn.maps:
        z = each(z)
    return z


@_draw.register
def _(fn: NormalFlow, shape: Size, noise: Noise) -> Tensor:
    return fn.data(noise.take(NORMAL, shape, fn.like))


@_draw.register
def _(fn: distributions.TransformedDistribution, shape: Size, noise: Noise) -> Tensor:
    value = draw(fn.base_dist, noise)
    for transform in fn.transforms:
        value = transform(value)
    return value.expand(shape)


def _first(probs: Tensor, u: Tensor) -> Tensor:
    """Return the first category whose cumulative probability exceeds u, (*batch)."""
    return (u.unsqueeze(-1) >= probs.cumsum(-1)[..., :-1]).sum(-1)


def _indicator(probs: Tensor, u: Tensor) -> Tensor:
    """Return that category as a one-hot code, (*batch, values)."""
    numbers = torch.arange(probs.shape[-1])
    return (_first(probs, u).unsqueeze(-1) == numbers).to(probs.dtype)


def _inside(v: Tensor) -> Tensor:
    """Return values of the unit interval, kept off its ends."""
    info = torch.finfo(v.dtype)
    return v.clamp(info.tiny, 1 - info.eps)
