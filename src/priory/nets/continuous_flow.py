"""A flow through time: data move along a field, which a net with a time says, and become noise."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from priory.distributions.flow import zuko_flows
from priory.lookup import lookup, named
from priory.nets.flow import FlowNet
from priory.nets.table import TIMED
from priory.nets.timed import TimedNet

TRACES = ("auto", "exact", "hutchinson")
_FEW = 16  # coordinates up to which "auto" takes the exact trace
_PACE = 0.02  # of the net's time: its fastest wave, 1000 radians, would cost thousands of steps
_MOST = 20_000  # evaluations of the field in one solution


class ContinuousFlow(FlowNet):
    r"""The flow of a differential equation, from data at time 0 to noise at time 1.

    .. math:: \dot z = v(z, t), \quad f(z_0) = z_1, \qquad
        \log |\det \partial f / \partial x| = \int_0^1 \mathrm{tr} \,
        \partial v(z_t, t) / \partial z_t \, dt

    Chen, Rubanova, Bettencourt and Duvenaud, 2018, Neural ordinary differential equations;
    Grathwohl et al., 2019, FFJORD: free-form continuous dynamics for scalable reversible generative
    models.
    zuko's adaptive Dormand-Prince solver keeps the error of every step, of the state and of the
    integral alike, within the tolerance. The trace is exact, by one derivative for each
    coordinate; or Hutchinson's estimate, :math:`u^\top (\partial v / \partial z) u` along one
    direction u ~ N(0, 1) for each datum, which is unbiased for the integral, and for no exponential
    of it. Needs the extra `flows`.

    Args:
        net: v; a net with a time, or its name.
        tolerance: Of a step's error, absolute and relative.
        trace: "exact", "hutchinson", or "auto": exact up to 16 coordinates.

    Raises:
        ValueError: The tolerance isn't positive, or a name is unknown.
        ImportError: At the build, zuko isn't installed.

    Example:
        >>> from priory.nets import TimeMLP
        >>> flow, x = ContinuousFlow(TimeMLP(8, 1)), torch.randn(5, 2)
        >>> flow.build(x)
        >>> noise, slope = flow(x)  # at first nothing moves
        >>> torch.equal(noise, x), slope.shape
        (True, torch.Size([5]))
    """

    name = "continuous"

    def __init__(
        self, net: TimedNet | str = "time-mlp", tolerance: float = 1e-5, trace: str = "auto"
    ) -> None:
        super().__init__()
        if not tolerance > 0:
            raise ValueError(f"tolerance must be positive, got {tolerance}")
        named("trace", trace, dict.fromkeys(TRACES))
        self.net = lookup("net with a time", net, TIMED)
        self.tolerance = tolerance
        self.trace = trace

    @property
    def is_estimated(self) -> bool:
        """Whether log determinants are unbiased estimates.

        Raises:
            RuntimeError: The flow is not built.
        """
        self.check_built()
        few = prod(self.built_for) <= _FEW
        return self.trace == "hutchinson" or (self.trace == "auto" and not few)

    def make(self, x: Tensor) -> None:
        """Make the net."""
        zuko_flows("solver of a continuous flow")
        self.net.build(tuple(x.shape[1:]), 1)

    def velocity(self, z: Tensor, t: Tensor) -> Tensor:
        """Return v of states (*batch, *shape) at times (*batch), (*batch, *shape)."""
        found: Tensor = self.net(z, _PACE * t)
        return found.squeeze(-1 - len(self.built_for))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data (*batch, *shape) to noise, and to log |det| of the Jacobian, (*batch).

        Raises:
            RuntimeError: The flow is not built, or the field has no solution in sight.
            ValueError: A datum's shape isn't what the flow was built for, or several estimates
                stand beside one another, as those of particles.
        """
        lead = self._lead(x)
        if self.is_estimated and prod(lead[:-1]) > 1:
            raise ValueError(
                "log p is estimated along a random direction here, and no mean of the estimates' "
                "exponentials is a bound: take one particle, or trace='exact'"
            )
        return super().forward(x)

    def apply_flat(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data (n, *shape) to noise and log |det| of the Jacobian, (n,)."""
        noise, slope = self._solution(0.0, 1.0).call_and_ladj(x.flatten(1))
        return noise.reshape(x.shape), slope

    def invert_flat(self, noise: Tensor) -> Tensor:
        """Map noise (n, *shape) to data."""
        x: Tensor = self._solution(1.0, 0.0)(noise.flatten(1))
        return x.reshape(noise.shape)

    @torch.no_grad()
    def between(self, z: Tensor, start: float, end: float) -> Tensor:
        """Carry states (*batch, *shape) along the field from one time to another, both in [0, 1].

        Raises:
            RuntimeError: The flow is not built, or the field has no solution in sight.
            ValueError: A state's shape isn't what the flow was built for.
        """
        self._lead(z)
        if start == end:
            return z
        moved: Tensor = self._solution(start, end)(z.reshape(-1, prod(self.built_for)))
        return moved.reshape(z.shape)

    def _solution(self, start: float, end: float) -> Any:
        """Return zuko's transform of vectors from one time to another."""
        from zuko.transforms import FreeFormJacobianTransform

        found = FreeFormJacobianTransform(
            self._field(),
            start,
            end,
            self.net.parameters(),
            atol=self.tolerance,
            rtol=self.tolerance,
            exact=not self.is_estimated,
        )
        found.trace_scale = 1.0  # zuko's own lets the integral err a hundred times as far
        return found

    def _field(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return v of vectors, which counts its evaluations, as zuko's solver has no end."""
        shape, count = self.built_for, 0

        def field(t: Tensor, z: Tensor) -> Tensor:
            nonlocal count
            count += 1
            v = self.velocity(z.reshape(-1, *shape), t).reshape(z.shape)
            if not bool(torch.isfinite(v).all()):
                raise RuntimeError(
                    f"the field is NaN or infinite at time {float(t):.4g}, so that its equation "
                    "has no solution: look at the weights and at the data's units"
                )
            if count > _MOST:
                raise RuntimeError(
                    f"the solver has not ended after {_MOST:,} evaluations of the field, with "
                    f"tolerance={self.tolerance:g}: take a larger tolerance, or train longer"
                )
            return v

        return field
