"""Several ranks give the numbers of one process; a rank that fails ends them all, by name."""

import pytest
import torch

import ranks_worker
from processes import ended, start_ranks, start_torchrun

NAMES = (*ranks_worker.CASES, "traced", "judge")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What each of two ranks found for every case."""
    out = tmp_path_factory.mktemp("ranks")
    started = start_ranks(2, ranks_worker.main, out, *NAMES, "helpers", folder=out)
    told = [ended(process, out / str(r)) for r, process in enumerate(started)]
    assert [code for code, _, _ in told] == [0, 0], told
    assert [text for _, text, _ in told] == ["trained\n", ""], "only the main rank prints"
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


def test_one_failed_rank_ends_all_and_is_named(tmp_path):
    """By its error; one that was killed, by its signal: see test_scale_fit.py."""
    log = tmp_path / "torchrun"
    code, _, err = ended(start_torchrun(ranks_worker.__file__, tmp_path, "raise", log=log), log)
    assert code != 0
    assert "rank 1 of 2 failed: ValueError: the third batch is bad" in err
    assert "rank      : 1 (local_rank: 1)" in err, "torchrun's report names the rank"


def test_a_rank_that_hangs_ends_the_others_after_the_time_out(tmp_path):
    options = {"folder": tmp_path, "PRIORY_TIMEOUT": "2"}
    waiting, stuck = start_ranks(2, ranks_worker.main, tmp_path, "hang", **options)
    try:
        code, _, told = ended(waiting, tmp_path / "0")
    finally:
        stuck.kill()
        stuck.join()
    assert code == 1
    assert "rank 0 of 2 failed: LostRank: no answer from another rank" in told
