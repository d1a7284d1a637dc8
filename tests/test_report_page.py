"""What comes first on a page: samples, the main figure with intervals, what to do; and its size."""

import io
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy import stats

import priory
from priory.evaluation import Entry, Report, comparison_table, mean_record
from priory.evaluation.report import comparison
from priory.evaluation.report.gallery import Gallery
from priory.evaluation.report.paired import mean_interval
from priory.evaluation.report.remedies import OTHER, REMEDIES, by_remedy, remedy


def entry(label, seed, shift=0.0, n=40, pictures=True):
    noise = torch.Generator().manual_seed(100 * seed + len(label))
    values = 20.0 + shift + torch.randn(n, generator=noise, dtype=torch.float64)
    images = torch.rand(8, 1, 6, 6, generator=noise)
    gallery = Gallery(x=images, generated=images) if pictures and not seed else None
    found = mean_record("nll", values, seed=0, kind="upper bound", unit="nats")
    return Entry(label, seed, Report((found,), n=n, gallery=gallery), 1.0)


@pytest.fixture(scope="module")
def table():
    labels = {"normal": 1.0, "vamp": 0.0}
    return comparison_table([entry(la, s, labels[la]) for la in labels for s in range(3)])


def test_samples_and_the_main_figure_come_before_the_tables(table):
    page = table.html()
    places = [page.index(part) for part in ("Samples</h3>", 'alt="nll ↓"', "<table", "<details")]
    assert places == sorted(places)
    assert page.count("Differences from the best") == 1
    assert "<details open" not in page


def test_pictures_have_few_colours_and_keep_their_greys(table):
    from PIL import Image

    drawn = re.findall(r'base64,([^"]*)"', table.html())
    sizes = [Image.open(io.BytesIO(b64decode(text))) for text in drawn]
    assert len(sizes) == 3
    assert all(image.mode == "P" for image in sizes)
    greys = {rgb for _, rgb in sizes[0].convert("RGB").getcolors(1000)}
    assert len(greys) > 30, "shades are not flattened"


def test_a_page_too_large_leaves_pictures_out_and_names_them(table, monkeypatch):
    monkeypatch.setattr(comparison, "_BYTES", 1000)
    page = table.html()
    assert "Samples</h3>" not in page
    assert "Left out, for the size of the page: samples." in page


@pytest.mark.parametrize("n", [5, 40])
def test_the_interval_of_one_seed_is_students(n):
    one = entry("normal", 0, n=n)
    values = one.report["nll"].values
    expected = stats.t.interval(0.95, n - 1, values.mean(), values.std() / n**0.5)
    assert mean_interval([one], "nll") == pytest.approx(expected)


def test_the_interval_over_seeds_holds_both_sources_of_chance():
    group = [entry("normal", s) for s in range(3)]
    rows = torch.stack([e.report["nll"].values for e in group])
    parts = [(rows.mean(0).var() / 40, 39), (rows.mean(1).var() / 3, 2)]
    width = sum(float(v) * stats.t.ppf(0.975, freedom) ** 2 for v, freedom in parts) ** 0.5
    low, high = mean_interval(group, "nll")
    assert (high - low) / 2 == pytest.approx(width)
    assert (high + low) / 2 == pytest.approx(float(rows.mean()))
    silent = [replace(e, report=Report((replace(e.report["nll"], values=None),))) for e in group]
    assert mean_interval(silent, "nll") is not None, "by the standard errors alone"
    bare = Report((replace(group[0].report["nll"], values=None, se=None),))
    assert mean_interval([replace(group[0], report=bare)], "nll") is None


def test_warnings_are_grouped_by_what_to_do():
    said = [
        ("nll", "15% of the data have fewer than 10 effective samples: take a larger K"),
        ("calibration", "the guide's posterior is too narrow in 4 of 16 dimensions"),
        ("ais", "looser than the K-sample bound on the same rows: take more steps"),
        ("own", "a word of a metric of one's own"),
    ]
    groups = by_remedy(said)
    more, richer, *_ = REMEDIES
    assert groups == {more: [said[0], said[2]], richer: [said[1]], OTHER: [said[3]]}


def test_every_phrase_of_the_remedies_is_said_somewhere():
    folder = Path(priory.__file__).parent / "evaluation"
    sources = [path for path in folder.rglob("*.py") if path.name != "remedies.py"]
    # A text may run over lines of the source: its parts stand in quotes.
    text = re.sub(r'"\n\s*f?"', "", "".join(path.read_text() for path in sources))
    phrases = [phrase for phrases in REMEDIES.values() for phrase in phrases]
    assert [phrase for phrase in phrases if phrase not in text] == []
    assert remedy("something else") == OTHER
