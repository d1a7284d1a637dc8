"""Mangled command lines: an exit code and one message, never a traceback, nothing dropped."""

import contextlib
import functools
import io
import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import budget
from priory.cli import main
from priory.data import Data
from priory.inference import Run

SMALL = ["--encoder", "mlp:4", "--decoder", "mlp:4", "--latent", "2", "--steps", "2"]


class Reached(ValueError):
    """All options were accepted: what follows is work."""


def stopped(function):
    @functools.wraps(function)
    def stop(*_, **__):
        raise Reached("reached")

    return stop


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A folder with a run, a table, and nothing to train or to load."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "100")
        assert run(["fit", "vae", *SMALL, "--out", "kept"])[0] == 0
        np.savetxt(folder / "rows.csv", np.ones((30, 3)) * np.arange(3), delimiter=",")
        for module in [m for name, m in sys.modules.items() if name.startswith("priory.cli.")]:
            for name in {"fit", "evaluate", "compare"} & set(vars(module)):
                patch.setattr(module, name, stopped(getattr(module, name)))
        patch.setattr(Run, "sample", stopped(Run.sample))
        for name in ("named", "from_file", "open"):
            patch.setattr(Data, name, staticmethod(stopped(getattr(Data, name))))
        yield


def run(words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return code, out.getvalue(), err.getvalue()


@functools.cache
def options(verb, *name):
    """The options that a verb's help shows."""
    _, out, _ = run([verb, *name, "--help"])
    return sorted(set(re.findall(r"^  --([\w.-]+)", out, re.MULTILINE)))


VALUES = st.one_of(
    st.sampled_from(
        ["1", "0", "-1", "3", "0.5", "nan", "inf", "1e3", "1e400", "x", "", " ", "none", "true"]
    ),
    st.sampled_from(
        ["digits", "ring", "digist", "rows.csv", "none.csv", ".", "kept", "kept/config.yaml"]
    ),
    st.sampled_from(
        [
            "normal",
            "vamp:5",
            "vmap",
            "vamp:",
            "mlp:4,4",
            "mlp:0",
            "elbo",
            "iwae:2,elbo",
            "(",
            "~x/y",
        ]
    ),
    st.sampled_from(["cpu", "gpu9", "auto", "adam", "adam:lr=", "cosine", "linear:0:1:9", "a/b/c"]),
    st.text(max_size=5),
    st.just("\0"),
    st.just("n" * 300),
)
NAMES = {
    "fit": ["vae", "gan", "vea", "none.py:Mine", "", "~x.py"],
    "evaluate": ["kept", "nowhere", "rows.csv", "", "~x", None],
    "sample": ["kept", "nowhere", ""],
    "insight": ["kept", "nowhere", None],
    "paths": ["kept", "nowhere", None],
    "compare": [None, "kept"],
    "list": ["priors", "prior", None],
}


@st.composite
def command_lines(draw):
    verb = draw(st.sampled_from(sorted(NAMES)))
    name = draw(st.sampled_from(NAMES[verb]))
    known = options(*way_of([verb, name]))
    words = [verb, *([] if name is None else [name])]
    for _ in range(draw(st.integers(0, 4))):
        option = draw(st.sampled_from(known or ["seed"]))
        edit = draw(st.sampled_from(["", "", "", "", "cut", "no-", "x", "under", "upper"]))
        if edit == "cut":
            option = option[:-1]
        elif edit == "under":
            option = option.replace("-", "_")
        elif edit == "upper":
            option = option.upper()
        else:
            option = edit + option
        form = draw(st.sampled_from(["--o v", "--o v", "--o v", "--o=v", "--o", "-o v", "v"]))
        value = draw(VALUES)
        if form == "--o=v":
            words.append(f"--{option}={value}")
        else:
            words += [part.replace("o", option, 1).replace("v", value) for part in form.split()]
    return words


def way_of(words):
    """The verb, and the name on which its options depend."""
    if words[0] == "fit":
        return "fit", "vae"
    runs = words[0] == "compare" and words[1:2] == ["kept"]
    return ("compare", "kept") if runs else (words[0],)


@functools.cache
def spelled(*way):
    return {*options(*way)} | {
        f"{group}.{option}" for group in ("pair", "data") for option in options(*way)
    }


@budget(700)
@given(command_lines())
def test_a_mangled_command_line_exits_in_words(words):
    code, _, err = run(words)
    assert code in (0, 1, 2)
    assert bool(err) == (code != 0)
    assert all(line.startswith("priory: ") for line in err.splitlines()[:1])
    if err != "priory: reached\n":
        return
    assert code == 1
    known = spelled(*way_of(words))
    for word in words[1:]:
        if word.startswith("--"):
            typed = word[2:].partition("=")[0].replace("_", "-")
            assert typed in known or typed.removeprefix("no-") in known, "dropped without a word"


@budget(300)
@given(st.lists(st.one_of(VALUES, st.sampled_from([*NAMES, "--help", "-h", "--"])), max_size=5))
def test_words_without_any_order_exit_in_words(words):
    code, _, err = run(words)
    assert code in (0, 1, 2)
    assert bool(err) == (code != 0)
