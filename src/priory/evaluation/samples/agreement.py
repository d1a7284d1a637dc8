"""Whether samples under a label are of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


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
