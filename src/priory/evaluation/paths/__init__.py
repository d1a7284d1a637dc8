"""Ways between data through a latent space, and how well they keep what they should."""

from priory.evaluation.paths.arithmetic import (
    Arithmetic,
    Moments,
    along,
    arithmetic,
    class_moments,
    pair_paths,
)
from priory.evaluation.paths.between import lerp, slerp, strips
from priory.evaluation.paths.codec import Codec
from priory.evaluation.paths.judge import Judge
from priory.evaluation.paths.pairing import Translations, paired, translate

__all__ = [
    "Arithmetic",
    "Codec",
    "Judge",
    "Moments",
    "Translations",
    "along",
    "arithmetic",
    "class_moments",
    "lerp",
    "pair_paths",
    "paired",
    "slerp",
    "strips",
    "translate",
]
