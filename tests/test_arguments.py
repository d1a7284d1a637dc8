"""Programs' arguments: whose signature counts, through methods, partials and Pyro's handlers."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.contrib.easyguide import easy_guide
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoNormal
from torch import nn

from priory import fit
from priory.data import Data
from priory.inference import ELBO, SVI, Phases
from priory.inference.phases.arguments import bind, modules_of, named, owner, signature

COLUMNS = {"x": 1, "y": 2, "index": 3, "self": 4}


def decorated(function):
    @functools.wraps(function)
    def outer(*args, **kwargs):
        return function(*args, **kwargs)

    return outer


class Programs(nn.Module):
    def plain(self, x, y=None):
        return x, y

    def other_word(this, x, y=None):
        return x, y

    @decorated
    def wrapped(me, x, y=None):
        return x, y

    @staticmethod
    def static(x, y=None):
        return x, y

    @classmethod
    def of_class(cls, x, y=None):
        return x, y

    @config_enumerate
    def enumerated(this, x, y=None):
        return x, y

    @config_enumerate(default="parallel")
    @poutine.scale(scale=2.0)
    def twice(self, x, y=None):
        return x, y

    def three(self, first, x, y=None):
        return x, y

    partial = functools.partialmethod(three, "given")

    def forward(self, x, y=None):
        return x, y


class Called:
    def __call__(this, x, y=None):
        return x, y


def free(x, y=None):
    return x, y


PROGRAMS = Programs()
SAME = {
    "method": PROGRAMS.plain,
    "method of another word": PROGRAMS.other_word,
    "wrapped method": PROGRAMS.wrapped,
    "static method": PROGRAMS.static,
    "class method": PROGRAMS.of_class,
    "enumerated method": PROGRAMS.enumerated,
    "method under two handlers": PROGRAMS.twice,
    "partial method": PROGRAMS.partial,
    "module": PROGRAMS,
    "object": Called(),
    "function": free,
    "wrapped function": decorated(free),
    "partial": functools.partial(PROGRAMS.three, "given"),
    "scaled": poutine.scale(free, scale=0.5),
    "masked": poutine.mask(free, mask=True),
    "blocked": poutine.block(free),
    "conditioned": poutine.condition(free, data={}),
    "traced": poutine.trace(free),
    "reparameterised": poutine.reparam(free, config={}),
    "scaled module": poutine.scale(PROGRAMS, scale=0.5),
    "partial of a handler": functools.partial(poutine.scale(PROGRAMS.three, scale=2.0), "given"),
    "handler of a partial": poutine.scale(functools.partial(PROGRAMS.three, "given"), scale=2.0),
    "wrapped handler": decorated(poutine.scale(free, scale=2.0)),
}


@pytest.mark.parametrize("name", SAME)
def test_a_program_gets_the_columns_that_it_names(name):
    program = SAME[name]
    for _ in range(2):  # the second time from what is known of it
        assert bind(program, COLUMNS) == {"x": 1, "y": 2}
        assert named(program, (1, 2)) == {"x": 1, "y": 2}
        with pytest.raises(ValueError, match="needs the argument 'x'"):
            bind(program, {"y": 2})
    assert program(**bind(program, COLUMNS)) == (1, 2)


def test_an_argument_called_self_of_a_function_is_an_argument():
    def program(self, x):
        return self, x

    assert bind(program, COLUMNS) == {"self": 4, "x": 1}


def test_one_function_as_method_and_alone_is_two_programs():
    assert bind(Programs.plain, COLUMNS) == {"self": 4, "x": 1, "y": 2}
    assert bind(PROGRAMS.plain, COLUMNS) == {"x": 1, "y": 2}


def test_what_a_partial_has_given_no_column_replaces():
    assert bind(functools.partial(free, y=None), COLUMNS) == {"x": 1}


@pytest.mark.parametrize(
    "program",
    [
        lambda x, **others: (x, others),
        lambda x, *rest, **others: (x, others),
        poutine.scale(lambda x, **others: (x, others), scale=1.0),
    ],
)
def test_keywords_of_any_name_get_no_column(program):
    assert bind(program, COLUMNS) == {"x": 1}
    assert signature(program).keywords


def test_the_signature_that_a_decorator_declares_counts():
    def program(*args, **kwargs):
        return args, kwargs

    import inspect

    program.__signature__ = inspect.signature(lambda y: None)
    assert bind(program, COLUMNS) == {"y": 2}


def test_owner_and_modules_are_found_below_handlers():
    net = nn.Linear(1, 1)

    def closed(x):
        return net(x)

    for name in ("method", "wrapped method", "enumerated method", "method under two handlers"):
        assert owner(SAME[name]) is PROGRAMS, name
        assert PROGRAMS in modules_of(SAME[name]), name
    assert owner(poutine.scale(PROGRAMS, scale=2.0)) is PROGRAMS
    for program in (closed, decorated(closed), config_enumerate(closed), poutine.trace(closed)):
        assert modules_of(program)[0] is net
    assert owner(closed) is closed


def shared(x, **others):
    assert not others
    mean = pyro.sample("mean", dist.Normal(x.new_zeros(()), 3.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mean, 1.0).expand([1]).to_event(1), obs=x)


def plain(x):
    shared(x)


@easy_guide(plain)
def easy(self, x):
    self.map_estimate("mean")


DATA = Data.from_arrays(torch.linspace(1.0, 3.0, 40, dtype=torch.float64)[:, None])


@pytest.mark.parametrize("model", [shared, plain, poutine.scale(plain, scale=1.0)])
@pytest.mark.parametrize("guide", [AutoNormal, AutoDelta])
@pytest.mark.parametrize("handler", [lambda guide: guide, poutine.scale(scale=1.0)])
def test_an_autoguide_gets_what_its_model_names(model, guide, handler):
    run = fit((model, handler(guide(model))), ELBO(), DATA, steps=2, batch_size=16)
    assert len(run.history) == 1


def test_an_easy_guide_gets_what_it_names():
    assert bind(easy, COLUMNS) == {"x": 1}
    fit((plain, easy), ELBO(), DATA, steps=2, batch_size=16)


class Mixture(nn.Module):
    """Two components whose one-step gradient is known by summing over both."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.means = nn.Parameter(torch.tensor([-1.0, 1.0], dtype=dtype))
        self.encoder = nn.Linear(1, 2, dtype=dtype)

    def model(this, x):
        pyro.module("mixture", this)
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(x.new_ones(2)))
            mean = this.means[k].unsqueeze(-1)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    @config_enumerate
    def guide(this, x):
        pyro.module("mixture", this)
        with pyro.plate("data", len(x)):
            pyro.sample("k", dist.Categorical(logits=this.encoder(x)))


def test_an_enumerated_method_is_trained_by_the_sum_over_its_values():
    pair, x = Mixture(torch.float64), DATA.train.x[:16].double()
    with torch.no_grad():
        start = pair.means.clone()
        q = pair.encoder(x).softmax(-1)
        gradient = (q * (x - start)).sum(0)  # of sum_n sum_k q_nk log N(x_n; m_k, 1)
    with pyro.get_param_store().scope():
        optim = functools.partial(torch.optim.SGD, lr=0.1)
        svi = SVI(pair.model, pair.guide, optim, TraceEnum_ELBO(max_plate_nesting=1))
        svi.step(x)
    torch.testing.assert_close(pair.means.detach(), start + 0.1 * gradient)
    run = fit(Mixture(), TraceEnum_ELBO(max_plate_nesting=1), DATA, steps=3, batch_size=16)
    assert run.history[-1]["step"] == 3


def test_a_keyword_that_no_program_names_is_an_error_not_dropped():
    with pyro.get_param_store().scope():
        svi = SVI(shared, AutoNormal(shared), functools.partial(torch.optim.SGD, lr=0.1), ELBO())
        with pytest.raises(ValueError, match=r"no program names the argument 'beta'"):
            svi.step(DATA.train.x, beta=2.0)


def test_phases_bind_a_guide_that_forwards():
    with pyro.get_param_store().scope():
        phases = Phases(shared, AutoNormal(shared), columns={"x": DATA.train.x, "index": 0})
        assert phases.awake.latents == ("mean",)
