"""What every net with a time is: a map of a noisy datum, how noisy it is, and a vector."""

from __future__ import annotations

import math
from abc import abstractmethod
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from priory.part import Part, Shape

_ROWS = 1000  # at a time where no gradient is wanted
_FASTEST, _SLOWEST = 1000.0, 0.1  # radians over the whole time


class TimedNet(Part):
    r"""A map from a state of a chain, its time and a given vector to maps of the datum's shape.

    .. math:: y = f(z, t, c), \qquad 0 \le t \le 1

    The constructor takes configuration alone; `build` makes the parameters when the shapes are
    known. The last layer's weights are zero at the start: then the output is zero.
    """

    name: ClassVar[str]
    _kind = "net"

    def build(self, shape: Shape, params: int, given: int = 0) -> None:
        """Make the parameters; a second call with the same sizes does nothing.

        Args:
            shape: Of a datum.
            params: Number of maps.
            given: Number of coordinates of the given vector.

        Raises:
            ValueError: The net is already built for others, or does not suit the shape.
        """
        shape = tuple(shape)
        self.build_once((shape, params, given), lambda: self.make(shape, params, given))

    @abstractmethod
    def make(self, shape: Shape, params: int, given: int) -> None:
        """Make the layers."""

    def apply_flat(self, z: Tensor, t: Tensor, given: Tensor) -> Tensor:
        """Map states (n, *shape), times (n,), vectors (n, given) to maps (n, params, *shape).

        A net of one's own has this, or `apply_times`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no apply_flat and no apply_times")

    def apply_times(self, z: Tensor, t: Tensor, given: Tensor) -> Tensor:
        """Map states (n, m, *shape) of m times (m,) to maps (n, m, params, *shape).

        What a net makes of a time is the same for all n rows, and need be made only once.

        Args:
            z: States.
            t: Times.
            given: Vectors of these, (m, given).
        """
        n, m = z.shape[:2]
        out = self.apply_flat(z.flatten(0, 1), t.repeat(n), given.repeat(n, 1))
        return out.reshape(n, m, *out.shape[1:])

    def forward(self, z: Tensor, t: Tensor, given: Tensor | None = None) -> Tensor:
        """Map states (*batch, *shape) and their times (*batch) to maps (*batch, params, *shape).

        Args:
            z: States.
            t: Times from 0, the datum, to 1, noise; broadcast with the batch.
            given: Vectors, (*batch, given); broadcast too.

        Raises:
            RuntimeError: The net is not built.
            ValueError: A state's shape or a vector's width isn't what the net was built for.
        """
        self.check_built()
        shape, params, width = self.built_for
        cut = z.dim() - len(shape)
        given = z.new_zeros(0) if given is None else given
        if cut < 0 or z.shape[cut:] != shape or given.shape[-1] != width:
            raise ValueError(
                f"{type(self).__name__} expected states of shape (*batch, *{shape}) and vectors of "
                f"{width} numbers, got {tuple(z.shape)} and {tuple(given.shape)}"
            )
        timed = torch.broadcast_shapes(t.shape, given.shape[:-1])
        lead = torch.broadcast_shapes(z.shape[:cut], timed)
        own = timed
        while own and own[0] == 1:
            own = own[1:]
        if lead[len(lead) - len(own) :] != own:
            timed = own = lead  # no times that all rows share follow one another
        n, m = prod(lead[: len(lead) - len(own)]), prod(own)
        z = z.expand(*lead, *shape).reshape(n, m, *shape)
        t = t.to(z.dtype).expand(timed).reshape(m)
        given = given.expand(*timed, width).reshape(m, width)
        # An evaluation's blocks are sized by the states, and the hidden layers are much larger.
        size = max(n * m if torch.is_grad_enabled() else _ROWS, 1)
        out = [
            _joined([self.apply_times(*block) for block in blocks], 1)
            for rows in z.split(max(size // max(m, 1), 1))
            for blocks in [zip(rows.split(size, 1), t.split(size), given.split(size), strict=True)]
        ]
        return _joined(out, 0).reshape(*lead, params, *shape)


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    """Return parts as one tensor, without a copy where there is one part."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


class TimeEmbedding(nn.Module):
    r"""A vector of a time, and of a given vector beside it.

    .. math:: e = W_2 f(W_1 (\sin \omega_i t, \cos \omega_i t, c)), \qquad
        \omega_i \text{ spread evenly by their logarithms}

    Vaswani et al., 2017, Attention is all you need; here from 0.1 to 1000 radians.

    Args:
        width: Number of coordinates.
        given: Number of coordinates of the given vector.
    """

    waves: Tensor

    def __init__(self, width: int, given: int = 0) -> None:
        super().__init__()
        span = torch.linspace(math.log(_SLOWEST), math.log(_FASTEST), 16).exp()
        self.register_buffer("waves", span, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(2 * len(span) + given, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, t: Tensor, given: Tensor) -> Tensor:
        """Map times (n,) and vectors (n, given) to vectors (n, width)."""
        phase = t.unsqueeze(-1) * self.waves
        out: Tensor = self.layers(torch.cat([phase.sin(), phase.cos(), given], -1))
        return out


def silent(layer: nn.Module) -> nn.Module:
    """Return a layer whose weights and biases are zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
