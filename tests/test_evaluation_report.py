"""Records, tables, pages and pictures."""

import base64
import json
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch

from priory.evaluation import (
    METRICS,
    Comparison,
    Doubt,
    Entry,
    Gallery,
    Record,
    Remedy,
    Report,
    comparison_table,
    evaluate,
    mean_record,
    not_applicable,
)
from priory.evaluation.record import format_value
from priory.evaluation.report.canvas import tile
from priory.evaluation.report.gallery import draw


def record(name="nll", value=86.3471, se=0.1123, kind="upper bound"):
    return Record(value, se, 100, kind, "nats", name=name, particles=50, note="a <b>")


def report(*values, gallery=None):
    records = [record(value=v) for v in values or (86.3471,)]
    records.append(not_applicable("kl", "the guide is <deterministic>", n=100))
    return Report(tuple(records), "VAE", "digits", n=100, seconds=1.5, gallery=gallery)


class Page(HTMLParser):
    """Collects a page's text and pictures, and checks that its tags close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.texts = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        needed = [value for name, value in attrs if name in ("src", "href")]
        assert all(value.startswith("data:") for value in needed), "the page needs another file"
        if tag not in ("img", "meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


class Frame(HTMLParser):
    """Reads the page out of a notebook's frame."""

    def __init__(self, text):
        super().__init__()
        self.page = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        assert tag == "iframe"
        self.page = dict(attrs)["srcdoc"]


def test_a_record_cannot_contradict_itself():
    with pytest.raises(ValueError, match="kind must be one of"):
        record(kind="rough")
    with pytest.raises(ValueError, match="if and only if"):
        record(value=None)
    with pytest.raises(ValueError, match="value is nan"):
        record(value=float("nan"))
    with pytest.raises(ValueError, match="needs its reason"):
        not_applicable("nll", "")
    assert str(record()) == "nll = 86.35 ± 0.11 nats (upper bound, K = 50, n = 100)"
    assert str(not_applicable("nll", "no x")) == "nll: not applicable (no x)"


@pytest.mark.parametrize(
    ("value", "se", "text"),
    [
        (86.3471, 0.1123, "86.35 ± 0.11"),
        (-1234.5, 21.3, "-1234 ± 21"),
        (0.000123, 0.000031, "0.000123 ± 0.000031"),
        (3.2e-9, 1.1e-9, "3.20e-09 ± 1.1e-09"),
        (1.5, 0.0, "1.5 ± 0"),
        (25.0, None, "25"),
    ],
)
def test_values_are_rounded_to_their_error(value, se, text):
    assert format_value(value, se) == text


def test_mean_record_has_the_standard_error_of_the_mean():
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])
    found = mean_record("nll", values, seed=0, kind="unbiased")
    assert found.value == 3.0
    assert found.se == pytest.approx(float(values.std()) / 2)
    assert found.n == 4


def test_the_text_table_is_aligned_and_grouped():
    records = [record(), record("mmd"), record("mmd_real"), record("mmd_baseline"), record("own")]
    made = Report((*records, not_applicable("kl", "no <density>")), n=100)
    lines = str(made).splitlines()
    head, nll, mmd, own = lines[3], lines[6], lines[8], lines[10]
    assert lines[5:11:2] == ["likelihood", "samples", "other"]
    assert head.index("obtained") == nll.index("upper") == mmd.index("upper") == own.index("upper")
    assert mmd.split()[:8] == ["mmd", "↓", "86.35", "±", "0.11", "nats", "86.35", "86.35"]
    assert "  kl: no <density>" in lines
    assert all(len(line) <= 100 for line in lines)


def test_a_long_report_is_no_wall_of_text():
    words = ("needs labels", "the guide has no density", "there are no training rows")
    records = [not_applicable(f"metric_{i}", words[i % 3]) for i in range(45)]
    doubts = (Doubt("too few effective samples: take a larger K", Remedy.SAMPLES),)
    doubted = replace(record(), warnings=doubts)
    twins = [replace(record(f"twin_{i}"), note="the same " * 30) for i in range(15)]
    text = str(Report((doubted, *twins, *records)))
    lines = text.splitlines()
    assert len(lines) < 55
    assert all(len(line) <= 100 for line in lines)
    assert sum(text.count(word) for word in words) == 3, "each reason stands once"
    assert sum("too few effective" in line for line in lines) == 1
    assert lines[lines.index(f"  ! {doubts[0]}") - 1].startswith("  nll ↓")
    assert text.count("the same the same") < 20, "a note that several share stands once"


def test_a_report_is_read_by_name():
    assert report()["nll"].value == 86.3471
    assert "kl" in report()
    with pytest.raises(KeyError, match="did you mean 'nll'"):
        report()["nlll"]


def test_json_round_trip(tmp_path):
    path = report().to_json(tmp_path / "report.json")
    assert Report.from_json(path) == report()
    with pytest.raises(ValueError, match="schema"):
        Report.from_dict({**json.loads(path.read_text()), "schema": 99})


def gallery(*shape, labels=True):
    draw_ = torch.Generator().manual_seed(0)
    x = torch.rand(100, *shape, generator=draw_)
    z = torch.randn(100, 4, generator=draw_)
    return Gallery(
        x=x,
        generated=x[:64],
        reconstructed=(x[:64], x[:64] * 0.9),
        latents=z,
        labels=torch.arange(100) % 10 if labels else None,
        prior=torch.randn(50, 4, generator=draw_),
        bounds=torch.randn(100, generator=draw_),
        history=tuple({"epoch": i, "loss": 9.0 - i, "bound": i - 8.0} for i in range(5)),
    )


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 4), (2,), (1,), (7,), ()])
def test_page_embeds_every_picture(shape, tmp_path):
    made = report(gallery=gallery(*shape))
    assert list(made.figures()) == ["Samples", "Reconstructions", "Latents", "Bounds", "Training"]
    page = Page(made.to_html(tmp_path / "report.html").read_text())
    assert len(page.images) == 5
    for image in page.images:
        head, _, data = image.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    assert "the guide is <deterministic>" in "".join(page.texts)


def test_a_notebook_shows_the_page_in_a_frame_of_its_own():
    made = report(gallery=gallery(2))
    assert Frame(made._repr_html_()).page == made.html()


@pytest.mark.parametrize("width", [1, 2, 5])
def test_latents_of_any_width_and_without_labels(width):
    z = torch.randn(30, width, generator=torch.Generator().manual_seed(0))
    assert list(draw(Gallery(latents=z))) == ["Latents"]
    assert list(draw(Gallery(latents=z, labels=torch.arange(30), prior=z))) == ["Latents"]


def test_pictures_leave_pyplot_alone():
    from matplotlib import rcParams

    before = dict(rcParams)
    draw(gallery(1, 8, 8))
    assert dict(rcParams) == before


def test_tile_puts_images_in_reading_order():
    x = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 2, 2) / 2
    grid = tile(x, columns=2)
    assert grid.shape == (5, 5, 1)
    assert (grid[0, 0], grid[0, 3], grid[3, 0], grid[3, 3]) == (0.0, 0.5, 1.0, 1.0)


def entries():
    return [
        Entry("normal", 0, report(90.0), 10.0),
        Entry("normal", 1, report(92.0), 12.0),
        Entry("vamp", 0, report(88.0, gallery=gallery(1, 8, 8)), 20.0),
    ]


def test_comparison_means_spread_and_best():
    table = comparison_table(entries())
    normal, vamp = table.rows
    assert normal.seeds == (0, 1)
    assert normal.seconds == 11.0
    assert normal.cells["nll"].value == 91.0
    assert normal.cells["nll"].spread == pytest.approx(2**0.5)
    assert vamp.cells["nll"].best
    assert not normal.cells["nll"].best
    assert "kl" not in table.metrics
    text = str(table)
    assert "91.00 ± 1.41" in text
    assert "88.00 (0.11)*" in text
    assert "over 2 seeds" in text


def test_comparison_does_not_rank_across_kinds():
    exact = Report((record(value=80.0, kind="exact"),), "Flow", "digits")
    table = comparison_table([Entry("a", 0, exact, 1.0), Entry("b", 0, report(), 1.0)])
    assert not any(row.cells["nll"].best for row in table.rows)


def test_comparison_says_why_a_cell_is_empty():
    gan = Report((not_applicable("nll", "no density"), record("mmd")), "GAN", "digits")
    table = comparison_table([Entry("gan", 0, gan, 1.0), Entry("vae", 0, report(), 1.0)])
    assert "nll: n/a for gan: no density" in str(table)
    assert "mmd: n/a for vae: not measured" in str(table)


def test_a_wide_comparison_is_split():
    wide = Report(tuple(record(name) for name in METRICS), "VAE", "digits")
    lines = str(comparison_table([Entry("one", 0, wide, 1.0), Entry("two", 0, wide, 1.0)]))
    assert all(len(line) <= 110 for line in lines.splitlines())
    assert all(name.replace("_", " ") in lines for name in METRICS)


def test_the_anchors_stand_beneath_the_table():
    reports = [
        Report((record("mmd", v), record("mmd_real", 0.5), record("mmd_baseline", 99.0)))
        for v in (1.0, 2.0)
    ]
    table = comparison_table([Entry(str(i), 0, r) for i, r in enumerate(reports)])
    assert table.metrics == ("mmd",)
    lines = str(table).splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["0", "1"]
    assert [line.split() for line in lines[4:6]] == [
        ["(real", "data)", "0.50", "±", "0.11"],
        ["(baseline)", "99.00", "±", "0.11"],
    ]
    assert "seconds" not in lines[0], "not known, not shown"


def test_what_is_doubtful_is_said_beneath_the_table():
    sure, doubted = (
        record(value=1.0),
        replace(record(value=2.0), warnings=(Doubt("K is too small", Remedy.SAMPLES),)),
    )
    entries = [Entry(str(i), 0, Report((r,))) for i, r in enumerate((sure, doubted))]
    table = comparison_table(entries)
    assert table.warnings == [("nll", "1: K is too small")]
    assert "! nll, 1: K is too small" in str(table)
    assert "1: K is too small" in "".join(Page(table.html()).texts).replace("nll: ", "")


def test_hostile_text_stays_text(tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    bad = replace(record(), note=evil, warnings=(Doubt(evil, Remedy.CARE),), unit=evil)
    made = Report((bad, not_applicable("kl", evil)), pair=evil, data=evil)
    for text in (made.html(), comparison_table([Entry(evil, 0, made)] * 2).html()):
        page = Page(text)
        assert "onerror" not in str(page.images)
        assert text.count("<script") == 2, "the numbers and the page's own"
        assert json.loads(next(t for t in page.texts if t.startswith('{"schema"')))


def test_comparison_files(tmp_path):
    table = comparison_table(entries())
    page = Page(table.to_html(tmp_path / "table.html").read_text())
    assert len(page.images) == 6, "five pictures and the chart of the main figure"
    assert "91.00 ± 1.41" in page.texts
    again = Comparison.from_json(table.to_json(tmp_path / "table.json"))
    assert again.rows == table.rows
    with pytest.raises(ValueError, match="at least one entry"):
        comparison_table([])


def test_an_evaluation_fills_its_own_page():
    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x / 2, 0.7).to_event(1))

    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    history = [{"epoch": i, "loss": 3.0 - i / 10, "bound": i / 10 - 3.0} for i in range(4)]
    data = SimpleNamespace(
        name="toy",
        **{part: SimpleNamespace(columns={"x": x}) for part in ("train", "valid", "test")},
    )
    run = SimpleNamespace(
        pair=SimpleNamespace(model=model, guide=guide), data=data, history=history
    )
    made = evaluate(run, particles=5)
    figures = made.figures()
    assert {"Samples", "Reconstructions", "Latents", "Bounds", "Training"} <= figures.keys()
    assert len(Page(made.html()).images) == len(figures)
    assert made.title == "pair on toy"
    assert evaluate(run, particles=5, pictures=False).figures() == {}
