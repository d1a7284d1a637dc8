"""The nets by name."""

from torch import nn

from priory.lookup import lookup
from priory.nets.affine import Affine as Affine
from priory.nets.autoregressive import AutoregressiveNet
from priory.nets.base import Net, as_net
from priory.nets.conv import Conv as Conv
from priory.nets.conv import Deconv as Deconv
from priory.nets.conv1d import Conv1d as Conv1d
from priory.nets.conv1d import Deconv1d as Deconv1d
from priory.nets.dcgan import DCGAN as DCGAN
from priory.nets.dcgan import DCGANCritic as DCGANCritic
from priory.nets.flow import FlowNet
from priory.nets.fourier import Fourier as Fourier
from priory.nets.glow import Glow as Glow
from priory.nets.gru import GRU as GRU
from priory.nets.gru import GRUDecoder as GRUDecoder
from priory.nets.made import MADE as MADE
from priory.nets.mlp import MLP as MLP
from priory.nets.pixelcnn import PixelCNN as PixelCNN
from priory.nets.resnet import ResNet as ResNet
from priory.nets.time_mlp import TimeMLP as TimeMLP
from priory.nets.timed import TimedNet
from priory.nets.transformer import Transformer as Transformer
from priory.nets.transformer import TransformerDecoder as TransformerDecoder
from priory.nets.unet import UNet as UNet
from priory.nets.vector_flows import MAF as MAF
from priory.nets.vector_flows import NICE as NICE
from priory.nets.vector_flows import NSF as NSF
from priory.nets.vector_flows import RealNVP as RealNVP
from priory.registry import registry

NETS: dict[str, type[Net]] = registry(Net, globals())
AUTOREGRESSIVE: dict[str, type[AutoregressiveNet]] = registry(AutoregressiveNet, globals())
FLOWS: dict[str, type[FlowNet]] = registry(FlowNet, globals())
TIMED: dict[str, type[TimedNet]] = registry(TimedNet, globals())


def net_of(net: nn.Module | str) -> Net:
    """Return a net as it is, any other module wrapped as one, and a name's net.

    Raises:
        ValueError: There is no net of that name.
    """
    return as_net(lookup("net", net, NETS))
