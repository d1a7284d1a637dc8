"""Ways between data through a latent space, and how well they keep what they should."""

from priory.evaluation.interpolation.codec import Codec
from priory.evaluation.interpolation.judge import Judge
from priory.evaluation.interpolation.path import lerp, slerp, strips
from priory.evaluation.interpolation.points import Points, codec_of, points_of
from priory.evaluation.interpolation.translation import Translations, paired, translate
from priory.evaluation.interpolation.traversal import Traversal, traverse, traverse_tree
from priory.evaluation.interpolation.vector_arithmetic import (
    Arithmetic,
    Moments,
    along,
    arithmetic,
    class_moments,
    pair_paths,
)

__all__ = [
    "Arithmetic",
    "Codec",
    "Judge",
    "Moments",
    "Points",
    "Translations",
    "Traversal",
    "along",
    "arithmetic",
    "class_moments",
    "codec_of",
    "lerp",
    "pair_paths",
    "paired",
    "points_of",
    "slerp",
    "strips",
    "translate",
    "traverse",
    "traverse_tree",
]
