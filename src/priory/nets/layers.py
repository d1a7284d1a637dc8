"""What stands between a net's layers: normalisation, dropout, noise, spectral norm, the range."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import normalize

from priory.lookup import named
from priory.nets.base import ACTIVATIONS

_NORMS: dict[type[nn.Module], Callable[[int], nn.Module]] = {
    nn.Linear: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.ConvTranspose2d: nn.BatchNorm2d,
}
_EDGE = 0.01  # a starting value is kept this far from where its activation would be flat
_FIRST = 30  # power iterations before training


class Spectral(nn.Module):
    r"""A layer with its weight divided by its largest singular value, so that it is 1-Lipschitz.

    .. math:: W / \sigma(W), \quad \sigma(W) \approx u^T W v

    Miyato, Kataoka, Koyama and Yoshida, 2018, Spectral normalization for generative adversarial
    networks. The singular vectors u and v are buffers, moved by one power iteration at each call in
    training mode; a convolution's weight is taken as a matrix of (out, in x height x width), as
    there.

    Args:
        layer: A layer with a weight whose first dimension is its outputs'.
    """

    u: Tensor
    v: Tensor

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        matrix = self.matrix.detach()
        v = normalize(torch.randn_like(matrix[0]), dim=0)
        u = normalize(matrix @ v, dim=0)
        for _ in range(_FIRST):
            v = normalize(matrix.T @ u, dim=0)
            u = normalize(matrix @ v, dim=0)
        self.register_buffer("u", u)
        self.register_buffer("v", v)

    @property
    def matrix(self) -> Tensor:
        """The weight before the division, (outputs, rest)."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)  # noqa: S101
        return weight.flatten(1)

    @property
    def bias(self) -> Tensor:
        """The layer's own bias."""
        bias = self.layer.bias
        assert isinstance(bias, Tensor)  # noqa: S101
        return bias

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer with the divided weight."""
        matrix = self.matrix
        if self.training:
            with torch.no_grad():
                v = normalize(matrix.T @ self.u, dim=0)
                self.v.copy_(v)
                self.u.copy_(normalize(matrix @ v, dim=0))
        u, v = self.u.clone(), self.v.clone()  # a later call moves them before the backward pass
        weight = matrix / (u @ (matrix @ v))
        divided = {"weight": weight.view_as(self.layer.weight)}  # type: ignore[arg-type]
        out: Tensor = functional_call(self.layer, divided, (x,))
        return out


def normed(layer: nn.Module, spectral: bool) -> nn.Module:
    """Return a layer, spectrally normalised if so wished."""
    return Spectral(layer) if spectral else layer


def hidden_layer(
    layer: nn.Module,
    activation: str,
    *,
    batch_norm: bool = False,
    dropout: float = 0.0,
    spectral: bool = False,
) -> list[nn.Module]:
    """Return a hidden layer and what follows it: batch norm, activation, dropout.

    Args:
        layer: Linear or convolutional, with its weights drawn.
        activation: Name of the activation; "gate" halves the outputs and gates one by the other.
        batch_norm: Whether to normalise over the batch (Ioffe and Szegedy, 2015).
        dropout: Probability that an output is left out (Srivastava et al., 2014).
        spectral: Whether to divide the weight by its largest singular value.
    """
    layers = [normed(layer, spectral)]
    if batch_norm:
        width = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        assert isinstance(width, int)  # noqa: S101
        layers.append(_NORMS[type(layer)](width))
    layers.append(nn.GLU(1) if activation == "gate" else ACTIVATIONS[activation]())
    return [*layers, nn.Dropout(dropout)] if dropout else layers


def check_dropout(dropout: float) -> float:
    """Return a probability of dropout.

    Raises:
        ValueError: It isn't at least 0 and less than 1.
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and less than 1, got {dropout}")
    return dropout


def check_noise(noise: float) -> float:
    """Return a standard deviation of noise.

    Raises:
        ValueError: It is negative.
    """
    if not noise >= 0:
        raise ValueError(f"noise must not be negative, got {noise}")
    return noise


def noisy(x: Tensor, noise: float) -> Tensor:
    """Return what was given with normal noise of a standard deviation."""
    return x + noise * torch.randn_like(x) if noise else x


def _same(x: Tensor) -> Tensor:
    return x


def _logit(x: Tensor) -> Tensor:
    return torch.logit(x, eps=_EDGE)


def _atanh(x: Tensor) -> Tensor:
    return torch.atanh(x.clamp(_EDGE - 1, 1 - _EDGE))


Map = Callable[[Tensor], Tensor]
OUTPUTS: dict[str, tuple[Map, Map]] = {
    "linear": (_same, _same),
    "sigmoid": (torch.sigmoid, _logit),
    "tanh": (torch.tanh, _atanh),
}


def ranged(output: str, x: Tensor) -> Tensor:
    """Bring a last layer's outputs into their range: "linear", "sigmoid" [0, 1], "tanh" [-1, 1].

    Raises:
        ValueError: There is no such range.
    """
    return named("output", output, OUTPUTS)[0](x)


def set_last(last: nn.Module, output: str, value: Tensor) -> None:
    """Set a last layer's bias to what makes its outputs `value`, or near it at a range's edges.

    Args:
        last: The layer.
        output: Range of its outputs.
        value: The outputs to start from, any shape of as many numbers as the bias has.
    """
    bias = last.bias
    assert isinstance(bias, Tensor)  # noqa: S101
    with torch.no_grad():
        bias.copy_(named("output", output, OUTPUTS)[1](value).reshape(bias.shape))
