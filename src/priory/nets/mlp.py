"""Fully connected nets."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from priory.lookup import named
from priory.nets.base import ACTIVATIONS, Net, start_layer
from priory.nets.layers import OUTPUTS, check_dropout, hidden_layer, normed, ranged, set_last
from priory.part import Shape


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
        spectral: Whether to divide every weight by its largest singular value: a 1-Lipschitz critic
            (Miyato et al., 2018).
        batch_norm: Whether to normalise each hidden layer over the batch, before its activation.
        dropout: Probability that a hidden output is left out in training.
        output: Range of the outputs: "linear", "sigmoid" for [0, 1], "tanh" for [-1, 1].

    Raises:
        ValueError: A width isn't positive, an option is out of range, or there is no such
            activation or output.

    Example:
        >>> net = MLP(hidden=(32,), activation="tanh")
        >>> net.build((1, 8, 8), (2, 5))
        >>> net(torch.zeros(3, 7, 1, 8, 8)).shape
        torch.Size([3, 7, 2, 5])
    """

    name = "mlp"

    flat = True

    def __init__(
        self,
        hidden: Sequence[int] = (200, 200),
        activation: str = "relu",
        gated: bool = False,
        spectral: bool = False,
        batch_norm: bool = False,
        dropout: float = 0.0,
        output: str = "linear",
    ) -> None:
        super().__init__()
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden widths must be positive, got {tuple(hidden)}")
        named("activation", activation, ACTIVATIONS)
        named("output", output, OUTPUTS)
        self.hidden = tuple(hidden)
        self.activation = activation
        self.gated = gated
        self.spectral = spectral
        self.batch_norm = batch_norm
        self.dropout = check_dropout(dropout)
        self.output = output

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the layers."""
        layers: list[nn.Module] = []
        width = prod(inputs)
        for size in self.hidden:
            layer = nn.Linear(width, 2 * size if self.gated else size)
            start_layer(layer, "linear" if self.gated else self.activation)
            layers += hidden_layer(
                layer,
                "gate" if self.gated else self.activation,
                batch_norm=self.batch_norm,
                dropout=self.dropout,
                spectral=self.spectral,
            )
            width = size
        last = nn.Linear(width, prod(outputs))
        start_layer(last, "linear")
        self.last = normed(last, self.spectral)
        self.layers = nn.Sequential(*layers)

    @torch.no_grad()
    def temper(self, factor: float) -> None:
        """Scale the last layer's weights, unless they are divided by their largest singular value.

        Args:
            factor: On the weights as they were drawn.
        """
        if isinstance(self.last, nn.Linear):
            self.last.weight.mul_(factor)

    def set_bias(self, value: Tensor) -> None:
        """Set the last layer's bias so that it says `value`, (*outputs)."""
        set_last(self.last, self.output, value)

    def features(self, x: Tensor) -> Tensor:
        """Map (n, *inputs) to what the last layer reads, (n, features)."""
        out: Tensor = self.layers(x.flatten(1))
        return out

    def beside(self, x: Tensor, given: Tensor) -> Tensor:
        """Map vectors with other vectors beside them to (*batch, *outputs).

        The first layer's W [x, y] is taken as U x + V y, so that all y of one x share its product.

        Args:
            x: Vectors, (*batch, d); of fewer leading dims where many vectors stand beside each.
            given: What stands beside them, (*batch, inputs - d).

        Raises:
            RuntimeError: The net is not built.
            ValueError: It was built for another width.
        """
        self.check_built()
        (inputs, outputs), width = self.built_for, x.shape[-1]
        first = next(iter(self.layers), None)
        # A subclass may run its layers in a way of its own.
        plain = type(self) is MLP and type(first) is nn.Linear
        if not plain or inputs != (width + given.shape[-1],):
            return super().beside(x, given)
        assert isinstance(first, nn.Linear)  # noqa: S101
        own, other = first.weight[:, :width], first.weight[:, width:]
        hidden = linear(x, own) + linear(given, other, first.bias)
        lead = hidden.shape[:-1]
        last = self.last(self.layers[1:](hidden.reshape(-1, hidden.shape[-1])))
        return ranged(self.output, last).reshape((*lead, *outputs))

    def apply_flat(self, x: Tensor) -> Tensor:
        """Map (n, *inputs) to (n, numel of outputs)."""
        return ranged(self.output, self.last(self.features(x)))
