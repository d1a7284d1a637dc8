"""Named data sets, the user's own files, and toys, as columns on a device."""

from priory.data.data import SETS, Data
from priory.data.domains import DOMAINS
from priory.data.feed import Feed
from priory.data.preparation import Preparation
from priory.data.split import Split
from priory.data.toys import DENSITIES, GRID, RING, Mixture, toy

__all__ = [
    "DENSITIES",
    "DOMAINS",
    "GRID",
    "RING",
    "SETS",
    "Data",
    "Feed",
    "Mixture",
    "Preparation",
    "Split",
    "toy",
]
