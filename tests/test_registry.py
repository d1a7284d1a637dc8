"""A part is its file, with its name: the registries hold every one of them, and one's own."""

import importlib
import pkgutil
import sys

import pytest

from priory import fit, likelihoods, load, models, nets, posteriors, priors
from priory.cli import main
from priory.data import Data
from priory.inference import ELBO
from priory.likelihoods import LIKELIHOODS, Likelihood
from priory.models import PAIRS, VAE, Pair
from priory.nets import CRITICS, MLP, NETS, Critic, Net
from priory.posteriors import POSTERIORS, Posterior
from priory.priors import PRIORS, Normal, Prior
from priory.registry import GROUP, register, registry

FOLDERS = {
    models: (Pair, PAIRS),
    priors: (Prior, PRIORS),
    posteriors: (Posterior, POSTERIORS),
    likelihoods: (Likelihood, LIKELIHOODS),
}


@pytest.fixture(autouse=True)
def registries():
    """The registries as they were, whatever joins them."""
    kept = [(found, dict(found)) for found in (NETS, *(table for _, table in FOLDERS.values()))]
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


INSTALLED = """
from torch.distributions import constraints
from pyro.distributions import Delta

from priory.likelihoods import Normal as NormalData
from priory.models import VAE
from priory.posteriors import NormalPosterior
from priory.priors import Normal
from priory.registry import register


@register
class Wide(Normal):
    name = "wide"


@register
class Near(NormalPosterior):
    name = "near"
    support = constraints.positive


@register
class Noisy(NormalData):
    name = "noisy"


@register
class MyVAE(VAE):
    name = "my-vae"
"""


class Entry:
    """An entry point of another package."""

    def load(self):
        return importlib.import_module("a_package_of_ones_own")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with parts, which names its module as an entry point."""
    (tmp_path / "a_package_of_ones_own.py").write_text(INSTALLED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: [Entry()] if group == GROUP else []
    )
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("a_package_of_ones_own", None)


def test_parts_of_an_installed_package_are_used_by_name(installed, capsys):
    assert main(["list", "priors", "posteriors", "likelihoods", "pairs"]) == 0
    shown = capsys.readouterr().out
    for name in ("wide", "near", "noisy", "my-vae"):
        assert f"\n  {name} " in shown.replace(":", " ")
    words = ["fit", "vae", "--data", "ring", "--prior", "wide", "--likelihood", "noisy"]
    assert main([*words, "--steps", "2", "--compile", "off", "--out", "run"]) == 0
    run = load("run")
    assert type(run.pair.prior).__name__ == "Wide"
    assert type(run.pair.likelihood).__name__ == "Noisy"
    assert main(["sample", "run", "--n", "3", "--out", "drawn.npz"]) == 0


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
