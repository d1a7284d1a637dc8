"""What `fit` is asked for in a wrong way is refused before anything runs; threads take turns."""

import functools
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from priory import evaluate, fit
from priory.data import Data
from priory.evaluation.subject import build
from priory.inference import ELBO, SVI
from priory.inference.alone import alone
from priory.inference.distributed.noise import GlobalNoise, shared_by
from priory.inference.randomness import own_randomness
from priory.models import VAE

DATA = Data.from_arrays(torch.arange(900.0).reshape(300, 3) / 900)


def train(seed=0, **options):
    options = {"steps": 6, "batch_size": 32, "compile": "off", "valid_every": 0, **options}
    return fit(VAE(latent=2), ELBO(), DATA, seed=seed, **options)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        *(({"precision": p}, "precision must be one of") for p in ("float16", "BF16", None, 16)),
        *(({"compile": c}, "compile must be one of") for c in (True, False, None, "banana", 1)),
        *(({"seed": s}, "seed must be an integer") for s in (None, True, -1, 0.0, "0")),
        *(({"batch_size": b}, "batch_size must be an integer") for b in (None, True, 0, 32.0)),
        *(({"lr": v}, "lr must be positive") for v in (True, None, math.nan, math.inf, "fast")),
        *(({"clip": v}, "clip must be positive") for v in (True, math.nan, 0)),
        *(({"ema": v}, "ema must lie") for v in (True, math.nan, 1)),
        *(({"schedule": s}, "schedule must be") for s in ("falling", None, True)),
        *(({"watch": v}, "watch must be one of") for v in (1, None, "no")),
        *(({"check": v}, "check must be one of") for v in (0, "yes")),
        *(({"device": v}, "device") for v in ("CPU", None, True)),
        *(({"resume": v}, "resume must be one of") for v in ("yes", None, 1)),
        ({"progress": "no"}, "progress must be one of"),
        ({"checkpoint_every": None}, "checkpoint_every must be"),
        ({"keep": 1}, "keep must be"),
        ({"on_epoch": 3}, "on_epoch must be callable"),
        ({"folder": 3}, "folder must be a path"),
        ({"best": "mmd"}, "best must be a Criterion"),
        ({"optim": "adam"}, "optim must be a torch optimiser's class"),
        ({"optim": pyro.optim.Adam({"lr": 1e-3})}, "SVI takes those of pyro.optim"),
        ({"optim": pyro.optim.Adam}, "cannot be called as one"),
        ({"optim": dict}, "cannot be called as one"),
        ({"optim": torch.optim.LBFGS}, "step without a closure"),
        ({"optim": functools.partial(torch.optim.Adam, lr=0.1)}, r"give fit lr=0\.1"),
        ({"precision": "x", "compile": "y", "seed": -1}, "seed.*compile.*precision"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(option, words):
    def never(row):
        raise AssertionError("a step was taken")

    with pytest.raises(ValueError, match=words):
        train(**{"on_epoch": never, **option})


def test_numbers_of_numpy_are_numbers():
    own = train(steps=6, lr=0.01, clip=0.5, seed=1)
    same = {"steps": np.int64(6), "lr": np.float64(0.01), "clip": np.float32(0.5)}
    other = train(**same, seed=np.uint8(1))
    assert own.history[-1]["loss"] == other.history[-1]["loss"]
    assert type(other.config["steps"]) is int
    assert type(other.config["lr"]) is float


def test_a_partial_with_the_same_rate_is_taken():
    named = train(optim=functools.partial(torch.optim.Adam, lr=0.01, amsgrad=True), lr=0.01)
    assert named.history[-1]["step"] == 6


@pytest.mark.parametrize("option", [{"compile": "banana"}, {"precision": "half"}, {"skip": 1.5}])
def test_svi_refuses_the_same_words(option):
    pair = VAE(latent=2)
    with pytest.raises(ValueError, match="must be"):
        SVI(pair.model, pair.guide, torch.optim.Adam, ELBO(), **option)


def test_threads_take_turns_and_each_is_right():
    def go(seed):
        run = train(seed=seed, valid_every=1)
        report = evaluate(run, metrics=["nll"], particles=5, pictures=False)
        return run.history[-1]["loss"], report["nll"].value, run.sample(4)["x"]

    alone = [go(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(go, range(3)))
    for one, other in zip(alone, together, strict=True):
        assert one[:2] == other[:2]
        assert torch.equal(one[2], other[2])


@pytest.mark.parametrize("way", ["build", "own randomness"])
def test_no_thread_takes_back_the_draws_of_another(way):
    """Each puts the random state back: while another trains, that would draw the same twice."""
    pair, rows = VAE(latent=2), {"x": DATA.train.x}
    entered, left = threading.Event(), threading.Event()

    def keep():
        entered.set()
        if way == "build":
            build(pair, rows)
        else:
            with own_randomness(torch.device("cpu")):
                pass
        left.set()

    with alone():
        other = threading.Thread(target=keep)
        other.start()
        assert entered.wait(10)
        assert not left.wait(0.2)
    assert left.wait(10)
    other.join()


def flat(x):
    mean = pyro.param("mean", torch.zeros(3))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)


def shared(x):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mean, 1.0).expand([3]).to_event(1), obs=x)


def shared_guide(x):
    # the exact posterior given all rows, so that the bound is log p(all) / N whatever is drawn
    n = len(x) * 3
    pyro.sample("mean", dist.Normal(x.sum() / (n + 1), (n + 1) ** -0.5))


@pytest.mark.parametrize("particles", [1, 2, 16])
def test_the_bound_of_a_pair_without_latents_is_exact(particles):
    options = {"steps": 1, "lr": 1e-9, "valid_particles": particles}
    run = fit((flat, lambda x: None), ELBO(), DATA, **options)
    exact = dist.Normal(0.0, 1.0).log_prob(DATA.valid.x).sum(1).mean()
    assert run.history[-1]["bound"] == pytest.approx(float(exact), abs=1e-5)


@pytest.mark.parametrize("particles", [1, 2, 16])
def test_the_bound_of_a_shared_latent_is_the_evidence_of_the_rows(particles):
    def unused(x):
        pyro.param("unused", torch.zeros(()))
        shared_guide(x)

    options = {"steps": 1, "valid_particles": particles, "check": False}
    run = fit((shared, unused), ELBO(), DATA, **options)
    x = DATA.valid.x.flatten().double()
    covariance = torch.eye(len(x), dtype=x.dtype) + 1.0
    exact = dist.MultivariateNormal(torch.zeros_like(x), covariance).log_prob(x)
    value = float(exact) / len(DATA.valid.x)
    assert run.history[-1]["bound"] == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("particles", [1, 8])
def test_the_bound_of_shared_and_local_latents_is_exact_at_the_posterior(particles):
    def model(x):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(mean, 1.0).expand([3]).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        pyro.param("unused", torch.zeros(()))
        n = len(x) * 3  # x given the mean has variance 2
        mean = pyro.sample("mean", dist.Normal(x.sum() / (n + 2), (1 + n / 2) ** -0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal((mean + x) / 2, 0.5**0.5).to_event(1))

    options = {"steps": 1, "valid_particles": particles, "check": False}
    run = fit((model, guide), ELBO(), DATA, **options)
    x = DATA.valid.x.flatten().double()
    covariance = 2 * torch.eye(len(x), dtype=x.dtype) + 1.0
    exact = dist.MultivariateNormal(torch.zeros_like(x), covariance).log_prob(x)
    value = float(exact) / len(DATA.valid.x)
    assert run.history[-1]["bound"] == pytest.approx(value, abs=1e-4)


def test_scalar_shared_latents_are_trained_sampled_and_loaded(tmp_path):
    from priory import load

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.0))
        pyro.sample("mean", dist.Normal(loc, 0.1))

    run = fit((shared, guide), ELBO(), DATA, steps=20, batch_size=60, lr=0.05)
    run.save(tmp_path)
    again = load(tmp_path, pair=(shared, guide), data=DATA)
    for one in (run, again):
        drawn = one.sample(5, seed=1)
        assert drawn["x"].shape == (5, 3)
        assert drawn["mean"].shape == ()
    assert torch.equal(run.sample(5)["x"], again.sample(5)["x"])


def test_noise_within_noise_gives_back_the_outer_one():
    assert shared_by() == 1
    with GlobalNoise(0, 4, 2):
        with GlobalNoise(0, 2, 2):
            assert shared_by() == 2
        assert shared_by() == 4
    assert shared_by() == 1
