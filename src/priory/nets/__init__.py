"""Encoders, decoders and critics, likelihood heads and posterior heads."""

from priory.nets.base import Net, Shape, Wrapped, as_net
from priory.nets.conv import Conv, Deconv
from priory.nets.critics import Critic, Joint, Planes, Projection
from priory.nets.dcgan import DCGAN, DCGANCritic
from priory.nets.decoder import Decoder
from priory.nets.encoder import Encoder
from priory.nets.fourier import Fourier
from priory.nets.labels import one_hot
from priory.nets.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    ContinuousBernoulli,
    Delta,
    DiscretizedLogistic,
    Likelihood,
    Normal,
    likelihood_for,
)
from priory.nets.mlp import MLP
from priory.nets.posteriors import (
    DeltaPosterior,
    KumaraswamyPosterior,
    NormalPosterior,
    Posterior,
    posterior_for,
)
from priory.nets.resnet import ResNet
from priory.nets.sets import DeepMean, TwoSample
from priory.nets.table import NETS

CRITICS: dict[str, type[Net] | type[Critic]] = {
    **NETS,
    "deep-mean": DeepMean,
    "joint": Joint,
    "planes": Planes,
    "projection": Projection,
    "two-sample": TwoSample,
}

__all__ = [
    "CRITICS",
    "DCGAN",
    "LIKELIHOODS",
    "MLP",
    "NETS",
    "Bernoulli",
    "ContinuousBernoulli",
    "Conv",
    "Critic",
    "DCGANCritic",
    "Decoder",
    "Deconv",
    "DeepMean",
    "Delta",
    "DeltaPosterior",
    "DiscretizedLogistic",
    "Encoder",
    "Fourier",
    "Joint",
    "KumaraswamyPosterior",
    "Likelihood",
    "Net",
    "Normal",
    "NormalPosterior",
    "Planes",
    "Posterior",
    "Projection",
    "ResNet",
    "Shape",
    "TwoSample",
    "Wrapped",
    "as_net",
    "likelihood_for",
    "one_hot",
    "posterior_for",
]
