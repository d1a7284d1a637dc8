"""The parts of a pair, from what its constructor was given: objects or names."""

from torch import Tensor

from priory.names import named
from priory.nets import LIKELIHOODS, Delta, Likelihood, Net, likelihood_for
from priory.nets.base import Shape
from priory.nets.values import is_bounded, is_table
from priory.priors import PRIORS, Prior

_FLAT = 64  # columns from which bounded data are taken for images laid flat
_SMALL = 0.1  # of the weights that a table's last layers are drawn with


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


def build_encoder(net: Net, inputs: Shape, outputs: Shape, x: Tensor) -> None:
    """Make a net that reads data, of a table with small weights in its last layer.

    Args:
        net: The encoder.
        inputs: Shape of what it reads.
        outputs: Shape of the posterior's features.
        x: Training data, (n, *shape).
    """
    net.build(inputs, outputs)
    if _starts_small(x):
        net.temper(_SMALL)


def build_decoder(net: Net, inputs: int, likelihood: Likelihood, x: Tensor) -> None:
    """Make a net from vectors to a likelihood's features, which starts at the data's own.

    Of a table, the latent says little at first, so that a pair's first bound is near that of
    independent columns whatever they hold; an implicit model starts as it was drawn.

    Args:
        net: The decoder or generator.
        inputs: Number of coordinates that it reads.
        likelihood: Built for the data.
        x: Training data, (n, *shape).
    """
    net.build((inputs,), (likelihood.params, *x.shape[1:]))
    if _starts_small(x) and not isinstance(likelihood, Delta):
        net.temper(_SMALL)
    likelihood.span(x, getattr(net, "output", "linear"))
    bias = likelihood.bias(x)
    if bias is not None:
        net.set_bias(bias)


def _starts_small(x: Tensor) -> bool:
    """Say whether data are a table; many bounded columns are images laid flat, which are none."""
    return is_table(x) and not (is_bounded(x) and x[0].numel() >= _FLAT)
