"""The command line's entry point: what needs no more than its texts is printed without torch."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

VERBS = {
    "fit": "Train a recipe, or a pair of your own, and keep the run in a folder",
    "evaluate": "Judge a run, or samples of any origin, by the same measures as every other",
    "sample": "Draw samples from a run, as a picture or as arrays",
    "encode": "Encode rows by a run: means, scales and draws of its latents, clusters and classes",
    "score": "Score rows by a run: the log likelihood of each, with its standard error",
    "impute": "Fill missing entries of rows in: means, quantiles and draws given what is seen",
    "export": "Write a run's encoder, decoder and sampler as ONNX models",
    "explore": "Write a page, one file for any browser, on which the latents of runs are explored",
    "compare": "Train every combination of priors, objectives and recipes, and judge all alike",
    "tune": "Search for the options of a recipe that are best by its validation bound",
    "insight": (
        "Show which training rows a run covers thinly, and weigh all so that these come up more"
    ),
    "paths": "Draw images moved from class to class by the difference of their codes' centroids",
    "push": "Send a run to a model hub, with its card",
    "pull": "Fetch a run from a model hub",
    "completion": "Print what bash, zsh or fish completes the words of a command by",
    "list": "Show the recipes, priors, objectives, data sets and other parts by name",
}
"""What each verb does. Its file in `priory.cli` has its name, and is imported when it is used."""

_ABOUT = """usage: priory COMMAND [options]

Deep generative models as Pyro pairs: exchange the prior, the objective or the family, and trust
the comparison.

{verbs}

priory COMMAND --help shows a command's options, priory --version the version.

Parts are written name, name:argument or name:key=value, for instance vamp:100, mlp:200,200:tanh,
iwae:10, elbo:beta=0.5, 'reconstruction + 10*match:mmd'. priory list shows what there is."""

_SPINS = "10000"
"""How often a waiting thread of torch looks before it sleeps: by default it looks so long that two
threads beside another busy process wait for each other."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: words after the program's name; those of the process by default.

    Returns:
        0; 1 if something failed on the way, 2 if the request was wrong, 130 after Ctrl-C, 143
        after SIGTERM, 129 after SIGHUP.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("--help", "-h", "help"):
        lines = [f"  {name.ljust(12)}{about}" for name, about in VERBS.items()]
        print(_ABOUT.format(verbs="\n".join(lines)))
        return 0
    if words[0] == "--version":
        from priory import __version__

        print(f"priory {__version__}")
        return 0
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    return uncollected("priory.cli.dispatch").run(words)  # imports torch


def uncollected(name: str) -> Any:
    """Import a module while no garbage is collected: what is imported stays, and none is found.

    Args:
        name: the module's; what it imports in turn makes objects by the hundred thousand.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        if collects:
            gc.enable()
