"""The PixelCNN: convolutions that read the pixels above and to the left, within a window."""

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from priory.lookup import at_least, named, positive
from priory.nets.autoregressive import AutoregressiveNet
from priory.nets.base import ACTIVATIONS, start_layer
from priory.nets.mlp import MLP
from priory.part import Shape

_SMALL = 0.1


class PixelCNN(AutoregressiveNet):
    r"""A residual PixelCNN whose pixels read those before them within a window, and none beyond.

    .. math:: v_{l+1} = v_l + K_l * f(v_l) + A_l c, \qquad
        h_{l+1} = h_l + U_l f(k_l * f(h_l) + S_l v_{l+1} + B_l c), \qquad
        \theta = L f(h_n) + b

    Van den Oord, Kalchbrenner and Kavukcuoglu, 2016, Pixel recurrent neural networks; the two
    stacks, v over rows and h along one, which reads v a row above its own, leave no blind spot: van
    den Oord et al., 2016, Conditional image generation with PixelCNN decoders. A pixel (r, s) reads
    rows r - w to r - 1 at columns s - w to s + w, and columns s - w to s - 1 of its own row. The
    kernels are cut to what they may read, so that nothing is masked: the first of each stack leaves
    the pixel's own place out (type A), the others do not (type B), and their sizes share w among
    them. Where a latent's code c is given, what lies beyond the window must go through the code:
    Chen et al., 2017, Variational lossy autoencoder. It is spread to a few planes by a small net,
    which every layer reads. The channels of a pixel are independent given the pixels before it.

    Args:
        window: w, rows and columns of context that a pixel reads; None for all before it.
        channels: Channels of each stack.
        blocks: Number of residual blocks.
        planes: Planes that a given vector is spread to.
        hidden: Width of the hidden layer in between.
        activation: Name of the activation.

    Raises:
        ValueError: A number is out of range, there is no such activation, or the data are no
            images.

    Example:
        >>> net = PixelCNN(window=2, channels=8)
        >>> net.build((1, 8, 8), params=1, given=2)
        >>> net(torch.zeros(3, 7, 1, 8, 8), torch.zeros(7, 2)).shape
        torch.Size([3, 7, 1, 1, 8, 8])
    """

    name = "pixelcnn"

    def __init__(
        self,
        window: int | None = None,
        channels: int = 16,
        blocks: int = 2,
        planes: int = 4,
        hidden: int = 128,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.window = None if window is None else positive("window", window)
        self.channels = positive("channels", channels)
        self.blocks = at_least(0, "blocks", blocks)
        self.planes = positive("planes", planes)
        self.hidden = positive("hidden", hidden)
        named("activation", activation, ACTIVATIONS)
        self.activation = activation

    @property
    def places(self) -> int:
        """How many pixels an image has."""
        self.check_built()
        return prod(self.built_for[0][-2:])

    def make(self, shape: Shape, params: int, given: int) -> None:
        """Make the convolutions, the last one at zero."""
        if len(shape) != 3:
            raise ValueError(
                f"PixelCNN expected images (channels, height, width), got {shape}: use MADE"
            )
        most = max(*shape[1:], 2) - 1
        self.reach = min(self.window or most, most)
        count, size = self.blocks + 1, self.channels
        first, *rest = (self.reach // count + (i < self.reach % count) for i in range(count))
        self.above = nn.ModuleList([_Cut(shape[0], size, first, rows=first - 1, right=first)])
        self.left = nn.ModuleList([_Cut(shape[0], size, first - 1)])
        for radius in rest:
            self.above.append(_Cut(size, size, radius, rows=radius, right=radius))
            self.left.append(_Cut(size, size, radius))
        self.links = nn.ModuleList(nn.Conv2d(size, size, 1) for _ in range(count))
        self.outer = nn.ModuleList(nn.Conv2d(size, size, 1) for _ in rest)
        self.last = nn.Conv2d(size, params * shape[0], 1, bias=False)
        spread = MLP((self.hidden,), self.activation)
        entering = nn.Conv2d(self.planes, 2 * count * size, 1, bias=False)
        self.given = nn.ModuleList([spread, entering] if given else [])
        if given:
            spread.build((given,), (self.planes, *shape[1:]))
            start_layer(entering, self.activation)
        for layer in (*self.above, *self.left, *self.links, *self.outer):
            start_layer(layer, self.activation)
        with torch.no_grad():
            for layer in (*self.above[1:], *self.outer):
                layer.weight.mul_(_SMALL)  # a block starts near the identity
        nn.init.zeros_(self.last.weight)

    def apply_flat(self, x: Tensor, given: Tensor) -> Tensor:
        """Map images (n, *shape) and vectors (n, given) to parameters (n, params, *shape)."""
        codes = self._codes(given)
        return self._along(x, self._above(x, codes), codes) + self.bias

    def walk(self, seen: Tensor, given: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield the pixels row by row; what the rows above say is found once for each row."""
        codes = self._codes(given)
        rows, columns = seen.shape[-2:]
        maps = self.bias.expand(len(seen), *self.bias.shape).clone()
        for row in range(rows):
            here, near = slice(row, row + 1), slice(max(0, row - self.reach), row + 1)
            above = self._above(seen[:, :, near], _cropped(codes, near))
            above = [v[:, :, -1:] for v in above]
            for column in range(columns):
                along = self._along(seen[:, :, here], above, _cropped(codes, here))
                maps[..., here, :] = along + self.bias[..., here, :]
                yield slice(row * columns + column, None, rows * columns), maps

    def _codes(self, given: Tensor) -> list[Tensor]:
        """Return what each layer of both stacks takes of vectors (n, given), as planes."""
        if not self.given:
            return []
        spread, entering = self.given
        planes = ACTIVATIONS[self.activation]()(spread(given))
        return [*entering(planes).chunk(2 * len(self.left), 1)]

    def _above(self, x: Tensor, codes: list[Tensor]) -> list[Tensor]:
        """Return each layer's v, of images (n, channels, height, width), a row further down."""
        activation = ACTIVATIONS[self.activation]()
        found, v = [], x
        for i, layer in enumerate(self.above):
            moved = layer(activation(v) if i else v) + (codes[2 * i] if codes else 0.0)
            v = v + moved if i else moved
            found.append(pad(v, (0, 0, 1, 0))[:, :, :-1])
        return found

    def _along(self, x: Tensor, above: list[Tensor], codes: list[Tensor]) -> Tensor:
        """Return the parameters but for the bias, (n, params, *shape), of images or rows of them.

        Args:
            x: Images, (n, channels, height, width).
            above: What the rows above each say, for each layer.
            codes: What each layer takes of the given vector.
        """
        activation = ACTIVATIONS[self.activation]()
        h = pad(x, (1, 0))[..., :-1]
        for i, layer in enumerate(self.left):
            moved = layer(activation(h) if i else h) + self.links[i](above[i])
            moved = moved + (codes[2 * i + 1] if codes else 0.0)
            h = h + self.outer[i - 1](activation(moved)) if i else moved
        out: Tensor = self.last(activation(h))
        return out.unflatten(1, self.bias.shape[:2])


class _Cut(nn.Conv2d):
    """A convolution of an image that reads no row below an output and, by default, none above."""

    def __init__(
        self, inputs: int, outputs: int, left: int, *, rows: int = 0, right: int = 0
    ) -> None:
        super().__init__(inputs, outputs, (rows + 1, left + 1 + right))
        self.margin = (left, right, rows, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, height, width) to (n, outputs, height, width)."""
        return super().forward(pad(x, self.margin))


def _cropped(codes: list[Tensor], rows: slice) -> list[Tensor]:
    return [planes[:, :, rows] for planes in codes]
