"""A residual net from images to images of the same size."""

from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from priory.lookup import named
from priory.nets.base import ACTIVATIONS, Net, start_layer
from priory.nets.layers import OUTPUTS, ranged, set_last
from priory.part import Shape

_SMALL = 0.1


class ResNet(Net):
    r"""A residual net from images to images of the same size, for translation.

    .. math:: h_0 = W x, \qquad h_{i+1} = h_i + V_i f(U_i f(h_i)), \qquad y = L h_n

    He et al., 2016, Identity mappings in deep residual networks, between convolutions that read and
    write the image in square patches, the channels of one place (Shi et al., 2016, Real-time single
    image super-resolution). What an output pixel depends on is a neighbourhood of its place: the
    net is biased to keep things where they are, as the generators of Zhu et al., 2017, Unpaired
    image-to-image translation, are.

    Args:
        channels: Channels of every hidden layer.
        blocks: Number of residual blocks.
        patch: Side of a patch in pixels.
        activation: Name of the activation.
        output: Range of the outputs: "linear", "sigmoid" for [0, 1], "tanh" for [-1, 1].

    Raises:
        ValueError: A number is out of range, a name is unknown, or inputs and outputs are no images
            of one size.

    Example:
        >>> net = ResNet(channels=8, blocks=1)
        >>> net.build((1, 28, 28), (3, 28, 28))
        >>> net(torch.zeros(5, 7, 1, 28, 28)).shape
        torch.Size([5, 7, 3, 28, 28])
    """

    name = "resnet"

    def __init__(
        self,
        channels: int = 32,
        blocks: int = 2,
        patch: int = 2,
        activation: str = "relu",
        output: str = "linear",
    ) -> None:
        super().__init__()
        least = {"channels": (channels, 1), "blocks": (blocks, 0), "patch": (patch, 1)}
        for name, (value, low) in least.items():
            if value < low:
                raise ValueError(f"{name} must be at least {low}, got {value}")
        named("activation", activation, ACTIVATIONS)
        named("output", output, OUTPUTS)
        self.channels = channels
        self.blocks = blocks
        self.patch = patch
        self.activation = activation
        self.output = output

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the layers."""
        if len(inputs) != 3 or len(outputs) < 3 or inputs[-2:] != outputs[-2:]:
            raise ValueError(
                "ResNet expected images (channels, height, width) of one size, got "
                f"{inputs} -> {outputs}: use MLP"
            )
        pixels = self.patch**2
        self.first = _convolution(inputs[0] * pixels, self.channels, self.activation)
        self.residuals = nn.ModuleList(self._block() for _ in range(self.blocks))
        self.last = _convolution(self.channels, prod(outputs[:-2]) * pixels, "linear")

    def set_bias(self, value: Tensor) -> None:
        """Set the last layer's bias so that it says the mean of each channel of `value`."""
        means = value.flatten(0, -3).mean((-2, -1))
        set_last(self.last, self.output, means.repeat_interleave(self.patch**2))

    def apply_flat(self, x: Tensor) -> Tensor:
        """Map (n, channels, height, width) to (n, *outputs)."""
        height, width = x.shape[-2:]
        x = pad(x, (0, -width % self.patch, 0, -height % self.patch))
        h: Tensor = self.first(pixel_unshuffle(x, self.patch))
        for block in self.residuals:
            h = h + block(h)
        out = pixel_shuffle(self.last(h), self.patch)[..., :height, :width]
        return ranged(self.output, out)

    def _block(self) -> nn.Sequential:
        activation, size = ACTIVATIONS[self.activation], self.channels
        inner, outer = (_convolution(size, size, self.activation) for _ in range(2))
        with torch.no_grad():
            outer.weight.mul_(_SMALL)  # a block starts near the identity
        return nn.Sequential(activation(), inner, activation(), outer)


def _convolution(inputs: int, outputs: int, activation: str) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    start_layer(layer, activation)
    return layer
