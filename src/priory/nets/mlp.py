"""Fully connected nets."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from priory.names import named
from priory.nets.base import ACTIVATIONS, Net, Shape, start_layer


class MLP(Net):
    r"""A multilayer perceptron over the flattened input.

    .. math:: h_{i+1} = f(W_i h_i + b_i), \qquad \text{gated: }
              h_{i+1} = (W_i h_i + b_i) \odot \sigma(V_i h_i + c_i)

    The gated form is Tomczak and Welling's, 2018, VAE with a VampPrior; its gate takes the place of
    the activation.

    Args:
        hidden: Width of each hidden layer; none makes the net linear.
        activation: Name of the activation after each hidden layer.
        gated: Whether to gate each hidden layer in place of the activation.

    Raises:
        ValueError: A width isn't positive, or there is no such activation.

    Example:
        >>> net = MLP(hidden=(32,), activation="tanh")
        >>> net.build((1, 8, 8), (2, 5))
        >>> net(torch.zeros(3, 7, 1, 8, 8)).shape
        torch.Size([3, 7, 2, 5])
    """

    def __init__(
        self,
        hidden: Sequence[int] = (200, 200),
        activation: str = "relu",
        gated: bool = False,
    ) -> None:
        super().__init__()
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden widths must be positive, got {tuple(hidden)}")
        named("activation", activation, ACTIVATIONS)
        self.hidden = tuple(hidden)
        self.activation = activation
        self.gated = gated

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the layers."""
        layers: list[nn.Module] = []
        width = prod(inputs)
        for size in self.hidden:
            linear = nn.Linear(width, 2 * size if self.gated else size)
            start_layer(linear, "linear" if self.gated else self.activation)
            gate = nn.GLU() if self.gated else ACTIVATIONS[self.activation]()
            layers += [linear, gate]
            width = size
        self.last = nn.Linear(width, prod(outputs))
        start_layer(self.last, "linear")
        self.layers = nn.Sequential(*layers)

    def set_bias(self, value: Tensor) -> None:
        """Set the last layer's bias to `value`, (*outputs)."""
        with torch.no_grad():
            self.last.bias.copy_(value.reshape(-1))

    def apply_flat(self, x: Tensor) -> Tensor:
        """Map (n, *inputs) to (n, numel of outputs)."""
        out: Tensor = self.last(self.layers(x.flatten(1)))
        return out
