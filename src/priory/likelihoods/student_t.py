"""Real data with odd values."""

from pyro.distributions import TorchDistribution
from torch import Tensor

from priory.distributions.continuous import IndependentStudentT
from priory.likelihoods.base import Scaled


class StudentT(Scaled):
    r"""Independent Student t pixels; a map of centres and, with scale "pixel", one of log scales.

    .. math:: x_i \sim t_n(a_i + b_i m_i, (b_i s_i)^2)

    For columns of real numbers some of which are far from all others: the gradient of such a value
    falls with its distance, where the normal's grows. Units are those of `Normal`. Lange, Little
    and Taylor, 1989, Robust statistical modeling using the t distribution.

    Args:
        df: Degrees of freedom n, above 1, so that there is a mean.
        scale: "learned" for one scalar s learned with the decoder, "pixel" for one from the decoder
            at every pixel, or a fixed scale in the data's units.

    Raises:
        ValueError: There are too few degrees of freedom, or the scale is neither of the words nor a
            positive number.

    Example:
        >>> import torch
        >>> head = StudentT(df=3)
        >>> head.build(torch.randn(10, 4))
        >>> head(torch.zeros(5, 1, 4)).event_shape
        torch.Size([4])
    """

    name = "student-t"

    def __init__(self, df: float = 4.0, scale: str | float = "learned") -> None:
        super().__init__(scale)
        if not 1 < df < float("inf"):
            raise ValueError(
                f"df must be above 1, so that there is a mean, got {df}; many are scale='learned' "
                "of the normal likelihood"
            )
        self.df = df

    def distribution(self, maps: tuple[Tensor, ...], event_dim: int) -> TorchDistribution:
        """Return the distribution for maps (centres,) or (centres, log scales)."""
        return IndependentStudentT(*self.located(maps), self.df, event_dim)
