"""From a pair to ArviZ: posterior, predictive and prior draws, a log likelihood for LOO."""

from priory.evaluation.arviz.adapter import loo, to_arviz

__all__ = ["loo", "to_arviz"]
