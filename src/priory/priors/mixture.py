"""Mixtures of diagonal normals: the distribution, and the prior with learned components."""

import copy
import math
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import constraints

from priory.distributions.independent import IndependentNormal
from priory.lookup import positive
from priory.priors.base import Encode, Prior


class NormalMixture(TorchDistribution):
    r"""A mixture of diagonal normals, the component summed out.

    .. math:: p(z) = \sum_c w_c \, N(z; m_c, \mathrm{diag}(s_c^2))

    The squares (z - m)^2 / s^2 are multiplied out, so that all components cost one matrix product
    and no array of shape (batch, components, latent) is ever made. The product is taken in double
    precision, where multiplying out loses nothing that single precision would keep.

    Args:
        logits: Unnormalised log weights, (*batch, components); minus infinity for a component that
            has none.
        loc: Means m, (components, latent).
        log_scale: Log standard deviations, (components, latent).
        validate_args: Whether to check parameters and values; the global default if None.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "logits": constraints.real,
        "loc": constraints.real,
        "log_scale": constraints.real,
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, logits: Tensor, loc: Tensor, log_scale: Tensor, validate_args: bool | None = None
    ) -> None:
        self.logits = logits
        self.loc = loc
        self.log_scale = log_scale
        super().__init__(logits.shape[:-1], loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> "NormalMixture":
        """Return the same distribution for a larger batch, sharing the parameters."""
        new = copy.copy(self)
        new._batch_shape = Size(batch_shape)
        return new

    def components(self, value: Tensor) -> Tensor:
        """Return log w_c + log N(z; m_c, s_c), (..., components), for values (..., latent)."""
        z, loc = value.double(), self.loc.double()
        log_scale = self.log_scale.double()
        precision = torch.exp(-2 * log_scale)
        squares = (loc.square() * precision).sum(-1)
        size = 0.5 * math.log(2 * math.pi) * self._event_shape.numel()
        constant = self.logits.double().log_softmax(-1) - log_scale.sum(-1) - 0.5 * squares - size
        weights = torch.cat([loc * precision, -0.5 * precision], -1).mT
        return (torch.cat([z, z.square()], -1) @ weights + constant).to(value.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of latents (..., latent), in nats."""
        if self._validate_args:
            self._validate_sample(value)
        density = self.components(value).logsumexp(-1)
        if density.shape == self._batch_shape:
            return density
        return density.expand(torch.broadcast_shapes(self._batch_shape, density.shape))

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw a component, then a latent from it, with gradients.

        By means and scales the gradient is that of the drawn component's m + s e, which is exact as
        the component's probability does not depend on them. By the weights it is implicit, of the
        map that turns z into uniform numbers one coordinate after the other (Figurnov, Mohamed and
        Mnih, 2018, Implicit reparameterization gradients). It moves mass from one component to
        another through all that lies between, so that its variance is large where the density
        there is small: components ten standard deviations apart hardly learn their weights so.
        """
        shape = self._extended_shape(sample_shape)
        count = shape[:-1].numel()
        with torch.no_grad():
            choice = self._choices(count)
        loc, scale = self.loc[choice], self.log_scale[choice].exp()
        z = loc + scale * torch.randn_like(loc)
        if torch.is_grad_enabled() and self.logits.requires_grad:
            z = z + self._by_weights(z.detach())
        return z.reshape(shape)

    def _choices(self, count: int) -> Tensor:
        """Draw components, (count,), of each mixture of a batch in turn."""
        weights = self.logits.softmax(-1)
        if weights.dim() == 1:
            return torch.multinomial(weights, count, replacement=True)
        each = weights.reshape(-1, weights.shape[-1])
        return torch.multinomial(each, count // len(each), replacement=True).mT.reshape(-1)

    def _by_weights(self, z: Tensor) -> Tensor:
        """Return zeros (n, latent) with the draws' implicit gradient by the weights.

        With S_d = F(z_d | z_<d) and its Jacobian J by z, dz = -J^-1 dS. J's row d holds the
        density of z_d on the diagonal and, for j < d, the covariance over components, weighted by
        their probabilities given z_<d, of F_c(z_d) with the slope of log N(z_j; m_c, s_c).
        """
        loc, scale = self.loc.detach().double(), self.log_scale.detach().double().exp()
        u = (z.double().unsqueeze(1) - loc) / scale  # (n, components, latent)
        density = -0.5 * u.square() - scale.log() - 0.5 * math.log(2 * math.pi)
        before = density.cumsum(-1) - density
        logits = self.logits.double().reshape(-1, self.logits.shape[-1])
        logits = logits.repeat(len(z) // len(logits), 1)
        weights = (logits.unsqueeze(-1) + before).softmax(1)
        # From the nearer end, or a far tail's difference of near ones would lose its digits.
        upper = (weights * torch.special.ndtr(u)).sum(1, keepdim=True) > 0.5
        sign = torch.where(upper, -1.0, 1.0)
        part = sign * torch.special.ndtr(sign * u)
        total = (weights * part).sum(1)
        with torch.no_grad():
            own = (weights * density.exp()).sum(1)
            centred = weights * (part - total.unsqueeze(1))
            jacobian = (centred.mT @ (-u / scale)).tril(-1) + torch.diag_embed(own)
        move = torch.linalg.solve_triangular(
            jacobian, (total - total.detach()).unsqueeze(-1), upper=False
        )
        return -move.squeeze(-1).to(z.dtype)

    @property
    def mean(self) -> Tensor:
        """The mean, (*batch, latent)."""
        mean = self.logits.softmax(-1) @ self.loc
        return mean.expand(self._batch_shape + self._event_shape)

    @property
    def variance(self) -> Tensor:
        """The variance of each coordinate, (*batch, latent)."""
        weights = self.logits.softmax(-1)
        second = weights @ ((2 * self.log_scale).exp() + self.loc.square())
        return (second - self.mean.square()).expand(self._batch_shape + self._event_shape)


class GaussianMixture(Prior):
    r"""A mixture of diagonal normals with learned weights, means and scales.

    .. math:: p(z) = \sum_c w_c \, N(z; m_c, \mathrm{diag}(s_c^2))

    Dilokthanakul et al., 2016, Deep unsupervised clustering with Gaussian mixture variational
    autoencoders. The component is summed out. At the start the whole mixture has mean 0 and
    variance 1 in each coordinate, so one component is the standard normal.

    Args:
        components: Number of components.
        spread: Standard deviation of the means at the start, below 1.
        seed: Of the means at the start.
        equal: Whether the weights stay equal.

    Raises:
        ValueError: There is no component, or the spread is outside [0, 1).

    Example:
        >>> prior = GaussianMixture(components=4)
        >>> prior.build(3, torch.zeros(1, 4))
        >>> prior().log_prob(torch.zeros(7, 3)).shape
        torch.Size([7])
    """

    name = "mixture"
    logits: Tensor

    def __init__(
        self, components: int = 10, spread: float = 0.5, seed: int = 0, equal: bool = False
    ) -> None:
        super().__init__()
        if not 0 <= spread < 1:
            raise ValueError(f"spread must be in [0, 1), got {spread}")
        self.components = positive("components", components)
        self.spread = spread
        self.seed = seed
        self.equal = equal

    def make(self, latent: int, x: Tensor, encode: Encode | None) -> None:  # noqa: ARG002
        """Make the weights, means and scales."""
        draw = torch.Generator().manual_seed(self.seed)
        loc = torch.randn(self.components, latent, generator=draw, dtype=torch.float64)
        if self.components > 1:
            loc = (loc - loc.mean(0)) / loc.std(0, correction=0) * self.spread
            log_scale = 0.5 * math.log(1 - self.spread**2)
        else:
            loc, log_scale = torch.zeros_like(loc), 0.0
        dtype = torch.get_default_dtype()
        logits = torch.zeros(self.components, dtype=dtype)
        if self.equal:
            self.register_buffer("logits", logits)
        else:
            self.logits = nn.Parameter(logits)
        self.loc = nn.Parameter(loc.to(dtype))
        self.log_scale = nn.Parameter(torch.full_like(self.loc, log_scale))

    def distribution(self) -> TorchDistribution:
        """Return the mixture."""
        return NormalMixture(self.logits, self.loc, self.log_scale)

    def component(self, c: Tensor) -> TorchDistribution:
        """Return p(z | c), batch shape (*batch), for one-hot codes (*batch, components).

        Raises:
            RuntimeError: The prior is not built.
        """
        self.check_built()
        return IndependentNormal(c @ self.loc, c @ self.log_scale, 1)
