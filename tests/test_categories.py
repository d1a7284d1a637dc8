"""Mixed tables through the house: read, trained, scored, compared, filled in, written."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from priory.cli import main
from priory.data import Data, Preparation
from priory.data.categories import coded, named_columns
from priory.evaluation import Unavailable, evaluate, evaluate_samples
from priory.evaluation.sample_sets import Sets
from priory.evaluation.sample_sets import coded as compared
from priory.inference import ELBO, IWAE, fit, load
from priory.inference.columns import lines
from priory.likelihoods import Categorical, Columns
from priory.models import GAN, VAE, MaskedVAE, NormalizingFlow
from priory.recipes import RECIPES

LEVELS = (("Bern", "Oslo", "Rome"), (), (), ("no", "yes"))


def frame(n=120, gaps=0.0, seed=0):
    draw = np.random.default_rng(seed)
    group = draw.integers(3, size=n)
    table = pd.DataFrame(
        {
            "city": np.array(["Rome", "Oslo", "Bern"])[group],
            "visits": draw.poisson(1 + 5 * group),
            "height": 170 + 5 * group + draw.normal(size=n),
            "smoker": np.where(draw.random(n) < 0.3, "yes", "no"),
        }
    )
    return table.mask(draw.random(table.shape) < gaps)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same table with gaps in files of both kinds."""
    folder = tmp_path_factory.mktemp("mixed")
    frame(gaps=0.2).to_csv(folder / "gaps.csv", index=False)
    frame(gaps=0.2).to_parquet(folder / "gaps.parquet")
    return folder


@pytest.fixture(scope="module")
def run(files):
    data = Data.from_file(files / "gaps.csv", missing="integrate")
    made = fit(MaskedVAE(latent=2), IWAE(3), data, steps=30, compile="off", progress=False)
    made.save(files / "run")
    return made


@pytest.mark.parametrize("ending", ["csv", "parquet", "frame"])
def test_text_is_read_as_categories(files, ending):
    if ending == "frame":
        data = Data.from_arrays(frame(gaps=0.2), missing="integrate")
    else:
        data = Data.from_file(files / f"gaps.{ending}", missing="integrate")
    assert data.preparation.levels == LEVELS
    assert "2 of its columns categories" in repr(data)
    own = frame(gaps=0.2)
    rows = np.sort(np.random.default_rng(0).permutation(120)[:96])
    seen = data.train.columns["seen"]
    assert torch.equal(seen, torch.from_numpy(own.notna().to_numpy()[rows]))
    table = data.table(data.train.x)
    for name, column in table.items():
        there = own[name].notna().to_numpy()[rows]
        found = np.array(column, dtype=object)[there]
        given = own[name].to_numpy()[rows][there]
        assert list(found[:50]) == pytest.approx(list(given[:50])) or list(found) == list(given)


def test_dtypes_of_pandas_are_heard():
    table = pd.DataFrame(
        {
            "grade": pd.Categorical([3, 1, 2, 3] * 5),
            "member": [True, False, True, True] * 5,
            "word": pd.array(["a", "b", "b", "a"] * 5, dtype="string"),
            "size": pd.array([1, 2, 3, 5] * 5, dtype="Int64"),
        }
    )
    data = Data.from_arrays(table, test=0, valid=0)
    assert data.preparation.levels == (("1", "2", "3"), (), ("a", "b"), ())
    assert data.train.x[:4].tolist() == [[2, 1, 0, 1], [0, 0, 1, 2], [1, 1, 1, 3], [2, 1, 0, 5]]


def test_numbers_are_no_dates(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n1100.5,2020.1\n1234.1,1999.12\n2000,7\n")
    data = Data.from_file(tmp_path / "rows.csv", valid=0, test=0)
    assert data.train.x[:, 1].tolist() == pytest.approx([2020.1, 1999.12, 7])


def test_true_and_false_are_ones_and_zeros():
    numbers, levels = coded("member", ["True", "false", "True"], np.array([True, True, False]))
    assert levels == ()
    assert numbers[:2].tolist() == [1, 0]
    assert np.isnan(numbers[2])


DAYS = pd.date_range("2020-01-01", periods=120)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (DAYS, r"'when' holds dates or times.*days since the first one"),
        (DAYS.strftime("%Y-%m-%d"), "'when' holds dates or times"),
        (DAYS.strftime("%d.%m.%Y"), "'when' holds dates or times"),
        (DAYS.date, "'when' holds dates or times"),
        ([f"name {i}" for i in range(120)], "120 different texts in 120 rows, too many"),
        (["a", *map(str, range(119))], "'a' in row 0, expected a finite number.*categories"),
        (["a", None] * 60, "no value in row 1, expected a category.*missing='integrate'"),
    ],
)
def test_columns_that_are_no_category_are_refused(column, message):
    with pytest.raises(ValueError, match=message):
        Data.from_arrays(frame().assign(when=column))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"standardise": True}, "standardise=True is for numbers, and column 'city'"),
        ({"binarise": "threshold"}, "binarise='threshold' is for numbers"),
        ({"x_test": np.zeros((3, 4))}, "a part of it is none"),
        ({"x_test": frame()[["visits", "city", "height", "smoker"]]}, "the same columns"),
    ],
)
def test_options_that_categories_exclude(options, message):
    with pytest.raises(ValueError, match=message):
        Data.from_arrays(frame(), **options)


def test_levels_of_all_parts_have_the_same_numbers():
    test = frame(9).assign(city="Aarau", label=["u", "v", "w"] * 3)
    given = frame(30).assign(label=["u", "v", "w"] * 10)
    data = Data.from_arrays(given, x_test=test, valid=0)
    assert data.preparation.levels[0] == ("Aarau", "Bern", "Oslo", "Rome")
    assert data.test.x[:, 0].tolist() == [0.0] * 9
    assert data.table(data.train.x)["city"] == given["city"].tolist()
    assert data.classes == ("u", "v", "w")


def test_kinds_are_shown_before_training():
    data = Data.from_arrays(frame())
    pair = VAE(likelihood=Columns({"height": "student-t"}), latent=2)
    expected = [
        "categorical: city (3 levels), smoker (2 levels)",
        "negative-binomial: visits",
        "student-t: height",
    ]
    assert lines(pair, data) == expected
    assert lines(VAE(latent=2), data)[2] == "normal: height"
    assert lines(VAE(latent=2), Data.from_arrays(torch.rand(30, 3))) == []


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (VAE(likelihood="normal", latent=2), "normal likelihood is of numbers, and column 'city'"),
        (GAN(latent=2), "delta likelihood is of numbers, and column 'city'"),
        (NormalizingFlow(), "NormalizingFlow is of numbers, and column 'city' holds categories"),
    ],
)
def test_pairs_of_numbers_refuse_categories(pair, message):
    with pytest.raises(ValueError, match=message):
        fit(pair, ELBO(), Data.from_arrays(frame()), steps=1)


def test_new_rows_get_the_runs_numbers(run, files):
    whole = run.score(particles=4, data=str(files / "gaps.parquet")).log_likelihood
    rows = frame(gaps=0.2)
    for other in (rows, rows[rows.columns[::-1]], rows.astype({"city": "category"})):
        torch.testing.assert_close(run.score(other, particles=4).log_likelihood, whole)
    again = load(files / "run")
    torch.testing.assert_close(again.score(rows, particles=4).log_likelihood, whole)
    assert again.preparation.levels == LEVELS
    few = Data.from_arrays(rows[rows["city"] != "Bern"], missing="integrate", valid=0)
    assert few.preparation.levels[0] == ("Oslo", "Rome")
    moved = few.like(run.preparation)
    assert moved.table(moved.train.x)["city"] == few.table(few.train.x)["city"]
    with pytest.raises(ValueError, match="'Paris', and the training rows the levels Bern, Oslo"):
        run.score(rows.replace("Rome", "Paris"))
    with pytest.raises(ValueError, match="'visits' holds text, such as 'few', and that of the tra"):
        run.score(rows.assign(visits="few"))
    with pytest.raises(ValueError, match=r"column 'city': .*integers 0 to 2.*got 7 in row 0"):
        run.score(np.full((3, 4), 7.0))


def test_preparations_come_back_from_plain_values():
    kept = Preparation((2,), "float32", features=("a", "b"), levels=(("u", "v"), ()))
    again = Preparation.from_config(yaml.safe_load(yaml.safe_dump(kept.to_config())))
    assert again == kept
    with pytest.raises(ValueError, match="2 features has 1 levels"):
        Preparation.from_config({**kept.to_config(), "levels": [["u"]]})
    assert named_columns(np.array([[1.0, 2.0], [np.nan, 3.0]]), kept.levels, kept.features) == {
        "a": ["v", None],
        "b": [2.0, 3.0],
    }


def test_a_mixed_score_is_said_to_be_one(run):
    found = run.score(particles=3)
    assert found.quantity.startswith("log p(x): x a density of 1 columns and a mass of 3")
    codes = run.encode()
    assert len(codes) == len(found)


# --- filled in -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("double")
def test_a_category_is_filled_in_by_its_most_probable_level():
    """A decoder that does not read the latent gives every missing cell its own distribution."""
    data = Data.from_arrays(frame(gaps=0.3), missing="integrate", valid=0, test=0)
    pair = MaskedVAE(latent=2, likelihood=Columns({"height": "normal"}))
    made = copy.deepcopy(fit(pair, ELBO(), data, steps=1, compile="off", progress=False))
    with torch.no_grad():
        for p in made.pair.decoder.net.parameters():
            if p.dim() > 1:
                p.zero_()
        maps = made.pair.decoder.net(torch.zeros(1, 2))
    shares = maps[0, :3, 0].softmax(0)
    gone = pd.DataFrame(
        {"city": [None, "Bern"], "visits": [3, None], "height": [171.0, None], "smoker": ["no"] * 2}
    )
    found = made.impute(gone, particles=4000, draws=300)
    level = LEVELS[0][int(shares.argmax())]
    assert found.table()["city"] == [level, "Bern"]
    assert float(found.probability[0, 0]) == pytest.approx(float(shares.max()))
    assert found.probability[1].isnan().all()
    assert found.low[0, 0].isnan()
    mean = made.pair.decoder(torch.zeros(1, 2)).means(torch.zeros(1, 4))
    torch.testing.assert_close(found.x[1, 1:3], mean[0, 1:3])
    drawn = found.draws[:, 0, 0].long().bincount(minlength=3) / 300
    torch.testing.assert_close(drawn.to(shares), shares, atol=0.12, rtol=0)


def test_the_command_line_writes_names(run, files, capsys):
    given = ["--data", str(files / "gaps.csv")]
    main(["impute", str(files / "run"), *given, "--out", str(files / "filled.csv")])
    table = pd.read_csv(files / "filled.csv")
    rows = frame(gaps=0.2)
    assert set(table["city"]) == set(LEVELS[0])
    assert (table["city"] == rows["city"])[rows["city"].notna()].all()
    assert table["city_probability"].notna().equals(rows["city"].isna())
    assert table["height_low"].notna().equals(rows["height"].isna())
    main(["sample", str(files / "run"), "--n", "7", "--out", str(files / "drawn.csv")])
    drawn = pd.read_csv(files / "drawn.csv")
    assert list(drawn.columns) == ["row", *rows.columns]
    assert set(drawn["smoker"]) <= {"no", "yes"}
    assert "7 rows of 4 columns" in capsys.readouterr().out


# --- compared ------------------------------------------------------------------------------------


def test_categories_are_compared_at_a_distance_of_one():
    rows = torch.tensor([[0.0, 10.0], [2.0, 10.0], [1.0, 14.0]])
    codes = compared(rows, (3, 0), rows)
    assert codes.shape == (3, 4)
    assert float((codes[0] - codes[1]).norm()) == pytest.approx(1)
    spread = float(rows[:, 1].std(correction=0))
    assert float((codes[0] - codes[2]).square().sum()) == pytest.approx(1 + (4 / spread) ** 2)
    sets = Sets({"x": rows}, rows, sizes=(3, 0))
    assert torch.equal(sets.real, sets.generated)
    with pytest.raises(Unavailable, match="numbers are names"):
        _ = sets.x


def test_samples_of_mixed_tables_are_judged():
    data = Data.from_arrays(frame(), test=40)
    made = fit(VAE(latent=2), ELBO(), data, steps=5, compile="off", progress=False)
    names = ["nll", "mmd", "reconstruction", "bits_per_dim", "c2st_1nn_train"]
    report = evaluate(made, metrics=names, particles=5, pictures=False)
    assert "a density of 1 columns and a mass of 3" in report["nll"].quantity
    assert "categories at a distance of one" in report["mmd"].quantity
    assert report["c2st_1nn_train"].applicable
    assert not report["reconstruction"].applicable
    assert not report["bits_per_dim"].applicable
    same = evaluate_samples(data.test.x, data, metrics=["mmd"])["mmd"]
    moved = data.test.x.clone()
    moved[:, 0] = (moved[:, 0] + 1) % 3
    other = evaluate_samples(moved, data, metrics=["mmd"])["mmd"]
    assert other.value > same.value + 0.005
    assert "x_mean" not in made.sample(3)


TRAINED = ("vae", "cvae", "gmvae", "ladder-vae", "aae")
REFUSED = ("dae", "gan", "rbm", "ddpm", "glo")


@pytest.mark.parametrize("name", TRAINED)
def test_recipes_train_on_categories(name):
    data = Data.from_arrays(frame().assign(label=["a", "b"] * 60))
    made = RECIPES[name].fit(data, steps=1, batch_size=32, valid_every=0, progress=False)
    kinds = [kind for _, kind in made.pair.likelihood.kinds]
    assert sum(isinstance(kind, Categorical) for kind in kinds) == 2


@pytest.mark.parametrize("name", REFUSED)
def test_recipes_of_numbers_refuse_categories(name):
    data = Data.from_arrays(frame())
    with pytest.raises(ValueError, match=r"categor|levels|[cC]olumns"):
        RECIPES[name].fit(data, steps=1, batch_size=32, valid_every=0, progress=False)
