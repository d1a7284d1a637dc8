"""Data that do not fit: mapped files, batches sent one ahead, batches shared by ranks."""

import sys
import zipfile

import numpy as np
import pytest
import torch

from priory import fit
from priory.data import Data, Split, mapped, stream
from priory.data.mapped import Mapped
from priory.inference import ELBO
from priory.models import VAE
from processes import told

BYTES = np.random.default_rng(0).integers(0, 256, (600, 6, 5), dtype=np.uint8)
REALS = np.random.default_rng(1).normal(size=(600, 7))


def saved(tmp_path, x=BYTES, name="big.npy"):
    np.save(tmp_path / name, x)
    return tmp_path / name


def same_batches(a, b, size=64, **options):
    pairs = zip(a.batches(size, **options), b.batches(size, **options), strict=True)
    for left, right in pairs:
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name].cpu()) for name in left)
        assert left["x"].dtype == right["x"].dtype
    return True


# --- mapped files ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("x", "options"),
    [
        (BYTES, {"binarise": "dynamic"}),
        (BYTES, {"binarise": "threshold"}),
        (BYTES, {"valid": 0, "test": 0}),
        (BYTES % 2, {}),
        (BYTES > 9, {}),
        (np.stack([BYTES] * 3, 3), {}),
        (REALS, {"valid": 13, "test": 0.3, "seed": 4}),
        (REALS.astype(">f4"), {}),
        (REALS.astype(np.float16), {}),
        (REALS[:, 0], {}),
        ((REALS * 100).astype(np.int32), {}),
    ],
)
def test_a_mapped_file_gives_the_batches_of_the_same_file_in_memory(tmp_path, x, options, dtype):
    path = saved(tmp_path, x)
    torch.set_default_dtype(dtype)
    data = Data.from_file(path, mapped=True, **options)
    whole = Data.from_file(path, mapped=False, **options)
    assert isinstance(data.train.columns["x"], Mapped)
    assert (data.train.x.shape, data.train.x.dtype) == (whole.train.x.shape, whole.train.x.dtype)
    assert data.shape == whole.shape
    assert data.config["sha256"] == whole.config["sha256"]
    assert "mapped from its file" in data.summary()
    for part in ("train", "valid", "test"):
        assert same_batches(getattr(data, part), getattr(whole, part))
    assert same_batches(data.train, whole.train, shuffle=True, seed=3, epoch=2, start=2)
    assert same_batches(data.train, whole.train, shuffle=True, shard=(1, 2))
    assert torch.equal(data.train.snapshot(5), whole.train.snapshot(5))
    rows = torch.tensor([7, 0, 7])
    assert torch.equal(data.train.take(rows)["x"], whole.train.take(rows)["x"])
    again = Data.open(**data.config)
    assert isinstance(again.train.columns["x"], Mapped)


def test_an_archive_without_compression_is_mapped_with_its_labels(tmp_path):
    path = tmp_path / "big.npz"
    names = np.array(["ant", "bee", "cat"] * 200)
    np.savez(path, x_train=BYTES, y_train=names, x_test=BYTES[:9], y_test=names[:9])
    data, whole = (Data.from_file(path, mapped=m, binarise="dynamic") for m in (True, False))
    assert isinstance(data.train.columns["x"], Mapped)
    assert data.classes == ("ant", "bee", "cat")
    assert same_batches(data.train, whole.train, shuffle=True)
    assert same_batches(data.test, whole.test)
    np.savez_compressed(path, x=BYTES)
    with pytest.raises(ValueError, match=r"big.npz: can't be mapped: x.npy is compressed or"):
        Data.from_file(path, mapped=True)


def test_a_file_is_mapped_by_itself_if_it_is_large(tmp_path, monkeypatch):
    path = saved(tmp_path)
    assert not Data.from_file(path).train.streamed
    monkeypatch.setattr(mapped, "memory", lambda: 8 * path.stat().st_size - 8)
    data = Data.from_file(path)
    assert data.train.streamed
    assert "mapped" not in data.config
    np.savez_compressed(tmp_path / "big.npz", x=BYTES)
    monkeypatch.setattr(mapped, "memory", lambda: 1 << 10)
    (tmp_path / "bad.npz").write_bytes(bytes(1000))
    with pytest.raises(ValueError, match=r"bad.npz: not a sound .npz file"):
        Data.from_file(tmp_path / "bad.npz")
    assert not mapped.worth_mapping(tmp_path / "big.npz")
    assert not mapped.worth_mapping(tmp_path)


def test_a_mapped_column_answers_as_a_tensor_would():
    column = Mapped(BYTES, np.arange(600)[::-1], divisor=255)
    tensor = torch.tensor(BYTES[::-1].copy())[:, None] / 255
    assert len(column) == 600
    assert column.shape == tensor.shape
    assert column.nbytes == tensor.nbytes
    assert torch.equal(column[3], tensor[3])
    assert torch.equal(column[5:2], tensor[5:2])
    assert torch.equal(column[-4:], tensor[-4:])
    assert torch.equal(column[torch.tensor([9, 1])], tensor[[9, 1]])
    assert torch.equal(column.to("cpu"), tensor)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-1], "takes 18,000 bytes, the file has 17,999"),
        (lambda raw: raw + b"x", "the file has 18,001"),
        (lambda raw: raw.replace(b"(600, 6, 5)", b"(99999999999, 6)"), "takes 599,999,999,994"),
        (lambda raw: raw.replace(b"(600, 6, 5)", b"(0, 6, 5)  "), "takes 0 bytes"),
        (lambda raw: raw.replace(b"'|u1'", b"'|O' "), "never unpickled"),
        (lambda raw: raw[:40], "can't be mapped"),
        (lambda raw: b"", "can't be mapped"),
    ],
)
def test_a_damaged_file_is_not_mapped(tmp_path, damage, message):
    path = saved(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"big.npy: .*{message}"):
        Data.from_file(path, mapped=True)


def test_what_cannot_be_mapped_says_why(tmp_path, monkeypatch):
    np.save(tmp_path / "f.npy", np.asfortranarray(REALS))
    with pytest.raises(ValueError, match=r"f.npy: .*Fortran order; save np.ascontiguousarray"):
        Data.from_file(tmp_path / "f.npy", mapped=True)
    path = saved(tmp_path, REALS)
    with pytest.raises(ValueError, match="standardise=True needs x in memory"):
        Data.from_file(path, mapped=True, standardise=True)
    with pytest.raises(ValueError, match=r"needs x in \[0, 1\]"):
        Data.from_file(path, mapped=True, binarise="dynamic")
    monkeypatch.setattr(mapped, "memory", lambda: 6000)
    with pytest.raises(ValueError, match="60 valid rows are held in memory"):
        Data.from_file(path, mapped=True)
    (tmp_path / "own.csv").write_text("1,2\n3,4\n")
    with pytest.raises(ValueError, match=r"only .npy and .npz files can be mapped"):
        Data.from_file(tmp_path / "own.csv", mapped=True)
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*absent.npy"):
        Data.from_file(tmp_path / "absent.npy", mapped=True)
    with pytest.raises(ValueError, match="mapped must be True, False or None, got 1"):
        Data.from_file(path, mapped=1)
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive:
        archive.write(path, "x.npy")
        archive.write(path, "x_train.npy")
    for choice in (True, False):
        with pytest.raises(ValueError, match="two arrays have the name 'x'"):
            Data.from_file(tmp_path / "twice.npz", mapped=choice)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_value_that_is_not_finite_is_found_in_any_block(tmp_path, monkeypatch, value):
    monkeypatch.setattr("priory.data.columns._BLOCK", 1000)
    x = REALS.copy()
    x[431, 5] = value
    with pytest.raises(ValueError, match=r"big.npy: column 'x' has .* in row 431 at position \(5,"):
        Data.from_file(saved(tmp_path, x), mapped=True)


def test_blocks_and_released_pages_change_nothing(tmp_path, monkeypatch):
    path = saved(tmp_path)
    whole = Data.from_file(path, mapped=False)
    monkeypatch.setattr("priory.data.columns._BLOCK", 100)
    monkeypatch.setattr(mapped, "_SCATTERED", 3)
    data = Data.from_file(path, mapped=True)
    assert data.config["sha256"] == whole.config["sha256"]
    assert same_batches(data.train, whole.train, shuffle=True)


def test_training_on_a_mapped_file_is_training_on_the_file(tmp_path):
    path = saved(tmp_path)
    weights = []
    for choice in (True, False):
        data = Data.from_file(path, mapped=choice, binarise="dynamic")
        run = fit(VAE(latent=2), ELBO(), data, steps=6, batch_size=64, device="cpu")
        run.save(tmp_path / str(choice))
        assert run.sample(3)["x"].shape == (3, 1, 6, 5)
        weights.append(torch.cat([p.detach().flatten() for p in run.pair.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_gigabyte_is_read_in_little_memory(tmp_path):
    """A sparse file: its zeros take no room on the disk, but would in memory."""
    path = tmp_path / "big.npy"
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 20, 32, 32)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + (1 << 30))
    script = """
        from priory.data import Data

        def peak():
            with open("/proc/self/status") as file:  # a child's ru_maxrss begins with its parent's
                lines = (line.split() for line in file)
                return next(int(words[1]) for words in lines if words[0] == "VmHWM:") / 1024

        before = peak()
        data = Data.from_file(path, valid=100, test=100, mapped=True)
        data.train.resident(1 << 24).snapshot()
        for shuffle in (True, False):
            for number, batch in enumerate(data.train.batches(4096, shuffle=shuffle)):
                assert batch["x"].shape == (4096, 1, 32, 32)
                if number == 20:
                    break
        print(peak() - before)
    """
    code, out, err = told(script, tmp_path, path=path)
    assert code == 0, err
    assert float(out) < 350, "megabytes beyond the imports"


# --- room on the device ------------------------------------------------------------------------


def test_rows_in_memory_are_evenly_spaced_where_there_are_too_many(tmp_path):
    x = np.arange(600.0)[:, None]
    path = saved(tmp_path, x)
    data = Data.from_file(path, mapped=True, valid=0, test=0)
    few = data.train.resident(data.train.nbytes // 10)
    assert few.x[:, 0].tolist() == pytest.approx(np.linspace(0, 599, 60).round().tolist())
    assert torch.equal(data.train.resident().x, torch.tensor(x, dtype=torch.float32))
    assert data.test is data.test.resident()


def test_ahead_is_plain_iteration_on_the_cpu():
    batches = [{"x": torch.full((2,), i)} for i in range(4)]
    assert [b["x"].tolist() for b in stream.ahead(batches, "cpu")] == [[i, i] for i in range(4)]
    assert list(stream.ahead([], "cpu")) == []


@pytest.mark.cuda
@pytest.mark.parametrize("choice", [True, False])
def test_streamed_batches_are_those_of_columns_on_cuda(tmp_path, monkeypatch, choice):
    path = saved(tmp_path)
    held = Data.from_file(path, binarise="dynamic").to("cuda")
    assert not held.train.streamed
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 1000))
    with pytest.warns(UserWarning, match=r"the train rows, 0.0 GB, are streamed to cuda"):
        sent = Data.from_file(path, binarise="dynamic", mapped=choice).to("cuda")
    assert sent.train.streamed
    assert sent.device == held.device
    for options in ({}, {"shuffle": True, "seed": 2}, {"shuffle": True, "shard": (1, 2)}):
        a, b = (list(d.train.batches(64, **options)) for d in (sent, held))
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert all(left[n].is_cuda and torch.equal(left[n], right[n]) for n in right)
    rows = torch.arange(5)
    assert torch.equal(sent.train.take(rows)["x"], held.train.take(rows.cuda())["x"])


@pytest.mark.cuda
def test_a_mapped_file_moves_to_cuda_if_it_fits(tmp_path):
    path = saved(tmp_path)
    data = Data.from_file(path, mapped=True).to("cuda")
    assert not data.train.streamed
    assert torch.equal(data.train.x, Data.from_file(path, mapped=False).train.x.cuda())


@pytest.mark.cuda
def test_a_batch_under_work_is_not_overwritten_by_the_next():
    batches = ({"x": torch.full((1 << 20,), float(i))} for i in range(12))
    sums = []
    for batch in stream.ahead(batches, "cuda"):
        for _ in range(50):
            batch["x"] = batch["x"] * 1.0
        sums.append(batch["x"].mean())
    assert torch.stack(sums).tolist() == list(range(12))


# --- ranks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3, 6])
@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_the_ranks_parts_side_by_side_are_the_batch(world, dynamic, shuffle):
    x = torch.rand(100, 3, 4, generator=torch.Generator().manual_seed(0))
    split = Split({"x": x, "y": torch.arange(100)}, dynamic=dynamic)
    options = {"shuffle": shuffle, "seed": 1, "epoch": 2}
    parts = [list(split.batches(12, shard=(rank, world), **options)) for rank in range(world)]
    whole = list(split.batches(12, **options))
    assert {len(part) for part in parts} == {len(whole)} == {9}
    for batch, *own in zip(whole, *parts, strict=True):
        for name in batch:
            assert torch.equal(batch[name], torch.cat([part[name] for part in own]))
    for part in parts:
        assert {len(batch["x"]) for batch in part[:-1]} == {12 // world}


@pytest.mark.parametrize("shard", [(0, 5), (2, 2), (-1, 2), (0, 0)])
def test_a_batch_that_ranks_cannot_share_is_an_error(shard):
    split = Split({"x": torch.zeros(100, 1)})
    with pytest.raises(ValueError, match="shard must be a rank and a number of ranks"):
        split.batches(12, shard=shard)
