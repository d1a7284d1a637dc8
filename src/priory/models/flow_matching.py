"""Flow matching: a field that carries noise to the data, learned without solving its equation."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from priory.lookup import named
from priory.models.flow import NormalizingFlow
from priory.nets import TimedNet
from priory.nets.continuous_flow import ContinuousFlow

COUPLINGS = ("independent", "ot")


class FlowMatching(NormalizingFlow):
    r"""A flow through time whose field is the mean velocity of straight lines from data to noise.

    .. math:: \dot z = v(z, t), \quad z_1 \sim N(0, 1), \quad x = z_0; \qquad
        \min_v E \| v(z_t, t) - (\epsilon - x) \|^2, \quad z_t = (1 - t) x + t \epsilon

    Lipman, Chen, Ben-Hamu, Nickel and Le, 2023, Flow matching for generative modeling; Liu, Gong
    and Liu, 2023, Flow straight and fast: learning to generate and transfer data with rectified
    flow. `Steps("simple")` trains it, at one time of a datum: no equation is solved, and its value
    is no bound. log p(x) is that of a continuous flow: exact up to the solver's tolerance for few
    coordinates, an unbiased estimate beyond. It has a gradient, by the adjoint equation, so that
    `ELBO` trains it too, at the cost of a solution a step (Grathwohl et al., 2019, FFJORD).

    A datum and its noise are drawn independently, or the noise of a batch is dealt out to the data
    so that the lines together are the shortest (Pooladian et al., 2023, Multisample flow matching;
    Tong et al., 2024, Improving and generalizing flow-based generative models with minibatch
    optimal transport). Data on levels of [0, 1] are filled with uniform noise, as in
    `NormalizingFlow`.

    Args:
        net: v; a net with a time, or its name.
        coupling: Of data and noise, "independent" or "ot", over those rows of a batch that one
            process has.
        dequantise: "none" for continuous data, "uniform" for levels; "auto" takes "uniform" for
            data on such levels, else "none".
        tolerance: Of the error of the solver's steps, absolute and relative.
        trace: Of the field's derivative: "exact", "hutchinson", or "auto", exact up to 16
            coordinates.

    Raises:
        ValueError: A name is unknown or the tolerance isn't positive; at the build, as in
            `NormalizingFlow`.
        ImportError: At the build, zuko isn't installed.

    Example:
        >>> from priory.nets import TimeMLP
        >>> pair, x = FlowMatching(TimeMLP(8, 1)), torch.randn(10, 2)
        >>> pair.build(x)
        >>> pair.density().log_prob(x).shape
        torch.Size([10])
    """

    name = "flow-matching"
    flow: ContinuousFlow
    weightings: ClassVar[tuple[str, ...]] = ("simple",)
    timesteps: ClassVar[int] = 1000  # strata of time, from each of which times are drawn alike

    def __init__(
        self,
        net: TimedNet | str = "time-mlp",
        coupling: str = "independent",
        dequantise: str = "auto",
        tolerance: float = 1e-5,
        trace: str = "auto",
    ) -> None:
        named("dequantisation", dequantise, dict.fromkeys(("auto", "none", "uniform")))
        super().__init__(ContinuousFlow(net, tolerance, trace), dequantise)
        named("coupling", coupling, dict.fromkeys(COUPLINGS))
        self.coupling = coupling

    @property
    def net(self) -> TimedNet:
        """The net with a time."""
        return self.flow.net

    @property
    def tolerance(self) -> float:
        """Of the error of the solver's steps."""
        return self.flow.tolerance

    @property
    def trace(self) -> str:
        """How the trace is taken."""
        return self.flow.trace

    @property
    def is_estimated(self) -> bool:
        """Whether log p(x) is an unbiased estimate, whose exponential is none of p(x)."""
        return self.flow.is_estimated

    @property
    def how(self) -> str:
        """How the log density is computed, for the note of a figure."""
        solved = f"by a solver, to a tolerance of {self.tolerance:g} a step"
        drawn = "the trace by Hutchinson's estimate, one direction a row, its error in the figure's"
        return f"{solved}; {drawn}" if self.is_estimated else solved

    def term(self, t: Tensor, x: Tensor, *, weighting: str = "simple", **columns: Any) -> Tensor:
        """Return the squared error of the velocity, summed over a datum, (draws, rows).

        Args:
            t: Strata of time from 1 to `timesteps`, (draws, rows).
            x: Data, (rows, *shape).
            weighting: "simple"; there is no other.
            columns: There are none.
        """
        del weighting, columns
        levels = self.dequantise != "none"
        start = self.units(self.noise(x).sample() if levels else x)[0]
        start = start.expand(*t.shape, *start.shape[1:])
        noise = self.coupled(start, torch.randn_like(start))
        time = (t - torch.rand(t.shape, dtype=x.dtype, device=x.device)) / self.timesteps
        share = time.reshape(*t.shape, *(1,) * (x.dim() - 1))
        z = (1 - share) * start + share * noise
        error = (self.flow.velocity(z, time) - (noise - start)).square()
        return error.flatten(t.dim()).sum(-1) if x.dim() > 1 else error

    def coupled(self, start: Tensor, noise: Tensor) -> Tensor:
        """Return noise (draws, rows, *shape) in the order in which data of that shape take it."""
        if self.coupling == "independent":
            return noise
        return torch.stack([b[shortest(a, b)] for a, b in zip(start, noise, strict=True)])


def shortest(a: Tensor, b: Tensor) -> Tensor:
    r"""Return the order of b in which the pairs' squared distances have the least sum, (n,).

    .. math:: \min_\pi \sum_i \| a_i - b_{\pi(i)} \|^2

    Args:
        a: Points, (n, *shape).
        b: As many others.

    Example:
        >>> shortest(torch.tensor([[0.0], [5.0]]), torch.tensor([[4.0], [1.0]]))
        tensor([1, 0])
    """
    from scipy.optimize import linear_sum_assignment

    with torch.no_grad():
        gain = a.flatten(1).double() @ b.flatten(1).double().mT
        order = linear_sum_assignment(gain.cpu().numpy(), maximize=True)[1]
    return torch.as_tensor(order, device=a.device)
