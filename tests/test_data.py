"""Splits, batches, binarisation and the user's own arrays."""

import doctest
import importlib
import math

import numpy as np
import pytest
import torch

from priory.data import Data, Split
from priory.data.split import binarise_once

GREYS = torch.linspace(0, 1, 11).repeat(4000, 1)  # (4000, 11)


def greys(seed=0, rows=50, shape=(1, 4, 4)):
    return torch.rand(rows, *shape, generator=torch.Generator().manual_seed(seed))


def dynamic(x=GREYS):
    return Split({"x": x}, dynamic=True)


def served(split, column="index", **options):
    return torch.cat([batch[column] for batch in split.batches(16, **options)])


@pytest.mark.parametrize("module", ["data", "split", "toys"])
def test_the_examples_run(module):
    result = doctest.testmod(importlib.import_module(f"priory.data.{module}"))
    assert result.failed == 0
    assert result.attempted > 0


# --- order -------------------------------------------------------------------------------------


def test_an_epoch_is_a_permutation_and_a_pure_function_of_seed_and_epoch():
    split = Split({"x": greys()})
    first = served(split, shuffle=True, seed=1, epoch=2)
    assert torch.equal(first.sort().values, torch.arange(50))
    torch.manual_seed(99)  # the global generator has no part in it
    assert torch.equal(first, served(split, shuffle=True, seed=1, epoch=2))
    assert not torch.equal(first, served(split, shuffle=True, seed=1, epoch=3))
    assert not torch.equal(first, served(split, shuffle=True, seed=2, epoch=2))
    assert torch.equal(served(split), torch.arange(50))


def test_serving_batches_leaves_the_global_generators_alone():
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    list(dynamic().batches(128, shuffle=True))
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002


def test_every_row_is_equally_likely_to_come_first():
    split = Split({"x": torch.zeros(5, 1)})
    firsts = [int(split.order(epoch=epoch)[0]) for epoch in range(1000)]
    counts = np.bincount(firsts, minlength=5)
    assert np.all(np.abs(counts - 200) < 4 * np.sqrt(1000 * 0.2 * 0.8))


def test_columns_stay_together():
    x = torch.arange(50.0)[:, None]
    split = Split({"x": x, "y": torch.arange(50) * 2})
    for batch in split.batches(7, shuffle=True):
        assert torch.equal(batch["y"], batch["index"] * 2)
        assert torch.equal(batch["x"][:, 0], batch["index"].float())


def test_the_last_batch_is_shorter_or_dropped():
    split = Split({"x": greys()})
    assert [len(batch["x"]) for batch in split.batches(16)] == [16, 16, 16, 2]
    assert [len(batch["x"]) for batch in split.batches(16, drop_last=True)] == [16, 16, 16]
    with pytest.raises(ValueError, match=r"no full batch: size=51.*50 rows"):
        split.batches(51, drop_last=True)


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_an_epoch_can_be_taken_up_in_its_middle(start):
    split = dynamic(greys(rows=60))
    whole = list(split.batches(16, shuffle=True, seed=3, epoch=5))
    rest = list(split.batches(16, shuffle=True, seed=3, epoch=5, start=start))
    assert len(rest) == len(whole) - start
    for a, b in zip(whole[start:], rest, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("option", ["epoch", "seed", "start"])
def test_negative_numbers_are_refused(option):
    with pytest.raises(ValueError, match=f"{option} must be 0 or more, got -1"):
        dynamic().batches(4, **{option: -1})
    with pytest.raises(ValueError, match="size must be at least 1"):
        dynamic().batches(0)
    with pytest.raises(ValueError, match="n must be 0 or more"):
        dynamic().snapshot(-1)


def test_a_split_checks_its_columns():
    with pytest.raises(ValueError, match=r"needs a column 'x', got \['y'\]"):
        Split({"y": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"same number of rows, got {'x': 2, 'y': 3}"):
        Split({"x": torch.zeros(2, 1), "y": torch.zeros(3)})


# --- binarisation ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dynamic_pixels_have_the_greys_as_means(dtype):
    grey = GREYS.to(dtype)
    x = served(dynamic(grey), "x", shuffle=True)
    assert x.dtype == dtype
    assert set(x.unique().tolist()) == {0.0, 1.0}
    p = grey[0]
    se = (p * (1 - p) / len(x)).sqrt()
    assert torch.all((x.mean(0) - p).abs() <= 4 * se)  # exact where the grey is 0 or 1


def test_dynamic_pixels_are_independent():
    x = served(dynamic(torch.full((20_000, 6), 0.3)), "x").double()
    correlation = torch.corrcoef(x.T) - torch.eye(6)
    assert correlation.abs().max() < 4.5 / 20_000**0.5
    between = torch.corrcoef(torch.stack([x[:-1].flatten(), x[1:].flatten()]))[0, 1]
    assert between.abs() < 4 / 120_000**0.5


def test_dynamic_pixels_are_fresh_in_every_epoch_and_batch():
    split = dynamic(torch.full((32, 200), 0.5))
    a, b = list(split.batches(16))
    c = next(split.batches(16, epoch=1))
    d = next(split.batches(16, seed=1))
    again = next(split.batches(16))
    assert torch.equal(a["x"], again["x"])
    for other in (b, c, d):
        assert abs((a["x"] != other["x"]).float().mean() - 0.5) < 4 * 0.5 / 3200**0.5


def test_the_stored_binarisation_never_changes():
    x = binarise_once(torch.full((3, 9), 0.5), 2)
    assert "".join(str(int(pixel)) for pixel in x.flatten()) == STORED
    grey = greys(rows=9000, shape=(3,))
    x = binarise_once(grey, 1)
    assert torch.equal(x[:4097], binarise_once(grey[:4097], 1))
    assert torch.equal(x, binarise_once(grey.double(), 1).float())
    assert (x - grey).mean().abs() < 4 * (grey * (1 - grey)).mean().sqrt() / grey.numel() ** 0.5
    assert not torch.equal(x, binarise_once(grey, 2))


STORED = "110011001010000101111101111"


def test_pixels_given_as_bytes_are_binarised_alike_in_both_precisions():
    x = torch.arange(256, dtype=torch.uint8).repeat(40, 1)[:, None]
    made = {}
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            made[dtype] = Data.from_arrays(x=x, binarise="dynamic")
        finally:
            torch.set_default_dtype(torch.float32)
    single, double = made[torch.float32], made[torch.float64]
    assert (single.train.x.dtype, double.train.x.dtype) == (torch.float32, torch.float64)
    assert torch.equal(single.test.x, double.test.x.float())
    assert torch.equal(single.train.snapshot(), double.train.snapshot().float())
    batches = single.train.batches(8), double.train.batches(8)
    assert all(torch.equal(a["x"], b["x"].float()) for a, b in zip(*batches, strict=True))


def test_validation_and_test_are_binarised_once():
    data = Data.from_arrays(x=greys(), binarise="dynamic")
    again = Data.from_arrays(x=greys(), binarise="dynamic")
    for split, same in ((data.valid, again.valid), (data.test, again.test)):
        assert not split.dynamic
        assert set(split.x.unique().tolist()) == {0.0, 1.0}
        assert torch.equal(split.x, same.x)
        assert torch.equal(served(split, "x", epoch=1), served(split, "x", epoch=2))
        assert torch.equal(split.snapshot(), split.x)
    assert 0 < data.train.x[0, 0, 0, 0] < 1
    assert set(data.train.snapshot().unique().tolist()) == {0.0, 1.0}
    assert torch.equal(data.train.snapshot(3), data.train.snapshot()[:3])


def test_threshold_cuts_at_one_half():
    data = Data.from_arrays(
        x=greys(), x_test=[[[[0.5] * 4] * 4], [[[0.51] * 4] * 4]], binarise="threshold"
    )
    assert data.test.x.flatten(1).mean(1).tolist() == [0, 1]
    assert not data.train.dynamic


def test_what_cannot_be_binarised_is_refused():
    with pytest.raises(ValueError, match=r"needs x in \[0, 1\], got \[0, 255\]"):
        Data.from_arrays(x=np.array([[0.0], [255.0]] * 20), binarise="dynamic")
    with pytest.raises(ValueError, match="unknown binarise 'dynamc', nearest 'dynamic'"):
        Data.from_arrays(x=greys(), binarise="dynamc")


# --- the user's own arrays ---------------------------------------------------------------------


def test_arrays_are_partitioned_without_overlap():
    x = np.arange(100.0)
    data = Data.from_arrays(x=x, y=np.arange(100), valid=0.2, test=7, weight=x)
    parts = [split.x[:, 0] for split in (data.train, data.valid, data.test)]
    assert [len(part) for part in parts] == [73, 20, 7]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(100.0))
    for split in (data.train, data.valid, data.test):
        assert torch.equal(split.columns["y"].float(), split.x[:, 0])
        assert torch.equal(split.columns["weight"], split.x[:, 0])
        assert torch.equal(split.columns["index"], torch.arange(len(split)))
    assert not torch.equal(data.test.x, Data.from_arrays(x=x, test=7, seed=1).test.x)
    assert torch.equal(data.test.x, Data.from_arrays(x=x, valid=0.2, test=7).test.x)


def test_rows_given_for_a_split_are_kept():
    data = Data.from_arrays(x=np.zeros((9, 2)), y=range(9), x_test=np.ones((4, 2)), y_test=[1] * 4)
    assert (len(data.train), len(data.valid), len(data.test)) == (8, 1, 4)
    assert data.test.x.min() == 1
    whole = Data.from_arrays(x=np.arange(9), x_valid=[5], x_test=[6])
    assert torch.equal(whole.train.x[:, 0], torch.arange(9.0))


@pytest.mark.parametrize(
    ("values", "shape", "top"),
    [
        (np.full((20, 8, 6), 255, np.uint8), (1, 8, 6), 1.0),
        (np.full((20, 8, 6, 3), 255, np.uint8), (3, 8, 6), 1.0),
        (np.full((20, 3, 8, 6), 51, np.uint8), (3, 8, 6), 0.2),
        (np.full((20, 8, 6), 1, np.uint8), (1, 8, 6), 1.0),
        (np.full((20, 8, 6), True), (1, 8, 6), 1.0),
        (np.full((20, 7), 255, np.uint8), (7,), 1.0),
        (np.full((20, 7), 255), (7,), 255.0),
        (np.full((20, 7), 7.0, ">f8"), (7,), 7.0),
        (np.full((20, 7), 7, np.float16), (7,), 7.0),
        (torch.full((20, 7), 7, dtype=torch.int32), (7,), 7.0),
        ([[1, 2]] * 20, (2,), 2.0),
        (np.full((2, 20), 3.0).T[::-1], (2,), 3.0),
    ],
)
def test_array_likes(values, shape, top):
    data = Data.from_arrays(x=values)
    assert data.shape == shape
    assert data.train.x.dtype == torch.float32
    assert data.train.x.max() == pytest.approx(top)


def test_doubles_are_kept_if_torch_is_set_to_them():
    torch.set_default_dtype(torch.float64)
    try:
        assert Data.from_arrays(x=np.full((20, 1), 0.1)).train.x[0, 0].item() == 0.1
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_arrays_are_copied():
    x = np.zeros((20, 2), np.float32)
    data = Data.from_arrays(x=x, valid=0, test=0)
    x[:] = 5
    assert data.train.x.max() == 0
    assert len(data.test) == 0
    assert list(data.test.batches(4)) == []


@pytest.mark.parametrize(
    ("labels", "numbers", "classes"),
    [
        (["cat", "ant", "cat"], [1, 0, 1], ("ant", "cat")),
        ([b"b", b"a", b"b"], [1, 0, 1], ("a", "b")),
        ([0, 3, 1], [0, 2, 1], ("0", "1", "3")),
        ([1, 3, 2], [0, 2, 1], ("1", "2", "3")),
        ([5, -1, 7], [0, -1, 1], ("5", "7")),
        ([5.0, math.nan, 0.0], [1, -1, 0], ("0", "5")),
        (["cat", "", "ant"], [1, -1, 0], ("ant", "cat")),
        (["cat", None, "ant"], [1, -1, 0], ("ant", "cat")),
        ([2, None, 1], [1, -1, 0], ("1", "2")),
        (np.ma.array([4, 9, 6], mask=[0, 1, 0]), [0, -1, 1], ("4", "6")),
        ([0.0, 2.0, 1.0], [0, 2, 1], ("0", "1", "2")),
        ([True, False, True], [1, 0, 1], ("False", "True")),
        ([[2], [1], [0]], [2, 1, 0], ("0", "1", "2")),
        (np.array(["u", "v", "u"], object), [0, 1, 0], ("u", "v")),
    ],
)
def test_labels(labels, numbers, classes):
    data = Data.from_arrays(x=[1.0, 2.0, 3.0], y=labels, valid=0, test=0)
    assert data.train.columns["y"].tolist() == numbers
    assert data.train.columns["y"].dtype == torch.int64
    assert data.classes == classes


def test_labels_are_encoded_alike_in_all_splits():
    data = Data.from_arrays(
        x=[1, 2, 3], y=["b", "c", "b"], valid=0, x_test=[4, 5], y_test=["c", "a"]
    )
    assert data.classes == ("a", "b", "c")
    assert data.test.columns["y"].tolist() == [2, 0]


NAN = np.zeros((20, 3))
NAN[17, 2] = np.nan
INF = np.zeros(20)
INF[4] = -np.inf


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": NAN}, r"column 'x' has nan in row 17 at position \(2,\)"),
        ({"x": INF}, "column 'x' has -inf in row 4;"),
        ({"x": np.zeros(20), "w": INF}, "column 'w' has -inf in row 4"),
        ({"x": np.zeros(20), "x_test": INF}, "column 'x_test' has -inf in row 4"),
        ({"x": np.zeros(20), "y": np.zeros(19)}, "differ in length: {'x': 20, 'y': 19}"),
        ({"x": np.zeros((0, 3))}, r"'x' is empty: shape \(0, 3\)"),
        ({"x": []}, "'x' is empty"),
        ({"x": 3.0}, "'x' is a single value"),
        ({"x": None}, "a column 'x' is needed"),
        ({"x": [[1, 2], [3]]}, "column 'x' is not an array"),
        ({"x": np.array([None, 1.0])}, "column 'x' has dtype object"),
        ({"x": np.array([1j, 1.0])}, "column 'x' has dtype complex128"),
        ({"x": ["a", "b"]}, "column 'x' holds text; only labels 'y' may"),
        ({"x": np.zeros(20), "y": np.full(20, 0.5)}, "integers or strings, got 0.5 in row 0"),
        ({"x": np.zeros(20), "y": np.zeros((20, 2))}, r"shape \(rows,\), got \(20, 2\)"),
        ({"x": np.zeros(20), "index": np.zeros(20)}, "'index' is taken"),
        ({"x": np.zeros((20, 3)), "x_test": np.zeros((5, 4))}, r"\(4,\), expected \(3,\)"),
        ({"x": np.zeros(20), "y": np.zeros(20), "x_test": np.zeros(5)}, r"missing \['y_test'\]"),
        ({"x": np.zeros(1)}, "0.1 of 1 rows is no row"),
        ({"x": np.zeros(20), "valid": 10, "test": 10}, "no row is left to train on: 20 rows"),
        ({"x": np.zeros(20), "valid": 1.0}, r"valid must be a share in \[0, 1\)"),
        ({"x": np.zeros(20), "test": -0.1}, r"test must be a share .* got -0.1"),
        ({"x": np.zeros(20), "test": True}, "test must be a share"),
        ({"x": np.zeros(20), "seed": -1}, "seed must be an integer, 0 or more, got -1"),
        ({"x": np.zeros(20), "standardise": 1}, "standardise must be True or False"),
        ({"x": np.zeros((20, 2, 2)), "standardise": True}, "standardise=True is for tables"),
        ({"x": np.zeros(20), "standardise": True, "binarise": "threshold"}, "exclude each other"),
    ],
)
def test_faulty_arrays_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        Data.from_arrays(**columns)


def test_standardised_by_the_training_rows():
    x = np.random.default_rng(0).normal(5, 3, (200, 2))
    x = np.column_stack([x, np.full(200, 4.0)])
    data = Data.from_arrays(x=x, standardise=True)
    raw = Data.from_arrays(x=x)
    train = data.train.x
    torch.testing.assert_close(train.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(train[:, :2].std(0, correction=0), torch.ones(2))
    assert train[:, 2].abs().max() < 1e-6
    torch.testing.assert_close(data.restore(data.test.x), raw.test.x)
    assert torch.equal(raw.restore(raw.test.x), raw.test.x)


def test_data_moves_as_a_whole():
    data = Data.from_arrays(x=greys().flatten(1), standardise=True).to("meta")
    assert data.device.type == "meta"
    assert {c.device.type for c in data.test.columns.values()} == {"meta"}
    assert data.mean.device.type == "meta"


def test_the_config_of_arrays_tells_them_apart_but_cannot_rebuild():
    a, b = (Data.from_arrays(x=greys(seed)).config for seed in (0, 1))
    assert a["name"] == "arrays"
    assert len(a["sha256"]) == 64
    assert a["sha256"] != b["sha256"]
    assert a == Data.from_arrays(x=greys(0)).config
    with pytest.raises(ValueError, match=r"pass the same arrays to Data.from_arrays"):
        Data.open(**a)


def test_a_config_holds_plain_values_only():
    config = Data.from_arrays(x=greys(), valid=np.float64(0.2), test=np.int64(3)).config
    assert all(type(value) in (str, int, float, bool) for value in config.values())
    assert (config["valid"], config["test"]) == (0.2, 3)


def test_the_summary_says_it_all():
    x = np.arange(40, dtype=np.uint8).repeat(16).reshape(40, 4, 4)
    data = Data.from_arrays(x=x, y=["a", "b"] * 20, binarise="threshold")
    assert repr(data) == (
        "arrays: 32 train, 4 valid, 4 test; x (1, 4, 4), 0..255 scaled to [0, 1], "
        "binarised at 0.5; labels a, b"
    )


@pytest.mark.cuda
def test_on_cuda_the_order_and_the_stored_pixels_are_those_of_the_cpu():
    data = Data.from_arrays(x=greys(rows=500), binarise="dynamic")
    moved = data.to("cuda")
    assert torch.equal(data.train.order(epoch=3), moved.train.order(epoch=3).cpu())
    assert torch.equal(data.train.snapshot(), moved.train.snapshot().cpu())
    a, b = (served(moved.train, "x", shuffle=True) for _ in range(2))
    assert torch.equal(a, b)
    assert a.device.type == "cuda"
