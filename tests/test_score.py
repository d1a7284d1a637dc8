"""Rows scored by a run: against marginals in closed form, and as `evaluate` judges them."""

import csv
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pairs import LinearGaussian
from priory import evaluate, fit, load, score
from priory.cli import main
from priory.data import Data
from priory.evaluation import Unavailable
from priory.inference import ELBO, EM
from priory.models import CVAE, GAN, HMM, VAE, ProbabilisticPCA


def rows(n=40, d=5, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A run of probabilistic PCA on a standardised table, its folder, and rows in own units."""
    folder = tmp_path_factory.mktemp("score")
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 2)) @ draw.normal(size=(2, 3)) + draw.normal(size=(200, 3))
    x = 5 + x * [1, 20, 300]
    np.savetxt(folder / "rows.csv", x, delimiter=",", header="a,b,c", comments="")
    data = Data.from_file(folder / "rows.csv", standardise=True)
    run = fit(ProbabilisticPCA(latent=1), EM(), data, steps=1, batch_size=160, progress=False)
    run.save(folder / "run")
    return SimpleNamespace(run=run, x=x, folder=folder)


@pytest.fixture(scope="module")
def digits():
    """A VAE on digits, hardly trained."""
    options = {"steps": 5, "progress": False}
    return fit(VAE(latent=2), ELBO(), Data.named("digits"), **options)


def said(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_of_an_exact_guide_is_the_marginal(double):
    pair, x = LinearGaussian(), rows()
    found = score(pair, x, particles=7)
    torch.testing.assert_close(found.log_likelihood, pair.marginal.log_prob(x))
    assert float(found.se.max()) < 1e-6
    assert found.ess == pytest.approx(7)
    backwards = score(pair, x.flip(0), particles=7).log_likelihood.flip(0)
    torch.testing.assert_close(backwards, found.log_likelihood)
    alone = torch.cat([score(pair, row[None], particles=7).log_likelihood for row in x[:3]])
    torch.testing.assert_close(alone, found.log_likelihood[:3])


def test_standard_error_is_the_spread_about_the_marginal(double):
    pair, x = LinearGaussian(widen=2.0, shift=0.3), rows(600)
    found = score(pair, x, particles=300, seed=1)
    apart = (found.log_likelihood - pair.marginal.log_prob(x).detach()) / found.se
    assert float(apart.std()) == pytest.approx(1, abs=0.12)
    assert abs(float(apart.mean())) < 0.2
    assert found.kind == "lower bound"
    assert score(pair, x[:2], particles=1).se.isnan().all()


def test_scores_are_minus_the_nll_of_evaluate_to_the_digit(digits, table):
    for run, options in ((digits, {}), (digits, {"split": "valid"}), (table.run, {})):
        found = run.score(particles=20, seed=3, **options)
        options |= {"particles": 20, "seed": 3, "metrics": ["nll"], "pictures": False}
        report = evaluate(run, **options)
        assert -float(found.log_likelihood.mean()) == report["nll"].value
        assert len(found) == report.n


def test_standardised_rows_are_scored_in_their_own_units(table):
    found = table.run.score(table.x, particles=3)
    mean, scale = (u.double() for u in (table.run.data.mean, table.run.data.scale))
    marginal = table.run.pair.marginal()
    truth = dist.MultivariateNormal(
        mean + scale * marginal.mean.double(),
        scale[:, None] * marginal.covariance_matrix.double() * scale,
    )
    own = truth.log_prob(torch.from_numpy(table.x))
    torch.testing.assert_close(found.log_likelihood, own, atol=1e-4, rtol=1e-5)
    assert (found.kind, float(found.se.max())) == ("exact", 0)
    report = evaluate(table.run, particles=3, metrics=["nll", "elbo"], pictures=False)
    for name in ("nll", "elbo"):
        assert (report[name].kind, report[name].particles) == ("exact", None)
        assert abs(report[name].value) == pytest.approx(abs(report["nll"].value), rel=1e-5)
    stranger = VAE(latent=1)
    stranger.build(torch.randn(9, 3))
    other = SimpleNamespace(model=table.run.pair.model, guide=stranger.guide)
    assert score(other, torch.zeros(3, 3), particles=2).kind == "lower bound"
    counted = float(scale.log().sum())
    assert f"change of volume, {-counted:+.6g} nats a row, is counted" in found.about


def test_without_latents_it_is_exact():
    pair = HMM(states=2)
    x = torch.randint(3, (9, 4), generator=torch.Generator().manual_seed(0)).float()
    pair.build(x)
    found = score(pair, x, particles=50)
    torch.testing.assert_close(found.log_likelihood, pair.log_likelihood(x).double().detach())
    assert (found.kind, found.particles, float(found.se.sum())) == ("exact", None, 0)


def test_pixels_that_were_divided_are_reported():
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(256, (60, 1, 4, 4), generator=draw, dtype=torch.uint8).numpy()
    pair = VAE(latent=2, likelihood="normal")
    run = fit(pair, ELBO(), Data.from_arrays(x), steps=2, progress=False)
    assert "x divided by 255, whose change of volume is not counted" in run.score(particles=2).about
    assert run.score(x[:1], particles=2).log_likelihood.shape == (1,)


def test_what_cannot_be_scored_is_refused(digits, table):
    gan = GAN(latent=2)
    gan.build(torch.rand(9, 3))
    with pytest.raises(Unavailable, match="no likelihood of a row: the model draws 'z'"):
        score(gan, torch.rand(9, 3))
    point = VAE(latent=2, likelihood="delta", deterministic=True)
    point.build(torch.rand(9, 3))
    with pytest.raises(Unavailable, match=r"no likelihood of a row: .* is a Delta"):
        score(point, torch.rand(9, 3))
    for x, message in (
        (np.where(np.arange(3) == 1, np.nan, table.x), r"nan in row 0 at position \(1,\)"),
        (table.x[:, :2], r"rows of shape \(2,\), expected \(3,\)"),
        (table.x[0], r"one row alone is given as x\[None\]"),
    ):
        with pytest.raises(ValueError, match=message):
            table.run.score(x)
    with pytest.raises(ValueError, match=r"the rows: .*values 0 and 1"):
        score(digits.pair, torch.full((3, 1, 8, 8), 0.5))
    with pytest.raises(ValueError, match="particles must be at least 1, got 0"):
        table.run.score(particles=0)


def test_labels_that_the_pair_needs_come_from_the_rows():
    x, y = rows(60, 3).float(), np.array(["cat", "dog"])[np.arange(60) % 2]
    run = fit(CVAE(latent=2), ELBO(), Data.from_arrays(x, y), steps=3, progress=False)
    found = run.score({"x": x, "y": y}, particles=4)
    assert found.quantity == "log p(x, y): x a density, y a mass"
    others = run.score({"x": x, "y": np.roll(y, 1)}, particles=4)
    assert not torch.allclose(found.log_likelihood, others.log_likelihood)
    with pytest.raises(ValueError, match="needs the argument 'y', but the data have"):
        run.score(x)
    with pytest.raises(ValueError, match="have cow, and the training rows the classes cat, dog"):
        run.score({"x": x[:1], "y": ["cow"]})
    with pytest.raises(ValueError, match="the rows: "):
        run.score({"x": x[:2], "y": ["cat", ""]})


def test_a_guide_that_returns_nan_is_refused(double):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z[..., None] * x.new_ones(2), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.where(x[:, 0] > 0, x[:, 0], torch.nan), 1.0))

    pair = SimpleNamespace(model=model, guide=guide)
    with pytest.raises(Unavailable, match=r"log p\(x\) of row 1 and 0 more is NaN"):
        score(pair, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), particles=2)


def test_command_writes_scores_in_the_files_order(capsys, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = [f"{a},no{i},{b},{c}" for i, (b, a, c) in enumerate(table.x[:9, [1, 0, 2]].tolist())]
    (tmp_path / "new.csv").write_text("a,who,b,c\n" + "\n".join(own))
    words = ["score", table.folder / "run", "--data", "new.csv", "--particles", 5]
    code, out, _ = said(capsys, *words, "--id", "who", "--out", "s.csv")
    assert code == 0
    assert "log p(x): x a density; exact; in nats; x in its own units" in out
    with (tmp_path / "s.csv").open() as file:
        found = list(csv.DictReader(file))
    scores = load(table.folder / "run").score(table.x[:9], particles=5)
    assert [float(row["log_likelihood"]) for row in found] == scores.log_likelihood.tolist()
    assert [row["id"] for row in found] == [f"no{i}" for i in range(9)]
    assert {row["kind"] for row in found} == {"exact"}
    assert said(capsys, *words, "--id", "who", "--out", "s.npz")[0] == 0
    with np.load(tmp_path / "s.npz") as arrays:
        assert arrays["log_likelihood"].tolist() == scores.log_likelihood.tolist()
        assert str(arrays["about"]) == scores.about
    assert said(capsys, "score", table.folder / "run", "--out", "own.csv")[0] == 0
    assert len((tmp_path / "own.csv").read_text().splitlines()) == 1 + len(table.run.data.test)


def test_command_refuses_with_all_errors(capsys, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["score", table.folder / "run"]
    wrong = ["--particles", "x", "--out", "s.txt", "--data", "gone.csv", "--device", "tpu9"]
    code, _, err = said(capsys, *words, *wrong)
    assert code == 2
    for message in ("an integer, got 'x'", "must end in .csv, .npz", "no file or folder gone.csv"):
        assert message in err
    assert "no device 'tpu9'" in err
    assert said(capsys, *words, "--id", "who")[2].startswith("priory: id names the rows of a table")
    np.savez(tmp_path / "split.npz", x=table.x, x_test=table.x)
    np.savez(tmp_path / "index.npz", x=table.x, index=np.arange(200))
    (tmp_path / "empty.csv").write_text("a,b,c\n1,2,3\n1,,3\n")
    for name, message in (
        ("split.npz", "x_test are the rows of other splits"),
        ("index.npz", "the column 'index' is the number"),
        ("empty.csv", "column 'b' has an empty cell in row 1"),
        ("digits", r"rows of shape (1, 8, 8), expected (3,)"),
    ):
        code, _, err = said(capsys, *words, "--data", name)
        assert code == 1
        assert message in err
    assert (
        "names the rows of a table" in said(capsys, *words, "--data", "index.npz", "--id", "a")[2]
    )


def test_a_run_on_arrays_scores_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = rows(50, 3).numpy()
    data = Data.from_arrays(x, standardise=True)
    run = fit(ProbabilisticPCA(latent=1), EM(), data, steps=1, batch_size=160, progress=False)
    run.save("run")
    np.save("new.npy", x)
    assert said(capsys, "score", "run", "--data", "new.npy", "--out", "s.npz")[0] == 0
    with np.load("s.npz") as found:
        assert found["log_likelihood"].tolist() == run.score(x).log_likelihood.tolist()
    code, _, err = said(capsys, "score", "run", "--overwrite")
    assert code == 1
    assert "arrays can't be made again" in err
