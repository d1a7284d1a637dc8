"""A distribution that can be drawn from, and has no density that anybody could compute."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor, nn
from torch.distributions import constraints


class Drawn(TorchDistribution):
    """What a procedure draws, where its density is not to be had, as of a chain's state.

    Args:
        draw: Returns draws of shape (*shape, *event) for a shape.
        event_shape: Of one draw.
        no_density: Why there is no density, for messages.
        source: The module whose parameters a draw depends on, if there is one.
        has_rsample: Whether draws have the gradient of those parameters.

    Example:
        >>> ones = Drawn(lambda shape: torch.ones(*shape, 3), (3,), "an example has no density")
        >>> ones.expand((2,)).sample().shape
        torch.Size([2, 3])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        draw: Callable[[Size], Tensor],
        event_shape: tuple[int, ...],
        no_density: str,
        source: nn.Module | None = None,
        has_rsample: bool = False,
    ) -> None:
        self.draw, self.source, self.no_density = draw, source, no_density
        self.has_rsample = has_rsample
        super().__init__(Size(), Size(event_shape), validate_args=False)

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        """Return all real arrays."""
        return constraints.independent(constraints.real, len(self._event_shape))

    def expand(self, batch_shape: Size, _instance: Any = None) -> Drawn:
        """Return the same distribution for a larger batch."""
        new = copy.copy(self)
        new._batch_shape = Size(batch_shape)
        return new

    def rsample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw, with gradients where there are any.

        Raises:
            NotImplementedError: Draws have no gradients.
        """
        if not self.has_rsample:
            raise NotImplementedError(f"a draw has no gradient: {self.no_density}")
        return self.draw(Size(sample_shape) + self._batch_shape)

    def sample(self, sample_shape: Size = Size()) -> Tensor:  # noqa: B008
        """Draw, without gradients."""
        with torch.no_grad():
            return self.draw(Size(sample_shape) + self._batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:  # noqa: ARG002
        """Refuse: there is no density.

        Raises:
            ValueError: Always, with the reason.
        """
        raise ValueError(
            f"{self.no_density}, and so there is no bound on log p(x); train the pair by "
            "Denoise(), and judge it by its samples"
        )
