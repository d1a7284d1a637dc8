"""Completion, by bash itself; of the other shells, that every verb and option is in the script."""

import shutil
import subprocess

import pytest

from priory.cli import main
from priory.cli.completion import SHELLS, options_by_verb
from priory.cli.entry import VERBS
from priory.data import SETS
from priory.priors import PRIORS
from priory.recipes import RECIPES


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "priory.bash"
    path.write_text(SHELLS["bash"]())
    return path


@pytest.fixture
def completed(script, tmp_path):
    """What bash offers for the last of some words."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    for name in ("runs/one", "runs/two"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.yaml").touch()
    (tmp_path / "other").mkdir()

    def offer(*words):
        given = " ".join(f"'{word}'" for word in ("priory", *words))
        lines = [f"source '{script}'", f"COMP_WORDS=({given})", f"COMP_CWORD={len(words)}"]
        lines += ["_priory", 'printf "%s\\n" "${COMPREPLY[@]}"']
        done = subprocess.run(
            ["bash", "--norc", "-c", "\n".join(lines)],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert not done.stderr
        return done.stdout.split()

    return offer


def test_verbs_recipes_data_and_parts(completed):
    assert {*completed("")} == {*VERBS, "--help", "--version"}
    assert completed("comp") == ["compare", "completion"]
    assert completed("fit", "vamp-v") == ["vamp-vae"]
    assert {*RECIPES} <= {*completed("fit", "")}
    assert {*completed("fit", "vae", "--data", "")} == {*SETS}
    assert completed("fit", "vae", "--prior", "vam") == ["vamp"]
    assert {*completed("compare", "--prior", "")} == {*PRIORS}
    assert completed("fit", "vae", "--precision", "") == ["float32", "bf16"]
    assert completed("completion", "b") == ["bash"]
    assert completed("list", "prior") == ["priors"]


def test_options_of_the_verb(completed):
    assert "--checkpoint-every" in completed("fit", "vae", "--check")
    assert completed("evaluate", "runs/one", "--checkpoint") == []
    assert completed("sample", "runs/one", "--chain-s") == ["--chain-steps"]
    assert completed("push", "runs/one", "me/x", "--pr") == ["--private"]


def test_folders_of_runs(completed):
    assert completed("evaluate", "") == ["runs/"]
    assert sorted(completed("evaluate", "runs/")) == ["runs/one", "runs/two"]
    assert completed("compare", "runs/one", "runs/t") == ["runs/two"]
    assert "runs/one" in completed("fit", "runs/o")
    assert completed("evaluate", "oth") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_every_verb_and_option_is_in_the_script(shell, capsys):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    for verb, options in options_by_verb().items():
        assert verb in text
        dashes = "-l " if shell == "fish" else "--"
        assert all(f"{dashes}{name}" in text for name in options)


def test_an_unknown_shell_lists_those_there_are(capsys):
    assert main(["completion", "tcsh"]) == 2
    assert "the names are bash, fish, zsh" in capsys.readouterr().err
