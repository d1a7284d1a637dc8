"""Stages of one run: their order, resuming within any of them, and the start of VaDE."""

import json

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture as Mixture
from torch.distributions import Normal

from priory import compare, fit, load
from priory.cli import main
from priory.data import Data
from priory.evaluation.latents.clustering import hungarian_hits, majority_hits
from priory.evaluation.report.charts import training
from priory.inference import (
    ELBO,
    Adversarial,
    MixtureOfCodes,
    Reconstruction,
    Stage,
)
from priory.inference.checkpoints.checkpoint import checkpoints
from priory.inference.mixture_of_codes import fitted_mixture
from priory.models import VAE
from priory.nets import MLP
from priory.priors import GaussianMixture
from priory.recipes import RECIPES
from priory.serialisation import from_config, to_config
from processes import outcome

POINT = Reconstruction(point=True)
FIRST = {"name": "first", "objective": POINT, "frozen": ("prior",), "lr": 1e-2}
METRICS = ("clustering_hungarian", "clustering_majority")
OPTIONS = {"batch_size": 16, "progress": False, "compile": "off", "lr": 1e-2}


@pytest.fixture(scope="module", autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def rows(n=80):
    """Two groups of rows of bits, with the group as label."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 2
    p = torch.where(y[:, None] == 1, 0.9, 0.1)
    x = (torch.rand(n, 6, generator=draw) < p).double()
    return Data.from_arrays(x, y=y, valid=20, test=12)


def pair(components=2):
    torch.manual_seed(0)
    return VAE(GaussianMixture(components), MLP((4,)), MLP((4,)), latent=2)


def trained(stages, *, steps=6, **options):
    return fit(pair(), ELBO(), rows(), stages=stages, steps=steps, **OPTIONS, **options)


@pytest.fixture(scope="module")
def start():
    """A run whose own training moves nothing that can be seen, and the codes at its start."""
    stage = MixtureOfCodes(**FIRST, starts=2, steps=30, metrics=METRICS)
    run = fit(pair(), ELBO(), rows(), stages=[stage], steps=1, **{**OPTIONS, "lr": 1e-13})
    with torch.no_grad():
        return run, run.pair.encoder(run.data.train.x).mean


def last_of_stage(run):
    return next(row for row in reversed(run.history) if "stage" in row)


# --- the start of VaDE --------------------------------------------------------------------------


def test_the_prior_is_the_mixture_of_the_codes(start):
    run, codes = start
    mixture = Mixture(2, covariance_type="diag", n_init=2, max_iter=1000, random_state=0)
    points = codes.numpy()
    mixture.fit(points)
    density = run.pair.prior().log_prob(codes).detach()
    torch.testing.assert_close(
        density, torch.from_numpy(mixture.score_samples(points)), atol=1e-6, rtol=0
    )
    assert last_of_stage(run)["log_p_z"] == pytest.approx(mixture.score(points), abs=1e-6)
    assert run.encode(run.data.train.x).cluster.tolist() == mixture.predict(points).tolist()


def test_codes_stay_where_the_mixture_is():
    model, data = pair(), rows()
    x = data.train.x
    model.build(x)
    with torch.no_grad():
        before = model.encoder(x)
        MixtureOfCodes(**FIRST, starts=1, log_scale=-3.0).finish(model, data, 0)
        after = model.encoder(x)
    assert torch.equal(after.mean, before.mean)
    assert not torch.equal(after.stddev, before.stddev)
    torch.testing.assert_close(after.stddev.log(), torch.full_like(before.mean, -3.0))


def test_one_component_is_a_normal_prior_of_the_codes_mean_and_scale():
    codes = torch.randn(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights, loc, variance = fitted_mixture(codes, 1, 1, 0)
    prior = pair(1).prior
    prior.build(3, torch.zeros(1, 6))
    prior.double()
    with torch.no_grad():
        prior.logits.copy_(weights.log())
        prior.loc.copy_(loc)
        prior.log_scale.copy_(0.5 * variance.log())
    by_hand = Normal(codes.mean(0), (codes.var(0, correction=0) + 1e-6).sqrt())
    z = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(prior().log_prob(z), by_hand.log_prob(z).sum(-1), atol=1e-9, rtol=0)


def test_the_score_of_the_mixture_stands_beside_the_final_one(start):
    run, _ = start
    valid = run.data.valid
    clusters = run.encode(valid.x).cluster
    by_hand = [
        float(f(clusters, valid.columns["y"]).mean()) for f in (hungarian_hits, majority_hits)
    ]
    assert [last_of_stage(run)[name] for name in METRICS] == pytest.approx(by_hand)
    assert [run.history[-1][name] for name in METRICS] == pytest.approx(by_hand)
    moved = trained([MixtureOfCodes(**FIRST, starts=1, steps=3, metrics=METRICS)], steps=60)
    before, after = ([row[n] for n in METRICS] for row in (last_of_stage(moved), moved.history[-1]))
    assert before != after


def test_a_metric_without_labels_has_no_value():
    data = Data.from_arrays(rows().train.x, valid=10, test=4)
    stage = Stage(name="first", objective=ELBO(), steps=1, metrics=("knn_accuracy",))
    run = fit(pair(), ELBO(), data, stages=[stage], steps=1, **OPTIONS)
    assert [row["knn_accuracy"] for row in run.history] == [None, None]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"prior": "normal"}, "take prior=GaussianMixture"),
        ({"prior": GaussianMixture(2, equal=True)}, "learned weights"),
        ({"deterministic": True}, "with a normal posterior"),
        ({"posterior": "full"}, "with a normal posterior"),
        ({"encoder": torch.nn.Sequential(torch.nn.Linear(6, 4))}, "linear layer with a bias"),
        ({"prior": GaussianMixture(90)}, "90 components needs as many finite codes, got 48"),
    ],
)
def test_a_pair_that_the_mixture_does_not_suit_is_refused(made, words):
    options = {"prior": GaussianMixture(2), "encoder": MLP((4,)), "decoder": MLP((4,)), **made}
    stages, unsuited = [MixtureOfCodes(**FIRST, steps=1)], VAE(**options, latent=2)
    with pytest.raises(ValueError, match=words):
        fit(unsuited, ELBO(), rows(), stages=stages, steps=1, **OPTIONS)


# --- the order of stages ------------------------------------------------------------------------


def test_the_history_has_all_stages_in_one_order():
    one, two = (Stage(name=n, objective=ELBO(), steps=5, lr=1e-2) for n in ("one", "two"))
    run = trained([one, two], valid_every=1)
    assert [row.get("stage") for row in run.history] == ["one"] * 2 + ["two"] * 2 + [None] * 2
    assert [row["step"] for row in run.history] == [3, 5, 8, 10, 13, 16]
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4, 5, 6]
    assert np.all(np.diff([row["seconds"] for row in run.history]) > 0)
    assert ["bound" in row for row in run.history] == [False] * 4 + [True] * 2


def test_a_stage_of_the_same_objective_is_the_same_training():
    """Without a state, plain gradient steps do not notice where a stage ends."""
    options = {"optim": torch.optim.SGD, "valid_every": 0}
    whole = fit(pair(), POINT, rows(), steps=6, check=False, **OPTIONS, **options)
    parts = [Stage(name="first", objective=POINT, steps=3, lr=1e-2)]
    split = fit(pair(), POINT, rows(), steps=3, stages=parts, check=False, **OPTIONS, **options)
    assert all(map(torch.equal, whole.pair.parameters(), split.pair.parameters()))


def test_what_is_frozen_is_not_trained_in_the_stage_alone():
    seen = {}

    class Look(Stage):
        def finish(self, pair, data, seed):
            seen.update({n: p.detach().clone() for n, p in pair.named_parameters()})
            return {}

    run = trained([Look(name="first", objective=ELBO(), frozen=("prior",), steps=6)])
    built = pair()
    built.build(rows().train.x)
    assert torch.equal(seen["prior.loc"], built.prior.loc)
    after = dict(run.pair.named_parameters())
    assert all(p.requires_grad and not torch.equal(p, seen[n]) for n, p in after.items())


# --- resuming -----------------------------------------------------------------------------------


def staged(folder, **options):
    stage = MixtureOfCodes(
        **FIRST, steps=7, starts=1, metrics=("clustering_majority",), ema=0.9, schedule="cosine"
    )
    options = {"steps": 7, "checkpoint_every": 0.0, "schedule": "cosine", **options}
    return fit(pair(), ELBO(), rows(), stages=[stage], folder=folder, **OPTIONS | options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    staged(folder)
    return outcome(folder)


class Broken(Exception):
    """Stands for a process that dies: nothing is saved on the way out."""


@pytest.mark.parametrize("seconds", [0.0, 1000.0])
@pytest.mark.parametrize("epoch", [1, 2, 3, 4, 5, 6])
def test_a_run_broken_in_any_stage_goes_on_to_the_same_bits(tmp_path, whole, epoch, seconds):
    def broken(row):
        if row["epoch"] == epoch:
            raise Broken

    options = {"checkpoint_every": seconds}
    with pytest.raises(Broken):
        staged(tmp_path / "run", on_epoch=broken, **options)
    staged(tmp_path / "run", resume="auto", **options)
    assert outcome(tmp_path / "run") == whole


@pytest.mark.parametrize("epoch", [2, 5])
def test_traced_stages_go_on_to_the_same_bits(tmp_path, epoch):
    def broken(row):
        if row["epoch"] == epoch:
            raise Broken

    options = {"compile": "trace", "snapshot_every": 1}
    staged(tmp_path / "whole", **options)
    with pytest.raises(Broken):
        staged(tmp_path / "run", on_epoch=broken, **options)
    run = staged(tmp_path / "run", resume=True, **options)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert [*run.snapshots] == [7, 10, 13, 14]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_broken_between_stages_goes_on_to_the_same_bits(tmp_path, whole, monkeypatch, when):
    finish = MixtureOfCodes.finish

    def breaking(self, *args):
        if when == "after":
            finish(self, *args)
        raise Broken

    monkeypatch.setattr(MixtureOfCodes, "finish", breaking)
    with pytest.raises(Broken):
        staged(tmp_path / "run")
    monkeypatch.undo()
    state = checkpoints(tmp_path / "run" / "checkpoints")[-1] / "state.json"
    assert json.loads(state.read_text())["stage"] == 0
    staged(tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == whole


def test_a_finished_run_is_returned_and_a_longer_one_goes_on(tmp_path, whole):
    staged(tmp_path / "run", schedule="constant")
    first = outcome(tmp_path / "run")
    again = staged(tmp_path / "run", schedule="constant", resume=True)
    assert outcome(tmp_path / "run") == first
    assert len(again.history) == len(whole[1])
    staged(tmp_path / "longer", schedule="constant", steps=11)
    staged(tmp_path / "run", schedule="constant", steps=11, resume=True)
    longer, run = (outcome(tmp_path / name) for name in ("longer", "run"))
    assert run[0] == longer[0]


def test_another_stage_is_another_run(tmp_path):
    staged(tmp_path / "run")
    other = Stage(name="first", objective=POINT, steps=7)
    with pytest.raises(ValueError, match=r"begun otherwise: fit\.stages was"):
        fit(
            pair(), ELBO(), rows(), stages=[other], folder=tmp_path / "run", resume=True,
            steps=7, schedule="cosine", **OPTIONS,
        )  # fmt: skip


def test_a_run_within_a_stage_loads(tmp_path):
    def broken(row):
        if row["epoch"] == 2:
            raise Broken

    with pytest.raises(Broken):
        staged(tmp_path / "run", on_epoch=broken)
    run = load(tmp_path / "run", data=rows())
    assert [row["stage"] for row in run.history] == ["first"]
    assert run.sample(3)["x"].shape == (3, 6)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: Stage(name="a b", objective=ELBO()), "must be one word"),
        (lambda: Stage(name="a", objective=Adversarial(MLP((4,)), "z")), "without a critic"),
        (lambda: Stage(name="a", objective="elbo"), "needs an objective"),
        (lambda: MixtureOfCodes(name="a", objective=ELBO(), starts=0), "starts must be"),
        (lambda: trained(["first"]), "must be a list of Stage"),
        (lambda: trained([Stage(name="a", objective=ELBO(), steps=0)]), "of the stage a, steps"),
        (lambda: trained([Stage(name="a", objective=ELBO())] * 2), "different names, got a, a"),
        (
            lambda: trained([Stage(name="a", objective=ELBO(), frozen=("mind",))]),
            "names 'mind', which is no part of VAE",
        ),
        (
            lambda: fit(
                pair(), ELBO() + Adversarial(MLP((4,)), "z"), rows(),
                stages=[Stage(name="a", objective=ELBO(), steps=1)], **OPTIONS,
            ),
            "takes an objective without a critic",
        ),
    ],
)  # fmt: skip
def test_a_wrong_stage_is_refused(made, words):
    with pytest.raises(ValueError, match=words):
        made()


# --- recipes and the command line ---------------------------------------------------------------


def test_a_stage_is_written_and_read_back():
    for stage in RECIPES["vade"].stages:
        again = from_config(json.loads(json.dumps(to_config(stage))))
        assert type(again) is type(stage)
        assert to_config(again) == to_config(stage)


def test_options_of_a_stage_go_by_its_name():
    _, _, options = RECIPES["vade"].prepare(**{"autoencoder.epochs": "3", "steps": 5})
    (stage,) = options["stages"]
    assert (stage.epochs, stage.steps, options["steps"]) == (3, None, 5)
    assert stage is not RECIPES["vade"].stages[0]
    with pytest.raises(ValueError, match=r"autoencoder\.lr must be a number"):
        RECIPES["vade"].prepare(**{"autoencoder.lr": "fast"})
    with pytest.raises(ValueError, match="of the stage autoencoder, lr must be positive"):
        RECIPES["vade"].prepare(**{"autoencoder.lr": -1.0})


def test_a_stage_ends_at_a_line_of_the_chart(start):
    first, second = training(start[0].history).axes[0].lines[:2]
    assert len(first.get_xdata()) == len(start[0].history)
    assert list(second.get_xdata()) == [last_of_stage(start[0])["epoch"]] * 2


def test_a_comparison_takes_stages(tmp_path):
    options = {"autoencoder.steps": 2, "autoencoder.starts": 1, "steps": 1, "latent": 2}
    options |= {"seeds": 1, "jobs": 1, "metrics": ["nll"], "runs": tmp_path, "progress": False}
    compare("digits", recipes=["vade", "vae"], **options)
    stages = {
        folder.name: [(row.get("stage"), row["step"]) for row in load(folder).history]
        for folder in tmp_path.iterdir()
    }
    assert stages == {"vade-seed0": [("autoencoder", 2), (None, 3)], "vae-seed0": [(None, 1)]}
    with pytest.raises(ValueError, match=r"autoencoder\.steps is no option of vae"):
        compare("digits", recipes="vae", **options)


def test_a_comparison_takes_stages_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = "compare --recipe vade,vae --autoencoder.steps 1 --autoencoder.starts 1 --steps 1"
    few = "--seeds 1 --jobs 1 --metrics nll --data.rows 100"
    assert main([*line.split(), *few.split()]) == 0
    assert len(load("report/runs/vade-seed0").history) == 2


def test_a_run_in_stages_goes_on_and_begins_others(capsys, tmp_path, monkeypatch, no_pixels):
    monkeypatch.chdir(tmp_path)
    small = "--encoder mlp:8 --decoder mlp:8 --latent 2 --data.rows 200 --no-progress"
    line = (
        f"fit vade {small} --autoencoder.steps 3 --starts 1 --schedule constant --out run --steps"
    )
    assert main(f"{line} 2".split()) == 0
    assert "after the stage autoencoder: " in (said := capsys.readouterr().out)
    assert "; at the end: clustering_hungarian" in said
    assert main(["fit", "run", "--resume", "--steps", "4"]) == 0
    run = load("run")
    assert [(row.get("stage"), row["step"]) for row in run.history][::2] == [
        ("autoencoder", 1), ("autoencoder", 3), (None, 5), (None, 7),
    ]  # fmt: skip
    assert main(["fit", "run", "--warm", "--out", "warm", "--steps", "1"]) == 0
    assert [row["step"] for row in load("warm").history] == [1]
    capsys.readouterr()
    assert main(["fit", "vade", "--help"]) == 0
    assert "--autoencoder.steps" in capsys.readouterr().out
