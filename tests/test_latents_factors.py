"""Disentanglement where the factors are known."""

import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch

from priory.evaluation import evaluate
from priory.evaluation.latents.disentanglement import dci, discretise, mig_values, sap_values

NAMES = ["mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness"]


def factors(n=1000, count=5, seed=0, values=10):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(values, (n, count), generator=draw).double()


def numbers(n=600, count=5, seed=0):
    return torch.rand(n, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grid():
    """Two factors of ten values, every combination as often as any other."""
    return torch.cartesian_prod(torch.arange(10.0), torch.arange(10.0)).double()


def test_values_are_taken_as_they_are_or_in_bins():
    assert discretise(torch.tensor([3.0, -1.0, 7.0, 3.0])).tolist() == [1, 0, 2, 1]
    bins = discretise(torch.linspace(0, 1, 1001))
    assert bins.min() == 0
    assert bins.max() == 19
    assert bins.bincount().max() <= 51


def test_the_identity_has_a_gap_of_one():
    v = grid()
    assert float(mig_values(v, v).mean()) == pytest.approx(1.0)
    assert float(mig_values(-3 * v[:, [1, 0]] + 2, v).mean()) == pytest.approx(1.0)
    assert float(sap_values(v, v).mean()) == pytest.approx(1.0 - 0.1)  # chance finds 1 class in 10


def test_the_gap_over_a_latent_that_tells_the_parity():
    v = grid()[:, :1]  # I(z1; v) = H(v) = ln 10 and I(z2; v) = ln 2
    z = torch.cat([v, v % 2], 1)
    assert float(mig_values(z, v).mean()) == pytest.approx(1 - math.log(2) / math.log(10))


def test_doubled_latents_have_no_gap():
    for v in (factors(), numbers()):
        doubled = torch.cat([v, 2 * v + 1], 1)
        assert float(mig_values(doubled, v).mean()) == pytest.approx(0.0, abs=1e-9)
        assert float(sap_values(doubled, v).mean()) == pytest.approx(0.0, abs=1e-9)


def test_the_squared_correlation_of_numbers_gives_sap():
    v = numbers(count=2)
    noise = 0.2 * torch.randn(600, 2, generator=torch.Generator().manual_seed(1)).double()
    z = torch.cat([v[:, :1] + noise[:, :1], noise[:, 1:]], 1)
    squares = torch.corrcoef(torch.cat([z, v], 1).T)[:2, 2:].square()
    gaps = (squares[0] - squares[1]).abs().mean()
    assert float(sap_values(z, v).mean()) == pytest.approx(float(gaps))


@pytest.mark.parametrize("make", [factors, numbers])
def test_dci_of_the_identity_is_one(make):
    v = make()
    found = dci(v[::2], v[::2], (v[1::2], v[1::2]))
    assert found.disentanglement > 0.98
    assert found.completeness > 0.98
    assert float(found.informativeness.mean()) > 0.98
    assert torch.allclose(found.importances, torch.eye(5).double(), atol=0.02)


def test_dci_of_doubled_latents_is_less_complete_by_ln2_over_ln10():
    v = numbers()
    z = torch.cat([v, v], 1)  # each factor is predicted by 2 of 10 latents alike
    found = dci(z[::2], v[::2], (z[1::2], v[1::2]))
    assert found.disentanglement > 0.97
    assert found.completeness == pytest.approx(1 - math.log(2) / math.log(10), abs=0.02)


def test_a_rotation_is_entangled_yet_informative():
    v = numbers(count=2, n=1000) - 0.5
    turn = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]).double() / math.sqrt(2)
    z = v @ turn
    found = dci(z[::2], v[::2], (z[1::2], v[1::2]))
    assert found.disentanglement < 0.1
    assert found.completeness < 0.1
    assert float(found.informativeness.mean()) > 0.95
    assert float(mig_values(z, v).mean()) < 0.1
    assert float(sap_values(z, v).mean()) < 0.1


def test_errors_are_the_bootstraps():
    v = factors(n=400, count=2, values=4)
    noise = torch.randn(400, 2, generator=torch.Generator().manual_seed(3)).double()
    z = v + noise
    for values in (mig_values, sap_values):
        error = float(values(z, v).std()) / math.sqrt(400)
        means = []
        for seed in range(100):
            index = torch.randint(400, (400,), generator=torch.Generator().manual_seed(seed))
            means.append(values(z[index], v[index]).mean())
        assert error == pytest.approx(float(torch.stack(means).std()), rel=0.3)


def test_order_does_not_matter():
    v = factors(n=300)
    z = v + torch.randn(300, 5, generator=torch.Generator().manual_seed(3)).double()
    order = torch.randperm(300, generator=torch.Generator().manual_seed(4))
    for values in (mig_values, sap_values):
        assert torch.allclose(values(z[order], v[order]), values(z, v)[order])


def test_a_constant_factor_is_refused():
    with pytest.raises(ValueError, match="factor 1 has a single value"):
        mig_values(numbers(), torch.cat([numbers(count=1), torch.ones(600, 1)], 1))


def pair(width):
    """A pair whose latents are its data."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(width).double(), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.1).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 0.1).to_event(1))

    return SimpleNamespace(model=model, guide=guide)


@pytest.mark.parametrize("together", [True, False])
def test_columns_of_factors_are_found(together):
    v = numbers(count=3)
    columns = {"factors": v} if together else {f"factor_{k}": v[:, k] for k in range(3)}
    report = evaluate(pair(3), {"x": v, "y": torch.zeros(600), **columns}, metrics=NAMES)
    values = {name: report[name].value for name in NAMES}
    assert values["mig"] > 0.8
    assert min(values[name] for name in NAMES[1:]) > 0.95
    assert report["mig"].se > 0
    assert report["dci_completeness"].se is None


def test_training_rows_fit_the_forests():
    v = numbers(count=3)
    columns = {"x": v, "factors": v}
    data = SimpleNamespace(
        train={k: c[:400] for k, c in columns.items()},
        valid={},
        test={k: c[400:] for k, c in columns.items()},
    )
    record = evaluate(pair(3), data, metrics=NAMES)["dci_informativeness"]
    assert record.n == 200
    assert "training rows" in record.note


def test_labels_alone_are_no_factors():
    v = numbers(count=3)
    report = evaluate(pair(3), {"x": v, "y": torch.arange(600) % 3}, metrics=NAMES)
    assert all("no known factors" in report[name].note for name in NAMES)
