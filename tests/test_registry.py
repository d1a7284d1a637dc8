"""A part is its file, with its name: the registries hold every one of them, and no other."""

import importlib
import pkgutil

import pytest

from priory import likelihoods, models, posteriors, priors
from priory.likelihoods import LIKELIHOODS, Likelihood
from priory.models import PAIRS, Pair
from priory.posteriors import POSTERIORS, Posterior
from priory.priors import PRIORS, Prior
from priory.registry import registry

FOLDERS = {
    models: (Pair, PAIRS),
    priors: (Prior, PRIORS),
    posteriors: (Posterior, POSTERIORS),
    likelihoods: (Likelihood, LIKELIHOODS),
}


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


def test_a_part_of_ones_own_is_named_by_itself_alone():
    class Mine(Pair):
        name = "mine"

        def model(self, x):
            pass

        def guide(self, x):
            pass

    class Derived(Mine):
        pass

    assert registry(Pair, {"Mine": Mine, "Derived": Derived, "other": 3}) == {"mine": Mine}


def test_two_parts_of_one_name_are_refused():
    class Twin(priors.Normal):
        name = "normal"

    with pytest.raises(ValueError, match="Twin and Normal are both 'normal'"):
        registry(Prior, {"Normal": priors.Normal, "Twin": Twin})
