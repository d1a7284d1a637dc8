"""What is not finite, or does not fit the memory, stops a run before it can do harm."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import processes
from priory import fit, load
from priory.data import Data
from priory.inference import ELBO
from priory.inference.checkpoints.checkpoint import checkpoints
from processes import arrays, outcome


class Fragile(nn.Module):
    """Goes wrong in the ways that are asked for, in one call of a program in training.

    Args:
        at: number of the guide's call in training.
        how: name of the fault.
    """

    def __init__(self, at: int = 8, how: str = "nan") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.at, self.how, self.calls = at, how, 0
        self.up, self.down = nn.Linear(2, 6), nn.Linear(6, 2)
        self.norm = nn.BatchNorm1d(6)

    def error(self, how):
        return self.training and self.calls == self.at and how == self.how

    def model(self, x):
        pyro.module("fragile", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            loc = self.up(z)
            if self.error("infinity"):
                loc = torch.where(torch.arange(len(x))[:, None] == 3, math.inf, loc)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    def guide(self, x):
        self.calls += self.training and torch.is_grad_enabled()
        pyro.module("fragile", self)
        if self.error("memory"):
            torch.empty(2**60)
        with pyro.plate("data", len(x)):
            loc = self.down(self.norm(x))
            if self.error("nan"):
                loc = loc * math.nan
            if self.error("gradient"):
                loc = loc + (self.down.bias - self.down.bias.detach()).abs().sqrt()
            pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))


def train(folder, pair=None, data=None, **options):
    options = {"steps": 15, "batch_size": 8, "progress": False, "check": False, **options}
    pair = Fragile() if pair is None else pair
    return fit(pair, ELBO(), arrays() if data is None else data, folder=folder, **options)


@pytest.fixture
def stays(monkeypatch):
    """A fault that is there again when the batch is run a second time."""
    monkeypatch.setattr(
        Fragile, "error", lambda self, how: self.calls >= self.at and how == self.how
    )


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("nan", r"the loss .*the loc of the guide's site 'z' holds nan \(16 of 16 values\)"),
        ("infinity", r"the loss .*the loc of the model's site 'x' holds an infinity \(6 of 48"),
        ("gradient", r"the gradient .*the gradient of 'fragile\$\$\$down.bias' holds nan"),
    ],
)
def test_nan_or_infinity_stops_before_the_optimiser_and_says_where(tmp_path, stays, how, words):
    pair = Fragile(how=how)
    with pytest.raises(ValueError, match=words) as stop:
        train(tmp_path / "run", pair, checkpoint_every=0.0)
    told = str(stop.value)
    assert "of step 8 (epoch 2, batch 3) is NaN or infinite" in told
    assert "skip_nonfinite=1" in told
    assert "lower lr" in told
    assert all(bool(v.isfinite().all()) for v in pair.state_dict().values())
    batch = load_file(tmp_path / "run" / "bad-batch-step-8.safetensors")
    expected = [*arrays().train.batches(8, epoch=1, shuffle=True)][2]
    assert torch.equal(batch["x"], expected["x"])
    rows = batch["index"][3:4] if how == "infinity" else batch["index"]
    assert f"training rows {', '.join(map(str, rows.tolist()))};" in told
    (_, last) = checkpoints(tmp_path / "run" / "checkpoints")
    assert last.name == "step-00000007"
    kept = load(tmp_path / "run", pair=Fragile(how=how), data=arrays())
    for name, value in kept.pair.state_dict().items():
        assert torch.equal(value, pair.state_dict()[name]), name


def test_parameter_that_is_not_finite_is_named():
    pair = Fragile(at=0)
    with torch.no_grad():
        pair.up.weight[0] = math.inf
    with pytest.raises(ValueError, match=r"the parameter 'fragile\$\$\$up.weight' holds an inf"):
        train(None, pair)


def test_so_many_steps_may_be_passed_over_and_are_counted(tmp_path):
    run = train(tmp_path / "run", skip_nonfinite=1, checkpoint_every=0.0)
    assert [row["skipped"] for row in run.history] == [0, 1, 1]
    assert all(math.isfinite(row["loss"]) for row in run.history)
    assert all(bool(v.isfinite().all()) for v in run.pair.state_dict().values())
    assert run.history[-1]["step"] == 15
    with pytest.raises(ValueError, match="is NaN or infinite"):
        train(None, skip_nonfinite=0)


def test_run_that_stopped_goes_on_by_passing_over_the_step(tmp_path):
    train(tmp_path / "whole", skip_nonfinite=1)
    with pytest.raises(ValueError, match="NaN or infinite"):
        train(tmp_path / "run", checkpoint_every=0.0)
    pair = Fragile(at=1)  # the first call after the resume is that of step 8
    before = outcome(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"pair\.at was 8, now 1"):
        train(tmp_path / "run", pair, skip_nonfinite=1, resume=True)
    pair.at = 8
    pair.error = lambda how: pair.training and pair.calls == 1 and how == "nan"
    train(tmp_path / "run", pair, skip_nonfinite=1, resume=True)
    digest, rows = outcome(tmp_path / "run")
    assert digest == before[0]
    assert [r.get("skipped", 0) for r in rows] == [0, 1, 1]


def test_rows_of_the_data_that_are_not_finite_are_named():
    data = arrays()
    data.train.columns["x"][17, 2] = math.inf
    with pytest.raises(ValueError, match=r"the data hold an infinity .* 'x'; training rows 17;"):
        train(None, Fragile(at=0), data)


def test_out_of_memory_names_the_batch_size_and_leaves_the_weights(tmp_path):
    pair = Fragile(how="memory")
    with pytest.raises(MemoryError, match=r"step 8 with batch_size=8.*try batch_size=4"):
        train(tmp_path / "run", pair, checkpoint_every=0.0)
    kept = load(tmp_path / "run", pair=Fragile(how="memory"), data=arrays())
    for name, value in kept.pair.named_parameters():
        assert torch.equal(value, dict(pair.named_parameters())[name])
        assert dict(pair.named_parameters())[name].grad is None


def test_other_runtime_errors_are_left_as_they_are():
    class Wrong(processes.Busy):
        def model(self, x):
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match=r"^mine$"):
        train(None, Wrong(), Data.from_arrays(x=torch.randn(64, 6)))
