"""The two nets of the deep convolutional GAN."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from priory.lookup import named
from priory.nets.base import Net
from priory.nets.conv import sides
from priory.nets.layers import (
    OUTPUTS,
    check_dropout,
    hidden_layer,
    normed,
    ranged,
    set_last,
)
from priory.part import Shape

_KERNEL, _PADDING = 5, 2
_SPREAD = 0.02


class _DCGAN(Net):
    """What the two nets share: their channels, and normal weights of a small spread."""

    def __init__(self, channels: Sequence[int], batch_norm: bool) -> None:
        super().__init__()
        if not channels or any(width < 1 for width in channels):
            raise ValueError(f"channels must be positive and at least one, got {tuple(channels)}")
        self.channels = tuple(channels)
        self.batch_norm = batch_norm


def _start(layer: nn.Module) -> nn.Module:
    """Draw a layer's weights from N(0, 0.02), and set its bias to zero."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)  # noqa: S101
    nn.init.normal_(weight, 0.0, _SPREAD)
    if isinstance(bias, Tensor):
        nn.init.zeros_(bias)
    return layer


class DCGAN(_DCGAN):
    """The generator of a deep convolutional GAN: any inputs to an image, or several maps of one.

    A linear layer to a small image of many channels, then a strided transposed convolution (5 x 5)
    for each doubling; batch norm and ReLU after each layer but the last. Radford, Metz and
    Chintala, 2016, Unsupervised representation learning with deep convolutional generative
    adversarial networks. Weights start from N(0, 0.02). Theirs ends in tanh, for data in [-1, 1].

    Args:
        channels: Channels before each doubling of the image, counted from the image's end.
        output: Range of the outputs: "sigmoid" for [0, 1], "tanh" for [-1, 1], "linear".
        batch_norm: Whether to normalise each layer but the last over the batch.

    Raises:
        ValueError: A width isn't positive, there is no such output, or the outputs are no images.

    Example:
        >>> net = DCGAN(channels=(8, 16))
        >>> net.build((5,), (1, 1, 28, 28))
        >>> net(torch.zeros(3, 7, 5)).shape
        torch.Size([3, 7, 1, 1, 28, 28])
    """

    name = "dcgan"

    def __init__(
        self,
        channels: Sequence[int] = (64, 128),
        output: str = "sigmoid",
        batch_norm: bool = True,
    ) -> None:
        super().__init__(channels, batch_norm)
        named("output", output, OUTPUTS)
        self.output = output

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the layers."""
        if len(outputs) < 3:
            raise ValueError(
                f"DCGAN expected outputs (*maps, channels, height, width), got {outputs}: use MLP"
            )
        stages = len(self.channels)
        heights, breadths = sides(outputs[-2], stages), sides(outputs[-1], stages)
        corner = (self.channels[-1], heights[-1], breadths[-1])
        layers = [nn.Flatten(), _start(nn.Linear(prod(inputs), prod(corner)))]
        layers += [nn.Unflatten(1, corner)]
        layers += [nn.BatchNorm2d(corner[0])] if self.batch_norm else []
        layers += [nn.ReLU()]
        for above in reversed(range(stages)):
            last = above == 0
            width = prod(outputs[:-2]) if last else self.channels[above - 1]
            extra = (1 - heights[above] % 2, 1 - breadths[above] % 2)
            layer = nn.ConvTranspose2d(
                self.channels[above], width, _KERNEL, 2, _PADDING, extra, bias=not last
            )
            _start(layer)
            layers += [layer] if last else hidden_layer(layer, "relu", batch_norm=self.batch_norm)
        self.layers = nn.Sequential(*layers)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def set_bias(self, value: Tensor) -> None:
        """Set the output's own bias so that it says `value`, (*outputs)."""
        set_last(self, self.output, value)

    def apply_flat(self, x: Tensor) -> Tensor:
        """Map (n, *inputs) to (n, *outputs)."""
        return ranged(self.output, self.layers(x).reshape(-1, *self.bias.shape) + self.bias)


class DCGANCritic(_DCGAN):
    """The critic of a deep convolutional GAN: an image to any outputs.

    A strided convolution (5 x 5) for each halving, leaky ReLU with slope 0.2, batch norm after each
    but the first, then a linear layer. Radford, Metz and Chintala, 2016. Weights start from
    N(0, 0.02); spectrally normalised ones too, which divides their scale out.

    Args:
        channels: Channels after each halving of the image.
        batch_norm: Whether to normalise each convolution but the first over the batch; a gradient
            penalty asks for a critic without (Gulrajani et al., 2017).
        spectral: Whether to divide every weight by its largest singular value.
        dropout: Probability that a hidden output is left out in training.

    Raises:
        ValueError: An option is out of range, or the inputs are no images.

    Example:
        >>> net = DCGANCritic(channels=(8, 16))
        >>> net.build((1, 28, 28), ())
        >>> net(torch.zeros(3, 1, 28, 28)).shape
        torch.Size([3])
    """

    name = "dcgan-critic"

    def __init__(
        self,
        channels: Sequence[int] = (64, 128),
        batch_norm: bool = True,
        spectral: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(channels, batch_norm)
        self.spectral = spectral
        self.dropout = check_dropout(dropout)

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the layers."""
        if len(inputs) != 3:
            raise ValueError(
                f"DCGANCritic expected images (channels, height, width), got {inputs}: use MLP"
            )
        width, height, breadth = inputs
        layers: list[nn.Module] = []
        for number, size in enumerate(self.channels):
            layers += hidden_layer(
                _start(nn.Conv2d(width, size, _KERNEL, 2, _PADDING)),
                "leaky-relu-0.2",
                batch_norm=self.batch_norm and number > 0,
                dropout=self.dropout,
                spectral=self.spectral,
            )
            width = size
        stages = len(self.channels)
        area = sides(height, stages)[-1] * sides(breadth, stages)[-1]
        self.layers = nn.Sequential(*layers)
        self.last = normed(_start(nn.Linear(width * area, prod(outputs))), self.spectral)

    def set_bias(self, value: Tensor) -> None:
        """Set the last layer's bias to `value`, (*outputs)."""
        set_last(self.last, "linear", value)

    def features(self, x: Tensor) -> Tensor:
        """Map (n, channels, height, width) to what the last layer reads, (n, features)."""
        out: Tensor = self.layers(x).flatten(1)
        return out

    def apply_flat(self, x: Tensor) -> Tensor:
        """Map (n, channels, height, width) to (n, numel of outputs)."""
        out: Tensor = self.last(self.features(x))
        return out
