"""Families p(x | .) of a datum, all exchangeable, one file each."""

from torch import Tensor

from priory.likelihoods.base import Likelihood as Likelihood
from priory.likelihoods.bernoulli import Bernoulli as Bernoulli
from priory.likelihoods.beta import Beta as Beta
from priory.likelihoods.categorical import Categorical as Categorical
from priory.likelihoods.columns import Columns as Columns
from priory.likelihoods.continuous_bernoulli import ContinuousBernoulli as ContinuousBernoulli
from priory.likelihoods.delta import Delta as Delta
from priory.likelihoods.discretized_normal import DiscretizedNormal as DiscretizedNormal
from priory.likelihoods.gamma import Gamma as Gamma
from priory.likelihoods.logistic import DiscretizedLogistic as DiscretizedLogistic
from priory.likelihoods.negative_binomial import NegativeBinomial as NegativeBinomial
from priory.likelihoods.normal import Normal as Normal
from priory.likelihoods.poisson import Poisson as Poisson
from priory.likelihoods.student_t import StudentT as StudentT
from priory.likelihoods.values import is_binary
from priory.likelihoods.zero_inflated import (
    ZeroInflatedNegativeBinomial as ZeroInflatedNegativeBinomial,
)
from priory.likelihoods.zero_inflated import ZeroInflatedPoisson as ZeroInflatedPoisson
from priory.registry import registry

LIKELIHOODS: dict[str, type[Likelihood]] = registry(Likelihood, globals())


def likelihood_for(x: Tensor) -> Likelihood:
    """Return the likelihood that fits the data: by their values alone, (n, *shape).

    Likelihoods of counts, heavy tails and positive numbers are taken by their names alone, one for
    each column of a table by `Columns`.

    Example:
        >>> likelihood_for(torch.tensor([[0.0, 1.0]]))
        Bernoulli()
    """
    if is_binary(x):
        return Bernoulli()
    if ((x >= 0) & (x <= 1)).all():
        return ContinuousBernoulli()
    return Normal()


__all__ = ["LIKELIHOODS", "Likelihood", "likelihood_for"]
__all__ += [part.__name__ for part in LIKELIHOODS.values()]
