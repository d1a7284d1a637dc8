"""What each command imports: help must not wait for what only work needs."""

import json
import subprocess
import sys
from importlib import import_module

import pytest

from priory.cli.entry import VERBS
from priory.cli.grammar import Request

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


@pytest.fixture(scope="module")
def stages():
    """What one fresh process has imported after each of some steps, from the lightest on."""
    steps = {
        "fit": "assert main(['fit', '--help']) == 0",
        "help": (
            f"for verb in {[*VERBS]}: assert main([verb, '--help']) == 0\n"
            "assert main(['compare', 'runs/a', '--help']) == 0\n"
            "assert gc.isenabled()"
        ),
        "part": "from priory.evaluation import wasserstein2",
        "whole": (
            "import priory.evaluation.judging, priory.evaluation.arviz, priory\n"
            "import priory.evaluation as evaluation\n"
            "from inspect import ismodule\n"
            "assert {*evaluation.__all__} <= {*dir(evaluation)}\n"
            "assert not [n for n in evaluation.__all__ if ismodule(getattr(evaluation, n))]\n"
            "assert priory.evaluate is evaluation.evaluate"
        ),
    }
    lines = ["import gc, json, sys", "from priory.cli import main", "found = {}"]
    for name, code in steps.items():
        lines += [code, f"found[{name!r}] = sorted(sys.modules)"]
    script = "\n".join([*lines, "print()", "print(json.dumps(found))"])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: set(modules) for name, modules in found.items()}


def test_help_imports_nothing_that_only_work_needs(stages):
    assert not stages["fit"] & (HEAVY | {"priory.evaluation"})
    heavy = HEAVY | {"priory.evaluation.table", "priory.evaluation.report"}
    assert not stages["help"] & heavy


def test_a_part_of_the_evaluation_is_imported_alone(stages):
    assert "priory.evaluation" in stages["part"]
    assert not stages["part"] & {"priory.evaluation.table", "priory.evaluation.report"}


def test_a_name_of_the_evaluation_is_no_module(stages):
    assert "priory.evaluation.judging" in stages["whole"]


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_is_a_file_of_one_pattern(name):
    module = import_module(f"priory.cli.{name}")
    command = module.command(Request([]))
    assert command.usage.startswith(f"priory {name} ")
    assert command.about.startswith(f"{VERBS[name]}.")
    assert callable(command.act)
