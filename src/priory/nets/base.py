"""What every net is: a map between arrays of fixed shapes, made once they are known."""

from abc import abstractmethod
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from priory.nets.one_hot import beside
from priory.part import Part, Shape


class LeakyReLU(nn.LeakyReLU):
    """The rectifier of slope 0.2 below zero, that GAN critics use (Radford et al., 2016)."""

    def __init__(self) -> None:
        super().__init__(0.2)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky-relu": nn.LeakyReLU,
    "leaky-relu-0.2": LeakyReLU,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
RECTIFIERS = ("elu", "gelu", "leaky-relu", "leaky-relu-0.2", "relu", "silu")


class Net(Part):
    """A map between arrays of fixed shapes that accepts any number of leading dims.

    The constructor takes configuration alone; `build` makes the parameters when the shapes are
    known. Each argument stays readable under its own name.

    Attributes:
        flat: Whether it reads an input as one vector, whatever its shape.
    """

    name: ClassVar[str]
    _kind = "net"
    flat = False

    @property
    def inputs(self) -> Shape | None:
        """The shape of one input, None before the net is built."""
        return None if self.built_for is None else self.built_for[0]

    @property
    def outputs(self) -> Shape | None:
        """The shape of one output, None before the net is built."""
        return None if self.built_for is None else self.built_for[1]

    def build(self, inputs: Shape, outputs: Shape) -> None:
        """Make the parameters; a second call with the same shapes does nothing.

        Args:
            inputs: Shape of one input.
            outputs: Shape of one output; () for a single score.

        Raises:
            ValueError: The net is already built for other shapes.
        """
        inputs, outputs = tuple(inputs), tuple(outputs)
        self.build_once((inputs, outputs), lambda: self.make(inputs, outputs))

    @abstractmethod
    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Make the parameters for inputs of shape `inputs` and outputs of shape `outputs`."""

    @abstractmethod
    def apply_flat(self, x: Tensor) -> Tensor:
        """Map (n, *inputs) to n outputs of any shape with the right number of elements."""

    def beside(self, x: Tensor, given: Tensor) -> Tensor:
        """Map vectors with other vectors beside them to (*batch, *outputs).

        Args:
            x: Vectors, (*batch, d); of fewer leading dims where many vectors stand beside each.
            given: What stands beside them, (*batch, inputs - d).

        Raises:
            RuntimeError: The net is not built.
            ValueError: It was built for another width.
        """
        return self(beside(x, given))

    def features(self, x: Tensor) -> Tensor:  # noqa: ARG002
        """Map (n, *inputs) to what the last layer reads, (n, features).

        Raises:
            ValueError: The net has no such layer.
        """
        raise ValueError(f"{type(self).__name__} has no hidden features to compare")

    def temper(self, factor: float) -> None:
        """Scale the last layer's weights; a net may have none that outputs are linear in."""

    def set_bias(self, value: Tensor) -> None:
        """Set what the output is where the features say nothing; a net may have no such bias.

        Args:
            value: The outputs to start from, (*outputs).
        """

    def forward(self, x: Tensor) -> Tensor:
        """Map (*batch, *inputs) to (*batch, *outputs).

        Raises:
            RuntimeError: The net is not built.
            ValueError: The last dims are not the shape that the net was built for.
        """
        self.check_built()
        inputs, outputs = self.built_for
        cut = x.dim() - len(inputs)
        if cut < 0 or x.shape[cut:] != inputs:
            raise ValueError(
                f"{type(self).__name__} expected inputs of shape (*batch, *{inputs}), got "
                f"{tuple(x.shape)}"
            )
        shape = (*x.shape[:cut], *outputs)
        out = self.apply_flat(x if cut == 1 else x.reshape(-1, *inputs))
        return out if out.shape == shape else out.reshape(shape)


class Wrapped(Net):
    """A user's own module in the place of a net.

    Args:
        module: Maps (n, *inputs) to n outputs with the right number of elements.

    Example:
        >>> net = Wrapped(nn.Linear(4, 6))
        >>> net.build((4,), (2, 3))
        >>> net(torch.zeros(5, 7, 4)).shape
        torch.Size([5, 7, 2, 3])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def make(self, inputs: Shape, outputs: Shape) -> None:
        """Try the module on zeros, so that a wrong size is an error before training.

        Raises:
            ValueError: The output has another number of elements than asked for.
        """
        like = next(self.module.parameters(), torch.zeros(()))
        training = self.module.training
        try:
            with torch.no_grad():
                zeros = torch.zeros(2, *inputs, dtype=like.dtype, device=like.device)
                shape = tuple(self.module.eval()(zeros).shape)
        finally:
            self.module.train(training)
        if prod(shape) != 2 * prod(outputs):
            raise ValueError(
                f"{type(self.module).__name__} must map (n, *{inputs}) to {prod(outputs)} numbers "
                f"each, shaped {outputs}; got {shape} for n = 2"
            )

    def apply_flat(self, x: Tensor) -> Tensor:
        """Run the module on one flat batch."""
        out: Tensor = self.module(x)
        return out


def as_net(module: nn.Module) -> Net:
    """Return a net as it is, and any other module wrapped as one.

    Raises:
        TypeError: It is no module at all.
    """
    if isinstance(module, Net):
        return module
    if isinstance(module, nn.Module):
        return Wrapped(module)
    raise TypeError(f"a net must be a torch.nn.Module, got {type(module).__name__}")


def start_layer(layer: nn.Module, activation: str) -> None:
    """Draw a layer's weights to suit what follows it, and sets its bias to zero.

    Kaiming uniform before a rectifier (He et al., 2015), else Xavier uniform (Glorot and Bengio,
    2010).

    Args:
        layer: A linear or convolutional layer.
        activation: Name of the activation that follows; "linear" for none.
    """
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)  # noqa: S101
    if activation in RECTIFIERS:
        nn.init.kaiming_uniform_(weight, nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(weight)
    if isinstance(bias, Tensor):
        nn.init.zeros_(bias)
