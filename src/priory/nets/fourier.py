"""Fully connected nets that see fine structure: random Fourier features first."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from priory.nets.base import Net
from priory.nets.mlp import MLP
from priory.part import Shape


class Fourier(Net):
    r"""A multilayer perceptron over the input and random Fourier features of it.

    .. math:: h_0 = (x, \sin Bx, \cos Bx), \qquad B_{ij} \sim N(0, s_i^2)

    Tancik et al., 2020, Fourier features let networks learn high frequency functions in low
    dimensional domains. The scales s_i are spread evenly, by their logarithms, from `low` to
    `high`, so that near and far are both seen. B is not trained. For critics in few dimensions:
    what is narrower than about 1 / high is not resolved soon.

    Args:
        frequencies: Number of rows of B.
        low: Smallest scale, in radians per unit of the input.
        high: Largest scale.
        hidden: Width of each hidden layer.
        activation: Name of the activation after each hidden layer.
        spectral: Whether to divide every weight by its largest singular value; the features are
            `high` times as steep as the input, or more.

    Raises:
        ValueError: A number is out of range, or there is no such activation.

    Example:
        >>> net = Fourier(frequencies=8, hidden=(16,))
        >>> net.build((2,), ())
        >>> net(torch.zeros(5, 7, 2)).shape
        torch.Size([5, 7])
    """

    name = "fourier"

    waves: Tensor

    def __init__(
        self,
        frequencies: int = 64,
        low: float = 0.3,
        high: float = 6.0,
        hidden: Sequence[int] = (128, 128),
        activation: str = "leaky-relu",
        spectral: bool = False,
    ) -> None:
        super().__init__()
        if frequencies < 1:
            raise ValueError(f"frequencies must be positive, got {frequencies}")
        if not 0 < low <= high:
            raise ValueError(f"low and high must be 0 < low <= high, got {low} and {high}")
        self.frequencies = frequencies
        self.low = low
        self.high = high
        self.hidden = tuple(hidden)
        self.activation = activation
        self.spectral = spectral
        self.head = MLP(self.hidden, activation, spectral=spectral)

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Draw the frequencies, and make the layers."""
        width = prod(inputs)
        steps = torch.linspace(0, 1, self.frequencies)
        scales = self.low * (self.high / self.low) ** steps
        self.register_buffer("waves", torch.randn(width, self.frequencies) * scales)
        self.head.build((width + 2 * self.frequencies,), outputs)

    def temper(self, factor: float) -> None:
        """Scale the last layer's weights."""
        self.head.temper(factor)

    def set_bias(self, value: Tensor) -> None:
        """Set the last layer's bias so that it says `value`, (*outputs)."""
        self.head.set_bias(value)

    def features(self, x: Tensor) -> Tensor:
        """Map (n, *inputs) to what the last layer reads, (n, features)."""
        return self.head.features(self._embed(x))

    def apply_flat(self, x: Tensor) -> Tensor:
        """Map (n, *inputs) to (n, *outputs)."""
        return self.head.apply_flat(self._embed(x))

    def _embed(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        phase = flat @ self.waves
        return torch.cat([flat, phase.sin(), phase.cos()], 1)
