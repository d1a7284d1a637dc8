"""Transformers over the steps of a sequence."""

import math
from math import prod

import torch
from torch import Tensor, nn

from priory.distributions.padded import counting
from priory.lookup import positive
from priory.nets.base import start_layer
from priory.nets.layers import check_dropout
from priory.nets.steps import StepsDecoder, StepsEncoder, StepsNet
from priory.part import Shape

_LONGEST = 10_000.0  # in the wavelengths of the places, over 2 pi


def places(steps: int, width: int, like: Tensor) -> Tensor:
    r"""Return the places of the steps as sines and cosines, (steps, width).

    .. math:: \sin(t / 10000^{2i / d}), \quad \cos(t / 10000^{2i / d})
    """
    rates = _LONGEST ** (-torch.arange(0, width, 2, device=like.device) / width)
    angles = torch.arange(steps, device=like.device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width].to(like)


class _Block(nn.Module):
    """Attention of all steps to those that count, and a layer for each step alone."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asked, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)
        for layer, then in ((self.asked, "linear"), (self.joined, "linear"), (self.wide, "gelu")):
            start_layer(layer, then)
        start_layer(self.narrow, "linear")

    def forward(self, h: Tensor, counted: Tensor | None) -> Tensor:
        """Map tokens (n, steps, width) to others; those that do not count are read by none."""
        parts = self.asked(self.first(h)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.movedim(2, 0).transpose(2, 3)
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        if counted is not None:
            scores = torch.where(counted[:, None, None], scores, -math.inf)
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        h = h + self.dropout(self.joined(mixed))
        alone = self.narrow(nn.functional.gelu(self.wide(self.second(h))))
        out: Tensor = h + self.dropout(alone)
        return out


class _Tokens(StepsNet):
    """What both transformers have: the options, and the blocks that tokens go through."""

    def __init__(
        self,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        time: str = "first",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(time)
        self.width = positive("width", width)
        self.layers = positive("layers", layers)
        self.heads = positive("heads", heads)
        if width % heads:
            raise ValueError(f"heads must divide the width, {width}, got {heads}")
        self.dropout = check_dropout(dropout)

    def make_blocks(self) -> None:
        """Make the layers that tokens go through."""
        self.blocks = nn.ModuleList(
            _Block(self.width, self.heads, self.dropout) for _ in range(self.layers)
        )
        self.norm = nn.LayerNorm(self.width)

    def through(self, h: Tensor, counted: Tensor | None) -> Tensor:
        """Map tokens (n, steps, width) to others; those that do not count are read by none."""
        for block in self.blocks:
            h = block(h, counted)
        return h


class Transformer(_Tokens, StepsEncoder):
    r"""A small transformer: a sequence to any outputs.

    .. math:: h = h + \mathrm{softmax}(Q K^T / \sqrt d) V, \quad h = h + \mathrm{MLP}(h)

    Vaswani et al., 2017, Attention is all you need, with the normalisation before each part (Xiong
    et al., 2020, On layer normalization in the transformer architecture). Steps get their places by
    sines; one token more, which reads all steps that count, is what the last layer reads.

    Args:
        width: Width of a token.
        layers: Number of layers.
        heads: Number of attention heads; they divide the width.
        time: Which axis of a row is time, "first" or "last".
        dropout: Probability that an output is left out in training.

    Raises:
        ValueError: A number isn't positive, an option is out of range, or the inputs are no
            sequences.

    Example:
        >>> net = Transformer(16, 1)
        >>> net.build((50, 3), (2, 5))
        >>> net(torch.zeros(4, 7, 50, 3)).shape
        torch.Size([4, 7, 2, 5])
    """

    name = "transformer"

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the layers."""
        self.plan(inputs, "sequences")
        self.enter = nn.Linear(self.entries, self.width)
        start_layer(self.enter, "linear")
        self.token = nn.Parameter(torch.randn(self.width) / math.sqrt(self.width))
        self.make_blocks()
        self.last = nn.Linear(self.width, prod(outputs))
        start_layer(self.last, "linear")

    def features(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Map (n, *inputs) to what the last layer reads, (n, features)."""
        h = self.enter(self.read(x, length)) + places(self.steps, self.width, self.token)
        h = torch.cat([self.token.expand(len(h), 1, -1), h], 1)
        counted = None if length is None else counting(length + 1, self.steps + 1)
        out: Tensor = self.norm(self.through(h, counted)[:, 0])
        return out


class TransformerDecoder(_Tokens, StepsDecoder):
    r"""A small transformer that is driven by one vector: any inputs to a sequence.

    .. math:: h_t = W z + p_t, \quad f_t = V \, \mathrm{blocks}(h)_t + c_t

    The blocks are those of `Transformer`. Given z the steps are independent: no step is read by the
    next, so that what is drawn is drawn at once.

    Args:
        width: Width of a token.
        layers: Number of layers.
        heads: Number of attention heads; they divide the width.
        time: Which axis of a row is time, "first" or "last".
        dropout: Probability that an output is left out in training.

    Raises:
        ValueError: A number isn't positive, an option is out of range, or the outputs are no
            sequences.

    Example:
        >>> net = TransformerDecoder(16, 1)
        >>> net.build((5,), (1, 50, 3))
        >>> net(torch.zeros(4, 7, 5)).shape
        torch.Size([4, 7, 1, 50, 3])
    """

    name = "transformer-decoder"

    def make_layers(self, width: int) -> None:
        """Make the layers for inputs of so many numbers."""
        self.enter = nn.Linear(width, self.width)
        start_layer(self.enter, "linear")
        self.make_blocks()
        self.last = nn.Linear(self.width, self.maps * self.entries, bias=False)
        start_layer(self.last, "linear")

    def write(self, z: Tensor, length: Tensor | None) -> Tensor:
        """Map (n, width) to (n, steps, maps * entries)."""
        h = self.enter(z).unsqueeze(1) + places(self.steps, self.width, z)
        counted = None if length is None else counting(length, self.steps)
        out: Tensor = self.last(self.norm(self.through(h, counted)))
        return out
