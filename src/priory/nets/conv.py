"""Convolutional nets that halve or double an image at every stage."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from priory.names import named
from priory.nets.base import ACTIVATIONS, Net, Shape, start_layer


def _sides(side: int, stages: int) -> list[int]:
    """Return a side's length before, between and after `stages` halvings, each rounded up."""
    sides = [side]
    for _ in range(stages):
        sides.append((sides[-1] + 1) // 2)
    return sides


class _Convolutional(Net):
    """What the two directions share: their configuration."""

    def __init__(
        self, channels: Sequence[int] = (32, 64), hidden: int = 256, activation: str = "relu"
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

    def _start(self, layer: nn.Module) -> list[nn.Module]:
        start_layer(layer, self.activation)
        return [layer, ACTIVATIONS[self.activation]()]


class Conv(_Convolutional):
    """Strided convolutions, then one hidden and one linear layer: an image to any outputs.

    Args:
        channels: Channels after each halving of the image.
        hidden: Width of the fully connected layer.
        activation: Name of the activation after each layer but the last.

    Raises:
        ValueError: A width isn't positive, or the inputs are no images.

    Example:
        >>> net = Conv(channels=(8, 16))
        >>> net.build((1, 28, 28), (2, 5))
        >>> net(torch.zeros(3, 7, 1, 28, 28)).shape
        torch.Size([3, 7, 2, 5])
    """

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
        area = _sides(height, stages)[-1] * _sides(breadth, stages)[-1]
        layers += [nn.Flatten(), *self._start(nn.Linear(width * area, self.hidden))]
        self.last = nn.Linear(self.hidden, prod(outputs))
        start_layer(self.last, "linear")
        self.layers = nn.Sequential(*layers)

    def set_bias(self, value: Tensor) -> None:
        """Set the last layer's bias to `value`, (*outputs)."""
        with torch.no_grad():
            self.last.bias.copy_(value.reshape(-1))

    def apply_flat(self, x: Tensor) -> Tensor:
        """Map (n, channels, height, width) to (n, numel of outputs)."""
        out: Tensor = self.last(self.layers(x))
        return out


class Deconv(_Convolutional):
    """The mirror image of `Conv`: any inputs to an image, or to several maps of one.

    Args:
        channels: Channels before each doubling of the image, counted from the image's end, so that
            the same tuple serves an encoder and its decoder.
        hidden: Width of the fully connected layer.
        activation: Name of the activation after each layer but the last.

    Raises:
        ValueError: A width isn't positive, or the outputs are no images.

    Example:
        >>> net = Deconv(channels=(8, 16))
        >>> net.build((5,), (1, 1, 28, 28))
        >>> net(torch.zeros(3, 7, 5)).shape
        torch.Size([3, 7, 1, 1, 28, 28])
    """

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the layers."""
        if len(outputs) < 3:
            raise ValueError(
                f"Deconv expected outputs (*maps, channels, height, width), got {outputs}: use MLP"
            )
        stages = len(self.channels)
        heights, breadths = _sides(outputs[-2], stages), _sides(outputs[-1], stages)
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
            start_layer(layer, "linear" if last else self.activation)
            layers += [layer] if last else [layer, ACTIVATIONS[self.activation]()]
        self.layers = nn.Sequential(*layers)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def set_bias(self, value: Tensor) -> None:
        """Set the output's own bias to `value`, (*outputs)."""
        with torch.no_grad():
            self.bias.copy_(value)

    def apply_flat(self, x: Tensor) -> Tensor:
        """Map (n, *inputs) to (n, *outputs)."""
        out: Tensor = self.layers(x)
        return out.reshape(-1, *self.bias.shape) + self.bias
