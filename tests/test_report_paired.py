"""Paired differences: what is told apart, what is not, and with what right."""

import math
from dataclasses import replace

import pytest
import torch

from priory.evaluation import Comparison, Entry, Report, comparison_table, mean_record
from priory.evaluation.report.paired import _contrast, paired_differences
from priory.evaluation.rows import digest_of


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n, seed=0):
    return torch.randn(n, generator=stream(seed), dtype=torch.float64)


def entry(label, values, seed=0, digest="", metric="nll", **facts):
    facts = {"kind": "upper bound", "particles": 50, "seed": 0, **facts}
    found = mean_record(metric, values, **facts)
    return Entry(label, seed, Report((found,), n=len(values), digest=digest))


def test_value_error_interval_and_p_are_those_of_the_paired_t_test():
    from scipy import stats

    rows = 10.0 * noise(60)
    a, b = rows + 0.3 * noise(60, 1) + 0.1, rows + 0.3 * noise(60, 2)
    (found,) = paired_differences([entry("a", a), entry("b", b)], "nll", against="b")
    test = stats.ttest_rel(a.numpy(), b.numpy())
    low, high = test.confidence_interval(0.95)
    assert (found.label, found.against, found.n, found.seeds) == ("a", "b", 60, (1, 1))
    assert found.value == pytest.approx(float((a - b).mean()), abs=1e-12)
    assert found.se == pytest.approx(float((a - b).std()) / math.sqrt(60))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.p == pytest.approx(test.pvalue)
    assert found.correlation == pytest.approx(float(torch.corrcoef(torch.stack([a, b]))[0, 1]))
    assert found.seeds_se is None


def test_pairing_tells_apart_what_the_means_cannot():
    rows = 10.0 * noise(500)
    a, b = entry("a", rows), entry("b", rows + 0.1 + 0.2 * noise(500, 1))
    (found,) = paired_differences([a, b], "nll")
    assert (found.label, found.against, found.verdict) == ("b", "a", "worse")
    unpaired = math.hypot(a.report["nll"].se, b.report["nll"].se)
    assert abs(found.value) < unpaired, "by the means alone there is nothing to see"
    assert found.se < unpaired / 20
    assert found.correlation > 0.99


def test_the_word_follows_the_metrics_direction():
    low, high = noise(200), noise(200) + 1.0 + 0.1 * noise(200, 1)
    words = {}
    for metric in ("nll", "elbo", "kl"):
        runs = [entry(n, v, metric=metric, kind="biased") for n, v in (("l", low), ("h", high))]
        found = paired_differences(runs, metric, against="l")
        words[metric] = [d.verdict for d in found]
    assert words == {"nll": ["worse"], "elbo": ["better"], "kl": ["higher"]}


def test_equal_runs_are_not_distinguishable():
    values = noise(50)
    (found,) = paired_differences([entry("a", values), entry("b", values)], "nll")
    assert (found.value, found.p, found.verdict) == (0.0, 1.0, "not distinguishable")
    (shifted,) = paired_differences([entry("a", values), entry("b", values + 1.0)], "nll")
    assert shifted.p < 1e-12
    assert shifted.verdict == "worse"


def test_false_findings_keep_to_the_level():
    """Six equal labels: the best, chosen by the same rows, seldom beats any other."""
    trials, false, bare = 200, 0, 0
    for trial in range(trials):
        values = torch.randn(6, 40, generator=stream(trial), dtype=torch.float64)
        runs = [entry(str(i), row) for i, row in enumerate(values)]
        found = paired_differences(runs, "nll")
        false += any(d.verdict != "not distinguishable" for d in found)
        bare += any(d.p < 0.05 for d in found)
    assert false / trials < 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
    assert bare / trials > 0.15, "without the correction they would be many"


def test_intervals_over_seeds_cover_what_new_seeds_and_rows_would_give():
    """Both labels are equal recipes; each run is off by its seed's luck, each row by its own."""
    trials, rows_only, both = 200, 0, 0
    for trial in range(trials):
        draw = torch.randn(2, 5, 1, generator=stream(trial), dtype=torch.float64)
        own = 0.5 * torch.randn(2, 5, 80, generator=stream(1000 + trial), dtype=torch.float64)
        values = 0.2 * draw + own + 3.0 * noise(80, trial)
        runs = [entry("ab"[i], values[i, s], seed=s) for i in range(2) for s in range(5)]
        (found,) = paired_differences(runs, "nll", against="a")
        assert found.seeds == (5, 5)
        assert found.se == pytest.approx(math.hypot(found.rows_se, found.seeds_se))
        both += found.low <= 0.0 <= found.high
        rows_only += abs(found.value) <= 1.96 * found.rows_se
    assert both / trials > 0.95 - 3 * math.sqrt(0.05 * 0.95 / trials)
    assert rows_only / trials < 0.8, "the rows alone do not know the seeds' luck"


@pytest.mark.parametrize(
    ("counts", "seeds", "rows"),
    [((2, 2), (1.0, 0.0), 0.02), ((2, 2), (1.0, 0.1), 0.1), ((2, 10), (1.0, 1.0), 0.0)],
)
def test_equal_recipes_are_told_apart_at_most_at_the_level(counts, seeds, rows):
    """Of few seeds, whatever the true spreads of the two recipes and of the rows are."""
    trials, n, draw = 500, 20, stream()
    real = {"generator": draw, "dtype": torch.float64}
    rejected = missed = 0
    for _ in range(trials):
        noise_of_rows = rows * n**0.5 * torch.randn(n, **real)
        shifts = [s * torch.randn(c, 1, **real) for s, c in zip(seeds, counts, strict=True)]
        found = _contrast(shifts[0] + noise_of_rows, shifts[1] + torch.zeros(n))
        rejected += found["p"] <= 0.05
        missed += not found["low"] <= 0.0 <= found["high"]
    assert rejected == missed, "the p-value and the interval are one rule"
    assert rejected <= trials * 0.05 + 3 * (trials * 0.05 * 0.95) ** 0.5


def test_a_p_value_is_the_level_at_which_the_interval_reaches_zero():
    from scipy.stats import t

    a = torch.tensor([[0.0, 1.0], [2.0, 3.5]]).double()
    b = torch.zeros(1, 2).double()
    found = _contrast(a, b)
    parts = ((found["rows_se"], 1), (found["seeds_se"], 1))
    square = sum((se * t.isf(found["p"] / 2, freedom)) ** 2 for se, freedom in parts)
    assert math.sqrt(square) == pytest.approx(found["value"])
    assert _contrast(a + 1e9 * (a.new_ones(2, 1)), b)["p"] < 1e-8
    assert _contrast(noise(5000)[None] / 1e3 + 1.0, torch.zeros(1, 5000))["p"] == 0.0


def test_the_order_of_runs_and_labels_changes_nothing_but_the_order():
    runs = [entry(name, noise(30, i) + i) for i, name in enumerate("abc")]
    forth = {d.label: d for d in paired_differences(runs, "nll")}
    back = {d.label: d for d in paired_differences(runs[::-1], "nll")}
    assert forth.keys() == back.keys()
    for label, found in forth.items():
        assert found.value == pytest.approx(back[label].value)
        assert found.adjusted == pytest.approx(back[label].adjusted)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"values": noise(29)}, "different numbers of rows: 30, 29"),
        ({"values": noise(30), "kind": "exact"}, "different kinds: upper bound, exact"),
        ({"values": noise(30), "particles": 5}, "different K: 50, 5"),
        ({"values": noise(30), "steps": 7}, "different steps: None, 7"),
        ({"values": noise(30), "seed": 3}, "different seeds of the evaluation: 0, 3"),
    ],
)
def test_what_cannot_be_paired_says_why(change, reason):
    values, facts = change.pop("values"), dict(change)
    facts = {"kind": "upper bound", "particles": 50, "seed": 0, **facts}
    other = Entry("b", 0, Report((mean_record("nll", values, **facts),)))
    (found,) = paired_differences([entry("a", noise(30)), other], "nll")
    assert found.value is None
    assert reason in found.note
    assert reason in " ".join(str(comparison_table([entry("a", noise(30)), other])).split())


def test_values_are_needed_and_their_mean_must_be_the_value():
    a, b = entry("a", noise(30)), entry("b", noise(30, 1))
    bare = replace(b, report=Report((replace(b.report["nll"], values=None),)))
    assert "no values by test row" in paired_differences([a, bare], "nll")[0].note
    other = replace(b, report=Report((replace(b.report["nll"], value=5.0),)))
    assert "not the mean" in paired_differences([a, other], "nll")[0].note
    assert paired_differences([a], "nll") == ()
    assert paired_differences([a, b], "mmd") == ()
    with pytest.raises(ValueError, match="against must be one of a, b, got 'c'"):
        paired_differences([a, b], "nll", against="c")


def test_runs_judged_on_different_rows_are_refused():
    first, second = noise(20), noise(20, 1)
    digests = [digest_of({"x": x}) for x in (first, second)]
    runs = [
        Entry(f"run{i}", 0, entry("", first, digest=d).report, None) for i, d in enumerate(digests)
    ]
    with pytest.raises(ValueError, match=r"different rows: run0 on 20 .* and run1 on 20"):
        comparison_table(runs)
    same = [entry("", noise(20, i), digest=digests[0]).report for i in range(2)]
    table = comparison_table([Entry("run0", 0, same[0], 3.0), Entry("run1", 0, same[1], None)])
    assert [row.label for row in table.rows] == ["run0", "run1"]
    assert [row.seconds for row in table.rows] == [3.0, None]
    with pytest.raises(ValueError, match="at least one entry"):
        comparison_table([])


def test_the_digest_knows_rows_alone():
    x = noise(5000).float()
    assert digest_of({"x": x}) == digest_of({"x": x.double(), "y": torch.zeros(5000)})
    assert digest_of({"x": x}) != digest_of({"x": x.flip(0)})
    assert digest_of({"x": x}) != digest_of({"x": x[:-1]})
    assert digest_of({"x": x}) != digest_of({"x": x.view(2500, 2)})
    assert len(digest_of({"a": x})) == 64


def test_differences_are_shown_and_survive_a_file(tmp_path):
    runs = [entry("good", noise(200)), entry("bad", noise(200) + 1.0 + 0.1 * noise(200, 1))]
    table = comparison_table(runs)
    text = str(table)
    head = text.index("Differences from the best (paired, same test rows)")
    assert "bad" in text[head:]
    assert "< 0.001  worse" in text[head:]
    assert "another seed" in " ".join(text.split()), "one seed each: said in words"
    assert all(len(line) <= 110 for line in text.splitlines())
    page = table.html()
    assert "<b>bad</b> against good" in page
    assert '<td class="worse"' in page
    again = Comparison.from_json(table.to_json(tmp_path / "table.json"))
    assert again.differences == table.differences
    assert again.rows == table.rows
    assert str(again) == text
