"""ONNX models of a run: what noise becomes, what a map is, and that onnxruntime agrees."""

import json
import re
from pathlib import Path

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import MixtureSameFamily

from pairs import SMALL_PRIORS
from priory.cli import main
from priory.data import Data
from priory.distributions.chosen import Chosen
from priory.distributions.concrete import LogitConcrete
from priory.distributions.independent import IndependentNormal
from priory.distributions.kumaraswamy import Kumaraswamy
from priory.distributions.logit_normal import LogitNormal
from priory.distributions.pixels import IndependentBernoulli
from priory.distributions.strata import StratifiedMixture
from priory.inference import ELBO, fit
from priory.inference.phases.arguments import build
from priory.models import GAN, VAE, MaskedVAE
from priory.onnx import export
from priory.onnx.graphs import _lgamma, compute
from priory.onnx.maps import MAPS, RefusedError
from priory.onnx.noise import NORMAL, UNIFORM, Noise, NoMapError, draw
from priory.onnx.writing import DESCRIPTION, TOLERANCE
from priory.priors.mixture import NormalMixture
from priory.recipes import RECIPES
from test_recipes import parts

ort = pytest.importorskip("onnxruntime")

# --- noise ----------------------------------------------------------------------------------------

N = 20_000


def noise():
    generator = torch.Generator().manual_seed(4)
    real = {"generator": generator, "dtype": torch.float64}
    return Noise(N, {NORMAL: torch.randn(N, 4, **real), UNIFORM: torch.rand(N, 4, **real)})


def t(*values):
    return torch.tensor(values, dtype=torch.float64)


NORMALS = IndependentNormal(t([0.0, 1.0], [2.0, -1.0]), t([0.1, 0.2], [-0.3, 0.0]), 1)
FULL = dist.MultivariateNormal(t([0.0, 1.0], [2.0, -1.0]), scale_tril=t([[1.0, 0.0], [0.5, 2.0]]))
WITH_MAPS = {
    "normal": lambda: IndependentNormal(t(1.0, 2.0), t(0.3, -0.5), 1),
    "library's": lambda: dist.Normal(t(1.0, 2.0), t(0.3, 2.0)).to_event(1),
    "full": lambda: dist.MultivariateNormal(t(1.0, 2.0), scale_tril=t([1.0, 0.0], [0.5, 2.0])),
    "uniform": lambda: dist.Uniform(t(-1.0, 0.0), t(2.0, 1.0)).to_event(1),
    "bits": lambda: dist.Bernoulli(t(0.2, 0.7)).to_event(1),
    "own bits": lambda: IndependentBernoulli(t(-1.0, 2.0), 1),
    "category": lambda: dist.Categorical(t(0.2, 0.5, 0.3)),
    "code": lambda: dist.OneHotCategorical(t(0.2, 0.5, 0.3)),
    "mixture": lambda: NormalMixture(t(0.0, 1.0), NORMALS.loc, NORMALS.log_scale),
    "strata": lambda: StratifiedMixture(t(0.0, 1.0), NORMALS.loc, NORMALS.log_scale),
    "of full": lambda: MixtureSameFamily(dist.Categorical(t(0.3, 0.7)), FULL),
    "chosen": lambda: Chosen(t(0.0, 1.0), NORMALS),
    "concrete": lambda: LogitConcrete(t(0.5, -1.0), 0.7).to_event(1),
    "logit-normal": lambda: LogitNormal(t(0.5, -1.0), t(0.2, 0.1)).to_event(1),
    "kumaraswamy": lambda: Kumaraswamy(t(0.5, 2.0), t(3.0, 1.5)).to_event(1),
    "sticks": lambda: dist.Beta(t(1.0, 1.0), t(5.0, 0.5)).to_event(1),
    "laplace": lambda: dist.Laplace(t(0.0, 1.0), t(1.0, 2.0)).to_event(1),
    "log-normal": lambda: dist.LogNormal(t(0.0, 0.3), t(0.2, 0.1)).to_event(1),
}


@pytest.mark.parametrize("name", WITH_MAPS)
def test_noise_becomes_draws_of_the_distribution(name):
    """The first two moments are those of the distribution's own draws."""
    fn = WITH_MAPS[name]()
    found = draw(fn.expand((N,)), noise()).double()
    with torch.random.fork_rng():
        own = fn.sample((N,)).double()
    assert found.shape == own.shape
    for power in (1, 2):
        a, b = found**power, own**power
        error = ((a.var(0) + b.var(0)) / N).sqrt() + 1e-12
        assert bool(((a.mean(0) - b.mean(0)).abs() < 5 * error).all()), power


def test_a_draw_is_the_inverse_of_the_distribution_function():
    u = noise().given[UNIFORM][:, :2]
    got = draw(dist.Beta(t(1.0, 1.0), t(5.0, 0.5)).to_event(1).expand((N,)), noise())
    torch.testing.assert_close(1 - (1 - got) ** t(5.0, 0.5), u)
    got = draw(Kumaraswamy(t(0.5, 2.0), t(3.0, 1.5)).to_event(1).expand((N,)), noise())
    torch.testing.assert_close(1 - (1 - got ** t(0.5, 2.0)) ** t(3.0, 1.5), u)
    eps = noise().given[NORMAL][:, :2]
    torch.testing.assert_close(
        draw(dist.Normal(t(1.0, 2.0), 3.0).expand((N, 2)), noise()), t(1.0, 2.0) + 3 * eps
    )


WITHOUT = {"beta": dist.Beta(t(2.0), t(3.0)), "gamma": dist.Gamma(t(1.0), t(1.0))}


@pytest.mark.parametrize("fn", WITHOUT.values(), ids=WITHOUT)
def test_what_has_no_map_is_refused(fn):
    with pytest.raises(NoMapError, match=r"closed form|no map"):
        draw(fn.expand((3,)), Noise(3))


def test_what_all_rows_share_is_refused():
    with pytest.raises(NoMapError, match="share"):
        draw(dist.Normal(t(0.0), 1.0), Noise(3))


def test_stirlings_series_is_the_logarithm_of_the_gamma_function():
    x = torch.logspace(-3, 3, 200, dtype=torch.float64)
    torch.testing.assert_close(_lgamma(x), torch.lgamma(x), atol=1e-10, rtol=1e-10)


# --- the parts of every recipe --------------------------------------------------------------------

NO_CODE = {"encoder": "guide infers no latent"}
CHAIN = {"encoder": "whole way", "decoder": "whole way", "sampler": "end of a loop"}
ORDERED = {**NO_CODE, "decoder": "no latent", "sampler": "draw of Autoregressive"}
FLOW = {**NO_CODE, "decoder": "x itself with noise"}
MACHINE = {"sampler": "draw of HarmoniumBits"}
REFUSED = {
    "glo": {"encoder": "searched for"},
    "made": ORDERED,
    "pixelcnn": ORDERED,
    "vlae": {"decoder": "no mean in closed form", "sampler": "draw of Autoregressive"},
    "naive-bayes": {"decoder": "no latent that x depends on"},  # all classes are alike at first
    "gaussian-naive-bayes": {"decoder": "no latent that x depends on"},
    "hmm": {**NO_CODE, "decoder": "no latent", "sampler": "draw of MarkovSequence"},
    "cyclegan": {"sampler": "draws nothing"},
    "dae": {"sampler": "draw of Drawn"},
    "dae-walkback": {"sampler": "draw of Drawn"},
    "gsn": {**NO_CODE, "sampler": "draw of Drawn"},
    "boltzmann": {**NO_CODE, "decoder": "no latent", "sampler": "draw of NetworkBits"},
    "flow-matching": {**FLOW, "sampler": "adaptive solver"},
    **dict.fromkeys(("rbm", "rbm-cd", "gaussian-rbm", "dbn", "dbm", "dbm-pretrained"), MACHINE),
    "softmax-rbm": {**MACHINE, "decoder": "no mean in closed form"},
    **{name: CHAIN for name in RECIPES if "diffusion" in name or name.startswith("ddpm")},
    **dict.fromkeys(("infusion", "variational-walkback"), CHAIN),
    **dict.fromkeys(("nice", "realnvp", "maf", "nsf", "glow", "variational-glow"), FLOW),
    **{
        name: NO_CODE
        for name, row in RECIPES.items()
        if row.family is GAN or name in ("cgan", "cgan-projection")
    },
}


@pytest.fixture(scope="module")
def sets():
    return {}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_its_parts_or_says_why_not(name, sets):
    recipe = RECIPES[name]
    key = recipe.data, recipe.grey
    if key not in sets:
        sets[key] = Data.named(recipe.data, rows=200, **recipe.rendering(recipe.data))
    data, pair = sets[key], recipe.pair(**parts(recipe))
    build(pair, data.train.snapshot(), data.train.columns)
    rows, refused = data.test.take(slice(0, 6)), {}
    for part, kind in MAPS.items():
        with torch.no_grad():
            try:
                made = kind(pair.eval(), rows, data.preparation)
            except RefusedError as reason:
                refused[part] = str(reason)
                continue
            found = dict(zip(made.outputs, made(*made.inputs.values()), strict=True))
        for output, value in made.expected().items():
            assert value.shape[0] == 6
            torch.testing.assert_close(found[output], value, check_dtype=False)
    said = REFUSED.get(name, {})
    assert refused.keys() == said.keys(), refused
    assert all(said[part] in refused[part] for part in said), refused


# --- onnxruntime ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    """A VAE with a VampPrior on a table far from zero, whose rows it centres and scales."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(120, 4)) * [1.0, 10.0, 0.1, 5.0] + [0.0, 1e6, 3.0, -20.0]
    data = Data.from_arrays(x=x, standardise=True)
    pair = VAE(prior=SMALL_PRIORS["vamp"](), latent=2, likelihood="normal")
    return fit(pair, ELBO(), data, steps=30, batch_size=32, progress=False)


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    return run.export(tmp_path_factory.mktemp("made") / "vae")


def onnx_of(made, part):
    return made.files[part].read_bytes()


def test_an_export_is_the_run_in_the_datas_own_units(run, made):
    assert [*made.files] == ["encoder", "decoder", "sampler"]
    assert not made.refused
    assert not made.left_out
    assert max(made.differences.values()) < TOLERANCE
    rows = run.preparation.restore(run.data.test.x.double())
    codes = run.encode()
    found = compute(onnx_of(made, "encoder"), {"x": rows})
    np.testing.assert_allclose(found["z_mean"], codes.mean["z"], atol=1e-5)
    np.testing.assert_allclose(found["z_scale"], codes.scale["z"], atol=1e-5)
    back = compute(onnx_of(made, "decoder"), {"z": codes.mean["z"]})["x_mean"]
    with torch.no_grad():
        own = run.preparation.restore(run.pair.eval().decoder(codes.mean["z"]).mean.double())
    np.testing.assert_allclose(back, own, atol=1e-4)
    assert abs(back[:, 1] - 1e6).max() < 100


def test_its_sampler_draws_from_the_prior(run, made):
    n = 4000
    given = {NORMAL: torch.randn(n, 2), UNIFORM: torch.rand(n, 1)}
    z = torch.from_numpy(compute(onnx_of(made, "sampler"), given)["z"])
    own = run.sample(n)["z"]
    error = ((z.var(0) + own.var(0)) / n).sqrt()
    assert bool(((z.mean(0) - own.mean(0)).abs() < 5 * error).all())
    torch.testing.assert_close(z.std(0), own.std(0), rtol=0.1, atol=0.0)


def test_it_says_what_it_takes_and_where_it_is_from(made):
    text = json.loads((made.folder / DESCRIPTION).read_text())
    encoder, sampler = text["parts"]["encoder"], text["parts"]["sampler"]
    assert encoder["inputs"]["x"]["shape"] == ["rows", 4]
    assert encoder["inputs"]["x"]["dtype"] == "float64"
    assert "normal" in sampler["inputs"][NORMAL]["is"]
    assert "uniform" in sampler["inputs"][UNIFORM]["is"]
    session = ort.InferenceSession(onnx_of(made, "encoder"))
    said = session.get_modelmeta().custom_metadata_map
    assert said["priory.pair"] == "VAE"
    assert said["priory.weights"] == text["weights"]
    assert str(made).count("equal to torch within") == 3


def test_missing_entries_are_nan(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 3))
    x[::3, 1] = np.nan
    data = Data.from_arrays(x=x, missing="integrate", standardise=True)
    pair = MaskedVAE(latent=2, likelihood="normal")
    run = fit(pair, ELBO(), data, steps=5, batch_size=16, progress=False)
    made = run.export(tmp_path / "made", x, parts=["encoder"])
    found = compute(onnx_of(made, "encoder"), {"x": torch.from_numpy(x)})
    np.testing.assert_allclose(found["z_mean"], run.encode(x).mean["z"], atol=1e-5)


def test_nothing_is_written_unless_it_agrees(run, tmp_path, monkeypatch):
    def off(content, arrays, plain=compute):
        return {k: v + np.asarray(1e-3, v.dtype) for k, v in plain(content, arrays).items()}

    monkeypatch.setattr("priory.onnx.writing.compute", off)
    with pytest.raises(ValueError, match=r"decoder by onnxruntime differs .* by 0\.00"):
        run.export(tmp_path / "made", parts=["decoder"])
    assert not (tmp_path / "made").exists()


def test_a_program_that_fixes_the_number_of_rows_is_refused(run, tmp_path):
    class Fixed(VAE):
        def model(self, x):
            super().model(x.new_zeros(len(x), *x.shape[1:]))

    pair = Fixed(latent=2, likelihood="normal", encoder="linear", decoder="linear")
    pair.build(run.data.train.x)
    with pytest.raises(ValueError, match=r"write x\.shape\[0\]"):
        export(pair, tmp_path / "made", run.data, parts=["decoder"])


def test_what_a_pair_lacks_and_what_is_there_are_said(run, made, tmp_path):
    gan = GAN(latent=2)
    gan.build(run.data.train.x)
    with pytest.raises(ValueError, match="the encoder: its guide infers no latent"):
        export(gan, tmp_path / "gan", run.data, parts=["encoder"])
    with pytest.raises(ValueError, match="nearest 'encoder'"):
        run.export(tmp_path / "made", parts=["encode"])
    with pytest.raises(FileExistsError, match="holds an export"):
        run.export(made.folder)
    (tmp_path / "other").touch()
    with pytest.raises(FileExistsError, match="other things"):
        run.export(tmp_path)


def test_the_command_writes_the_same(tmp_path, capsys):
    data = Data.named("digits", rows=100)
    fit(VAE(latent=2), ELBO(), data, steps=2, progress=False).save(tmp_path / "run")
    words = ["export", str(tmp_path / "run"), "--out", str(tmp_path / "made")]
    assert main([*words, "--parts", "decoder"]) == 0
    assert "equal to torch within" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == [
        "decoder.onnx",
        DESCRIPTION,
        "manifest.json",
    ]
    assert main([*words, "--parts", "decoder"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_the_page_runs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    pair = VAE(latent=2, encoder="linear", decoder="linear", likelihood="normal")
    other = fit(pair, ELBO(), run.data, steps=2, progress=False)
    found = {"run": other}
    exec(block, found)
    assert found["mean"].shape == (16, 4)
