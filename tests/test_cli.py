"""The command line as a user meets it: what it says, what it writes, how it ends."""

import json
import os
from pkgutil import resolve_name

import numpy as np
import pytest

import priory.cli.compare
from priory import __version__
from priory.cli import main
from priory.cli.compare import comma_list
from priory.cli.list import TABLES
from priory.recipes import RECIPES

SMALL = ["--encoder", "mlp:16", "--decoder", "mlp:16", "--latent", "2", "--steps", "6"]
OWN = '''
import pyro
import torch
from pyro import distributions as dist
from torch import nn


class Factors(nn.Module):
    """Factor analysis with a linear guide.

    Args:
        width: number of factors.
        steps: a name that fit has too.
    """

    def __init__(self, width: int, steps: float = 1.0):
        super().__init__()
        self.width, self.steps = width, steps
        self.up, self.down = nn.Linear(width, 3), nn.Linear(3, width)

    def model(self, x):
        pyro.module("factors", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(self.width), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.up(z), 1.0).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("factors", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.down(x), 0.5).to_event(1))
'''


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def table(folder):
    rng = np.random.default_rng(0)
    rows = rng.normal(5, 2, (120, 3))
    np.savetxt(folder / "rows.csv", rows, delimiter=",", header="a,b,c", comments="")
    return folder / "rows.csv"


def said(capsys, *words):
    """What a command line prints, with its exit code."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_help_and_version(capsys):
    code, out, _ = said(capsys)
    assert code == 0
    assert all(verb in out for verb in priory.cli.entry.VERBS)
    assert said(capsys, "--help")[1] == out
    assert said(capsys, "--version") == (0, f"priory {__version__}\n", "")


@pytest.mark.parametrize("verb", priory.cli.entry.VERBS)
def test_every_verb_has_help(capsys, verb):
    code, out, err = said(capsys, verb, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: priory")
    assert max(map(len, out.splitlines())) <= 100


def test_help_is_read_from_signatures(capsys):
    _, out, _ = said(capsys, "fit", "gan", "--help")
    assert "--generator NET" in out
    assert f"[{RECIPES['gan'].options['generator']}]" in out, "the recipe's own default"
    assert "--encoder" not in out
    assert "learning rate at the start" in out


def test_help_for_a_run_is_of_what_can_be_done_with_it(capsys, folder):
    (folder / "kept").mkdir()
    (folder / "kept" / "config.yaml").touch()
    code, out, _ = said(capsys, "fit", "kept", "--help")
    assert code == 0
    assert out.startswith("usage: priory fit RUN --resume")
    assert "--warm" in out
    assert "[adam]" not in out, "the run's own options are the defaults"


def test_list_shows_every_name(capsys):
    code, out, _ = said(capsys, "list")
    assert code == 0
    words = set(out.replace(":", " ").split())
    for name, place in TABLES.items():
        assert {name, *resolve_name(place)} <= words


def test_list_of_one_table(capsys):
    _, out, _ = said(capsys, "list", "priors")
    assert out.startswith("priors:")
    assert "components=500" in out
    assert "recipes:" not in out


def test_fit_evaluate_sample(capsys, folder):
    words = ["--prior", "vamp:5", "--objective", "iwae:2", *SMALL, "--out", "kept"]
    code, out, _ = said(capsys, "fit", "vae", "--data", "digits", *words)
    assert code == 0
    assert "digits: 1,297 train" in out
    assert out.splitlines()[-1] == "next: priory evaluate kept"
    assert "nats per validation row" in out

    files = ["--html", "report.html", "--json", "report.json"]
    code, out, _ = said(capsys, "evaluate", "kept", "--particles", 5, "--limit", 20, *files)
    assert code == 0
    assert "nll" in out
    assert json.loads((folder / "report.json").read_text())["n"] == 20
    assert "data:image/png;base64" in (folder / "report.html").read_text()

    assert said(capsys, "sample", "kept", "--n", 9, "--out", "samples.png")[0] == 0
    assert (folder / "samples.png").read_bytes().startswith(b"\x89PNG")
    assert said(capsys, "sample", "kept", "--n", 9, "--out", "samples.npz")[0] == 0
    assert np.load(folder / "samples.npz")["x"].shape == (9, 1, 8, 8)


def test_nothing_is_overwritten_without_a_flag(capsys, folder):
    assert said(capsys, "fit", "vae", *SMALL)[0] == 0
    kept = folder / "runs" / "vae-digits-seed0"
    before = (kept / "weights.safetensors").read_bytes()
    code, out, err = said(capsys, "fit", "vae", *SMALL, "--seed", 0)
    assert (code, out) == (2, "")
    assert "is not empty; pass --overwrite" in err
    assert said(capsys, "fit", "vae", *SMALL, "--lr", 0.1, "--overwrite")[0] == 0
    assert (kept / "weights.safetensors").read_bytes() != before

    (folder / "photos").mkdir()
    (folder / "photos" / "cat.png").write_text("a cat")
    code, _, err = said(capsys, "fit", "vae", *SMALL, "--out", "photos", "--overwrite")
    assert code == 2
    assert "left as it is" in err
    assert (folder / "photos" / "cat.png").exists()


def test_all_faults_in_one_message_before_data_is_loaded(capsys, monkeypatch):
    def loaded(*_, **__):
        raise AssertionError("data were loaded")

    monkeypatch.setattr("priory.data.Data.named", loaded)
    words = [
        "--prior",
        "vmap",
        "--latnt",
        "3",
        "--lr",
        "fast",
        "--data",
        "digist",
        "--objective",
        "eblo",
    ]
    code, out, err = said(capsys, "fit", "vae", *words)
    assert (code, out) == (2, "")
    for error in (
        "unknown prior 'vmap', nearest 'vamp'",
        "unknown option --latnt, nearest --latent",
        "lr must be a number, got 'fast'",
        "unknown data set 'digist', nearest 'digits'",
        "unknown objective 'eblo', nearest 'elbo'",
        "see priory fit --help",
    ):
        assert error in err
    code, _, err = said(
        capsys, "fit", "vae", "--steps", 3, "--epochs", 3, "--latent", 0, "--device", "gpu9"
    )
    assert code == 2
    for error in (
        "epochs or steps, not both",
        "latent must be a positive integer",
        "no device 'gpu9'",
    ):
        assert error in err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["fitt"], "unknown command 'fitt', nearest 'fit'"),
        (["fit"], "fit needs a name first"),
        (["fit", "vea"], "unknown recipe 'vea', nearest 'vae'"),
        (["fit", "vae", "--lr"], "--lr needs a value"),
        (["fit", "vae", "--lr", "1", "--lr", "2"], "--lr is given twice"),
        (["fit", "vae", "digits"], "unexpected argument 'digits'"),
        (["fit", "vae", "--batch-size", "x"], "batch_size must be an integer"),
        (["fit", "vae", "--data", "none.csv"], "no file or folder none.csv"),
        (["fit", "vae", "--standardise"], "standardise is no option for a named set, digits"),
        (["fit", "none.py:Mine"], "no file none.py"),
        (["list", "prior"], "nearest 'priors'"),
        (["list", "priors", "--all"], "unknown option --all"),
        (["evaluate"], "the folder of a run is needed first"),
        (["evaluate", "nowhere"], "nowhere holds no run"),
        (["evaluate", "nowhere", "--metrics", "nll,elbow"], "unknown metric 'elbow'"),
        (["sample", "nowhere", "--out", "x.txt"], "out must end in .png"),
        (["compare"], "give what to compare"),
        (["compare", "--prior", "normal,vmap"], "nearest 'vamp'"),
        (["compare", "--prior", "normal", "--jobs", "0"], "jobs must be at least 1"),
        (["compare", "--prior", "normal", "--seeds", "x"], "seeds must be"),
    ],
)
def test_a_wrong_request_exits_2_and_says_why(capsys, words, error):
    code, out, err = said(capsys, *words)
    assert (code, out) == (2, "")
    assert error in err


def test_data_that_do_not_suit_exit_1(capsys, table):
    words = ["--data", table, "--likelihood", "bernoulli", *SMALL, "--batch-size", "20"]
    code, _, err = said(capsys, "fit", "vae", *words)
    assert code == 1
    assert err.startswith("priory: ")
    assert "0" in err


def test_ones_own_table(capsys, folder, table):
    words = ["--data", table, "--standardise", "--test", "30", *SMALL, "--batch-size", "20"]
    code, out, err = said(capsys, "fit", "vae", *words, "--lr=0.01")
    assert code == 0, err
    assert "30 test; x (3,), standardised" in out
    run = "runs/vae-rows-seed0"
    assert said(capsys, "evaluate", run, "--particles", 5)[0] == 0
    assert said(capsys, "sample", run, "--out", "rows.npz", "--n", 500)[0] == 0
    drawn = np.load(folder / "rows.npz")["x"]
    assert drawn.shape == (500, 3)
    assert 3 < drawn.mean() < 7, "in the table's own units"


def test_a_pair_of_ones_own(capsys, folder, table):
    (folder / "own.py").write_text(OWN)
    words = ["--data", table, "--standardise", "--batch-size", "20", "--steps", "6"]
    code, _, err = said(capsys, "fit", "own.py:Factors", *words)
    assert code == 2
    assert "needs the option width" in err
    assert "--width N" in said(capsys, "fit", "own.py:Factors", "--help")[1]
    code, out, err = said(capsys, "fit", "own.py:Factors", *words, "--width", 2, "--pair.steps", 3)
    assert code == 0, err
    run = "runs/Factors-rows-seed0"
    assert out.splitlines()[-1] == f"next: priory evaluate {run} --pair own.py:Factors"
    code, _, err = said(capsys, "evaluate", run)
    assert code == 1
    assert "--pair path/to/file.py:Class" in err
    code, out, _ = said(capsys, "evaluate", run, "--pair", "own.py:Factors", "--particles", 5)
    assert code == 0
    assert "Factors on rows" in out
    code, _, err = said(capsys, "evaluate", run, "--pair", "own.py:Factor")
    assert code == 2
    assert "nearest 'Factors'" in err


def test_compare_writes_one_table_a_page_and_the_numbers(capsys, folder):
    words = ["--prior", "normal,mixture:2", "--objective", "iwae:2", "--seeds", 2, "--jobs", 1]
    words += ["--metrics", "nll,mmd"]
    code, out, err = said(capsys, "compare", *words, *SMALL, "--particles", 3, "--out", "report")
    assert code == 0, err
    assert "[4/4]" in err
    assert out.partition("Differences")[0].count("normal") == 1, "one table, one row"
    assert "mixture:2" in out
    assert "seconds" in out
    page = (folder / "report" / "index.html").read_text()
    assert "data:image/png;base64" in page
    assert "<script src" not in page
    numbers = json.loads((folder / "report" / "comparison.json").read_text())
    assert len(numbers["entries"]) == 4
    assert said(capsys, "sample", "report/runs/normal-seed1")[0] == 0
    code, _, err = said(capsys, "compare", *words, *SMALL, "--out", "report")
    assert code == 2
    assert "--overwrite" in err


def test_fits_that_failed_are_named_and_exit_1(capsys, folder, table):
    words = ["--prior", "normal,mixture:2", "--data", table, "--seeds", 1, "--jobs", 1]
    code, _, err = said(capsys, "compare", *words, "--encoder", "conv:4", "--steps", 2)
    assert code == 1
    assert "priory: normal, seed 0 failed" in err
    assert "priory: mixture:2, seed 0 failed" in err
    assert "--help" not in err, "the request was none that a help could mend"


def test_lists_are_cut_between_names():
    assert comma_list("normal,flow:3:64,64, vamp") == ["normal", "flow:3:64,64", "vamp"]
    text = "elbo,reconstruction + adversarial:z:critic=(mlp:8,8:tanh)"
    assert comma_list(text) == text.split(",", 1)


def test_a_fit_that_failed_at_once_leaves_no_folder_in_the_way(capsys, folder):
    words = ["fit", "vae", "--out", "again", "--steps", "6", "--decoder"]
    code, _, err = said(capsys, *words, "conv")
    assert code == 1
    assert "Conv expected images" in err
    assert said(capsys, *words, "mlp:16")[0] == 0


@pytest.mark.parametrize(("before", "after"), [(None, "10000"), ("7", "7")])
def test_waiting_threads_sleep_soon_unless_the_user_says_how_long(monkeypatch, before, after):
    name = "GOMP_SPINCOUNT"
    monkeypatch.setenv(name, "0")  # so that what main sets is undone
    monkeypatch.delenv(name) if before is None else monkeypatch.setenv(name, before)
    assert main(["list", "priors"]) == 0
    assert os.environ[name] == after
