"""Critics that read several sites one by one: data with labels or with latents."""

from abc import abstractmethod
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from priory.lookup import positive
from priory.nets.base import start_layer
from priory.nets.layers import normed
from priory.nets.table import net_of
from priory.part import Part, Shape


class Critic(Part):
    """A map from samples to scores that is no map of one array to another.

    Like a `Net` it takes configuration alone, and makes its parameters when the shapes are known.

    Attributes:
        separate: Whether it reads the sites one by one, rather than joined into one vector.
    """

    name: ClassVar[str]
    _kind, _owner = "critic", "objective"
    separate = True

    @property
    def inputs(self) -> tuple[Any, ...] | None:
        """What it was built for: a shape for each site if `separate`, else one shape."""
        return None if self.built_for is None else self.built_for[0]

    def build(self, inputs: tuple[Any, ...], outputs: Shape = ()) -> None:
        """Make the parameters; a second call with the same shapes does nothing.

        Args:
            inputs: Shape of one sample; of each site's part of one, in a tuple, if `separate`.
            outputs: Shape of a score: ().

        Raises:
            ValueError: The critic is built for other shapes already, or can't read these.
        """
        made = inputs if self.separate else (inputs,)
        self.build_once((inputs, outputs), lambda: self.make(*made))

    @abstractmethod
    def make(self, *inputs: Shape) -> None:
        """Make the parameters for arrays of these shapes."""


class Projection(Critic):
    r"""A critic of data given their labels, by an inner product of features and class embedding.

    .. math:: C(x, y) = \langle w + V y, \phi(x) \rangle + b

    Miyato and Koyama, 2018, cGANs with projection discriminator. To be given two sites: the data,
    then the label, one-hot.

    Args:
        features: From a datum to phi(x), before a leaky ReLU; a net, any module, or a name.
        width: Number of features.
        spectral: Whether to divide w and V by their largest singular values; the net has an option
            of its own.

    Raises:
        ValueError: The width isn't positive, or the sites aren't two.

    Example:
        >>> critic = Projection(width=8)
        >>> critic.build(((1, 8, 8), (10,)))
        >>> critic(torch.zeros(5, 1, 8, 8), torch.eye(10)[:5]).shape
        torch.Size([5])
    """

    name = "projection"

    def __init__(
        self, features: nn.Module | str = "mlp", width: int = 128, spectral: bool = False
    ) -> None:
        super().__init__()
        self.features = net_of(features)
        self.width = positive("width", width)
        self.spectral = spectral

    def make(self, *inputs: Shape) -> None:
        """Make the net, the embedding and the last layer."""
        if len(inputs) != 2:
            raise ValueError(
                f"Projection reads two sites, the data and their label, got {len(inputs)}"
            )
        self.features.build(inputs[0], (self.width,))
        embedding = nn.Linear(prod(inputs[1]), self.width, bias=False)
        last = nn.Linear(self.width, 1)
        for layer in (embedding, last):
            start_layer(layer, "linear")
        self.embedding, self.last = normed(embedding, self.spectral), normed(last, self.spectral)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Score data (n, *shape) with their labels (n, classes), (n,)."""
        features = leaky_relu(self.features(x), 0.2)
        own: Tensor = self.last(features).squeeze(-1)
        return own + (self.embedding(y.flatten(1)) * features).sum(-1)


class Joint(Critic):
    """A critic of a datum with vectors: features of the first site, joined with all others.

    For bidirectional GANs on images (Donahue, Krahenbuhl and Darrell, 2017, Adversarial feature
    learning; Dumoulin et al., 2017), whose critic reads x and z.

    Args:
        features: From the first site to features; a net, any module, or a name.
        head: From the features and the other sites, joined, to the score.
        width: Number of features.

    Raises:
        ValueError: The width isn't positive, or there is one site only.

    Example:
        >>> critic = Joint("conv", width=8)
        >>> critic.build(((1, 8, 8), (3,)))
        >>> critic(torch.zeros(5, 1, 8, 8), torch.zeros(5, 3)).shape
        torch.Size([5])
    """

    name = "joint"

    def __init__(
        self, features: nn.Module | str = "conv", head: nn.Module | str = "mlp", width: int = 128
    ) -> None:
        super().__init__()
        self.features = net_of(features)
        self.head = net_of(head)
        self.width = positive("width", width)

    def make(self, *inputs: Shape) -> None:
        """Make both nets."""
        _several(self, inputs)
        self.features.build(inputs[0], (self.width,))
        self.head.build((self.width + sum(map(prod, inputs[1:])),), ())

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Score data (n, *shape) with the other sites' values, (n, *shape) each; (n,)."""
        features = leaky_relu(self.features(x), 0.2)
        out: Tensor = self.head(torch.cat([features, *(o.flatten(1) for o in others)], 1))
        return out


class Planes(Critic):
    """A critic of an image with vectors, each of whose coordinates is a further constant channel.

    The way of conditional convolutional GANs (after Mirza and Osindero, 2014, Conditional
    generative adversarial nets).

    Args:
        net: From the image with all planes to the score; a net, any module, or a name.

    Raises:
        ValueError: There is one site only, or the first has no images.

    Example:
        >>> critic = Planes("conv")
        >>> critic.build(((1, 8, 8), (10,)))
        >>> critic(torch.zeros(5, 1, 8, 8), torch.eye(10)[:5]).shape
        torch.Size([5])
    """

    name = "planes"

    def __init__(self, net: nn.Module | str = "conv") -> None:
        super().__init__()
        self.net = net_of(net)

    def make(self, *inputs: Shape) -> None:
        """Make the net."""
        _several(self, inputs)
        if len(inputs[0]) != 3:
            raise ValueError(
                f"Planes expected images (channels, height, width) first, got {inputs[0]}: use "
                "Projection or Joint"
            )
        channels, *sides = inputs[0]
        self.net.build((channels + sum(map(prod, inputs[1:])), *sides), ())

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Score images (n, channels, height, width) with the other sites' values; (n,)."""
        planes = [o.flatten(1)[..., None, None].expand(-1, -1, *x.shape[-2:]) for o in others]
        out: Tensor = self.net(torch.cat([x, *planes], 1))
        return out


def _several(critic: nn.Module, inputs: tuple[Shape, ...]) -> None:
    if len(inputs) < 2:
        raise ValueError(f"{type(critic).__name__} reads two sites or more, got {len(inputs)}")
