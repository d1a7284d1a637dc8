"""Training help: words on collapse, the best weights by a metric, the same samples again."""

from __future__ import annotations

import itertools
import json
import math
import re
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from priory import fit, load
from priory.cli import main
from priory.data import Data
from priory.data.toys import RING
from priory.evaluation import ByMetric, evaluate
from priory.evaluation.report.charts import training
from priory.evaluation.report.pictures import snapshots
from priory.inference import SVI, Adversarial, Criterion
from priory.inference import monitor as watching
from priory.inference.checkpoints.disk import Damaged
from priory.inference.monitor import Watch, alarms, collected, modes_of, order, reached, spread
from priory.inference.selection import Selection
from priory.nets import MLP
from priory.serialisation import from_config, to_config
from processes import outcome

ADAM = partial(torch.optim.Adam, betas=(0.5, 0.9))


@pytest.fixture(scope="module")
def ring():
    return Data.named("ring", rows=1000, valid=300)


class Noisy(nn.Module):
    """A generator with running means and dropout; `share` of it depends on the latent."""

    def __init__(self, share: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.share, self.shift = share, shift
        self.net = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
        self.place = nn.Parameter(torch.full((2,), shift))

    def model(self, x):
        pyro.module("noisy", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            found = self.share * self.net(z) + self.place
            pyro.sample("x", pyro.distributions.Delta(found, event_dim=1), obs=x)

    def guide(self, x):
        pyro.module("noisy", self)


def critic():
    return nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(), nn.Dropout(0.1), nn.Linear(16, 1))


def trained(data, folder=None, *, pair=None, **options):
    """Train a small GAN with dropout, running means and a moving average; 5 steps an epoch."""
    torch.manual_seed(0)
    options = {"epochs": 4, "batch_size": 200, "optim": ADAM, "compile": "off", **options}
    game = Adversarial(critic(), "x")
    return fit(Noisy() if pair is None else pair, game, data, folder=folder, **options)


def state(run):
    return {n: v.clone() for n, v in run.pair.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(v, two[n]) for n, v in one.items())


# What is measured.


def test_order_of_two_gaussians_is_known():
    awake, asleep = torch.randn(3000) + 1.0, torch.randn(3000)
    exact = 0.5 * (1 + math.erf(1.0 / 2))  # Phi(1 / sqrt 2)
    assert order(awake, asleep) == pytest.approx(exact, abs=0.02)
    assert order(awake, awake) == 0.5
    assert order(torch.ones(4), torch.zeros(3)) == 1.0
    assert order(torch.zeros(4), torch.ones(3)) == 0.0
    assert order(torch.zeros(4), torch.zeros(3)) == 0.5


def test_spread_is_the_ratio_of_variances(double):
    x = torch.randn(500, 3)
    assert spread(x, x) == 1.0
    assert spread(0.5 * x + 7, x) == pytest.approx(0.25)
    assert spread(x[:1].expand(100, 3), x) == 0.0


@pytest.mark.parametrize("kept", [1, 3, 8])
def test_modes_of_a_known_mixture_are_counted(ring, kept):
    x = ring.train.x
    modes = modes_of(ring, x)
    assert torch.allclose(modes.centres, RING.centres.float())
    assert float(modes.reach[0]) == pytest.approx(math.sin(math.pi / 8), abs=1e-5)
    label = torch.cdist(x, modes.centres).argmin(1)
    assert reached(x[label < kept], modes) == kept
    assert reached(torch.zeros(100, 2), modes) == 0  # between all modes is in none
    few = torch.cat([x[label == 0][:99], x[label == 1][:1]])
    assert reached(few, modes) == 1  # a stray one does not count


def test_clusters_stand_for_modes_that_are_not_known():
    centres = 20 * torch.eye(6)
    x = (centres[:, None] + torch.randn(6, 100, 6)).flatten(0, 1)
    data = Data.from_arrays(x=x.numpy(), valid=50, test=50)
    modes = modes_of(data, x)
    assert len(modes.centres) == 20
    assert float(modes.shares.sum()) == pytest.approx(1.0)
    assert reached(x, modes) == 20
    assert reached(x[:1].expand(200, 6), modes) == 1
    assert reached(x[:100], modes) < 8
    again = modes_of(data, x)
    assert torch.equal(modes.centres, again.centres)
    assert modes_of(data, x[:30]) is None


# What is said.


def look(spread=1.0, modes=8, order=0.7, gap=1.0, gradient=1.0, game="hinge"):
    one = {"sites": "x", "game": game, "value": -1.0}
    one |= {"order": order, "gap": gap, "gradient": gradient}
    return {"spread": spread, "modes": modes, "of": 8, "critics": [one]}


@pytest.mark.parametrize(
    ("looks", "kind", "words"),
    [
        ([look(spread=0.001)] * 3, "alike", r"variance is 0\.10% of the data's"),
        ([look(modes=1)] * 3, "modes", "reach 1 modes, and as many rows of the data 8"),
        ([look(order=1.0)] * 3, "won 0", r"100\.00% of pairs"),
        ([look(), *[look(gradient=1e-5)] * 3], "faint 0", "gradient of 1e-05, and it was 1"),
        ([look(gradient=0.0)] * 3, "faint 0", "saturated or dead"),
        ([look(game="wasserstein")] * 3 + [look(gap=5e3)] * 3, "grown 0", "by 5e\\+03 after 1"),
    ],
)
def test_what_lasts_is_told(looks, kind, words):
    found = alarms(looks)
    assert [*found] == [kind]
    assert re.search(words, found[kind])
    assert alarms(looks[:-1]) == {}
    assert alarms([*looks, look()]) == {}


def test_what_is_healthy_is_not_told():
    assert alarms([look()] * 9) == {}
    assert alarms([look(order=1.0, gap=50.0, game="wasserstein")] * 9) == {}
    assert alarms([look(modes=6)] * 9) == {}
    assert alarms([look(order=0.5, gap=0.0)] * 9) == {}
    nothing = {"spread": None, "critics": [look(gap=None, gradient=None)["critics"][0]]}
    assert alarms([nothing] * 9) == {}


def test_warnings_are_collected_by_kind():
    looks = [look(), *[look(modes=2)] * 4, *[look(spread=0.0)] * 4]
    rows = [{"step": 100 * n, "watch": one} for n, one in enumerate(looks, 1)]
    modes, alike = collected([{"step": 50}, *rows])
    assert modes.endswith("(from step 400 on, and no longer after step 500)")
    assert alike.startswith("the samples are nearly all alike")
    assert alike.endswith("(from step 800 on)")


# Planted defects, in training.


def planted(monkeypatch, data, pair, game=None, **options):
    monkeypatch.setattr(watching, "APART", 10)
    torch.manual_seed(0)
    told = []
    monkeypatch.setattr("priory.inference.progress.Progress.log", lambda _, t: told.append(t))
    game = Adversarial(critic(), "x") if game is None else game
    options = {"steps": 50, "batch_size": 200, "compile": "off", "check": False, **options}
    run = fit(pair, game, data, **options)
    assert len([t for t in told if "warning" in t]) == len(run.warnings)
    return run, {k for row in run.history for k in row.get("warnings", ())}


@pytest.mark.parametrize("ema", [None, 0.5])
def test_constant_generator_is_told(monkeypatch, ring, ema):
    run, words = planted(monkeypatch, ring, Noisy(share=0.0), ema=ema)
    assert any("nearly all alike: their variance is 0.00%" in w for w in words)
    assert any("the samples are nearly all alike" in w for w in run.warnings)
    assert run.history[-1]["watch"]["spread"] == 0.0
    json.dumps(run.history, allow_nan=False)


def test_generator_of_one_mode_is_told(monkeypatch, ring):
    pair = Noisy(share=1e-3)
    with torch.no_grad():
        pair.place.copy_(torch.tensor([1.0, 0.0]))
    run, words = planted(monkeypatch, ring, pair, lr=1e-6)
    assert run.history[-1]["watch"]["modes"] == 1
    assert run.history[-1]["watch"]["of"] == 8
    assert any("reach 1 modes, and as many rows of the data 8" in w for w in words)


def test_perfect_critic_is_told(monkeypatch, ring):
    run, words = planted(monkeypatch, ring, Noisy(shift=9.0), Adversarial(MLP((32,)), "x", rate=9))
    assert run.history[-1]["watch"]["critics"][0]["order"] == 1.0
    assert any("the critic on x separates held-out rows from samples" in w for w in words)


def test_dead_critic_is_told(monkeypatch, ring):
    dead = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        dead[0].bias.fill_(-100.0)
    run, words = planted(monkeypatch, ring, Noisy(), Adversarial(dead, "x"))
    assert run.history[-1]["watch"]["critics"][0]["gradient"] == 0.0
    assert any("hands on a gradient of 0" in w for w in words)


def test_watch_sees_scores_of_a_known_critic(ring):
    pair = Noisy(share=0.0, shift=3.0)
    score = nn.Sequential(nn.Linear(2, 1))
    with torch.no_grad():
        score[0].weight.copy_(torch.tensor([[-2.0, 0.0]]))
        score[0].bias.zero_()
    game = Adversarial(score, "x", game="wasserstein")
    svi = SVI(pair.model, pair.guide, ADAM, game, check=False)
    svi.prepare(x=ring.train.x[:50])
    found = Watch(pair, ring, svi, game.adversaries(), 0, print).look()["critics"][0]
    exact = float((-2 * ring.valid.x[:, 0]).mean()) + 6
    assert found["gap"] == pytest.approx(exact, abs=0.1)
    assert found["order"] == 1.0
    assert found["gradient"] == pytest.approx(2.0, rel=1e-5)  # d score / d place


def test_watching_changes_no_bit(monkeypatch, ring):
    monkeypatch.setattr(watching, "APART", 1)
    options = {"ema": 0.9, "snapshot_every": 1, "best": ByMetric("mmd", n_samples=50)}
    seen = trained(ring, **options)
    blind = trained(ring, **options, watch=False)
    assert same(state(seen), state(blind))
    assert all("watch" in row for row in seen.history)
    assert not any("watch" in row for row in blind.history)
    assert [r["loss"] for r in seen.history] == [r["loss"] for r in blind.history]
    plain = trained(ring, ema=0.9)
    assert [r["loss"] for r in plain.history] == [r["loss"] for r in blind.history]


# The best weights.


class Counting(Criterion):
    """Answers given numbers, and keeps what the pair was each time."""

    name = "counted"

    def __init__(self, values, better="lower"):
        self.values, self.better, self.seen = iter(values), better, []

    def __call__(self, pair, data, seed):
        torch.rand(3)
        assert not pair.training
        self.seen.append({n: v.clone() for n, v in pair.state_dict().items()})
        return next(self.values)


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("better", ["lower", "higher"])
def test_best_weights_and_buffers_are_answered(ring, better, ema):
    sign = 1.0 if better == "lower" else -1.0
    judge = Counting([sign * v for v in (9, 5, 3, 4, 3, 7)], better)
    run = trained(ring, best=judge, epochs=5, ema=ema)
    assert [abs(row["counted"]) for row in run.history] == [5, 3, 4, 3, 7]
    assert [n for n, row in enumerate(run.history) if row.get("best")] == [0, 1]
    assert same(state(run), judge.seen[2])
    assert float((run.pair.net[1].running_mean - judge.seen[-1]["net.1.running_mean"]).abs().max())
    assert int(run.pair.net[1].num_batches_tracked) == 20  # running means take all forward passes


def test_patience_counts_by_the_metric(ring):
    run = trained(ring, best=Counting([9, 5, 3, 4, 4, 4, 4]), epochs=9, patience=2)
    assert [row["counted"] for row in run.history] == [5, 3, 4, 4]


def test_selection_passes_over_what_has_no_value():
    judge = Counting([])
    selection = Selection(judge, 2)
    assert not selection.consider({"loss": 1.0}, dict)
    row = {"counted": 2.0}
    assert not selection.consider(row, lambda: {"w": torch.ones(1)})
    assert row["best"]
    assert not selection.consider({"counted": None}, dict)
    assert selection.consider({"counted": math.nan}, dict)
    assert selection.state() == {"best": -2.0, "waited": 2}


def test_metric_judges_the_weights_that_the_run_ends_with(ring):
    judge = ByMetric("mmd", n_samples=200)
    run = trained(ring, best=judge, ema=0.9, lr=5e-3)
    values = [row["mmd"] for row in run.history]
    found = evaluate(run, split="valid", metrics=["mmd"], n_samples=200)["mmd"].value
    assert found == pytest.approx(min(values), rel=1e-6)
    assert from_config(to_config(judge)).n_samples == 200
    assert run.config["best"]["metric"] == "mmd"
    labels = [axes.get_ylabel() for axes in training(run.history).axes]
    assert labels == ["loss, nats per datum", "mmd"]


def test_metric_without_a_value_or_direction_is_told_before_the_first_step(ring):
    with pytest.raises(ValueError, match="nll cannot be had"):
        trained(ring, best=ByMetric("nll"))
    with pytest.raises(ValueError, match="mmd_p has no better direction; choose among nll"):
        ByMetric("mmd_p")
    with pytest.raises(ValueError, match="unknown metric 'mdm', nearest 'mmd'"):
        ByMetric("mdm")
    with pytest.raises(ValueError, match=r"best must be a Criterion.*; best needs evaluations"):
        trained(ring, best="mmd", valid_every=0)


# Broken off, and gone on with.


def broken_off(ring, folder, at, **options):
    def stop(row):
        if row["epoch"] == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(ring, folder, on_epoch=stop, **options)


@pytest.mark.filterwarnings("ignore:the objective of .* cannot be rebuilt")  # own nets
@pytest.mark.parametrize("every", [0.0, 1000.0], ids=["checkpoints", "none yet"])
def test_break_changes_nothing(monkeypatch, ring, tmp_path, every):
    monkeypatch.setattr(watching, "APART", 1)
    options = {
        "epochs": 5,
        "ema": 0.9,
        "lr": 1e-2,
        "best": ByMetric("mmd", n_samples=100),
        "snapshot_every": 2,
        "checkpoint_every": every,
    }
    whole = trained(ring, tmp_path / "whole", **options)
    broken_off(ring, tmp_path / "run", 2, **options)
    if every == 0.0:
        assert [*load(tmp_path / "run", pair=Noisy(), data=ring).snapshots] == [0, 10]
        broken_off(ring, tmp_path / "run", 4, resume=True, **options)
    run = trained(ring, tmp_path / "run", resume="auto", **options)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert [*run.snapshots] == [*whole.snapshots] == [0, 10, 20, 25]
    files = [(tmp_path / n / "snapshots.safetensors").read_bytes() for n in ("run", "whole")]
    assert files[0] == files[1]
    back = load(tmp_path / "run", pair=Noisy(), data=ring)
    again = trained(ring, tmp_path / "run", resume=True, **options)
    for other in (run, back, again):
        assert same(state(other), state(whole))
        assert other.history[-1]["watch"] == whole.history[-1]["watch"]
        for step, x in whole.snapshots.items():
            assert torch.equal(other.snapshots[step], x)


def test_longer_run_has_no_doubles(ring, tmp_path):
    options = {"snapshot_every": 1, "epochs": None}
    trained(ring, tmp_path / "whole", steps=13, **options)
    trained(ring, tmp_path / "run", steps=7, **options)
    run = trained(ring, tmp_path / "run", steps=13, resume=True, **options)
    assert [*run.snapshots] == [0, 5, 10, 13]
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.filterwarnings("ignore:the objective of .* cannot be rebuilt")  # own nets
def test_lost_or_damaged_snapshots_are_told(ring, tmp_path):
    options = {"snapshot_every": 1, "checkpoint_every": 0.0}
    broken_off(ring, tmp_path / "run", 3, **options)
    file = tmp_path / "run" / "snapshots.safetensors"
    file.unlink()
    with pytest.warns(UserWarning, match=r"has no snapshots of steps \[0, 5, 10\]"):
        trained(ring, tmp_path / "run", resume=True, **options)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    with pytest.raises(Damaged, match=r"snapshots.safetensors is damaged"):
        load(tmp_path / "run", pair=Noisy(), data=ring)


# The same dreams, and the average.


def test_snapshots_are_of_the_same_noise_and_follow_the_average(ring):
    still = trained(ring, lr=1e-9, snapshot_every=1)
    assert still.snapshots[0].shape == (512, 2)
    assert [*still.snapshots] == [0, 5, 10, 15, 20]
    moved = trained(ring, lr=1e-2, ema=0.95, snapshot_every=3)
    assert [*moved.snapshots] == [0, 15, 20]
    assert torch.equal(moved.snapshots[20], moved.sample(512)["x"])
    assert torch.equal(moved.snapshots[0], still.snapshots[0])
    assert not torch.equal(moved.snapshots[0], moved.snapshots[20])


def test_average_is_of_the_pairs_weights_alone(ring):
    """Buffers are as training has left them, and the critic is not averaged."""
    runs = [trained(ring, ema=ema, lr=1e-2) for ema in (None, 0.9)]
    plain, averaged = (state(run) for run in runs)
    buffers = {n for n, _ in runs[0].pair.named_buffers()}
    assert buffers
    for name, value in plain.items():
        assert torch.equal(value, averaged[name]) == (name in buffers), name
    assert all(map(torch.equal, *(run.objective.critic.parameters() for run in runs)))


def test_dreams_of_the_average_move_less(ring):
    """The generator circles around; its average stays near what it circles around."""

    def moved(ema):
        options = {"epochs": 30, "lr": 5e-3, "snapshot_every": 1, "valid_every": 0}
        taken = [*trained(ring, ema=ema, **options).snapshots.values()][15:]
        return sum(float((a - b).square().mean()) for a, b in itertools.pairwise(taken))

    assert moved(0.99) < 0.4 * moved(None)


# Pictures, and the command line.


@pytest.mark.parametrize("shape", [(1, 8, 8), (2,), (1,), (5,)])
def test_snapshots_are_drawn(shape):
    taken = {step: torch.rand(20, *shape) for step in range(0, 1500, 100)}
    figure = snapshots(taken, torch.rand(30, *shape))
    texts = [a.get_text() for a in figure.axes[0].texts]
    titles = [axes.get_title() for axes in figure.axes]
    assert "1,400" in texts or "step 1,400" in titles
    assert len(figure.axes) == (1 if len(shape) == 3 else 12)


def test_command_line_judges_snaps_and_warns(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watching, "APART", 1)
    words = ["fit", "gan", "--generator", "mlp:8", "--rows", "400", "--batch-size", "100"]
    words += ["--schedule", "constant"]
    more = ["--best", "mmd:n_samples=100", "--snapshot-every", "2", "--ema", "0.9", "--lr", "1e-9"]
    monkeypatch.setattr(watching, "ALIKE", 100.0)  # so that all dreams are too much alike
    assert main([*words, *more, "--epochs", "4", "--out", "run"]) == 0
    out = capsys.readouterr().out
    assert "best mmd" in out
    assert "warning: the samples are nearly all alike" in out
    folder = tmp_path / "run"
    assert (folder / "snapshots.png").stat().st_size > 1000
    assert {p.name for p in folder.iterdir()} >= {"training.png", "snapshots.safetensors"}
    assert main(["fit", "run", "--resume", "--epochs", "6"]) == 0
    assert "after 24 steps" in capsys.readouterr().out
    assert [*load("run").snapshots] == [0, 8, 16, 24]
    assert main([*words, "--best", "mdm", "--out", "other"]) == 2
    assert "got 'mdm'; did you mean 'mmd'?" in capsys.readouterr().err
