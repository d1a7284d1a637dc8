"""The named data sets by name."""

from priory.data.named import IMAGE_SETS
from priory.data.sequences import SEQUENCES
from priory.data.series import SERIES
from priory.data.sets import DataSet
from priory.data.toys import TOYS, TREES
from priory.registry import registry

SETS: dict[str, DataSet] = registry(DataSet, (*IMAGE_SETS, *TOYS, *TREES, *SEQUENCES, *SERIES))
