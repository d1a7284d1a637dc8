"""Programs with values of their own in Python: their steps are eager ones, or are run eager."""

from __future__ import annotations

import itertools
import random
import time
import warnings
from collections import defaultdict
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from priory import fit
from priory.data import Data
from priory.inference import ELBO, SVI
from priory.inference.engine.tracing import Compiler, agree

pytestmark = pytest.mark.usefixtures("double")
COUNT = 0
WEIGHT = 1.0
BOX = {"count": 0}
COUNTER = itertools.count()


class Holder:
    def __init__(self):
        self.count = 0
        self.items = [0]
        self.table = defaultdict(int)


class Slotted:
    __slots__ = ("count",)

    def __init__(self):
        self.count = 0


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.count = 0


def global_count(pair):
    global COUNT
    COUNT += 1
    return COUNT


def attribute(pair):
    pair.count += 1
    return pair.count


def submodule(pair):
    pair.part.count += 1
    return pair.part.count


def held(pair):
    pair.holder.count += 1
    return pair.holder.count


def items(pair):
    pair.holder.items[0] += 1
    return pair.holder.items[0]


def slot(pair):
    pair.slotted.count += 1
    return pair.slotted.count


def grown(pair):
    pair.holder.items.append(0)
    return len(pair.holder.items)


def boxed(pair):
    BOX["count"] += 1
    return BOX["count"]


def counted(pair):
    return 1 + next(COUNTER)


def table(pair):
    pair.holder.table["n"] += 1
    return pair.holder.table["n"]


def of_class(pair):
    Pair.total += 1
    return Pair.total


def default(pair, seen=[0]):  # noqa: B006
    seen[0] += 1
    return seen[0]


def tensor(pair):
    pair.mean = 0.9 * pair.mean + 0.1
    return pair.mean


def written(pair):
    return float(1 + 0 * len(str(pair.mean.add_(1).shape))) * pair.mean.mean()


def enclosed():
    count = 0

    def weight(pair):
        nonlocal count
        count += 1
        return count

    return weight


def following(steps, pair):
    return next(steps)


STATES = {
    "global": lambda: global_count,
    "attribute": lambda: attribute,
    "submodule": lambda: submodule,
    "object": lambda: held,
    "slot": lambda: slot,
    "list": lambda: items,
    "length": lambda: grown,
    "global dictionary": lambda: boxed,
    "global iterator": lambda: counted,
    "dictionary": lambda: table,
    "class": lambda: of_class,
    "default": lambda: default,
    "closure": enclosed,
    "tensor": lambda: tensor,
    "written tensor": lambda: written,
    "random": lambda: lambda pair: 1 + random.random(),
    "numpy": lambda: lambda pair: 1 + np.random.rand(),  # noqa: NPY002
    "own random": lambda: lambda pair: 1 + pair.coin.random(),
    "own numpy": lambda: lambda pair: 1 + pair.dice.random(),
    "array": lambda: lambda pair: pair.array.__iadd__(1)[0],
    "iterator": lambda: partial(following, iter(range(1, 100))),
}


class Pair(nn.Module):
    total = 0

    def __init__(self, weight):
        super().__init__()
        self.weight = weight
        self.loc = nn.Linear(4, 2)
        self.mean_net = nn.Linear(2, 4)
        self.part, self.holder, self.slotted = Part(), Holder(), Slotted()
        self.count, self.w = 0, 1.0
        self.mean = torch.zeros(())
        self.coin, self.dice = random.Random(0), np.random.default_rng(0)
        self.array = np.zeros(2)

    def model(self, x):
        pyro.module("pair", self)
        with pyro.plate("data", len(x)):
            with poutine.scale(scale=0.1 * self.weight(self)):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.mean_net(z), 1.0).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("pair", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.loc(x), 1.0).to_event(1))


def train(compile, weight, change=None, steps=6):
    global COUNT, WEIGHT, COUNTER
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    WEIGHT = 1.0
    COUNTER, BOX["count"] = itertools.count(), 0
    COUNT, Pair.total, default.__defaults__[0][0] = 0, 0, 0
    pair = Pair(weight)
    svi = SVI(pair.model, pair.guide, partial(torch.optim.SGD, lr=0.1), ELBO(), compile=compile)
    losses = []
    for step in range(steps):
        losses.append(float(svi.step(torch.randn(5, 4))))
        if change is not None:
            change(pair, step)
    return losses, svi


@pytest.mark.parametrize("case", STATES)
def test_values_that_a_run_changes_are_run_eager_on_the_eager_path(case):
    eager, _ = train("off", STATES[case]())
    with pytest.warns(UserWarning, match="runs eager") as caught:
        losses, svi = train("trace", STATES[case]())
    assert losses == eager
    assert svi.engine == "eager"
    assert len(caught) == 1


def set_global(pair, step):
    global WEIGHT
    WEIGHT = 1.0 + (step >= 6)


CHANGES = {
    "attribute": (lambda pair: pair.w, lambda pair, step: setattr(pair, "w", 1.0 + (step >= 6))),
    "list": (
        lambda pair: pair.holder.items[0] + 1,
        lambda pair, step: pair.holder.items.__setitem__(0, int(step >= 6)),
    ),
    "global": (lambda pair: WEIGHT, set_global),
    "array": (
        lambda pair: float(pair.array[0]) + 1,
        lambda pair, step: pair.array.fill(float(step >= 6)),
    ),
    "tensor": (
        lambda pair: 1 + pair.mean,
        lambda pair, step: step == 6 and setattr(pair, "mean", torch.ones(())),
    ),
    "new attribute": (
        lambda pair: getattr(pair, "late", 1.0),
        lambda pair, step: step >= 6 and setattr(pair, "late", 2.0),
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_late_change_from_outside_is_seen(case):
    weight, change = CHANGES[case]
    eager, _ = train("off", weight, change, steps=12)
    losses, svi = train("trace", weight, change, steps=12)
    assert svi.engine == "traced"
    assert losses == pytest.approx(eager, rel=1e-10)


def test_changes_at_each_step_are_run_eager():
    weight, _ = CHANGES["attribute"]

    def change(pair, step):
        pair.w = 1.0 + step

    eager, _ = train("off", weight, change, steps=40)
    losses, svi = train("trace", weight, change, steps=40)
    assert losses == pytest.approx(eager, rel=1e-10)
    assert svi.engine == "eager"


def epochs_weight(pair):
    return pair.w


@pytest.mark.parametrize("every", [1, 16])
def test_a_weight_that_on_epoch_changes_is_seen(every):
    """Each change is before the next epoch of 4 steps: in 140 steps there are 35 or 2."""
    x, found = torch.randn(64, 4), {}
    for mode in ("off", "trace"):
        random.seed(0)
        pyro.set_rng_seed(0)
        pair = Pair(epochs_weight)

        def on_epoch(row, pair=pair):
            if row["epoch"] % every == 0:
                pair.w = min(10.0, pair.w + 0.5)

        data = Data.from_arrays(x, valid=0, test=0)
        options = {"steps": 140, "batch_size": 16, "lr": 1e-3, "on_epoch": on_epoch}
        run = fit(pair, ELBO(), data, compile=mode, **options)
        found[mode] = [row["loss"] for row in run.history]
    assert found["trace"] == pytest.approx(found["off"], rel=1e-9)


@pytest.mark.parametrize("seen", [True, False])
def test_a_number_of_the_loss_that_changes_a_little_is_in_the_next_step(seen):
    """Where it is not looked at, the comparison at steps 1, 2, 4, 8, ... finds it."""
    weight, factor, x = nn.Parameter(torch.ones(())), [1.0], torch.randn(8)

    def loss(x):
        return factor[0] * weight * (x.square().mean() + 10)

    compiler = Compiler("trace", None, print, roots=[loss] if seen else [])

    def gradients(step):
        return compiler.gradients(loss, [weight], {"x": x}, step=step, restore=lambda: None)

    for step in range(6):
        factor[0] += 1e-4 * (step == 3)
        if step == 3 and not seen:
            with pytest.warns(UserWarning, match="do not repeat"):
                assert gradients(step) is None
            break
        assert gradients(step).item() == pytest.approx(loss(x).item(), rel=1e-12)
        assert weight.grad.item() == pytest.approx(loss(x).item(), rel=1e-12)
    assert compiler.engine == ("traced" if seen else "eager")


def test_programs_without_a_state_of_their_own_are_traced():
    losses, svi = train("trace", epochs_weight)
    assert svi.engine == "traced"
    assert losses == pytest.approx(train("off", epochs_weight)[0], rel=1e-10)


READS = {
    "item": lambda x: float(x.mean()),
    "tolist": lambda x: x.tolist()[0][0],
    "numpy": lambda x: float(x.numpy().mean()),
    "asarray": lambda x: float(np.asarray(x).mean()),
    "mask": lambda x: len(x[x > 0]),
    "nonzero": lambda x: len(x.nonzero()),
    "clock": lambda x: time.time() * 1e-12,
}


@pytest.mark.parametrize("case", READS)
def test_what_reads_values_runs_eager(case):
    def model(x):
        loc = pyro.param("loc", torch.zeros(()))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc + READS[case](x), 1.0).expand([4]).to_event(1), obs=x)

    svi = SVI(model, lambda x: None, partial(torch.optim.SGD, lr=0.1), ELBO(), compile="trace")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            svi.step(torch.randn(5, 4))
    assert svi.engine == "eager"


def test_a_coefficient_that_is_one_in_ten_thousand_off_is_found():
    g = torch.Generator().manual_seed(0)
    gradients = [torch.randn(50, 40, generator=g, dtype=torch.float32) for _ in range(3)]
    eager = [torch.tensor(100.0, dtype=torch.float32), *gradients]
    near = [v * (1 + 3e-7) for v in eager]
    far = [eager[0], *(v * (1 + 1e-4) for v in gradients)]
    assert agree(eager, near, 30.0)
    assert not agree(eager, far, 30.0)
    assert not agree(eager, [eager[0] * (1 + 1e-4), *gradients], 30.0)


def test_gradients_of_a_double_loss_agree_by_their_own_rounding():
    """A schedule's weight makes the loss a double; compiled gradients are floats all the same."""
    gradient = torch.randn(50, dtype=torch.float32)
    eager = [torch.tensor(3.0, dtype=torch.float64), gradient]
    near = [torch.tensor(3.0 + 1e-6, dtype=torch.float64), gradient * (1 + 1e-6)]
    assert agree(eager, near, 30.0)
    assert not agree(eager, [near[0], gradient * 1.001], 30.0)
