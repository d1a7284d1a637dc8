"""Constraints: the multiplier that is found is the one of the Lagrangian's saddle point."""

from __future__ import annotations

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from priory import fit, load
from priory.cli import main
from priory.data import Data
from priory.divergences import mmd
from priory.inference import (
    ELBO,
    KL,
    SVI,
    Constraint,
    Linear,
    Match,
    Reconstruction,
)
from priory.models import VAE
from priory.nets import MLP
from priory.parsing import parse_objective
from priory.recipes import RECIPES
from priory.serialisation import from_config, to_config

SQUARED = partial(Reconstruction, cost="squared")


class Line(nn.Module):
    """p(z) = N(0, 1), p(x | z) = N(z, 1), q(z | x) = N(m, 0.01^2): the mean m alone is trained."""

    def __init__(self):
        super().__init__()
        self.m = nn.Parameter(torch.zeros(()))

    def model(self, x):
        pyro.module("line", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x):
        pyro.module("line", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.m, 0.01))


def trained(objective, steps, compile="off", lr=0.01):
    """Train the line on the datum 3."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    pair, x = Line(), torch.full((20,), 3.0)
    svi = SVI(pair.model, pair.guide, partial(torch.optim.Adam, lr=lr), objective, compile=compile)
    losses = [float(svi.step(x)) for _ in range(steps)]
    return pair, losses, svi


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_saddle_point_is_found(scale):
    """Least m^2 / 2 with (3 - m)^2 <= 1: m = 2, where m = 2 lambda (3 - m); in any unit."""
    constraint = Constraint(scale * SQUARED(), at_most=scale, start=0.2 / scale)
    pair, _, _ = trained(KL() + constraint, 1500)
    assert float(pair.m.detach()) == pytest.approx(2, abs=0.03)
    numbers = constraint.multipliers()
    assert numbers["multiplier.reconstruction"] * scale == pytest.approx(1, abs=0.1)
    assert numbers["constraint.reconstruction"] == pytest.approx(scale, abs=0.1 * scale)


def test_a_constraint_that_holds_by_itself_costs_nothing():
    pair, _, _ = trained(KL() + (constraint := Constraint(SQUARED(), at_most=20.0)), 700)
    assert abs(float(pair.m.detach())) < 0.05
    assert constraint.multipliers()["multiplier.reconstruction"] < 2e-3


def test_information_goes_up_or_down_between_the_same_bounds():
    """LagVAE: of all guides whose ELBO is as good, the least and the most informative latents."""
    rates = []
    data = Data.named("ring", rows=512)
    for primal in (KL(), Reconstruction()):
        torch.manual_seed(1)
        pair = VAE(latent=2, encoder=MLP((32,)), decoder=MLP((32,)), likelihood="normal")
        objective = primal + Constraint(ELBO(), at_most=2.6) + Constraint(Match(mmd, "z"), 0.05)
        run = fit(pair, objective, data, steps=300, lr=3e-3, batch_size=128, valid_every=0)
        x = {"x": data.train.x}
        with torch.no_grad():
            rates.append(float(KL()(pair.model, pair.guide, **x)))
            assert float(ELBO()(pair.model, pair.guide, **x)) < 2.8
        assert {"multiplier.elbo", "multiplier.match"} < {*run.history[-1]}
    assert rates[0] + 1 < rates[1]


@pytest.mark.parametrize("mode", ["trace", "inductor"])
def test_compiled_steps_move_the_multiplier_as_eager_ones_do(mode):
    def objective():
        return KL() + Constraint(SQUARED(), at_most=Linear(5.0, 1.0, 10), rate=0.1)

    eager, plain, _ = trained(one := objective(), 20)
    other, compiled, svi = trained(two := objective(), 20, mode)
    assert svi.engine == {"trace": "traced", "inductor": "compiled"}[mode]
    assert plain == pytest.approx(compiled, rel=1e-5)
    assert float(eager.m.detach()) == pytest.approx(float(other.m.detach()), rel=1e-5)
    assert one.multipliers() == pytest.approx(two.multipliers(), rel=1e-6)


def test_it_moves_in_training_alone_and_not_by_a_step_that_is_passed_over():
    pair, x = Line(), torch.full((20,), 3.0)
    constraint = Constraint(SQUARED(), at_most=1.0)
    with torch.no_grad():
        constraint(pair.model, pair.guide, x)
    assert constraint.multipliers()["multiplier.reconstruction"] == 1
    optim = partial(torch.optim.Adam, lr=0.01)
    svi = SVI(pair.model, pair.guide, optim, KL() + constraint, skip=1, check=False)
    svi.step(x)
    before = constraint.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    svi.step(x * torch.inf)
    assert svi.skipped == 1
    assert all(torch.equal(now, before[n]) for n, now in constraint.state_dict().items())
    svi.step(x)
    assert constraint.state_dict()["log"] > before["log"]


def test_the_multiplier_is_in_the_history_and_goes_on_from_where_it_was(tmp_path):
    options = {"latent": 2, "encoder": "mlp:8", "decoder": "mlp:8", "batch_size": 200}
    text = "kl + constraint:(reconstruction:cost=squared):20:rate=0.1 + constraint:reconstruction:9"
    data = Data.named("ring", rows=800)

    def run(epochs, folder, **more):
        return RECIPES["vae"].fit(
            data, objective=text, epochs=epochs, folder=tmp_path / folder, **options, **more
        )

    whole = run(4, "whole", schedule="constant")
    run(2, "parts", schedule="constant")
    parts = run(4, "parts", resume=True, schedule="constant")
    names = ["multiplier.reconstruction", "multiplier.reconstruction/2"]
    for name in (*names, "constraint.reconstruction", "loss"):
        assert [r[name] for r in whole.history] == [r[name] for r in parts.history]
    assert whole.history[0][names[0]] != whole.history[1][names[0]]
    again = load(tmp_path / "whole")
    assert to_config(again.objective) == to_config(whole.objective)


def test_it_is_written_as_text_and_as_plain_values():
    text = "kl + 2*constraint:(reconstruction:cost=squared + match:mmd):at_most=20:rate=0.1"
    _, scaled = parse_objective(text).terms()
    constraint = scaled.terms()[0]
    assert len(constraint.objective.terms()) == 2
    assert (constraint.at_most, constraint.rate) == (20, 0.1)
    again = from_config(to_config(constraint))
    assert to_config(again) == to_config(constraint)
    assert isinstance(parse_objective("constraint:elbo:(linear:9:1:5)").at_most, Linear)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate must be positive, got 0.0"),
        ({"start": -1.0}, "start must be positive"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1"),
        ({"objective": "kl"}, "expected an objective, got 'kl'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Constraint(**{"objective": KL(), "at_most": 1.0, **options})


def test_the_bound_is_asked_for(capsys):
    assert main(["fit", "vae", "--objective", "kl + constraint:reconstruction"]) == 2
    assert "at_most is needed" in capsys.readouterr().err
