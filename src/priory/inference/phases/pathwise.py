"""Whether a gradient flows through what a program draws, and what is said where none does."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Transform

from priory.inference.phases.sites import Site, base, is_stratified

MARK = "_no_pathwise_gradient"
_DEPTH = 6  # of distributions and transforms within one another


def mark(site: Site) -> None:
    """Mark a site that was just drawn if its draw lost a gradient that somebody may want.

    A draw without `rsample` (Bernoulli, Categorical, Poisson) is a constant to autograd. Nothing is
    lost where its distribution depends on nothing that is trained.
    """
    if torch.is_grad_enabled() and not site["fn"].has_rsample and _depends(site["fn"]):
        site["infer"][MARK] = True


def marked(sites: Mapping[str, Site]) -> Iterator[str]:
    """Yield the names of the marked sites, in the order in which they were drawn."""
    return (name for name, site in sites.items() if site["infer"].get(MARK))


def keep_marks(sites: Mapping[str, Site], earlier: Iterable[str]) -> None:
    """Mark sites whose values were taken from an earlier run that had marked them."""
    for name in earlier:
        if name in sites:
            sites[name]["infer"][MARK] = True


def lost(sites: Mapping[str, Site], until: str | None = None, *, itself: bool = True) -> str | None:
    """Return the first marked site that a site may depend on: itself, or one drawn before it.

    Args:
        sites: a program's, in the order in which they were drawn.
        until: the site that is read; all are if there is none.
        itself: whether the site's own draw counts, or its distribution alone is read.
    """
    if not torch.is_grad_enabled():
        return None
    for name, site in sites.items():
        last = until is not None and name == until
        if last and not itself:
            return None
        if site["infer"].get(MARK):
            return name
        if last:
            return None
    return None


def refuse_guide(
    sites: Mapping[str, Site], until: str | None = None, *, itself: bool = True
) -> None:
    """Raise a ValueError if the guide's draws leave a gradient biased; see `lost`."""
    name = lost(sites, until, itself=itself)
    if name is not None and is_stratified(sites[name]):
        raise ValueError(
            f"a draw of the guide's {name!r}, a mixture, has no path to the mixture's weights, so "
            "this objective's gradient would be biased; take ELBO, IWAE or Renyi with "
            "gradient='pathwise', which draw from every component, or another posterior"
        )
    if name is not None:
        raise ValueError(
            f"the guide's {name!r} ({_kind(sites[name])}) has no reparameterised samples, so this "
            "objective's gradient would be biased; use a relaxed distribution, freeze what its "
            "distribution depends on, or take Pyro's TraceGraph_ELBO or TraceEnum_ELBO as loss"
        )


def refuse_model(sites: Mapping[str, Site], until: str | None = None) -> None:
    """Raise a ValueError if the model's draws give it no gradient; see `lost`."""
    name = lost(sites, until)
    if name is None:
        return
    observed = sites[name]["infer"].get("was_observed", False)
    mends = ["use a relaxed distribution"]
    if observed:
        mends = [f"compare its mean given the latents, mean=({name!r},)"]
    if until is not None and until != name:
        mends.append(f"draw it after {until!r} if that does not depend on it")
    mends.append("take the samples as constants, which give the model no gradient, detached=True")
    raise ValueError(
        f"the model's {name!r} ({_kind(sites[name])}) has no reparameterised samples, so a "
        f"comparison of {until or 'samples'!r} would give the model a wrong gradient, or none; "
        f"{', or '.join(mends)}"
    )


@contextmanager
def frozen(*roots: nn.Module) -> Iterator[None]:
    """Keep gradients from modules' parameters for a while; they pass through to the inputs."""
    flags = [(p, p.requires_grad) for root in roots for p in root.parameters()]
    try:
        for p, _ in flags:
            p.requires_grad_(False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*was not registered in the param store")
            yield
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)


def refuse_random(roots: Iterable[nn.Module]) -> None:
    """Raise a ValueError if a module is random by itself, so that it cannot be run again alike.

    Args:
        roots: the modules of a program.
    """
    for root in roots:
        for module in root.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p:
                raise ValueError(
                    "the guide is run once more with the same draws, and its dropout would not be "
                    "the same; take dropout out of the encoder, or gradient='pathwise'"
                )


@contextmanager
def rows_apart(roots: Iterable[nn.Module]) -> Iterator[None]:
    """Raise a ValueError if rows meet in a batch norm on their way from the latents.

    Args:
        roots: the modules of the programs that run inside.
    """

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training and inputs[0].requires_grad:
            raise ValueError(
                "the gradient 'dreg' takes each row's draws by themselves, and the rows of a batch "
                "meet in the batch normalisation of what reads the latents; take a net without it, "
                "or gradient='pathwise'"
            )

    modules = {m for root in roots for m in root.modules()}
    norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    hooks = [m.register_forward_pre_hook(look) for m in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def names_of(mean: str | Iterable[str], sites: Collection[str] | None = None) -> tuple[str, ...]:
    """Return the sites that are to be taken by their means.

    Args:
        mean: a name or names.
        sites: those that are compared, if others may not be named.

    Raises:
        ValueError: if another site is named.
    """
    names = (mean,) if isinstance(mean, str) else tuple(mean)
    for name in names:
        if sites is not None and name not in sites:
            raise ValueError(
                f"mean=({name!r},) is not among the sites that are compared, {', '.join(sites)}"
            )
    return names


def check_means(mean: Iterable[str], observed: Mapping[str, Any]) -> None:
    """Raise a ValueError unless sites that are to be taken by their means are observed ones."""
    for name in mean:
        if name not in observed:
            raise ValueError(
                f"mean=({name!r},) names no site that the model observes; latents are compared by "
                "their samples"
            )


def mean_of(name: str, distribution: Any) -> Tensor:
    """Return a distribution's mean, `(*batch, *event)`; a categorical's are its probabilities.

    Raises:
        ValueError: if it has no mean.
    """
    inner = base(distribution)
    if isinstance(inner, Categorical):
        probs: Tensor = inner.probs
        return probs.expand(*distribution.batch_shape, probs.shape[-1])
    try:
        mean: Tensor = distribution.mean
    except NotImplementedError:
        raise ValueError(
            f"mean=({name!r},) needs a mean, and {type(inner).__name__} has none; compare "
            "samples, or take them as constants, detached=True"
        ) from None
    return mean


def point_of(name: str, distribution: Any) -> Tensor:
    """Return the mean of a latent's distribution as a value of it, `(*batch, *event)`.

    Raises:
        ValueError: if it has no mean, or one that is no value.
    """
    inner = base(distribution)
    with contextlib.suppress(NotImplementedError):
        if not isinstance(inner, Categorical):
            mean: Tensor = distribution.mean
            return mean
    raise ValueError(
        f"the latent {name!r} cannot be taken at its mean: {type(inner).__name__} has none that is "
        "a value; draw it, point=False"
    )


def _kind(site: Site) -> str:
    return type(base(site["fn"])).__name__


def _depends(held: Any, depth: int = 0) -> bool:
    """Return whether anything that a distribution holds is to get a gradient."""
    if isinstance(held, Tensor):
        return held.requires_grad
    if depth > _DEPTH:
        return True
    if isinstance(held, nn.Module):
        return any(p.requires_grad for p in held.parameters()) or _any(held, depth)
    if isinstance(held, list | tuple | set):
        return any(_depends(v, depth + 1) for v in held)
    if isinstance(held, Mapping):
        return any(_depends(v, depth + 1) for v in held.values())
    if callable(owner := getattr(held, "__self__", None)):
        return _depends(owner, depth + 1)
    return isinstance(held, dist.Distribution | torch.distributions.Distribution | Transform) and (
        _any(held, depth)
    )


def _any(held: Any, depth: int) -> bool:
    return any(_depends(v, depth + 1) for v in vars(held).values())
