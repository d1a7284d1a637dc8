"""What CONTRIBUTING.md shows works as it stands: each part is written to a file, and used."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

from priory.cli import main
from priory.data import Data
from priory.evaluation import evaluate
from priory.inference import ELBO, fit, load
from priory.models import PAIRS, VAE
from priory.priors import PRIORS

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The page's parts, each in a module of its own, by the name of its class."""
    folder = tmp_path_factory.mktemp("contributed")
    kept = [(table, dict(table)) for table in (PRIORS, PAIRS)]
    sys.path.insert(0, str(folder))
    found = {}
    for i, block in enumerate(BLOCKS):
        (folder / f"contributed{i}.py").write_text(block, encoding="utf-8")
        module = importlib.import_module(f"contributed{i}")
        found |= {
            k: v for k, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__
        }
    yield found
    sys.path.remove(str(folder))
    for table, before in kept:
        table.clear()
        table.update(before)


def test_the_page_shows_a_prior_and_a_model(shown):
    assert {"Laplace", "Scaled"} <= {*shown}


def test_the_prior_has_unit_variance_and_serves_by_its_name(shown, tmp_path, capsys):
    prior = shown["Laplace"]()
    prior.build(2, torch.zeros(5, 2))
    assert prior().variance.tolist() == pytest.approx([1, 1])
    exact = torch.distributions.Laplace(0.0, 0.5**0.5).log_prob(torch.tensor([0.3, -2.0])).sum()
    torch.testing.assert_close(prior().log_prob(torch.tensor([0.3, -2.0])), exact)
    assert main(["list", "priors"]) == 0
    assert "laplace" in capsys.readouterr().out
    out = str(tmp_path / "run")
    words = ["fit", "vae", "--data", "ring", "--prior", "laplace", "--steps", "2", "--out", out]
    assert main([*words, "--compile", "off"]) == 0
    assert type(load(out).pair.prior) is shown["Laplace"]


def test_the_model_is_a_vae_whose_latent_is_stretched(shown, tmp_path):
    data = Data.named("ring", rows=200)
    options = {"steps": 30, "compile": "off", "progress": False, "seed": 0}
    one = fit(shown["Scaled"](latent=2, stretch=1.0), ELBO(), data, **options)
    other = fit(VAE(latent=2), ELBO(), data, **options)
    assert one.history[-1]["loss"] == pytest.approx(other.history[-1]["loss"])
    run = fit(shown["Scaled"](latent=2), ELBO(), data, **options)
    again = load(run.save(tmp_path / "run"))
    assert again.pair.stretch == 2.0
    report = evaluate(again, metrics=["nll"], particles=50, pictures=False)
    assert report["nll"].value is not None
