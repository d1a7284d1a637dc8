"""The card of a run: it says what the run's own files and report say, and is kept up to date."""

import json
import re

import pytest
import torch
import yaml

from priory import fit, load
from priory.cli import main
from priory.data import Data
from priory.divergences import mmd
from priory.inference import ELBO, Adversarial, Match, Reconstruction
from priory.inference.card import CARD, spelled, warnings_from
from priory.models import VAE
from priory.nets import MLP
from priory.priors import VampPrior
from priory.recipes import RECIPES
from priory.serialisation import to_config

WORDS = "fit vamp-vae --data ring --rows 300 --prior vamp:3 --latent 2 --steps 4 --lr 0.004"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    nets = ["--encoder", "mlp:8", "--decoder", "mlp:8", "--objective", "iwae:3", "--seed", "7"]
    assert main([*WORDS.split(), *nets, "--out", str(folder / "run")]) == 0
    return folder / "run"


def parts(folder):
    text = (folder / CARD).read_text()
    _, front, body = text.split("---\n", 2)
    sections = dict(re.findall(r"^## (.*?)\n\n(.*?)(?=^## |\Z)", body, re.M | re.S))
    return yaml.safe_load(front), sections


def test_a_card_says_what_the_run_is(folder):
    front, sections = parts(folder)
    assert front["library_name"] == "priory"
    assert {"vae", "vampprior", "ring", "vamp-vae"} <= {*front["tags"]}
    what = sections["What it is"]
    assert "prior: `VampPrior(components=3" in what
    assert "objective: `IWAE(particles=3)`" in what
    assert f"`vamp-vae`, {RECIPES['vamp-vae'].paper}" in what
    run = load(folder)
    rows = [f"{len(getattr(run.data, s)):,} {s}" for s in ("train", "valid", "test")]
    assert f"rows: {', '.join(rows)}" in sections["Data"]
    training = sections["Training"]
    assert "length: 4 steps" in training
    assert "lr 0.004" in training
    assert "seed 7" in training
    assert f"torch {torch.__version__.partition('+')[0]}" in training
    assert f"{run.history[-1]['bound']:.2f} nats" in training
    assert "Not evaluated yet" in sections["Figures"]


def test_its_figures_are_the_reports(folder, capsys):
    before = (folder / CARD).read_text().replace("to use it", "to use it, by me")
    (folder / CARD).write_text(before)
    words = [
        "--metrics",
        "nll,active_units,mmd",
        "--particles",
        "3",
        "--limit",
        "30",
        "--n-samples",
        "30",
    ]
    assert main(["evaluate", str(folder), *words]) == 0
    assert "card.md up to date" in capsys.readouterr().out
    report = json.loads((folder / "report.json").read_text())
    text = (folder / CARD).read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    found = {row[0]: row for row in rows[2:]}
    shown = [r for r in report["records"] if r["name"] in ("nll", "active_units", "mmd")]
    assert len(shown) == 3
    for record in shown:
        _, value, *_, n = found[record["name"]]
        number, _, se = value.partition(" ± ")
        digits = len(number.partition(".")[2])
        assert number == f"{record['value']:.{digits}f}"
        assert not se or float(se) == pytest.approx(record["se"], abs=0.6 * 10**-digits)
        assert n == str(record["n"])
        assert record["kind"] in found[record["name"]]
        assert all(warning["text"] in text for warning in record["warnings"])
    assert text.count("## How to use it, by me") == 1
    assert main(["evaluate", str(folder), *words, "--seed", "1"]) == 0
    again = (folder / CARD).read_text()
    assert again.count("| nll |") == 1
    assert "seed 1)" in again


@pytest.mark.filterwarnings("default:.*has no place")
def test_an_older_run_gets_a_card_and_a_foreign_one_is_left(folder, tmp_path, capsys):
    (folder / CARD).unlink()
    words = ["evaluate", str(folder), "--metrics", "nll", "--particles", "2", "--limit", "9"]
    assert main(words) == 0
    assert "| nll |" in (folder / CARD).read_text()
    (folder / CARD).write_text("mine")
    assert main(words) == 0
    assert (folder / CARD).read_text() == "mine"
    assert "has no place for figures" in capsys.readouterr().err


def test_both_ways_to_a_folder_write_the_same_card(tmp_path):
    data = Data.from_arrays(torch.randn(60, 3), valid=10, test=10)
    options = {"steps": 2, "compile": "off", "progress": False}
    run = fit(VAE(latent=2), ELBO(), data, folder=tmp_path / "kept", **options)
    run.save(tmp_path / "saved")
    kept, saved = ((tmp_path / name / CARD).read_text() for name in ("kept", "saved"))
    assert kept == saved
    assert "the data (the same arrays to Data.from_arrays" in kept
    assert "## Warnings of the training\n\nNone." in kept


def test_warnings_of_the_training_are_in_it():
    rows = [{"step": 1, "bound": -1.0}, {"step": 2, "bound": -900.0, "fallen": -1.0}]
    (text,) = warnings_from(rows)
    assert text.startswith("the validation bound has fallen from -1 to -900 nats")
    assert text.endswith("(at step 2)")


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (VampPrior(100), "VampPrior(components=100)"),
        (ELBO(), "ELBO()"),
        (Reconstruction() + 10 * Match(mmd, "z"), "Reconstruction() + 10 * Match(divergence=mmd)"),
        (Adversarial(MLP((4,)), "z"), "Adversarial(critic=MLP(hidden=(4,))"),
    ],
)
def test_parts_are_spelled_as_in_python(part, text):
    assert spelled(to_config(part)).startswith(text)
