"""The parts of a pair, from what its constructor was given: objects or names."""

from torch import Tensor

from priory.names import named
from priory.nets import LIKELIHOODS, Likelihood, Net, likelihood_for
from priory.priors import PRIORS, Prior


def prior_of(prior: Prior | str) -> Prior:
    """Return a prior as it is, and a name's prior.

    Raises:
        ValueError: There is no prior of that name.
    """
    return named("prior", prior, PRIORS)() if isinstance(prior, str) else prior


def likelihood_named(likelihood: Likelihood | str) -> Likelihood | str:
    """Return a likelihood as it is, and a name's likelihood; "auto" waits for the data.

    Raises:
        ValueError: There is no likelihood of that name.
    """
    if isinstance(likelihood, str) and likelihood != "auto":
        return named("likelihood", likelihood, LIKELIHOODS)()
    return likelihood


def suited(likelihood: Likelihood | str, x: Tensor) -> Likelihood:
    """Return a likelihood built for data that it was held against.

    Args:
        likelihood: "auto" for the one that fits the data's values.
        x: Training data, (n, *shape).

    Raises:
        ValueError: The data don't suit the likelihood.
    """
    chosen = likelihood_for(x) if isinstance(likelihood, str) else likelihood
    chosen.check(x)
    chosen.build(x)
    return chosen


def build_decoder(net: Net, inputs: int, likelihood: Likelihood, x: Tensor) -> None:
    """Make a net from vectors to a likelihood's features, which starts at the data's own.

    Args:
        net: The decoder or generator.
        inputs: Number of coordinates that it reads.
        likelihood: Built for the data.
        x: Training data, (n, *shape).
    """
    net.build((inputs,), (likelihood.params, *x.shape[1:]))
    bias = likelihood.bias(x)
    if bias is not None:
        net.set_bias(bias)
