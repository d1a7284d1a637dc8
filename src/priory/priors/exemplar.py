"""The exemplar prior: normals of one width around the codes of training rows."""

import torch
from pyro.distributions import MultivariateNormal, TorchDistribution
from torch import Tensor, nn

from priory.distributions.independent import IndependentNormal
from priory.priors.aggregated import AggregatedPosterior
from priory.priors.base import Encode
from priory.priors.mixture import NormalMixture
from priory.priors.training_rows import scored_rows


class ExemplarPrior(AggregatedPosterior):
    r"""A mixture of normals around the posterior means of training rows, with one learned scale.

    .. math:: p(z) = \frac1M \sum_m N(z; \mu(x_m), s^2 I), \quad \mu(x) = E_{q(z \mid x)} z

    Norouzi, Fleet and Norouzi, 2020, Exemplar VAE: linking generative models, nearest neighbor
    retrieval, and data augmentation. The rows x_m, the exemplars, stay as they are and are stored
    with the weights; of a VampPrior they would be learned, each with its own scales.

    In training a row that is an exemplar is scored by the others alone, as the paper does, or the
    mixture would learn narrow components, one around each row's own code:

    .. math:: p(z_n) = \frac{1}{|\{m : x_m \ne x_n\}|} \sum_{m : x_m \ne x_n}
        N(z_n; \mu(x_m), s^2 I)

    It goes by the rows' numbers, which `fit` knows; a row of the same values under another number
    stays. Everywhere else, in evaluation, in samples, and in a training by other means than `fit`,
    where numbers are not known to be those of these rows, the mixture is whole: a training row that
    is judged finds its own component, which rows that are not in training don't have. Judge and
    choose by these.

    Args:
        components: M, the number of exemplars; more than there are rows repeat them.
        seed: Of the choice of rows.
        leave_out: Whether a row in training is scored without its own component.

    Raises:
        ValueError: There is no component, or the pair has no encoder that is an `Encoder` itself;
            when a latent is asked for, if its posteriors have no means in closed form; in `fit`, if
            a row's own component is to be left out and cannot be known, or there is no other.

    Example:
        >>> prior = ExemplarPrior(components=5)
        >>> encode = lambda x: IndependentNormal(x, torch.zeros_like(x), 1)
        >>> prior.build(2, torch.rand(9, 2), encode)
        >>> prior().event_shape
        torch.Size([2])
    """

    name = "exemplar"
    exemplars: Tensor
    numbers: Tensor

    def __init__(self, components: int = 500, seed: int = 0, leave_out: bool = True) -> None:
        super().__init__(components, seed)
        self.leave_out = leave_out

    def make(self, latent: int, x: Tensor, encode: Encode | None) -> None:  # noqa: ARG002
        """Take the exemplars, (components, *shape), and make the scale."""
        draw = torch.Generator().manual_seed(self.seed)
        self.register_buffer("exemplars", self.chosen(x, draw).clone())
        self.register_buffer("numbers", torch.zeros(0, dtype=torch.long), persistent=False)
        self.log_scale = nn.Parameter(torch.zeros((), dtype=x.dtype, device=x.device))

    def distribution(self) -> TorchDistribution:
        """Return the mixture around the exemplars' codes."""
        posterior = self.posteriors(self.exemplars)
        if not isinstance(posterior, IndependentNormal | MultivariateNormal):
            raise ValueError(
                "the exemplar prior stands around the means of normal posteriors, and this pair's "
                f"are {type(posterior).__name__}: take posterior='normal' or 'full', or VampPrior"
            )
        logits, rows = torch.zeros_like(posterior.loc[:, 0]), scored_rows()
        if self.leave_out and rows is not None and len(self.numbers):
            own = rows.unsqueeze(-1) == self.numbers  # (batch, components)
            logits = logits.masked_fill(own, -torch.inf)
        return NormalMixture(logits, posterior.loc, self.log_scale.expand_as(posterior.loc))

    def set_rows(self, rows: int, x: Tensor, numbers: Tensor | None) -> None:  # noqa: ARG002
        """Find the exemplars' numbers among the training rows.

        Args:
            rows: Number of training rows.
            x: Those that the pair is built from, (n, *shape).
            numbers: Their numbers, (n,); None where they have none.

        Raises:
            ValueError: A row's own component cannot be known, or there is no other.
        """
        self.numbers = self.numbers[:0]
        if not self.leave_out:
            return
        if numbers is None:
            raise ValueError(
                "the exemplar prior leaves a row's own component out in training, by the row's "
                "number, and batches that are not held have none: give rows that are held (arrays, "
                "a file), or take leave_out=False"
            )
        places = self.places(len(x), torch.Generator().manual_seed(self.seed)).to(x.device)
        same = x[places].to(self.exemplars)
        same = self.data_units[0].scaled(same) if self.data_units else same
        if same.shape != self.exemplars.shape or not torch.allclose(same, self.exemplars):
            raise ValueError(
                "the exemplar prior leaves a row's own component out in training, and its "
                "exemplars are not of these training rows: train on the rows that it is built "
                "from, build a new one, or set leave_out=False"
            )
        found = numbers.to(places.device)[places]
        if bool((found == found[0]).all()):
            raise ValueError(
                "the exemplar prior leaves a row's own component out in training, and all its "
                f"{self.components} are of one row: give 2 components or more, of 2 rows or more, "
                "or take leave_out=False"
            )
        self.numbers = found.to(self.exemplars.device)
