"""A comparison: fits that don't depend on each other, on order or on processes; failures named."""

import sys

import pytest
import torch

from priory.comparison import FailedFits, compare, fresh, labelled, plan, slug, spell
from priory.data import Data
from priory.divergences import mmd
from priory.evaluation import evaluate
from priory.inference import ELBO, IWAE, Match, Reconstruction, load
from priory.priors import GaussianMixture, Normal, StickBreaking, VampPrior
from priory.recipes import RECIPES
from priory.signatures import Errors

TINY = {"encoder": "mlp:16", "decoder": "mlp:16", "latent": 2, "steps": 5, "batch_size": 64}
JUDGE = {"particles": 5, "metrics": ["nll"], "progress": False}


@pytest.fixture(scope="module")
def digits():
    return Data.named("digits", rows=200)


class Strange(Normal):
    """A prior of the user's own that keeps no configuration."""

    def __init__(self, secret):
        super().__init__()
        self._hidden = secret


def values(table):
    return {(e.label, e.seed): e.report["nll"].value for e in table.entries}


def test_each_fit_is_that_of_fit_alone(digits):
    table = compare(digits, priors=["normal", "mixture:3"], seeds=[0, 4], jobs=1, **TINY, **JUDGE)
    options = {**TINY, "prior": "mixture:3", "seed": 4, "valid_every": 0}
    run = RECIPES["vae"].fit(digits, **options)
    alone = evaluate(run, particles=5, metrics=["nll"])["nll"].value
    assert values(table)["mixture:3", 4] == alone
    assert len(set(values(table).values())) == 4
    assert [row.label for row in table.rows] == ["normal", "mixture:3"]


def test_processes_and_names_change_nothing(digits):
    given = {"priors": ["normal", "vamp:5"], "seeds": 1, "runs": None}
    here = compare(digits, jobs=1, **given, **TINY, **JUDGE)
    there = compare(digits, jobs=2, **given, **TINY, **JUDGE)
    assert values(here) == values(there)
    assert torch.get_num_threads() == 1


def test_objects_are_built_anew_for_every_seed(digits):
    mixture = GaussianMixture(3)
    objectives = {"two": IWAE(2)}
    given = compare(
        digits, priors=[mixture], objectives=objectives, seeds=2, jobs=1, **TINY, **JUDGE
    )
    text = compare(
        digits, priors="mixture:3", objectives="iwae:2", seeds=2, jobs=1, **TINY, **JUDGE
    )
    assert list(values(given).values()) == list(values(text).values())
    assert not mixture.latent, "the user's own object stays as it was"


def test_every_combination_once():
    tasks = plan("digits", recipes=["vae", "aae"], priors=["normal", "vamp:5"], seeds=3)
    assert len(tasks) == 12
    assert len({(task.label, task.options["seed"]) for task in tasks}) == 12
    assert tasks[0].label == "vae, normal"


def test_posteriors_are_combined_like_priors():
    tasks = plan("digits", priors=["normal", "mixture"], posteriors=["normal", "full"], seeds=1)
    labels = ["normal, normal", "normal, full", "mixture, normal", "mixture, full"]
    assert [task.label for task in tasks] == labels
    assert [task.prepare()[0].posterior.name for task in tasks] == 2 * ["normal", "full"]
    with pytest.raises(Errors, match="does not cover the prior's support"):
        plan("digits", priors="stick-breaking", posteriors=["kumaraswamy", "full"])


def test_labels_name_only_what_differs():
    tasks = plan("digits", priors=["normal", "vamp"], objectives="iwae:2", seeds=1)
    assert [task.label for task in tasks] == ["normal", "vamp"]


def test_failures_are_named_and_the_others_kept(digits, capsys):
    critic = torch.nn.Linear(7, 1)  # the wrong size for two latents
    from priory.inference import Adversarial

    objectives = {"good": ELBO(), "bad": ELBO() + Adversarial(critic, "z")}
    with pytest.raises(FailedFits, match="bad, seed 0 failed") as caught:
        compare(
            digits, objectives=objectives, seeds=1, jobs=1, **TINY, **JUDGE | {"progress": True}
        )
    assert [row.label for row in caught.value.comparison.rows] == ["good"]
    told = capsys.readouterr().err
    assert "[1/2] good, seed 0: nll = " in told
    assert "[2/2] bad, seed 0 failed" in told


def test_all_faults_before_any_fit():
    with pytest.raises(Errors) as caught:
        compare(
            "digits", priors=["vmap", "normal"], objectives="eblo", latnt=3, seed=1, particles=0
        )
    told = "\n".join(caught.value.errors)
    for said in ("'vamp'", "'elbo'", "'latent'", "give seeds", "particles must be at least 1"):
        assert said in told


def test_runs_are_kept(digits, tmp_path):
    table = compare(digits, priors="vamp:5", seeds=1, jobs=1, runs=tmp_path, **TINY, **JUDGE)
    back = load(tmp_path / "vamp-5-seed0")
    found = evaluate(back, particles=5, metrics=["nll"])["nll"].value
    assert found == values(table)["vamp:5", 0]


def test_only_the_first_seed_has_pictures(digits):
    table = compare(digits, priors="normal", seeds=2, jobs=1, **TINY, **JUDGE)
    assert [e.report.gallery is not None for e in table.entries] == [True, False]


def test_parts_are_spelled_as_one_would_type_them():
    assert spell(Reconstruction() + 10 * Match(mmd, "z")) == (
        "Reconstruction() + 10 * Match(divergence=mmd)"
    )
    assert spell(VampPrior(100)) == "VampPrior(components=100)"
    assert spell("vamp:100") == "vamp:100"
    assert slug("vamp:100, iwae:10") == "vamp-100-iwae-10"


def test_two_parts_need_two_labels():
    with pytest.raises(ValueError, match="different labels"):
        labelled([Strange(1), Strange(1)])


def test_a_part_without_configuration_is_copied():
    strange = Strange(5)
    copied = fresh(strange)
    assert copied is not strange
    assert copied._hidden == 5
    assert fresh(StickBreaking(2.0)).concentration == 2.0


def test_a_dask_cluster_of_processes_changes_nothing(digits):
    given = {"priors": ["normal", "vamp:5"], "seeds": 1}
    here = compare(digits, jobs=1, **given, **TINY, **JUDGE)
    there = compare(digits, jobs=1, backend="dask", **given, **TINY, **JUDGE)
    assert values(here) == values(there)
    assert [row.label for row in here.rows] == [row.label for row in there.rows]


def test_a_running_cluster_is_used_and_its_threads_take_turns(digits):
    distributed, dask = pytest.importorskip("distributed"), pytest.importorskip("dask")
    given = {"priors": ["normal", "vamp:5"], "seeds": 1}
    here = compare(digits, jobs=1, **given, **TINY, **JUDGE)
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    )
    with dask.config.set(scheduler=None), cluster:  # a worker in this process sets it
        address = cluster.scheduler_address
        there = compare(digits, backend=f"dask:{address}", **given, **TINY, **JUDGE)
        with distributed.Client(address, set_as_default=False) as client:
            assert client.scheduler_info()["workers"], "a cluster of the user's own stays up"
    assert values(here) == values(there)


def test_faults_of_a_backend_are_told_before_any_fit(monkeypatch):
    with pytest.raises(Errors, match="'dask'"):
        compare("digits", priors="normal", backend="daks")
    with pytest.raises(Errors, match="loky runs on this machine"):
        compare("digits", priors="normal", backend="loky:tcp://host:1")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"priory\[ray\]"):
        compare("digits", priors="normal", backend="ray")
