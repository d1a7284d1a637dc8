"""The exemplar prior: normals of one width around the codes of training rows."""

import torch
from pyro.distributions import MultivariateNormal, TorchDistribution
from torch import Tensor, nn

from priory.distributions.independent import IndependentNormal
from priory.priors.aggregated import AggregatedPosterior
from priory.priors.base import Encode
from priory.priors.mixture import NormalMixture


class ExemplarPrior(AggregatedPosterior):
    r"""A mixture of normals around the posterior means of training rows, with one learned scale.

    .. math:: p(z) = \frac1M \sum_m N(z; \mu(x_m), s^2 I), \quad \mu(x) = E_{q(z \mid x)} z

    Norouzi, Fleet and Norouzi, 2020, Exemplar VAE: linking generative models, nearest neighbor
    retrieval, and data augmentation. The rows x_m, the exemplars, stay as they are and are stored
    with the weights; of a VampPrior they would be learned, each with its own scales.

    A row that is an exemplar has a component around its own code, since p(z) does not know which
    row it explains: its KL is at most log M above that to this component. The bound holds, of a
    model that has seen the row; the paper leaves a row's own component out in training. Rows that
    are not in training have no such help: judge and choose by validation rows.

    Args:
        components: M, the number of exemplars; more than there are rows repeat them.
        seed: Of the choice of rows.

    Raises:
        ValueError: There is no component, or the pair has no encoder that is an `Encoder` itself;
            when a latent is asked for, if its posteriors have no means in closed form.

    Example:
        >>> prior = ExemplarPrior(components=5)
        >>> encode = lambda x: IndependentNormal(x, torch.zeros_like(x), 1)
        >>> prior.build(2, torch.rand(9, 2), encode)
        >>> prior().event_shape
        torch.Size([2])
    """

    name = "exemplar"
    exemplars: Tensor

    def __init__(self, components: int = 500, seed: int = 0) -> None:
        super().__init__(components, seed)

    def make(self, latent: int, x: Tensor, encode: Encode | None) -> None:  # noqa: ARG002
        """Take the exemplars, (components, *shape), and make the scale."""
        draw = torch.Generator().manual_seed(self.seed)
        self.register_buffer("exemplars", self.chosen(x, draw).clone())
        self.log_scale = nn.Parameter(torch.zeros((), dtype=x.dtype, device=x.device))

    def distribution(self) -> TorchDistribution:
        """Return the mixture around the exemplars' codes."""
        posterior = self.posteriors(self.exemplars)
        if not isinstance(posterior, IndependentNormal | MultivariateNormal):
            raise ValueError(
                "the exemplar prior stands around the means of normal posteriors, and this pair's "
                f"are {type(posterior).__name__}: take posterior='normal' or 'full', or VampPrior"
            )
        logits = torch.zeros_like(posterior.loc[:, 0])
        return NormalMixture(logits, posterior.loc, self.log_scale.expand_as(posterior.loc))
