"""Pairs at fault: what does not fit is told before the first step, in what was expected and got."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from priory import evaluate, fit
from priory.data import Data
from priory.inference import ELBO, IWAE, SVI, Reconstruction
from priory.models import VAE

ROWS, WIDTH = 16, 3


class Pair(nn.Module):
    """A pair of which either program can be replaced."""

    def __init__(self, observe=None, infer=None):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(WIDTH))
        self.shift = nn.Parameter(torch.zeros(()))
        self.observe, self.infer = observe or observe_x, infer or infer_z

    def model(self, x):
        pyro.module("pair", self)
        with pyro.plate("data", len(x), dim=-1):
            self.observe(self, x, pyro.sample("z", dist.Normal(0.0, 1.0)))

    def guide(self, x):
        pyro.module("pair", self)
        with pyro.plate("data", len(x), dim=-1):
            self.infer(self, x)


def observe_x(pair, x, z):
    pyro.sample("x", dist.Normal(z[..., None] + pair.loc, 1.0).to_event(1), obs=x)


def infer_z(pair, x):
    pyro.sample("z", dist.Normal(x.mean(-1) + pair.shift, 1.0))


DATA = Data.from_arrays(x=np.random.default_rng(0).normal(size=(60, WIDTH)))


def train(pair, objective=None, data=DATA, **options):
    return fit(pair, objective or ELBO(), data, steps=1, batch_size=ROWS, device="cpu", **options)


def refused(pair, words, objective=None):
    """Raises before any parameter is changed, in `fit` and in `SVI` alike."""
    before = [p.detach().clone() for p in pair.parameters()]
    with pytest.raises(ValueError, match=words):
        train(pair, objective)
    with pytest.raises(ValueError, match=words):
        SVI(pair.model, pair.guide, torch.optim.Adam, objective or ELBO()).step(
            DATA.train.take(slice(ROWS))["x"]
        )
    assert all(torch.equal(a, b) for a, b in zip(before, pair.parameters(), strict=True))


def test_the_pair_itself_is_sound():
    assert train(Pair()).history[-1]["step"] == 1


# --- shapes and dtypes -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built():
    data = Data.from_arrays(x=torch.rand(40, 1, 4, 4).round())
    return fit(VAE(latent=2), ELBO(), data, steps=1, device="cpu").pair


@pytest.mark.parametrize(
    ("shape", "got"),
    [((3, 4, 4), r"\(3, 4, 4\)"), ((16,), r"\(16,\)"), ((4, 4), r"\(4, 4\)"), ((1, 5, 4), "5, 4")],
)
def test_wrong_rank_or_channels_are_told_as_expected_against_got(built, shape, got):
    words = rf"built for data of shape \(1, 4, 4\), got .*{got}"
    x = torch.rand(40, *shape).round()
    with pytest.raises(ValueError, match=words):
        evaluate(built, {"x": x}, metrics=["nll"], particles=2)
    with pytest.raises(ValueError, match=words):
        fit(built, ELBO(), Data.from_arrays(x=x), steps=1, device="cpu")


@pytest.mark.parametrize(
    ("observe", "drawn"),
    [
        (lambda p, z: dist.Normal(z[..., None] + p.loc.mean(), 1.0).to_event(1), r"\(16, 1\)"),
        (lambda p, z: dist.Normal(z[..., None] + p.loc, 1.0).to_event(2), r"\(16, 16, 3\)"),
        (lambda p, z: dist.Normal(z[..., None].expand(-1, 4), 1.0).to_event(1), r"\(16, 4\)"),
    ],
)
def test_data_of_another_shape_than_their_distribution_are_an_error(observe, drawn):
    pair = Pair(lambda p, x, z: pyro.sample("x", observe(p, z), obs=x))
    refused(pair, rf"have the shape \(16, 3\), and its distribution draws the shape {drawn}")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_a_wrong_dtype_is_told_as_expected_against_got(built, dtype):
    x = torch.ones(40, 1, 4, 4, dtype=dtype)
    with pytest.raises(ValueError, match=rf"expects real numbers, got x of {dtype}"):
        evaluate(built, {"x": x}, metrics=["nll"], particles=2)


def test_a_net_for_images_refuses_tables():
    with pytest.raises(
        ValueError, match=r"expected images \(channels, height, width\), got \(3,\)"
    ):
        train(VAE(encoder="conv", latent=2))


# --- densities of a wrong shape ----------------------------------------------------------------


def scalar_against_column(pair, x, z):
    loc = z[..., None] + pair.loc.sum() + pair.shift
    pyro.sample("x", dist.Normal(loc, 1.0), obs=x[:, 0])


def no_event_dims(pair, x, z):
    pyro.sample("x", dist.Normal(z[..., None] + pair.loc, 1.0), obs=x)


def half_a_batch(pair, x, z):
    pyro.sample("x", dist.Normal((z[..., None] + pair.loc)[:5], 1.0).to_event(1), obs=x)


def latent_as_column(pair, x):
    pyro.sample("z", dist.Normal(x.mean(-1, keepdim=True) + pair.shift, 1.0))


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (
            lambda: Pair(scalar_against_column),
            r"'x' in the model has the shape \(16, 16\).*to_event",
        ),
        (lambda: Pair(no_event_dims), "[Ss]hape"),
        (lambda: Pair(half_a_batch), "[Ss]hape"),
        (lambda: Pair(infer=latent_as_column), r"has the shape .*no plate's.*to_event"),
    ],
)
def test_a_log_probability_of_a_wrong_shape_is_an_error_before_the_first_step(pair, words):
    refused(pair(), words)


# --- sites -------------------------------------------------------------------------------------


def infers_nothing(pair, x):
    pass


def infers_more(pair, x):
    infer_z(pair, x)
    pyro.sample("w", dist.Normal(0.0, 1.0))


def infers_x(pair, x):
    infer_z(pair, x)
    pyro.sample("x", dist.Normal(0.0, 1.0))


def infers_twice(pair, x):
    infer_z(pair, x)
    infer_z(pair, x)


def infers_misspelled(pair, x):
    pyro.sample("Z", dist.Normal(x.mean(-1) + pair.shift, 1.0))


def observes_twice(pair, x, z):
    observe_x(pair, x, z)
    observe_x(pair, x, z)


def draws_twice(pair, x, z):
    pyro.sample("z", dist.Normal(0.0, 1.0))
    observe_x(pair, x, z)


@pytest.mark.parametrize("objective", [ELBO(), IWAE(3), Reconstruction()])
@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (lambda: Pair(infer=infers_nothing), "the model draws 'z', which the guide does not"),
        (lambda: Pair(infer=infers_misspelled), "the model draws 'z', which the guide does not"),
        (lambda: Pair(infer=infers_more), "the guide draws 'w', which is no latent of the model"),
        (lambda: Pair(infer=infers_x), "the guide draws 'x', which is no latent of the model"),
        (lambda: Pair(infer=infers_twice), "two sites are called 'z'"),
        (lambda: Pair(draws_twice), "two sites are called 'z'"),
        (lambda: Pair(observes_twice), "two sites are called 'x'"),
    ],
)
def test_sites_that_do_not_match_are_an_error_at_the_start(pair, words, objective):
    refused(pair(), words, objective)
