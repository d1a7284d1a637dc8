"""What is written is whole, what is damaged is said to be, and nothing is overwritten unasked."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import pytest
import torch
import yaml
from safetensors.torch import save_file

import priory.inference.checkpoints.lock
import priory.inference.checkpoints.resume
from priory import load
from priory.cli import main
from priory.inference.checkpoints.checkpoint import checkpoints
from priory.inference.checkpoints.disk import manifest, write_folder
from priory.inference.checkpoints.lock import FolderInUse, locked
from processes import Busy, arrays, end, endless, full_disk, outcome, small, start, wait_for

FILES = ["weights.safetensors", "train.pt", "state.json", "manifest.json"]


def truncated(content):
    return content[: len(content) // 2]


def emptied(content):
    return b""


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """A run with two checkpoints that nobody has finished."""
    folder = tmp_path_factory.mktemp("unfinished") / "run"
    small(folder, steps=7, checkpoint_every=0.0)
    (folder / "manifest.json").unlink()
    (folder / "weights.safetensors").unlink()
    return folder


@pytest.fixture
def run(unfinished, tmp_path):
    shutil.copytree(unfinished, tmp_path / "run")
    return tmp_path / "run"


def newest(run):
    return checkpoints(run / "checkpoints")[-1]


def reloaded(run, **options):
    return load(run, pair=Busy(**options), data=arrays())


def resigned(folder, name, content):
    """Replace a file by one that its manifest vouches for."""
    files = {n: (folder / n).read_bytes() for n in FILES[:3]}
    write_folder(folder, {**files, name: content})


def test_folder_has_what_it_says(run):
    assert sorted(p.name for p in newest(run).iterdir()) == sorted(FILES)
    assert [p.name for p in checkpoints(run / "checkpoints")] == ["step-00000006", "step-00000007"]
    state = json.loads((newest(run) / "state.json").read_text())
    assert (state["schema"], state["step"], state["epoch"], state["batch"]) == (2, 7, 1, 2)
    assert {"device", "threads", "torch", "gpus"} < {*state["environment"]}
    files = {n: (newest(run) / n).read_bytes() for n in FILES[:3]}
    assert (newest(run) / "manifest.json").read_bytes() == manifest(files)
    train = torch.load(newest(run) / "train.pt", weights_only=True)
    assert {"svi", "random", "best", "terms"} < {*train}
    assert {*train["random"]} == {"torch", "cuda", "python", "numpy"}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [truncated, emptied, flipped])
def test_damaged_checkpoint_is_named_and_passed_over(run, tmp_path, name, damage):
    path = newest(run) / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(
        UserWarning, match=rf"{path.parent}.*(damaged|missing).*falling back on"
    ) as told:
        small(run, steps=9, resume="auto", checkpoint_every=0.0)
    assert str(path.parent) in str(told[0].message)
    if name != "manifest.json":
        assert f"{path} is damaged" in str(told[0].message)
    small(tmp_path / "whole", steps=9)
    assert outcome(run) == outcome(tmp_path / "whole")


def test_missing_file_of_a_checkpoint_is_named(run):
    (newest(run) / "train.pt").unlink()
    with pytest.warns(UserWarning, match="train.pt is missing; falling back"):
        assert reloaded(run).history[-1]["step"] == 5


def test_without_any_whole_checkpoint_nothing_begins_anew(run):
    for path in checkpoints(run / "checkpoints"):
        (path / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"step-00000007.*step-00000006.*no checkpoint is left"):
        small(run, steps=9, resume="auto")


def test_damaged_checkpoint_that_was_passed_over_is_kept_aside(run):
    (newest(run) / "train.pt").write_bytes(b"")
    with pytest.warns(UserWarning, match="falling back"):
        small(run, steps=8, resume=True)
    names = sorted(p.name for p in (run / "checkpoints").iterdir())
    assert names == ["damaged-step-00000007", "step-00000006", "step-00000008"]


@pytest.mark.parametrize("name", ["weights.safetensors", "history.json", "config.yaml"])
@pytest.mark.parametrize("damage", [truncated, emptied, flipped])
def test_damaged_finished_run_is_named(tmp_path, name, damage):
    small(None, steps=3).save(tmp_path / "run")
    path = tmp_path / "run" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path} (is damaged|has schema)"):
        reloaded(tmp_path / "run")


def test_damaged_final_weights_are_made_again(tmp_path):
    small(tmp_path / "run", steps=3)
    before = outcome(tmp_path / "run")
    (tmp_path / "run" / "weights.safetensors").write_bytes(b"x")
    with pytest.warns(UserWarning, match="weights.safetensors is damaged.*falling back"):
        small(tmp_path / "run", steps=3, resume=True)
    assert outcome(tmp_path / "run") == before


@pytest.mark.parametrize("text", ["a: [", "- 1", "schema: 2", "!!python/object/apply:os.getcwd []"])
def test_config_that_is_none_is_named_and_runs_nothing(run, text):
    (run / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml (is damaged|has schema)"):
        reloaded(run)


def test_config_that_names_code_runs_nothing(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["pair"] = {"class": "os.system", "command": "touch ran"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match="runs no other code"):
        load(run, data=arrays())


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_malicious_pickle_is_refused_and_not_run(run, tmp_path):
    trap = Trap(tmp_path / "ran")
    for content in (pickle.dumps(trap), pickle.dumps({"svi": trap})):
        for path in checkpoints(run / "checkpoints"):
            resigned(path, "train.pt", content)
        with pytest.raises(ValueError, match=r"train\.pt cannot be loaded safely, and nothing"):
            small(run, steps=9, resume=True)
    torch.save({"svi": trap}, tmp_path / "torch.pt")
    resigned(newest(run), "train.pt", (tmp_path / "torch.pt").read_bytes())
    with pytest.raises(ValueError, match="cannot be loaded safely"):
        reloaded(run)
    assert not (tmp_path / "ran").exists()


def test_sparse_tensors_are_refused(run, tmp_path):
    torch.save({"svi": [torch.eye(3).to_sparse()]}, tmp_path / "sparse.pt")
    for path in checkpoints(run / "checkpoints"):
        resigned(path, "train.pt", (tmp_path / "sparse.pt").read_bytes())
    with pytest.raises(ValueError, match="cannot be loaded safely"):
        reloaded(run)


def test_checkpoint_of_another_model_changes_nothing(run):
    pair = Busy(latent=3)
    before = {n: v.clone() for n, v in pair.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=r"'pair.head.weight' is \(4, 8\) float32 in the file and \(6, 8\) float32 in the "
        r"pair \(and 3 more differ\)",
    ):
        load(run, pair=pair, data=arrays())
    assert all(torch.equal(v, before[n]) for n, v in pair.state_dict().items())


def test_checkpoint_of_other_shapes_is_refused_before_a_tensor_is_written(run, tmp_path):
    save_file({"pair.head.weight": torch.zeros(4, 9)}, tmp_path / "w")
    for path in checkpoints(run / "checkpoints"):
        resigned(path, "weights.safetensors", (tmp_path / "w").read_bytes())
    with pytest.raises(ValueError, match=r"weights.*'pair.encoder.0.weight' is absent in the file"):
        small(run, steps=9, resume=True)


def test_optimiser_state_of_another_shape_is_refused(run, tmp_path):
    for path in checkpoints(run / "checkpoints"):
        train = torch.load(path / "train.pt", weights_only=True)
        train["svi"]["players"][0]["optim"]["scale"]["state"][0]["exp_avg"] = torch.zeros(5)
        torch.save(train, tmp_path / "train.pt")
        resigned(path, "train.pt", (tmp_path / "train.pt").read_bytes())
    with pytest.raises(ValueError, match=r"'exp_avg' of 'scale' has the shape \(5,\)"):
        small(run, steps=9, resume=True)


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"schema": 99}'])
def test_checkpoint_of_another_schema_is_refused(run, content):
    for path in checkpoints(run / "checkpoints"):
        resigned(path, "state.json", content)
    with pytest.raises(ValueError, match=r"state\.json (is damaged|has schema)"):
        reloaded(run)


def test_full_disk_leaves_the_checkpoint_before_and_names_the_file(tmp_path):
    folder = tmp_path / "run"
    code, told = end(start(full_disk, folder), folder)
    assert code == 1
    path = folder / "checkpoints" / "step-00000006" / "weights.safetensors"
    assert f"cannot write {path}: File too large" in told
    assert [p.name[-2:] for p in checkpoints(folder / "checkpoints")] == ["04", "05"]
    small(folder, valid_every=0, resume=True)
    small(tmp_path / "whole", valid_every=0)
    assert outcome(folder) == outcome(tmp_path / "whole")


def test_save_that_fails_leaves_the_run_that_was_there(tmp_path, monkeypatch):
    run = small(None, steps=3)
    run.save(tmp_path / "run")
    before = outcome(tmp_path / "run")
    rename = os.rename

    def full(source, target):
        if ".new.part" in str(source):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match=f"cannot write {tmp_path / 'run'}: No space left"):
        run.save(tmp_path / "run", overwrite=True)
    assert outcome(tmp_path / "run") == before
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_folder_that_cannot_be_a_run_is_an_error_before_training(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        small(tmp_path / "file")
    with pytest.raises(OSError, match=f"{tmp_path / 'file' / 'run'}"):
        small(tmp_path / "file" / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for options in ({}, {"resume": "auto"}, {"overwrite": True}):
        with pytest.raises(FileExistsError, match="holds other things than a run"):
            small(tmp_path / "mine", **options)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_is_read_only_is_an_error_before_training(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="locked"):
        small(tmp_path / "locked" / "run")


def test_run_is_not_overwritten_without_a_flag(tmp_path):
    small(tmp_path / "run", steps=3)
    before = outcome(tmp_path / "run")
    with pytest.raises(FileExistsError, match="overwrite=True to replace it, resume=True"):
        small(tmp_path / "run", steps=3, seed=1)
    assert outcome(tmp_path / "run") == before
    (tmp_path / "run" / "training.png").touch()
    small(tmp_path / "run", steps=3, seed=1, overwrite=True)
    assert outcome(tmp_path / "run") != before
    assert not (tmp_path / "run" / "training.png").exists()


def test_second_run_in_a_folder_is_refused_and_a_crash_frees_it(tmp_path):
    folder = tmp_path / "run"
    process = start(endless, folder)
    wait_for(tmp_path / "started", process)
    with pytest.raises(FolderInUse, match=f"in use by another run, process {process.pid} on "):
        small(folder, overwrite=True)
    process.kill()
    end(process, folder)
    small(folder, resume="auto")
    assert small(folder, overwrite=True).history


def test_platform_without_locks_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(priory.inference.checkpoints.lock, "fcntl", None)
    with pytest.warns(UserWarning, match=r"cannot be locked \(this platform has no fcntl\)"):
        small(tmp_path / "run", steps=3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"threads": 64}, "threads was 64, now 1"),
        ({"torch": "1.0"}, "torch was '1.0', now"),
        ({"kind": "abacus"}, "kind was 'abacus', now"),
    ],
)
def test_other_surroundings_need_inexact(run, change, words):
    elsewhere(run, **change)
    with pytest.raises(ValueError, match=f"{words}.*pass inexact=True"):
        small(run, steps=9, resume=True)
    with pytest.warns(UserWarning, match=f"{words}.*valid, but not bit-exact"):
        assert small(run, steps=9, resume=True, inexact=True).history[-1]["step"] == 9


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_checkpoint_without_cuda_loads_and_says_it_is_inexact(run):
    elsewhere(run, device="cuda", kind="NVIDIA H200", gpus=2)
    assert reloaded(run).history
    with pytest.warns(UserWarning, match="device was 'cuda', now 'cpu'.*valid, but not bit-exact"):
        assert small(run, steps=9, resume=True).history[-1]["step"] == 9


def test_missing_random_state_is_an_error(run, tmp_path):
    for path in checkpoints(run / "checkpoints"):
        train = torch.load(path / "train.pt", weights_only=True)
        del train["random"]["numpy"]
        torch.save(train, tmp_path / "train.pt")
        resigned(path, "train.pt", (tmp_path / "train.pt").read_bytes())
    with pytest.raises(ValueError, match=r"random state does not fit.*KeyError\('numpy'\)"):
        small(run, steps=9, resume=True)


def test_other_number_of_gpus_is_an_error(monkeypatch):
    from priory.inference.randomness import random_state, set_random_state

    state = {**random_state(torch.device("cpu")), "cuda": [torch.zeros(16, dtype=torch.uint8)]}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="it has 1 CUDA devices"):
        set_random_state(state, torch.device("cuda"))
    set_random_state(state, torch.device("cuda"), inexact=True)


def elsewhere(run, **change):
    """Make a run's checkpoints look as if they were written elsewhere."""
    for path in checkpoints(run / "checkpoints"):
        state = json.loads((path / "state.json").read_text())
        state["environment"] |= change
        resigned(path, "state.json", json.dumps(state).encode())


def test_crash_between_two_renames_loses_nothing(tmp_path):
    small(None, steps=3).save(tmp_path / "run")
    before = outcome(tmp_path / "run")
    os.rename(tmp_path / "run", tmp_path / ".run.123.former.part")
    (tmp_path / ".run.123.new.part").mkdir()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        small(None, steps=3).save(tmp_path / "run")
    assert outcome(tmp_path / "run") == before


@pytest.mark.filterwarnings("always")
def test_command_line_refuses_a_folder_in_use_and_warns_in_one_line(tmp_path, capsys):
    words = ["fit", "vae", "--latent", "2", "--encoder", "mlp:8", "--decoder", "mlp:8"]
    words += ["--schedule", "constant", "--out", str(tmp_path / "run")]
    assert main([*words, "--steps", "3"]) == 0
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        ".lock",
        "card.md",
        "checkpoints",
        "config.yaml",
        "history.json",
        "manifest.json",
        "samples.png",
        "weights.safetensors",
    ]
    with locked(tmp_path / "run"):
        assert main([*words, "--steps", "3", "--overwrite"]) == 2
    assert f"is in use by another run, process {os.getpid()} on" in capsys.readouterr().err
    (tmp_path / "run" / "history.json").write_text("[")
    assert main([*words, "--steps", "3", "--resume"]) == 0
    told = capsys.readouterr().err
    assert told.startswith(f"priory: warning: {tmp_path / 'run' / 'history.json'} is damaged")
    assert len(told.splitlines()) == 1
