"""The user's own files: round trips of every format, and what faulty ones answer."""

import pickle
import sys
from datetime import date

import numpy as np
import pytest
import torch

from priory.data import Data

X = np.random.default_rng(0).normal(size=(40, 3))
NAMES = ["ant", "bee", "cat", "dog"] * 10
IMAGES = np.random.default_rng(1).integers(0, 256, (40, 6, 5), dtype=np.uint8)


def write_csv(path, header=("a", "b", "label"), delimiter=",", x=X, labels=NAMES):
    lines = [delimiter.join(header)] if header else []
    rows = zip(x.tolist(), labels, strict=True) if labels else ((row, None) for row in x.tolist())
    for row, label in rows:
        lines.append(delimiter.join([*map(repr, row), *([label] if label else [])]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def load(path, **options):
    return Data.from_file(path, valid=0, test=0, **options)


def same(data, x=X, names=NAMES):
    torch.testing.assert_close(data.train.x, torch.tensor(x, dtype=torch.float32))
    if names is None:
        assert "y" not in data.train.columns
    else:
        assert [data.classes[i] for i in data.train.columns["y"]] == names
    return True


# --- round trips -------------------------------------------------------------------------------


def test_npy(tmp_path):
    np.save(tmp_path / "own.npy", X)
    data = load(tmp_path / "own.npy")
    assert same(data, names=None)
    assert data.name == "own"


def test_npz(tmp_path):
    path = tmp_path / "own.npz"
    np.savez_compressed(
        path,
        x=X,
        y=np.array(NAMES),
        weight=abs(X[:, 0]),
    )
    data = load(path)
    assert same(data)
    assert torch.equal(data.train.columns["weight"], data.train.x[:, 0].abs())
    np.savez(path, anything=X)
    assert same(load(path), names=None)


def test_npz_with_its_own_test_rows(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, x_train=X, y_train=NAMES, x_test=X[:5], y_test=NAMES[:5])
    data = Data.from_file(path)
    assert (len(data.train), len(data.valid), len(data.test)) == (36, 4, 5)
    torch.testing.assert_close(data.test.x, torch.tensor(X[:5], dtype=torch.float32))
    assert data.test.columns["y"].tolist() == [0, 1, 2, 3, 0]


def test_images_in_an_npz_are_scaled_and_it_says_so(tmp_path):
    np.savez(tmp_path / "own.npz", x=IMAGES)
    data = load(tmp_path / "own.npz")
    assert same(data, IMAGES[:, None] / 255, names=None)
    assert "0..255 scaled to [0, 1]" in data.summary()
    assert load(tmp_path / "own.npz", binarise="dynamic").train.dynamic


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(tmp_path, delimiter):
    path = write_csv(tmp_path / "own.csv", ("a", "b", "c", "Label"), delimiter)
    assert same(load(path))
    path = write_csv(tmp_path / "own.csv", ("a", "b", "c"), delimiter, labels=None)
    assert same(load(path), names=None)
    path = write_csv(tmp_path / "own.csv", (), delimiter, labels=None)
    assert same(load(path), names=None)


def test_csv_as_spreadsheets_write_it(tmp_path):
    path = tmp_path / "own.csv"
    path.write_bytes('\ufeff"size, cm",class\r\n"1.5",7\r\n2,9\r\n\r\n'.encode())
    data = load(path)
    assert data.train.x.tolist() == [[1.5], [2.0]]
    assert data.train.columns["y"].tolist() == [0, 1]
    assert data.classes == ("7", "9")


def test_csv_needs_no_pandas(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert same(load(write_csv(tmp_path / "own.csv", ("a", "b", "c", "y"))))


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "own.parquet"
    columns = {"a": X[:, 0], "target": NAMES, "b": X[:, 1], "c": X[:, 2]}
    parquet.write_table(pyarrow.table(columns), path)
    assert same(load(path))
    parquet.write_table(pyarrow.table({"a": [1, 2], "y": [0, 5]}), path)
    assert load(path).train.columns["y"].tolist() == [0, 1]
    assert load(path).classes == ("0", "5")
    for columns, message in [
        ({"a": [1.0, None]}, "column 'a' has no value in row 1"),
        ({"a": ["u", "1"], "y": [1, 2]}, "column 'a' has 'u' in row 0"),
        ({"a": [[1, 2], [3]]}, "column 'a' has"),
        ({"a": [date(2020, 1, 1)]}, "column 'a' holds dates or times"),
        ({"a": pyarrow.array([], pyarrow.float64())}, "it has no rows"),
    ]:
        parquet.write_table(pyarrow.table(columns), path)
        with pytest.raises(ValueError, match=f"own.parquet.*{message}"):
            load(path)


def test_a_folder_of_images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for i, pixels in enumerate(IMAGES):
        image.fromarray(pixels).save(tmp_path / f"{i:03}.png")
    (tmp_path / "notes.txt").write_text("passed over")
    (tmp_path / ".hidden.png").write_text("passed over")
    assert same(load(tmp_path), IMAGES[:, None] / 255, names=None)


def test_sub_folders_are_labels(tmp_path):
    image = pytest.importorskip("PIL.Image")
    colours = np.random.default_rng(2).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    for name, pixels in zip(NAMES, colours, strict=False):
        (tmp_path / name).mkdir()
        image.fromarray(pixels).save(tmp_path / name / "one.PNG")
    data = load(tmp_path)
    assert same(data, colours.transpose(0, 3, 1, 2) / 255, NAMES[:4])
    assert data.shape == (3, 6, 5)
    image.fromarray(IMAGES[0]).save(tmp_path / "ant" / "two.png")  # one grey among colours
    assert load(tmp_path).shape == (3, 6, 5)
    image.fromarray(IMAGES[0]).save(tmp_path / "loose.png")
    with pytest.raises(ValueError, match=r"loose.png doesn't; move it"):
        load(tmp_path)


def test_faulty_images_are_named(tmp_path):
    image = pytest.importorskip("PIL.Image")
    with pytest.raises(ValueError, match="no image in it"):
        load(tmp_path)
    image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    image.fromarray(IMAGES[0].T).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b.png: 5x6 pixels, expected 6x5 as in a.png"):
        load(tmp_path)
    content = (tmp_path / "a.png").read_bytes()
    for damaged in (content[:-30], content[:40], b"", b"no image"):
        (tmp_path / "b.png").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"b.png: not a sound image"):
            load(tmp_path)
    image.fromarray(IMAGES[0].astype(np.uint16) * 200).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b.png: .*expected 8-bit greyscale or RGB"):
        load(tmp_path)
    clear = image.fromarray(np.zeros((6, 5, 4), np.uint8))
    clear.save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b.png: .*transparent"):
        load(tmp_path)


# --- configs -----------------------------------------------------------------------------------


def test_a_config_rebuilds_and_notices_a_change(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, x=IMAGES, y=NAMES)
    data = Data.open(path, binarise="dynamic", valid=3, seed=5)
    again = Data.open(**data.config)
    assert again.config == data.config
    assert torch.equal(again.train.x, data.train.x)
    assert torch.equal(again.test.x, data.test.x)
    np.savez(path, x=IMAGES[::-1], y=NAMES)
    with pytest.raises(ValueError, match=r"own.npz: the content has changed"):
        Data.open(**data.config)


# --- faulty files ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it is empty"),
        ("a,b\n", "it has a header and no rows"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cells, the first has 2"),
        ("a,b\n1,2\n3,x\n", "column 'b' has 'x' in row 1, expected a finite number"),
        ("a,b\n1,2\n3,\n", "column 'b' has an empty cell in row 1"),
        ("a,b\n1,2\n3,nan\n", "column 'b' has 'nan' in row 1"),
        ("a,b\n1,2\n3,inf\n", "column 'b' has 'inf' in row 1"),
        ("1,u\n2,3\n4,v\n", "column '2' has 'u' in row 0"),
        ("a,a\n1,2\n", "two columns have the same name"),
        ("a,y,label\n1,2,3\n", r"more than one column of labels: \['y', 'label'\]"),
        ("y\n1\n2\n", r"no feature beside the labels \['y'\]"),
        ('a,b\n1,"2\n', "not a sound .csv file"),
    ],
)
def test_faulty_csv(tmp_path, content, message):
    (tmp_path / "own.csv").write_text(content)
    with pytest.raises(ValueError, match=f"own.csv: .*{message}"):
        load(tmp_path / "own.csv")


def test_other_files_are_refused(tmp_path):
    for name in ("own.txt", "own"):
        (tmp_path / name).write_text("x")
        with pytest.raises(ValueError, match=r"can't read .*expected .npz, .npy, .csv, .parquet"):
            load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"absent.npz"):
        load(tmp_path / "absent.npz")
    np.savez(tmp_path / "own.npz", a=X, b=X)
    with pytest.raises(ValueError, match=r"arrays are \['a', 'b'\]; expected 'x', or a single"):
        load(tmp_path / "own.npz")


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was run",))


def test_no_pickle_is_ever_loaded(tmp_path):
    trap = np.empty(2, object)
    trap[:] = [Trap(), Trap()]
    np.save(tmp_path / "own.npy", trap)
    np.savez(tmp_path / "own.npz", x=trap)
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Trap()))
    for name in ("own.npy", "own.npz", "raw.npy", "raw.npz"):
        with pytest.raises(ValueError, match=name):
            load(tmp_path / name)


@pytest.mark.parametrize("ending", ["npz", "npy", "csv", "parquet"])
def test_a_mangled_file_is_named_or_still_data(tmp_path, ending):
    path = tmp_path / f"own.{ending}"
    if ending == "npz":
        np.savez_compressed(path, x=X, y=NAMES)
    elif ending == "npy":
        np.save(path, X)
    elif ending == "csv":
        write_csv(path, ("a", "b", "c", "y"))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"a": X[:, 0]}), path)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for round_ in range(150):
        bad = bytearray(good)
        if round_ % 3 == 0:
            bad = bad[: rng.integers(len(bad))]
        elif round_ % 3 == 1:
            bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        else:
            start = rng.integers(min(len(bad), 200))
            bad[start : start + 8] = rng.bytes(8)
        path.write_bytes(bad)
        try:
            load(path)
        except ValueError as error:
            assert f"own.{ending}" in str(error)  # noqa: PT017
            refused += 1
    assert refused > 20


def test_an_absent_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "own.parquet").write_bytes(b"")
    (tmp_path / "own.png").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    for path in (tmp_path / "own.parquet", tmp_path):
        with pytest.raises(ImportError, match=r"pip install 'priory\[files\]'"):
            load(path)


@pytest.mark.parametrize("gap", ["", " ", "NA"])
@pytest.mark.parametrize("options", [{}, {"missing": "integrate"}])
def test_a_first_line_of_numbers_with_a_gap_is_no_header_without_a_word(tmp_path, gap, options):
    path = tmp_path / "rows.csv"
    path.write_text(f"1.5,{gap}\n2.5,3.5\n4.5,5.5\n6.5,7.5\n")
    with pytest.raises(ValueError, match="or a row with a missing entry; write a line of names"):
        load(path, **options)
    path.write_text("a,b\n" + path.read_text())
    if options:
        assert load(path, **options).train.columns["seen"].tolist()[0] == [True, False]


def test_the_numbers_of_columns_without_names_are_a_header(tmp_path):
    path = tmp_path / "frame.csv"
    path.write_text(",0,1\n0,2.5,3.5\n1,4.5,5.5\n")
    assert load(path).train.x.tolist() == [[2.5, 3.5], [4.5, 5.5]]
