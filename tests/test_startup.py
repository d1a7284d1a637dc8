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
        "import gc\n"
        "from priory.cli import main\n"
        f"for verb in {[*VERBS]}: assert main([verb, '--help']) == 0\n"
        "assert main(['compare', 'runs/a', '--help']) == 0\n"
        "assert gc.isenabled()"
    )
    assert not found & (HEAVY | {"priory.evaluation.metrics", "priory.evaluation.report"})


def test_a_part_of_the_evaluation_is_imported_alone():
    found = imported("from priory.evaluation import wasserstein2")
    assert not found & {"priory.evaluation.metrics", "priory.evaluation.report"}


def test_a_name_of_the_evaluation_is_no_module():
    found = imported(
        "import priory.evaluation.judging, priory.evaluation.arviz, priory\n"
        "import priory.evaluation as evaluation\n"
        "from inspect import ismodule\n"
        "assert {*evaluation.__all__} <= {*dir(evaluation)}\n"
        "assert not [n for n in evaluation.__all__ if ismodule(getattr(evaluation, n))]\n"
        "assert priory.evaluate is evaluation.evaluate"
    )
    assert "priory.evaluation.judging" in found


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_is_summed_up_in_its_own_words(name):
    module, function = VERBS[name].at
    assert VERBS[name].about == summary(getattr(import_module(f"priory.cli.{module}"), function))
