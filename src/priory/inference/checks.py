"""Checks of a pair before its first step: what Pyro would warn of, or let pass, is an error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn.modules.batchnorm import _BatchNorm

from priory.inference.distributed import ranks
from priory.inference.engine.guard import Buffers
from priory.inference.modules import eval_mode, modules
from priory.inference.objectives.base import Objective
from priory.inference.phases.arguments import owner
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.particles import vectorises
from priory.inference.phases.phases import Phases
from priory.inference.phases.sites import check_batch_plate, in_batch, is_observation, is_stratified
from priory.inference.randomness import own_randomness
from priory.priors.boltzmann import refuse_chains


def check_pair(objective: Objective, phases: Phases) -> None:
    """Run the pair once without gradients and raise if it does not fit itself or the data.

    Args:
        objective: what the pair will be trained by; objectives that never score the awake phase
            (a GAN's) are not checked for it.
        phases: the first batch's phases.

    Raises:
        MismatchError: if the guide's sites are not the model's latents.
        ValueError: if the data leave a likelihood's support, a density has a shape that no plate
            explains, or particles are mixed up.
    """
    if not objective.needs_awake(phases):
        return
    tensors = [v for v in phases.columns.values() if isinstance(v, Tensor)]
    device = tensors[0].device if tensors else torch.device("cpu")
    resting = eval_mode(modules(phases.model, phases.guide))
    with own_randomness(device), torch.no_grad(), pyro.validation_enabled(False), resting:
        awake = phases.awake
        for site in awake.observed:
            check_event(site, awake.distribution(site, of="model"), awake.sample[site])
            check_support(site, awake.distribution(site, of="model"), awake.sample[site])
        for program, name, shape in awake.stray_shapes():
            raise ValueError(
                f"the log-probability of {name!r} in the {program} has the shape {shape}, with a "
                "dimension that is no plate's; a (batch,) value against (batch, 1) parameters does "
                "that: declare event dimensions with .to_event(), or squeeze one of the two"
            )
        for site in awake.observed:
            fn, value = awake.distribution(site, of="model"), awake.sample[site]
            if value.shape != fn.batch_shape + fn.event_shape:
                raise ValueError(_shapes(site, fn, value))
        many = objective.particles > 1 or any(map(is_stratified, awake.guide_sites.values()))
        if many and not vectorises(phases.model, phases.guide, phases.columns):
            raise ValueError(
                "the objective draws several particles of a datum, so that latents have the "
                "shape (particles, batch, ...), and the pair does not take the leading dimension "
                "for what it is; count dimensions from the right: dim=-1, x[..., 0]"
            )
        if many:
            check_norms(phases)


def check_norms(phases: Phases) -> None:
    """Raise if batch normalisation, in training mode, makes one particle depend on the others.

    To be called in evaluation mode; modes and running statistics are left as they were.

    Args:
        phases: the first batch's.

    Raises:
        ValueError: naming the mends.
    """
    roots = modules(phases.model, phases.guide)
    norms = [m for root in roots for m in root.modules() if isinstance(m, _BatchNorm)]
    if not norms:
        return
    buffers = Buffers(norms)
    try:
        for norm in norms:
            norm.training = True
        apart = vectorises(phases.model, phases.guide, phases.columns)
    finally:
        for norm in norms:
            norm.training = False
        buffers.settle(True)
    if not apart:
        raise ValueError(
            "batch normalisation takes its means over the particles of a datum too, so that the "
            "weight of one depends on the others and the bound is of no density; normalise by "
            "LayerNorm or GroupNorm after the latents, or draw one particle"
        )


def check_plates(awake: Phase, rows: int) -> None:
    """Raise if a pair's rows are in a plate of another name than the batch's.

    Where there are rows of data, as in a training and an evaluation, such a plate is the batch's:
    its sites would count as shared, the whole batch as one datum.

    Args:
        awake: the pair's awake phase on a batch.
        rows: of the batch.

    Raises:
        ValueError: naming the plate.
    """
    model, guide = awake.model_sites, awake.guide_sites
    check_batch_plate([s for s in model.values() if is_observation(s)], rows)
    check_batch_plate([s for n, s in guide.items() if n in model and in_batch(model[n])], rows)


def check_event(name: str, distribution: Any, value: Tensor) -> None:
    """Raise unless one datum has the shape of one event.

    Args:
        name: the site's name.
        distribution: its distribution, expanded by its plates.
        value: the data.

    Raises:
        ValueError: naming both shapes.
    """
    event = distribution.event_shape
    if value.shape[value.dim() - len(event) :] != event:
        raise ValueError(_shapes(name, distribution, value))


def check_support(name: str, distribution: Any, value: Tensor) -> None:
    """Raise if data lie outside of a distribution's support, and say how to mend it.

    Args:
        name: the site's name.
        distribution: its distribution.
        value: the data.

    Raises:
        ValueError: naming the range found and the mends.
    """
    try:
        support = distribution.support
    except NotImplementedError:
        return
    if support is None or bool(support.check(value).all()):
        return
    found = value.detach().double()
    low, high = float(found.min()), float(found.max())
    kind = type(getattr(distribution, "base_dist", distribution)).__name__
    whole = bool((found == found.round()).all())
    mends = "choose a likelihood whose support holds them, or transform them"
    inner = getattr(support, "base_constraint", support)
    if inner is constraints.boolean:
        mends = "scale them to [0, 1] and binarise them (binarise='dynamic'), "
        mends += "or use likelihood='continuous-bernoulli' for values in [0, 1]"
    elif inner is constraints.unit_interval:
        mends = "scale them to [0, 1] (divide by the largest), or use likelihood='normal'"
    numbers = "integers" if whole else "values"
    raise ValueError(
        f"the data at site {name!r} are {numbers} in [{low:g}, {high:g}], outside of the support "
        f"of {kind}; {mends}"
    )


def check_ranks(objective: Any, *programs: Any) -> None:
    """Raise if several processes cannot train a pair by an objective as one.

    Args:
        objective: What the pair will be trained by.
        programs: The pair's, built.

    Raises:
        ValueError: If a term goes by what one process has, or a density by persistent chains.
    """
    if ranks.world() == 1 or not isinstance(objective, Objective):
        return
    if objective.alone:
        raise ValueError(
            f"{type(objective).__name__}() {objective.alone} in one process: start one, not several"
        )
    for term in objective.terms():
        if term is not objective:
            check_ranks(term, *programs)
    refuse_chains(modules(*programs))


def check_registered(programs: Iterable[Any], trained: list[Tensor]) -> None:
    """Raise if a module's trainable parameter is not among the trained ones.

    Args:
        programs: programs that may be modules or methods of modules.
        trained: the parameters that the programs asked the store for.

    Raises:
        ValueError: naming the parameter and the likely causes.
    """
    seen = {id(p) for p in trained}
    for program in programs:
        own = owner(program)
        if not isinstance(own, nn.Module):
            continue
        lost = [n for n, p in own.named_parameters() if p.requires_grad and id(p) not in seen]
        if lost:
            raise ValueError(
                f"{lost[0]!r} of {type(own).__name__} (and {len(lost) - 1} more) would not be "
                "trained: either no pyro.module line names its module, or Pyro's parameter store "
                "already holds tensors of another module under the same names; train inside "
                "pyro.get_param_store().scope() (fit does), or call pyro.clear_param_store() first"
            )


def check_critics(critics: Iterable[nn.Module], trained: list[Tensor]) -> None:
    """Raise if a critic is reachable from the pair, which would train it to please the pair.

    Raises:
        ValueError: naming the parameter.
    """
    seen = {id(p) for p in trained}
    for critic in critics:
        for name, p in critic.named_parameters():
            if id(p) in seen:
                raise ValueError(
                    f"the critic's {name!r} is a parameter of the pair too, which would train it "
                    "in the wrong direction; keep the critic out of the pair, in Adversarial alone"
                )


def _shapes(name: str, distribution: Any, value: Tensor) -> str:
    batch, event = tuple(distribution.batch_shape), tuple(distribution.event_shape)
    return (
        f"the data at site {name!r} have the shape {tuple(value.shape)}, and its distribution "
        f"draws the shape {batch + event}, batch {batch} and event {event}; its parameters must "
        "have the data's shape, and .to_event() must count the dimensions of one datum"
    )
