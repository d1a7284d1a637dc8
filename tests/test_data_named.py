"""The named sets: their facts, their toys, and the formats they come in."""

import gzip
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from priory.data import GRID, RING, SETS, Data, ImageSet, Toy, fetch, toy
from priory.data.named import stratified
from priory.data.readers import read_amat, read_idx
from priory.data.toys import TOYS

IDX_NAMES = ("mnist", "fashion-mnist")


# --- embedded and generated --------------------------------------------------------------------


def test_digits():
    data = Data.named("digits")
    assert [len(s) for s in (data.train, data.valid, data.test)] == [1297, 200, 300]
    assert data.shape == (1, 8, 8)
    assert data.train.dynamic
    for split in (data.train, data.valid, data.test):
        counts = split.columns["y"].bincount(minlength=10)
        share = len(split) / 1797
        whole = torch.tensor([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
        assert (counts - share * whole).abs().max() <= 2
    grey = Data.named("digits", binarise="none")
    total = sum(s.x.double().sum() for s in (grey.train, grey.valid, grey.test))
    assert total.item() * 16 == 561718  # the sum of all of scikit-learn's values
    assert torch.equal(data.train.x, grey.train.x)


def test_rows_and_valid_of_an_image_set():
    data = Data.named("digits", valid=100, rows=50)
    whole = Data.named("digits")
    assert (len(data.train), len(data.valid), len(data.test)) == (50, 100, 300)
    assert torch.equal(data.train.x, whole.train.x[:50])
    assert torch.equal(data.test.x, whole.test.x)
    assert len(Data.named("digits", valid=0).valid) == 0


def test_stratified_stretches_have_every_class_in_proportion():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    order = stratified(labels, seed=1)
    assert sorted(order) == list(range(100))
    for start in range(0, 100, 20):
        counts = np.bincount(labels[order[start : start + 20]], minlength=3)
        assert np.abs(counts - [12, 6, 2]).max() <= 1


@pytest.mark.parametrize("name", [n for n, row in SETS.items() if isinstance(row, Toy)])
def test_toys(name):
    data = Data.named(name, rows=3000, seed=3)
    assert [len(s) for s in (data.train, data.valid, data.test)] == [3000, 1000, 10_000]
    assert data.shape == (2,)
    assert data.binarise == "none"
    assert torch.equal(data.train.x, Data.named(name, rows=3000, seed=3).train.x)
    assert not torch.equal(data.train.x, Data.named(name, rows=3000, seed=4).train.x)
    assert (data.train.x[:1000] != data.valid.x).any(1).all()
    assert (data.test.x[:1000] != data.valid.x).any(1).all()
    assert data.test.x.abs().max() < 8
    y = data.test.columns["y"]
    shares = y.bincount() / len(y)
    even = 1 / len(data.classes)
    # the roll's turns are equally long in angle, all other classes are equally likely
    assert (shares - even).abs().max() < 4 * (even / len(y)) ** 0.5
    assert data.density is SETS[name].density


@pytest.mark.parametrize(
    ("name", "modes", "sd", "entropy"), [("ring", 8, 0.01, -4.293), ("grid", 25, 0.05, 0.0653)]
)
def test_the_mixtures_are_what_they_are_called(name, modes, sd, entropy):
    torch.set_default_dtype(torch.float64)
    data = Data.named(name, rows=40_000)
    mixture, x, mode = data.density, data.train.x, data.train.columns["y"]
    assert mixture.centres.shape == (modes, 2)
    # entropy = E[-log p]; where the modes don't overlap the terms have variance 1
    found = -mixture.log_prob(x).mean()
    assert found == pytest.approx(entropy, abs=4 / 200 + 1e-3)
    exact = np.log(modes) + 1 + np.log(2 * np.pi * sd**2)
    assert exact == pytest.approx(entropy, abs=5e-4)
    offset = (x - mixture.centres[mode]) / sd
    assert abs((offset.norm(dim=1) < 3).double().mean() - 0.98889) < 4 * (0.011 / 40_000) ** 0.5
    torch.testing.assert_close(offset.T.cov(), torch.eye(2), atol=0.03, rtol=0)


def test_the_centres():
    assert RING.centres[0].tolist() == [1, 0]
    torch.testing.assert_close(RING.centres.norm(dim=1), torch.ones(8, dtype=torch.float64))
    assert sorted(set(GRID.centres.flatten().tolist())) == [-4, -2, 0, 2, 4]


def test_a_density_has_mass_one():
    ticks = torch.linspace(-0.4, 0.4, 161, dtype=torch.float64)
    square = torch.cartesian_prod(ticks, ticks)
    for centre in GRID.centres[::6]:
        mass = GRID.log_prob(centre + square).exp().sum() * (ticks[1] - ticks[0]) ** 2
        assert mass.item() == pytest.approx(1 / 25, abs=1e-9)
    x = torch.zeros(3, 4, 2)
    assert RING.log_prob(x).shape == (3, 4)
    assert RING.log_prob(x).dtype == torch.float32


def test_the_tree_has_its_levels_noise_and_shape():
    data = Data.named("tree", seed=2)
    assert [len(s) for s in (data.train, data.valid, data.test)] == [3000, 1000, 3000]
    y, path = (data.test.columns[name] for name in ("y", "path"))
    assert torch.equal(path, torch.stack([y // 9, y // 3, y], 1))
    group = data.test.columns["group"]
    assert torch.equal(group.bincount(), torch.full((300,), 10))
    leaf = y[::10]
    assert torch.equal(y, leaf.repeat_interleave(10))
    assert (leaf.bincount(minlength=27) / 300 - 1 / 27).abs().max() < 4 * (1 / 27 / 300) ** 0.5
    assert torch.equal(data.train.x, Data.named("tree", seed=2).train.x)
    assert not torch.equal(data.train.x, Data.named("tree", seed=3).train.x)
    assert (data.test.x[:1000] != data.valid.x).any(1).all()
    leaves = SETS["tree"].nodes(2)[-1]
    assert leaves.shape == (27, 2)
    assert SETS["tree-4d"].nodes(2)[0].shape == (3, 4)
    # A surface in 20 dimensions: across it there is the noise alone, of variance 0.01.
    spectrum = torch.linalg.eigvalsh(data.train.x.double().T.cov())
    assert spectrum[0].item() == pytest.approx(0.01, rel=0.1)
    assert spectrum[-2] > 0.3
    # The nodes of each level hold more of the variance than those above, to all but the leaves'.
    x, held = data.train.x.double(), [0.0]
    for level in data.train.columns["path"].T:
        means = torch.stack([x[level == k].mean(0) for k in range(int(level.max()) + 1)])
        held.append(1 - float((x - means[level]).square().sum() / (x - x.mean(0)).square().sum()))
    assert held[1] > 0.3
    assert held[1] + 0.05 < held[2] < held[3] < 1


@pytest.mark.parametrize("row", TOYS, ids=lambda row: row.name)
def test_a_toy_has_its_entropy(row):
    """The mean of -log p over draws, and the share of them in a box around one."""
    x, _ = (torch.from_numpy(v) for v in row.points(3000, seed=5, stream=8))
    log_p = row.log_prob(x)
    error = float(log_p.std()) / 3000**0.5
    assert float(-log_p.mean()) == pytest.approx(row.entropy, abs=4 * error + 1e-3)
    assert error < 0.03
    half = 2 * float(x.std()) * 0.05
    ticks = torch.linspace(-half, half, 33, dtype=torch.float64)
    ticks = (ticks[1:] + ticks[:-1]) / 2
    centre = x[int(log_p.argsort()[1500])]
    mass = row.log_prob(centre + torch.cartesian_prod(ticks, ticks)).exp().mean() * (2 * half) ** 2
    many = torch.from_numpy(row.points(20_000, seed=6, stream=8)[0])
    share = (many - centre).abs().amax(1).le(half).double().mean()
    spread = float(mass * (1 - mass) / 20_000) ** 0.5
    assert float(share) == pytest.approx(float(mass), abs=4 * spread + 0.02 * float(mass))


def test_a_toy_by_itself():
    x, mode = toy("ring", 100, seed=5)
    assert x.shape == (100, 2)
    assert mode.shape == (100,)


def test_a_config_rebuilds():
    for name in ("digits", "ring"):
        data = Data.named(name, valid=30, rows=100, seed=2)
        again = Data.open(**data.config)
        assert again.config == data.config
        assert torch.equal(data.train.x, again.train.x)
        assert torch.equal(data.test.x, again.test.x)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnst", {}, "unknown data set 'mnst', nearest 'mnist'.*swiss-roll"),
        ("digits", {"binarise": "yes"}, "unknown binarise 'yes'.*auto, dynamic, none, threshold"),
        ("digits", {"valid": 1497}, "valid=1497 leaves no training rows: digits has 1,497"),
        ("digits", {"valid": 0.1}, "valid must be an integer, 0 or more, got 0.1"),
        ("digits", {"rows": 0}, "rows must be an integer, 1 or more, got 0"),
        ("ring", {"binarise": "dynamic"}, "ring is not to be binarised"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        Data.named(name, **options)
    with pytest.raises(ValueError, match=message):
        Data.open(name, **options)


def test_open_names_unknown_options():
    with pytest.raises(ValueError, match="unknown option for digits 'vaild', nearest 'valid'"):
        Data.open("digits", vaild=3)
    with pytest.raises(FileNotFoundError, match=r"digits.npz"):
        Data.open("digits.npz")


# --- formats -----------------------------------------------------------------------------------


def idx(array, code):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.tobytes()


def test_idx():
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(read_idx(idx(images, 8)), images)
    assert np.array_equal(read_idx(gzip.compress(idx(images, 8))), images)
    short = np.array([-3, 500], ">i2")
    assert read_idx(idx(short, 11)).tolist() == [-3, 500]


def test_faulty_idx():
    good = idx(np.zeros((2, 3, 4), np.uint8), 8)
    for length in range(len(good)):
        with pytest.raises(ValueError, match=r"name.gz"):
            read_idx(good[:length], "name.gz")
    packed = gzip.compress(good)
    for content in (packed[:-5], packed[:12] + b"xxxx" + packed[16:], packed[:2]):
        with pytest.raises(ValueError, match=r"name.gz: damaged gzip"):
            read_idx(content, "name.gz")
    with pytest.raises(ValueError, match="no IDX file, it begins with b'<htm'"):
        read_idx(b"<html>")
    with pytest.raises(ValueError, match="needs 24 bytes, the file has more"):
        read_idx(good + b"x")


def test_amat():
    assert read_amat(b"0 1 1\n1 0 0\n", pixels=3).tolist() == [[0, 1, 1], [1, 0, 0]]
    for content in (b"", b"0 1 1\n1 0", b"0 1 2\n", b"0 1-1\n", b"0 1 1 "):
        with pytest.raises(ValueError, match=r"a.amat"):
            read_amat(content, "a.amat", pixels=3)


# --- the published sets ------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "train", "test"),
    [("mnist", 33.3184, 33.7912), ("fashion-mnist", 72.9404, 73.1466)],
)
def test_mnist_and_fashion(name, train, test):
    data = Data.named(name, binarise="none", valid=10_000)
    assert [len(s) for s in (data.train, data.valid, data.test)] == [50_000, 10_000, 10_000]
    assert data.shape == (1, 28, 28)
    mean = (data.train.x.double().sum() + data.valid.x.double().sum()) / (60_000 * 784)
    assert mean.item() * 255 == pytest.approx(train, abs=5e-5)
    assert data.test.x.double().mean().item() * 255 == pytest.approx(test, abs=5e-5)
    assert (
        data.train.columns["y"][:5].tolist()
        == {"m": [5, 0, 4, 1, 9], "f": [9, 0, 0, 3, 0]}[name[0]]
    )
    assert len(data.classes) == 10


@pytest.mark.data
def test_mnist_is_split_as_by_burda_and_binarised_by_the_stored_seed():
    data = Data.named("mnist")
    assert repr(data) == (
        "mnist: 59,600 train, 400 valid, 10,000 test; x (1, 28, 28), binarised dynamically; "
        "labels 0-9"
    )
    assert set(data.test.x.unique().tolist()) == {0.0, 1.0}
    assert int(data.test.x.sum()) == MNIST_TEST_INK
    assert int(data.valid.x.sum()) == MNIST_VALID_INK
    # the mean grey within 4 standard errors
    grey = Data.named("mnist", binarise="none", rows=1).test.x.double()
    se = (grey * (1 - grey)).sum().sqrt()
    assert abs(data.test.x.double().sum() - grey.sum()) < 4 * se


MNIST_TEST_INK = 1_038_359
MNIST_VALID_INK = 41_225


@pytest.mark.data
def test_static_mnist():
    data = Data.named("static-mnist")
    splits = (data.train, data.valid, data.test)
    assert [len(split) for split in splits] == [50_000, 10_000, 10_000]
    for split, ones in zip(splits, (0.130562, 0.131127, 0.132512), strict=True):
        assert torch.all((split.x == 0) | (split.x == 1))
        assert split.x.double().mean().item() == pytest.approx(ones, abs=5e-7)
        assert not split.dynamic
    assert "y" not in data.train.columns
    with pytest.raises(ValueError, match="static-mnist is not to be binarised"):
        Data.named("static-mnist", binarise="dynamic")
    with pytest.raises(ValueError, match="the split of static-mnist is fixed"):
        Data.named("static-mnist", valid=5)


@pytest.mark.data
def test_static_mnist_from_its_original_texts(tmp_path, monkeypatch):
    packed = np.load(Path(os.environ["PRIORY_DATA"], "binarized_mnist", "binarized_mnist.npz"))
    expected = Data.named("static-mnist")
    folder = tmp_path / "binarized_mnist"
    folder.mkdir()
    for part in ("train", "valid", "test"):
        digits = np.unpackbits(packed[part], axis=1)
        text = np.full((len(digits), 1568), ord(" "), np.uint8)
        text[:, ::2] = digits + ord("0")
        text[:, -1] = ord("\n")
        (folder / f"binarized_mnist_{part}.amat").write_bytes(text.tobytes())
    packed.close()
    monkeypatch.setenv("PRIORY_DATA", str(tmp_path))
    data = Data.named("static-mnist")
    assert torch.equal(data.train.x, expected.train.x)
    assert torch.equal(data.valid.x, expected.valid.x)
    assert torch.equal(data.test.x, expected.test.x)


@pytest.mark.data
def test_omniglot():
    data = Data.named("omniglot", binarise="none")
    assert [len(s) for s in (data.train, data.valid, data.test)] == [23_000, 1_345, 8_115]
    total = sum(s.x.double().sum() for s in (data.train, data.valid, data.test))
    assert total.item() / (32_460 * 784) == pytest.approx(0.080514, abs=5e-7)
    assert len(data.classes) == 50


@pytest.mark.data
def test_a_damaged_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    for path in (Path(os.environ["PRIORY_DATA"]) / "mnist").iterdir():
        shutil.copy(path, tmp_path / "mnist")
    labels = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    labels.chmod(0o644)
    content = bytearray(labels.read_bytes())
    monkeypatch.setenv("PRIORY_DATA", str(tmp_path))
    labels.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte.gz is damaged.*4,541 bytes"):
        Data.named("mnist")
    content[2000] ^= 1
    labels.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or not the official file: 4,542 bytes"):
        Data.named("mnist")


def test_a_wrong_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PRIORY_DATA", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match=r"PRIORY_DATA names no folder: .*absent"):
        Data.named("mnist")
    monkeypatch.setenv("PRIORY_DATA", str(tmp_path))
    with pytest.raises(OSError, match=r"omniglot_28x28.npz .* can't be downloaded: put the file"):
        Data.named("omniglot")


def test_every_published_file_has_a_digest_and_an_address(monkeypatch):
    asked = []

    def absent(remote):
        asked.append(remote)
        raise OSError("not now")

    monkeypatch.setattr("priory.data.named.read", absent)
    monkeypatch.delenv("PRIORY_DATA", raising=False)
    for name, row in SETS.items():
        if isinstance(row, ImageSet) and name != "digits":
            with pytest.raises(OSError, match="not now"):
                row.load()
    assert all(len(remote.sha256) == 64 for remote in asked)
    assert [bool(remote.urls) for remote in asked] == [True, True, True, False]
    assert fetch.RETRIES >= 1
