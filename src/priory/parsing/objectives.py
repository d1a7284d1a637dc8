"""Objectives written as text, `reconstruction + 10*match:mmd`: parts, weights and their sum."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

from torch import nn

from priory.divergences import DIVERGENCES
from priory.inference import (
    ELBO,
    IWAE,
    KL,
    Adversarial,
    Classification,
    Match,
    Objective,
    Reconstruction,
    Renyi,
    Sleep,
)
from priory.inference.objectives.schedules import Schedule
from priory.nets import CRITICS, Critic
from priory.parsing.texts import convert, parse, parse_function, unbracket
from priory.signatures import Collector, split


def parse_objective(text: str) -> Objective:
    """Build an objective: a part, or a sum of parts with weights.

    Raises:
        Faults: naming every error of every term.

    Example:
        >>> len(parse_objective("reconstruction + 10*match:mmd").terms())
        2
    """
    errors = Collector()
    terms = []
    for term in split(text, "+"):
        *weights, part = split(term, "*")
        objective = errors.attempt(parse, "objective", part, OBJECTIVES)
        for weight in weights:
            factor = errors.attempt(
                convert, weight, float | Schedule, prefix=f"{term}: the weight "
            )
            if objective is not None and factor is not None:
                objective = factor * objective
        terms.append(objective)
    errors.check()
    total: Objective | None = errors.attempt(functools.reduce, operator.add, terms)
    errors.check()
    assert total is not None  # noqa: S101
    return total


def match(
    divergence: str = "mmd",
    sites: tuple[str, ...] = ("z",),
    mean: tuple[str, ...] = (),
    detached: bool = False,
) -> Match:
    """Compare awake and asleep samples of some sites by a divergence.

    Args:
        divergence: a name in `priory.divergences.DIVERGENCES`, with arguments in brackets:
            (mmd:kernel=rbf).
        sites: the sites to compare.
        mean: those observed ones of which the mean given the latents is compared with the data.
        detached: whether the model's samples are constants, which give it no gradient.
    """
    function = parse_function("divergence", unbracket(divergence), DIVERGENCES)
    return Match(function, *sites, mean=mean, detached=detached)


def sleep(
    sites: tuple[str, ...] = ("z",),
    cost: str = "likelihood",
    mean: tuple[str, ...] = (),
    detached: bool = False,
    arguments: tuple[str, ...] = (),
) -> Sleep:
    """Find the latents of what the model generates, by the guide.

    Args:
        sites: the latents to be found.
        cost: "likelihood", or the name of a cost of taking the guide's mean for the latent.
        mean: observed sites of which the guide reads the mean given the latents.
        detached: whether samples are constants, which give the model no gradient.
        arguments: argument=site, for an argument of the guide that a site's sample stands for.
    """
    pairs = [pair.split("=") for pair in arguments]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"arguments are written argument=site, got {', '.join(arguments)}")
    return Sleep(
        *sites,
        cost=cost,  # type: ignore[arg-type]
        mean=mean,
        detached=detached,
        arguments=dict(pairs) or None,
    )


def adversarial(
    sites: tuple[str, ...] = ("z",),
    critic: Critic | nn.Module | str = "mlp",
    game: str = "non-saturating",
    steps: int = 1,
    rate: float = 1.0,
    gradient_penalty: float = 0.0,
    r1: float = 0.0,
    r2: float = 0.0,
    clip: float | None = None,
    pack: int = 1,
    noise: float | Schedule = 0.0,
    mean: tuple[str, ...] = (),
    detached: bool = False,
) -> Adversarial:
    """Train a critic to distinguish awake samples from asleep ones, and the pair to fool it.

    Args:
        sites: the sites to distinguish.
        critic: a net or critic, or its text.
        game: name of the game.
        steps: critic steps per step of the pair.
        rate: the critic's learning rate over the pair's.
        gradient_penalty: weight of the two-sided penalty on the critic's gradient.
        r1: weight of the penalty on the critic's gradient at awake samples.
        r2: the same at asleep samples.
        clip: bound on each of the critic's weights.
        pack: samples of one side that are judged together.
        noise: standard deviation of normal noise on both sides' samples.
        mean: those observed sites of which the mean given the latents is compared with the data.
        detached: whether the model's samples are constants, which give it no gradient.
    """
    net = parse("critic", unbracket(critic), CRITICS) if isinstance(critic, str) else critic
    return Adversarial(
        net,
        *sites,
        game=game,
        steps=steps,
        rate=rate,
        gradient_penalty=gradient_penalty,
        r1=r1,
        r2=r2,
        clip=clip,
        pack=pack,
        noise=noise,
        mean=mean,
        detached=detached,
    )


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "adversarial": adversarial,
    "classification": Classification,
    "elbo": ELBO,
    "iwae": IWAE,
    "kl": KL,
    "match": match,
    "reconstruction": Reconstruction,
    "renyi": Renyi,
    "sleep": sleep,
}
