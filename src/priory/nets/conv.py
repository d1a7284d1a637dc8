"""Convolutional nets that halve or double an image at every stage."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from priory.lookup import named
from priory.nets.base import ACTIVATIONS, Net, start_layer
from priory.nets.layers import OUTPUTS, check_dropout, hidden_layer, normed, ranged, set_last
from priory.part import Shape


def sides(side: int, stages: int) -> list[int]:
    """Return a side's length before, between and after `stages` halvings, each rounded up."""
    lengths = [side]
    for _ in range(stages):
        lengths.append((lengths[-1] + 1) // 2)
    return lengths


class _Convolutional(Net):
    """What the two directions share: their configuration."""

    spectral = False
    dropout = 0.0

    def __init__(
        self,
        channels: Sequence[int],
        hidden: int,
        activation: str,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        if not channels or any(width < 1 for width in channels):
            raise ValueError(f"channels must be positive and at least one, got {tuple(channels)}")
        if hidden < 1:
            raise ValueError(f"hidden must be positive, got {hidden}")
        named("activation", activation, ACTIVATIONS)
        self.channels = tuple(channels)
        self.hidden = hidden
        self.activation = activation
        self.batch_norm = batch_norm

    def _start(self, layer: nn.Module) -> list[nn.Module]:
        start_layer(layer, self.activation)
        return hidden_layer(
            layer,
            self.activation,
            batch_norm=self.batch_norm,
            dropout=self.dropout,
            spectral=self.spectral,
        )


class Conv(_Convolutional):
    """Strided convolutions, then one hidden and one linear layer: an image to any outputs.

    Args:
        channels: Channels after each halving of the image.
        hidden: Width of the fully connected layer.
        activation: Name of the activation after each layer but the last.
        spectral: Whether to divide every weight by its largest singular value (Miyato et al.,
            2018).
        batch_norm: Whether to normalise each hidden layer over the batch, before its activation.
        dropout: Probability that a hidden output is left out in training.

    Raises:
        ValueError: A width isn't positive, an option is out of range, or the inputs are no images.

    Example:
        >>> net = Conv(channels=(8, 16))
        >>> net.build((1, 28, 28), (2, 5))
        >>> net(torch.zeros(3, 7, 1, 28, 28)).shape
        torch.Size([3, 7, 2, 5])
    """

    name = "conv"

    def __init__(
        self,
        channels: Sequence[int] = (32, 64),
        hidden: int = 256,
        activation: str = "relu",
        spectral: bool = False,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(channels, hidden, activation, batch_norm)
        self.spectral = spectral
        self.dropout = check_dropout(dropout)

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the layers."""
        if len(inputs) != 3:
            raise ValueError(
                f"Conv expected images (channels, height, width), got {inputs}: use MLP"
            )
        width, height, breadth = inputs
        layers: list[nn.Module] = []
        for size in self.channels:
            layers += self._start(nn.Conv2d(width, size, 3, stride=2, padding=1))
            width = size
        stages = len(self.channels)
        area = sides(height, stages)[-1] * sides(breadth, stages)[-1]
        layers += [nn.Flatten(), *self._start(nn.Linear(width * area, self.hidden))]
        last = nn.Linear(self.hidden, prod(outputs))
        start_layer(last, "linear")
        self.last = normed(last, self.spectral)
        self.layers = nn.Sequential(*layers)

    def set_bias(self, value: Tensor) -> None:
        """Set the last layer's bias to `value`, (*outputs)."""
        set_last(self.last, "linear", value)

    def features(self, x: Tensor) -> Tensor:
        """Map (n, channels, height, width) to what the last layer reads, (n, features)."""
        out: Tensor = self.layers(x)
        return out

    def apply_flat(self, x: Tensor) -> Tensor:
        """Map (n, channels, height, width) to (n, numel of outputs)."""
        out: Tensor = self.last(self.features(x))
        return out


class Deconv(_Convolutional):
    """The mirror image of `Conv`: any inputs to an image, or to several maps of one.

    Args:
        channels: Channels before each doubling of the image, counted from the image's end, so that
            the same tuple serves an encoder and its decoder.
        hidden: Width of the fully connected layer.
        activation: Name of the activation after each layer but the last.
        batch_norm: Whether to normalise each hidden layer over the batch, before its activation.
        output: Range of the outputs: "linear", "sigmoid" for [0, 1], "tanh" for [-1, 1].

    Raises:
        ValueError: A width isn't positive, there is no such output, or the outputs are no images.

    Example:
        >>> net = Deconv(channels=(8, 16))
        >>> net.build((5,), (1, 1, 28, 28))
        >>> net(torch.zeros(3, 7, 5)).shape
        torch.Size([3, 7, 1, 1, 28, 28])
    """

    name = "deconv"

    def __init__(
        self,
        channels: Sequence[int] = (32, 64),
        hidden: int = 256,
        activation: str = "relu",
        batch_norm: bool = False,
        output: str = "linear",
    ) -> None:
        super().__init__(channels, hidden, activation, batch_norm)
        named("output", output, OUTPUTS)
        self.output = output

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the layers."""
        if len(outputs) < 3:
            raise ValueError(
                f"Deconv expected outputs (*maps, channels, height, width), got {outputs}: use MLP"
            )
        stages = len(self.channels)
        heights, breadths = sides(outputs[-2], stages), sides(outputs[-1], stages)
        widths = [*reversed(self.channels), prod(outputs[:-2])]
        corner = (widths[0], heights[-1], breadths[-1])
        layers = [
            nn.Flatten(),
            *self._start(nn.Linear(prod(inputs), self.hidden)),
            *self._start(nn.Linear(self.hidden, prod(corner))),
            nn.Unflatten(1, corner),
        ]
        for i in range(stages):
            # A doubled side is one short where the wanted side is even.
            above = stages - 1 - i
            extra = (1 - heights[above] % 2, 1 - breadths[above] % 2)
            last = i == stages - 1
            layer = nn.ConvTranspose2d(
                widths[i], widths[i + 1], 3, 2, padding=1, output_padding=extra, bias=not last
            )
            if last:
                start_layer(layer, "linear")
            layers += [layer] if last else self._start(layer)
        self.layers = nn.Sequential(*layers)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def set_bias(self, value: Tensor) -> None:
        """Set the output's own bias so that it says `value`, (*outputs)."""
        set_last(self, self.output, value)

    def apply_flat(self, x: Tensor) -> Tensor:
        """Map (n, *inputs) to (n, *outputs)."""
        out: Tensor = self.layers(x)
        return ranged(self.output, out.reshape(-1, *self.bias.shape) + self.bias)
