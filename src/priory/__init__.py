"""Priory: deep generative models as Pyro pairs, trained by one loop and judged by one module.

The verbs are here; the parts are in `priory.models`, `priory.priors`, `priory.nets`,
`priory.inference`, `priory.divergences`, `priory.data` and `priory.evaluation`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from priory.comparing import compare, compare_runs
    from priory.evaluation.arrays import evaluate_samples
    from priory.evaluation.evaluate import evaluate
    from priory.inference import fit, load

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "compare",
    "compare_runs",
    "evaluate",
    "evaluate_samples",
    "fit",
    "load",
]

_HOMES = {
    "compare": "priory.comparing",
    "compare_runs": "priory.comparing",
    "evaluate": "priory.evaluation",
    "evaluate_samples": "priory.evaluation",
    "fit": "priory.inference",
    "load": "priory.inference",
}


def __getattr__(name: str) -> Any:
    """Import a verb when it is first asked for, so that `import priory` itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'priory' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
