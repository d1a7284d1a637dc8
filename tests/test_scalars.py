"""Data of shape (n,), latents of shape (), and latents that all data share, in every metric."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from priory import evaluate, fit
from priory.data import Data
from priory.evaluation import evaluate_samples
from priory.inference import ELBO


class Scalar:
    """x | z ~ N(z, 1), z ~ N(0, 1), all of event shape ()."""

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))


class Wide:
    """The same of shape (n, 1)."""

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5).to_event(1))


OPTIONS = {"pictures": False, "particles": 30, "steps": 5, "few": 10}


def test_scalar_sites_have_the_numbers_of_one_feature():
    x, y = torch.randn(60) * 2**0.5, torch.arange(60) % 2
    scalar = evaluate(Scalar, {"x": x, "y": y}, **OPTIONS)
    wide = evaluate(Wide, {"x": x.unsqueeze(1), "y": y}, **OPTIONS)
    assert [r.name for r in scalar] == [r.name for r in wide]
    for one, other in zip(scalar, wide, strict=True):
        assert (one.value is None) == (other.value is None), one.name
        if one.value is not None:
            assert one.value == pytest.approx(other.value, rel=1e-3, abs=1e-4), one.name


@pytest.mark.parametrize("group", ["likelihood", "posterior", "latents", "samples", "insight"])
def test_a_latent_that_all_data_share_is_no_datums_own(group):
    def model(x):
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mu, 1.0).expand([1]).to_event(1), obs=x)

    def guide(x):
        m = pyro.param("m", torch.tensor(0.0))
        pyro.sample("mu", dist.Normal(m, 0.1))

    data = Data.from_arrays(torch.randn(60, 1) + 2)
    run = fit((model, guide), ELBO(), data, steps=2, batch_size=20)
    report = evaluate(run, metrics=[group], **OPTIONS)
    for record in report:
        needs_own = group in ("likelihood", "latents") or record.name.startswith("calibration")
        assert record.value is None or not needs_own, record.name


def test_samples_of_shape_n_are_judged():
    x, y = torch.randn(80), torch.randn(80)
    flat = evaluate_samples(x, y, metrics=["mmd", "energy", "precision"], pictures=False)
    wide = evaluate_samples(
        x.unsqueeze(1), y.unsqueeze(1), metrics=["mmd", "energy", "precision"], pictures=False
    )
    for one, other in zip(flat, wide, strict=True):
        assert one.value == other.value, one.name
