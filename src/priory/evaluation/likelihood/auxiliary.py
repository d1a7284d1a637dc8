"""Whether a guide's point masses carry the change of variables from its auxiliary sites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions import Delta
from torch import Tensor

from priory.evaluation.rows import Columns
from priory.inference.phases.arguments import bind
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.recorder import Recorder
from priory.inference.phases.sites import Site, base, batch_frame, in_batch

_TOLERANCE = 1e-3


def wrong_jacobian(guide: Callable[..., Any], phase: Phase, rows: Columns) -> str:
    r"""Say where latents z = f(a) lack the density of their change of variables; "" where none do.

    .. math:: \log q(z \mid x) = \log q(a \mid x) - \log |\det \partial f / \partial a|

    The point mass at z must have the second term as its `log_density`. Compared by automatic
    differentiation, row by row, where a and z have the same size.

    Args:
        guide: Pyro program that draws the auxiliary sites a in the batch plate.
        phase: of a few rows.
        rows: their columns.
    """
    first = _sites(guide, rows, {})
    sources = [n for n in phase.auxiliary if in_batch(first[n])]
    points = [n for n in phase.latents if isinstance(base(first[n]["fn"]), Delta)]
    free = {n: first[n]["value"].detach() for n in first if n not in points}
    a = {n: free[n].requires_grad_() for n in sources}
    with torch.enable_grad():
        sites = _sites(guide, rows, {**free, **a})
        z = torch.cat([_by_row(sites[n], sites[n]["value"]) for n in points], 1)
        if not sources or z.shape[1] != sum(_by_row(sites[n], a[n]).shape[1] for n in sources):
            return ""
        slopes = [_slopes(z[:, i].sum(), a, sites) for i in range(z.shape[1])]
    grown = torch.linalg.slogdet(torch.stack(slopes, 1))[1]
    claimed = -Phase({}, {n: sites[n] for n in points}).log_q()[0].detach()
    if torch.allclose(claimed, grown, rtol=_TOLERANCE, atol=_TOLERANCE):
        return ""
    return (
        f"the point mass at {points[0]!r} has the log density {-float(claimed[0]):.4g}, and the "
        f"change of variables from {sources[0]!r} asks for {-float(grown[0]):.4g}: give "
        "Delta(value, log_density=-log |det of the derivative|)"
    )


def _sites(guide: Callable[..., Any], rows: Columns, values: dict[str, Tensor]) -> dict[str, Site]:
    recorder = Recorder(values)
    with recorder:
        guide(**bind(guide, rows))
    return recorder.sites


def _by_row(site: Site, value: Tensor) -> Tensor:
    frame = batch_frame(site)
    batch = value.dim() - len(site["fn"].event_shape) + frame.dim
    return value.movedim(batch, 0).flatten(1) if value.dim() > 1 else value.unsqueeze(1)


def _slopes(total: Tensor, a: dict[str, Tensor], sites: dict[str, Site]) -> Tensor:
    """Return one output's derivatives by each row's auxiliary values, `(rows, size)`."""
    found = torch.autograd.grad(total, [*a.values()], retain_graph=True, allow_unused=True)
    pairs = zip(a.items(), found, strict=True)
    parts = [(n, torch.zeros_like(v) if g is None else g) for (n, v), g in pairs]
    return torch.cat([_by_row(sites[n], g) for n, g in parts], 1)
