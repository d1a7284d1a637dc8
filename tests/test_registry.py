"""A part is its file, with its name: the registries hold every one of them, and one's own."""

import functools
import importlib
import pkgutil
import re
import sys
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

import pytest

from priory import fit, likelihoods, load, models, nets, posteriors, priors
from priory.cli import main
from priory.cli.list import TABLES, table_text
from priory.data import Data
from priory.divergences import DIVERGENCES
from priory.inference import ELBO, Objective, objectives
from priory.inference.objectives import GAMES, OBJECTIVES
from priory.likelihoods import LIKELIHOODS, Likelihood
from priory.models import PAIRS, VAE, Pair
from priory.nets import CRITICS, MLP, NETS, Critic, Net
from priory.posteriors import POSTERIORS, Posterior
from priory.priors import PRIORS, Normal, Prior
from priory.recipes import RECIPES
from priory.registry import _REGISTRIES, GROUP, register, registry
from processes import told

FOLDERS = {
    models: (Pair, PAIRS),
    priors: (Prior, PRIORS),
    posteriors: (Posterior, POSTERIORS),
    likelihoods: (Likelihood, LIKELIHOODS),
    objectives: (Objective, OBJECTIVES),
}


LISTED = {table: resolve_name(path) for table, path in TABLES.items()}
OURS = [table for table in LISTED if table not in ("metrics", "optimisers")]  # by other means


@pytest.fixture(autouse=True)
def registries():
    """The registries as they were, whatever joins them."""
    kept = [(found, dict(found)) for _, found in _REGISTRIES]
    yield
    for found, before in kept:
        found.clear()
        found.update(before)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.__name__)
def test_every_named_part_of_a_folder_is_in_its_registry(folder):
    kind, found = FOLDERS[folder]
    parts = {
        value
        for file in pkgutil.iter_modules(folder.__path__, folder.__name__ + ".")
        for value in vars(importlib.import_module(file.name)).values()
        if isinstance(value, type) and issubclass(value, kind) and "name" in vars(value)
    }
    assert parts == {*found.values()}
    assert {part.__name__ for part in parts} < {*folder.__all__}
    assert [*found] == sorted(part.name for part in parts)


@pytest.mark.parametrize(("table", "name"), [(k, n) for k in OURS for n in LISTED[k]])
def test_every_part_is_named_by_itself_and_listed(table, name):
    part = LISTED[table][name]
    assert vars(part).get("name", getattr(part, "__name__", "").replace("_", "-")) == name
    assert re.search(rf"^  {name}(?=[: ]|$)", shown(table), re.M)


@functools.cache
def shown(table):
    return table_text(table)


def test_the_pages_count_what_there_is():
    root = Path(__file__).parents[1]
    assert f"{len(RECIPES)} published methods" in (root / "README.md").read_text(encoding="utf-8")
    assert f"by {len(GAMES)} games" in (root / "docs" / "idea.md").read_text(encoding="utf-8")


def test_every_named_net_and_critic_is_in_its_registry():
    for kind, found in ((Net, NETS), (Critic, CRITICS)):
        named = {
            value
            for file in pkgutil.iter_modules(nets.__path__, nets.__name__ + ".")
            for value in vars(importlib.import_module(file.name)).values()
            if isinstance(value, type) and issubclass(value, kind) and "name" in vars(value)
        }
        assert named <= {*found.values()}
        assert all(found[value.name] is value for value in named)

    @register
    class Twice(MLP):
        name = "twice"

    assert NETS["twice"] is CRITICS["twice"] is Twice


def test_a_part_is_named_by_itself_alone():
    class Mine(Normal):
        name = "mine"

    class Derived(Mine):
        pass

    assert registry(Prior, {"Mine": Mine, "Derived": Derived, "other": 3}) == {"mine": Mine}


OWN = """
import torch
from pyro.distributions import TransformedDistribution
from torch.distributions import constraints, transforms

from priory.data import DOMAINS, Toy
from priory.divergences import DIVERGENCES
from priory.inference import Exponential, Objective
from priory.inference.loggers import TensorBoard
from priory.inference.objectives import COSTS
from priory.inference.objectives.games import Game
from priory.inference.objectives.gradients import Pathwise
from priory.likelihoods import Normal as NormalData
from priory.models import VAE
from priory.nets import MADE, MAF, MLP, DeepMean, TimeMLP
from priory.posteriors import NormalPosterior
from priory.priors import Normal
from priory.recipes import Recipe
from priory.registry import register


def exp(distribution):
    return TransformedDistribution(distribution, [transforms.ExpTransform()])


@register
class Wide(Normal):
    name = "wide"
    support = constraints.positive

    def distribution(self):
        return exp(super().distribution())


@register
class Near(NormalPosterior):
    name = "near"
    support = constraints.positive

    def __call__(self, features):
        return exp(super().__call__(features))


@register
class Noisy(NormalData):
    name = "noisy"


@register
class MyNet(MLP):
    name = "my-net"


@register
class MyOrder(MADE):
    name = "my-order"


@register
class MyFlow(MAF):
    name = "my-flow"


@register
class MyTimed(TimeMLP):
    name = "my-timed"


@register
class MyCritic(DeepMean):
    name = "my-critic"


@register
class MyVAE(VAE):
    name = "my-vae"


@register
class Shrunk(Objective):
    name = "shrunk"

    def loss(self, phases):
        return phases.awake.sample["z"].square().mean()


@register
class Again(Pathwise):
    name = "again"


@register
class Halved(Exponential):
    name = "halved"


@register
class MyLog(TensorBoard):
    name = "my-log"


@register(DIVERGENCES)
def mean_gap(a, b):
    return (a.mean(0) - b.mean(0)).square().sum()


@register(COSTS)
def quartic(a, b):
    return (a - b).flatten(1).pow(4).sum(1)


@register(DOMAINS)
def doubled(x):
    return 2 * x


def points(rows, rng):
    return rng.standard_normal((rows, 2)), rng.integers(2, size=rows)


register(Game("linear", "Nobody, 2026", torch.neg, lambda s: s, lambda s: s, torch.neg))
register(Toy("blob", points))
register(
    Recipe(
        "my-recipe",
        "Nobody, 2026",
        MyVAE,
        "reconstruction + reconstruction:cost=quartic + (halved:1:0.5:2)*match:mean-gap:z + shrunk"
        " + elbo:gradient=again"
        " + adversarial:x:critic=(my-critic:my-net:my-net:size=4):game=linear:mean=x",
        {"prior": "wide", "likelihood": "noisy", "encoder": "my-net:8", "decoder": "my-net:8"},
        {"steps": 2, "batch_size": 32, "valid_every": 0},
        data="blob:doubled",
    )
)
"""
OF_EACH_KIND = {
    "autoregressive": "my-order",
    "costs": "quartic",
    "critics": "my-critic",
    "data": "blob",
    "divergences": "mean-gap",
    "domains": "doubled",
    "flows": "my-flow",
    "games": "linear",
    "gradients": "again",
    "likelihoods": "noisy",
    "loggers": "my-log",
    "nets": "my-net",
    "objectives": "shrunk",
    "pairs": "my-vae",
    "posteriors": "near",
    "priors": "wide",
    "recipes": "my-recipe",
    "schedules": "halved",
    "timed": "my-timed",
}
MODULE = "a_package_of_ones_own"


class Entry:
    """An entry point of another package."""

    def load(self):
        return importlib.import_module(MODULE)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module with a part of each kind."""
    (tmp_path / f"{MODULE}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield MODULE
    sys.modules.pop(MODULE, None)


@pytest.fixture(params=["an import", "an entry point"])
def found(request, own, monkeypatch):
    """The same, found in one way or the other."""
    if request.param == "an import":
        importlib.import_module(own)
    else:
        monkeypatch.setattr(
            "importlib.metadata.entry_points", lambda group: [Entry()] if group == GROUP else []
        )


def test_a_part_of_each_kind_is_listed_and_trained_with(found, capsys):
    assert {*OF_EACH_KIND} == {*OURS}, "a kind has no part here"
    assert main(["list", *OF_EACH_KIND]) == 0
    shown = capsys.readouterr().out
    for name in OF_EACH_KIND.values():
        assert re.search(rf"^  {name}(?=[: ]|$)", shown, re.M), name
    assert main(["fit", "my-recipe", "--compile", "off", "--out", "run"]) == 0
    run = load("run")
    assert run.history[-1]["step"] == 2
    assert type(run.pair).__name__ == "MyVAE"
    assert type(run.pair.prior).__name__ == "Wide"
    assert type(run.pair.encoder.head).__name__ == "Near"
    assert type(run.pair.likelihood).__name__ == "Noisy"
    assert type(run.pair.encoder.net).__name__ == "MyNet"
    first, second, third, fourth, bound, fifth = run.objective.terms()
    assert (first.cost, second.cost) == ("likelihood", "quartic")
    assert type(third.weight).__name__ == "Halved"
    assert third.objective.divergence.__name__ == "mean_gap"
    assert type(fourth).__name__ == "Shrunk"
    assert bound.gradient == "again"
    assert (type(fifth.critic).__name__, fifth.game) == ("MyCritic", "linear")
    assert run.sample(3)["x"].shape == (3, 2)


def test_a_registered_pair_is_fitted_and_read_back_by_its_name(found, capsys):
    words = ["my-vae", "--data", "blob", "--latent", "2", "--steps", "2", "--compile", "off"]
    assert main(["fit", "my-vae", "--help"]) == 0
    assert main(["fit", *words, "--out", "run"]) == 0
    assert "--pair" not in capsys.readouterr().out.rpartition("next: ")[2]
    assert main(["sample", "run", "--out", "draws.npz"]) == 0
    assert main(["evaluate", "run", "--metrics", "nll", "--particles", "2"]) == 0
    assert main(["fit", "my-va", "--steps", "2"]) == 2
    assert "unknown recipe 'my-va'" in capsys.readouterr().err


CONTRACTS = (
    "adversary",
    "autoregressive",
    "data_named",
    "divergences",
    "flows",
    "gradient_estimators",
    "joint",
    "models",
    "timed_nets",
)
CONTRACTS += ("recipes", "registry")


def test_a_part_of_each_kind_is_put_to_the_contract_tests(own, tmp_path):
    files = [str(Path(__file__).with_name(f"test_{name}.py")) for name in CONTRACTS]
    script = """
        import os, sys
        import pytest

        os.chdir(root)
        sys.path.insert(0, place)
        sys.exit(pytest.main(words))
    """
    words = ["--collect-only", "-p", own, *files]
    root = Path(__file__).parents[1]
    code, out, err = told(script, tmp_path, words=words, root=root, place=str(tmp_path))
    assert code == 0, out + err
    for kind, name in OF_EACH_KIND.items():
        tests = re.findall(rf"^(\S+)\[(?:.*-)?{name}(?:-.*)?\]$", out, re.M)
        assert any("named_by_itself" in test for test in tests), name
        if kind not in (
            "costs",
            "critics",
            "loggers",
            "nets",
            "posteriors",
            "schedules",
        ):  # this one alone
            assert len(tests) > 1, name


def test_a_part_that_is_not_registered_is_read_by_nobody(tmp_path):
    @register
    class Passing(Normal):
        name = "passing"

    data = Data.named("ring", rows=60)
    run = fit(VAE(Passing(), latent=2), ELBO(), data, steps=1, compile="off", progress=False)
    assert type(load(run.save(tmp_path / "run")).pair.prior) is Passing
    del PRIORS["passing"]
    with pytest.raises(ValueError, match="not a part of Priory, and reading a configuration runs"):
        load(tmp_path / "run")


def test_what_cannot_be_registered_is_refused():
    class Twin(Normal):
        name = "normal"

    with pytest.raises(ValueError, match="Twin and Normal are both called 'normal'"):
        register(Twin)

    class Nameless(Normal):
        pass

    with pytest.raises(TypeError, match="Nameless needs a name"):
        register(Nameless)
    with pytest.raises(TypeError, match=r"dict is of no kind .* Likelihood"):
        register(dict)

    def gap(a, b):
        return (a - b).sum()

    with pytest.raises(TypeError, match=r"gap is of no kind .*@register\(DIVERGENCES\)"):
        register(gap)
    gap.__name__ = "mmd"
    with pytest.raises(ValueError, match="mmd and mmd are both called 'mmd'"):
        register(DIVERGENCES)(gap)
    with pytest.raises(ValueError, match="Game and Game are both called 'hinge'"):
        register(replace(GAMES["hinge"]))
