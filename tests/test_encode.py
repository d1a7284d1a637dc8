"""Rows encoded by a run: against posteriors, responsibilities and classes in closed form."""

import csv
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.datasets import load_digits

from pairs import LinearGaussian
from priory import encode, evaluate, fit, load
from priory.cli import main
from priory.data import Data
from priory.evaluation import Unavailable
from priory.evaluation.latents.clustering import hungarian_hits
from priory.inference import ELBO, EM
from priory.models import CVAE, GAN, GMM, GSN, HMM, VAE, VIB, GaussianNaiveBayes
from priory.priors import GaussianMixture

BITS = load_digits().data[:60].reshape(60, 1, 8, 8) > 7


def rows(n=40, d=5, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """A VAE with a mixture prior, hardly trained on digits, and its folder."""
    pair = VAE(GaussianMixture(5), latent=2)
    run = fit(pair, ELBO(), Data.named("digits"), steps=30, progress=False)
    folder = run.save(tmp_path_factory.mktemp("encode") / "run")
    return SimpleNamespace(run=run, folder=folder)


def test_mean_and_scale_are_the_posteriors(double):
    pair, x = LinearGaussian(), rows(1100)
    found, truth = encode(pair, x, draws=50), pair.posterior(x)
    torch.testing.assert_close(found.mean["z"], truth.mean)
    torch.testing.assert_close(found.scale["z"], truth.stddev)
    apart = (found.draws["z"] - truth.mean) / truth.stddev
    assert float(apart.mean().detach()) == pytest.approx(0, abs=0.02)
    assert float(apart.std().detach()) == pytest.approx(1, abs=0.02)
    assert found.notes == {"z": "mean and scale of q(z | x), in closed form"}
    backwards = encode(pair, x.flip(0)).mean["z"].flip(0)
    torch.testing.assert_close(backwards, found.mean["z"])
    alone = torch.cat([encode(pair, row[None]).mean["z"] for row in x[:3]])
    torch.testing.assert_close(alone, found.mean["z"][:3])


def test_draws_are_the_seeds(double):
    pair, x = LinearGaussian(), rows()
    three = encode(pair, x, draws=3, seed=1).draws["z"]
    assert torch.equal(encode(pair, x, draws=1, seed=1).draws["z"], three[:1])
    assert not torch.equal(encode(pair, x, draws=1, seed=2).draws["z"], three[:1])


def layered(x):
    """Draws u, and z around half of u."""
    with pyro.plate("data", len(x)):
        u = pyro.sample("u", dist.Normal(x[:, 0], 2.0))
        pyro.sample("z", dist.Normal(u / 2, 1.5))


def noisy(x):
    """Draws a point that is a function of x and auxiliary noise."""
    with pyro.plate("data", len(x)):
        e = pyro.sample("e", dist.Normal(x[:, 0], 3.0), infer={"is_auxiliary": True})
        pyro.sample("z", dist.Delta(2 * e))


@pytest.mark.parametrize(
    ("guide", "mean", "scale"), [(layered, 0.5, (1.5**2 + 1) ** 0.5), (noisy, 2.0, 6.0)]
)
def test_what_hangs_on_other_draws_is_averaged_over_them(double, guide, mean, scale):
    pair, x = SimpleNamespace(model=layered, guide=guide), torch.tensor([[0.0], [4.0]])
    found = encode(pair, x, draws=4000)
    assert found.mean["z"] == pytest.approx(mean * x[:, 0], abs=4 * scale / 4000**0.5)
    assert found.scale["z"] == pytest.approx(scale, rel=0.05)
    assert found.notes["z"] == "mean and scale of q(z | x), averages over 4000 runs of the guide"
    assert "64 runs" in encode(pair, x).notes["z"]
    assert "e" not in found.draws
    if guide is layered:
        assert torch.equal(found.mean["u"], x[:, 0])


def test_a_point_has_no_scale():
    pair = VAE(latent=2, deterministic=True)
    x = torch.from_numpy(BITS).float()
    pair.build(x)
    found = encode(pair, x, draws=2)
    assert not found.scale
    assert torch.equal(found.draws["z"][1], found.mean["z"])
    assert found.notes == {"z": "q(z | x) is a point: a value for each row, and no scale"}


def test_a_categorical_site_gives_responsibilities_and_clusters(double):
    x = torch.cat([rows(30, 2), 9 + rows(20, 2)])
    pair = GMM(components=2)
    pair.build(x)
    for _ in range(3):
        pair.maximise(x)
    found = encode(pair, x)
    shares = pair.log_joint(x).softmax(-1).detach()
    torch.testing.assert_close(found.probabilities["c"], shares)
    assert torch.equal(found.cluster, shares.argmax(1))
    assert len({*found.cluster[:30].tolist()}) == 1
    assert found.cluster[0] != found.cluster[-1]
    assert not found.mean


@pytest.mark.parametrize("one_hot", [False, True])
def test_codes_in_a_sequence_of_plates_have_rows_first(double, one_hot):
    x, steps = rows(4, 2), torch.arange(3.0).reshape(3, 1, 1)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1), pyro.plate("steps", 3, dim=-2):
            kind = dist.OneHotCategorical if one_hot else dist.Categorical
            pyro.sample("c", kind(logits=steps * x))

    found = encode(SimpleNamespace(model=guide, guide=guide), x)
    torch.testing.assert_close(found.probabilities["c"], (steps * x).softmax(-1).movedim(1, 0))
    assert found.draws["c"].shape == ((1, 4, 3, 2) if one_hot else (1, 4, 3))
    assert found.cluster is None


def test_a_mixture_prior_gives_its_components_at_the_mean(mixture):
    run = mixture.run
    found, prior = run.encode(), run.pair.prior
    each = dist.Normal(prior.loc, prior.log_scale.exp()).to_event(1)
    scores = each.log_prob(found.mean["z"][:, None]) + prior.logits.log_softmax(-1)
    shares = scores.softmax(-1).detach()
    torch.testing.assert_close(found.probabilities["cluster"], shares, atol=1e-5, rtol=1e-4)
    hits = hungarian_hits(found.cluster, run.data.test.columns["y"])
    report = evaluate(run, metrics=["clustering_hungarian"], pictures=False)
    assert float(hits.mean()) == report["clustering_hungarian"].value


def test_classes_are_predicted_for_rows_without_labels():
    names = np.array(["cat", "dog", "eel"])[np.arange(60) % 3]
    x = rows(60, 3).float() + torch.arange(60)[:, None] % 3
    data = Data.from_arrays(x, names)
    run = fit(GaussianNaiveBayes(), EM(), data, steps=1, progress=False)
    found = run.encode(x)
    truth = run.pair.classify(x).probs.detach().double()
    torch.testing.assert_close(found.probabilities["class"], truth, atol=1e-6, rtol=1e-5)
    assert found.label == [("cat", "dog", "eel")[k] for k in truth.argmax(1)]
    bottleneck = VIB(latent=2)
    bottleneck.build(x, torch.arange(60) % 3)
    without = encode(bottleneck, x)
    assert set(without.notes) == {"z", "class"}
    assert without.classes == ("0", "1", "2")


@pytest.mark.parametrize("recipe", ["dae", "dae-walkback"])
def test_a_corrupted_datum_is_no_code(recipe, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["--net", "mlp:4", "--steps", "1", "--batch-size", "50", "--out", str(run)]
    assert main(["fit", recipe, "--data", "digits", *words]) == 0
    capsys.readouterr()
    words = "z is the datum itself, corrupted, and no code of it; train a pair with a code"
    with pytest.raises(Unavailable, match=words):
        load(run).encode()
    assert main(["encode", str(run), "--out", str(tmp_path / "codes.csv")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "codes.csv").exists()
    # Not of one alone: a layer above it is a code.
    pair, x = GSN((3,)), torch.rand(9, 4).round()
    pair.build(x)
    assert encode(pair, x).draws["z"].shape == (1, 9, 3)


def test_what_has_no_codes_is_refused():
    x = torch.rand(9, 3)
    gan = GAN(latent=2)
    gan.build(x)
    with pytest.raises(Unavailable, match="infers nothing of a row: its guide draws no latent"):
        encode(gan, x)
    chain = HMM(states=2)
    symbols = (4 * x).floor()
    chain.build(symbols)
    with pytest.raises(Unavailable, match="a model whose likelihood needs none"):
        encode(chain, symbols)
    pair = CVAE(latent=2)
    pair.build(x, torch.arange(9) % 2)
    with pytest.raises(ValueError, match="needs the argument 'y', but the data have"):
        encode(pair, x)
    with pytest.raises(ValueError, match="the rows: "):
        encode(pair, {"x": x, "y": torch.full((9,), -1)})
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        encode(pair, {"x": x, "y": torch.arange(9) % 2}, draws=0)

    def other(x):
        with pyro.plate("data", 2 * len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(2 * len(x)), 1.0))

    with pytest.raises(Unavailable, match="the guide's 'z' has 18 rows for 9 data"):
        encode(SimpleNamespace(model=lambda x: None, guide=other), x)


def said(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_command_writes_means_clusters_and_draws(capsys, mixture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("new.npz", x=(255 * BITS).astype(np.uint8))
    words = ["encode", mixture.folder, "--data", "new.npz"]
    code, out, _ = said(capsys, *words, "--draws", 4)
    assert code == 0
    assert "z: mean and scale of q(z | x), in closed form" in out
    truth = load(mixture.folder).encode(torch.from_numpy(BITS).float(), draws=4)
    with np.load("codes.npz") as found:
        assert found["z_draws"].shape == (4, 60, 2)
        for name in ("z_mean", "z_scale", "z_draws", "cluster", "cluster_probabilities"):
            assert np.array_equal(found[name], truth.arrays()[name])
    assert said(capsys, *words, "--out", "codes.csv")[0] == 0
    with open("codes.csv") as file:
        table = list(csv.DictReader(file))
    assert [*table[0]] == ["row", "z_0", "z_1", "cluster"]
    assert [float(row["z_1"]) for row in table] == truth.mean["z"][:, 1].tolist()
    assert [int(row["cluster"]) for row in table] == truth.cluster.tolist()
    code, _, err = said(capsys, *words)
    assert code == 2
    assert "codes.npz is there already" in err


def test_command_takes_a_folder_with_one_image(capsys, mixture, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    Image.fromarray((255 * BITS[7, 0]).astype(np.uint8)).save("images/one.png")
    assert said(capsys, "encode", mixture.folder, "--data", "images", "--out", "one.csv")[0] == 0
    truth = mixture.run.encode(torch.from_numpy(BITS[7:8]).float())
    row = (tmp_path / "one.csv").read_text().splitlines()[1].split(",")
    assert [float(cell) for cell in row[1:3]] == truth.mean["z"][0].tolist()


def test_command_names_classes(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    lines = [
        f"{draw.normal(3 * (i % 2)):.6f},{draw.normal()},{'ox' if i % 2 else 'bee'}"
        for i in range(50)
    ]
    (tmp_path / "train.csv").write_text("a,b,label\n" + "\n".join(lines))
    fit(GaussianNaiveBayes(), EM(), Data.from_file("train.csv"), steps=1, progress=False).save(
        "run"
    )
    (tmp_path / "new.csv").write_text("b,name,a\n0,first,3\n0,second,-1\n")
    words = ["encode", "run", "--data", "new.csv", "--id", "name", "--out", "classes.csv"]
    assert said(capsys, *words)[0] == 0
    lines = (tmp_path / "classes.csv").read_text().splitlines()
    assert lines == ["row,id,cluster,class", "0,first,1,ox", "1,second,0,bee"]
