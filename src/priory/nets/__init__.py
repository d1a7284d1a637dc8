"""Encoders, decoders and critics, and the nets that they are made of."""

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from priory.nets.affine import Affine
from priory.nets.autoregressive import AutoregressiveNet
from priory.nets.autoregressive_decoder import AutoregressiveDecoder
from priory.nets.base import Net, Wrapped, as_net
from priory.nets.conv import Conv, Deconv
from priory.nets.conv1d import Conv1d, Deconv1d
from priory.nets.critics import Critic, Joint, Planes, Projection
from priory.nets.dcgan import DCGAN, DCGANCritic
from priory.nets.decoder import Decoder
from priory.nets.denoiser import Denoiser
from priory.nets.encoder import ConditionalEncoder, Encoder
from priory.nets.flow import FlowNet, FlowUnits
from priory.nets.fourier import Fourier
from priory.nets.glow import Glow
from priory.nets.gru import GRU, GRUDecoder
from priory.nets.made import MADE
from priory.nets.mlp import MLP
from priory.nets.one_hot import one_hot
from priory.nets.pixelcnn import PixelCNN
from priory.nets.resnet import ResNet
from priory.nets.sets import DeepMean, TwoSample
from priory.nets.sparse_gp import SparseGP
from priory.nets.stochastic import StochasticLayer
from priory.nets.table import AUTOREGRESSIVE, FLOWS, NETS, TIMED
from priory.nets.time_mlp import TimeMLP
from priory.nets.timed import TimedNet
from priory.nets.transformer import Transformer, TransformerDecoder
from priory.nets.unet import UNet
from priory.nets.vector_flows import MAF, NICE, NSF, RealNVP
from priory.registry import registry

_SETS: dict[str, Any] = registry(Critic, globals())
_NETS: dict[str, Any] = NETS
CRITICS: Mapping[str, type[Net] | type[Critic]] = ChainMap(_SETS, _NETS)  # as they grow

__all__ = [
    "AUTOREGRESSIVE",
    "CRITICS",
    "DCGAN",
    "FLOWS",
    "GRU",
    "MADE",
    "MAF",
    "MLP",
    "NETS",
    "NICE",
    "NSF",
    "TIMED",
    "Affine",
    "AutoregressiveDecoder",
    "AutoregressiveNet",
    "ConditionalEncoder",
    "Conv",
    "Conv1d",
    "Critic",
    "DCGANCritic",
    "Decoder",
    "Deconv",
    "Deconv1d",
    "DeepMean",
    "Denoiser",
    "Encoder",
    "FlowNet",
    "FlowUnits",
    "Fourier",
    "GRUDecoder",
    "Glow",
    "Joint",
    "Net",
    "PixelCNN",
    "Planes",
    "Projection",
    "RealNVP",
    "ResNet",
    "SparseGP",
    "StochasticLayer",
    "TimeMLP",
    "TimedNet",
    "Transformer",
    "TransformerDecoder",
    "TwoSample",
    "UNet",
    "Wrapped",
    "as_net",
    "one_hot",
]
