"""Flows of vectors, with maps of zuko's."""

from __future__ import annotations

import math
from functools import partial
from math import ceil
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from priory.distributions.flow import zuko_flows
from priory.lookup import positive
from priory.nets.flow import FlowNet


class VectorFlow(FlowNet):
    """A flow of maps whose parameters a net reads from other coordinates; data are laid flat.

    The nets' last layers start at zero, and so the flow at the identity. Needs the extra `flows`.

    Args:
        transforms: Number of maps.
        hidden: Widths of the hidden layers of each map's net.

    Raises:
        ValueError: A number isn't positive.
        ImportError: At the build, zuko isn't installed.
    """

    couples: ClassVar[bool] = False  # half of the coordinates with the others

    def __init__(self, transforms: int = 5, hidden: tuple[int, ...] = (64, 64)) -> None:
        super().__init__()
        self.transforms = positive("transforms", transforms)
        self.hidden = tuple(positive("hidden", width) for width in hidden)

    def options(self) -> dict[str, Any]:
        """Return which map a coordinate takes, where it isn't affine, and how many parameters."""
        return {}

    def make(self, x: Tensor) -> None:
        """Make the maps' nets.

        Raises:
            ValueError: There is one coordinate, and none to couple it with.
        """
        d = x[0].numel()
        if d < 2 and self.couples:
            raise ValueError(f"flow {self.name!r} couples several coordinates, got 1: use 'nsf'")
        flows = zuko_flows(f"{self.name} flow")
        self.maps = nn.ModuleList()
        for t in range(self.transforms):
            options = {"hidden_features": self.hidden, **self.options()}
            if d > 1:  # one coordinate has no order
                options |= {"order": self._order(d, t), "passes": 2 if self.couples else None}
            self.maps.append(flows.MaskedAutoregressiveTransform(d, **options))
        for f in self.maps:
            last: Any = f.hyper[-1] if d > 1 else f  # type: ignore[index]
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def _order(self, d: int, t: int) -> Tensor:
        """Return the places at which map t takes the coordinates; every second turns the order."""
        place = torch.arange(d)
        if self.couples:  # the even ones first, then the odd ones, each all at once
            place = place % 2 * ceil(d / 2)
        return place.amax() - place if t % 2 else place

    def apply_flat(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data (n, *shape) to noise and log |det| of the Jacobian, (n,)."""
        y = x.flatten(1) if x.dim() > 1 else x.unsqueeze(-1)
        slopes = torch.zeros_like(y[:, 0])
        for f in self.maps:
            y, slope = f().call_and_ladj(y)
            slopes = slopes + slope
        return y, slopes

    def invert_flat(self, noise: Tensor) -> Tensor:
        """Map noise (n, *shape) to data."""
        y = noise.flatten(1) if noise.dim() > 1 else noise.unsqueeze(-1)
        for f in reversed(self.maps):
            y = f().inv(y)
        return y


class NICE(VectorFlow):
    r"""Additive coupling: half of the coordinates shift the others; at the end each has a scale.

    .. math:: y_a = x_a + c, \quad y_b = x_b + m(x_a); \qquad z = e^{s} y

    Every map keeps volumes, so that the log determinant is :math:`\sum_i s_i` for every datum. The
    halves change places from map to map. Dinh, Krueger and Bengio, 2015, NICE: non-linear
    independent components estimation.

    Args:
        transforms: Number of maps.
        hidden: Widths of the hidden layers of each map's net.

    Example:
        >>> flow = NICE(2, (8,))
        >>> flow.build(torch.randn(10, 4))
        >>> flow(torch.randn(3, 4))[1].detach()
        tensor([0., 0., 0.])
    """

    name = "nice"
    couples = True

    def options(self) -> dict[str, Any]:
        """Return shifts alone."""
        from zuko.transforms import AdditiveTransform

        return {"univariate": AdditiveTransform, "shapes": [()]}

    def make(self, x: Tensor) -> None:
        """Make the maps' nets and the scale."""
        super().make(x)
        self.log_scale = nn.Parameter(torch.zeros(x[0].numel()))

    def apply_flat(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data (n, *shape) to noise and log |det| of the Jacobian, (n,)."""
        y, slopes = super().apply_flat(x)
        return y * self.log_scale.exp(), slopes + self.log_scale.sum()

    def invert_flat(self, noise: Tensor) -> Tensor:
        """Map noise (n, *shape) to data."""
        return super().invert_flat(noise.flatten(1) * (-self.log_scale).exp())


class AffineFlow(VectorFlow):
    """A flow whose maps shift and scale.

    Args:
        transforms: Number of maps.
        hidden: Widths of the hidden layers of each map's net.
        steepest: The scale that no map exceeds, in either direction.

    Raises:
        ValueError: A number isn't positive, or the scale isn't above 1.
        ImportError: At the build, zuko isn't installed.
    """

    def __init__(
        self, transforms: int = 5, hidden: tuple[int, ...] = (64, 64), steepest: float = 1000.0
    ) -> None:
        super().__init__(transforms, hidden)
        if not 1 < steepest < math.inf:
            raise ValueError(f"steepest must be above 1 and finite, got {steepest}")
        self.steepest = steepest

    def options(self) -> dict[str, Any]:
        """Return affine maps whose scales are kept within a limit."""
        from zuko.transforms import MonotonicAffineTransform

        affine = partial(MonotonicAffineTransform, slope=1 / self.steepest)
        return {"univariate": affine, "shapes": [(), ()]}


class RealNVP(AffineFlow):
    r"""Affine coupling: half of the coordinates shift and scale the others.

    .. math:: y_a = e^{r} x_a + c, \quad y_b = e^{s(x_a)} x_b + m(x_a)

    The halves change places from map to map, and the first has a scale and a shift for each
    coordinate. s is kept within the logarithm L of `steepest`, by :math:`s / (1 + |s| / L)`.
    Data and draws take one pass each. Dinh, Sohl-Dickstein and Bengio, 2017, Density estimation
    using Real NVP.

    Args:
        transforms: Number of maps.
        hidden: Widths of the hidden layers of each map's net.
        steepest: The scale that no map exceeds, in either direction.

    Example:
        >>> flow = RealNVP(2, (8,))
        >>> flow.build(torch.randn(10, 4))
        >>> flow.inverse(torch.randn(5, 3, 4)).shape
        torch.Size([5, 3, 4])
    """

    name = "realnvp"
    couples = True


class MAF(AffineFlow):
    r"""A masked autoregressive flow: each coordinate is shifted and scaled by those before it.

    .. math:: y_i = e^{s_i(x_{<i})} x_i + m_i(x_{<i})

    Every second map takes the coordinates in the other order. s is kept within a limit, as by
    `RealNVP`. A density takes one pass, a draw one for each coordinate. Papamakarios, Pavlakou and
    Murray, 2017, Masked autoregressive flow for density estimation.

    Args:
        transforms: Number of maps.
        hidden: Widths of the hidden layers of each map's net.
        steepest: The scale that no map exceeds, in either direction.

    Example:
        >>> flow = MAF(2, (8,))
        >>> flow.build(torch.randn(10, 4))
        >>> flow(torch.randn(5, 3, 4))[1].shape
        torch.Size([5, 3])
    """

    name = "maf"


class NSF(VectorFlow):
    r"""A neural spline flow: each coordinate is moved by a spline that those before it shape.

    .. math:: y_i = g(x_i; \theta_i(x_{<i}))

    g is monotonic, a quotient of two quadratics on each of its bins between -5 and 5, and the
    identity outside. Every second map takes the coordinates in the other order. A density takes one
    pass, a draw one for each coordinate. Durkan, Bekasov, Murray and Papamakarios, 2019, Neural
    spline flows.

    Args:
        transforms: Number of maps.
        hidden: Widths of the hidden layers of each map's net.
        bins: Of each spline, 2 or more.

    Raises:
        ValueError: A number isn't positive.
        ImportError: At the build, zuko isn't installed.

    Example:
        >>> flow = NSF(2, (8,))
        >>> flow.build(torch.randn(10, 4))
        >>> noise, slope = flow(torch.randn(3, 4))
        >>> noise.shape, slope.shape
        (torch.Size([3, 4]), torch.Size([3]))
    """

    name = "nsf"

    def __init__(
        self, transforms: int = 3, hidden: tuple[int, ...] = (64, 64), bins: int = 16
    ) -> None:
        super().__init__(transforms, hidden)
        self.bins = positive("bins", bins)
        if bins < 2:
            raise ValueError(f"bins must be at least 2, got {bins}")

    def options(self) -> dict[str, Any]:
        """Return splines."""
        from zuko.transforms import MonotonicRQSTransform

        k = self.bins
        return {"univariate": MonotonicRQSTransform, "shapes": [(k,), (k,), (k - 1,)]}
