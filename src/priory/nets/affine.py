"""The net without a hidden layer."""

from priory.nets.mlp import MLP


class Affine(MLP):
    r"""An affine map of the flattened input.

    .. math:: W x + b

    Args:
        spectral: Whether to divide the weight by its largest singular value.
        output: Range of the outputs: "linear", "sigmoid" for [0, 1], "tanh" for [-1, 1].

    Raises:
        ValueError: There is no such output.

    Example:
        >>> net = Affine()
        >>> net.build((1, 8, 8), (10,))
        >>> net(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3, 10])
    """

    name = "linear"

    def __init__(self, spectral: bool = False, output: str = "linear") -> None:
        super().__init__((), spectral=spectral, output=output)
