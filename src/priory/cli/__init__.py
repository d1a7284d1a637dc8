"""The command line: a file for each verb, which says what may be typed and does the work."""

from priory.cli.entry import main

__all__ = ["main"]
