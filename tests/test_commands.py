"""Every command that the help, the README and the documentation name is one that is taken."""

import re
import shlex
from pathlib import Path

import pytest

from priory.cli import main
from priory.cli.entry import VERBS
from priory.cli.grammar import Command
from priory.cli.list import TABLES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class Read(Exception):
    """The options were read."""


def commands(text):
    """The commands of a page, as lines of code or in the midst of a sentence, without comments."""
    lines = [*re.findall(r"^ *(priory .*)$", text, re.M), *re.findall(r"`(priory [^`]+)`", text)]
    words = [shlex.split(line.replace("\n", " "), comments=True)[1:] for line in lines]
    return [w for w in words if w and w[0] not in ("COMMAND", "--version", "--help")]


def faults_of(words, monkeypatch, folder):
    """What is wrong with a command's options, read where the runs that it names are there."""
    found = []

    def read(self, rest, faults, plain=Command.read):
        plain(self, rest, faults)
        found.extend(f for f in faults.found if not f.startswith("fit needs a name"))
        raise Read

    words = ["runs/x" if word == "RUN" else word for word in words if word != "..."]
    for word in words:
        if word.startswith("runs/"):
            (folder / word).mkdir(parents=True, exist_ok=True)
            (folder / word / "config.yaml").touch()
    monkeypatch.setattr(Command, "read", read)
    with pytest.raises(Read):
        main(words)
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "from priory.models import VAE\n\n\nclass MyPair(VAE):\n    pass\n"
    (tmp_path / "path" / "to").mkdir(parents=True)
    for name in ("my_pairs.py", "path/to/file.py"):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_of_the_pages_are_taken(page, folder, monkeypatch):
    for words in commands(page.read_text(encoding="utf-8")):
        assert words[0] in VERBS
        if words[0] == "list":
            assert {*words[1:]} <= {*TABLES}
        elif len(words) > 1 and "--help" not in words:
            assert not faults_of(words, monkeypatch, folder), words


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "list"])
def test_commands_of_the_help_are_taken(verb, capsys, folder, monkeypatch):
    main([verb, "--help"])
    found = commands(capsys.readouterr().out.partition("examples:")[2])
    assert found
    for words in found:
        assert not faults_of(words, monkeypatch, folder), words
