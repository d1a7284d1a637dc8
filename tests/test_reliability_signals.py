"""A signal ends a run after its step, with all saved; a second one ends it at once."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

import pytest

from priory.cli import main
from priory.inference.checkpoints.checkpoint import checkpoints
from priory.inference.checkpoints.signals import Terminated
from processes import (
    end,
    ended,
    endless,
    outcome,
    slow_writes,
    small,
    start,
    start_logged,
    wait_for,
)


def stopped(folder, number):
    """Train, send a signal when the first epoch is over; answer exit code and standard error."""
    process = start(endless, folder)
    wait_for(folder.with_name("started"), process)
    os.kill(process.pid, number)
    return end(process, folder)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["SIGTERM", "SIGHUP"]
)
def test_signal_saves_and_exits_by_its_code(tmp_path, number, code):
    folder = tmp_path / "run"
    assert stopped(folder, number) == (code, "")
    (path,) = checkpoints(folder / "checkpoints")
    steps = int(path.name.removeprefix("step-"))
    small(folder, steps=steps + 3, valid_every=0, resume=True)
    small(tmp_path / "whole", steps=steps + 3, valid_every=0)
    assert outcome(folder) == outcome(tmp_path / "whole")


def test_ctrl_c_saves_and_is_still_a_keyboard_interrupt(tmp_path):
    code, told = stopped(tmp_path / "run", signal.SIGINT)
    (path,) = checkpoints(tmp_path / "run" / "checkpoints")
    assert code == 1, "multiprocessing's own way to say that an exception ended it"
    assert f"KeyboardInterrupt: stopped after step {int(path.name[5:]):,}; saved in {path}" in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_is_obeyed_at_once(tmp_path, number):
    process = start(slow_writes, tmp_path / "run")
    wait_for(tmp_path / "writing", process)
    os.kill(process.pid, number)
    process.join(0.3)
    assert process.is_alive(), "the first one waits for the step and its checkpoint"
    os.kill(process.pid, number)
    code, told = end(process, tmp_path / "run")
    assert code == (-signal.SIGTERM if number == signal.SIGTERM else 1)
    assert number == signal.SIGTERM or "KeyboardInterrupt" in told
    small(tmp_path / "run", resume=True)


def test_signal_in_the_last_step_ends_a_finished_run(tmp_path):
    def last(row):
        if row["step"] == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated) as stop:
        small(tmp_path / "run", on_epoch=last)
    assert stop.value.code == 143
    assert "finished" in stop.value.text
    small(tmp_path / "whole")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_handlers_are_put_back_and_without_a_folder_not_touched(tmp_path):
    def mine(number, frame):
        raise AssertionError("not now")

    def handlers():
        return [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    seen = []
    former = signal.signal(signal.SIGTERM, mine)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        before = handlers()
        small(None, steps=5, on_epoch=lambda _: seen.append(handlers()))
        small(tmp_path / "run", steps=5, on_epoch=lambda _: seen.append(handlers()))
        assert handlers() == before
    finally:
        signal.signal(signal.SIGTERM, former)
        signal.signal(signal.SIGHUP, hangup)
    assert seen[0] == before
    assert seen[1][1] is not mine
    assert seen[1][2] == signal.SIG_IGN, "what nohup has set stays"


def test_outside_of_the_main_thread_no_handler_is_set(tmp_path):
    runs = []
    thread = threading.Thread(target=lambda: runs.append(small(tmp_path / "run", steps=3)))
    thread.start()
    thread.join()
    assert runs[0].history[-1]["step"] == 3


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_command_line_stops_in_one_line_and_resumes(tmp_path, monkeypatch, capsys, number, code):
    monkeypatch.chdir(tmp_path)
    words = ["fit", "vae", "--latent", "2", "--encoder", "mlp:8", "--decoder", "mlp:8"]
    words += ["--schedule", "constant", "--valid-every", "0", "--compile", "off", "--out", "run"]
    long = [*words, "--steps", "1000000", "--checkpoint-every", "0.1"]
    process = start_logged(command, long, log=tmp_path / "log")
    wait_for_folder(tmp_path / "run" / "checkpoints", process)
    os.kill(process.pid, number)
    found, out, err = ended(process, tmp_path / "log")
    assert found == code
    assert "digits" in out.splitlines()[0]
    assert "Traceback" not in err
    (line,) = err.split("\n")[-2:-1]
    assert "stopped after step" in line
    assert line.endswith(checkpoints(tmp_path / "run" / "checkpoints")[-1].name)
    steps = int(line.rpartition("-")[2]) + 2
    assert main(["fit", "run"]) == 2
    assert "pass --resume" in capsys.readouterr().err
    assert main(["fit", "run", "--resume", "--steps", str(steps)]) == 0
    assert f"after {steps:,} steps" in capsys.readouterr().out
    assert main([*words, "--steps", str(steps), "--resume"]) == 0, "finished: it is answered"
    assert main([*words, "--steps", str(steps)]) == 2
    assert main([*words, "--steps", str(steps), "--resume", "--lr", "1"]) == 1
    assert "fit.lr was 0.002, now 1.0" in capsys.readouterr().err
    assert (tmp_path / "run" / "samples.png").read_bytes().startswith(b"\x89PNG")


def command(words):
    """Run a command as `python -m priory` does."""
    sys.argv = ["priory", *words]
    runpy.run_module("priory", run_name="__main__")


def wait_for_folder(folder, process):
    """Wait until the first checkpoint is there."""
    while not (folder.is_dir() and checkpoints(folder)):
        assert process.is_alive(), "the process ended too early"
        time.sleep(0.01)
