"""compare: combinations of recipes and their parts, or runs that are there, side by side."""

from priory.comparison.fits import FailedFits, Task, compare, plan
from priory.comparison.parts import comma_list, fresh, labelled, slug, spell
from priory.comparison.runs import compare_runs
from priory.comparison.spaces import Choices, Range, read_search
from priory.comparison.tune import tune

__all__ = [
    "Choices",
    "FailedFits",
    "Range",
    "Task",
    "comma_list",
    "compare",
    "compare_runs",
    "fresh",
    "labelled",
    "plan",
    "read_search",
    "slug",
    "spell",
    "tune",
]
