"""compare: combinations of recipes and their parts, or runs that are there, side by side."""

from priory.comparison.fits import FailedFits, Task, compare, plan
from priory.comparison.parts import fresh, labelled, slug, spell
from priory.comparison.runs import compare_runs

__all__ = [
    "FailedFits",
    "Task",
    "compare",
    "compare_runs",
    "fresh",
    "labelled",
    "plan",
    "slug",
    "spell",
]
