"""Whether a guide is the posterior: calibration, predictive checks, gaps."""
