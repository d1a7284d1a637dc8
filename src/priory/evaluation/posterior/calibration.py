"""Simulation-based calibration: whether the guide is the posterior on the model's own samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.isolation import placement, reseed
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.rows import Columns, place
from priory.evaluation.sample_sets import once
from priory.evaluation.statistics import holm
from priory.inference.modules import device_of
from priory.inference.phases.arguments import bind
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.phases import Phases

SAMPLES, LEVELS = 1000, 99  # 99 draws have 100 ranks, which 20 bins share evenly
_STREAM = 25
_ROWS = 250  # samples at a time
_BINS = 20
_ALPHA = 0.01
_LEVEL = 0.05


@dataclass(frozen=True)
class Calibration:
    """Ranks of what the model drew among what the guide draws for its sample.

    Args:
        ranks: how many of the guide's draws lie below, `(draws, latent)`, integers from 0 to
            `levels`; for the exact posterior each is equally likely.
        levels: draws of the guide for each sample.
        names: of the latent dimensions, such as `z[3]`.
    """

    ranks: Tensor
    levels: int
    names: tuple[str, ...] = ()

    @property
    def ecdf(self) -> Tensor:
        """Share of samples with at most each rank, `(levels + 1, latent)`, float64."""
        return self.counts(self.levels + 1).cumsum(0) / len(self.ranks)

    @property
    def distance(self) -> Tensor:
        """Largest distance of each dimension's ECDF from the uniform one, `(latent,)`."""
        return (self.ecdf - self._uniform).abs().amax(0)

    @property
    def distance_error(self) -> Tensor:
        """Binomial standard error of the ECDF where it is farthest from uniform, `(latent,)`."""
        ecdf = self.ecdf
        share = ecdf.gather(0, (ecdf - self._uniform).abs().argmax(0, keepdim=True))[0]
        return (share * (1 - share) / len(self.ranks)).sqrt()

    @property
    def chi_square(self) -> Tensor:
        """P-value of Pearson's test that ranks are uniform in each dimension, `(latent,)`."""
        expected = len(self.ranks) / _BINS
        statistic = ((self.counts(_BINS) - expected).square() / expected).sum(0)
        from scipy import stats

        return torch.from_numpy(np.asarray(stats.chi2.sf(statistic.numpy(), _BINS - 1)))

    @property
    def symmetry(self) -> Tensor:
        r"""P-value of the test that ranks are symmetric about their middle, `(latent,)`.

        .. math:: \sup_t | F(t) + F(1 - t) - 1 | \; \sqrt n \to \sup_{0 \le t \le 1} |W(t)|

        W is Brownian motion; as ranks are grouped, the test is slightly conservative. A guide with
        symmetric ranks has means without bias.

        Butler 1969, A test for symmetry using the sample distribution function; Yao et al. 2018.
        """
        counts = self.counts(self.levels + 1)
        walk = (counts - counts.flip(0))[: (self.levels + 1) // 2].cumsum(0)
        highest = walk.abs().amax(0) / math.sqrt(len(self.ranks))
        odd = 2 * torch.arange(50, dtype=torch.float64).unsqueeze(1) + 1
        decay = (-(math.pi**2) * odd.square() / (8 * highest.clamp_min(0.1).square())).exp()
        signs = 1 - (odd - 1) % 4
        inside = 4 / math.pi * (signs * decay / odd).sum(0)
        return (1 - inside).clamp(0.0, 1.0)

    @property
    def positions(self) -> Tensor:
        """Ranks as shares of the guide's draws, between 0 and 1, `(draws, latent)`."""
        return (self.ranks.double() + 0.5) / (self.levels + 1)

    @property
    def contrasts(self) -> Tensor:
        """Standardised slope and curvature of the ranks' histogram, `(2, latent)`.

        Neyman 1937, Smooth test for goodness of fit: the first two Legendre polynomials. Both are
        standard normal for the exact posterior; a positive curvature is a U.
        """
        u = 2 * self.positions - 1
        slope, curve = u, 1.5 * u.square() - 0.5
        grid = (2 * torch.arange(self.levels + 1).double() + 1) / (self.levels + 1) - 1
        shape = 1.5 * grid.square() - 0.5
        root = math.sqrt(len(u))
        return torch.stack(
            [
                root * slope.mean(0) / grid.square().mean().sqrt(),
                root * (curve.mean(0) - shape.mean()) / shape.std(correction=0),
            ]
        )

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Return of each dimension: `right`, `narrow`, `wide`, `shifted` or `other`.

        A dimension is right unless a test of its slope, of its curvature or of its histogram fails
        at 1 per cent, with all dimensions' tests allowed for (Holm 1979). It is shifted if the
        histogram's odd part has more energy than its even part; else the curvature names it.
        """
        slope, curve = self.contrasts
        from scipy import stats

        tails = [2 * stats.norm.sf(c.abs().numpy()) for c in (slope, curve)]
        tests = np.stack([*tails, self.chi_square.numpy()])
        failed = holm(torch.from_numpy(tests.ravel())).view(tests.shape) < _ALPHA
        share = self.counts(_BINS) / len(self.ranks) - 1 / _BINS
        odd, even = ((share + sign * share.flip(0)).square().sum(0) for sign in (-1, 1))
        words = []
        for d in range(self.ranks.shape[1]):
            if not failed[:, d].any():
                words.append("right")
            elif not failed[:2, d].any():
                words.append("other")
            elif odd[d] > even[d]:
                words.append("shifted")
            else:
                words.append("narrow" if curve[d] > 0 else "wide")
        return tuple(words)

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """What is wrong with the guide; nothing if all dimensions are right."""
        found, total = self.verdicts, len(self.verdicts)
        says = {
            "narrow": "the guide's posterior is too narrow",
            "wide": "the guide's posterior is too wide",
            "shifted": "the guide's posterior is shifted",
            "other": "the guide's posterior has another shape than the model's",
        }
        return tuple(
            Doubt(f"{text} in {found.count(kind)} of {total} dimensions", Remedy.GUIDE)
            for kind, text in says.items()
            if kind in found
        )

    def counts(self, bins: int) -> Tensor:
        """Count ranks by bins of equal width, `(bins, latent)`, float64.

        Args:
            bins: how many, a divisor of `levels + 1`.

        Raises:
            ValueError: if the bins do not share the ranks evenly.
        """
        if bins < 1 or (self.levels + 1) % bins:
            raise ValueError(f"bins must divide levels + 1 = {self.levels + 1}, got {bins}")
        place = self.ranks // ((self.levels + 1) // bins)
        return torch.stack([(place == b).sum(0) for b in range(bins)]).double()

    @property
    def _uniform(self) -> Tensor:
        steps = torch.arange(1, self.levels + 2, dtype=torch.float64)
        return (steps / (self.levels + 1)).unsqueeze(1)


def calibration(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    columns: Columns,
    *,
    generated: int = SAMPLES,
    levels: int = LEVELS,
    seed: int = 0,
) -> Calibration:
    r"""Draw (z, x) from the model and rank z among draws of the guide for x, per dimension.

    .. math:: (z, x) \sim p(z, x), \quad z_l \sim q(z \mid x), \quad r = \#\{l : z_l < z\}

    Uniform where the guide is the model's posterior. Equal values (of discrete latents) are ranked
    at random among themselves. A latent whose parents are latents is judged given the true ones. To
    be called inside `sealed`.

    Talts, Betancourt, Simpson, Vehtari and Gelman 2018, Validating Bayesian inference algorithms
    with simulation-based calibration; Yao, Vehtari, Simpson and Gelman 2018, Yes, but did it work?
    Evaluating variational inference.

    Args:
        model: Pyro program of p(x, z).
        guide: Pyro program of q(z | x).
        columns: data, which give the shapes and whatever the model is conditioned on.
        generated: how many.
        levels: draws of the guide for each; levels + 1 is a multiple of 20.
        seed: of all draws.

    Raises:
        Unavailable: if the guide does not read what the model generates, or is deterministic.

    Example:
        >>> calibration(pair.model, pair.guide, {"x": x}).doubts
        ("the guide's posterior is too narrow in 2 of 2 dimensions",)
    """
    like = placement(model, guide)
    device = device_of([like, *columns.values()])
    count = len(next(iter(columns.values())))
    parts: list[Tensor] = []
    names: tuple[str, ...] = ()
    for start in range(0, generated, _ROWS):
        index = torch.arange(start, min(start + _ROWS, generated)) % count
        rows = {name: value[index.to(value.device)] for name, value in columns.items()}
        rows = place(rows, like)
        reseed(device, seed, _STREAM, start)
        phase = Phases(model, guide, columns=rows).asleep
        if not start:
            _check_reads(guide, rows, phase.observed)
        ranks, names = _ranks(phase, levels)
        parts.append(ranks.cpu())
    return Calibration(torch.cat(parts), levels, names)


def _ranks(phase: Phase, levels: int) -> tuple[Tensor, tuple[str, ...]]:
    """Rank the latents of one block of samples, `(rows, latent)`, and name them."""
    columns, names = [], []
    for site in phase.latents:
        distribution = phase.distribution(site)
        if site not in phase.local:
            raise Unavailable(f"{site} is shared by all data: no datum has its own rank")
        truth = phase.sample[site][0]
        rows = len(truth)
        if tuple(distribution.batch_shape) not in ((rows,), (1, rows)):
            raise Unavailable(f"q({site} | x) is not one distribution for each row of x")
        draws = distribution.sample((levels,)).reshape(levels, rows, -1)
        broken = (~draws.isfinite()).any(-1).any(0).nonzero().flatten()
        if len(broken):
            raise Unavailable(
                f"q({site} | x) has NaN or infinite draws for {len(broken)} of {rows} samples"
            )
        if (draws == draws[:1]).all():
            raise Unavailable(f"q({site} | x) is a point: a deterministic guide has no ranks")
        truth = truth.reshape(rows, -1)
        below, equal = (draws < truth).sum(0), (draws == truth).sum(0)
        chosen = (torch.rand(below.shape, device=below.device) * (equal + 1)).long()
        columns.append(below + torch.minimum(chosen, equal))
        width = truth.shape[1]
        names += [site] if width == 1 else [f"{site}[{d}]" for d in range(width)]
    return torch.cat(columns, 1), tuple(names)


def _check_reads(guide: Callable[..., Any], rows: Columns, observed: tuple[str, ...]) -> None:
    reads = bind(guide, rows)
    if not {*reads} & {*observed}:
        raise Unavailable(
            f"the guide reads {', '.join(reads) or 'nothing'}, none of what the model generates "
            f"({', '.join(observed) or 'nothing'})"
        )
    if "index" in reads:
        raise Unavailable("the guide has parameters for each row of the data; samples have none")


@metric("posterior", "phase", better="lower", name="calibration")
def calibration_distance(draws: Draws) -> Estimate:
    """Largest distance of the guide's ranks from uniform, on the model's own samples."""
    found = ranks_of(draws)
    n, dims = found.ranks.shape
    worst = int(found.distance.argmax())
    limit = math.sqrt(math.log(2 * dims / _LEVEL) / (2 * n))  # Massart 1990, by Bonferroni
    p, tilt = (float(holm(test).min()) for test in (found.chi_square, found.symmetry))
    note = (
        f"the worst of {dims} dimensions, {found.names[worst]}; an exact guide stays below "
        f"{limit:.3f} in 95 of 100 cases; p = {p:.2g} for uniform, {tilt:.2g} for symmetric "
        f"ranks; {found.levels} draws for each of {n} samples of the model, not of data"
    )
    return Estimate(
        float(found.distance[worst]),
        float(found.distance_error[worst]),
        n,
        "biased",
        note=note,
        warnings=found.doubts,
    )


@once
def ranks_of(draws: Draws) -> Calibration:
    """Return the calibration of a pair's draws, made once.

    Args:
        draws: of the pair.

    Raises:
        Unavailable: as `calibration`, or if the guide does not draw the model's latents.
    """
    if not draws.phase.latents:
        raise Unavailable("the model has no latents")
    return calibration(draws.model, draws.guide, draws.columns, seed=draws.seed)
