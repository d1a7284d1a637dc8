"""What each command imports: help must not wait for what only work needs."""

import json
import subprocess
import sys
from importlib import import_module

import pytest

from priory.cli.entry import VERBS
from priory.signatures import summary

HEAVY = {"sklearn", "scipy.stats", "matplotlib", "pandas", "arviz", "xarray", "rich", "joblib"}


def imported(code):
    """The names of the modules that a fresh process has imported after some code."""
    tail = "import json, sys; print(); print(json.dumps(sorted(sys.modules)))"
    words = [sys.executable, "-c", f"{code}\n{tail}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("words", [[], ["--help"], ["help"], ["--version"]])
def test_the_front_door_needs_no_torch(words):
    found = imported(f"from priory.cli import main; assert main({words}) == 0")
    assert not found & {"torch", "pyro", "numpy", "priory.inference"}


def test_help_imports_nothing_that_only_work_needs():
    found = imported("from priory.cli import main; assert main(['fit', '--help']) == 0")
    assert not found & (HEAVY | {"priory.evaluation"})
    found = imported(
        "from priory.cli import main\n"
        f"for verb in {[*VERBS]}: assert main([verb, '--help']) == 0\n"
        "assert main(['compare', 'runs/a', '--help']) == 0"
    )
    assert not found & HEAVY


def test_a_part_is_read_without_the_evaluation():
    found = imported(
        "from priory.priors import PRIORS\n"
        "from priory.specs import parse, parse_objective\n"
        "assert parse('prior', 'vamp:100', PRIORS).components == 100\n"
        "parse_objective('reconstruction + 10*match:mmd')"
    )
    assert not found & (HEAVY | {"priory.evaluation"})


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_is_summed_up_in_its_own_words(name):
    module, function = VERBS[name].at
    assert VERBS[name].about == summary(getattr(import_module(f"priory.cli.{module}"), function))
