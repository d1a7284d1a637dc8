"""compare: every combination of recipes, priors and objectives, trained and judged alike."""

from priory.comparing.fits import FailedFits, Task, compare, plan
from priory.comparing.labels import fresh, labelled, slug, spell

__all__ = ["FailedFits", "Task", "compare", "fresh", "labelled", "plan", "slug", "spell"]
