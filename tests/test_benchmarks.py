"""The benchmarks: contenders that do the same work, tables that say what was measured."""

import functools
import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import pyro
import pytest
import torch
from benchmarks import apart, gpu, gpu_parts, pages, readme, scaling, step, zoo
from benchmarks.cases import CASES
from benchmarks.contenders import CONTENDERS, PEER, Missing, by_priory

CPU = torch.device("cpu")
MISSING = ("not installed", "need a CUDA device", "compares particles", "no jitted form", "no MMD")
# In a process of its own: JAX, once imported, warns of every later fork.
CONTESTS = """
import json, torch
from benchmarks import step
from benchmarks.cases import CASES
from dataclasses import replace
torch.set_num_threads(1)
names = [name for name in step.CONTENDERS if "compiled" not in name]
found = {}
for key, case in CASES.items():
    small = {"shape": (1, 8, 8), "channels": (2, 3)} if case.conv else {"shape": (64,)}
    small |= {"batch": 64, "steps": 2, "hidden": 8, "latent": 3, "particles": 3}
    entered = names if key == "vae" else [n for n in names if "numpyro" not in n]
    contest = step.Contest(replace(case, **small), torch.device("cpu"), entered, warm=2)
    found[key] = contest.measure(2) | {"losses": contest.losses}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def contests():
    """Two steps of every contender on every case at tiny sizes."""
    line = [sys.executable, "-c", CONTESTS]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, text=True, env=env, cwd=pages.README.parent)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_contenders_obtain_the_same_loss(contests, name):
    result = contests[name]
    assert not result["failed"]
    assert step.disagreeing(result["losses"]) == {}
    assert {"priory", "priory, traced", "torch"} <= result["losses"].keys()


@pytest.mark.parametrize("there", [True, False])
def test_bf16_is_a_contender_of_its_own_where_the_processor_has_it(monkeypatch, there):
    assert CONTENDERS["priory, compiled, bf16"].keywords == {
        "mode": "inductor",
        "precision": "bf16",
    }
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: there)
    case = replace(CASES["vae"], shape=(16,), batch=8, hidden=8, latent=3)
    if not there:
        with pytest.raises(Missing, match="no products in bfloat16"):
            by_priory.contender(case, CPU, "off", "bf16")
        return
    pyro.set_rng_seed(0)
    contender = by_priory.contender(case, CPU, "off", "bf16")
    assert math.isfinite(contender.step(case.batches(1, CPU)[0]))


@pytest.mark.parametrize("name", CASES)
def test_who_is_left_out_is_named_with_a_reason(contests, name):
    result = contests[name]
    rows = {r["contender"] for r in result["rows"]}
    assert rows == result["losses"].keys()
    assert not rows & result["left_out"].keys()
    assert all(any(m in reason for m in MISSING) for reason in result["left_out"].values())
    assert all(r["ratio"] == 1 for r in result["rows"] if r["contender"] == PEER)


def test_operations_are_those_of_the_matrix_products():
    case = replace(CASES["vae"], batch=3, shape=(16,), hidden=8, latent=2)
    layers = [(16, 8), (8, 8), (8, 4), (2, 8), (8, 8), (8, 16)]
    # Forward, and backward to weights and inputs; the first layer's input is the data.
    expected = 2 * 3 * (3 * sum(a * b for a, b in layers) - 16 * 8)
    hand = CONTENDERS["torch"](case, CPU)
    assert step.operations(hand, case.batches(1, CPU)[0]) == expected


def test_a_contender_with_another_loss_is_found():
    same = {"a": 100.0, "b": 101.0, "c": 99.0}
    assert step.disagreeing(same) == {}
    assert list(step.disagreeing({**same, "d": 94.0, "e": float("nan")})) == ["d", "e"]


def test_a_contender_that_fails_stops_no_other(monkeypatch):
    def breaks(case, device):
        raise ValueError("no such luck")

    def absent(case, device):
        raise Missing("nobody is there")

    monkeypatch.setitem(step.CONTENDERS, "broken", breaks)
    monkeypatch.setitem(step.CONTENDERS, "absent", absent)
    case = replace(CASES["vae"], batch=4, shape=(16,), hidden=8, latent=2, steps=1)
    contest = step.Contest(case, CPU, ["broken", "torch", "absent"], warm=1)
    assert contest.failed == {"broken": "ValueError: no such luck"}
    assert contest.left_out == {"absent": "nobody is there"}
    assert list(contest.entered) == ["torch"]


def test_batches_have_structure_and_a_seed():
    case = CASES["vae"]
    x = case.batches(2, CPU)
    assert x.shape == (2, 128, 784)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(x, case.batches(2, CPU))
    assert not torch.equal(x, case.batches(2, CPU, seed=1))
    spread = torch.linalg.svdvals(x[0] - x[0].mean(0)).square()
    assert spread[:8].sum() > 0.3 * spread.sum()


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_the_pages_say_what_was_measured(page):
    text = page.read_text()
    assert pages.replaced(text, readme.tables()) == text


def test_rendering_is_idempotent_and_keeps_the_rest():
    text = "before\n<!-- step -->\nold\n<!-- /step -->\nafter"
    once = pages.replaced(text, readme.tables())
    assert pages.replaced(once, readme.tables()) == once
    assert once.startswith("before\n<!-- step -->\n|")
    assert once.endswith("\n<!-- /step -->\nafter")
    assert "old" not in once


def test_the_table_has_every_time_and_says_what_is_absent(contests, tmp_path):
    file = tmp_path / "step.json"
    common = {"hardware": "H", "versions": {"jax": "9"}, "threads": "T", "load": 0, "rounds": 2}
    file.write_text(json.dumps({**common, "peer": PEER, "cases": contests}))
    table = readme.steps(file)
    for case in contests.values():
        for row in case["rows"]:
            line = next(s for s in table.splitlines() if s.startswith(f"| {row['contender']} |"))
            assert f"| {row['milliseconds']:.2f} ({row['ratio']:.2f}) |" in line
        assert case["title"] in table
    lines = [s for s in table.splitlines() if s.startswith("|")]
    assert len({s.count("|") for s in lines}) == 1
    assert "no jitted form" in table
    assert "CUDA" not in table


def test_every_gpu_part_has_a_command_and_a_limit(tmp_path):
    steps = {f"step-{name}" for name in CASES}
    assert gpu.LIMITS.keys() == {"tests", "scaling", "zoo"} | steps | gpu_parts.PARTS.keys()
    for part in gpu.LIMITS:
        assert gpu.command(part, "cuda", False, tmp_path)[0] == sys.executable
    assert gpu.DEADLINE < 600


def test_a_gpu_part_that_fails_or_hangs_stops_no_other(tmp_path, monkeypatch):
    codes = {"tests": "raise SystemExit(3)", "resume": "import time; time.sleep(600)", "bf16": ""}
    monkeypatch.setattr(gpu, "LIMITS", {"tests": 300.0, "resume": 1.5, "bf16": 300.0})
    monkeypatch.setattr(gpu, "command", lambda part, *_: [sys.executable, "-c", codes[part]])
    summary = gpu.everything(list(codes), "cpu", True, tmp_path)
    assert [row["status"] for row in summary] == [3, "out of time", 0]
    assert json.loads((tmp_path / "gpu-summary.json").read_text()) == summary


def test_after_the_deadline_parts_are_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "DEADLINE", 0.0)
    assert [r["status"] for r in gpu.everything(["tests"], "cpu", True, tmp_path)] == ["not run"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_what_the_function_held_at_most():
    def hold(mebibytes):
        len(bytearray(b"x" * (mebibytes << 20)))
        return {"held": mebibytes}

    found = apart.apart(functools.partial(hold, 64), CPU, 1)
    assert found["held"] == 64
    assert 60 <= found["mebibytes"] < 64 * 3  # the kernel counts pages in batches
    with pytest.raises(RuntimeError, match="ended with status 7"):
        apart.apart(functools.partial(sys.exit, 7), CPU, 1)


def test_scaling_varies_one_size_and_draws_each():
    for name, sizes in scaling.SIZES.items():
        cases = [scaling.sized(name, size) for size in sizes]
        assert len({repr(case) for case in cases}) == len(sizes)
    rows = [
        {"varies": n, "size": s, "contender": c, "milliseconds": 1.0, "mebibytes": 2.0}
        for n, sizes in scaling.SIZES.items()
        for s in sizes
        for c in ("priory", "torch")
    ]
    axes = scaling.picture(rows).get_axes()
    assert len(axes) == 2 * len(scaling.SIZES)
    assert all(len(axis.lines) == 2 for axis in axes)


def test_every_recipe_was_measured_and_ran_as_it_was_asked_to():
    rows = json.loads(zoo.FILE.read_text())["rows"]
    assert [row["recipe"] for row in rows] == zoo.stepped()
    assert all(row["engine"] == {mode: zoo.MODES[mode] for mode in row["engine"]} for row in rows)
    assert not [row["recipe"] for row in rows if row["told"]]
