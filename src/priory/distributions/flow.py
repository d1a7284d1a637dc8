"""Conditional normalising flows in Pyro's terms, with maps of zuko's."""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from priory.distributions.independent import IndependentNormal


class ConditionalFlow(TorchDistribution):
    r"""Normal noise moved by invertible maps, each datum's by its own.

    .. math:: z = f_T(\dots f_1(\epsilon)), \qquad
        \log q(z) = \log p(\epsilon) - \sum_t \log |\det \partial f_t|

    The density of what `rsample` has drawn last is known from the draw, so that maps whose inverse
    is slow score their own draws in one pass; that of any other value takes the inverse. The two
    are one function of the parameters, and have the same gradient by them. By the draw itself the
    first has none: for that, score a detached copy.

    Args:
        base: Of the noise, event shape (latent,).
        maps: f, the first applied first: zuko's transforms of event shape (latent,).
        validate_args: Whether to check values; the global default if None.
    """

    support = constraints.real_vector
    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    has_rsample = True
    _drawn: tuple[Tensor, Tensor] | None = None

    def __init__(
        self,
        base: IndependentNormal,
        maps: Sequence[Any],
        validate_args: bool | None = None,
    ) -> None:
        self.base, self.maps = base, tuple(maps)
        super().__init__(base.batch_shape, base.event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Size, _instance: Any = None) -> "ConditionalFlow":
        """Return the same distribution for a larger batch, sharing the parameters."""
        new = copy.copy(self)
        new.base = self.base.expand(batch_shape)
        new._batch_shape, new._drawn = Size(batch_shape), None
        return new

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw with gradients."""
        z = self.base.rsample(sample_shape)
        density = self.base.log_prob(z)
        with in_full(z):
            for f in self.maps:
                z, slope = f.call_and_ladj(z)
                density = density - slope
        self._drawn = z, density
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density of latents (..., latent), in nats."""
        if self._validate_args:
            self._validate_sample(value)
        if self._drawn is not None and value is self._drawn[0]:
            known = self._drawn[1]
            if known.requires_grad or not torch.is_grad_enabled():
                return known
        with in_full(value):
            return self._of(value)

    def _of(self, z: Tensor) -> Tensor:
        """Return the log density of any latents, by the inverse."""
        slopes = torch.zeros_like(z[..., 0])
        for f in reversed(self.maps):
            noise = f.inv(z)
            slopes = slopes + f.log_abs_det_jacobian(noise, z)
            z = noise
        return self.base.log_prob(z) - slopes


def zuko_flows(part: str) -> Any:
    """Import zuko's flows, and undo that the import switches torch's validation off.

    Args:
        part: What needs them, for the message.

    Raises:
        ImportError: zuko isn't installed.
    """
    validate = Distribution._validate_args
    try:
        import zuko.flows
    except ImportError as error:
        raise ImportError(f"the {part} needs zuko: pip install 'priory[flows]'") from error
    finally:
        Distribution.set_default_validate_args(validate)
    return zuko.flows


def in_full(z: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast: slopes in half precision would not be the maps' own."""
    if torch.is_autocast_enabled(z.device.type):
        return torch.autocast(z.device.type, enabled=False)
    return nullcontext()
