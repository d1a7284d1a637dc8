"""Data at fault: found where they are read, or told by what cannot use them."""

import math
import os
import re
import stat
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from priory import evaluate, fit
from priory.data import Data
from priory.data.fetch import Remote, read
from priory.evaluation import METRICS
from priory.evaluation.likelihood.bound import log_likelihood
from priory.evaluation.samples import classifier
from priory.inference import ELBO
from priory.models import VAE

NORMAL = np.random.default_rng(0).normal(size=(60, 3))


class Linear(nn.Module):
    """A linear pair with a layer of BatchNorm, if asked for."""

    def __init__(self, width=3, latent=2, norm=False):
        super().__init__()
        self.down = nn.Linear(width, latent)
        self.norm = nn.BatchNorm1d(latent) if norm else nn.Identity()
        self.up = nn.Linear(latent, width)
        self.latent = latent

    def model(self, x):
        pyro.module("linear", self)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.up(z), 1.0).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("linear", self)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(self.norm(self.down(x)), 0.5).to_event(1))


def small(x=NORMAL, **options):
    return Data.from_arrays(x=x, **options)


# --- values that are not finite ----------------------------------------------------------------


def written(path, x):
    """One table in each format."""
    if path.suffix == ".npy":
        np.save(path, x)
    elif path.suffix == ".npz":
        np.savez(path, x=x)
    elif path.suffix == ".csv":
        np.savetxt(path, x, delimiter=",")
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({str(i): x[:, i] for i in range(x.shape[1])}), path)
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "parquet"])
def test_a_value_that_is_not_finite_is_told_with_its_row_when_it_is_loaded(tmp_path, ending, value):
    x = NORMAL.copy()
    x[17, 2] = value
    path = written(tmp_path / f"own.{ending}", x)
    with pytest.raises(ValueError, match=rf"own.{ending}.* in row 17"):
        Data.from_file(path)


@pytest.mark.parametrize("name", ["x", "y", "w", "x_test", "w_valid"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_every_column_of_every_part_is_looked_at(name, value):
    columns = {n: np.zeros(60) for n in ("x", "y", "w")}
    part = name.partition("_")[2]
    if part:
        columns |= {f"{n}_{part}": np.zeros(20) for n in ("x", "y", "w")}
    columns[name][9] = value
    if name == "y" and np.isnan(value):  # an unknown label
        data = Data.from_arrays(**columns, valid=0, test=0)
        assert data.train.columns["y"].tolist() == [0] * 9 + [-1] + [0] * 50
        return
    with pytest.raises(ValueError, match=rf"column '{name}' has {value} in row 9"):
        Data.from_arrays(**columns)


def test_a_number_that_overflows_single_precision_is_not_made_infinite():
    x = NORMAL.copy()
    x[5, 1] = 1e300
    with pytest.raises(ValueError, match=r"1e\+300 in row 5 at .*torch.float32 holds values up to"):
        small(x)
    torch.set_default_dtype(torch.float64)
    assert small(x, valid=0, test=0).train.x.max() == 1e300


def test_whole_numbers_that_overflow_are_not_wrapped_around():
    with pytest.raises(ValueError, match="18446744073709551615 are too large for int64"):
        Data.from_arrays(x=NORMAL, count=np.full(60, 2**64 - 1, np.uint64))


def test_standardising_never_makes_values_that_are_not_finite():
    x = np.full((60, 1), 3.3e38)
    x[::9] *= -1
    found = small(x, standardise=True, valid=0, test=0).train.x
    torch.testing.assert_close(found, torch.tensor((x - x.mean()) / x.std(), dtype=found.dtype))


def test_evaluation_of_columns_that_are_not_finite_is_an_error():
    x = torch.tensor(NORMAL, dtype=torch.float32)
    x[3, 1] = math.nan
    with pytest.raises(ValueError, match=r"'x' has NaN or infinite values .* row 3"):
        evaluate(Linear(), {"x": x})


# --- data outside of a likelihood's support ----------------------------------------------------


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.full((60, 3), 0.3), r"expected values 0 and 1, got values in \[0.3, 0.3\]: binarise"),
        (
            np.arange(180.0).reshape(60, 3),
            r"values 0 and 1, got values in \[0, 1\d\d\]: scale the data to \[0, 1\] and binarise.*"
            r"likelihood='continuous-bernoulli' once scaled, or likelihood='normal'",
        ),
    ],
)
def test_data_that_a_bernoulli_has_not_are_told_with_range_and_mends(x, words):
    with pytest.raises(ValueError, match=words):
        fit(VAE(latent=2, likelihood="bernoulli"), ELBO(), small(x), steps=1, device="cpu")


def test_bytes_of_pixels_are_scaled_and_never_taken_for_zeros_and_ones():
    pixels = np.arange(60, dtype=np.uint8).repeat(4).reshape(60, 2, 2) * 4
    data = small(pixels)
    assert data.train.x.max() <= 1
    with pytest.raises(ValueError, match=r"expected values 0 and 1, got values in \[0, 0\.\d+\]"):
        fit(VAE(latent=2, likelihood="bernoulli"), ELBO(), data, steps=1, device="cpu")
    with pytest.raises(ValueError, match="x_test has dtype float64 and x uint8"):
        small(pixels, x_test=pixels / 255.0)


# --- few rows ----------------------------------------------------------------------------------


def bits():
    """A Bernoulli pair of one's own, whose likelihood is no part of Priory's."""

    def model(x):
        rate = pyro.param("rate", torch.full((3,), 0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Bernoulli(rate).to_event(1), obs=x)

    return model, lambda x: None


@pytest.mark.parametrize("part", ["train", "valid"])
@pytest.mark.parametrize("pair", [bits, lambda: VAE(latent=1, likelihood="bernoulli")])
def test_every_row_is_looked_at_before_the_first_step(pair, part):
    x = torch.eye(3).repeat(20, 1)
    data = Data.from_arrays(x, valid=0.2)
    column = getattr(data, part).columns["x"]
    fit(pair(), ELBO(), data, steps=1, batch_size=4)
    column[-1, 0] = 2.0
    with pytest.raises(ValueError, match=r"\[0, 2\]"):
        fit(pair(), ELBO(), data, steps=1, batch_size=4)


@pytest.mark.parametrize("x", [[], np.zeros((0, 3)), np.zeros((3, 0))])
def test_empty_data_are_an_error(x):
    with pytest.raises(ValueError, match="column 'x' is empty"):
        small(x)


def test_an_empty_part_is_an_error_where_it_is_needed():
    data = small(test=0)
    assert list(data.test.batches(4)) == []
    run = fit(Linear(), ELBO(), data, steps=1, device="cpu")
    with pytest.raises(ValueError, match="the test split has no rows"):
        evaluate(run, particles=2)


def test_fewer_rows_than_a_batch_make_one_batch_or_an_error():
    data = small()
    run = fit(Linear(), ELBO(), data, epochs=3, batch_size=1000, device="cpu")
    assert run.history[-1]["step"] == 3
    with pytest.raises(ValueError, match=r"no full batch: size=1000 .* 48 rows; use a smaller"):
        data.train.batches(1000, drop_last=True)


def test_a_last_batch_of_one_row_is_left_out_of_training_with_batchnorm():
    data = small(NORMAL[:49], valid=0, test=0)
    assert [len(b["x"]) for b in data.train.batches(16)] == [16, 16, 16, 1]
    pair = Linear(norm=True)
    run = fit(pair, ELBO(), data, epochs=2, batch_size=16, valid_every=0, device="cpu")
    assert run.history[-1]["step"] == 6
    assert int(pair.norm.num_batches_tracked) >= 6
    bounds = log_likelihood(pair.model, pair.guide, data.train, 3, block=(3, 16))
    assert bounds.elbo.isfinite().all(), "judged in eval mode, the row alone included"


def test_batches_of_one_row_with_batchnorm_are_an_error():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        fit(Linear(norm=True), ELBO(), small(), steps=1, batch_size=1, device="cpu")


# --- labels ------------------------------------------------------------------------------------


def knn(labels, reference=None):
    x = torch.tensor(NORMAL, dtype=torch.float32)
    data = {"x": x, "y": labels}
    if reference is not None:
        parts = {"train": {"x": x, "y": reference}, "valid": data, "test": data}
        data = SimpleNamespace(**parts)
    return evaluate(Linear(), data, metrics=["knn_accuracy"])["knn_accuracy"]


FINE = torch.arange(60) % 3


def test_labels_that_suit_have_an_accuracy():
    assert knn(FINE).applicable
    assert knn(FINE, FINE).applicable


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.where(FINE == 2, -2, FINE), "integers from 0, got -2 in row 2"),
        (torch.full((60,), -1), "no label of the data is known"),
        (FINE + 0.5, "integers from 0, got 0.5 in row 0"),
        (FINE[:, None], r"labels must have shape \(rows,\), got \(60, 1\)"),
        (torch.zeros(60, dtype=torch.int64), "all 60 rows have the label 0: nothing to predict"),
        (torch.where(torch.arange(60) == 7, 9, FINE), "no other row has the label 9 of row 7"),
    ],
)
def test_labels_that_do_not_suit_are_told_by_what_needs_them(labels, words):
    record = knn(labels)
    assert record.value is None
    assert re.search(words, record.note), record.note


def test_a_class_that_training_rows_lack_is_told():
    record = knn(FINE, torch.where(FINE == 2, 0, FINE))
    assert record.value is None
    assert "no other row has the label 2 of row 2" in record.note


@pytest.mark.parametrize("labels", [[0.5] * 60, [math.nan] * 60, [[0, 1]] * 60, [None] * 60])
def test_labels_that_are_none_are_refused_when_they_are_loaded(labels):
    with pytest.raises(ValueError, match=r"labels 'y'|column 'y'"):
        small(y=labels)


# --- places ------------------------------------------------------------------------------------

BLOCKED = "a file where a folder should be"


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text(BLOCKED)
    monkeypatch.delenv("PRIORY_DATA", raising=False)
    monkeypatch.setenv("PRIORY_CACHE", str(tmp_path / "file" / "cache"))
    remote = Remote("some/file.gz", "0" * 64, ("http://127.0.0.1:1/file.gz",))
    with pytest.raises(OSError, match=r"some/file.gz could not be downloaded:(.|\n)*PRIORY_DATA"):
        read(remote)
    assert (tmp_path / "file").read_text() == BLOCKED


def test_a_place_that_holds_no_data_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text(BLOCKED)
    for path in (tmp_path / "absent.npy", tmp_path / "file" / "own.npy"):
        with pytest.raises(OSError, match=str(path)):
            Data.from_file(path)
    with pytest.raises(ValueError, match="no image in it"):
        Data.from_file(tmp_path)
    with pytest.raises(ValueError, match=r"'~nobody-of-this-name/x.npy' is no path"):
        Data.from_file("~nobody-of-this-name/x.npy")
    with pytest.raises(ValueError, match="is no path"):
        Data.from_file("a\0b.npy")
    monkeypatch.setenv("PRIORY_DATA", str(tmp_path / "file"))
    with pytest.raises(ValueError, match="PRIORY_DATA names no folder"):
        Data.named("mnist")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    path = written(tmp_path / "own.npy", NORMAL)
    path.chmod(stat.S_IWUSR)
    with pytest.raises(ValueError, match=r"own.npy: .*[Pp]ermission"):
        Data.from_file(path)


def test_reading_changes_nothing_that_is_read(tmp_path):
    path = written(tmp_path / "own.npy", NORMAL)
    before = path.read_bytes(), path.stat().st_mtime_ns
    for mapped in (True, False):
        data = Data.from_file(path, mapped=mapped)
        next(data.train.batches(4))["x"].zero_()
        data.train.columns["x"][:].zero_()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [p.name for p in tmp_path.iterdir()] == ["own.npy"]


# --- memory of the evaluation ------------------------------------------------------------------


def test_evaluation_shrinks_its_blocks_where_memory_ends(monkeypatch):
    """Stands in for a device with room for so many particles times rows and no more."""
    import priory.evaluation.likelihood.bound as module

    room, asked = 40, []
    true = module.log_weights

    def log_weights(model, guide, columns, particles, **options):
        asked.append(particles * len(columns["x"]))
        if asked[-1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return true(model, guide, columns, particles, **options)

    pair, data = Linear(), small(test=40)
    whole = log_likelihood(pair.model, pair.guide, data.test, 24, seed=3)
    monkeypatch.setattr(module, "log_weights", log_weights)
    state = torch.get_rng_state()
    found = log_likelihood(pair.model, pair.guide, data.test, 24, seed=3)
    assert max(asked) > room >= asked[-1] > 1
    assert torch.equal(torch.get_rng_state(), state)
    assert pair.training
    small_blocks = found.log_likelihood.mean()
    assert small_blocks == pytest.approx(float(whole.log_likelihood.mean()), abs=0.5)
    report = evaluate(pair, data, particles=24, metrics=["nll"])
    assert report["nll"].n == 40
    room = 0
    with pytest.raises((torch.OutOfMemoryError, MemoryError), match="memory"):
        log_likelihood(pair.model, pair.guide, data.test, 24)


# --- metrics -----------------------------------------------------------------------------------


def judged(x, **changes):
    """Every record of a pair on rows x, with labels of two classes."""
    pair = Linear().double()
    for name, value in changes.items():
        setattr(pair, name, value)
    x = torch.as_tensor(x, dtype=torch.float64)
    data = {"x": x, "y": torch.arange(len(x)) % 2}
    options = {"particles": 30, "steps": 4, "few": 5, "pictures": False}
    return {r.name: r for r in evaluate(pair, data, metrics=["all"], **options)}


class Broken(nn.Module):
    """A layer with a value that is not finite for the fourth row."""

    def __init__(self, width, value):
        super().__init__()
        self.width, self.value = width, value

    def forward(self, x):
        out = x.sum(-1, keepdim=True).expand(*x.shape[:-1], self.width).clone()
        out[..., 3 % out.shape[-2], :] = self.value
        return out


class Collapsed(nn.Module):
    """A layer that tells nothing of its input."""

    def forward(self, x):
        return x[..., :2] * 0


WORDS = {  # of a fault in the data: every number tells it, where there is one
    "one row": "only 1 rows",
    "two rows": "only 2 rows",
    "equal rows": "only 1 of 60 rows are distinct",
    "repeated rows": "only 20 of 60 rows are distinct",
    "a constant feature": "1 of 3 features are constant",
}
FROM_LATENTS = {
    *("kl", "mutual_information", "mismatch", "active_units", "knn_accuracy", "linear_probe"),
    *("clustering_hungarian", "clustering_majority", "clustering_confident", "nmi", "ari"),
    *("latent_mmd", "latent_sliced"),
}
FROM_MODEL = {
    *("ais", "bdmc", "mmd", "mmd_p", "mmd_imq", "energy", "sliced_wasserstein", "wasserstein"),
    *("frechet", "kernel_distance", "precision", "recall", "density", "coverage", "c2st"),
    "c2st_1nn",
}
SOUND = {  # of a broken net: the metrics that do not use it; none of the others has a number
    "decoder not finite": FROM_LATENTS,
    "encoder not finite": FROM_MODEL,
    "latents equal": None,
}
TELL_APART = {name for name in FROM_LATENTS if name[0] in "cn" or name in ("linear_probe", "ari")}
TELL_APART |= {"knn_accuracy"}


def case(name):
    changes, x = {}, torch.tensor(NORMAL)
    if name == "one row":
        x = x[:1]
    elif name == "two rows":
        x = x[:2]
    elif name == "equal rows":
        x = x[:1].repeat(60, 1)
    elif name == "repeated rows":
        x = x[:20].repeat(3, 1)
    elif name == "a constant feature":
        x[:, 1] = 4.0
    elif name == "decoder not finite":
        changes = {"up": Broken(3, math.nan)}
    elif name == "encoder not finite":
        changes = {"down": Broken(2, math.nan)}
    elif name == "latents equal":
        changes = {"down": Collapsed()}
    return judged(x, **changes)


@pytest.fixture(scope="module")
def records():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "_LEAST", 100)  # any net will do
        return {name: case(name) for name in (*WORDS, *SOUND)}


SIGNS = ("row", "finite", "equal", "samples", "distinct", "needs")


@pytest.fixture(scope="module")
def sound():
    return judged(NORMAL)


@pytest.mark.parametrize("name", METRICS)
def test_no_metric_gives_a_quiet_number(records, sound, name):
    if not sound[name].applicable:  # no matter what is wrong with the data
        assert not any(found[name].applicable for found in records.values())
        return
    for kind, found in records.items():
        record = found[name]
        if not record.applicable:
            assert any(sign in record.note for sign in SIGNS), (kind, record.note)
        elif kind in WORDS:
            assert WORDS[kind] in record.note, kind
            assert math.isfinite(record.value)
    for kind, unused in SOUND.items():
        usable = name not in TELL_APART if unused is None else name in unused
        assert records[kind][name].applicable == usable, (kind, records[kind][name])


def test_a_sound_set_raises_no_flag(sound):
    for record in sound.values():
        assert "distinct" not in record.note
        assert "constant" not in record.note


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", METRICS)
def test_no_metric_looks_at_data_that_are_not_finite(name, value):
    x = torch.tensor(NORMAL)
    x[4, 0] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        evaluate(Linear().double(), {"x": x, "y": FINE}, metrics=[name], particles=2)


@pytest.mark.parametrize("name", METRICS)
def test_no_metric_looks_at_no_data(name):
    with pytest.raises(ValueError, match="no rows"):
        evaluate(Linear(), {"x": torch.zeros(0, 3), "y": torch.zeros(0)}, metrics=[name])
