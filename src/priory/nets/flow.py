"""What every flow is: an invertible map from data to noise, with its log determinant."""

from __future__ import annotations

from abc import abstractmethod
from math import log, prod
from typing import ClassVar

import torch
from torch import Tensor

from priory.part import Part

MARGIN = 1e-6  # of the unit interval, at either end, where log-odds are taken


class FlowNet(Part):
    r"""An invertible map f from data to noise of the same shape, for any leading dims.

    .. math:: p(x) = N(f(x); 0, I) \, |\det \partial f / \partial x|

    The constructor takes configuration alone; `build` makes the parameters from data.
    """

    name: ClassVar[str]
    _kind = "flow"

    def build(self, x: Tensor) -> None:
        """Make the parameters; a second call for the same shape does nothing.

        Args:
            x: Data, (n, *shape), from which a start may be taken; of the order of one.

        Raises:
            ValueError: The flow does not suit the shape, or is built for another.
        """
        self.build_once(tuple(x.shape[1:]), lambda: self.make(x))

    @abstractmethod
    def make(self, x: Tensor) -> None:
        """Make the layers for data like `x`, (n, *shape)."""

    @abstractmethod
    def apply_flat(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data (n, *shape) to noise (n, *shape) and log |det| of the Jacobian, (n,)."""

    @abstractmethod
    def invert_flat(self, noise: Tensor) -> Tensor:
        """Map noise (n, *shape) to data (n, *shape)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data (*batch, *shape) to noise, and to log |det| of the Jacobian, (*batch).

        Raises:
            RuntimeError: The flow is not built.
            ValueError: A datum's shape isn't what the flow was built for.
        """
        lead = self._lead(x)
        noise, slope = self.apply_flat(x.reshape(prod(lead), *self.built_for))
        return noise.reshape(x.shape), slope.reshape(lead)

    def inverse(self, y: Tensor) -> Tensor:
        """Map noise (*batch, *shape) to data of the same shape.

        Raises:
            RuntimeError: The flow is not built.
            ValueError: The noise's shape isn't what the flow was built for.
        """
        lead = self._lead(y)
        return self.invert_flat(y.reshape(prod(lead), *self.built_for)).reshape(y.shape)

    def _lead(self, x: Tensor) -> tuple[int, ...]:
        """Return the leading dims of data."""
        self.check_built()
        shape = self.built_for
        cut = x.dim() - len(shape)
        if cut < 0 or x.shape[cut:] != shape:
            raise ValueError(
                f"{type(self).__name__} expected data of shape (*batch, *{shape}), got "
                f"{tuple(x.shape)}"
            )
        return tuple(x.shape[:cut])


class FlowUnits(Part):
    r"""The units in which a flow reads data: of the order of one, and unbounded.

    .. math:: y_i = \frac{g(x_i) - a_i}{b_i}; \qquad g(x) = x \quad \text{or} \quad
        g(x) = \mathrm{logit}(\epsilon + (1 - 2 \epsilon) \, x / L)

    The second is for data in [0, L], such as L levels with noise: Papamakarios, Pavlakou and
    Murray, 2017, Masked autoregressive flow for density estimation, whose :math:`\epsilon` is
    1e-6. a and b are the training data's means and standard deviations after g, and are kept with
    the weights.
    """

    centre: Tensor
    unit: Tensor
    levels: Tensor

    def build(self, x: Tensor, levels: int | None = None) -> None:
        """Take the units of training data; a second call for the same shape does nothing.

        Args:
            x: Training data, (n, *shape).
            levels: L, None for data without bounds.
        """
        self.build_once(tuple(x.shape[1:]), lambda: self._make(x, levels))

    def _make(self, x: Tensor, levels: int | None) -> None:
        self.bounded = levels is not None
        if levels is not None:
            self.register_buffer("levels", x.new_tensor(float(levels)))
            x = self._log_odds(x)[0]
        wide = x.double()
        spread = wide.std(0, correction=0)
        self.register_buffer("centre", wide.mean(0).to(x.dtype))
        self.register_buffer("unit", torch.where(spread > 0, spread, 1.0).to(x.dtype))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return data (*batch, *shape) in these units, and log |det| of the Jacobian, (*batch)."""
        self.check_built()
        slope = -self.unit.log().expand(x.shape)
        if self.bounded:
            x, other = self._log_odds(x)
            slope = slope + other
        dims = (*range(-self.unit.dim(), 0),)
        return (x - self.centre) / self.unit, slope.sum(dims) if dims else slope

    def inverse(self, y: Tensor) -> Tensor:
        """Return data (*batch, *shape) in their own units."""
        x = self.centre + self.unit * y
        return (x.sigmoid() - MARGIN) / (1 - 2 * MARGIN) * self.levels if self.bounded else x

    def _log_odds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return g and log g'."""
        share = MARGIN + (1 - 2 * MARGIN) * x / self.levels
        one, other = share.log(), (-share).log1p()
        return one - other, log(1 - 2 * MARGIN) - self.levels.log() - one - other
