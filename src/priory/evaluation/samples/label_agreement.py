"""Samples of a pair under labels that are given, and whether they are of these labels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.rows import labelled_rows, rows_of, thin
from priory.evaluation.sample_sets import Sets, common
from priory.evaluation.samples.features import Extractor, extractor
from priory.inference.phases.arguments import bind

_PROBE = 200  # generated samples by which a model's dependence on the label is seen


class Agreement(NamedTuple):
    """How often the label that was asked for is the one that is seen.

    Args:
        hits: whether it is, `(n,)`.
        labels: the labels that were asked for, each once, `(classes,)`.
        shares: of hits among the samples of each, `(classes,)`.
    """

    hits: Tensor
    labels: Tensor
    shares: Tensor

    @property
    def text(self) -> str:
        """The shares as text, of at most twelve labels, the worst ones."""
        order = self.shares.argsort(stable=True)[:12].sort().values
        cells = [f"{int(self.labels[i])}: {float(self.shares[i]):.3f}" for i in order]
        which = "by label" if len(order) == len(self.labels) else "the worst labels"
        return f"{which} {', '.join(cells)}"


@metric("samples", "train", "labels", better="higher", anchored=True)
def label_agreement(draws: Draws) -> Estimate:
    """Share of samples under a given label in which a classifier of the data sees that label."""
    judge = _judge(draws)
    known = known_labels(draws)
    wanted = known[torch.arange(draws.n_samples) % len(known)]
    if draws.anchor == "real":
        rows = thin({"x": draws.x, "y": draws.labels}, draws.n_samples)
        x, wanted = rows["x"], rows["y"].cpu()
    elif draws.anchor == "baseline":
        x = draws.generated
        wanted = wanted[: len(x)]
    else:
        x = labelled_samples(draws, wanted)
    check_finite("generated", x)
    found = agreement(known[judge.classes(rows_of(x))], wanted)
    return Estimate.share(
        found.hits,
        kind="unbiased",
        note=f"{found.text}; classes by the classifier of the {judge.text}",
    )


def agreement(seen: Tensor, wanted: Tensor) -> Agreement:
    """Compare the labels that a classifier sees in samples with those that were asked for.

    The accuracy of a classifier of real data on conditional samples, the GAN-test of Shmelkov,
    Schmid and Alahari, 2018, How good is my GAN?; after the class agreement of Odena, Olah and
    Shlens, 2017, Conditional image synthesis with auxiliary classifier GANs.

    Args:
        seen: labels, `(n,)`.
        wanted: labels, `(n,)`.

    Raises:
        ValueError: if they are not as many, or none.

    Example:
        >>> agreement(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])).text
        'by label 0: 0.500, 1: 1.000'
    """
    if seen.shape != wanted.shape or not len(wanted):
        raise ValueError(
            f"agreement needs as many labels seen as asked for, got {tuple(seen.shape)} and "
            f"{tuple(wanted.shape)}"
        )
    hits = (seen == wanted).double()
    labels, place = wanted.unique(return_inverse=True)
    counts = torch.zeros(len(labels), dtype=hits.dtype).index_add(0, place, torch.ones_like(hits))
    return Agreement(hits, labels, hits.new_zeros(len(labels)).index_add(0, place, hits) / counts)


def labelled_samples(draws: Sets, labels: Tensor, site: str = "x") -> Tensor:
    """Draw a generated sample for each label, `(n, *event)`.

    Args:
        draws: of a pair; to be read inside `sealed`.
        labels: the labels y that are given, integers `(n,)`.
        site: what to return: x, or `x_mean` for the means of p(x | z, y).

    Raises:
        Unavailable: if the model has no label y, or x does not depend on it.
    """
    _check(draws)
    generated: Tensor = draws.generate(site, len(labels), {"y": labels})
    return generated


def known_labels(draws: Sets) -> Tensor:
    """Return the labels that occur among the training rows, else among the data, in order."""
    columns = draws.columns if draws.reference is None else draws.reference
    if "y" not in columns or columns["y"].is_floating_point() or columns["y"].dim() != 1:
        raise Unavailable("the data have no labels y that are integers")
    known = labelled_rows(columns)["y"].unique().cpu()
    if not len(known):
        raise Unavailable("no label is known")
    return known


@common
def _judge(draws: Sets) -> Extractor:
    return extractor("classifier", draws)


@common
def _check(draws: Sets) -> None:
    """Raise Unavailable unless samples of x change with the label, all else being equal."""
    known = known_labels(draws)
    if "y" not in bind(draws.model, draws.columns):
        try:
            drawn = draws.generate("y", 2)
        except Unavailable as error:
            raise Unavailable("the model has no label y that could be given") from error
        if drawn.is_floating_point() or drawn.dim() != 1:
            raise Unavailable("the model's y is no label: it is not one integer for each row")
    wanted = known[torch.arange(_PROBE) % len(known)]
    one, other = (draws.generate("x", _PROBE, {"y": y}) for y in (wanted, wanted.roll(1)))
    if torch.equal(one, other):
        raise Unavailable("the model's x does not depend on the label y")
