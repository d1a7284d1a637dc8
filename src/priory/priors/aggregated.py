"""What priors have in common that are made of the pair's own posteriors at some inputs."""

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.lookup import positive
from priory.priors.base import Encode, Prior


class AggregatedPosterior(Prior):
    r"""A mixture that is made of the pair's posteriors at inputs, which start at training rows.

    Args:
        components: Number of inputs.
        seed: Of the choice of rows.

    Raises:
        ValueError: There is no component, or the pair has no encoder that is an `Encoder` itself.
    """

    def __init__(self, components: int, seed: int) -> None:
        super().__init__()
        self.components = positive("components", components)
        self.seed = seed

    def build(self, latent: int, x: Tensor, encode: Encode | None = None) -> None:
        """Make the inputs; a second call by the same pair does nothing.

        Args:
            latent: Number of latent coordinates.
            x: Training data, (n, *shape), of which the inputs start.
            encode: The pair's amortised posterior.

        Raises:
            ValueError: There is no posterior, or the prior is made of another pair's.
        """
        if self.built_for is None:
            if encode is None:
                raise ValueError(
                    f"{type(self).__name__} is made of the posteriors q(z | x) of an Encoder, and "
                    "this pair has no encoder of that very class (a subclass may read or return "
                    "more): use GaussianMixture"
                )
            # In a tuple a module is no submodule, so the encoder's parameters are not listed twice.
            self._encode = (encode,)
        super().build(latent, x, encode)
        if self._encode != (encode,):
            raise ValueError(
                f"{type(self).__name__} is made of another pair's posteriors; give each pair a "
                "prior of its own"
            )

    def chosen(self, x: Tensor, draw: torch.Generator) -> Tensor:
        """Return the rows (components, *shape) of training data that the inputs start at.

        Without replacement, as long as there are rows that are not chosen yet.
        """
        return x[self.places(len(x), draw).to(x.device)].detach()

    def places(self, rows: int, draw: torch.Generator) -> Tensor:
        """Return which of some rows the inputs start at, (components,)."""
        order = torch.randperm(rows, generator=draw)
        return order.repeat(-(-self.components // rows))[: self.components]

    def posteriors(self, inputs: Tensor) -> TorchDistribution:
        """Return q(z | u), batch shape (components), for inputs u as the encoder reads them."""
        return self._encode[0](inputs)
