"""Sequences of different lengths: a set that was observed, tables of steps, and an oracle."""

import numpy as np
import pandas as pd
import pytest
import torch

from priory import evaluate, fit, load
from priory.cli import main
from priory.data import Data, Preparation
from priory.data.rows import prepared
from priory.data.sunspots import FIRST_YEAR, SUNSPOT_NUMBERS
from priory.inference import EM
from priory.models import HMM

QUIET = {"valid_every": 0, "progress": False}
WHOLE = {"valid": 0, "test": 0}

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


def test_the_states_begin_at_steps_and_not_in_the_padding(double):
    train = Data.named("sunspots").train.columns
    torch.manual_seed(0)
    pair = HMM(40)
    pair.build(train["x"])
    counted = torch.arange(14) < train["length"][:, None]
    steps = train["x"][counted]
    torch.testing.assert_close(pair.unit, steps.std(0, correction=0))
    apart = (pair.mean - steps.T).abs().amin(1)
    assert apart.max() < 0.5 * pair.unit
    torch.manual_seed(0)
    pair = HMM(40)
    pair.build(train["x"] + torch.where(counted, 1000.0, 0.0)[..., None])
    assert pair.mean.min() > 900
    empty = HMM(2, symbols=0)
    empty.build(torch.zeros(5, 3, 2))
    assert empty.mean.shape == (2, 2)


def test_four_states_have_one_likelihood_from_every_start(double):
    train = Data.named("sunspots").train.columns
    found = []
    for seed in range(4):
        torch.manual_seed(seed)
        pair = HMM(4)
        pair.build(train["x"])
        for _ in range(200):
            pair.maximise(train["x"], train["length"])
        found.append(pair.log_likelihood(train["x"], train["length"]).mean().item())
    assert max(found) - min(found) < 0.05


# --- tables of steps ----------------------------------------------------------------------------

# Three sequences of 3, 1 and 2 steps, whose rows are mixed.
STEPS = pd.DataFrame(
    {
        "id": ["b", "a", "b", "c", "b", "c"],
        "u": [1.5, 2.0, 3.0, 4.0, 5.0, 6.0],
        "kind": ["up", "down", "up", "down", "up", "down"],
        "v": [10, 20, 30, 40, 50, 60],
    }
)
PADDED = [[[1.5, 10], [3, 30], [5, 50]], [[2, 20], [0, 0], [0, 0]], [[4, 40], [6, 60], [0, 0]]]


def written(folder, name, frame):
    path = folder / name
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)
    return path


def opened(form, frame, folder, sequence="id", **options):
    """Data of a table in one of the forms that a table may have."""
    options = {**WHOLE, "sequence": sequence, **options}
    if form == "frame":
        return Data.from_arrays(frame, **options)
    return Data.open(written(folder, f"steps.{form}", frame), **options)


FORMS = pytest.mark.parametrize("form", ["csv", "parquet", "frame"])


@FORMS
def test_rows_of_a_sequence_are_one_datum_in_their_order(form, tmp_path):
    data = opened(form, STEPS.rename(columns={"kind": "label"}), tmp_path)
    train = data.train.columns
    assert train["x"].tolist() == PADDED
    assert train["length"].tolist() == [3, 1, 2]
    assert [data.classes[i] for i in train["y"]] == ["up", "down", "down"]
    assert data.preparation.features == ("u", "v")
    assert "x (3, 2), sequences of 1 to 3 steps; labels down, up" in repr(data)


@FORMS
def test_one_column_of_integers_from_0_is_symbols(form, tmp_path):
    data = opened(form, STEPS[["v", "id"]], tmp_path)
    assert data.train.x.tolist() == [[10, 30, 50], [20, 0, 0], [40, 60, 0]]
    for other in (STEPS["v"] + 0.5, -STEPS["v"]):
        real = opened(form, pd.DataFrame({"id": STEPS["id"], "v": other}), tmp_path)
        assert real.train.x.shape == (3, 3, 1)


def test_sequences_may_be_numbered_and_times_and_columns_have_no_names(tmp_path):
    for ids in ([7, 3, 7, 9, 7, 9], pd.to_datetime([7, 3, 7, 9, 7, 9], unit="D")):
        frame = STEPS.assign(id=ids).drop(columns="kind")
        assert Data.from_arrays(frame, sequence="id", **WHOLE).train.x.tolist() == PADDED
    lines = STEPS.assign(id=[7, 3, 7, 9, 7, 9]).drop(columns="kind")
    path = tmp_path / "bare.csv"
    lines.to_csv(path, index=False, header=False)
    bare = Data.open(path, sequence="1", **WHOLE)
    assert bare.train.x.tolist() == PADDED
    assert bare.preparation.features == ()
    STEPS.drop(columns="kind").to_csv(path)  # with pandas' row numbers, which are no feature
    assert Data.open(path, sequence="id", **WHOLE).train.x.tolist() == PADDED


def test_frames_of_the_splits_have_one_shape(tmp_path):
    frame = STEPS.drop(columns="kind")
    few = pd.DataFrame({"v": [1], "u": [2], "id": ["d"]})
    data = Data.from_arrays(
        few, x_test=frame, valid=0, sequence="id", weight=[2.0], weight_test=[1, 1, 2]
    )
    assert data.train.x.tolist() == [[[1, 2], [0, 0], [0, 0]]]
    assert data.test.x.flip(-1).tolist() == PADDED
    assert data.test.columns["weight"].tolist() == [1, 1, 2]
    with pytest.raises(ValueError, match="x_test has the columns u, and x v, u"):
        Data.from_arrays(few, x_test=frame[["id", "u"]], sequence="id")
    with pytest.raises(ValueError, match="y is given twice, as an argument and by the frame"):
        Data.from_arrays(few.assign(y=1), [1], sequence="id")


def test_sequences_are_split_whole_and_opened_again(tmp_path):
    frame = pd.DataFrame({"id": np.arange(400) % 40, "u": np.arange(400) / 7})
    data = Data.open(written(tmp_path, "steps.csv", frame), sequence="id", seed=3)
    assert [len(s) for s in (data.train, data.valid, data.test)] == [32, 4, 4]
    steps = torch.cat([s.x for s in (data.train, data.valid, data.test)])
    torch.testing.assert_close(steps.diff(dim=1), torch.full((40, 9, 1), 40 / 7))
    again = Data.open(**data.config)
    assert again.config == data.config
    assert torch.equal(again.test.x, data.test.x)
    kept = data.preparation
    assert kept.padded
    assert kept.sequence == "id"
    assert Preparation.from_config(kept.to_config()) == kept


def changed(**columns):
    return STEPS.drop(columns="kind").assign(**columns)


@FORMS
@pytest.mark.parametrize(
    ("frame", "sequence", "message"),
    [
        (changed(), "idd", "unknown column 'idd', nearest 'id'; the names are id, u, v"),
        (changed(u=[1, 2, np.nan, 4, 5, 6]), "id", r"column 'u' has .* in row 2, of sequence 'b'"),
        (changed(u=list("123x56")), "id", r"column 'u' has 'x' in row 3, of sequence 'c'"),
        (changed(id=["b", None, "b", "c", "b", "c"]), "id", r"'id' is empty in row 1"),
        (
            changed(y=[1, 0, 1, 0, 2, 0]),
            "id",
            "'y' changes within sequence 'b': 1 in row 0, 2 in row 4",
        ),
        (changed(y=["p", "q", "p", None, "p", "q"]), "id", "'y' changes .* 'c': none in row 3, q"),
        (STEPS[["id"]], "id", r"no feature beside the columns \['id'\]"),
        (changed(), "", "sequence must be the name of a column, got ''"),
    ],
)
def test_tables_that_make_no_sequences_are_refused(form, frame, sequence, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        opened(form, frame, tmp_path, sequence)


def test_what_is_no_table_has_no_column_of_sequences(tmp_path, capsys):
    np.savez(tmp_path / "own.npz", x=np.zeros((4, 3)))
    (tmp_path / "images").mkdir()
    for path in (tmp_path / "own.npz", tmp_path / "images"):
        with pytest.raises(ValueError, match="sequence='id' names a column of a table"):
            Data.open(path, sequence="id")
        assert main(["fit", "hmm", "--data", str(path), "--sequence", "id"]) == 2
        assert "names a column of a table" in capsys.readouterr().err
    with pytest.raises(ValueError, match="or a data frame, and x is none; give x and length"):
        Data.from_arrays(np.zeros((4, 3)), sequence="id")
    with pytest.raises(ValueError, match="'id' holds no text, numbers or times"):
        Data.from_arrays(STEPS.assign(id=[[1]] * 6), sequence="id")
    with pytest.raises(ValueError, match="unknown option for sunspots 'sequence'"):
        Data.open("sunspots", sequence="id")
    with pytest.raises(ValueError, match="standardise=True is for tables whose rows are data"):
        Data.from_arrays(STEPS, sequence="id", standardise=True)


# --- new sequences ------------------------------------------------------------------------------


def walks(rows=60, seed=0, steps=(3, 9), columns=("u", "v")):
    """A frame of random walks between two levels, of different lengths."""
    draw = np.random.default_rng(seed)
    frames = []
    for i in range(rows):
        n = draw.integers(*steps)
        level = (np.cumsum(draw.random(n) < 0.3) + draw.integers(2)) % 2
        noise = draw.normal(size=(n, 2))
        frames.append(
            pd.DataFrame({"id": f"s{i}", "u": level * 4 + noise[:, 0], "v": noise[:, 1] * 9})
        )
    return pd.concat(frames)[["id", *columns]]


def trained(folder, frame, **options):
    data = Data.open(written(folder, "train.csv", frame), sequence="id", valid=0, test=0, **options)
    return fit(HMM(2), EM(), data, steps=30, folder=folder / "run", seed=1, **QUIET)


def by_hand(run, frame):
    """Mean log p of a frame's sequences, each alone."""
    total = []
    for _, steps in frame.groupby("id", sort=False):
        x = torch.zeros(1, *run.data.shape)
        x[0, : len(steps)] = torch.tensor(steps[["u", "v"]].to_numpy()).float()
        with torch.no_grad():
            total.append(run.pair.log_likelihood(x, torch.tensor([len(steps)])).item())
    return sum(total) / len(total)


@pytest.mark.parametrize("form", ["csv", "parquet", "frame", "data", "wide"])
def test_new_sequences_are_prepared_as_the_training_rows(form, tmp_path):
    run = trained(tmp_path, walks())
    new = walks(20, seed=1, steps=(2, 6))
    other = new[["v", "id", "u"]]  # shorter, and in another order
    given = other
    if form in ("csv", "parquet"):
        given = Data.open(written(tmp_path, f"new.{form}", other), sequence="id", **WHOLE)
        assert given.shape == (5, 2)
    elif form == "data":
        given = Data.from_arrays(other, sequence="id", **WHOLE)
    elif form == "wide":  # padded further than the training rows
        made = Data.from_arrays(new, sequence="id", **WHOLE).train.columns
        given = {
            "x": np.pad(made["x"].numpy(), ((0, 0), (0, 9), (0, 0))),
            "length": made["length"].numpy(),
        }
    report = evaluate(
        load(tmp_path / "run"),
        given,
        split="train" if isinstance(given, Data) else "test",
        metrics=["nll"],
        pictures=False,
    )
    assert report["nll"].value == pytest.approx(-by_hand(run, new), rel=1e-5)


def test_new_files_are_read_by_the_runs_own_column(tmp_path, capsys):
    run = trained(tmp_path, walks())
    new = walks(20, seed=1, steps=(2, 6))
    path = written(tmp_path, "new.csv", new[["v", "id", "u"]])
    found = prepared(path, run.preparation)
    assert found.train.x.shape[1:] == run.data.shape
    words = ["evaluate", tmp_path / "run", "--data", path, "--valid", 0, "--test", 0]
    words += ["--split", "train", "--metrics", "nll", "--no-pictures"]
    assert main([str(word) for word in words]) == 0
    assert f"nll ↓  {-by_hand(run, new):.1f}" in capsys.readouterr().out
    new["id"] = "all of them"
    for given in (new, Data.from_arrays(new, sequence="id", **WHOLE)):
        with pytest.raises(
            ValueError, match=f"a sequence has {len(new)} steps, and the longest one .* 8"
        ):
            prepared(given, run.preparation)
    written(tmp_path, "new.csv", new)
    assert main([str(word) for word in words]) == 1
    assert "the longest one of the training data 8" in capsys.readouterr().err
    with pytest.raises(ValueError, match="they don't have 'v'"):
        prepared(walks(5, columns=["u"]), run.preparation)
    with pytest.raises(ValueError, match="open a table with sequence='id'"):
        prepared(Data.from_arrays(walks(5)[["u", "v"]], **WHOLE), run.preparation)


def test_a_length_beyond_the_given_steps_is_refused_and_not_padded(tmp_path):
    run = trained(tmp_path, walks())
    with pytest.raises(ValueError, match="from 1 to 4, got 2 to 6"):
        prepared({"x": np.zeros((2, 4, 2)), "length": [2, 6]}, run.preparation)


def test_values_far_from_zero_are_centred_alike_at_every_step(tmp_path):
    (tmp_path / "near").mkdir()
    near = trained(tmp_path / "near", walks())
    far = walks().assign(u=lambda frame: frame["u"] + 1e7)
    run = trained(tmp_path, far)
    mean = run.data.mean
    assert mean[:, 0].unique().tolist() == [pytest.approx(far["u"].mean(), rel=1e-14)]
    assert mean[:, 1].eq(0).all()
    train = run.data.train.columns
    behind = torch.arange(8) >= train["length"][:, None]
    assert train["x"][behind].eq(0).all()
    torch.testing.assert_close(run.data.train.x.var(), near.data.train.x.var(), rtol=0.2, atol=0)
    with torch.no_grad():
        twin, own = (r.pair.log_likelihood(r.data.train.x, train["length"]) for r in (near, run))
    torch.testing.assert_close(own.mean(), twin.mean(), rtol=1e-3, atol=0)
    new = walks(20, seed=1, steps=(2, 6)).assign(u=lambda frame: frame["u"] + 1e7)
    found = prepared(new, run.preparation)
    again = prepared(Data.from_arrays(new, sequence="id", **WHOLE), run.preparation).train
    torch.testing.assert_close(found["x"], again.x, atol=1e-3, rtol=0)
    assert found["x"][torch.arange(8) >= found["length"][:, None]].eq(0).all()
    assert found["x"].abs().max() < 50


def test_pixels_with_a_column_of_lengths_are_no_sequences():
    x = np.random.default_rng(0).integers(0, 256, (20, 6, 5), dtype=np.uint8)
    data = Data.from_arrays(x, length=np.arange(20) % 6 + 1, **WHOLE)
    assert not data.preparation.padded
    assert prepared({"x": x, "length": np.ones(20, int)}, data.preparation)["x"].shape == (
        20,
        1,
        6,
        5,
    )


# --- an oracle ----------------------------------------------------------------------------------


def twins(kind):
    """A pair with random parameters, its twin of hmmlearn, and sequences of different lengths."""
    hmm = pytest.importorskip("hmmlearn.hmm", reason="hmmlearn, of the extra peers, is the oracle")
    torch.manual_seed(5)
    length = torch.randint(1, 15, (40,))
    symbols = torch.randint(4, (40, 14)).to(torch.get_default_dtype())
    x = symbols if kind == "symbols" else 2 * torch.randn(40, 14, 2) + torch.arange(2)
    pair = HMM(3, symbols=4 if kind == "symbols" else 0)
    pair.build(x)
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.add_(torch.randn_like(parameter))
    options = {"n_components": 3, "n_iter": 1, "init_params": ""}
    if kind == "symbols":
        twin = hmm.CategoricalHMM(**options, n_features=4)
        twin.emissionprob_ = pair.logits.detach()[:, 0].softmax(-1).numpy()
    else:
        options |= {"covars_prior": 0, "covars_weight": 1, "means_weight": 0}  # priors off
        twin = hmm.GaussianHMM(**options, covariance_type="diag")
        twin.means_ = pair.mean.detach().numpy()
        twin.covars_ = pair.log_scale.detach().mul(2).exp().numpy()
    twin.startprob_ = pair.initial.detach().softmax(-1).numpy()
    twin.transmat_ = pair.transition.detach().softmax(-1).numpy()
    return pair, twin, x, length


def joined(x, length):
    """Sequences one after the other, without the padding, as hmmlearn takes them."""
    steps = [row[:n].reshape(int(n), -1).numpy() for row, n in zip(x, length, strict=True)]
    return np.concatenate(steps)


def along(pair, x, length, path):
    """Log p(x, states) of sequences along one path each, summed."""
    total = 0.0
    sequences = pair.sequences(length)
    shown = sequences.log_emissions(x)
    for row, states, n in zip(shown, path, length.tolist(), strict=True):
        states = states[:n]
        total += sequences.initial[states[0]] + row[range(n), states].sum()
        total += sequences.transition[states[:-1], states[1:]].sum()
    return total.item()


KINDS = pytest.mark.parametrize("kind", ["symbols", "normal"])


@KINDS
def test_likelihood_states_and_path_are_those_of_hmmlearn(double, kind):
    pair, twin, x, length = twins(kind)
    steps = joined(x, length)
    steps = steps.astype(int) if kind == "symbols" else steps
    with torch.no_grad():
        log_p, states = pair.log_likelihood(x, length), pair.smooth(x, length)
    assert log_p.sum().item() == pytest.approx(twin.score(steps, length.numpy()), abs=1e-6)
    for row, n, own in zip(x, length, log_p, strict=True):
        alone = joined(row[None], n[None])
        alone = alone.astype(int) if kind == "symbols" else alone
        assert own.item() == pytest.approx(twin.score(alone), abs=1e-6)
    expected = twin.predict_proba(steps, length.numpy())
    np.testing.assert_allclose(joined(states, length), expected, atol=1e-6)
    best, path = twin.decode(steps, length.numpy())
    own = pair.decode(x, length)
    assert along(pair, x, length, own) == pytest.approx(best, abs=1e-6)
    if kind == "normal":  # two paths over the same symbols may be alike
        assert joined(own, length)[:, 0].tolist() == path.tolist()


@KINDS
def test_a_sweep_of_em_is_that_of_hmmlearn(double, kind):
    pair, twin, x, length = twins(kind)
    steps = joined(x, length)
    twin.fit(steps.astype(int) if kind == "symbols" else steps, length.numpy())
    pair.maximise(x, length)
    found = {"startprob_": pair.initial.softmax(-1), "transmat_": pair.transition.softmax(-1)}
    if kind == "symbols":
        found["emissionprob_"] = pair.logits[:, 0].softmax(-1)
    else:
        found |= {"means_": pair.mean, "covars_": pair.log_scale.mul(2).exp()}
    for name, value in found.items():
        expected = getattr(twin, name)
        expected = np.stack([np.diag(c) for c in expected]) if expected.ndim == 3 else expected
        np.testing.assert_allclose(value.detach(), expected, rtol=0, atol=1e-5, err_msg=name)


def test_the_cycles_are_fitted_as_by_hmmlearn(double):
    hmm = pytest.importorskip("hmmlearn.hmm", reason="hmmlearn, of the extra peers, is the oracle")
    train = Data.named("sunspots").train.columns
    x, length = train["x"], train["length"]
    torch.manual_seed(0)
    pair = HMM(3)
    pair.build(x)
    for _ in range(200):
        pair.maximise(x, length)
    own = pair.log_likelihood(x, length).sum().item()
    options = {"covars_prior": 0, "covars_weight": 1, "means_weight": 0, "n_iter": 200, "tol": 0}
    best = max(
        hmm.GaussianHMM(3, **options, random_state=seed)
        .fit(joined(x, length), length.numpy())
        .score(joined(x, length), length.numpy())
        for seed in range(3)
    )
    assert own == pytest.approx(best, abs=1e-3)
