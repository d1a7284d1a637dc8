"""Whether every row lies where a pair's likelihood puts probability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import torch
from torch import Tensor

from priory.data.class_names import UNKNOWN
from priory.data.missing import SEEN
from priory.data.steps import LENGTH
from priory.distributions.padded import carried
from priory.inference.checks import check_support
from priory.inference.modules import eval_mode, modules
from priory.inference.objectives.base import Objective
from priory.inference.phases.arguments import Program, likelihood_at, signature
from priory.inference.phases.phases import Phases
from priory.inference.phases.recorder import MismatchError
from priory.inference.randomness import own_randomness

_ROWS = 1000  # rows at a time


def check_rows(model: Program, guide: Program, columns: Mapping[str, Tensor], what: str) -> None:
    """Raise unless every row lies in the support of what the model observes.

    By the check that training uses: the likelihood's own on `x`, where the pair has one, and the
    support of each observed site's distribution. A pair whose guide does not fit the model, or
    whose likelihood is implicit, has no density and nothing to check.

    Args:
        model: Pyro program.
        guide: Pyro program.
        columns: by name, on the pair's device.
        what: the rows, for the message.

    Raises:
        ValueError: naming the site, the range found and the mends.
    """
    if not columns:
        return
    check_seen(model, columns)
    try:
        _check_x(model, columns)
        device = next(iter(columns.values())).device
        resting = eval_mode(modules(model, guide))
        with own_randomness(device, 0), torch.no_grad(), resting, pyro.validation_enabled(False):
            _check_sites(model, guide, columns)
    except MismatchError:
        return
    except OutsideError as error:
        raise ValueError(f"{what}: {error}") from error


def check_compared(objective: Any, columns: Mapping[str, Any]) -> None:
    """Raise if an adversary compares labels of which some are unknown.

    Args:
        objective: what a pair is trained by.
        columns: the training columns.

    Raises:
        ValueError: naming the site and how many labels lack.
    """
    for adversary in objective.adversaries() if isinstance(objective, Objective) else ():
        for site in adversary.sites:
            column = columns.get(site)
            if not isinstance(column, Tensor) or column.is_floating_point():
                continue
            if unknown := int((column == UNKNOWN).sum()):
                raise ValueError(
                    f"the critic compares {site!r}, and {unknown} of {len(column)} rows have an "
                    "unknown one (-1); leave these rows out, or the site"
                )


def check_seen(model: Program, columns: Mapping[str, Any]) -> None:
    """Raise if data have missing entries, and a model would take what stands there for data.

    Args:
        model: Pyro program.
        columns: by name.

    Raises:
        ValueError: naming the mends.
    """
    if SEEN in columns and SEEN not in signature(model).names and not bool(columns[SEEN].all()):
        raise ValueError(
            "the data have missing entries (missing='integrate'), and the model takes no argument "
            f"{SEEN!r}, by which it would leave them out: take MaskedVAE, the recipe miwae, or "
            "fill them"
        )


def check_padding(model: Program, columns: Mapping[str, Any], padded: bool) -> None:
    """Raise if rows are padded sequences, and a model would take the padding for data.

    Args:
        model: Pyro program.
        columns: by name.
        padded: whether a column `length` counts the steps of the rows.

    Raises:
        ValueError: naming the mends.
    """
    if not padded or LENGTH in signature(model).names:
        return
    length, steps = columns[LENGTH], columns["x"].shape[1]
    if short := int((length < steps).sum()):
        raise ValueError(
            f"{short} of {len(length)} rows are sequences that are padded behind their {LENGTH!r}, "
            f"and the model takes no argument {LENGTH!r}, by which it would leave the padding out: "
            "take VAE or HMM, or leave that column out to have the padding modelled as data"
        )


class OutsideError(ValueError):
    """Rows lie outside of a support."""


def _check_x(model: Program, columns: Mapping[str, Tensor]) -> None:
    likelihood = likelihood_at(model, "x")
    if likelihood is None or "x" not in columns:
        return
    x = columns["x"]
    if LENGTH in columns and LENGTH in signature(model).names:
        x = carried(x, columns[LENGTH].clamp(1, x.shape[1]))
    try:
        likelihood.check(x)
    except ValueError as error:
        raise OutsideError(str(error)) from error


def _check_sites(model: Program, guide: Program, columns: Mapping[str, Tensor]) -> None:
    rows = len(next(iter(columns.values())))
    for start in range(0, rows, _ROWS):
        block = {name: value[start : start + _ROWS] for name, value in columns.items()}
        first, second = (Phases(model, guide, columns=block) for _ in range(2))
        awake, fixed = first.awake, True
        for site in awake.observed:
            distribution, value = awake.distribution(site, of="model"), awake.sample[site]
            whole = _is_fixed(distribution) and _is_column(value, block.get(site))
            fixed = fixed and whole
            if not _is_fixed(distribution) and _differ(
                distribution, second.awake.distribution(site, of="model")
            ):
                continue  # a support that moves with a sample says nothing of a row's density
            try:
                check_support(site, distribution, columns[site] if whole else value)
            except ValueError as error:
                raise OutsideError(str(error)) from error
        if fixed:  # all rows are looked at
            return


def _is_column(value: Tensor, column: Tensor | None) -> bool:
    return column is not None and value.shape == column.shape and torch.equal(value, column)


def _is_fixed(distribution: Any) -> bool:
    """Return whether a distribution's support is the same for every row."""
    return not _bounds(distribution)


def _differ(one: Any, other: Any) -> bool:
    """Return whether the supports of two distributions have other bounds."""
    return any(not torch.equal(*pair) for pair in zip(_bounds(one), _bounds(other), strict=True))


def _bounds(distribution: Any) -> list[Tensor]:
    """Return the tensors that a distribution's support is made of."""
    try:
        support = distribution.support
    except NotImplementedError:
        return []
    found = []
    while support is not None:
        found += [value for value in vars(support).values() if isinstance(value, Tensor)]
        support = getattr(support, "base_constraint", None)
    return found
