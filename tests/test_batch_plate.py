"""The batch plate is called `data`; one of another name is refused in words where rows are data."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

from priory import evaluate, fit
from priory.data import Data
from priory.inference import ELBO, IWAE

DATA = Data.from_arrays(torch.linspace(-1.0, 2.0, 100).reshape(50, 2))
WORDS = "rows are in a plate called 'rows'; call it 'data'"


def programs(model_plate, guide_plate, size=None):
    def plate(name, x):
        return pyro.plate(name, size or len(x), subsample=torch.arange(len(x)))

    def model(x):
        with plate(model_plate, x):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.zeros(2))
        with plate(guide_plate, x):
            pyro.sample("z", dist.Normal(loc + x / 2, 0.7).to_event(1))

    return model, guide


@pytest.fixture(autouse=True)
def store():
    with pyro.get_param_store().scope():
        yield


@pytest.mark.parametrize("names", [("rows", "rows"), ("data", "rows"), ("rows", "data")])
@pytest.mark.parametrize("objective", [ELBO(), IWAE(3)])
def test_a_batch_plate_of_another_name_is_refused_before_training(names, objective):
    def never(row):
        raise AssertionError("a step was taken")

    with pytest.raises(ValueError, match=WORDS):
        fit(programs(*names), objective, DATA, steps=2, batch_size=16, on_epoch=never)


def test_a_subsampled_plate_of_another_name_is_refused():
    with pytest.raises(ValueError, match=WORDS):
        fit(programs("rows", "rows", 500), ELBO(), DATA, steps=2, batch_size=16)


def test_an_evaluation_gives_no_number_of_the_whole_batch():
    pair = programs("rows", "rows")
    run = fit(pair, Trace_ELBO(), DATA, steps=2, batch_size=16, valid_every=0)
    for record in evaluate(run, metrics=["nll", "elbo", "kl", "reconstruction"], pictures=False):
        assert record.value is None
        assert WORDS in record.note


def test_other_plates_beside_it_may_have_any_name_and_size():
    x = DATA.train.x[:2]

    def model(x):
        with pyro.plate("pixels", 2, dim=-1), pyro.plate("data", len(x), dim=-2):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    exact = -dist.Normal(0.0, 1.0).log_prob(x).sum(1).mean()
    torch.testing.assert_close(ELBO()(model, lambda x: None, x), exact)


def test_a_program_of_one_datum_needs_no_plate():
    x = DATA.train.x[:1]

    def model(x):
        pyro.sample("x", dist.Normal(x.new_zeros(2), 1.0).to_event(1), obs=x[0])

    exact = -dist.Normal(0.0, 1.0).log_prob(x).sum()
    torch.testing.assert_close(ELBO()(model, lambda x: None, x), exact)
