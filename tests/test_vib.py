"""The information bottleneck, and what is measured of a pair's predictions of labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from priory import evaluate, fit, load
from priory.cli import main
from priory.comparison import compare_runs
from priory.data import Data
from priory.inference import ELBO
from priory.models import VAE, VIB, NaiveBayes
from priory.nets import MLP, Affine

PREDICTIONS = ["accuracy", "label_nll"]


def two_points(sd):
    """A pair with q(z | x) = N(x, sd^2) of data 1 and -1, and the exact p(y | z) of the two."""
    x = torch.tensor([[1.0], [-1.0]]).repeat(500, 1)
    y = torch.tensor([0, 1]).repeat(500)
    pair = VIB(encoder=Affine(), classifier=Affine(), latent=1)
    pair.build(x, y)
    with torch.no_grad():
        weight, bias = pair.encoder.net.last.parameters()
        weight.copy_(torch.tensor([[1.0], [0.0]]))
        bias.copy_(torch.tensor([0.0, math.log(sd)]))
        weight, bias = pair.classifier.last.parameters()
        weight.copy_(torch.tensor([[1.0], [-1.0]]) / sd**2)
        bias.zero_()
    return pair, {"x": x, "y": y}


def exact_information(sd):
    """I(z; y) of two equally likely normals at 1 and -1, by quadrature, in nats."""
    z = np.linspace(-12, 12, 200_001)
    density = np.exp(-0.5 * ((z - 1) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
    logit = 2 * z / sd**2
    return math.log(2) - np.trapezoid(density * np.logaddexp(0, -logit), z)


@pytest.mark.parametrize("sd", [0.5, 1.0, 2.0])
def test_the_information_of_the_label_is_exact_where_the_classifier_is(sd):
    pair, data = two_points(sd)
    report = evaluate(pair, data, metrics=["label_information", "kl", "mutual_information"])
    record = report["label_information"]
    exact = exact_information(sd)
    assert abs(record.value - exact) < 4 * record.se + 1e-3
    assert record.kind == "lower bound"
    kl = 0.5 * (sd**2 + 1 - 1) - math.log(sd)
    assert abs(report["kl"].value - kl) < 4 * report["kl"].se
    # Of two data a code tells what it tells of their labels, which a worse classifier misses.
    assert abs(report["mutual_information"].value - exact) < 5 * record.se + 2e-3
    with torch.no_grad():
        pair.classifier.last.weight.mul_(3)
    worse = evaluate(pair, data, metrics=["label_information"])["label_information"]
    assert worse.value < exact


def test_labels_are_predicted_by_the_mean_over_codes():
    pair, data = two_points(1.0)
    pair.draws = 20_000
    x = torch.tensor([[1.0]])
    z = torch.randn(200_000) + 1
    expected = (2 * z).sigmoid().mean()
    assert float(pair.classify(x).probs[0, 0].detach()) == pytest.approx(float(expected), abs=0.01)
    report = evaluate(pair, data, metrics=PREDICTIONS)
    assert report["accuracy"].value == 1
    assert report["label_nll"].value == pytest.approx(-math.log(float(expected)), abs=0.02)


def test_accuracy_and_nll_are_those_of_the_predictions(digits):
    pair = NaiveBayes()
    x, y = (digits.train.x > 0.5).float(), digits.train.columns["y"]
    pair.build(x, y)
    pair.maximise(x, y)
    x, y = (digits.test.x > 0.5).float(), digits.test.columns["y"]
    report = evaluate(pair, {"x": x, "y": y}, metrics=PREDICTIONS)
    predicted = pair.classify(x)
    right = predicted.probs.argmax(-1) == y
    assert report["accuracy"].value == pytest.approx(float(right.double().mean()), abs=1e-12)
    nll = -float(predicted.log_prob(y).detach().double().mean())
    assert report["label_nll"].value == pytest.approx(nll, rel=1e-5)
    assert "worst label" in report["accuracy"].note


def test_what_predicts_no_label_has_no_accuracy(digits):
    pair = VAE(latent=2, encoder=MLP((4,)), decoder=MLP((4,)))
    report = evaluate(pair, digits, metrics=[*PREDICTIONS, "label_information"], limit=20)
    assert all(report[name].value is None for name in PREDICTIONS)
    assert "no classify(x)" in report["accuracy"].note
    assert "no label y after a latent" in report["label_information"].note
    pair.classify = lambda x: torch.distributions.Categorical(logits=torch.zeros(len(x), 5))
    report = evaluate(pair, digits, metrics=["accuracy"], limit=50)
    assert "knows 5 classes, and the data have others" in report["accuracy"].note


def test_a_dear_nat_leaves_the_majority_and_a_free_one_a_classifier(digits):
    found = {}
    for beta in (0.0, 1e-3, 10.0):
        torch.manual_seed(0)
        pair = VIB(encoder=MLP((64,)), latent=8)
        run = fit(pair, ELBO(beta=beta), digits, steps=200, lr=5e-3, valid_every=0)
        found[beta] = evaluate(run, metrics=["accuracy", "kl", "label_information"])
    assert found[10.0]["kl"].value < 0.05
    assert found[10.0]["accuracy"].value < 0.2
    assert abs(found[10.0]["label_information"].value) < 0.05
    for beta in (0.0, 1e-3):
        assert found[beta]["accuracy"].value > 0.85
    assert found[1e-3]["kl"].value < found[0.0]["kl"].value


@pytest.fixture(scope="module")
def digits():
    return Data.named("digits")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of two prices, made on the command line."""
    folder = tmp_path_factory.mktemp("vib")
    for beta in ("1e-3", "1"):
        words = ["fit", "vib", "--objective", f"elbo:beta={beta}", "--steps", "20"]
        assert main([*words, "--encoder", "mlp:16", "--out", str(folder / beta)]) == 0
    return folder


def test_a_run_is_loaded_and_predicts_as_before(runs):
    run = load(runs / "1e-3")
    assert not (runs / "1e-3" / "samples.png").exists()  # there is no x to be shown
    assert run.pair.classify(run.data.test.x[:5]).probs.shape == (5, 10)
    assert {*run.sample(4)} == {"z", "y"}


def test_a_comparison_draws_the_information_plane(runs):
    both = [load(runs / beta) for beta in ("1e-3", "1")]
    named = dict(zip(("cheap", "dear"), both, strict=True))
    table = compare_runs(named, metrics=["kl", "label_information"], pictures=False)
    assert "Information plane" in table.html()
    assert "Information plane" not in compare_runs(both, metrics=["kl"], pictures=False).html()


def test_pictures_of_samples_are_refused_in_words(runs, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    assert main(["sample", "1e-3", "--out", "samples.png"]) == 2
    assert "the model draws no x to be shown, only z, y" in capsys.readouterr().err
    words = ["fit", "vib", "--steps", "5", "--snapshot-every", "1", "--out", "other"]
    assert main(words) == 1
    assert "snapshot_every keeps samples of x" in capsys.readouterr().err


def test_labels_are_needed():
    x = torch.rand(20, 3)
    with pytest.raises(ValueError, match="learns p\\(y\\) from the labels"):
        VIB(classes=2).build(x)
    with pytest.raises(ValueError, match="draws must be"):
        VIB(draws=0)
    data = Data.from_arrays(x)
    with pytest.raises(ValueError, match="labels"):
        fit(VIB(classes=2), ELBO(), data, steps=1)
