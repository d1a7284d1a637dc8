"""A layer of functions from a Gaussian process, known by their values at inducing points."""

from __future__ import annotations

from typing import Literal

import torch
from pyro.distributions import MultivariateNormal, TorchDistribution
from torch import Tensor, nn

from priory.lookup import positive
from priory.part import Part

Kernel = Literal["rbf", "linear", "rbf+linear"]
KERNELS = ("rbf", "linear", "rbf+linear")
_JITTER = {torch.float64: 1e-8}  # of the inducing points' mean variance; float32 needs more
_SINGLE = 1e-4


class SparseGP(Part):
    r"""D functions from one Gaussian process, with a normal q(u) of their inducing values.

    .. math:: k(z, z') = s^2 e^{-\frac12 \sum_i (z_i - z'_i)^2 / l_i^2} + \sum_i w_i^2 z_i z'_i

    of which `kernel` names the terms. With the inducing points Z and :math:`k(Z, Z) = C C^T`, which
    whitens their values,

    .. math:: p(u_d) = N(0, I), \quad
        p(f_d(z) \mid u_d) = N(h_d(z) + a^T u_d, \; k(z, z) - a^T a), \quad a = C^{-1} k(Z, z);
        \qquad q(u_d) = N(m_d, S)

    where h is a constant b, or W z + b with `skip`. Kernel, Z and S are the same for all functions:
    one Cholesky factor serves all of them, and with normal noise the best S is the same too.
    Titsias, 2009, Variational learning of inducing variables in sparse Gaussian processes;
    Hensman, Matthews and Ghahramani, 2015, Scalable variational Gaussian process classification.

    Args:
        inducing: M, the number of inducing points.
        kernel: "rbf", "linear", or their sum, "rbf+linear".
        skip: Whether the mean of f is linear in z, as that of a hidden layer, or constant.
        spread: Standard deviations of q(u) at the start.
        fixed: Whether s and b stay as they are built: f is then of a given mean and variance.

    Raises:
        ValueError: There is no such kernel, a number isn't positive, or `fixed` is for a kernel
            whose variance is no constant.

    Example:
        >>> layer = SparseGP(inducing=8)
        >>> layer.build(torch.randn(8, 2), torch.zeros(5), 1.0)
        >>> mean, variance = layer(torch.zeros(3, 2))
        >>> mean.shape, variance.shape
        (torch.Size([3, 5]), torch.Size([3, 1]))
    """

    _kind = "layer"
    log_amplitude: Tensor
    bias: Tensor

    def __init__(
        self,
        inducing: int = 64,
        kernel: Kernel = "rbf+linear",
        *,
        skip: bool = False,
        spread: float = 0.1,
        fixed: bool = False,
    ) -> None:
        super().__init__()
        self.inducing = positive("inducing", inducing)
        if kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}")
        if not spread > 0:
            raise ValueError(f"spread must be positive, got {spread}")
        if fixed and (kernel != "rbf" or skip):
            raise ValueError(f"fixed is for kernel='rbf' and no skip, got {kernel!r}, skip={skip}")
        self.kernel, self.skip, self.spread, self.fixed = kernel, skip, spread, fixed

    def build(self, points: Tensor, bias: Tensor, amplitude: float) -> None:
        """Make the parameters; a second call for the same sizes does nothing.

        Args:
            points: Where the inducing points start, (inducing, inputs).
            bias: Where b starts, (outputs,).
            amplitude: Standard deviation of each of the kernel's terms at the start, where |z|^2 is
                the number of inputs.
        """
        sizes = (points.shape[1], len(bias))
        self.build_once(sizes, lambda: self.make(points, bias, amplitude))

    def make(self, points: Tensor, bias: Tensor, amplitude: float) -> None:
        """Make Z, the kernel's logarithms, the mean and q(u)."""
        inputs, outputs = points.shape[1], len(bias)
        size = torch.tensor(amplitude, dtype=points.dtype, device=points.device).log()
        width = torch.full_like(points[0], 0.5) * torch.tensor(float(inputs)).log().to(points)
        self.points = nn.Parameter(points.detach().clone())
        if "rbf" in self.kernel:
            self.keep("log_amplitude", size)
            self.log_length = nn.Parameter(width)
        if "linear" in self.kernel:
            self.log_slope = nn.Parameter(size - width)
        if self.skip:
            self.weight = nn.Parameter(torch.eye(outputs, inputs).to(points))
        self.keep("bias", bias)
        self.loc = nn.Parameter(self.spread * torch.randn(outputs, self.inducing).to(points))
        start = torch.full_like(points[:, 0], self.spread).log()
        self.log_scale = nn.Parameter(start)
        self.below = nn.Parameter(torch.zeros(self.inducing, self.inducing).to(points))

    def keep(self, name: str, value: Tensor) -> None:
        """Hold s or b, as a parameter unless they are fixed."""
        value = value.detach().clone()
        if self.fixed:
            self.register_buffer(name, value)
        else:
            self.register_parameter(name, nn.Parameter(value))

    def prior(self) -> TorchDistribution:
        """Return p(u), event shape (outputs, inducing)."""
        self.check_built()
        eye = torch.eye(self.inducing, dtype=self.loc.dtype, device=self.loc.device)
        return MultivariateNormal(torch.zeros_like(self.loc), scale_tril=eye).to_event(1)

    def posterior(self) -> TorchDistribution:
        """Return q(u), event shape (outputs, inducing)."""
        self.check_built()
        return MultivariateNormal(self.loc, scale_tril=self.factor()).to_event(1)

    def factor(self) -> Tensor:
        """Return the Cholesky factor of S, (inducing, inducing)."""
        scale = self.log_scale.exp()
        return scale.diag() + scale[:, None] * self.below.tril(-1)

    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        """Return k(a, b), (*batch, n, m), of inputs (*batch, n, inputs) and (m, inputs)."""
        terms = []
        if "rbf" in self.kernel:
            left, right = a * (-self.log_length).exp(), b * (-self.log_length).exp()
            if left.shape[-1] == 1:  # products would round inputs that are many lengths from zero
                exponent = -(left - right.mT).square() / 2
            else:
                squares = left.square().sum(-1).unsqueeze(-1) + right.square().sum(-1)
                exponent = (left @ right.mT - squares / 2).clamp(max=0)
            terms.append((exponent + 2 * self.log_amplitude).exp())
        if "linear" in self.kernel:
            terms.append((a * (2 * self.log_slope).exp()) @ b.mT)
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]

    def variances(self, z: Tensor) -> Tensor:
        """Return k(z, z), (*batch), of inputs (*batch, inputs)."""
        found = torch.zeros_like(z[..., 0])
        if "rbf" in self.kernel:
            found = found + (2 * self.log_amplitude).exp()
        if "linear" in self.kernel:
            found = found + (z * self.log_slope.exp()).square().sum(-1)
        return found

    def weights(self, z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return a, (*batch, inducing), and k(z, z) - |a|^2, (*batch), of inputs (*batch, inputs).

        A small multiple of the identity stands in C beside k(Z, Z): u are then values with a little
        noise, of which everything above holds. Where single precision does not suffice for C, all
        is NaN.
        """
        self.check_built()
        with torch.autocast(z.device.type, enabled=False):
            z = z.to(self.points.dtype)
            every = self.covariance(self.points, self.points)
            jitter = _JITTER.get(z.dtype, _SINGLE) * every.diagonal().mean()
            factor, failed = torch.linalg.cholesky_ex(every + jitter.expand(len(every)).diag())
            factor = torch.where(failed == 0, factor, torch.nan)
            rows = self.covariance(z, self.points)
            a = torch.linalg.solve_triangular(factor.mT, rows, upper=True, left=False)
            return a, (self.variances(z) - a.square().sum(-1)).clamp(min=0)

    def forward(self, z: Tensor, u: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the means (*batch, outputs) of f(z) and its variance (*batch, 1).

        Args:
            z: Inputs, (*batch, inputs).
            u: Inducing values, (outputs, inducing), that are given; if None, f is averaged over
                q(u).

        Raises:
            RuntimeError: There are no parameters yet.
        """
        a, variance = self.weights(z)
        if u is None:
            variance = variance + (a @ self.factor()).square().sum(-1)
        values = self.loc if u is None else u
        moved = a @ values.mT if values.dim() == 2 else (a.unsqueeze(-2) @ values.mT).squeeze(-2)
        mean = moved + (z @ self.weight.mT + self.bias if self.skip else self.bias)
        return mean, variance.unsqueeze(-1)
