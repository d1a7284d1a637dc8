"""The nets by name."""

from torch import nn

from priory.names import lookup
from priory.nets.base import Net, as_net
from priory.nets.conv import Conv, Deconv
from priory.nets.dcgan import DCGAN, DCGANCritic
from priory.nets.fourier import Fourier
from priory.nets.mlp import MLP
from priory.nets.resnet import ResNet

NETS: dict[str, type[Net]] = {
    "conv": Conv,
    "dcgan": DCGAN,
    "dcgan-critic": DCGANCritic,
    "deconv": Deconv,
    "fourier": Fourier,
    "mlp": MLP,
    "resnet": ResNet,
}


def net_of(net: nn.Module | str) -> Net:
    """Return a net as it is, any other module wrapped as one, and a name's net.

    Raises:
        ValueError: There is no net of that name.
    """
    return as_net(lookup("net", net, NETS))
