"""A run that is killed goes on to the same bits as if it had not been."""

from __future__ import annotations

import signal
from functools import partial

import pyro
import pytest
import torch

import processes
from priory import fit, load
from priory.data import Data
from priory.inference import IWAE, Adversarial, Cosine
from priory.inference.checkpoints.checkpoint import checkpoints
from priory.models import GAN, VAE
from priory.nets import MLP
from processes import arrays, end, everything, killed, outcome, slow_writes, small, start, wait_for


def kill_and_resume(folder, turns, what="everything", **options):
    """Train in processes that are killed at each of the given turns; resume, to the end."""
    for turn in turns:
        options = {"resume": "auto", "checkpoint_every": 0.0, **options}
        process = start(killed, folder, what=what, turn=turn, **options)
        code, told = end(process, folder)
        assert code == -signal.SIGKILL, told
    code, told = end(start(getattr(processes, what), folder, **options), folder)
    assert code == 0, told
    return outcome(folder)


@pytest.mark.parametrize(
    "turns",
    [(5, 13), (20,), (1, 2, 31), (19, 14)],
    ids=["middle", "end of an epoch", "before any checkpoint", "after the last epoch's half"],
)
def test_sigkill_at_any_step_changes_nothing(tmp_path, turns):
    everything(tmp_path / "whole")
    assert kill_and_resume(tmp_path / "killed", turns) == outcome(tmp_path / "whole")


@pytest.mark.parametrize("seconds", [0.02, 1000.0])
def test_sigkill_long_after_the_checkpoint_changes_nothing(tmp_path, seconds):
    small(tmp_path / "whole")
    options = {"what": "small", "checkpoint_every": seconds}
    assert kill_and_resume(tmp_path / "killed", (7,), **options) == outcome(tmp_path / "whole")


@pytest.mark.parametrize("chain", [False, True])
def test_sigkill_of_traced_steps_changes_nothing(tmp_path, chain):
    options = {"compile": "trace", "chain": chain}
    everything(tmp_path / "whole", **options)
    found = kill_and_resume(tmp_path / "killed", (9, 8), **options)
    assert found == outcome(tmp_path / "whole")


def test_break_of_compiled_steps_changes_nothing(tmp_path):
    """In one process, which compiles once; its death would leave the same files."""
    process = start(processes.compiled, tmp_path / "runs")
    code, told = end(process, tmp_path / "runs")
    assert code == 0, told  # torch may log a line of its own, where it finds no CUDA
    assert outcome(tmp_path / "runs" / "broken") == outcome(tmp_path / "runs" / "whole")


@pytest.mark.cuda
@pytest.mark.parametrize("mode", ["off", "cudagraph"])
def test_break_on_cuda_changes_nothing(tmp_path, mode):
    def train(folder, **options):
        torch.manual_seed(0)
        nets = {"encoder": MLP((32,)), "decoder": MLP((32,))}
        options = {"epochs": 4, "ema": 0.9, "device": "cuda", "compile": mode, **options}
        return fit(VAE(latent=4, **nets), data=Data.named("digits"), folder=folder, **options)

    def broken(row):
        if row["epoch"] == 3:
            raise KeyboardInterrupt

    train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", checkpoint_every=0.0, on_epoch=broken)
    train(tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_sigkill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path):
    small(tmp_path / "whole")
    folder = tmp_path / "killed"
    process = start(slow_writes, folder)
    wait_for(tmp_path / "writing", process)
    process.kill()
    assert end(process, folder)[0] == -signal.SIGKILL
    assert [p.name[-2:] for p in checkpoints(folder / "checkpoints")] == ["01", "02"]
    assert [p for p in (folder / "checkpoints").iterdir() if p.name.endswith(".part")]
    assert load(folder, pair=processes.Busy(), data=arrays()).history == []
    small(folder, resume=True, checkpoint_every=0.0)
    assert not list(tmp_path.rglob("*.part"))
    assert outcome(folder) == outcome(tmp_path / "whole")


def test_no_result_depends_on_the_folder_or_its_checkpoints(tmp_path):
    without = everything(None)
    often = everything(tmp_path / "often", checkpoint_every=0.0)
    seldom = everything(tmp_path / "seldom")
    assert outcome(tmp_path / "often") == outcome(tmp_path / "seldom")
    for run in (often, seldom):
        for name, value in without.pair.state_dict().items():
            assert torch.equal(value, run.pair.state_dict()[name])


def test_finished_run_is_answered(tmp_path):
    first = everything(tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    again = everything(tmp_path / "run", resume=True)
    assert again.history == first.history
    assert all(map(torch.equal, again.pair.parameters(), first.pair.parameters()))
    assert not again.pair.training
    assert torch.equal(*(run.store["params"]["scale"] for run in (first, again)))
    changed = [p.name for p, t in before.items() if p.stat().st_mtime_ns != t]
    assert changed == [".lock"]


@pytest.mark.parametrize("steps", [5, 7])
def test_longer_run_goes_on_where_the_shorter_ended(tmp_path, steps):
    small(tmp_path / "whole", steps=14)
    small(tmp_path / "run", steps=steps)
    small(tmp_path / "run", steps=14, resume=True)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    with pytest.raises(ValueError, match="has 14 steps behind it, and 9 are asked for"):
        small(tmp_path / "run", steps=9, resume=True)


@pytest.mark.parametrize("length", ["steps", "epochs"])
def test_a_cosine_goes_on_to_the_new_end(tmp_path, length):
    short, long = ({length: n, "steps": n if length == "steps" else None} for n in (1, 3))
    small(tmp_path / "run", schedule="cosine", **short)
    total = small(tmp_path / "other", **long).history[-1]["step"]
    told = rf"now falls over {total} steps, and the learning rate goes on from [\d.]+ of its first"
    with pytest.warns(UserWarning, match=told):
        run = small(tmp_path / "run", schedule="cosine", resume=True, **long)
    assert run.history[-1]["step"] == total
    begun = run.history[0]["step"]
    for row in run.history:
        end = begun if row["step"] <= begun else total
        assert row["rate"] == pytest.approx(1e-3 * Cosine(1, 0.01, end).at(row["step"] - 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": 0.5}, "fit.lr was 0.001, now 0.5"),
        ({"batch_size": 4, "seed": 3}, "fit.batch_size was 8, now 4; fit.seed was 0, now 3"),
        ({"objective": IWAE(3)}, r"objective.class was 'priory.*ELBO', now 'priory.*IWAE'"),
        ({"latent": 3}, "pair.latent was 2, now 3"),
        ({"optim": torch.optim.SGD}, "fit.optim.function was 'torch.optim.adam.Adam', now"),
    ],
)
def test_changed_options_are_named(tmp_path, options, words):
    small(tmp_path / "run", steps=3)
    before = outcome(tmp_path / "run")
    with pytest.raises(ValueError, match=words):
        small(tmp_path / "run", steps=3, resume=True, **options)
    assert outcome(tmp_path / "run") == before


def test_changed_data_are_named(tmp_path, monkeypatch):
    small(tmp_path / "run", steps=3)
    other = Data.from_arrays(x=torch.randn(64, 6), valid=16, test=8)
    monkeypatch.setattr(processes, "arrays", lambda: other)
    with pytest.raises(ValueError, match=r"data.sha256 was '\w+', now '\w+'"):
        small(tmp_path / "run", steps=3, resume=True)


def test_resume_demands_a_run_and_auto_does_not(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        small(tmp_path / "run", resume=True)
    assert small(tmp_path / "run", resume="auto").history[-1]["step"] == 12
    with pytest.raises(ValueError, match="give resume or overwrite, not both"):
        small(tmp_path / "run", resume="auto", overwrite=True)


def test_two_models_in_one_process_equal_each_alone(tmp_path):
    data = Data.named("ring", rows=400)

    def gan(folder):
        adam = partial(torch.optim.Adam, betas=(0.5, 0.9))
        pair, game = GAN(generator=MLP((8,)), latent=2), Adversarial(MLP((8,)), "x")
        fit(pair, game, data, folder=folder, steps=9, optim=adam)
        return outcome(folder)

    alone = gan(tmp_path / "alone")
    everything(tmp_path / "other")
    assert gan(tmp_path / "after") == alone
    assert "scale" not in pyro.get_param_store()


def test_evaluation_during_training_changes_nothing(tmp_path):
    often = small(tmp_path / "often", valid_every=1)
    never = small(tmp_path / "never", valid_every=0)
    assert outcome(tmp_path / "often")[0] == outcome(tmp_path / "never")[0]
    assert [row["loss"] for row in often.history] == [row["loss"] for row in never.history]
