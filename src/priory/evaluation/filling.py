"""Missing entries filled in: draws given what is seen of a row, their mean and quantiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from priory.data.categories import Levels, named_columns
from priory.data.inputs import in_memory
from priory.data.missing import SEEN
from priory.data.rows import as_given, is_file, rows_of_file
from priory.distributions.mixed import Mixed
from priory.evaluation.isolation import placement, reseed
from priory.evaluation.likelihood.masking import coordinate_log_prob
from priory.evaluation.per_row import drawn
from priory.evaluation.record import Unavailable
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.rows import Columns, blocks
from priory.evaluation.sample_sets import sizes_of
from priory.evaluation.subject import check_counts, preparation_of
from priory.inference.phases.arguments import signature
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.particles import vectorises
from priory.inference.phases.phases import Phases

if TYPE_CHECKING:
    from priory.evaluation.draws import Draws

_STREAM = 47  # random
_VALUES = 2**22  # numbers of one array
_LOW, _HIGH = 0.05, 0.95
_FEW_EFFECTIVE = 10
_DOUBTFUL = 0.1  # share of the rows above which a warning is given


@dataclass(frozen=True)
class Imputed:
    """Rows with their missing entries filled in, in the data's own units, float64, on the CPU.

    Attributes:
        x: `(n, *shape)`; a missing entry is its mean given those that are seen, of a category its
            most probable level, others are as they were.
        low: the 5% quantile of a missing entry's draws, NaN of a category; others are as they were.
        high: the 95% quantile, likewise.
        draws: `(draws, n, *shape)`, likewise.
        seen: which entries were there, `(n, *shape)`.
        ess: effective sample size behind each row, `(n,)`.
        features: names of the columns; none where the training rows had no names.
        warnings: why the draws may be far from their distribution.
        levels: of each column the names of its levels, none of numbers; empty if all are numbers.
        probability: of each missing category its level's, `(n, *shape)`, NaN elsewhere; None where
            there are no categories.
    """

    x: Tensor
    low: Tensor
    high: Tensor
    draws: Tensor
    seen: Tensor
    ess: Tensor
    features: tuple[str, ...] = ()
    warnings: tuple[Doubt, ...] = ()
    levels: Levels = ()
    probability: Tensor | None = None

    def table(self) -> dict[str, list[Any]]:
        """Return the rows as columns by name, categories as the names of their levels."""
        return named_columns(self.x.numpy(), self.levels, self.features)

    def __len__(self) -> int:
        return len(self.x)

    def __str__(self) -> str:
        gaps = ~self.seen.reshape(len(self), -1)
        head = (
            f"{int(gaps.sum()):,} missing entries in {int(gaps.any(1).sum()):,} of {len(self):,} "
            f"rows: means, 5% and 95% quantiles of {len(self.draws)} draws, given what is seen"
        )
        head += "; of a category the most probable level" if self.probability is not None else ""
        return "\n".join([head, *(f"! {text}" for text in self.warnings)])


def impute_rows(
    run: Any,
    data: Any = None,
    *,
    split: Literal["train", "valid", "test"] = "test",
    draws: int = 100,
    particles: int = 1000,
    seed: int = 0,
) -> Imputed:
    r"""Fill missing entries in, by self-normalised importance sampling from the guide.

    .. math:: \mathrm{E}[x_\text{mis} \mid x_\text{seen}] \approx
        \sum_k \bar w_k \, \mathrm{E}[x_\text{mis} \mid z_k], \quad
        \bar w_k \propto \frac{p(x_\text{seen}, z_k)}{q(z_k \mid x_\text{seen})}

    and draws of :math:`x_\text{mis} \sim p(x_\text{mis} \mid z_k)` with k drawn by the weights.
    Both are exact as K grows, whatever the guide.

    Mattei and Frellsen 2019, MIWAE: deep generative modelling and imputation of incomplete data
    sets.

    Args:
        run: a run of a pair that leaves missing entries out, such as `MaskedVAE`, or such a pair.
        data: rows in any form that `evaluate` takes, prepared as the run's own, with NaN where an
            entry is missing: a `Data`, one of its splits, columns by name, a data frame, an array
            of x, or the name of a file, all of whose rows are filled in its order; the run's own
            data if `None`.
        split: which part of a `Data`: train, valid or test; anything else is taken whole.
        draws: draws of each missing entry.
        particles: importance samples K of each row.
        seed: seed of all draws.

    Raises:
        ValueError: if the pair takes no mask, a row is infinite, of another shape or outside of the
            likelihood's support, or a number is wrong.
        Unavailable: if the pair has no density, with the reason.

    Example:
        >>> from priory.models import MaskedVAE
        >>> table = torch.randn(60, 3).masked_fill(torch.rand(60, 3) < 0.2, torch.nan)
        >>> own = Data.from_arrays(table, missing="integrate")
        >>> filled = impute_rows(fit(MaskedVAE(latent=2), ELBO(), own, steps=2), table, draws=20)
        >>> filled.x.shape, filled.draws.shape
        (torch.Size([60, 3]), torch.Size([20, 60, 3]))
    """
    check_counts({"draws": draws}, seed)
    preparation = preparation_of(run)
    data = in_memory(data, preparation)  # an iterator is read once
    if is_file(data):
        data, _ = rows_of_file(data, preparation)
    with drawn(run, data, split=split, seed=seed, particles=particles) as rows:
        if SEEN not in signature(rows.model).names:
            raise ValueError(
                f"the model takes no argument {SEEN!r}, by which it would leave missing entries "
                "out: take MaskedVAE, the recipe miwae; evaluation.impute fills the rows of "
                "any pair by a chain"
            )
        try:
            _ = rows.density
        except Unavailable as reason:
            raise Unavailable(f"the pair has no likelihood of a row: {reason}") from reason
        width = rows.columns["x"].shape[1] if rows.columns["x"].dim() == 2 else 0
        sizes = sizes_of(rows.model, preparation, width)
        mean, samples, ess, best = _filled(rows, draws, sizes)
        seen = rows.columns.get(SEEN, torch.ones_like(rows.columns["x"], dtype=torch.bool)).cpu()
        values = [rows.columns["x"].cpu(), mean, samples]
        if preparation is not None:
            values = [preparation.restore(part) for part in values]
        own, mean, samples = (part.double() for part in values)
        given = as_given(data, preparation)
        own = own if given is None else torch.from_numpy(given).reshape(own.shape)
        samples = torch.where(seen, own, samples)
        ends = samples.quantile(torch.tensor([_LOW, _HIGH], dtype=torch.float64), dim=0)
        features, levels = (getattr(preparation, name, ()) for name in ("features", "levels"))
        filled = torch.where(seen, own, mean)
        if best is not None:
            gap = ~seen & (torch.tensor(sizes) > 0)
            best = best.where(gap, torch.nan)
            ends = ends.where(~gap, torch.nan)
        doubts = _doubts(ess)
        return Imputed(filled, ends[0], ends[1], samples, seen, ess, features, doubts, levels, best)


def _filled(
    draws: Draws, count: int, sizes: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return means, draws, effective sample sizes, and the probabilities of the categories."""
    particles = max(2, draws.particles)
    size = max(1, _VALUES // (draws.columns["x"][0].numel() * particles))
    like = placement(draws.model, draws.guide)
    together = vectorises(draws.model, draws.guide, next(blocks(draws.columns, 2, like))[1])
    parts = []
    for start, rows in blocks(draws.columns, size, like):
        reseed(next(iter(rows.values())).device, draws.seed, _STREAM, start)
        if together:
            phases = [Phases(draws.model, draws.guide, columns=rows, particles=particles).awake]
        else:
            alone = (Phases(draws.model, draws.guide, columns=rows) for _ in range(particles))
            phases = [each.awake for each in alone]
        parts.append((*_resampled(phases, rows, count), *_levels(phases, rows, sizes)))
    means, samples, ess, levels, best = zip(*parts, strict=True)
    mean = torch.cat(means)
    if not sizes:
        return mean, torch.cat(samples, 1), torch.cat(ess), None
    mean = torch.where(torch.tensor(sizes) > 0, torch.cat(levels), mean)
    return mean, torch.cat(samples, 1), torch.cat(ess), torch.cat(best)


def _levels(
    phases: list[Phase], rows: Columns, sizes: tuple[int, ...]
) -> tuple[Tensor | None, Tensor | None]:
    r"""Return each category's most probable level and its probability, `(n, columns)` each.

    .. math:: p(x_i = l \mid x_\text{seen}) \approx \sum_k \bar w_k \, p(x_i = l \mid z_k)
    """
    if not sizes:
        return None, None
    weight = torch.cat([phase.log_weight() for phase in phases]).double().softmax(0)
    x, k = rows["x"], len(weight) // len(phases)
    known = torch.tensor(sizes, device=x.device)
    found = []
    for level in range(max(sizes)):
        # A column with fewer levels, or of numbers, is asked for what it has, and not read.
        value = torch.where(known > level, float(level), x).to(x)
        parts = []
        for phase in phases:
            distribution = phase.distribution("x", of="model")
            whole = getattr(distribution, "whole", distribution)
            score = coordinate_log_prob(whole, value.expand(k, *x.shape) if k > 1 else value)
            parts.append(score.reshape(k, *x.shape).double().exp())
        share = torch.einsum("kn,knd->nd", weight, torch.cat(parts))
        found.append(torch.where(known > level, share, -1.0))
    best = torch.stack(found).max(0)
    return best.indices.double().cpu(), best.values.cpu()


def _resampled(phases: list[Phase], rows: Columns, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a block's means, draws by the weights, and effective sample sizes."""
    n, shape = len(rows["x"]), rows["x"].shape[1:]
    weight = torch.cat([phase.log_weight() for phase in phases]).double().softmax(0)  # (K, n)
    values: list[Tensor] = []
    means: list[Tensor] = []
    for phase in phases:
        distribution = phase.distribution("x", of="model")
        k = len(weight) // len(phases)
        value = distribution.sample()
        whole = getattr(distribution, "whole", distribution)
        try:
            mean = whole.means(value) if isinstance(whole, Mixed) else distribution.mean
        except NotImplementedError:
            mean = value
        for found, part in ((values, value), (means, mean)):
            found.append(part.expand(k, n, *shape) if k > 1 else part.reshape(1, n, *shape))
    if not bool(weight.isfinite().all()):
        raise Unavailable("the importance weights of a row are NaN")
    chosen = torch.multinomial(weight.T, count, replacement=True).T  # (count, n)
    drawn = torch.cat(values)[chosen, torch.arange(n, device=chosen.device)]
    mean = torch.einsum("kn,kn...->n...", weight, torch.cat(means).double())
    return mean.cpu(), drawn.cpu(), (1 / weight.square().sum(0)).cpu()


def _doubts(ess: Tensor) -> tuple[Doubt, ...]:
    poor = float((ess < _FEW_EFFECTIVE).double().mean())
    if poor <= _DOUBTFUL:
        return ()
    text = (
        f"{poor:.0%} of the rows have fewer than {_FEW_EFFECTIVE} effective samples: take a larger "
        "K, --particles"
    )
    return (Doubt(text, Remedy.SAMPLES),)
