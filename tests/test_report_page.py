"""What comes first on a page: samples, the main figure with intervals, what to do; and its size."""

import ast
import io
import json
import pickle
import re
from base64 import b64decode
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from scipy import stats

import priory
from priory.evaluation import (
    Doubt,
    Entry,
    Estimate,
    Imputed,
    Remedy,
    Report,
    Scores,
    comparison_table,
    mean_record,
)
from priory.evaluation.remedies import by_remedy
from priory.evaluation.report import comparison
from priory.evaluation.report.gallery import Gallery
from priory.evaluation.report.paired import mean_interval


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


SAID = [
    ("nll", Doubt("take a larger K", Remedy.SAMPLES)),
    ("calibration", Doubt("the guide's posterior is too narrow", Remedy.GUIDE)),
    ("ais", Doubt("k-hat above 0.7: the guide's posterior", Remedy.SAMPLES)),
    ("own", Doubt("a word of a metric of one's own", Remedy.CARE)),
]


def test_warnings_are_grouped_by_the_remedy_that_they_carry():
    more, richer, ais, own = SAID
    groups = by_remedy([richer, own, more, ais])
    assert [*groups.items()] == [
        (Remedy.SAMPLES, [more, ais]),
        (Remedy.GUIDE, [richer]),
        (Remedy.CARE, [own]),
    ], "whatever the text says"


def test_a_warning_keeps_its_remedy_in_copies_files_and_pages():
    doubts = tuple(doubt for _, doubt in SAID)
    record = replace(mean_record("nll", torch.ones(3), seed=0, kind="exact"), warnings=doubts)
    report = Report((record,))
    copies = [
        pickle.loads(pickle.dumps(report)),
        deepcopy(report),
        Report.from_dict(json.loads(json.dumps(report.as_dict()))),
    ]
    for copy in copies:
        found = copy["nll"].warnings
        assert found == doubts
        assert [d.remedy for d in found] == [d.remedy for d in doubts]
    table = comparison_table([Entry("own", 0, report)])
    assert [doubt.remedy for _, doubt in table.warnings] == [Remedy.SAMPLES]
    assert table.html().count(Remedy.SAMPLES.value) == 1


def test_a_report_of_an_older_version_is_read():
    values = Report((mean_record("nll", torch.ones(3), seed=0, kind="exact"),)).as_dict()
    unknown = {"text": "of a newer version", "remedy": "ELSE"}
    values["records"][0]["warnings"] = ["take a larger K", unknown]
    found = Report.from_dict(values)["nll"].warnings
    assert found == ("take a larger K", "of a newer version")
    assert {doubt.remedy for doubt in found} == {Remedy.CARE}


def test_a_metrics_warning_without_a_remedy_is_refused():
    record = mean_record("nll", torch.ones(3), seed=0, kind="exact")
    with pytest.raises(ValueError, match="nll: a warning is a Doubt"):
        replace(record, warnings=("K is too small",))


def calls_of_doubt():
    """Yield the place and the call of each warning that the judge can make."""
    for path in sorted(Path(priory.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if called and node.func.id == "Doubt":
                yield f"{path.name}:{node.lineno}", node


def test_each_warning_of_the_judge_carries_a_remedy():
    remedies = {}
    for place, call in calls_of_doubt():
        assert len(call.args) == 2, f"{place}: a warning has a text and a remedy"
        remedies[place] = ast.unparse(call.args[1])
    kept = {place for place, remedy in remedies.items() if remedy == "first.remedy"}
    assert {place.partition(":")[0] for place in kept} == {"comparison.py"}
    given = {remedy for place, remedy in remedies.items() if place not in kept}
    assert given == {f"Remedy.{remedy.name}" for remedy in Remedy}, "each given, and no other"


def test_no_metric_warns_by_a_text_alone():
    """What stands after `warnings=` is of doubts: the types say so, for whoever looks."""
    for made in (Estimate, Scores, Imputed):
        assert get_type_hints(made)["warnings"] == tuple[Doubt, ...]
