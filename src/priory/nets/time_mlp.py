"""A fully connected net with a time, for vectors and small images."""

import math
from math import prod

import torch
from torch import Tensor, nn

from priory.nets.timed import TimedNet, TimeEmbedding, silent
from priory.part import Shape

_FEW = 8  # coordinates up to which each is seen by its waves


class TimeMLP(TimedNet):
    r"""Residual fully connected layers, each of which reads the time.

    .. math:: h_0 = W (z, \sin \omega_j z_i, \cos \omega_j z_i), \qquad
        h_{i+1} = h_i + V_i f(U_i \mathrm{norm}(h_i) + A_i e(t, c))

    The waves, of each coordinate its own, let the net see what is narrow: Tancik et al., 2020,
    Fourier features let networks learn high frequency functions in low dimensional domains. They
    are taken of data with 8 coordinates at most.

    Args:
        width: Of every hidden layer.
        layers: Number of residual layers.
        frequencies: Number of waves of a coordinate.
        fastest: The highest frequency, in radians per unit; the lowest is 1.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> net = TimeMLP(width=16, layers=1)
        >>> net.build((2,), params=1)
        >>> net(torch.zeros(5, 7, 2), torch.rand(7)).shape
        torch.Size([5, 7, 1, 2])
    """

    name = "time-mlp"
    waves: Tensor

    def __init__(
        self, width: int = 256, layers: int = 3, frequencies: int = 16, fastest: float = 32.0
    ) -> None:
        super().__init__()
        if min(width, layers) < 1 or frequencies < 0 or not fastest >= 1:
            raise ValueError(
                "width and layers must be positive, frequencies not negative and fastest at least "
                f"1, got {width}, {layers}, {frequencies} and {fastest}"
            )
        self.width = width
        self.layers = layers
        self.frequencies = frequencies
        self.fastest = fastest

    def make(self, shape: Shape, params: int, given: int) -> None:
        """Make the layers."""
        size = prod(shape)
        count = self.frequencies if size <= _FEW else 0
        waves = torch.linspace(0, math.log(self.fastest), count).exp()
        self.register_buffer("waves", waves, persistent=False)
        self.time = TimeEmbedding(self.width, given)
        self.first = nn.Linear(size * (1 + 2 * count), self.width)
        self.blocks = nn.ModuleList(_Block(self.width) for _ in range(self.layers))
        self.last = silent(nn.Linear(self.width, params * size))

    def apply_times(self, z: Tensor, t: Tensor, given: Tensor) -> Tensor:
        """Map states (n, m, *shape), times (m,), vectors (m, given) to (n, m, params * size)."""
        z = z.flatten(2)
        phase = (z.unsqueeze(-1) * self.waves).flatten(2)
        h = self.first(torch.cat([z, phase.sin(), phase.cos()], -1))
        e = self.time(t, given)
        for block in self.blocks:
            h = block(h, e)
        out: Tensor = self.last(nn.functional.silu(h))
        return out


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.shift = nn.Linear(width, width, bias=False)
        self.outer = nn.Linear(width, width)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        inner = nn.functional.silu(self.inner(self.norm(h)) + self.shift(e))
        out: Tensor = h + self.outer(inner)
        return out
