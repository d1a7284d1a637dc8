"""Several ranks give the numbers of one process; a rank that fails ends them all, by name."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ranks_worker

WORKER = Path(ranks_worker.__file__)
NAMES = (*ranks_worker.CASES, "traced", "judge")


def launch(world, *words, **environment):
    """Start ranks as torchrun would, without torchrun itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    return [
        subprocess.Popen(
            [sys.executable, str(WORKER), *map(str, words)],
            env=os.environ | common | {"RANK": str(r), "OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(world)
    ]


def torchrun(*words, **environment):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, str(WORKER), *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What each of two ranks found for every case."""
    out = tmp_path_factory.mktemp("ranks")
    started = launch(2, out, *NAMES, "helpers")
    told = [p.communicate(timeout=600) for p in started]
    assert [p.returncode for p in started] == [0, 0], told
    assert [text for text, _ in told] == ["trained\n", ""], "only the main rank prints"
    return [torch.load(out / f"{r}.pt", weights_only=True) for r in range(2)]


@pytest.mark.parametrize("name", ranks_worker.CASES)
def test_two_ranks_are_one_process(two_ranks, double, name):
    alone = ranks_worker.train(name)
    for found in two_ranks:
        assert found[name].keys() == alone.keys()
        assert torch.equal(found[name].pop("random state"), alone["random state"])
        for key, value in found[name].items():
            torch.testing.assert_close(value, alone[key], rtol=1e-9, atol=1e-9)


def test_a_traced_step_holds_the_global_draw_and_the_cut(two_ranks, double):
    alone = ranks_worker.traced("")
    for key, value in alone.items():
        parts = torch.cat([found["traced"][key] for found in two_ranks])
        # Each rank's share, to be averaged, is of the sum over ranks of the same quantity.
        whole = value * 2 if key == "gradient" else value
        torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_a_shared_evaluation_has_the_numbers_of_one_process(two_ranks, double):
    alone = ranks_worker.judge("")
    for found in (f["judge"] for f in two_ranks):
        for key in ("bounds", "shrunk"):
            assert all(map(torch.equal, found[key], alone[key]))
        assert found["report"] == alone["report"]


def test_ranks_decide_together_and_say_what_is_wrong(two_ranks):
    for found in (f["helpers"] for f in two_ranks):
        assert found["any"] is True
        assert found["broadcast"].item() == 0
        assert found["each"] == ranks_worker.BATCH // 2
        assert "13 rows a batch cannot be shared evenly by 2 ranks" in found["uneven"]
        assert "the random state of rank 1 is not that of rank 0" in found["drifted"]
        assert len(found["warned"]) == 1
        assert "share_statistics" in found["warned"][0]


@pytest.mark.parametrize(
    ("how", "cause"),
    [("raise", "rank 1 of 2 failed: ValueError: the third batch is bad"), ("kill", "SIGKILL")],
)
def test_one_failed_rank_ends_all_and_is_named(tmp_path, how, cause):
    done = torchrun(tmp_path, how)
    assert done.returncode != 0
    assert cause in done.stderr
    assert "rank      : 1 (local_rank: 1)" in done.stderr, "torchrun's report names the rank"


def test_a_rank_that_hangs_ends_the_others_after_the_time_out(tmp_path):
    waiting, stuck = launch(2, tmp_path, "hang", PRIORY_TIMEOUT="2")
    try:
        _, told = waiting.communicate(timeout=600)
    finally:
        stuck.kill()
        stuck.communicate()
    assert waiting.returncode == 1
    assert "rank 0 of 2 failed: LostRank: no answer from another rank" in told
