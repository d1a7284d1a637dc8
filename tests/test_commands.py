"""Every command that the help, the README and the documentation name is taken, and runs."""

import re
import shlex
import shutil
import warnings
from pathlib import Path

import numpy as np
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


def errors_of(words, monkeypatch, folder):
    """What is wrong with a command's options, read where the runs that it names are there."""
    found = []

    def read(self, rest, errors, plain=Command.read):
        plain(self, rest, errors)
        found.extend(f for f in errors.found if not f.startswith("fit needs a name"))
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
            assert not errors_of(words, monkeypatch, folder), words


@pytest.mark.parametrize("verb", [v for v in VERBS if v != "list"])
def test_commands_of_the_help_are_taken(verb, capsys, folder, monkeypatch):
    main([verb, "--help"])
    found = commands(capsys.readouterr().out.partition("examples:")[2])
    assert found
    for words in found:
        assert not errors_of(words, monkeypatch, folder), words


# Runs that the commands name, by the recipe that makes them; all others are a VAE's.
RUNS = {
    "runs/cgan": "cgan",
    "runs/infogan": "infogan",
    "runs/cvae-digits-seed0": "cvae",
    "runs/dae": "dae",
    "runs/dae-digits-seed0": "dae",
    "runs/ddpm": "ddpm",
    "runs/gan": "ns-gan",
    "runs/guided": "ddpm-guided",
    "runs/mnist": "ddpm",
    "runs/two-layer-vae": "two-layer-vae",
    "runs/walkback": "variational-walkback",
    "runs/years": "gp-vae",
}
AWAY = ("push", "pull")  # from a hub, for which a server stands in test_hub
IMAGES = ("mnist", "static-mnist")
FEWER = {
    "--epochs": "1",
    "--particles": "2",
    "--seeds": "1",
    "--n": "4",
    "--steps": "3",
    "--trials": "2",
    "--jobs": "1",
}
OWN = """
from priory.models import VAE


class MyPair(VAE):
    def __init__(self, likelihood="normal"):
        super().__init__(likelihood=likelihood, latent=2)
"""


CHAINS = ("infusion", "variational-walkback", "ddpm", "flow-matching")


def shortened(words):
    """A command with little to do: few fits, steps, rows and particles, on data at hand."""
    verb, resumes = words[0], any(word.startswith("--resume") for word in words)
    short = []
    for before, word in zip(["", *words], words, strict=False):
        if "--backend" not in (before, word):  # a cluster that is not there
            short.append(FEWER.get(before, "digits" if word in IMAGES else word))
    if verb == "compare" and not short[1].startswith("runs/"):
        lists = [short.index(o) + 1 for o in ("--objective", "--prior", "--recipe") if o in short]
        for i, place in enumerate(lists):  # of one list two parts, of the others one
            short[place] = ",".join(short[place].split(",")[-2 if i == 0 else -1 :])
        short += ["--steps", "3", "--jobs", "1", "--particles", "2", "--metrics", "nll"]
        short += [] if "--seeds" in short else ["--seeds", "1"]
    elif verb == "tune":
        short += ["--particles", "2", "--metrics", "nll", "--encoder", "mlp:4"]
        short += [] if "--epochs" in short else ["--epochs", "1"]
    elif verb in ("compare", "evaluate"):
        short += ["--limit", "16"]
        short += ["--few", "2", "--n-samples", "16"] if "--samples" not in short else []
        short += ["--metrics", "nll,mmd"] if not {"--metrics", "--samples"} & {*short} else []
    elif verb == "fit" and resumes:
        return [*short, "--steps", "12"] if "--steps" not in short else [*short[:-1], "12"]
    elif verb == "fit" and "--epochs" not in short:
        short += ["--steps", "3"]
        ways = len(short) > 1 and short[1] in CHAINS  # of many steps for a bound
        short += ["--valid-every", "0"] if ways and "--valid-every" not in short else []
    return [*short, "--overwrite"]


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A folder with what the commands name: runs, files of data and of samples, pairs."""
    folder = tmp_path_factory.mktemp("there")
    every = [w for page in PAGES for words in commands(page.read_text("utf-8")) for w in words]
    named = {word for word in every if word.startswith("runs/")}
    for name in sorted(named | {*RUNS, "runs/vae", "runs/vae-digits-seed0"}):
        recipe = RUNS.get(name, "vae")
        made = folder / "made" / recipe
        if not made.exists():
            data = "sunspot-years" if recipe == "gp-vae" else "digits"
            words = ["fit", recipe, "--data", data, "--steps", "2", "--out", str(made)]
            words += ["--net", "time-mlp:16:1", "--timesteps", "50"] if "ddpm" in recipe else []
            assert main(words) == 0
        shutil.copytree(made, folder / name)
    draw = np.random.default_rng(0)
    for name in ("fake.npz", "test.npz"):
        np.savez(folder / name, x=draw.normal(size=(40, 3)).astype("float32"))
    np.savez(folder / "new.npz", x=draw.random((12, 1, 8, 8)) < 0.5)  # as the runs' own digits
    for name in ("table.csv", "my_table.csv", "gaps.csv"):
        x = draw.normal(size=(60, 3))
        np.savetxt(folder / name, x, delimiter=",", header="a,b,c", comments="")
    x = np.stack([np.arange(60) // 3, draw.normal(size=60)], 1)
    np.savetxt(folder / "steps.csv", x, delimiter=",", header="id,a", comments="")
    x = np.stack([draw.normal(40, 9, 60), draw.poisson(3, 60), np.arange(60) % 3], 1)
    x = np.concatenate([x, draw.gamma(2, size=(60, 1))], 1)
    names = "age,visits,ward,dose"
    np.savetxt(folder / "patients.csv", x, delimiter=",", header=names, comments="")
    (folder / "path" / "to").mkdir(parents=True)
    for name in ("my_pairs.py", "path/to/file.py"):
        (folder / name).write_text(OWN)
    return folder


def whole(words):
    """Whether a command is one to type; a sentence may name a verb alone, or an option of it."""
    if words[0] == "list" or len(words) == 1:
        return words[0] == "list"
    named = not words[1].startswith("-") or words[1] == "--samples" or words[0] == "compare"
    return named and not {"RUN", "..."} & {*words} and words[-1] != "--seed"


def every_command(capsys):
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    for verb in VERBS:
        main([verb, "--help"])
        pages.append(capsys.readouterr().out.partition("examples:")[2])
    found = [words for page in pages for words in commands(page)]
    return [[*words] for words in dict.fromkeys(map(tuple, found)) if whole(words)]


def test_commands_run(there, capsys, monkeypatch, no_pixels):
    monkeypatch.chdir(there)
    every = every_command(capsys)
    assert {words[0] for words in every} == {*VERBS}
    for words in (words for words in every if words[0] not in AWAY):
        short = words if words[0] in ("list", "completion") else shortened(words)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a run that goes on to another end says so
            assert main(short) == 0, f"priory {shlex.join(short)}: {capsys.readouterr().err}"
