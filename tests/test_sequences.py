"""Sequences of different lengths: a set that was observed, tables of steps, and an oracle."""

import numpy as np
import pytest
import torch

from priory import evaluate, load
from priory.cli import main
from priory.data import Data
from priory.data.sunspots import FIRST_YEAR, SUNSPOT_NUMBERS

# --- the solar cycles ---------------------------------------------------------------------------

# In which the smoothed monthly numbers have their minima: the beginnings of cycles 1 to 24.
NUMBERED = (
    *(1755, 1766, 1775, 1784, 1798, 1810, 1823, 1833, 1843, 1855, 1867, 1878),
    *(1890, 1902, 1913, 1923, 1933, 1944, 1954, 1964, 1976, 1986, 1996, 2008),
)


def rows_of(data):
    """All rows of x, length and year, in the order of the years."""
    parts = [data.train.columns, data.valid.columns, data.test.columns]
    x, length, year = (torch.cat([part[n] for part in parts]) for n in ("x", "length", "year"))
    order = year.argsort()
    return x[order], length[order], year[order]


def test_the_cycles_are_those_between_the_minima_on_record():
    assert len(SUNSPOT_NUMBERS) == 2008 - FIRST_YEAR + 1
    numbers = dict(enumerate(SUNSPOT_NUMBERS, FIRST_YEAR))
    assert (numbers[1712], numbers[1957], numbers[2008]) == (0, 190.2, 2.9)
    x, length, year = rows_of(Data.named("sunspots"))
    assert x.shape == (27, 14, 1)
    assert (length.min(), length.max(), length.sum()) == (9, 14, 2008 - 1712)
    assert year[:4].tolist() == [1712, 1723, 1733, 1744]
    ends = year[4:].tolist(), (year + length)[3:].tolist()
    assert ends[1] == [*ends[0], 2008]
    assert np.abs(np.array(ends[1]) - NUMBERED).max() <= 1
    assert (year + length)[:-1].tolist() == year[1:].tolist()
    for row, steps, first in zip(x[..., 0], length.tolist(), year.tolist(), strict=True):
        values = torch.tensor([numbers[first + i] for i in range(steps)])
        assert torch.equal(row, torch.nn.functional.pad(values, (0, 14 - steps)).float())
        before, after = numbers[first - 1], numbers[first + 1]
        assert numbers[first] <= before
        assert numbers[first] < after


def test_cycles_are_split_by_the_seed():
    data, again, other = (Data.named("sunspots", seed=s) for s in (0, 0, 1))
    assert [len(s) for s in (data.train, data.valid, data.test)] == [18, 4, 5]
    assert torch.equal(data.train.x, again.train.x)
    assert not torch.equal(data.test.x, other.test.x)
    few = Data.named("sunspots", valid=0, rows=3)
    assert [len(s) for s in (few.train, few.valid, few.test)] == [3, 0, 5]
    assert torch.equal(few.test.x, data.test.x)
    assert Data.open(**few.config).train.columns["year"].tolist() == sorted(
        few.train.columns["year"].tolist()
    )
    with pytest.raises(ValueError, match="valid=22 leaves no training rows: sunspots has 22"):
        Data.named("sunspots", valid=22)


def test_cycles_are_fitted_judged_and_drawn_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["fit", "hmm", "--data", "sunspots", "--states", "3", "--out", "run"])
    assert "sunspots: 18 train, 4 valid, 5 test; x (14, 1)" in capsys.readouterr().out
    main(["evaluate", "run", "--metrics", "nll", "--no-pictures"])
    main(["sample", "run", "--out", "drawn.npz"])
    run = load("run")
    assert run.pair.symbols == 0
    means = run.pair.mean.detach().flatten().sort().values
    assert means[0] < 15 < means[1] < 60 < means[2]  # quiet years, and those of the two slopes
    test = run.data.test.columns
    with torch.no_grad():
        truth = -run.pair.log_likelihood(test["x"], test["length"]).mean().item()
    assert evaluate(run, metrics=["nll"], pictures=False)["nll"].value == pytest.approx(truth)
    assert np.load("drawn.npz")["x"].shape == (64, 14, 1)
