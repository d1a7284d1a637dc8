"""Pairs of Pyro programs, one file for each family."""

from priory.models.aae import AAE as AAE
from priory.models.autoregressive import Autoregressive as Autoregressive
from priory.models.boltzmann_machine import BoltzmannMachine as BoltzmannMachine
from priory.models.chain import Corruption as Corruption
from priory.models.chain import LatentChain as LatentChain
from priory.models.chain import MarkovChain as MarkovChain
from priory.models.conditional import CVAE as CVAE
from priory.models.conditional import ConditionalGAN as ConditionalGAN
from priory.models.cyclegan import CycleGAN as CycleGAN
from priory.models.dbm import DBM as DBM
from priory.models.dbn import DBN as DBN
from priory.models.deep_autoencoder import DeepAutoencoder as DeepAutoencoder
from priory.models.deep_gp import DeepGPVAE as DeepGPVAE
from priory.models.denoising import DAE as DAE
from priory.models.denoising import GSN as GSN
from priory.models.denoising import DenoisingChain as DenoisingChain
from priory.models.diffusion import BinomialDiffusion as BinomialDiffusion
from priory.models.diffusion import ConditionalDiffusion as ConditionalDiffusion
from priory.models.diffusion import Diffusion as Diffusion
from priory.models.dlgmm import DLGMM as DLGMM
from priory.models.flow import NormalizingFlow as NormalizingFlow
from priory.models.flow_matching import FlowMatching as FlowMatching
from priory.models.gan import GAN as GAN
from priory.models.glo import GLO as GLO
from priory.models.gmvae import GMVAE as GMVAE
from priory.models.gmvae import HierarchicalGMVAE as HierarchicalGMVAE
from priory.models.gp_vae import GPVAE as GPVAE
from priory.models.helmholtz import HelmholtzMachine as HelmholtzMachine
from priory.models.hierarchical import HierarchicalVAE as HierarchicalVAE
from priory.models.hierarchical import TwoLevelVAE as TwoLevelVAE
from priory.models.hmm import HMM as HMM
from priory.models.infogan import InfoGAN as InfoGAN
from priory.models.infusion import Infusion as Infusion
from priory.models.ladder import LadderVAE as LadderVAE
from priory.models.linear_gaussian import FactorAnalysis as FactorAnalysis
from priory.models.linear_gaussian import ProbabilisticPCA as ProbabilisticPCA
from priory.models.masked import MaskedVAE as MaskedVAE
from priory.models.mixtures import GMM as GMM
from priory.models.mixtures import BernoulliMixture as BernoulliMixture
from priory.models.naive_bayes import GaussianNaiveBayes as GaussianNaiveBayes
from priory.models.naive_bayes import NaiveBayes as NaiveBayes
from priory.models.pair import Pair as Pair
from priory.models.rbm import RBM as RBM
from priory.models.semi_supervised import M1 as M1
from priory.models.semi_supervised import M1M2 as M1M2
from priory.models.semi_supervised import M2 as M2
from priory.models.softmax_rbm import SoftmaxRBM as SoftmaxRBM
from priory.models.stacked import StackedGAN as StackedGAN
from priory.models.vae import VAE as VAE
from priory.models.vib import VIB as VIB
from priory.models.vlae import VLAE as VLAE
from priory.models.walkback import VariationalWalkback as VariationalWalkback
from priory.registry import registry

PAIRS: dict[str, type[Pair]] = registry(Pair, globals())

__all__ = ["PAIRS", "Corruption", "DenoisingChain", "LatentChain", "MarkovChain", "Pair"]
__all__ += [pair.__name__ for pair in PAIRS.values()]
