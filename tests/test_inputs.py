"""What users hold their rows in: the same rows through each door are the same training."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from priory import encode, evaluate, fit, load, score
from priory.data import Data
from priory.data.rows import prepared
from priory.inference import ELBO, IWAE
from priory.models import VAE, MaskedVAE
from priory.nets import MLP

anndata = pytest.importorskip("anndata")
polars = pytest.importorskip("polars")

QUIET = {"valid_every": 0, "progress": False, "device": "cpu"}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype(np.float32)
NAMES = ("b", "a", "c")
KINDS = np.array(["cat", "dog", "owl"])[np.arange(60) % 3]


def frame():
    return pd.DataFrame(dict(zip(NAMES, X.T, strict=True))).assign(label=KINDS)


def cells():
    from scipy.sparse import csr_matrix

    rows, names = (pd.Index(n, dtype=object) for n in ([f"cell{i}" for i in range(60)], NAMES))
    obs = pd.DataFrame({"kind": pd.Categorical(KINDS.astype(object))}, index=rows)
    counts = csr_matrix(np.round(np.abs(X) * 3))
    made = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=names))
    made.layers["real"] = X
    return made


class Rows(Dataset):
    """A map-style data set of (x, y)."""

    def __init__(self, noise=0.0, form=tuple):
        self.noise, self.form = noise, form

    def __len__(self):
        return 60

    def __getitem__(self, i):
        x = torch.from_numpy(X[i]) + self.noise * torch.randn(3)
        return {"x": x, "y": KINDS[i]} if self.form is dict else (x, KINDS[i])


def iterator():
    return iter([(X[i : i + 25], KINDS[i : i + 25]) for i in range(0, 60, 25)])


DOORS = {
    "pandas": (frame, {}),
    "polars": (lambda: polars.from_dict(frame().to_dict("list")), {}),
    "anndata": (cells, {"layer": "real", "label": "kind"}),
    "dataset": (Rows, {}),
    "dicts": (lambda: Rows(form=dict), {}),
    "tensors": (
        lambda: TensorDataset(torch.from_numpy(X), torch.arange(60) % 3),
        {},
    ),
    "iterator": (iterator, {}),
    "columns": (lambda: {"x": X, "y": KINDS}, {}),
}


def trained(data):
    torch.manual_seed(0)
    pair = VAE(encoder=MLP((5,)), decoder=MLP((5,)), latent=2)
    return fit(pair, ELBO(), data, steps=4, batch_size=16, **QUIET)


@pytest.fixture(scope="module")
def own():
    return trained(Data.from_arrays(X, KINDS))


@pytest.mark.parametrize("door", DOORS)
def test_rows_through_each_door_train_to_the_same_bits(door, own):
    make, options = DOORS[door]
    data = Data.of(make(), **options)
    for part in ("train", "valid", "test"):
        one, other = getattr(data, part).columns, getattr(own.data, part).columns
        assert one.keys() == other.keys()
        assert all(torch.equal(one[n], other[n]) for n in one)
    assert data.classes == (("0", "1", "2") if door == "tensors" else ("cat", "dog", "owl"))
    run = trained(data)
    assert all(map(torch.equal, run.pair.parameters(), own.pair.parameters()))
    assert run.history[-1]["loss"] == own.history[-1]["loss"]


@pytest.mark.parametrize("door", [d for d in DOORS if d != "tensors"])
def test_new_rows_are_taken_by_each_verb(door, own):
    make, options = DOORS[door]
    run = trained(Data.of(make(), **options)) if door == "anndata" else own
    rows = {"x": X, "y": KINDS}
    assert torch.equal(encode(run, make()).mean["z"], encode(own, rows).mean["z"])
    found = score(run, make(), particles=3).log_likelihood
    assert torch.equal(found, score(own, rows, particles=3).log_likelihood)
    quick = {"metrics": ["nll"], "pictures": False, "particles": 3}
    value = evaluate(run, make(), **quick)["nll"].value
    assert value == pytest.approx(-found.mean().item())
    bare = evaluate(own.pair, DataLoader(X, batch_size=7), **quick)["nll"].value
    assert bare == pytest.approx(value, rel=1e-6)


def test_a_frame_is_put_in_order_by_its_names():
    run = trained(Data.of(frame()))
    turned = frame()[["c", "label", "a", "b"]]
    assert torch.equal(encode(run, turned).mean["z"], encode(run, frame()).mean["z"])
    shown = polars.from_dict(turned.to_dict("list"))
    assert torch.equal(encode(run, shown).mean["z"], encode(run, frame()).mean["z"])
    data = Data.of(frame()[:40], valid=frame()[40:50], test=turned[50:])
    assert torch.equal(data.test.x, torch.from_numpy(X[50:]))
    assert [len(s) for s in (data.train, data.valid, data.test)] == [40, 10, 10]
    with pytest.raises(ValueError, match="the test rows have the features a, c, the training"):
        Data.of(frame(), test=frame()[["a", "c", "label"]])


def test_gaps_of_a_frame_are_integrated_out_and_filled():
    gaps = frame().drop(columns="label")
    gaps.iloc[::3, 1] = np.nan
    data = Data.of(gaps, missing="integrate")
    pair = MaskedVAE(encoder=MLP((5,)), decoder=MLP((5,)), latent=2)
    run = fit(pair, IWAE(2), data, steps=3, **QUIET)
    filled = run.impute(gaps, draws=2)
    for given in (polars.from_dict(gaps.to_dict("list")), iter([gaps.to_numpy(np.float32)])):
        other = run.impute(given, draws=2)
        torch.testing.assert_close(other.x, filled.x)
        assert torch.equal(other.seen, filled.seen)
    with pytest.raises(ValueError, match="column 'a' has no value in row 0"):
        Data.of(gaps)


@pytest.mark.filterwarnings("ignore:.*infer_string")
def test_a_layer_is_kept_with_the_run(tmp_path):
    with pd.option_context("future.infer_string", False):
        made = cells()
        made.write_h5ad(tmp_path / "cells.h5ad")
    path = str(tmp_path / "cells.h5ad")
    data = Data.open(path, layer="real", label="kind")
    assert torch.equal(data.train.x, Data.of(made, layer="real", label="kind").train.x)
    run = trained(data)
    run.save(tmp_path / "run")
    again = load(tmp_path / "run")
    assert (again.preparation.layer, again.preparation.label) == ("real", "kind")
    for rows in (path, made):
        assert torch.equal(encode(again, rows).mean["z"], encode(run, X).mean["z"])
    counts = Data.of(path)
    assert counts.classes == ()
    assert torch.equal(counts.train.x.round(), counts.train.x)
    for options, words in (
        ({"layer": "rael"}, "nearest 'real'"),
        ({"label": "kinds"}, "nearest 'kind'"),
    ):
        for given in (path, made):
            with pytest.raises(ValueError, match=words):
                Data.of(given, **options)
    with pytest.raises(ValueError, match=r"layer='real' is of an \.h5ad"):
        Data.from_file(tmp_path / "x.csv", layer="real")
    with pytest.raises(ValueError, match="layer='real' is of AnnData"):
        Data.of(frame(), layer="real")
    (tmp_path / "bad.h5ad").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"bad\.h5ad"):
        Data.of(tmp_path / "bad.h5ad")


class Endless(IterableDataset):
    """Rows one by one."""

    def __iter__(self):
        return iter(torch.zeros(5, 3))


class Ragged(Rows):
    """Rows of different lengths."""

    def __getitem__(self, i):
        return torch.zeros(1 + i % 2)


REFUSED = {
    "random": (lambda: Rows(noise=1.0), "is another each time it is asked for"),
    "ragged": (Ragged, "of item 1 has the shape"),
    "single": (Endless, "gives single rows: make batches"),
    "spent": (lambda: iter([]), "there is no batch"),
    "nan": (lambda: iter([np.full((4, 2), np.nan)]), "nan in row 0"),
    "triple": (lambda: iter([(X, X, X)]), "batch 0 is a tuple of 3"),
    "nameless": (lambda: iter([{"z": X}]), "none called x"),
    "other": (lambda: iter([X, X[:, :2]]), r"batch 1 has rows of shape \(2,\), expected \(3,\)"),
    "text": (lambda: iter(["rows"]), "batch 0 is a str"),
    "columns": (lambda: iter([(X, KINDS), X]), "batch 1 has"),
    "lazy": (lambda: polars.from_dict({"a": [1.0]}).lazy(), "collect"),
    "words": (
        lambda: pd.DataFrame({"a": list("abcdefghijklmnopqrstuvwxyz"), "b": range(26)}),
        "leave the column",
    ),
    "twice": (lambda: anndata.AnnData(X, var=pd.DataFrame(index=list("aab"))), "var_names_make"),
    "nothing": (lambda: object(), "column 'x'"),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*PerformanceWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused(case):
    make, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        Data.of(make())


def test_options_and_configurations():
    with pytest.raises(ValueError, match=r"'standardize', nearest 'standardise'"):
        Data.of(frame(), standardize=True)
    data = Data.of(frame(), valid=5, test=0.2, standardise=True, seed=3)
    same = Data.from_arrays(X, KINDS, valid=5, test=0.2, standardise=True, seed=3)
    assert torch.equal(data.train.x, same.train.x)
    assert Data.of(data) is data
    assert Data.of("digits", valid=10).config == Data.named("digits", valid=10).config
    for one in (data, Data.of(iterator())):
        with pytest.raises(ValueError, match="can't be made again from a config"):
            Data.open(**one.config)
    with pytest.raises(ValueError, match="fit needs data"):
        fit(VAE(latent=2), ELBO())
    assert len(prepared(iterator(), data.preparation)["x"]) == 60
