"""From nats per datum to bits per dimension."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.likelihood.bound import doubts, samples_of
from priory.evaluation.record import Estimate, Kind, Unavailable
from priory.evaluation.registry import metric
from priory.inference.phases.sites import is_discrete

_ROWS, _NUMBERS = 200, 2**20  # looked at in search of levels, at least
_MOST = 2**16  # levels
_ROUNDINGS = 4  # of the largest value
_CHANCE = 1000.0
_PRECISE = (torch.float64, torch.int64, torch.int32)


def nats_to_bits(nats: Tensor, features: int, spacing: float = 1.0) -> Tensor:
    r"""Return the negative log probability of data in bits per dimension.

    .. math:: \frac{-\log p(x)}{D \log 2} - \log_2 h

    where h is the distance of neighbouring levels, in the data's units: the mass of a level is the
    density times h. Of a mass p, h is 1.

    Args:
        nats: negative log density or mass of each datum, `(n,)`.
        features: D.
        spacing: the levels' distance h.

    Raises:
        ValueError: if features or spacing are not positive.

    Example:
        >>> nats_to_bits(torch.zeros(1), 784, 1 / 256)  # uniform on [0, 1)
        tensor([8.])
    """
    if features < 1 or not spacing > 0:
        raise ValueError(f"features and spacing must be positive, got {features} and {spacing}")
    return nats / (features * math.log(2)) - math.log2(spacing)


def level_spacing(x: Tensor) -> float | None:
    """Return the distance of neighbouring levels that data lie on, if they are evenly spaced.

    Any offset and distance will do, and levels may lack: of 0, 1, 4 and 6 it is 1. Roundings to
    single precision are allowed for.

    Args:
        x: data, `(n, *shape)`; about a million numbers are looked at.

    Returns:
        The distance; `None` where the data lie on no such levels, on more than 65,536, or are too
        few to distinguish levels from chance.

    Example:
        >>> level_spacing(torch.tensor([[0.0, 3.0, 16.0]]) / 16)
        0.0625
    """
    rows = max(_ROWS, _NUMBERS // max(1, x[0].numel()))
    index = torch.linspace(0, len(x) - 1, min(len(x), rows), dtype=torch.float64).round().long()
    values = x[index.to(x.device)].double().unique().cpu()
    kinds = (torch.float32,) if x.dtype not in _PRECISE else (torch.float64, torch.float32)
    if x.dtype in (torch.float16, torch.bfloat16):
        kinds = (x.dtype,)
    found = (_spacing(values, _ROUNDINGS * torch.finfo(kind).eps) for kind in kinds)
    return next((spacing for spacing in found if spacing is not None), None)


def _spacing(values: Tensor, rounding: float) -> float | None:
    """Return the greatest distance of which all differences are multiples, but for roundings.

    Euclid's algorithm on the differences of neighbours: the distance of the levels is found from
    all values together at every step, so that its error does not grow with their number.

    Args:
        values: in ascending order.
        rounding: largest error of a value, over the largest of them.
    """
    slack = rounding * float(values.abs().max())
    start = torch.cat([torch.tensor([True]), values.diff() > 2 * slack])  # else the same level
    values = values[start]
    gaps = values.diff()
    if not len(gaps):
        return None
    spacing, span = float(gaps.min()), float(values[-1] - values[0])
    while span <= _MOST * spacing and spacing > 4 * slack:
        steps = (gaps / spacing).round()
        levels = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
        fitted = float(((values - values.mean()) * levels).sum())
        fitted /= float(((levels - levels.mean()) * levels).sum())
        rest = (values - values.mean() - fitted * (levels - levels.mean())).abs()
        if rest.max() <= 2 * slack:
            whole = round(1 / fitted)  # 1/255, say, freed of roundings
            fitted = 1 / whole if whole and abs(whole * fitted - 1) < rounding else fitted
            return fitted if _is_no_chance(len(values), span / fitted, fitted, slack) else None
        remainders = (gaps - spacing * steps).abs()
        spacing = min((r for r in remainders.tolist() if r > 4 * slack), default=0.0)
    return None


def _is_no_chance(count: int, levels: float, spacing: float, slack: float) -> bool:
    """Return whether so many values would hardly lie on levels by chance."""
    if count == round(levels) + 1:  # every level is there
        return True
    each = min(1.0, 4 * slack / spacing) or 1e-16
    return (count - 2) * -math.log(each) > math.log(_CHANCE * levels)


@metric("likelihood", "density", "x", "log_weight", better="lower")
def bits_per_dim(draws: Draws) -> Estimate:
    """Negative log likelihood in bits per dimension: of a mass, or of a density times a level."""
    observed = draws.density.observed
    if observed != ("x",):
        raise Unavailable(f"the nll is of {', '.join(observed)} together, not of x alone")
    distribution, features, note = (
        draws.density.distribution("x", of="model"),
        draws.x[0].numel(),
        "",
    )
    kind: Kind = "upper bound" if draws.density.latents else "exact"
    spacing, warnings, samples = 1.0, doubts(draws), samples_of(draws)
    x = draws.x if draws.units is None else draws.units.own(draws.x).float()
    if not is_discrete(distribution):
        found = level_spacing(x)
        if found is None:
            raise Unavailable(
                "x has a density and lies on no levels, evenly spaced: a density alone has no bits"
            )
        spacing, kind = found, "biased"
        note = f"; density times the levels' distance {_distance(spacing)}"
        warnings += (
            "a density on discrete levels: what stands for a level's mass is no bound on it",
        )
    return Estimate.mean(
        nats_to_bits(-draws.log_weight.log_likelihood, features, spacing),
        kind=kind,
        unit="bits",
        particles=samples.get("particles"),
        note="; ".join([f"over {features} features{note}", *filter(None, [samples.get("note")])]),
        warnings=warnings,
    )


def _distance(spacing: float) -> str:
    """Write the levels' distance, as 1/L where it is."""
    levels = 1 / spacing
    whole = round(levels) > 1 and abs(levels - round(levels)) < 1e-4 * levels
    return f"1/{levels:.0f}" if whole else f"{spacing:.6g}"
