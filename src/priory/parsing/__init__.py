"""Parts written as text, as the command line and recipes name them."""

from priory.parsing.texts import (
    OPTIMS,
    convert,
    describe,
    parse,
    parse_function,
    parse_objective,
    part_of,
    read,
    unbracket,
)

__all__ = [
    "OPTIMS",
    "convert",
    "describe",
    "parse",
    "parse_function",
    "parse_objective",
    "part_of",
    "read",
    "unbracket",
]
