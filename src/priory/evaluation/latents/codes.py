"""Categorical codes against labels, and what they say of the data."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def information_values(entropy: Tensor, log_q: Tensor) -> Tensor:
    r"""Return one value per sample, whose mean bounds a code's information from below, in nats.

    .. math:: H(c) + E_p[\log q(c \mid x)] = I(c; x) - E_x[KL(p(c \mid x), q(c \mid x))] \le H(c)

    Barber and Agakov, 2003, The IM algorithm; Chen et al., 2016, InfoGAN. It is H(c) where x
    determines c and the guide knows how.

    Args:
        entropy: of p(c), (n,) or ().
        log_q: log q(c | x) of the generated samples' own codes, (n,).
    """
    return (entropy + log_q).double()


def code_hits(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return for each row whether its code's likeliest value is its label: 1 if so, else 0, (n,).

    Args:
        probabilities: q(c | x), (n, values).
        labels: integers, (n,).
    """
    return (probabilities.argmax(1) == labels.to(probabilities.device)).double()


def transferred_hits(
    named: tuple[Tensor, Tensor],
    judged: tuple[Tensor, Tensor],
    rule: Literal["confident", "majority"] = "confident",
) -> Tensor:
    """Return for each row whether its label is that of its cluster, which other rows have named.

    A row's cluster is the likeliest value of its code. "confident": a cluster is named by the row
    that maximises its probability, among all rows, as Makhzani et al., 2016, Adversarial
    autoencoders, do it by validation rows. "majority": by the commonest label of its rows; one
    without rows is a miss.

    Args:
        named: probabilities (n, values) and labels (n,) of the rows that name the clusters.
        judged: likewise of those that are judged, (m, values) and (m,).
        rule: how a cluster is named.

    Returns:
        1 for a hit, else 0, (m,).

    Raises:
        ValueError: if there is no such rule.
    """
    (given, labels), (found, truth) = named, judged
    values = given.shape[1]
    if rule == "confident":
        names = labels[given.argmax(0)]
    elif rule == "majority":
        table = given.new_zeros(values, int(labels.max()) + 1)
        ones = given.new_ones(len(labels))
        table.index_put_((given.argmax(1), labels), ones, accumulate=True)
        names = torch.where(table.sum(1) > 0, table.argmax(1), -1)
    else:
        raise ValueError(f"rule must be 'confident' or 'majority', got {rule!r}")
    return (names[found.argmax(1)] == truth).double()
