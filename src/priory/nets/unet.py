"""A small U-Net with a time, for images."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from priory.nets.timed import TimedNet, TimeEmbedding, silent
from priory.part import Shape

_GROUPS = 4  # of channels that are normalised together


class UNet(TimedNet):
    r"""Convolutions that halve an image at each level and double it again, with what was before.

    .. math:: h \leftarrow h + P_2 f(P_1 (a(t, c) \odot \mathrm{norm}(D h) + b(t, c)))

    Ronneberger, Fischer and Brox, 2015, U-net: convolutional networks for biomedical image
    segmentation; with the time in every block, Ho, Jain and Abbeel, 2020, Denoising diffusion
    probabilistic models. In a block D sees each channel's neighbourhood alone and P_1, P_2 mix the
    channels of a place, as in Liu et al., 2022, A ConvNet for the 2020s, which costs a CPU a tenth
    of full convolutions.

    Args:
        channels: Of the first level.
        multipliers: Channels of each level, over those of the first; each level has half the side
            of the one before.
        blocks: Number of blocks of each level, down and up.
        depthwise: Whether D sees each channel alone, or all together.

    Raises:
        ValueError: A number is out of range; when it is built, if the data are no images.

    Example:
        >>> net = UNet(channels=8, multipliers=(1, 2), blocks=1)
        >>> net.build((1, 7, 7), params=2)
        >>> net(torch.zeros(5, 1, 7, 7), torch.rand(5)).shape
        torch.Size([5, 2, 1, 7, 7])
    """

    name = "unet"

    def __init__(
        self,
        channels: int = 16,
        multipliers: Sequence[int] = (1, 2, 3),
        blocks: int = 1,
        depthwise: bool = True,
    ) -> None:
        super().__init__()
        if channels % _GROUPS or min(channels, blocks, *multipliers, 1) < 1 or not multipliers:
            raise ValueError(
                f"channels must be a multiple of {_GROUPS}, blocks and multipliers positive, got "
                f"{channels}, {blocks} and {tuple(multipliers)}"
            )
        self.channels = channels
        self.multipliers = tuple(multipliers)
        self.blocks = blocks
        self.depthwise = depthwise

    def make(self, shape: Shape, params: int, given: int) -> None:
        """Make the layers."""
        if len(shape) != 3:
            raise ValueError(
                f"UNet expected images (channels, height, width), got {shape}: use TimeMLP"
            )
        widths = [self.channels * m for m in self.multipliers]
        embedded = 4 * self.channels
        self.time = TimeEmbedding(embedded, given)
        self.first = nn.Conv2d(shape[0], widths[0], 3, padding=1)
        self.down = nn.ModuleList(self._level(w, embedded) for w in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(w, v, 2, 2) for w, v in itertools.pairwise(widths))
        self.grow = nn.ModuleList(nn.Conv2d(v, w, 1) for w, v in itertools.pairwise(widths))
        self.merge = nn.ModuleList(nn.Conv2d(2 * w, w, 1) for w in widths[:-1])
        self.up = nn.ModuleList(self._level(w, embedded) for w in widths[:-1])
        self.norm = nn.GroupNorm(_GROUPS, widths[0])
        self.last = silent(nn.Conv2d(widths[0], params * shape[0], 3, padding=1))

    def apply_flat(self, z: Tensor, t: Tensor, given: Tensor) -> Tensor:
        """Map states (n, *shape), times (n,), vectors (n, given) to (n, params * channels, ...)."""
        e = self.time(t, given)
        h, before = self.first(z), []
        for level, blocks in enumerate(self.down):
            if level:
                before.append(h)
                odd = (0, h.shape[-1] % 2, 0, h.shape[-2] % 2)
                h = self.shrink[level - 1](pad(h, odd))
            h = blocks(h, e)
        for level in range(len(self.up) - 1, -1, -1):
            skip = before[level]
            h = interpolate(self.grow[level](h), scale_factor=2.0, mode="nearest")
            h = h[..., : skip.shape[-2], : skip.shape[-1]]
            h = self.merge[level](torch.cat([h, skip], 1))
            h = self.up[level](h, e)
        out: Tensor = self.last(nn.functional.silu(self.norm(h)))
        return out

    def _level(self, width: int, embedded: int) -> nn.Module:
        return _Level(_Block(width, embedded, self.depthwise) for _ in range(self.blocks))


class _Level(nn.ModuleList):
    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        for block in self:
            h = block(h, e)
        return h


class _Block(nn.Module):
    def __init__(self, width: int, embedded: int, depthwise: bool) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 3, padding=1, groups=width if depthwise else 1)
        self.norm = nn.GroupNorm(_GROUPS, width, affine=False)
        self.read = nn.Linear(embedded, 2 * width)
        self.inner = nn.Conv2d(width, 2 * width, 1)
        self.outer = nn.Conv2d(2 * width, width, 1)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.read(e)[..., None, None].chunk(2, 1)
        inner = self.norm(self.near(h)) * (1 + scale) + shift
        out: Tensor = h + self.outer(nn.functional.silu(self.inner(inner)))
        return out
