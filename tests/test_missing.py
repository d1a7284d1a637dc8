"""Missing entries: left out of every density, against marginals in closed form, and filled in."""

import csv
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from priory import evaluate, fit, impute_rows, load, score
from priory.cli import main
from priory.data import Data
from priory.distributions.independent import IndependentNormal
from priory.distributions.seen import Seen
from priory.divergences import mmd
from priory.evaluation.insight import bound
from priory.inference import ELBO, IWAE, Match, Reconstruction
from priory.likelihoods import LIKELIHOODS
from priory.models import VAE, MaskedVAE
from priory.recipes import RECIPES

NAN = float("nan")


class Linear:
    """Probabilistic PCA of rows with missing entries; its guide is the exact posterior, or wider.

    x = W z + b + s e. Given the entries that are seen, z ~ N(M^-1 W_s'(x_s - b_s) / s^2, M^-1) with
    M = I + W_s'W_s / s^2.
    """

    def __init__(self, widen=1.0):
        draw = torch.Generator().manual_seed(1)
        self.w, self.b = (torch.randn(5, k, generator=draw) for k in (2, 1))
        self.b, self.s, self.widen = self.b[:, 0], 0.7, widen

    def posterior(self, x, seen):
        w = self.w * seen[..., None]
        inner = torch.eye(2) + w.mT @ w / self.s**2
        mean = torch.linalg.solve(inner, (w.mT @ ((x - self.b) * seen)[..., None]) / self.s**2)
        covariance = self.widen * torch.linalg.inv(inner)
        return dist.MultivariateNormal(mean[..., 0], covariance)

    def model(self, x, seen):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            log_s = torch.tensor(self.s).log()
            whole = IndependentNormal(z @ self.w.mT + self.b, log_s, 1)
            pyro.sample("x", Seen(whole, seen), obs=x)

    def guide(self, x, seen):
        with pyro.plate("data", len(x)):
            pyro.sample("z", self.posterior(x, seen))

    def given(self, x, seen):
        """Return log p(x_seen) of a row, and mean and covariance of what is missing."""
        whole = self.w @ self.w.mT + self.s**2 * torch.eye(5)
        inner = whole[seen][:, seen]
        marginal = dist.MultivariateNormal(self.b[seen], inner)
        cross = whole[seen][:, ~seen]
        gain = torch.linalg.solve(inner, cross).mT
        mean = self.b[~seen] + gain @ (x[seen] - self.b[seen])
        return marginal.log_prob(x[seen]), mean, whole[~seen][:, ~seen] - gain @ cross


def rows(n=12, seed=0):
    """Rows of the pair's size and masks, with a whole row and one without an entry that is seen."""
    draw = torch.Generator().manual_seed(seed)
    x, seen = torch.randn(n, 5, generator=draw), torch.rand(n, 5, generator=draw) < 0.6
    seen[0], seen[1] = True, False
    return torch.where(seen, x, 99.0), seen


@pytest.mark.usefixtures("double")
def test_bound_is_the_marginal_of_what_is_seen():
    pair, (x, seen) = Linear(), rows()
    found = score(pair, {"x": x, "seen": seen}, particles=5)
    truth = [pair.given(x[i], seen[i])[0] for i in range(len(x)) if i != 1]
    truth.insert(1, torch.zeros(()))  # nothing is seen of it
    torch.testing.assert_close(found.log_likelihood, torch.stack(truth))
    assert found.quantity == "log p(x): x a density, of the entries that are seen"
    other = torch.where(seen, x, -99.0)  # what stands at a missing entry is not looked at
    again = score(pair, {"x": other, "seen": seen}, particles=5)
    assert torch.equal(again.log_likelihood, found.log_likelihood)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("widen", [1.0, 2.5])
def test_what_is_filled_in_has_the_conditional_moments(widen):
    pair, (x, seen) = Linear(widen), rows(4, seed=3)
    found = impute_rows(pair, {"x": x, "seen": seen}, particles=20_000, draws=4000)
    assert torch.equal(found.x[seen], x[seen])
    assert torch.equal(found.draws[:, seen], x[seen].expand(4000, -1))
    for i in (2, 3):
        _, mean, covariance = pair.given(x[i], seen[i])
        gap = ~seen[i]
        spread = covariance.diagonal().sqrt()
        assert float(((found.x[i, gap] - mean) / spread).abs().max()) < 0.05
        torch.testing.assert_close(found.draws[:, i, gap].T.cov(), covariance, atol=0.06, rtol=0.1)
        for ends, z in ((found.low, -1.645), (found.high, 1.645)):
            assert float(((ends[i, gap] - mean) / spread - z).abs().max()) < 0.12
    assert float(found.ess[0]) == pytest.approx(20_000) or widen > 1


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", [n for n in LIKELIHOODS if n != "delta"])
def test_every_likelihood_leaves_missing_entries_out(name):
    u = torch.rand(40, 4, generator=torch.Generator().manual_seed(0))
    levels = (u * 255).round() / 255
    of = {"bernoulli": (u > 0.5).double(), "logistic": levels, "discretized-normal": levels}
    counts = (4 * u).floor()
    of |= {n: counts for n in LIKELIHOODS if "binomial" in n or "poisson" in n}
    of |= {"categorical": counts, "columns": torch.cat([u[:, :2], counts[:, 2:]], 1)}
    x = of.get(name, u)
    pair, seen = MaskedVAE(likelihood=name, latent=2), u < 0.7
    pair.build(x)
    z = torch.randn(40, 2)
    whole = pair.decoder(z).log_prob(x)
    torch.testing.assert_close(pair.explain(z, torch.ones_like(seen)).log_prob(x), whole)
    parts = [pair.explain(z, mask).log_prob(x) for mask in (seen, ~seen)]
    torch.testing.assert_close(sum(parts), whole)
    changed = torch.where(seen, x, x.flip(0))
    assert torch.equal(pair.explain(z, seen).log_prob(changed), parts[0])
    assert torch.equal(pair.encoder(changed, seen).mean, pair.encoder(x, seen).mean)
    assert not torch.equal(pair.encoder(x).mean, pair.encoder(x, seen).mean)


def test_a_mask_stands_in_planes_of_an_image():
    pair, x = MaskedVAE(encoder="conv", decoder="deconv", latent=2), torch.rand(6, 1, 8, 8)
    pair.build((x > 0.5).float())
    assert pair.encoder.net.inputs == (2, 8, 8)
    pair.model((x > 0.5).float(), x > 0.3)
    pair.guide((x > 0.5).float(), x > 0.3)


def table(n=120):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(n, 1)) @ draw.normal(size=(1, 3)) + 0.3 * draw.normal(size=(n, 3))
    x = x * [1, 20, 300] + [0, 5, 1000]
    x[draw.random(x.shape) < 0.25] = np.nan
    return x


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a table with gaps, standardised, in a folder beside the table's file."""
    folder, x = tmp_path_factory.mktemp("missing"), table()
    cells = [",".join("" if np.isnan(v) else repr(float(v)) for v in row) for row in x]
    (folder / "gaps.csv").write_text("a,b,c\n" + "\n".join(cells))
    data = Data.from_file(folder / "gaps.csv", standardise=True, missing="integrate")
    run = fit(MaskedVAE(latent=1), IWAE(3), data, steps=30, progress=False)
    run.save(folder / "run")
    return SimpleNamespace(run=run, x=x, folder=folder, data=data)


def test_units_are_those_of_what_is_seen(trained):
    data, x = trained.data, trained.x
    own, seen = data.restore(data.train.x), data.train.columns["seen"]
    rows = np.sort(np.random.default_rng(0).permutation(120)[:96])
    assert torch.equal(seen, torch.from_numpy(~np.isnan(x[rows])))
    assert data.mean.numpy() == pytest.approx(np.nanmean(x[rows], 0))
    assert data.scale.numpy() == pytest.approx(np.nanstd(x[rows], 0))
    assert own[seen].numpy() == pytest.approx(x[rows][seen.numpy()], rel=1e-5)
    fills = own[~seen].unique()
    assert len(fills) == 3  # of each column the value nearest to its mean
    gap = np.abs(x[rows][..., None] - fills.numpy())
    assert np.nanmin(gap, (0, 1)) == pytest.approx(0, abs=1e-3)
    assert "of its entries missing" in repr(data)


def test_new_rows_are_prepared_alike(trained):
    import pandas as pd

    run, x = trained.run, trained.x
    whole = run.score(x, particles=4).log_likelihood
    mixed = pd.DataFrame(x, columns=["a", "b", "c"])[["c", "a", "b"]]
    for other in (trained.folder / "gaps.csv", mixed, np.ma.masked_invalid(x)):
        assert torch.equal(run.score(other, particles=4).log_likelihood, whole)
    alone = Data.from_arrays(x, missing="integrate", test=119, valid=0)
    found = run.score(alone, particles=4)
    again = run.score(run.data.like(run.preparation), particles=4)
    assert len(found) == 119
    assert torch.equal(again.log_likelihood, run.score(particles=4).log_likelihood)
    with pytest.raises(ValueError, match=r"training rows may\s+have none"):
        alone.like(Data.from_arrays(np.ones((9, 3))).preparation)


def test_volume_is_counted_for_what_is_seen(trained):
    """By every door: the score, evaluate, insight and the bound of a training."""
    run = trained.run
    columns = run.data.test.columns
    bare = score(run.pair, {k: columns[k] for k in ("x", "seen")}, particles=20)
    volume = columns["seen"].double() @ run.data.scale.log()
    own = run.score(particles=20)
    torch.testing.assert_close(own.log_likelihood, bare.log_likelihood - volume)
    assert volume.std() > 1
    report = evaluate(run, particles=20, metrics=["nll", "mmd", "predictive_p", "ais"], few=3)
    assert report["nll"].value == -float(own.log_likelihood.mean())
    for name in ("mmd", "predictive_p", "ais"):
        assert not report[name].applicable
    assert "missing entries" in report["mmd"].note
    torch.testing.assert_close(bound(run, run.data.test, particles=20), own.log_likelihood)
    valid = run.score(split="valid", particles=1000).log_likelihood.mean()
    assert run.history[-1]["bound"] == pytest.approx(float(valid), abs=0.3)


def test_training_sees_what_is_seen_alone():
    """The same steps, whatever stands at a missing entry."""
    x = torch.from_numpy(table()).float()
    data = Data.from_arrays(x, missing="integrate", valid=0, test=0)
    pairs = []
    for value in (None, 7.0):
        columns = data.train.columns
        if value is not None:
            columns["x"] = torch.where(columns["seen"], columns["x"], value)
        torch.manual_seed(0)
        pair = MaskedVAE(latent=1, likelihood="normal")
        pair.build(torch.nan_to_num(x))
        options = {"steps": 3, "valid_every": 0, "progress": False, "compile": "off"}
        fit(pair, IWAE(3), data, **options)
        pairs.append(pair)
    for one, other in zip(*(p.parameters() for p in pairs), strict=True):
        assert torch.equal(one, other)


def test_gaps_are_filled_better_than_by_means():
    x = table(300)
    hidden = np.isnan(x)
    truth = np.where(hidden, 0, x)
    draw = np.random.default_rng(1)
    more = (draw.random(x.shape) < 0.2) & ~hidden
    options = {"standardise": True, "missing": "integrate", "valid": 0, "test": 0}
    data = Data.from_arrays(np.where(more, np.nan, x), **options)
    run = RECIPES["miwae"].fit(data, latent=1, steps=300, lr=1e-2, progress=False, valid_every=0)
    filled = run.impute(np.where(more, np.nan, x), particles=200)
    scale = np.nanstd(x, 0)
    error = (((filled.x.numpy() - truth) / scale)[more] ** 2).mean()
    by_mean = (((np.nanmean(x, 0) - truth) / scale)[more] ** 2).mean()
    assert error < 0.6 * by_mean
    inside = (filled.low.numpy() <= truth) & (truth <= filled.high.numpy())
    assert 0.75 < inside[more].mean() < 0.99


def test_what_does_not_know_of_gaps_refuses_them(trained):
    data, x = trained.data, trained.x
    options = {"steps": 1, "progress": False}
    with pytest.raises(ValueError, match="the model takes no argument 'seen'"):
        fit(VAE(latent=1), ELBO(), data, **options)
    for objective in (ELBO() + Match(mmd, "x"), Reconstruction(cost="squared")):
        with pytest.raises(ValueError, match="takes a value for every entry"):
            fit(MaskedVAE(latent=1), objective, data, **options)
    with pytest.raises(ValueError, match="not known to have such; take another likelihood"):
        fit(MaskedVAE(latent=1, likelihood="delta"), ELBO(), data, **options)
    with pytest.raises(ValueError, match="have no mask"):
        MaskedVAE("vamp")
    plain = VAE(latent=1)
    plain.build(torch.rand(9, 3))
    for judge in (score, impute_rows):
        with pytest.raises(ValueError, match="takes no argument 'seen'"):
            judge(plain, {"x": torch.rand(9, 3), "seen": torch.rand(9, 3) < 0.5})
    with pytest.raises(ValueError, match="nan in row"):
        Data.from_arrays(x)
    with pytest.raises(ValueError, match=r"position \(1,\) is missing in all training rows"):
        Data.from_arrays([[1.0, NAN]] * 20, missing="integrate")
    for wrong, message in (
        ({"missing": "drop"}, "unknown missing 'drop'"),
        ({"missing": "integrate", "binarise": "threshold"}, "exclude each other"),
        ({"seen": x}, "the name 'seen' is that of the mask"),
    ):
        with pytest.raises(ValueError, match=message):
            Data.from_arrays(np.nan_to_num(x), **wrong)
    with pytest.raises(ValueError, match="is for rows of real numbers, got uint8"):
        Data.from_arrays(np.ones((9, 4), np.uint8), missing="integrate")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\nx,3\n", "has 'x' in row 1"),
        ("a,b\n1,2\ninf,3\n", "has 'inf' in row 1"),
        ("1,,3\n4,5,6\n7,8,9\n", "may be the columns' names, or a row"),
    ],
)
def test_cells_that_are_no_gaps_are_refused(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Data.from_file(path, missing="integrate", valid=0, test=0)


def test_gaps_of_a_table_are_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,label\n1,NA,x\n,5,y\nnan,6,\n3,null,y\n")
    data = Data.from_file(path, missing="integrate", valid=0, test=0)
    seen = [[True, False], [False, True], [False, True], [True, False]]
    assert data.train.columns["seen"].tolist() == seen
    assert data.train.columns["y"].tolist() == [0, 1, -1, 1]


def test_command_fills_a_file(capsys, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.csv").write_text("who,c,a,b\nfirst,1100.5,,7\nsecond,,0.25,\n")
    words = ["impute", str(trained.folder / "run"), "--data", "new.csv", "--id", "who"]
    assert main([*words, "--draws", "50"]) == 0
    assert "3 missing entries in 2 of 2 rows" in capsys.readouterr().out
    with open("filled.csv") as file:
        one, two = csv.DictReader(file)
    assert (one["id"], one["b"], one["c"], two["a"]) == ("first", "7.0", "1100.5", "0.25")
    x = np.array([[NAN, 7, 1100.5], [0.25, NAN, NAN]])
    truth = load(trained.folder / "run").impute(x, draws=50)
    assert [float(one["a"]), float(two["b"])] == [float(truth.x[0, 0]), float(truth.x[1, 1])]
    assert (float(one["a_low"]), one["b_low"], two["a_high"]) == (float(truth.low[0, 0]), "", "")
    assert main([*words, "--draws", "50", "--out", "filled.npz"]) == 0
    with np.load("filled.npz") as found:
        assert np.array_equal(found["draws"], truth.draws.numpy())
        assert found["seen"].tolist() == [[False, True, True], [True, False, False]]


def test_a_command_says_how_the_option_is_typed(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1.5,2\n,3\n2.5,1\n")
    assert main(["fit", "vae", "--data", str(path), "--out", str(tmp_path / "run")]) == 1
    text = capsys.readouterr().err
    assert "an empty cell in row 1" in text
    assert "; --missing integrate takes empty cells" in text
    assert "missing='integrate'" not in text
