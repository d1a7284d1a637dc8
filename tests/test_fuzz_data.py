"""Mangled files of every kind: sound data, or an error that names the file; nothing else."""

import gzip
import io
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fuzzing import Trap, budget, in_words, mangled
from priory.data import Data
from priory.data.readers import read_amat, read_idx
from processes import told

X = np.random.default_rng(0).normal(size=(9, 3))
PIXELS = np.random.default_rng(1).integers(0, 256, (6, 5, 4), dtype=np.uint8)
WORDS = ["ant", "bee", "cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def npy(array, **options):
    made = io.BytesIO()
    np.save(made, array, **options)
    return made.getvalue()


def npz(compressed=False, **arrays):
    made = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(made, **arrays)
    return made.getvalue()


def idx(array, code=8):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.tobytes()


def opened(path, **options):
    """Data if they are sound, None if they are refused by a message that names the file."""
    try:
        data = Data.from_file(path, valid=0, test=0, **options)
    except (ValueError, OSError) as error:
        assert not isinstance(error.__cause__, MemoryError)  # noqa: PT017
        in_words(error, path.name)
        return None
    return sound(data)


def sound(data):
    for split in (data.train, data.valid, data.test):
        x = split.columns["x"][:]
        assert x.dtype == torch.get_default_dtype()
        assert x.isfinite().all()
        assert all(len(column) == len(x) for column in split.columns.values())
        if "y" in split.columns:
            y = split.columns["y"]
            assert y.dtype == torch.int64
            assert y.shape == (len(x),)
            assert not len(y) or -1 <= int(y.min()) <= int(y.max()) < len(data.classes)
    assert len(data.train) > 0
    return data


# --- arrays ------------------------------------------------------------------------------------

ARRAYS = [
    npy(X),
    npy(PIXELS),
    npy(X.astype(">f4")),
    npy(np.asfortranarray(X)),
    npy(np.array(WORDS)),
    npy(np.array([Trap(), Trap()]), allow_pickle=True),
]
ARCHIVES = [
    npz(x=X, y=np.arange(9)),
    npz(True, x=PIXELS, y=np.array(WORDS * 2)),
    npz(x_train=X, x_test=X[:2], w=X[:, 0], w_test=X[:2, 0]),
    npz(x=np.array([Trap()])),
]


@budget(700)
@given(mangled(ARRAYS))
def test_npy(folder, content):
    path = folder / "own.npy"
    path.write_bytes(content)
    data, same = opened(path), opened(path, mapped=True)
    if same is not None:  # what is mapped could be read, and is the same
        assert data is not None
        assert torch.equal(same.train.columns["x"][:], data.train.x)


@budget(500)
@given(mangled(ARCHIVES), st.sampled_from([None, True]))
def test_npz(folder, content, choice):
    path = folder / "own.npz"
    path.write_bytes(content)
    opened(path, mapped=choice)


DTYPES = st.one_of(hnp.scalar_dtypes(), hnp.unicode_string_dtypes(), hnp.byte_string_dtypes())
ODD = [
    np.array([Trap(), 1.5, None, "a"], object),
    np.zeros(3, [("a", "f4"), ("b", "i2")]),
    np.zeros((3, 2), "f4").view([("a", "f4", (2,))]),
    np.zeros(3, "V3"),
    np.array(["", ""], "U0"),
]


SOME = st.integers(0, 5)


def arrays(rows=SOME):
    shapes = st.builds(lambda n, rest: (n, *rest), rows, st.lists(st.integers(0, 3), max_size=3))
    plain = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, st.one_of(shapes, st.just(()))))
    return st.one_of(plain, plain, plain, st.sampled_from(ODD))


@budget(400)
@given(arrays(), st.booleans())
def test_arrays_of_every_dtype(folder, x, choice):
    path = folder / "typed.npy"
    path.write_bytes(npy(x, allow_pickle=True))
    data = opened(path, mapped=choice)
    if x.dtype.kind not in "biuf" or x.size == 0 or x.ndim == 0:
        assert data is None
    if data is not None:
        assert len(data.train) == len(x)
        with warnings.catch_warnings(action="ignore"):
            assert np.isfinite(x.astype(np.float32)).all() or x.dtype.kind in "iu"


@budget(300)
@given(
    st.dictionaries(
        st.sampled_from(["x", "y", "w", "x_test", "y_test", "x_valid", "index", "", "x_train"]),
        arrays(st.sampled_from([3, 3, 3, 2])),
        max_size=4,
    ),
    st.sampled_from(["none", "threshold", "dynamic"]),
)
def test_archives_of_every_dtype(folder, columns, binarise):
    path = folder / "typed.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in columns.items():
            archive.writestr(f"{name}.npy", npy(array, allow_pickle=True))
    data = opened(path, binarise=binarise)
    if data is not None and binarise != "none":
        assert set(data.train.snapshot().unique().tolist()) <= {0.0, 1.0}


@budget(500)
@given(arrays(), st.one_of(st.none(), arrays()), st.data())
def test_arrays_by_hand(x, y, draw):
    options = draw.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "valid": st.one_of(st.floats(), st.integers(-1, 9)),
                "test": st.one_of(st.floats(), st.integers(-1, 9), st.text(max_size=2)),
                "binarise": st.sampled_from(["none", "dynamic", "threshold", "auto", "", "no"]),
                "standardise": st.sampled_from([True, False, None, 1]),
                "seed": st.integers(-1, 2**70),
            },
        )
    )
    try:
        data = Data.from_arrays(x=x, y=y, **options)
    except ValueError as error:
        in_words(error)
        return
    sound(data)
    rows = sum(len(split) for split in (data.train, data.valid, data.test))
    assert rows == len(x), "every row is somewhere"


# --- tables ------------------------------------------------------------------------------------

TABLES = [
    b"a,b,label\n1,2,ant\n3,4,bee\n",
    b"1;2\n3;4.5\n5;-6e3\n",
    '\ufeff"size, cm",class\r\n"1.5",7\r\n2,9\r\n\r\n'.encode(),
    "höhe\ty\n1\tü\n2\tß\n".encode("latin-1"),
    "a,b\n1,2\n".encode("utf-16"),
    b"a\n1\n\n2\n",
]
CELLS = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(
        ["", " ", "nan", "NaN", "inf", "-inf", "1e999", "1_000", "0x10", "y", "a", '"']
    ),
    st.text(max_size=3),
)


@budget(500)
@given(mangled(TABLES))
def test_csv(folder, content):
    path = folder / "own.csv"
    path.write_bytes(content)
    opened(path)


@budget(500)
@given(
    st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=5),
    st.sampled_from([None, ["a", "b", "y"], ["a", "b"], ["a", "a"], ["label"]]),
    st.sampled_from(",;\t|"),
)
def test_tables_of_every_cell(folder, rows, header, delimiter):
    path = folder / "made.csv"
    lines = [delimiter.join(line) for line in ([header] if header else []) + rows]
    path.write_text("\n".join(lines), encoding="utf-8", errors="replace")
    data = opened(path)
    if data is not None and not any(set('"\r') & set(line) for line in lines):
        filled = [line for line in "\n".join(lines).split("\n") if line]
        assert len(filled) - 1 <= len(data.train) <= len(filled)
        filled = [row for row in rows[1:] if row != [""]]  # between wide rows they are passed over
        assert not any(cell in ("", "nan", "inf", "1_000") for row in filled for cell in row)


@budget(200)
@given(st.data())
def test_parquet(folder, draw):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = folder / "own.parquet"
    kinds = [
        st.floats(),
        st.integers(-(2**63), 2**63 - 1),
        st.booleans(),
        st.text(max_size=2),
        st.binary(max_size=2),
        st.decimals(-9, 9, places=2),
        st.datetimes(),
        st.lists(st.integers(0, 1), max_size=2),
    ]
    names = draw.draw(st.lists(st.sampled_from(["a", "b", "y", "label"]), max_size=3))
    rows = draw.draw(st.integers(0, 3))
    columns = []
    for _ in names:
        cells = draw.draw(st.sampled_from(kinds))
        holes = st.one_of(st.none(), cells) if draw.draw(st.integers(0, 3)) == 0 else cells
        columns.append(pyarrow.array(draw.draw(st.lists(holes, min_size=rows, max_size=rows))))
    made = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_arrays(columns, names=names), made)
    path.write_bytes(made.getvalue())
    data = opened(path)
    assert data is None or len(data.train) == rows
    path.write_bytes(draw.draw(mangled([made.getvalue()])))
    opened(path)


# --- images and the published formats ----------------------------------------------------------


@budget(300)
@given(st.data())
def test_images(folder, draw):
    image = pytest.importorskip("PIL.Image")
    place = folder / "photos"
    place.mkdir(exist_ok=True)
    good = []
    for kind in ("png", "jpeg", "bmp", "gif", "ppm", "tiff"):
        made = io.BytesIO()
        image.fromarray(PIXELS[0]).save(made, kind)
        good.append(made.getvalue())
    ending = draw.draw(st.sampled_from(["png", "jpg", "bmp", "gif", "ppm", "tif"]))
    for path in place.iterdir():
        path.unlink()
    (place / "a.png").write_bytes(good[0])
    (place / f"b.{ending}").write_bytes(draw.draw(mangled(good)))
    data = opened(place)
    assert data is None or len(data.train) == 2


@budget(500)
@given(mangled([idx(PIXELS), gzip.compress(idx(PIXELS)), idx(np.array([-3, 500], ">i2"), 11)]))
def test_idx(content):
    try:
        array = read_idx(content, "own.gz")
    except ValueError as error:
        in_words(error, "own.gz")
    else:
        assert array.nbytes < 10_000


@budget(300)
@given(mangled([b"0 1 1\n1 0 0\n"]))
def test_amat(content):
    try:
        array = read_amat(content, "own.amat", pixels=3)
    except ValueError as error:
        in_words(error, "own.amat")
    else:
        assert array.shape == (len(content) // 6, 3)
        assert set(np.unique(array)) <= {0, 1}


# --- what claims to be large -------------------------------------------------------------------

HUGE = "(99999999, 9999, 4)"


def claims(folder):
    """Small files that promise terabytes."""
    small = npy(X)
    head = small.replace(b"(9, 3), }" + b" " * 10, f"{HUGE}, }}".encode())
    assert HUGE.encode() in head
    (folder / "a.npy").write_bytes(head)
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        archive.writestr("x.npy", head)
    with zipfile.ZipFile(folder / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", head + bytes(1 << 20))
    with zipfile.ZipFile(folder / "c.npz", "w") as archive:
        archive.writestr("x.npy", small)
    content = (folder / "c.npz").read_bytes()
    size = struct.pack("<I", len(small))
    (folder / "c.npz").write_bytes(content.replace(size, struct.pack("<I", 0xFFFFFFF0)))
    header = idx(np.zeros((1, 2, 2), np.uint8))[:4] + struct.pack(">III", 2**31, 2**31, 9)
    (folder / "d.idx").write_bytes(header)
    (folder / "e.idx").write_bytes(gzip.compress(header + bytes(1 << 24)))
    image = pytest.importorskip("PIL.Image")
    made = io.BytesIO()
    image.fromarray(PIXELS[0]).save(made, "png")
    png = bytearray(made.getvalue())
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    import zlib

    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    (folder / "f").mkdir()
    (folder / "f" / "a.png").write_bytes(png)
    return [folder / name for name in ("a.npy", "a.npz", "b.npz", "c.npz", "d.idx", "e.idx", "f")]


def test_a_promise_of_terabytes_takes_no_memory(tmp_path):
    """Each file is read in a process that may take half a gigabyte more than it has."""
    script = """
        import resource
        from pathlib import Path
        from PIL import Image
        from priory.data import Data
        from priory.data.readers import read_idx

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 29),) * 2)
        for path in paths:
            for mapped in (None, True):
                try:
                    if path.suffix == ".idx":
                        read_idx(path.read_bytes(), str(path))
                    else:
                        Data.from_file(path, mapped=mapped)
                    print(f"{path} was read")
                except ValueError as error:
                    if path.name not in str(error) or "allocate" in str(error):
                        print(path, error)
    """
    code, out, err = told(script, tmp_path, paths=claims(tmp_path))
    assert (code, out) == (0, ""), err


def test_a_bomb_of_zeros_is_refused_by_its_size(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    path.write_bytes(npz(True, x=np.zeros((1000, 1000), np.uint8)))
    assert path.stat().st_size < 2000
    monkeypatch.setattr("priory.data.files.memory", lambda: 100_000)
    with pytest.raises(ValueError, match=r"bomb.npz: .*1,000,128 bytes, more than there is memory"):
        Data.from_file(path)


def test_memory_of_this_process_is_bounded_while_a_packed_file_is_read():
    """Sixty-four megabytes of zeros behind a header that promises twelve bytes."""
    bomb = gzip.compress(idx(np.zeros((1, 3, 4), np.uint8)) + bytes(1 << 26))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="needs 12 bytes, the file has more"):
            read_idx(bomb, "bomb.gz")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
