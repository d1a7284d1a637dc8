"""How likely a run finds each row: log p(x), with its standard error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from priory.evaluation.per_row import drawn
from priory.evaluation.record import Kind, Unavailable
from priory.evaluation.remedies import Doubt
from priory.evaluation.subject import preparation_of

if TYPE_CHECKING:
    from priory.evaluation.draws import Draws


@dataclass(frozen=True)
class Scores:
    """The log likelihood of each row, in the rows' order, `(n,)` each, float64, on the CPU.

    Attributes:
        log_likelihood: log p(x) in nats, or the bound on it.
        se: its standard error, from the spread of the importance weights; 0 if it is exact, NaN of
            a single sample. That of an estimated log normaliser, which all rows share, is counted.
        ess: effective sample size, between 1 and K.
        khat: shape of the weights' tail: above 0.7 the bound is not to be trusted; NaN if K < 21.
        kind: exact, lower bound, unbiased where log p(x) is an unbiased estimate, or biased where
            a log normaliser is estimated.
        quantity: what it is the likelihood of, and whether that has a density or a mass.
        note: in which units the rows are, and what of them is counted.
        particles: importance samples K of each row; `None` where there are no latents.
        warnings: why the bound may be loose.
    """

    log_likelihood: Tensor
    se: Tensor
    ess: Tensor
    khat: Tensor
    kind: Kind
    quantity: str
    note: str
    particles: int | None
    warnings: tuple[Doubt, ...] = ()

    def __len__(self) -> int:
        return len(self.log_likelihood)

    @property
    def about(self) -> str:
        """What the numbers are, in one sentence."""
        kind: str = self.kind
        if kind == "unbiased":
            kind = "an unbiased estimate"
        if kind == "biased":
            kind = "an estimate, as its normaliser is estimated"
        if self.particles is not None and kind == "lower bound":
            kind += f" by K = {self.particles} importance samples of each row"
        return "; ".join(filter(None, (self.quantity, kind, "in nats", self.note)))

    def __str__(self) -> str:
        mean, n = float(self.log_likelihood.mean()), len(self)
        spread = f" ± {float(self.log_likelihood.std() / n**0.5):.2g}" if n > 1 else ""
        rows = f"{n:,} rows, their mean {mean:.6g}{spread}" if n > 1 else f"one row, {mean:.6g}"
        return "\n".join([f"{self.about}: {rows}", *(f"! {text}" for text in self.warnings)])


def score(
    run: Any,
    data: Any = None,
    *,
    split: Literal["train", "valid", "test"] = "test",
    particles: int = 1000,
    seed: int = 0,
) -> Scores:
    r"""Score each row by log p(x), or by the bound on it that `evaluate` judges by.

    .. math:: \log \hat p(x) = \log \frac{1}{K} \sum_k w_k, \quad
        w_k = \frac{p(x, z_k)}{q(z_k \mid x)}, \quad
        \mathrm{se} = \Big(\frac{K / \mathrm{ESS} - 1}{K - 1}\Big)^{1/2}

    The mean of the scores is, to the last digit, minus the `nll` of the same rows, particles and
    seed. A row's samples are drawn by the seed and the row's place among the rows; how many rows
    are looked at together depends on K and the rows' size alone.

    Burda, Grosse and Salakhutdinov 2016, Importance Weighted Autoencoders.

    Args:
        run: a run, or an object with `model` and `guide`.
        data: rows in any form that `evaluate` takes, prepared as the run's own: a `Data`, one of
            its splits, columns by name, a data frame, an array of x, the name of a set, or of a
            file, all of whose rows are scored in its order; the run's own data if `None`.
        split: which part of a `Data`: train, valid or test; anything else is taken whole.
        particles: importance samples K of each row.
        seed: seed of the samples.

    Raises:
        ValueError: if a row is NaN or infinite, of another shape or outside of the likelihood's
            support, a column that the pair asks for is not there, or a number is wrong.
        Unavailable: if the pair has no density, with the reason.

    Example:
        >>> scores = score(run, x, particles=50)
        >>> scores.log_likelihood.shape, scores.kind, scores.quantity
        (torch.Size([12]), 'lower bound', 'log p(x): x a mass')
    """
    from priory.evaluation.likelihood.bound import doubts, kind_of

    with drawn(run, data, split=split, seed=seed, particles=particles) as draws:
        try:
            latents = bool(draws.density.latents)
        except Unavailable as reason:
            raise Unavailable(f"the pair has no likelihood of a row: {reason}") from reason
        bounds = draws.log_weight
        if len(bad := bounds.log_likelihood.isnan().nonzero().flatten()):
            raise Unavailable(f"log p(x) of row {int(bad[0])} and {len(bad) - 1} more is NaN")
        if draws.estimated:
            particles = 1
        exact, known = draws.exact, draws.normaliser
        error = torch.zeros_like(bounds.ess) if exact else _standard_error(bounds.ess, particles)
        estimated = known is not None and known.se > 0
        if known is not None and estimated:
            error = (error.square() + known.se**2).sqrt()
        notes = [*_units(draws, preparation_of(run)), *([] if known is None else [known.note])]
        return Scores(
            bounds.log_likelihood,
            error,
            bounds.ess,
            bounds.khat,
            "biased" if estimated else kind_of(draws, "lower bound"),
            str(draws.quantity),
            "; ".join(notes),
            particles if latents else None,
            doubts(draws),
        )


def _standard_error(ess: Tensor, particles: int) -> Tensor:
    """Return the standard error of the logarithm of the weights' mean, by the delta method."""
    if particles == 1:
        return torch.full_like(ess, torch.nan)
    return ((particles / ess - 1).clamp(min=0) / (particles - 1)).sqrt()


def _units(draws: Draws, preparation: Any) -> list[str]:
    """Say in which units x is, and whether their change of volume is counted."""
    found = []
    if draws.units is not None and draws.quantity.is_density:
        volume = "" if draws.quantity.partial else f", {-draws.log_scale:+.6g} nats a row,"
        found.append(
            f"x in its own units: the standardisation's change of volume{volume} is counted"
        )
    if draws.quantity.is_density and (divisor := getattr(preparation, "divisor", 1.0)) != 1.0:
        found.append(f"x divided by {divisor:g}, whose change of volume is not counted")
    if "x" in draws.quantity.observed and getattr(preparation, "binarise", "none") != "none":
        found.append("x binarised once")
    return found
