"""`priory fit` and `priory evaluate` under torchrun: one process's numbers, and its safety."""

import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from priory.cli import main
from priory.evaluation import evaluate
from priory.inference import load
from processes import commands, ended, start_ranks, start_torchrun

FIT = [
    *("fit", "vae", "--prior", "vamp:5", "--device", "cpu", "--latent", "2"),
    *("--encoder", "mlp:16", "--decoder", "mlp:16", "--batch-size", "64"),
]
WAIT = {"PRIORY_TIMEOUT": "300"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the same run by this process, and by two ranks, which judge the first too.

    Two commands in one process of each rank: each joins the ranks, and leaves them.
    """
    folder = tmp_path_factory.mktemp("runs")
    options = ("--data", "digits", "--objective", "iwae:3", "--steps", "25")
    assert main([*FIT, *options, "--out", str(folder / "one")]) == 0
    fitting = [*FIT, *options, "--out", "two"]
    judging = ["evaluate", "one", "--particles", "20", "--limit", "150", "--json", "two.json"]
    judging += ["--no-pictures"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ranks = start_ranks(2, commands, fitting, judging, folder=folder, **WAIT)
    (code, told, err), (other, quiet, wrong) = (
        ended(rank, folder / str(r)) for r, rank in enumerate(ranks)
    )
    assert (code, other) == (0, 0), err + wrong
    assert told.count("saved in two") == 1, "only the main rank prints"
    assert told.count("wrote two.json") == 1, "only the main rank prints"
    assert "saved in two" not in quiet
    assert "wrote two.json" not in quiet
    return folder


def test_two_ranks_train_as_one_process(folder):
    one, two = (load_file(folder / name / "weights.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-5)
    rows = [load(folder / name).history for name in ("one", "two")]
    for alone, shared in zip(*rows, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert shared["bound"] == pytest.approx(alone["bound"], rel=1e-5)


def test_two_ranks_judge_as_one_process(folder):
    shared = json.loads((folder / "two.json").read_text())
    report = evaluate(load(folder / "one"), particles=20, limit=150, pictures=False)
    report.to_json(folder / "one.json")
    alone = json.loads((folder / "one.json").read_text())
    assert shared["records"] == alone["records"]


def rank_process(number, run):
    """The process of a rank of a torchrun process."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == str(run.pid) and f"RANK={number}".encode() in environment:
            return int(entry.name)
    raise AssertionError(f"no process of rank {number}")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_killed_rank_ends_all_and_the_last_checkpoint_is_good(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).random((600, 12)).round()
    np.savetxt("rows.csv", rows, delimiter=",", fmt="%d")
    options = ("--steps", "100000", "--checkpoint-every", "0", "--schedule", "constant")
    options += ("--compile", "off", "--data", "rows.csv")
    log = tmp_path / "torchrun"
    run = start_torchrun("-m", "priory", *FIT, *options, "--out", "run", log=log, **WAIT)
    try:
        checkpoints = tmp_path / "run" / "checkpoints"
        deadline = time.monotonic() + 600
        while len([*checkpoints.glob("[!.]*")]) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(rank_process(1, run), signal.SIGKILL)
        code, told, err = ended(run, log)
    finally:
        run.kill()
    assert code != 0
    assert told.count("rows: ") == 1, "only the main rank prints"
    # Rank 0 misses the other one, unless torchrun, which does too, is the first to end it.
    assert "rank 0 of 2 failed: LostRank" in err or "closing signal SIGTERM" in err
    assert "rank      : 1 (local_rank: 1)" in err
    assert "SIGKILL" in err
    step = json.loads((max(checkpoints.glob("[!.]*")) / "state.json").read_text())["step"]
    again = ("fit", tmp_path / "run", "--resume", "--steps", step + 3)
    assert main([str(word) for word in again]) == 1
    assert "ranks was 2, now 1" in capsys.readouterr().err
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main([*(str(word) for word in again), "--inexact"]) == 0
    assert f"after {step + 3:,} steps" in capsys.readouterr().out
