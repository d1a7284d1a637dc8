"""A search: its spaces, the same trials again, what is pruned, what failed, and the best run."""

import json
import statistics
import sys

import pytest

from priory import load, tune
from priory.cli import main
from priory.comparison import Choices, Range, read_search
from priory.comparison.spaces import read_spaces
from priory.comparison.tune import trial_seed
from priory.data import Data
from priory.evaluation import ByMetric, Report
from priory.models import VAE
from priory.priors import GaussianMixture, Normal
from priory.recipes import RECIPES, Recipe
from priory.signatures import Errors, options_of

TINY = {"encoder": "mlp:4", "decoder": "mlp:4", "latent": 2, "batch_size": 64, "epochs": 2}
JUDGE = {"metrics": ["nll"], "particles": 3, "progress": False}
RATES = {"lr": "1e-4..1e-1:log", "prior": ["normal", "vamp:3"]}


@pytest.fixture(scope="module")
def ring():
    return Data.named("ring", rows=300)


class Refuses(VAE):
    """Fails where its latent has three coordinates."""

    name = "refuses"

    def model(self, x):
        if self.latent == 3:
            raise RuntimeError("three\nis refused")
        super().model(x)


def course(found):
    return [(t.state, t.value, dict(t.options)) for t in found.trials]


def test_spaces_are_read_by_the_options_types():
    known = options_of(VAE) | {"lr": options_of(VAE)["latent"].__class__("lr", float)}
    search = read_search(
        ["latent=2,8,32", "prior=normal,vamp:50", "lr=1..2", "encoder=mlp:4,4,conv"]
    )
    found = read_spaces(search, known)
    assert [*found["latent"].known] == ["2", "8", "32"]
    assert [*found["prior"].known] == ["normal", "vamp:50"]
    assert [*found["encoder"].known] == ["mlp:4,4", "conv"]
    assert found["lr"] == Range(1.0, 2.0, False, False)
    assert read_spaces({"latent": "2..64:log"}, known)["latent"] == Range(2, 64, True, True)
    objects = read_spaces({"prior": [Normal(), GaussianMixture(3)]}, known)["prior"]
    assert [*objects.known] == ["Normal()", "GaussianMixture(components=3)"]
    assert isinstance(objects, Choices)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({}, "give what to search"),
        ({"lr": "0..1:log"}, "lr needs positive numbers"),
        ({"lr": "2..1"}, "the smaller number first"),
        ({"lr": "1..2:lin"}, "must be low..high"),
        ({"lr": "0.1"}, "two different values"),
        ({"lr": "0.1,x"}, "lr"),
        ({"latnt": "2,3"}, "nearest 'latent'"),
        ({"prior": "normal,vmap"}, "nearest 'vamp'"),
        ({"latent": "2,3"}, "latent is searched, and given"),
        ({"seed": "1,2"}, "give seeds"),
    ],
)
def test_a_wrong_space_is_refused_before_any_fit(ring, search, words, tmp_path):
    with pytest.raises(Errors, match=words):
        tune("vae", ring, search=search, out=tmp_path / "tuned", **TINY, **JUDGE)
    assert not (tmp_path / "tuned").exists()


@pytest.fixture(scope="module")
def whole(ring, tmp_path_factory):
    """A search of five trials, of a seed, in one process."""
    out = tmp_path_factory.mktemp("whole") / "tuned"
    return tune("vae", ring, search=RATES, trials=5, out=out, **TINY, **JUDGE), out


def test_the_same_trials_come_again_in_two_parts(ring, whole, tmp_path):
    out = tmp_path / "tuned"
    first = tune("vae", ring, search=RATES, trials=2, out=out, **TINY, **JUDGE)
    assert course(first) == course(whole[0])[:2]
    again = tune("vae", ring, search=RATES, trials=5, out=out, resume=True, **TINY, **JUDGE)
    assert course(again) == course(whole[0])
    assert "2 times in this folder" in again.legend
    with pytest.raises(FileExistsError, match="has a search; pass resume=True"):
        tune("vae", ring, search=RATES, out=out, **TINY, **JUDGE)
    other = {**RATES, "lr": "1e-4..1e-2:log"}
    with pytest.raises(ValueError, match=r"begun otherwise: search was .*0\.0001\.\.0\.1:log"):
        tune("vae", ring, search=other, out=out, resume=True, **TINY, **JUDGE)


def test_the_best_trial_is_kept_and_judged_once(whole):
    found, out = whole
    values = [t.value for t in found.trials if t.state == "finished"]
    assert found.best.value == max(values)
    run = load(out / "best")
    assert run.history[-1]["bound"] == found.best.value
    assert run.config["lr"] == found.best.options["lr"]
    report = Report.from_json(out / "best" / "report.json")
    assert report["nll"].value == found.report["nll"].value
    assert f"| nll | {report['nll'].text} |" in (out / "best" / "card.md").read_text()
    assert "looked at once" in found.legend
    kept = json.loads((out / "trials.json").read_text())
    assert [t["value"] for t in kept["trials"]] == [t.value for t in found.trials]
    page = (out / "index.html").read_text()
    assert page.count("<img") == len(found.figures()) == 3 + bool(found.importance)
    assert all(f"{t.value:.4f}" in page for t in found.trials)


def test_a_trial_that_fails_is_shown_and_the_others_go_on(ring, tmp_path, capsys):
    recipe = Recipe("refuses", "", Refuses, data="ring")
    own = {k: v for k, v in TINY.items() if k != "latent"}
    given = {"search": {"latent": [3, 2]}, "trials": 4, "seed": 1, "out": tmp_path / "tuned"}
    found = tune(recipe, ring, **given, **own, **JUDGE | {"progress": True})
    states = {t.options["latent"]: (t.state, t.reason) for t in found.trials}
    assert states["3"] == ("failed", "RuntimeError: three is refused")
    assert states["2"] == ("finished", "")
    assert found.best.options["latent"] == "2"
    assert "failed: RuntimeError: three is refused" in str(found)
    assert "(latent=3): failed: RuntimeError" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no trial is finished, of 1: RuntimeError: three"):
        tune(
            recipe,
            ring,
            search={"latent": [3, 33]},
            trials=1,
            out=tmp_path / "no",
            seed=next(s for s in range(9) if drawn(s) == 0),
            **own,
            **JUDGE,
        )


def drawn(seed):
    """Which of two choices the first trial of a search takes."""
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=trial_seed(seed, 0)))
    return [3, 33].index(int(study.ask().suggest_categorical("latent", ["3", "33"])))


def test_a_trial_without_prospect_is_stopped(ring, tmp_path):
    given = {**TINY, "epochs": 6}
    search = {"lr": "1e-6..3e-2:log"}
    found = tune("vae", ring, search=search, trials=12, out=tmp_path / "tuned", **given, **JUDGE)
    import optuna
    from optuna.storages.journal import JournalFileBackend

    backend = JournalFileBackend(str(tmp_path / "tuned" / "trials.log"))
    study = optuna.load_study(study_name="priory", storage=optuna.storages.JournalStorage(backend))
    pruned = [t for t in found.trials if t.state == "pruned"]
    assert pruned
    for trial in pruned:
        own = study.trials[trial.number].intermediate_values
        last = max(own)
        assert 2 <= last < 6, "not by its first evaluation, and early"
        before = [t for t in study.trials[: trial.number] if t.state.name == "COMPLETE"]
        assert len(before) >= 4
        assert max(own.values()) < statistics.median(t.intermediate_values[last] for t in before)
        assert trial.steps < found.best.steps


def test_a_pair_without_a_bound_needs_a_metric(ring, tmp_path):
    own = {"steps": 4, "batch_size": 64, "trials": 2, "search": {"lr": [1e-3, 1e-4]}}
    with pytest.raises(ValueError, match=r"has no bound of validation rows.*--best mmd"):
        tune("ns-gan", ring, out=tmp_path / "one", **own, **JUDGE)
    best = ByMetric("mmd", n_samples=50)
    found = tune("ns-gan", ring, out=tmp_path / "two", best=best, **own, **JUDGE)
    assert found.better == "lower"
    values = [t.value for t in found.trials]
    assert found.best.value == min(values)
    assert found.quantity == "mmd of validation rows"


def test_a_trial_is_judged_by_the_mean_of_its_seeds(ring, tmp_path):
    search = {"prior": "normal,vamp:3"}
    found = tune("vae", ring, search=search, trials=1, seeds=2, out=tmp_path / "t", **TINY, **JUDGE)
    (trial,) = found.trials
    own = {**TINY, **trial.options, "progress": False}
    runs = [RECIPES["vae"].fit(ring, **own, seed=seed) for seed in (0, 1)]
    assert trial.value == statistics.fmean(run.history[-1]["bound"] for run in runs)


def test_processes_share_the_trials(ring, tmp_path):
    given = {"search": {"prior": "normal,vamp:3"}, "trials": 2, "out": tmp_path / "t", "jobs": 2}
    found = tune("vae", ring, **given, **{**TINY, "epochs": 1}, **JUDGE)
    assert sorted(t.number for t in found.trials) == [0, 1]
    best = found.best
    own = {**TINY, **best.options, "epochs": 1, "seed": 0, "progress": False}
    assert best.value == RECIPES["vae"].fit(ring, **own).history[-1]["bound"]


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "tune vae --data ring --rows 300 --latent 2 --encoder mlp:4 --decoder mlp:4 --epochs 1"
    words += " --search lr=1e-4..1e-2:log --search prior=normal,vamp:3 --trials 2 --metrics nll"
    assert main([*words.split(), "--particles", "3"]) == 0
    out = capsys.readouterr().out
    assert "lr" in out
    assert "wrote tuned/index.html; the best run: tuned/best" in out
    assert main([*words.split(), "--particles", "3", "--resume", "--trials", "3"]) == 2
    again = words.replace("--trials 2", "--trials 3")
    assert main([*again.split(), "--particles", "3", "--resume"]) == 0
    assert "vae: 3 trials" in capsys.readouterr().out
    assert main(["tune", "vae", "--search", "lr"]) == 2
    assert "search must be name=values" in capsys.readouterr().err
    assert main(["tune"]) == 2


def test_an_absent_library_names_its_extra(ring, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'priory\[tune\]'"):
        tune("vae", ring, search=RATES, out=tmp_path / "tuned", **TINY, **JUDGE)
