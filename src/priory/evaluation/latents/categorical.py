"""What a categorical code says: of its sample, and of the label."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.isolation import seeded
from priory.evaluation.latents.clustering import choices
from priory.evaluation.latents.probes import check_labels
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric
from priory.inference.phases.phases import Phases

_INFORMATION, _ACCURACY = 41, 42  # random streams
_ROWS = 500  # rows at a time


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


@metric("latents", "phase", better="higher")
def code_information(draws: Draws) -> Estimate:
    """Bound on what a sample tells of its own categorical code, from below."""
    site, values = _site(draws), 0
    parts = []
    for rows in seeded(draws, _INFORMATION, _ROWS):
        asleep = Phases(draws.model, draws.guide, columns=rows).asleep
        distribution = asleep.distribution(site, of="model")
        entropy = distribution.entropy().expand(len(asleep.log_q(site)[0]))
        values = _values(distribution)
        parts.append(information_values(entropy, asleep.log_q(site)[0]).cpu())
    note = f"H({site}) + log q({site} | x) of samples; {values} values tell at most "
    return Estimate.mean(
        torch.cat(parts),
        kind="lower bound",
        unit="nats",
        note=f"{note}{math.log(values):.4f}",
    )


@metric("latents", "labels", "phase", better="higher")
def code_accuracy(draws: Draws) -> Estimate:
    """Accuracy of a categorical code as a classifier, its values taken for the labels."""
    site, labels = _site(draws), draws.labels
    check_labels(labels)
    known = [labels, *([draws.train["y"]] if "y" in (draws.reference or {}) else [])]
    hits = []
    for rows in seeded(draws, _ACCURACY, _ROWS):
        distribution = Phases(draws.model, draws.guide, columns=rows).awake.distribution(site)
        found = choices(distribution)
        if found is None or found.dim() != 2:
            raise Unavailable(f"q({site} | x) is not one distribution for each row")
        classes = 1 + max(int(y.max()) for y in known)
        if found.shape[1] != classes:
            raise Unavailable(f"{site} has {found.shape[1]} values, and there are {classes} labels")
        hits.append(code_hits(found, rows["y"]).cpu())
    note = f"the value k of {site} taken for the label k, which means something if labels taught it"
    return Estimate.share(torch.cat(hits), kind="unbiased", note=note)


def _site(draws: Draws) -> str:
    """Return the name of the first categorical latent."""
    phase = draws.phase
    found = [s for s in phase.latents if choices(phase.distribution(s)) is not None]
    if not found:
        raise Unavailable("the guide draws no categorical latent")
    return found[0]


def _values(distribution: object) -> int:
    found: Tensor | None = choices(distribution)
    if found is None:
        raise Unavailable("the model's distribution of the code is not categorical")
    return found.shape[-1]
