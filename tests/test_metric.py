"""A metric is one decorated function, here or in a file of one's own."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import priory.evaluation
from pairs import LinearGaussian
from priory.cli import main
from priory.evaluation import METRICS, ByMetric, Estimate, Record, evaluate, metric
from priory.evaluation.table import FILES, GROUPS, choose

MINE = '''
"""Metrics of my own."""

from priory.evaluation import Estimate, metric


@metric("samples", "generated", better="lower", anchored=True)
def mine(draws):
    """Largest distance of means."""
    distance = (draws.generated.mean(0) - draws.real.mean(0)).abs().max()
    return Estimate(float(distance), None, len(draws.real), "biased", note="mine alone")


@metric("likelihood", "log_weight", slow=True, name="lambda")
def of_a_name_that_python_keeps(draws):
    """Mean of the bound."""
    return Estimate.mean(draws.log_weight.log_likelihood, kind="lower bound", unit="nats")
'''


@pytest.fixture
def forgets():
    """The table of metrics, as it was before afterwards."""
    before = dict(METRICS)
    yield METRICS
    METRICS.clear()
    METRICS.update(before)


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return LinearGaussian(latent=2, observed=4, widen=1.3)


def test_a_metric_of_ones_own_is_one_of_all(forgets, pair, tmp_path, monkeypatch, capsys):
    own = [*METRICS]
    (tmp_path / "my_metrics.py").write_text(MINE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_metrics", raising=False)
    __import__("my_metrics")
    assert [*priory.evaluation.METRICS] == [*own, "mine", "lambda"]
    assert METRICS["mine"].better == "lower"
    assert {*choose(None)} - {*own} == {"mine"}
    x = pair.marginal.sample((60,))
    report = evaluate(pair, x, metrics=["mine", "lambda"], particles=5, seed=7, pictures=False)
    assert [r.name for r in report] == ["mine", "mine_real", "mine_baseline", "lambda"]
    assert (report["mine"].seed, report["mine"].note) == (7, "mine alone")
    assert "anchor" in report["mine_baseline"].note
    bound = evaluate(pair, x, metrics=["nll"], particles=5, seed=7, pictures=False)["nll"]
    assert report["lambda"].value == -bound.value
    assert ByMetric("mine").better == "lower"
    assert main(["list", "metrics"]) == 0
    shown = capsys.readouterr().out
    assert "samples     Largest distance of means" in shown
    assert "likelihood  Mean of the bound (slow)" in shown


def test_a_metric_of_ones_own_needs_no_evaluation_first(tmp_path):
    (tmp_path / "my_metrics.py").write_text(MINE, encoding="utf-8")
    code = "import my_metrics; from priory.evaluation import METRICS; print(*METRICS)"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*METRICS, "mine", "lambda"]


def nothing(draws):
    """Nothing at all."""
    return Estimate(0.0, None, draws.n, "exact")


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (("samples",), {"name": "mmd"}, "there is a metric 'mmd' already, of priory.*del METRICS"),
        (("samples",), {"name": "latents"}, "'latents' asks for a group"),
        (("samples",), {"name": "all"}, "'all' asks for a group"),
        (("sample",), {}, "unknown group 'sample', nearest 'samples'"),
        (("samples", "generate"), {}, "unknown need 'generate', nearest 'generated'"),
        (("samples",), {"better": "low"}, "unknown direction 'low', nearest 'lower'"),
    ],
)
def test_a_metric_that_cannot_be_is_refused(words, options, message, forgets):
    before = dict(METRICS)
    with pytest.raises(ValueError, match=message):
        metric(*words, **options)(nothing)
    assert before == METRICS


def test_a_second_of_the_same_name_is_refused(forgets):
    assert metric("samples")(nothing) is nothing
    with pytest.raises(ValueError, match="there is a metric 'nothing' already"):
        metric("samples")(nothing)
    del METRICS["nothing"]
    metric("latents")(nothing)
    assert METRICS["nothing"].group == "latents"


def test_every_file_of_metrics_has_its_place():
    folder = Path(priory.evaluation.__file__).parent
    found = {f for f in folder.rglob("*.py") if "\n@metric(" in f.read_text(encoding="utf-8")}
    assert found == {Path(file.__file__) for file in FILES}


def test_metrics_are_in_the_order_of_their_files_and_lines():
    places = [
        ([f.__name__ for f in FILES].index(row.function.__module__), row.function.__code__)
        for row in METRICS.values()
    ]
    assert places == sorted(places, key=lambda place: (place[0], place[1].co_firstlineno))
    renamed = {name for name, row in METRICS.items() if name != row.function.__name__}
    assert renamed == {
        "active_units",
        "calibration",
        "linear_probe",
        "modes",
    }  # names of their arithmetic


def test_metrics_are_explained_in_the_order_of_the_table():
    """Within a group, by the first that each row of the documentation names."""
    text = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    parts = {part.split(":")[0]: part for part in text.split("\n### ")[1:]}
    for group in GROUPS:
        names = [name for name, row in METRICS.items() if row.group == group]
        told = [line.split("`")[1] for line in parts[group].splitlines() if line[:3] == "| `"]
        assert told == [name for name in names if name in told], group


def test_an_estimate_is_a_record_without_its_name():
    found = Estimate.mean(torch.tensor([1.0, 3.0]), kind="unbiased", unit="nats", note="two")
    record = found.record("twins", 5)
    assert record == Record(2.0, 1.0, 2, "unbiased", "nats", name="twins", seed=5, note="two")
    assert record.values is found.values
    with pytest.raises(ValueError, match="twins: value is nan"):
        Estimate(float("nan"), None, 2, "exact").record("twins")
