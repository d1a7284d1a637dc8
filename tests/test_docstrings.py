"""The examples of all docstrings, run in a small world of a pair, a run and data."""

import doctest
import importlib
import pkgutil

import pyro
import pytest
import torch

import priory
from priory import compare_runs, evaluate, fit
from priory.data import Data
from priory.inference import ELBO
from priory.models import VAE
from priory.nets import MLP

NAMES = sorted(
    module.name
    for module in pkgutil.walk_packages(priory.__path__, "priory.")
    if not module.name.endswith("__main__")
)
WITH_EXAMPLES = [
    name
    for name in NAMES
    if ">>>" in (importlib.util.find_spec(name).loader.get_source(name) or "")
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What examples take for given: a trained run with its pair, rows x and y, and two others."""
    folder = tmp_path_factory.mktemp("examples")
    data = Data.named("digits")
    options = {"steps": 2, "batch_size": 32, "progress": False}
    run, normal = (fit(VAE(latent=2), ELBO(), data, **options) for _ in range(2))
    for name in ("normal", "vamp"):
        run.save(folder / "runs" / name)
    x, y = (data.test.columns[name][:12] for name in ("x", "y"))
    report = evaluate(run, metrics=["nll", "mmd"], particles=5, limit=12, pictures=False)
    table = compare_runs({"normal": normal, "vamp": run}, metrics=["nll"], particles=5)
    values = {
        "torch": torch,
        "data": data,
        "run": run,
        "normal": normal,
        "vamp": run,
        "pair": run.pair,
        "x": x,
        "y": y,
        "critic": MLP((4,)),
        "fake": torch.randn(40, 3),
        "real": torch.randn(40, 3),
        "report": report,
        "table": table,
        "fit": fit,
        "VAE": VAE,
        "ELBO": ELBO,
        "Data": Data,
    }
    return folder, values


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")  # of a run of two steps
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name, world, monkeypatch, capsys):
    folder, values = world
    monkeypatch.chdir(folder)
    module = importlib.import_module(name)
    with pyro.get_param_store().scope():
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        # An example sees what is public beside it, as after an import of its package.
        found = doctest.testmod(module, extraglobs=values, optionflags=flags)
    assert not found.failed, capsys.readouterr().out


def test_no_example_is_skipped():
    skipped = [
        name
        for name in WITH_EXAMPLES
        if "+SKIP" in importlib.util.find_spec(name).loader.get_source(name)
    ]
    assert not skipped
