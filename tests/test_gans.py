"""The games on toys: every row comes nearer to the ring, and figures of modes are to be trusted."""

import json
import math

import pytest
import torch
from benchmarks import games, readme
from benchmarks import modes as by_command

from priory.data import Data
from priory.data.toys import DENSITIES, toy
from priory.divergences import energy
from priory.evaluation.samples.modes import modes
from priory.models import GAN
from priory.nets import MLP, NETS, Fourier
from priory.parsing import parse
from priory.recipes import RECIPES
from priory.recipes.gans import ROWS
from priory.serialisation import to_config

TOYS = [row for row in ROWS if row.data == "ring"]
# 1-Lipschitz critics push gently, relativistic ones hard.
RATES = {"hinge-gan": 5e-3, "wgan": 2e-3, "r3gan": 5e-4}
SMALL = "mlp:32,32:leaky-relu"


@pytest.fixture(scope="module")
def ring():
    return Data.named("ring", rows=2000)


def distance(run, data):
    return float(energy(run.sample(500)["x"], data.test.x[:500]))


@pytest.mark.parametrize("recipe", TOYS, ids=lambda row: row.name)
def test_every_row_comes_nearer_to_the_ring(recipe, ring):
    (adversary,) = recipe.objective().adversaries()
    options = {"generator": SMALL, "batch_size": 64, "valid_every": 0, "ema": None}
    options |= {"compile": "off", "schedule": "constant", "lr": RATES.get(recipe.name, 2e-3)}
    early, late = (
        recipe.fit(ring, **options, steps=n) for n in (1, 150 if adversary.steps == 1 else 60)
    )
    assert distance(late, ring) < distance(early, ring) / 2


def test_rows_differ_in_their_game_alone():
    assert len({row.loss for row in TOYS}) == len(TOYS)
    assert {row.family for row in TOYS} == {GAN}
    assert len({str(row.options) for row in TOYS if row.name != "r3gan"}) == 1


# --- X20: what a perfect sampler scores -----------------------------------------------------------


@pytest.mark.parametrize(("name", "entropy"), [("ring", -4.293), ("grid", 0.0653)])
def test_a_perfect_sampler_has_its_share_and_its_entropy(name, entropy):
    mixture, n = DENSITIES[name], 100_000
    x = torch.from_numpy(toy(name, n, seed=3)[0])
    found = modes(x, mixture.centres, mixture.sd)
    share = 1 - math.exp(-4.5)  # P(chi2_2 < 9)
    assert found.perfect == pytest.approx(share, abs=1e-12)
    assert float(found.near.mean()) == pytest.approx(
        share, abs=3 * (share * (1 - share) / n) ** 0.5
    )
    assert found.found == found.total == len(mixture.centres)
    # KL of a fair histogram: (M - 1) / 2n in the mean, chi2 / 2n.
    assert found.kl < (len(mixture.centres) - 1) / (2 * n) * 4
    assert float(-mixture.log_prob(x).mean()) == pytest.approx(entropy, abs=1e-2)
    exact = math.log(len(mixture.centres)) + 1 + math.log(2 * math.pi * mixture.sd**2)
    assert exact == pytest.approx(entropy, abs=1e-3)


# --- the critic that sees fine structure ----------------------------------------------------------


def test_fourier_features_are_waves_of_the_scales_asked_for():
    torch.manual_seed(0)
    net = Fourier(frequencies=2000, low=0.5, high=8.0, hidden=()).double()
    net.build((2,), ())
    net.double()
    waves = net.waves
    low, high = waves[:, :500].std(), waves[:, -500:].std()
    ratio = 16 ** ((1750 - 250) / 2000)
    assert float(high / low) == pytest.approx(ratio, rel=0.1)
    x = torch.randn(5, 2, dtype=torch.float64)
    h = net.features(x)
    assert torch.equal(h[:, :2], x)
    assert torch.allclose(h[:, 2:2002].square() + h[:, 2002:].square(), torch.ones(()).double())
    assert set(dict(net.named_parameters())) == {"head.last.weight", "head.last.bias"}


def test_fourier_features_find_a_narrow_mode_sooner():
    """A bump of the ring's width, in as many steps."""
    x = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    bump = torch.exp(-0.5 * (x / 0.1).square().sum(1))
    losses = []
    for net in (Fourier(32, high=12.0, hidden=(32,)), MLP((64, 32), "leaky-relu")):
        torch.manual_seed(0)
        net.build((2,), ())
        optim = torch.optim.Adam(net.parameters(), 1e-2)
        for _ in range(100):
            optim.zero_grad()
            loss = (net(x) - bump).square().mean()
            loss.backward()
            optim.step()
        losses.append(float(loss.detach()))
    assert losses[0] < losses[1] / 2


@pytest.mark.parametrize(
    ("options", "said"),
    [({"frequencies": 0}, "frequencies"), ({"low": 0.0}, "low"), ({"low": 7.0}, "high")],
)
def test_fourier_features_out_of_range_are_told(options, said):
    with pytest.raises(ValueError, match=said):
        Fourier(**options)


# --- the benchmark --------------------------------------------------------------------------------


def test_every_game_has_one_net_and_one_budget():
    for game in games.GAMES.values():
        assert not set(game.own) - set(games.FIXED)
        pair, objective, options = RECIPES["gan"].prepare(objective=game.objective, **game.training)
        assert to_config(pair.generator.net) == to_config(
            parse("net", games.FIXED["generator"], NETS)
        )
        assert options["steps"] == game.training["steps"]
        (adversary,) = objective.adversaries()
        assert adversary.sites == ("x",)


def test_the_recipe_finds_every_mode_of_the_grid_by_the_command_line():
    (found,) = (r for r in by_command.results() if r["recipe"] == "r3gan" and r["data"] == "grid")
    assert {r["modes"] for r in found["rows"]} == {25}
    assert min(r["high_quality"] for r in found["rows"]) >= 0.9
    assert by_command.table().count("| 25 ") == len(found["rows"])


def test_the_benchmarks_dreams_are_in_the_datas_units():
    row, generated = games.fit_and_judge(
        games.GAMES["non-saturating"], "grid", 0, steps=150, generator=SMALL, batch_size=32
    )
    assert 1 < float(generated.std()) < 5  # of data with 2.83
    assert row == {
        "data": "grid",
        "seed": 0,
        "seconds": row["seconds"],
        **games.judged(generated, "grid"),
    }


def test_the_table_says_mean_worst_and_distance_from_perfect(tmp_path, monkeypatch):
    monkeypatch.setattr(games, "RESULTS", tmp_path)
    rows = [
        {"data": "ring", "seed": s, "modes": m, "high_quality": q, "kl": k, "seconds": 2.0}
        for s, m, q, k in [(0, 8, 0.9989, 0.0), (1, 6, 0.9789, 0.2)]
    ]
    for row in rows:
        games.keep("pac-2", [row], {"ring": torch.zeros(3, 2)})
    assert json.loads((tmp_path / "pac-2.json").read_text())["rows"] == rows
    text = games.table()
    line = next(s for s in text.splitlines() if s.startswith("| non-saturating, packs of 2"))
    assert "| 7.0 ± 1.4 (6) | 98.9 ± 1.4 (97.9) | 1.0 | 0.100 ± 0.141 (0.200) | 2 |" in line
    assert "7.9 / 95.6 / 0.07" in line
    widths = {s.count("|") for s in text.splitlines() if s.startswith("|")}
    assert len(widths) == 1
    assert len(games.picture(games.results()).get_axes()) == 2


def test_a_game_that_diverges_is_counted_as_lost(monkeypatch):
    game = games.Game("too fast", own={"lr": 1e30, "batch_size": 32})
    row, generated = games.fit_and_judge(game, "ring", 0, steps=30, generator=SMALL)
    assert "finite" in row["failed"]
    assert row["modes"] == row["high_quality"] == 0
    assert len(generated) == games.SAMPLES
    assert "(1 NaN or infinite)" in games.line("too fast", [row], "")


def test_the_row_that_covers_has_the_setting_of_the_recipe():
    game, recipe = games.GAMES["relativistic-long"], RECIPES["r3gan"]
    assert recipe.loss == game.objective
    options = {n: v for n, v in game.training.items() if n not in ("generator", "latent")}
    assert {n: recipe.training[n] for n in options} == options
    assert recipe.options["generator"] == game.training["generator"]


def test_other_settings_drop_what_was_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(games, "RESULTS", tmp_path)
    row = {"data": "ring", "seed": 0, "modes": 8, "high_quality": 1.0, "kl": 0.0, "seconds": 1.0}
    games.keep("hinge", [row], {})
    monkeypatch.setitem(games.FIXED, "steps", 7)
    games.keep("hinge", [{**row, "seed": 1}], {})
    assert [r["seed"] for r in games.results()["hinge"]["rows"]] == [1]


def test_a_perfect_samplers_line_has_every_mode():
    for name, mixture in DENSITIES.items():
        rows = games.perfect(name)
        assert all(r["modes"] == len(mixture.centres) for r in rows)
        assert all(abs(r["high_quality"] - 0.9889) < 0.01 for r in rows)
    assert "games" in readme.__dict__
