"""The command line: fit, evaluate, sample, compare, list."""

from priory.cli.entry import main

__all__ = ["main"]
