"""Glow: a flow of images over several scales."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from priory.lookup import positive
from priory.nets.flow import FlowNet

_ROWS = 256  # of the training data, from which the activations' start is taken


def squeeze(x: Tensor) -> Tensor:
    """Return images (n, c, 2h, 2w) with each square of four pixels in the channels, (n, 4c, h, w).

    Example:
        >>> squeeze(torch.arange(4.0).reshape(1, 1, 2, 2)).flatten()
        tensor([0., 1., 2., 3.])
    """
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return parts.reshape(n, 4 * c, h // 2, w // 2)


def unsqueeze(x: Tensor) -> Tensor:
    """Return images (n, 4c, h, w) with each four channels in a square of pixels, (n, c, 2h, 2w)."""
    n, c, h, w = x.shape
    parts = x.reshape(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c // 4, 2 * h, 2 * w)


class ActNorm(nn.Module):
    r"""A scale and a shift for each channel, which start where the first data have unit variance.

    .. math:: y = e^{s} (x + b), \qquad \log |\det| = h w \sum_c s_c

    They are parameters from then on: nothing depends on a batch.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))

    def start(self, x: Tensor) -> None:
        """Take the start from images (n, channels, h, w)."""
        spread, mean = torch.std_mean(x, (0, 2, 3), correction=0, keepdim=True)
        with torch.no_grad():
            self.shift.copy_(-mean[0])
            self.log_scale.copy_(-torch.where(spread > 0, spread, 1.0)[0].log())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images, and return log |det| of the Jacobian, ()."""
        slope = x.shape[-1] * x.shape[-2] * self.log_scale.sum()
        return self.log_scale.exp() * (x + self.shift), slope

    def inverse(self, y: Tensor) -> Tensor:
        """Map images back."""
        return y * (-self.log_scale).exp() - self.shift


class Conv1x1(nn.Module):
    r"""An invertible mixture of the channels, by its LU decomposition.

    .. math:: y_{ij} = W x_{ij}, \quad W = P L (U + \mathrm{diag}(\sigma e^{s})), \qquad
        \log |\det| = h w \log |\det W| = h w \sum_c s_c

    P and the signs :math:`\sigma` stay those of the random rotation that W starts at.

    Args:
        channels: Number of channels.
    """

    order: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        order, lower, upper = torch.linalg.lu(rotation)
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_scale = nn.Parameter(upper.diagonal().abs().log())
        self.register_buffer("order", order)
        self.register_buffer("sign", upper.diagonal().sign())

    def weight(self) -> Tensor:
        """Return W, (channels, channels)."""
        lower = self.lower.tril(-1) + torch.eye(len(self.sign)).to(self.lower)
        return self.order @ lower @ (self.upper.triu(1) + (self.sign * self.log_scale.exp()).diag())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images, and return log |det| of the Jacobian, ()."""
        slope = x.shape[-1] * x.shape[-2] * self.log_scale.sum()
        return conv2d(x, self.weight()[:, :, None, None]), slope

    def inverse(self, y: Tensor) -> Tensor:
        """Map images back."""
        return conv2d(y, torch.linalg.inv(self.weight())[:, :, None, None])


def _convolutions(inputs: int, channels: int, outputs: int) -> nn.Sequential:
    """Return a net of three convolutions, whose output starts at zero."""
    net = nn.Sequential(
        nn.Conv2d(inputs, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1),
        nn.ReLU(),
        nn.Conv2d(channels, outputs, 3, padding=1),
    )
    for parameter in net[-1].parameters():
        nn.init.zeros_(parameter)
    return net


class AffineCoupling(nn.Module):
    r"""Half of the channels shift and scale the others.

    .. math:: y_a = x_a, \quad y_b = e^{s} (x_b + m); \qquad m, r = g(x_a), \quad s = c \tanh r

    c, a number for each channel, is learned. g is three convolutions, the last of which starts at
    zero, and so the map at the identity.

    Args:
        given: Channels of a.
        moved: Channels of b.
        channels: Of the hidden layers.
    """

    def __init__(self, given: int, moved: int, channels: int) -> None:
        super().__init__()
        self.given = given
        self.net = _convolutions(given, channels, 2 * moved)
        self.reach = nn.Parameter(torch.ones(moved, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (n, given + moved, h, w), and return log |det| of the Jacobian, (n,)."""
        a, b = x[:, : self.given], x[:, self.given :]
        m, s = self._moves(a)
        return torch.cat([a, s.exp() * (b + m)], 1), s.sum((1, 2, 3))

    def inverse(self, y: Tensor) -> Tensor:
        """Map images back."""
        a, b = y[:, : self.given], y[:, self.given :]
        m, s = self._moves(a)
        return torch.cat([a, b * (-s).exp() - m], 1)

    def _moves(self, a: Tensor) -> tuple[Tensor, Tensor]:
        m, r = self.net(a).chunk(2, 1)
        return m, self.reach * r.tanh()


class Glow(FlowNet):
    r"""A flow of images over several scales.

    At each scale the pixels' squares become channels, and some steps follow, each of an activation
    norm, an invertible 1x1 convolution and an affine coupling; then half of the channels are
    compared with noise, given the other half, and leave:

    .. math:: h_{l+1}, r_l = f_l(h_l), \qquad r_l \sim N(m(h_{l+1}), s(h_{l+1})^2)

    Kingma and Dhariwal, 2018, Glow: generative flow with invertible 1x1 convolutions.

    Args:
        scales: Number of scales; the height and width are multiples of 2 to this power.
        steps: At each scale.
        channels: Of the couplings' hidden layers.

    Raises:
        ValueError: A number isn't positive.

    Example:
        >>> flow = Glow(scales=2, steps=1, channels=8)
        >>> flow.build(torch.randn(10, 1, 4, 4))
        >>> noise, slope = flow(torch.randn(3, 1, 4, 4))
        >>> noise.shape, slope.shape
        (torch.Size([3, 1, 4, 4]), torch.Size([3]))
    """

    name = "glow"

    def __init__(self, scales: int = 2, steps: int = 4, channels: int = 64) -> None:
        super().__init__()
        self.scales = positive("scales", scales)
        self.steps = positive("steps", steps)
        self.channels = positive("channels", channels)

    def make(self, x: Tensor) -> None:
        """Make the layers, and take the activations' start from the data.

        Raises:
            ValueError: The data are no images, or of a size that can't be halved so often.
        """
        shape, part = tuple(x.shape[1:]), 2**self.scales
        if len(shape) != 3 or shape[1] % part or shape[2] % part:
            raise ValueError(
                f"flow 'glow' of {self.scales} scales needs images (channels, height, width) whose "
                f"height and width are multiples of {part}, got data of shape {shape}: take other "
                "scales, or flow='maf', which lays data flat"
            )
        c = shape[0]
        self.layers = nn.ModuleList()
        self.rests = nn.ModuleList()
        for scale in range(self.scales):
            c *= 4
            for _ in range(self.steps):
                coupling = AffineCoupling(c // 2, c - c // 2, self.channels)
                self.layers += [ActNorm(c), Conv1x1(c), coupling]
            if scale < self.scales - 1:
                self.rests.append(AffineCoupling(c // 2, c - c // 2, self.channels))
                c //= 2
        index = torch.linspace(0, len(x) - 1, min(len(x), _ROWS), dtype=torch.float64).long()
        self.to(device=x.device, dtype=x.dtype)
        with torch.no_grad():
            self._run(x[index.to(x.device)], start=True)

    def apply_flat(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (n, *shape) to noise and log |det| of the Jacobian, (n,)."""
        return self._run(x)

    def invert_flat(self, noise: Tensor) -> Tensor:
        """Map noise (n, *shape) to images."""
        n, _, h, w = noise.shape
        sizes = [noise[0].numel() // 2 ** (s + 1) for s in range(self.scales - 1)]
        flat = noise.flatten(1)
        *parts, x = flat.split([*sizes, flat.shape[1] - sum(sizes)], 1)
        part = 2**self.scales
        x = x.reshape(n, -1, h // part, w // part)
        for scale in reversed(range(self.scales)):
            if scale < self.scales - 1:
                rest = parts[scale].reshape(n, -1, *x.shape[2:])
                x = self.rests[scale].inverse(torch.cat([x, rest], 1))  # type: ignore[operator]
            for layer in reversed([*self._layers(scale)]):
                x = layer.inverse(x)  # type: ignore[operator]
            x = unsqueeze(x)
        return x

    def _layers(self, scale: int) -> Iterable[nn.Module]:
        return self.layers[3 * self.steps * scale : 3 * self.steps * (scale + 1)]

    def _run(self, x: Tensor, *, start: bool = False) -> tuple[Tensor, Tensor]:
        """Map images to noise, and take the start of the activation norms on the way, if asked."""
        slopes, parts = x.new_zeros(len(x)), []
        for scale in range(self.scales):
            x = squeeze(x)
            for layer in self._layers(scale):
                if start and isinstance(layer, ActNorm):
                    layer.start(x)
                x, slope = layer(x)
                slopes = slopes + slope
            if scale < self.scales - 1:
                y, slope = self.rests[scale](x)
                x, rest = y.chunk(2, 1)
                slopes = slopes + slope
                parts.append(rest.flatten(1))
        return torch.cat([*parts, x.flatten(1)], 1), slopes
