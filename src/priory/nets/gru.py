"""Recurrent nets over the steps of a sequence."""

from math import prod

import torch
from torch import Tensor, nn

from priory.lookup import positive
from priory.nets.base import start_layer
from priory.nets.steps import StepsDecoder, StepsEncoder
from priory.part import Shape


def _backwards(x: Tensor, length: Tensor | None) -> Tensor:
    """Return sequences (n, steps, d) from their ends on; what lies behind an end stays there."""
    if length is None:
        return x.flip(1)
    place = torch.arange(x.shape[1], device=x.device)
    turned = length[:, None] - 1 - place
    index = torch.where(turned >= 0, turned, place)
    return x.gather(1, index.unsqueeze(-1).expand_as(x))


class GRU(StepsEncoder):
    r"""Gated recurrent units along a sequence, in both directions: a sequence to any outputs.

    .. math:: h_t = (1 - u_t) \odot n_t + u_t \odot h_{t-1}

    with the update u and the candidate n of Cho et al., 2014, Learning phrase representations using
    RNN encoder-decoder for statistical machine translation. A linear layer reads the states of the
    last layer at the last step that counts, and at the first one of the way back.

    Args:
        hidden: Number of units, of each direction.
        layers: Number of layers.
        both: Whether the sequence is read backwards too.
        time: Which axis of a row is time, "first" or "last".

    Raises:
        ValueError: A number isn't positive, an option is out of range, or the inputs are no
            sequences.

    Example:
        >>> net = GRU(16)
        >>> net.build((50, 3), (2, 5))
        >>> net(torch.zeros(4, 7, 50, 3)).shape
        torch.Size([4, 7, 2, 5])
    """

    name = "gru"

    def __init__(
        self, hidden: int = 64, layers: int = 1, both: bool = True, time: str = "first"
    ) -> None:
        super().__init__(time)
        self.hidden = positive("hidden", hidden)
        self.layers = positive("layers", layers)
        self.both = both

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the layers."""
        self.plan(inputs, "sequences")
        ways = 2 if self.both else 1
        widths = [self.entries, *[ways * self.hidden] * (self.layers - 1)]
        self.ahead = nn.ModuleList(nn.GRU(w, self.hidden, batch_first=True) for w in widths)
        back = widths if self.both else []
        self.back = nn.ModuleList(nn.GRU(w, self.hidden, batch_first=True) for w in back)
        self.last = nn.Linear(ways * self.hidden, prod(outputs))
        start_layer(self.last, "linear")

    def features(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Map (n, *inputs) to what the last layer reads, (n, features)."""
        h, ways = self.read(x, length), []
        for number in range(self.layers):
            ways = [self.ahead[number](h)[0]]
            if self.both:
                ways.append(self.back[number](_backwards(h, length))[0])
                h = torch.cat([ways[0], _backwards(ways[1], length)], -1)
            else:
                h = ways[0]
        if length is None:
            return torch.cat([way[:, -1] for way in ways], -1)
        end = (length - 1)[:, None, None].expand(-1, 1, self.hidden)
        return torch.cat([way.gather(1, end).squeeze(1) for way in ways], -1)


class GRUDecoder(StepsDecoder):
    r"""Gated recurrent units that are driven by one vector: any inputs to a sequence.

    .. math:: h_0 = \tanh(W z + b), \quad h_t = \mathrm{GRU}(z, h_{t-1}), \quad f_t = V h_t + c_t

    Given z the steps are independent: no step is read by the next, so that what is drawn is drawn
    at once.

    Args:
        hidden: Number of units.
        layers: Number of layers.
        time: Which axis of a row is time, "first" or "last".

    Raises:
        ValueError: A number isn't positive, an option is out of range, or the outputs are no
            sequences.

    Example:
        >>> net = GRUDecoder(16)
        >>> net.build((5,), (1, 50, 3))
        >>> net(torch.zeros(4, 7, 5)).shape
        torch.Size([4, 7, 1, 50, 3])
    """

    name = "gru-decoder"

    def __init__(self, hidden: int = 64, layers: int = 1, time: str = "first") -> None:
        super().__init__(time)
        self.hidden = positive("hidden", hidden)
        self.layers = positive("layers", layers)

    def make_layers(self, width: int) -> None:
        """Make the layers for inputs of so many numbers."""
        self.start = nn.Linear(width, self.layers * self.hidden)
        self.gru = nn.GRU(width, self.hidden, self.layers, batch_first=True)
        self.last = nn.Linear(self.hidden, self.maps * self.entries, bias=False)
        start_layer(self.start, "tanh")
        start_layer(self.last, "linear")

    def write(self, z: Tensor, length: Tensor | None) -> Tensor:  # noqa: ARG002
        """Map (n, width) to (n, steps, maps * entries)."""
        first = self.start(z).tanh().unflatten(1, (self.layers, self.hidden)).movedim(1, 0)
        driven = z.unsqueeze(1).expand(-1, self.steps, -1).contiguous()
        out: Tensor = self.last(self.gru(driven, first.contiguous())[0])
        return out
