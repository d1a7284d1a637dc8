"""The classifier: a net from a datum to the log-odds of classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.distributions import constraints

from priory.nets.encoder import Encoder, Width
from priory.part import Shape


class Classifier(Encoder):
    r"""From a datum to the log-odds of its class or cluster.

    .. math:: q(c \mid x) = \mathrm{Cat}(\mathrm{softmax}\, g(x))

    Args:
        net: g, from a datum to the log-odds; a net, any module, or a name.
        classes: Number of classes, or what knows it once it is built.

    Example:
        >>> import torch
        >>> from priory.likelihoods import Normal
        >>> classifier, likelihood = Classifier("mlp", 4), Normal()
        >>> x = torch.randn(10, 3)
        >>> likelihood.build(x)
        >>> classifier.build(x, 2, likelihood)
        >>> classifier(x).shape
        torch.Size([10, 4])
    """

    def __init__(self, net: nn.Module | str, classes: Width | int) -> None:
        super().__init__(net, constraints.real)
        self._classes = (classes,)

    @property
    def width(self) -> int:
        """Number of classes."""
        classes = self._classes[0]
        return classes if isinstance(classes, int) else classes.width

    def outputs(self, latent: int) -> Shape:  # noqa: ARG002
        """Return the number of features: the log-odds."""
        return (self.width,)

    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        """Return unnormalised log q(c | x), (*batch, classes), for data (*batch, *shape).

        Raises:
            RuntimeError: There are no parameters yet.
        """
        return self.net(self.read(x))
