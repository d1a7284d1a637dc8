"""The bound of data of which some rows have their label."""

from __future__ import annotations

import torch
from torch import Tensor

from priory.inference.objectives.base import Objective
from priory.inference.objectives.gradients import Enumerate, bound
from priory.inference.objectives.terms import log_odds, seen_labels
from priory.inference.phases.pathwise import refuse_guide
from priory.inference.phases.phases import Phases
from priory.lookup import positive
from priory.nets.one_hot import one_hot


class LabelledELBO(Objective):
    r"""Negative evidence lower bound of data of which some rows have their label.

    A row whose label may be seen (it isn't -1, and the column `labelled` is true, where there is
    one) enters with the guide's categorical latent y held at it, any other with y summed exactly:

    .. math::

        L(x, y) = E_{q(z \mid x, y)} \log \frac{p(x, y, z)}{q(z \mid x, y)} \le \log p(x, y), \qquad
        U(x) = \sum_y q(y \mid x) (L(x, y) - \log q(y \mid x)) \le \log p(x),

    in nats per datum, averaged over the batch. Labelled rows teach q(y | x) nothing here: that is
    what `Classification` of the same site is added for. Where few rows are labelled, `fit` brings
    these more often than the others, and so they weigh more in the mean. Kingma, Rezende, Mohamed
    and Welling, 2014, Semi-supervised learning with deep generative models.

    Args:
        site: y, a latent that the guide draws from a categorical distribution, as an integer or
            one-hot.
        labels: The column of labels, integers from 0.
        particles: Draws of the other latents per datum and value of y.

    Raises:
        ValueError: `particles` is not positive; at the first loss, if there is no such column, or
            the site is not one whose values are summed.

    Example:
        >>> from priory.models import M2
        >>> x, y = torch.rand(9, 4).round(), torch.tensor([0, 1, 2, -1, -1, -1, -1, -1, -1])
        >>> pair = M2(latent=2)
        >>> pair.build(x, y)
        >>> LabelledELBO()(pair.model, pair.guide, x=x, y=y).shape
        torch.Size([])
    """

    name = "labelled-elbo"

    def __init__(self, site: str = "y", labels: str = "y", particles: int = 1) -> None:
        self.site = site
        self.labels = labels
        self.particles = positive("particles", particles)

    def loss(self, phases: Phases) -> Tensor:
        """Return minus the bound."""
        name = type(self).__name__
        labels, seen = seen_labels(phases, self.labels, name)
        sites = Enumerate().enumerated(phases.awake)
        logits = log_odds(phases.awake, self.site, name)
        if self.site not in sites:
            raise ValueError(
                f"{name} sums over the values of {self.site!r}, and the guide draws a point "
                "between them, or a value with a gradient of its own: draw it from a Categorical "
                "or a OneHotCategorical"
            )
        rows = one_hot(labels, logits.shape[-1], logits)
        awake = phases.enumerating(sites)
        refuse_guide(awake.guide_sites)
        awake.refuse_soft()
        value, log_weight = awake.sample[self.site], awake.log_weight()
        log_q, log_measure = awake.log_q(self.site), awake.log_measure(phases.particles)
        assert log_measure is not None  # noqa: S101
        codes = value if value.is_floating_point() else one_hot(value, rows.shape[-1], rows)
        held = (codes * rows).sum(-1) * (log_measure - log_q).exp()
        labelled = (held * (log_weight + log_q)).sum(0)
        return -awake.average(torch.where(seen, labelled, bound(log_weight, 1, log_measure)))
