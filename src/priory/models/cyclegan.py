"""Two domains without pairs: a map each way, one in the model and one in the guide."""

import pyro
from pyro.distributions import Delta
from torch import Tensor, nn

from priory.models.pair import Pair
from priory.nets.table import net_of


class CycleGAN(Pair):
    r"""Two maps between two domains, each to undo the other, learnt from unpaired rows.

    .. math:: b \sim \hat p(\text{other}), \quad x = F(b); \qquad b = G(x)

    Zhu, Park, Isola and Efros, 2017, Unpaired image-to-image translation using cycle-consistent
    adversarial networks. The latent b is a datum of the other domain, and its prior the rows of the
    column `other`. Awake, x is a datum and b its translation; asleep, b is a row of `other` and x
    its translation: the two games compare `x` and `b` across the phases, the two round trips are
    the awake reconstruction of `x` and the asleep one of `b`.

    Args:
        encoder: G, from a datum to the other domain; a net, any module, or a name.
        decoder: F, from the other domain to a datum; likewise.

    Raises:
        ValueError: A name is unknown, or a net's size doesn't fit.

    Example:
        >>> import torch
        >>> pair = CycleGAN()
        >>> pair.build(torch.zeros(10, 2))
        >>> pair.encoder(torch.zeros(5, 2)).shape
        torch.Size([5, 2])
    """

    name = "cyclegan"

    def __init__(self, encoder: nn.Module | str = "mlp", decoder: nn.Module | str = "mlp") -> None:
        super().__init__()
        self.encoder, self.decoder = net_of(encoder), net_of(decoder)

    def make(self, x: Tensor, y: Tensor | None) -> None:  # noqa: ARG002
        """Make the maps between two domains of rows like (n, *shape)."""
        shape = tuple(x.shape[1:])
        for net in (self.encoder, self.decoder):
            net.build(shape, shape)
        self.decoder.set_bias(x.mean(0))

    def model(self, x: Tensor, other: Tensor) -> None:
        """Declare the way from the other domain to the data.

        Args:
            x: Data, (batch, *shape).
            other: Rows of the other domain, (batch, *shape).

        Raises:
            ValueError: The two domains differ in shape, or `other` isn't of real numbers.
        """
        with self.batch(x):
            dims = len(self.shape or ())
            if other.shape[1:] != self.shape or not other.is_floating_point():
                raise ValueError(
                    f"the other domain must have rows of shape {self.shape} of real numbers, like "
                    f"x; got {tuple(other.shape[1:])} of {other.dtype}"
                )
            b = pyro.sample("b", Delta(other, event_dim=dims))
            pyro.sample("x", Delta(self.decoder(b), event_dim=dims), obs=x)

    def guide(self, x: Tensor) -> None:
        """Declare the way from the data (batch, *shape) to the other domain."""
        with self.batch(x):
            pyro.sample("b", Delta(self.encoder(x), event_dim=len(self.shape or ())))
