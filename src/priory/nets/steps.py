"""What nets over the steps of a sequence share: which axis is time, and which steps count."""

from abc import abstractmethod
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from priory.distributions.padded import blanked
from priory.lookup import named
from priory.nets.base import Net
from priory.nets.layers import set_last
from priory.part import Shape

TIMES = {
    "first": "rows are (steps,) or (steps, features), as those with a column `length`",
    "last": "rows are (channels, steps), as signals are",
}


class StepsNet(Net):
    r"""A net over the steps of sequences, which may be padded behind their ends.

    .. math:: g(x, l) = g(x_{1:l}), \qquad f(z, l) = f(z)_{1:l}

    What stands behind an end has no effect, not even NaN: a padded sequence is read as the net of
    the same weights, cut to its steps, would read it alone.

    Args:
        time: Which axis of a row is time, "first" or "last".

    Raises:
        ValueError: There is no such axis.
    """

    time: str
    last: Any

    def __init__(self, time: str) -> None:
        super().__init__()
        named("time", time, TIMES)
        self.time = time

    def plan(self, shape: Shape, what: str) -> None:
        """Take down how many steps a row has, and how many features each.

        Args:
            shape: Of a row.
            what: The rows, for the message.

        Raises:
            ValueError: The rows are no sequences.
        """
        wanted = "(steps,) or (steps, features)" if self.time == "first" else "(channels, steps)"
        if not 1 <= len(shape) <= 2:
            kinds = {3: "images: use Conv and Deconv", 4: "image volumes, which no net here is for"}
            kind = kinds.get(len(shape), "no sequences")
            raise ValueError(
                f"{type(self).__name__} expected {what} {wanted}, got {shape}, {kind}; MLP reads "
                "rows of any shape"
            )
        if self.time == "last" and len(shape) == 2:
            shape = (shape[1], shape[0])
        self.steps, self.entries = shape[0], prod(shape[1:])
        self.turned = self.time == "last"

    def check_length(self, length: Tensor | None) -> None:
        """Raise a ValueError if there are lengths, and time is not the first axis."""
        if length is not None and self.turned:
            name = type(self).__name__
            raise ValueError(
                f"rows with a column 'length' have their steps first, and {name}(time='last') "
                "reads (channels, steps): take time='first'"
            )

    @abstractmethod
    def apply_steps(self, x: Tensor, length: Tensor | None) -> Tensor:
        """Map (n, *inputs), of sequences of some lengths (n,), to n outputs."""

    def apply_flat(self, x: Tensor) -> Tensor:
        """Map (n, *inputs) to n outputs, of full sequences."""
        return self.apply_steps(x, None)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Map (*batch, *inputs) to (*batch, *outputs).

        Args:
            x: Inputs.
            length: Steps of each sequence, that is read or made, (*batch); None where all are full.

        Raises:
            RuntimeError: The net is not built.
            ValueError: The last dims are not the shape that the net was built for, or time is the
                last axis of rows that have lengths.
        """
        if length is None:
            return super().forward(x)
        self.check_built()
        self.check_length(length)
        inputs, outputs = self.built_for
        cut = x.dim() - len(inputs)
        if cut < 0 or x.shape[cut:] != inputs:
            return super().forward(x)  # which says what is wrong
        lead = torch.broadcast_shapes(x.shape[:cut], length.shape)
        flat = x.expand(*lead, *inputs).reshape(-1, *inputs)
        out = self.apply_steps(flat, length.expand(lead).reshape(-1))
        return out.reshape(*lead, *outputs)

    @torch.no_grad()
    def temper(self, factor: float) -> None:
        """Scale the last layer's weights.

        Args:
            factor: On the weights as they were drawn.
        """
        self.last.weight.mul_(factor)


def check_sequences(shape: Shape) -> None:
    """Raise a ValueError unless rows of a shape are sequences, of which lengths may be counted."""
    if not 1 <= len(shape) <= 2:
        raise ValueError(
            f"a column 'length' counts the steps of sequences (steps,) or (steps, features), and "
            f"the rows are {shape}: call that column by another name"
        )


def along(net: Net, x: Tensor, length: Tensor | None) -> Tensor:
    """Run a net on sequences of some lengths (*batch), which a `StepsNet` alone looks at."""
    out: Tensor = net(x, length) if isinstance(net, StepsNet) else net(x)
    return out


def check_alone(net: Net, what: str) -> None:
    """Raise a ValueError if a net over steps would read something beside its sequence.

    Args:
        net: The net.
        what: Stands beside a row.
    """
    if isinstance(net, StepsNet):
        raise ValueError(
            f"{type(net).__name__} reads a sequence alone, and here {what} stands beside it: use "
            "mlp, which reads both as one vector"
        )


class StepsEncoder(StepsNet):
    """A net from sequences to any outputs; its `last` is a linear layer."""

    def read(self, x: Tensor, length: Tensor | None) -> Tensor:
        """Return rows (n, *inputs) as sequences (n, steps, features), 0 where no step counts."""
        x = x.mT if self.turned and x.dim() > 2 else x
        x = x.reshape(len(x), self.steps, self.entries)
        return x if length is None else blanked(x, length, 2)

    @abstractmethod
    def features(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Map (n, *inputs) to what the last layer reads, (n, features)."""

    def apply_steps(self, x: Tensor, length: Tensor | None) -> Tensor:
        """Map (n, *inputs) to (n, numel of outputs)."""
        out: Tensor = self.last(self.features(x, length))
        return out

    def set_bias(self, value: Tensor) -> None:
        """Set the last layer's bias to `value`, (*outputs)."""
        set_last(self.last, "linear", value)


class StepsDecoder(StepsNet):
    """A net from any inputs to sequences, or to several maps of one; it has a bias of its own."""

    bias: nn.Parameter

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the layers."""
        if len(outputs) < 2:
            raise ValueError(
                f"{type(self).__name__} expected outputs (maps, *row), got {outputs}: use MLP"
            )
        self.plan(outputs[1:], "rows")
        self.maps = outputs[0]
        self.make_layers(prod(inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    @abstractmethod
    def make_layers(self, width: int) -> None:
        """Make the layers for inputs of so many numbers."""

    @abstractmethod
    def write(self, z: Tensor, length: Tensor | None) -> Tensor:
        """Map (n, width) to (n, steps, maps * entries)."""

    def apply_steps(self, x: Tensor, length: Tensor | None) -> Tensor:
        """Map (n, *inputs) to (n, *outputs)."""
        out = self.write(x.flatten(1), length)
        out = out.reshape(len(x), self.steps, self.maps, self.entries).movedim(2, 1)
        out = out.mT if self.turned else out
        return out.reshape(-1, *self.bias.shape) + self.bias

    def set_bias(self, value: Tensor) -> None:
        """Set the output's own bias so that it says `value`, (*outputs)."""
        set_last(self, "linear", value)
