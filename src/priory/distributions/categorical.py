"""Categorical codes as one-hot vectors, and what lets a gradient through them."""

import torch
from pyro.distributions import OneHotCategorical
from torch import Size, Tensor
from torch.distributions import constraints


class OneHot(OneHotCategorical):
    r"""A categorical code as a one-hot vector, drawn by the Gumbel-max trick.

    .. math:: c = \mathrm{onehot}(\arg\max_k (\ell_k - \log(-\log u_k))), \quad
        \log q(c) = \sum_k c_k \log \mathrm{softmax}(\ell)_k

    Nothing in it waits for a device, so that a training step can be captured as a graph. The log
    density is linear in c: what it is at one-hot vectors, and its slope there.

    Args:
        probs: Probabilities, (*batch, values).
        logits: Their logarithms up to a constant, in place of them.
        validate_args: Whether to check parameters and values.

    Example:
        >>> OneHot(logits=torch.zeros(4)).log_prob(torch.eye(4)[0])
        tensor(-1.3863)
    """

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw one-hot vectors, (*sample_shape, *batch, values)."""
        with torch.no_grad():
            return _highest(perturbed(self.logits, self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability, in nats, (*batch)."""
        return (value * self.logits).sum(-1)  # the library has them normalised


class StraightThroughCode(OneHot):
    """A one-hot code whose gradient is that of its probabilities.

    Bengio, Leonard and Courville, 2013, Estimating or propagating gradients through stochastic
    neurons for conditional computation.
    """

    has_rsample = True

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw one-hot vectors with gradients, (*sample_shape, *batch, values)."""
        return self.sample(sample_shape) + (self.probs - self.probs.detach())


class SoftCode(OneHot):
    """A code that is given by its probabilities themselves, as a point in the simplex.

    Makhzani et al., 2016, Adversarial autoencoders: a critic that knows one-hot vectors makes the
    probabilities sharp. The log-probability is that of one-hot vectors.
    """

    has_rsample = True
    support = constraints.simplex

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Return the probabilities, (*sample_shape, *batch, values)."""
        return self.probs.expand(self._extended_shape(sample_shape))


def perturbed(logits: Tensor, shape: Size) -> Tensor:
    """Return logits with standard Gumbel noise, of which the highest is a draw of the category.

    Args:
        logits: (*batch, values).
        shape: Of the draws, (*sample_shape, *batch, values).
    """
    noise = torch.empty(shape, dtype=logits.dtype, device=logits.device)
    return logits - noise.exponential_().log()


def _highest(scores: Tensor) -> Tensor:
    numbers = torch.arange(scores.shape[-1], device=scores.device)
    return (scores.argmax(-1, keepdim=True) == numbers).to(scores.dtype)


CODES: dict[str, type[OneHot]] = {"softmax": SoftCode, "straight-through": StraightThroughCode}
"""What a guide draws of a code, by name."""
