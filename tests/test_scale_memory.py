"""Memory: what an evaluation takes at most, and that training takes no more the longer it runs."""

import json
import sys
import textwrap

import pyro
import pyro.distributions as dist
import pytest
import torch

import processes
from priory.evaluation.likelihood.bound import log_likelihood

START = """
import ctypes, json, resource, torch
from priory import fit
from priory.data import Data
from priory.evaluation import evaluate
from priory.evaluation.likelihood.bound import log_likelihood
from priory.models import VAE
from priory.nets import MLP

torch.set_num_threads(1)
torch.manual_seed(0)
if hasattr(libc := ctypes.CDLL(None), "mallopt"):  # glibc's: every array's memory is its own, and
    libc.mallopt(-3, 1 << 16)  # is given back when it is freed: no peak hangs on what lay free

def now():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

def peak():
    with open("/proc/self/status") as file:  # a child's ru_maxrss begins with its parent's
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 2**10

def reserved():
    with open("/proc/self/status") as file:  # pages that the system takes back count on
        return next(int(line.split()[1]) for line in file if line.startswith("VmPeak")) / 2**10

def tiny(width=16):
    return VAE(encoder=MLP((width,)), decoder=MLP((width,)), latent=2)
"""

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def told(script, folder):
    """Run a script in a process of its own, and answer the last line that it prints, as JSON."""
    code, out, err = processes.told(START + textwrap.dedent(script), folder)
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


@linux
def test_an_evaluation_stays_within_a_gigabyte(tmp_path):
    """K = 5000 on 10,000 rows of 784, in two parts that take long only together.

    The blocks of the bound are sized by K and by a row's length, not by the number of rows: some
    rows with K = 5000 hold as much at once as all of them would. What grows with the rows is looked
    at with all of them, and one particle.
    """
    mib = told(
        """
        x = (torch.rand(10_000, 1, 28, 28) > 0.5).float()
        y = torch.arange(10_000) % 10
        data = Data.from_arrays(x=x, y=y, x_test=x, y_test=y)
        pair = tiny()
        pair.build(x)
        before, found = now(), {}
        log_likelihood(pair.model, pair.guide, x[:10], 5000)
        found["few"], found["reserved by few"] = peak() - before, reserved()
        log_likelihood(pair.model, pair.guide, x[:20], 5000)
        found["reserved by twice as many"] = reserved()
        layers = torch.nn.Conv2d(1, 32, 3, 2), torch.nn.Flatten(), torch.nn.Linear(5408, 64)
        features = torch.nn.Sequential(*layers)
        evaluate(pair, data, particles=1, features=features)
        found["all"] = peak() - before
        print(json.dumps(found))
    """,
        tmp_path,
    )
    assert mib["reserved by twice as many"] < mib["reserved by few"] + 32
    assert mib["few"] + mib["all"] < 1000


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """The memory that eager and traced steps hold, early and late in a training."""
    return told(
        """
        x = (torch.rand(500, 1, 8, 8) > 0.5).float()
        found = {}
        for compile in ("off", "trace"):
            held = found[compile] = {}
            fit(
                tiny(),
                data=Data.from_arrays(x=x),
                steps=1000,
                batch_size=20,
                valid_every=50,
                compile=compile,
                progress=False,
                on_epoch=lambda row: held.setdefault(row["step"], now()),
            )
        print(json.dumps({name: [held[200], held[1000]] for name, held in found.items()}))
    """,
        tmp_path_factory.mktemp("trainings"),
    )


@linux
@pytest.mark.parametrize("compile", ["off", "trace"])
def test_training_takes_no_more_memory_the_longer_it_runs(trainings, compile):
    early, late = trainings[compile]
    assert late < early + 4


class Small:
    """A device that holds so many log weights at once."""

    def __init__(self, room):
        self.room = room
        self.asked = []

    def __call__(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x, 1.0).to_event(1))
        self.asked.append(z[..., 0].numel())
        if self.asked[-1] > self.room:
            raise torch.OutOfMemoryError("no room")


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def test_an_evaluation_shrinks_its_blocks_until_they_fit():
    x = torch.randn(40, 3)
    small = Small(room=30)
    found = log_likelihood(model, small, x, particles=20, block=(20, 16))
    assert max(small.asked) == 320
    assert small.asked[-1] <= 30
    blocks = log_likelihood(model, Small(room=999), x, particles=20, block=(5, 4))
    assert torch.equal(found.log_likelihood, blocks.log_likelihood)


def test_no_room_for_a_single_particle_is_told_with_a_mend():
    with pytest.raises(MemoryError, match="out of memory on cpu with one particle of one row"):
        log_likelihood(model, Small(room=0), torch.randn(4, 3), particles=2)
