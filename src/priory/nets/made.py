"""The masked autoencoder: fully connected layers whose outputs read the coordinates before them."""

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from priory.lookup import named
from priory.nets.autoregressive import AutoregressiveNet
from priory.nets.base import ACTIVATIONS, start_layer
from priory.nets.layers import check_dropout
from priory.part import Shape


class Masked(nn.Linear):
    r"""A linear layer of which a mask leaves connections out.

    .. math:: y = (W \odot M) x + b

    Args:
        mask: M, true where an output reads an input, (outputs, inputs).
        bias: Whether there is a b.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, bias: bool = True) -> None:
        super().__init__(mask.shape[1], mask.shape[0], bias)
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs) to (n, outputs)."""
        return linear(x, self.weight * self.mask, self.bias)


class MADE(AutoregressiveNet):
    r"""The masked autoencoder for distribution estimation, with one mask and the data's own order.

    .. math:: h_{l+1} = f((W_l \odot M_l) h_l + V_l c + b_l), \qquad
        \theta = (W \odot M) (h, x) + V c + b

    Germain, Gregor, Murray and Larochelle, 2015, MADE: masked autoencoder for distribution
    estimation. Coordinate i has the degree i, and hidden units have degrees spread evenly from 1 to
    d - 1, or from 0 where a vector c is given; a hidden unit reads degrees up to its own, an output
    those below its own. Outputs read the data directly too, so that they depend on every coordinate
    before them whatever the widths; c enters every layer unmasked. Without hidden layers it is the
    fully visible belief net. An image is read row by row, its channels one after another.

    Args:
        hidden: Width of each hidden layer.
        activation: Name of the activation after each of them.
        dropout: Probability that a hidden output is left out in training.

    Raises:
        ValueError: A width isn't positive, there is no such activation, or dropout is out of range.

    Example:
        >>> net = MADE(hidden=(32,))
        >>> net.build((6,), params=1, given=2)
        >>> net(torch.zeros(3, 7, 6), torch.zeros(7, 2)).shape
        torch.Size([3, 7, 1, 6])
    """

    name = "made"

    def __init__(
        self, hidden: Sequence[int] = (200, 200), activation: str = "relu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden widths must be positive, got {tuple(hidden)}")
        named("activation", activation, ACTIVATIONS)
        self.hidden = tuple(hidden)
        self.activation = activation
        self.dropout = check_dropout(dropout)

    @property
    def places(self) -> int:
        """How many coordinates a datum has."""
        self.check_built()
        return prod(self.built_for[0])

    def make(self, shape: Shape, params: int, given: int) -> None:
        """Make the masks and the layers, the last ones at zero."""
        d = prod(shape)
        own = torch.arange(1, d + 1)
        least = 0 if given or d == 1 else 1
        below, layers = own, []
        for width in self.hidden:
            degrees = least + torch.arange(width) * (d - least) // width
            layers.append(Masked(degrees[:, None] >= below))
            start_layer(layers[-1], self.activation)
            below = degrees
        self.layers = nn.ModuleList(layers)
        after = own.repeat(params)[:, None]
        self.last = Masked(after > (torch.cat([below, own]) if layers else own), bias=False)
        widths = [*self.hidden, params * d] if given else []
        self.given = nn.ModuleList(nn.Linear(given, width, bias=False) for width in widths)
        for layer in self.given:
            start_layer(layer, "linear")
        for layer in (self.last, *self.given[-1:]):
            nn.init.zeros_(layer.weight)

    def apply_flat(self, x: Tensor, given: Tensor) -> Tensor:
        """Map data (n, *shape) and vectors (n, given) to parameters (n, params, *shape)."""
        x = x.reshape(len(x), -1)
        activation = ACTIVATIONS[self.activation]()
        shifts = [layer(given) for layer in self.given] or [0.0] * (len(self.layers) + 1)
        h = x
        for layer, shift in zip(self.layers, shifts[:-1], strict=True):
            h = dropout(activation(layer(h) + shift), self.dropout, self.training)
        out = self.last(torch.cat([h, x], 1) if self.layers else x) + shifts[-1]
        return out.reshape(-1, *self.bias.shape) + self.bias

    def walk(self, seen: Tensor, given: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield the coordinates one by one, with the parameters of all."""
        for i in range(self.places):
            yield slice(i, i + 1), self.apply_flat(seen, given)
