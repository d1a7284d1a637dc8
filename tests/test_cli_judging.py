"""Judging from the command line and from arrays: samples of any origin, trained runs, own rows."""

import csv
import json
import warnings

import numpy as np
import pytest
import torch

from priory import compare_runs, evaluate, evaluate_samples, fit, load
from priory.cli import main
from priory.data import Data
from priory.evaluation.arviz.container import import_arviz
from priory.evaluation.insight import mutate
from priory.inference import ELBO
from priory.models import VAE
from priory.priors import GaussianMixture


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of one label, one of another, and one on mutated data, in folders."""
    folder = tmp_path_factory.mktemp("runs")
    data = Data.named("digits", binarise="threshold")
    options = {"steps": 40, "valid_every": 0, "progress": False}
    for seed in (0, 1):
        run = fit(VAE(latent=3), ELBO(), data, seed=seed, **options)
        run.save(folder / f"normal-seed{seed}")
    mixed = VAE(GaussianMixture(5), latent=3)
    fit(mixed, ELBO(), data, **options).save(folder / "mixture-seed0")
    noise = mutate(data.train.x, 0.2, torch.Generator().manual_seed(0))
    np.savez(folder / "mutated.npz", x=noise.numpy())
    own = Data.from_file(folder / "mutated.npz")
    fit(VAE(latent=3, likelihood="bernoulli"), ELBO(), own, **options).save(folder / "background")
    np.savez(folder / "fake.npz", x=load(folder / "normal-seed0").sample(150)["x"].numpy())
    np.savez(folder / "test.npz", x=data.test.x.numpy()[:140])
    np.savez(folder / "train.npz", x=data.train.x.numpy()[:400])
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_samples_from_files_are_judged_as_in_python(capsys, folder, runs, no_pixels):
    files = ["--samples", runs / "fake.npz", "--against", runs / "test.npz"]
    files += ["--train", runs / "train.npz"]
    code, out, _ = said(capsys, "evaluate", *files, "--json", "a.json", "--html", "a.html")
    assert code == 0
    assert "fake.npz on test" in out
    found = {r["name"]: r for r in json.loads((folder / "a.json").read_text())["records"]}
    with np.load(runs / "fake.npz") as fake, np.load(runs / "test.npz") as test:
        report = evaluate_samples(fake["x"], test["x"], train=np.load(runs / "train.npz")["x"])
    for name in ("mmd", "energy", "sliced_wasserstein", "memorisation", "coverage"):
        assert found[name]["value"] == pytest.approx(report[name].value, abs=1e-12)
    assert found["nll"]["kind"] == "not applicable"
    assert "samples alone" in found["nll"]["note"]
    assert "<html" in (folder / "a.html").read_text()


def test_samples_against_a_named_set_have_its_training_rows(capsys, folder, runs):
    code, out, _ = said(capsys, "evaluate", "--samples", runs / "fake.npz", "--against", "digits")
    assert code == 0
    assert "classifier features" in out
    assert "memorisation" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--samples", "fake.npz"], "--against is needed too"),
        (["--against", "digits"], "--samples is needed too"),
        (["--samples", "gone.npz", "--against", "digits"], "no file or folder"),
        (
            ["--samples", "a.npz", "--against", "digits", "--particles", "5"],
            "particles is for runs",
        ),
        (["runs/x", "--samples", "a.npz", "--against", "digits"], "not both: got runs/x"),
    ],
)
def test_faults_of_samples_are_told_together(capsys, folder, words, message):
    code, _, err = said(capsys, "evaluate", *words)
    assert code == 2
    assert message in err


def test_sets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected rows of shape \(3,\) as in the data"):
        evaluate_samples(torch.zeros(9, 4), torch.zeros(9, 3))
    with pytest.raises(ValueError, match="the samples have no column x, only z"):
        evaluate_samples({"z": torch.zeros(9, 4)}, torch.zeros(9, 3))
    with pytest.raises(ValueError, match="NaN or infinite"):
        evaluate_samples(torch.full((9, 3), torch.nan), torch.zeros(9, 3))


def test_grey_samples_of_binary_data_are_told():
    draw = torch.Generator().manual_seed(0)
    grey = torch.rand(60, 4, generator=draw)
    report = evaluate_samples(grey, (grey.flip(0) > 0.5).float(), metrics=["mmd"], pictures=False)
    assert "the data are binary and the samples not" in report["mmd"].note


def test_a_runs_report_is_kept_in_its_folder(capsys, folder, runs, no_pixels):
    words = ["evaluate", runs / "normal-seed0", "--particles", 5]
    words += ["--metrics", "nll,mmd,frechet", "--limit", 100]
    code, out, _ = said(capsys, *words)
    assert code == 0
    assert out.count("wrote") == 2
    kept = json.loads((runs / "normal-seed0" / "report.json").read_text())
    names = {record["name"] for record in kept["records"]}
    assert {"nll", "frechet", "mmd_real"} <= names
    assert "kl" not in names
    assert said(capsys, *words)[0] == 0  # a report is made anew
    assert load(runs / "normal-seed0").pair.latent == 3


def test_outliers_and_a_background_from_the_command_line(capsys, folder, runs, no_pixels):
    words = ["evaluate", runs / "normal-seed0", "--particles", 5, "--metrics", "insight"]
    words += ["--json", "o.json", "--html", "o.html"]
    flipped = 1 - np.load(runs / "test.npz")["x"]
    np.savez(folder / "flipped.npz", x=flipped, x_test=flipped)
    code, _, _ = said(
        capsys, *words, "--outliers", "flipped.npz", "--background", runs / "background"
    )
    assert code == 0
    found = {r["name"]: r for r in json.loads((folder / "o.json").read_text())["records"]}
    assert found["outlier_auroc"]["value"] > 0.95
    assert found["outlier_auroc_ratio"]["value"] > 0.5
    code, _, err = said(capsys, *words, "--overwrite", "--background", "nowhere")
    assert code == 2
    assert "nowhere holds no run" in err
    code, _, err = said(capsys, *words, "--overwrite", "--outliers", "mnits")
    assert code == 2
    assert "unknown data set 'mnits'" in err


def test_trained_runs_are_compared_by_label_and_seed(capsys, folder, runs, no_pixels):
    names = [runs / name for name in ("normal-seed0", "normal-seed1", "mixture-seed0")]
    few = ("--particles", 5, "--limit", 60)
    code, out, _ = said(capsys, "compare", *names, *few, "--metrics", "nll,mmd")
    assert code == 0
    assert "Differences" in out
    table = json.loads((folder / "report" / "comparison.json").read_text())
    assert {row["label"]: row["seeds"] for row in table["rows"]} == {
        "normal": [0, 1],
        "mixture": [0],
    }
    again = compare_runs(names, particles=5, limit=60, metrics=["nll", "mmd"], pictures=False)
    assert [row.label for row in again.rows] == ["normal", "mixture"]
    options = {"particles": 5, "limit": 60, "metrics": ["nll"], "pictures": False}
    own = evaluate(load(names[0]), **options)["nll"].value
    assert again.entries[0].report["nll"].value == pytest.approx(own, abs=1e-12)


def test_runs_that_cannot_be_compared_are_named(capsys, folder, runs):
    code, _, err = said(capsys, "compare", runs / "normal-seed0", "gone", "--out", "report")
    assert code == 2
    assert "gone holds no run" in err
    with pytest.raises(ValueError, match="judged on different rows"):
        compare_runs([runs / "normal-seed0", runs / "background"], particles=2, metrics=["nll"])
    with pytest.raises(ValueError, match="at least one run"):
        compare_runs([])


def test_insight_writes_a_row_for_each_training_row(capsys, folder, runs):
    words = ["insight", runs / "mixture-seed0", "--particles", 4, "--out", "rows.csv"]
    code, out, _ = said(capsys, *words, "--picture", "rare.png")
    assert code == 0
    with (folder / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1297
    weights = np.array([float(row["weight"]) for row in rows])
    density = np.array([float(row["density"]) for row in rows])
    assert weights.mean() == pytest.approx(1.0, abs=1e-4)
    assert density[weights.argmax()] == density.min()
    assert (folder / "rare.png").read_bytes().startswith(b"\x89PNG")
    assert f"{density.argmin()}" in out.splitlines()[3]
    code, _, err = said(capsys, *words)
    assert code == 2
    assert "rows.csv is there already" in err
    code, _, err = said(capsys, "insight", runs / "mixture-seed0", "--out", "rows.txt")
    assert code == 2
    assert "must end in .csv" in err
    code, _, err = said(capsys, *words[:2], "--out", "more.csv", "--picture", "rare.txt")
    assert code == 2
    assert "picture must end in .png" in err


def test_paths_are_drawn_for_all_pairs_or_one_vector(capsys, folder, runs):
    words = ["paths", runs / "normal-seed0"]
    code, out, _ = said(capsys, *words)
    assert code == 0
    assert "wrote paths.png" in out
    assert (folder / "paths.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = said(capsys, *words, "--traverse", "z", "--out", "z.png")
    assert code == 0
    assert "coordinates of z move the mean" in out
    vector = ["--moved", 7, "--start", 6, "--end", 0]
    assert said(capsys, *words, *vector, "--out", "seven.svg")[0] == 0
    assert "<svg" in (folder / "seven.svg").read_text()
    for wrong, message, error in (
        (["--moved", 7, "--out", "a.png"], "go together", 2),
        ([*vector[:-1], 12, "--out", "a.png"], "end must be a class", 1),
        (["--out", "a.txt"], "must end in .png", 2),
        ([], "paths.png is there already", 2),
        (["--traverse", "z", *vector, "--out", "a.png"], "leave --moved", 2),
        (["--traverse", "z3", "--out", "a.png"], "no latent 'z3'", 1),
        (["--traverse", "tree", "--out", "a.png"], "prior is no tree", 1),
        (["--codes", "search", "--out", "a.png"], "codes", 2),
    ):
        code, _, err = said(capsys, *words, *wrong)
        assert code == error
        assert message in err
    code, _, err = said(capsys, "paths", runs / "background", "--out", "b.png")
    assert code == 1
    assert "labelled images" in err


def test_draws_are_written_for_arviz(capsys, folder, runs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ArviZ's own import, and of a k-hat that is too high
        arviz = import_arviz()
        words = ["evaluate", runs / "normal-seed1", "--metrics", "elbo", "--particles", 5]
        code, out, _ = said(capsys, *words, "--few", 7, "--arviz", "draws.nc")
        assert code == 0
        assert "wrote draws.nc" in out
        found = arviz.from_netcdf("draws.nc")
        assert found.posterior["z"].sizes["row"] == 7
    code, _, err = said(capsys, *words, "--arviz", "draws.txt")
    assert code == 2
    assert "arviz must end in .nc" in err
