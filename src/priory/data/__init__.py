"""Named data sets, the user's own files, and toys, as columns on a device."""

from priory.data.data import Data
from priory.data.domains import DOMAINS
from priory.data.feed import Feed
from priory.data.named import ImageSet
from priory.data.preparation import Preparation
from priory.data.sets import DataSet
from priory.data.split import Split
from priory.data.table import SETS
from priory.data.toys import DENSITIES, GRID, RING, Mixture, Toy, toy

__all__ = [
    "DENSITIES",
    "DOMAINS",
    "GRID",
    "RING",
    "SETS",
    "Data",
    "DataSet",
    "Feed",
    "ImageSet",
    "Mixture",
    "Preparation",
    "Split",
    "Toy",
    "toy",
]
