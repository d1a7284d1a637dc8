"""Convolutional nets over time, that halve or double a signal at every stage."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from priory.distributions.padded import blanked
from priory.lookup import named, positive
from priory.nets.base import ACTIVATIONS, start_layer
from priory.nets.conv import sides
from priory.nets.layers import check_dropout, hidden_layer
from priory.nets.steps import StepsDecoder, StepsEncoder
from priory.part import Shape


def _checked(channels: Sequence[int], hidden: int, activation: str) -> tuple[int, ...]:
    """Return the channels, once they and what goes with them are found to be sound."""
    if not channels or any(width < 1 for width in channels):
        raise ValueError(f"channels must be positive and at least one, got {tuple(channels)}")
    positive("hidden", hidden)
    named("activation", activation, ACTIVATIONS)
    return tuple(channels)


def _halved(length: Tensor, times: int = 1) -> Tensor:
    """Return lengths after some halvings, each rounded up."""
    for _ in range(times):
        length = (length + 1) // 2
    return length


def _masked(h: Tensor, length: Tensor | None) -> Tensor:
    """Return channels (n, width, steps) with 0 behind the ends."""
    return h if length is None else blanked(h.mT, length, 2).mT


class Conv1d(StepsEncoder):
    """Strided convolutions over time, then one hidden and one linear layer, of a signal.

    The one-dimensional `Conv`, for signals of any length. Of rows with a column `length`, each
    layer's outputs are 0 behind the end.

    Args:
        channels: Channels after each halving of the steps.
        hidden: Width of the fully connected layer.
        activation: Name of the activation after each layer but the last.
        time: Which axis of a row is time: "last" of signals (channels, steps), "first" of sequences
            (steps, features), such as those with a column `length`.
        dropout: Probability that a hidden output is left out in training.

    Raises:
        ValueError: A width isn't positive, an option is out of range, or the inputs are no signals.

    Example:
        >>> net = Conv1d(channels=(8, 16))
        >>> net.build((3, 50), (2, 5))
        >>> net(torch.zeros(4, 7, 3, 50)).shape
        torch.Size([4, 7, 2, 5])
    """

    name = "conv1d"

    def __init__(
        self,
        channels: Sequence[int] = (32, 64),
        hidden: int = 256,
        activation: str = "relu",
        time: str = "last",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(time)
        self.channels = _checked(channels, hidden, activation)
        self.hidden = hidden
        self.activation = activation
        self.dropout = check_dropout(dropout)

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the layers."""
        self.plan(inputs, "signals")
        width, stages = self.entries, []
        for size in self.channels:
            stages.append(self._stage(nn.Conv1d(width, size, 3, stride=2, padding=1)))
            width = size
        self.stages = nn.ModuleList(stages)
        corner = width * sides(self.steps, len(self.channels))[-1]
        self.joined = self._stage(nn.Linear(corner, self.hidden))
        self.last = nn.Linear(self.hidden, prod(outputs))
        start_layer(self.last, "linear")

    def _stage(self, layer: nn.Module) -> nn.Sequential:
        start_layer(layer, self.activation)
        return nn.Sequential(*hidden_layer(layer, self.activation, dropout=self.dropout))

    def features(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Map (n, *inputs) to what the last layer reads, (n, features)."""
        h = self.read(x, length).mT
        for stage in self.stages:
            length = None if length is None else _halved(length)
            h = _masked(stage(h), length)
        out: Tensor = self.joined(h.flatten(1))
        return out


class Deconv1d(StepsDecoder):
    """The mirror image of `Conv1d`: any inputs to a signal, or to several maps of one.

    Args:
        channels: Channels before each doubling of the steps, counted from the signal's end, so that
            the same tuple serves an encoder and its decoder.
        hidden: Width of the fully connected layer.
        activation: Name of the activation after each layer but the last.
        time: Which axis of a row is time, as for `Conv1d`.

    Raises:
        ValueError: A width isn't positive, an option is out of range, or the outputs are no
            signals.

    Example:
        >>> net = Deconv1d(channels=(8, 16))
        >>> net.build((5,), (1, 3, 50))
        >>> net(torch.zeros(4, 7, 5)).shape
        torch.Size([4, 7, 1, 3, 50])
    """

    name = "deconv1d"

    def __init__(
        self,
        channels: Sequence[int] = (32, 64),
        hidden: int = 256,
        activation: str = "relu",
        time: str = "last",
    ) -> None:
        super().__init__(time)
        self.channels = _checked(channels, hidden, activation)
        self.hidden = hidden
        self.activation = activation

    def make_layers(self, width: int) -> None:
        """Make the layers for inputs of so many numbers."""
        lengths = sides(self.steps, len(self.channels))
        widths = [*reversed(self.channels), self.maps * self.entries]
        joined, spread = (
            nn.Linear(width, self.hidden),
            nn.Linear(self.hidden, widths[0] * lengths[-1]),
        )
        self.joined, self.spread = self._stage(joined), self._stage(spread)
        self.corner = (widths[0], lengths[-1])
        stages = []
        for i, above in enumerate(reversed(range(len(self.channels)))):
            # A doubled length is one short where the wanted one is even.
            extra = 1 - lengths[above] % 2
            layer = nn.ConvTranspose1d(
                widths[i], widths[i + 1], 3, 2, padding=1, output_padding=extra, bias=above > 0
            )
            stages.append(self._stage(layer) if above else layer)
        start_layer(stages[-1], "linear")
        self.stages = nn.ModuleList(stages[:-1])
        self.last = stages[-1]

    def _stage(self, layer: nn.Module) -> nn.Sequential:
        start_layer(layer, self.activation)
        return nn.Sequential(*hidden_layer(layer, self.activation))

    def write(self, z: Tensor, length: Tensor | None) -> Tensor:
        """Map (n, width) to (n, steps, maps * entries)."""
        h = self.spread(self.joined(z)).unflatten(1, self.corner)
        for number, stage in enumerate((*self.stages, self.last)):
            left = len(self.stages) + 1 - number
            h = stage(_masked(h, None if length is None else _halved(length, left)))
        out: Tensor = h.mT
        return out
