"""Configurations: public names, the names of former runs, and what is said of what is not read."""

import functools
import inspect
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from priory import (
    divergences,
    evaluate,
    evaluation,
    inference,
    likelihoods,
    load,
    models,
    nets,
    priors,
)
from priory.data import Data
from priory.divergences import mmd
from priory.evaluation import ByMetric
from priory.inference import (
    ELBO,
    IWAE,
    KL,
    Adversarial,
    Classification,
    Constraint,
    Cosine,
    Criterion,
    Exponential,
    Linear,
    Match,
    Objective,
    Of,
    Reconstruction,
    Renyi,
    Scaled,
    Schedule,
    Sleep,
    Stage,
    Sum,
    fit,
)
from priory.inference.checkpoints.disk import manifest
from priory.models import VAE
from priory.nets import (
    MLP,
    Decoder,
    DeepMean,
    Encoder,
    Joint,
    Planes,
    Projection,
    TwoSample,
    Wrapped,
)
from priory.nets.base import LeakyReLU
from priory.priors import Flow, GaussianMixture
from priory.serialisation import FORMER, from_config, locate, to_config

FORMER_RUN = Path(__file__).parent / "data" / "former-run"
PACKAGES = (models, priors, likelihoods, nets, divergences, inference, evaluation)

# Parts whose constructor needs an argument, and those with one that isn't the default.
MADE = {
    ByMetric: lambda: ByMetric("mmd", n_samples=50),
    Adversarial: lambda: Adversarial(MLP((4,)), ("x", "z"), game="hinge", pack=2),
    Classification: lambda: Classification("y"),
    Constraint: lambda: Constraint(KL() + 2 * Match(mmd, "z"), Linear(9.0, 1.0, 10), rate=0.1),
    Cosine: lambda: Cosine(1.0, 0.1, 50),
    ELBO: lambda: ELBO(Linear(0.0, 1.0, 10), particles=3),
    Exponential: lambda: Exponential(1.0, 0.1, 50),
    IWAE: lambda: IWAE(7),
    Linear: lambda: Linear(0.0, 1.0, 10),
    Match: lambda: Match(functools.partial(mmd, kernel="imq"), "z"),
    Of: lambda: Of("m2", KL() + Classification("y")),
    Renyi: lambda: Renyi(0.5, 3),
    Scaled: lambda: 10 * Reconstruction(),
    Sleep: lambda: Sleep("z"),
    inference.Greedy: lambda: inference.Greedy(
        name="rbm2", objective=inference.Contrast(layer=2), frozen=("encoder",)
    ),
    inference.MixtureOfCodes: lambda: inference.MixtureOfCodes(
        name="first", objective=KL(), lr=0.1
    ),
    inference.Unfold: lambda: inference.Unfold(
        name="rbm", objective=inference.Contrast(), frozen=("encoder",), epochs=3
    ),
    inference.TreeOfCodes: lambda: inference.TreeOfCodes(
        name="codes", objective=KL(), groups=False
    ),
    inference.Stage: lambda: inference.Stage(name="first", objective=KL(), frozen=("prior",)),
    Sum: lambda: Reconstruction() + 10 * Match(mmd, "z") + KL(),
    DeepMean: lambda: DeepMean(MLP((4,)), MLP((3,)), width=5),
    Joint: lambda: Joint(MLP((4,)), MLP((3,)), width=5),
    Planes: lambda: Planes(MLP((4,))),
    Projection: lambda: Projection(MLP((4,)), width=5),
    TwoSample: lambda: TwoSample(MLP((4,)), MLP((3,)), width=5),
}
# What holds a module or programs of the user's own, and what a pair makes of its arguments.
NOT_WRITTEN = {
    Wrapped,
    inference.Programs,
    Encoder,
    Decoder,
    nets.AutoregressiveDecoder,
    nets.ConditionalEncoder,
    nets.Denoiser,
    nets.StochasticLayer,
}


KINDS = (nn.Module, Objective, Schedule, Criterion, Stage)
PARTS = {
    f"{package.__name__}.{name}": value
    for package in PACKAGES
    for name in package.__all__
    if inspect.isclass(value := getattr(package, name)) and issubclass(value, KINDS)
}


@pytest.mark.parametrize("path", PARTS)
def test_every_public_part_is_written_and_read_by_its_public_name(path):
    kind = PARTS[path]
    if inspect.isabstract(kind):
        with pytest.raises(ValueError, match="no part that a configuration may name"):
            locate(path)
        return
    assert locate(path) is kind
    if kind in NOT_WRITTEN:
        return
    made = MADE.get(kind, kind)()
    written = to_config(made)
    assert written["class"] == path
    again = from_config(yaml.safe_load(yaml.safe_dump(written)))
    assert type(again) is kind
    assert to_config(again) == written


@pytest.mark.parametrize("name", [n for n in divergences.__all__ if n.islower()])
def test_every_divergence_is_written_and_read_by_its_public_name(name):
    function = getattr(divergences, name)
    assert to_config(function) == {"function": f"priory.divergences.{name}"}
    assert from_config(to_config(function)) is function
    assert function.__module__ != "priory.divergences", "it is where it says that it is"


def test_the_names_of_former_runs_are_those_of_public_parts():
    config = yaml.safe_load((FORMER_RUN / "config.yaml").read_text())
    moved = {"terms.Match", "variational.ELBO", "adversary.Adversarial", "objectives.Sum"}
    assert {f"priory.inference.{name}" for name in moved} <= FORMER.keys()
    assert "priory.models.vae.VAE" in FORMER
    assert all(former not in FORMER.values() for former in FORMER)
    for former, public in FORMER.items():
        assert locate(former) is PARTS[public]
    named = [v for v in yaml.safe_dump(config).split() if v.startswith("priory.")]
    assert {*named} - FORMER.keys() == {"priory.divergences.mmd"}


def test_a_former_run_loads_samples_and_is_judged():
    run = load(FORMER_RUN)
    assert isinstance(run.pair, VAE)
    assert isinstance(run.pair.prior, GaussianMixture)
    elbo, match, game = run.objective.terms()
    assert (elbo.beta, match.weight, game.game) == (0.5, 10, "non-saturating")
    assert match.objective.divergence is mmd
    assert from_config(run.config["best"]).metric == "mmd"
    assert run.history[-1]["step"] == 6
    # The numbers are those of the version that wrote the run.
    mean = run.pair.eval().decoder(torch.zeros(2)).mean
    assert mean.tolist() == pytest.approx([-0.0217868871986866, -0.0973651111125946], rel=1e-5)
    assert run.sample(7)["x"].shape == (7, 2)
    nll = evaluate(run, metrics=["nll"], particles=200, limit=500, pictures=False)["nll"]
    assert nll.value == pytest.approx(3.069, abs=4 * nll.se)
    assert not list(FORMER_RUN.glob("*.lock"))


def test_a_run_is_written_by_public_names_alone(tmp_path):
    loss = ELBO(0.5) + 10 * Match(mmd, "z") + Adversarial(MLP((4,)), "z")
    pair = VAE(GaussianMixture(3), MLP((4,)), MLP((4,)), latent=2)
    options = {"steps": 1, "device": "cpu", "valid_every": 0, "compile": "off"}
    run = fit(pair, loss, Data.named("ring", rows=60), **options)
    text = (run.save(tmp_path / "run") / "config.yaml").read_text()
    named = {word for word in text.split() if word.startswith("priory.")}
    assert named == {
        "priory.divergences.mmd",
        "priory.inference.Adversarial",
        "priory.inference.ELBO",
        "priory.inference.Match",
        "priory.inference.Scaled",
        "priory.inference.Sum",
        "priory.models.VAE",
        "priory.nets.MLP",
        "priory.likelihoods.Normal",
        "priory.priors.GaussianMixture",
    }
    assert to_config(load(tmp_path / "run").objective) == to_config(loss)


def test_what_no_constructor_makes_becomes_a_note():
    for net in (nn.Linear(4, 6), nn.Sequential(nn.Linear(4, 6))):
        with pytest.raises(ValueError, match="cannot be rebuilt from its configuration"):
            from_config(to_config(Wrapped(net)))


def test_a_private_part_is_not_written():
    with pytest.raises(ValueError, match="LeakyReLU has no public name in Priory"):
        to_config({"pair": [LeakyReLU()]})


class Own(Objective):
    """An objective of the user's own."""

    def loss(self, phases):
        return -phases.awake.log_p().mean()


@pytest.mark.parametrize("objective", [Own(), ELBO() + Own(), lambda model, guide, x: 0.0])
def test_an_objective_that_is_not_read_back_is_said(objective, tmp_path):
    data = Data.named("ring", rows=60)
    run = fit(VAE(latent=2), ELBO(), data, steps=1, device="cpu", valid_every=0)
    run.objective = objective
    run.save(tmp_path / "run")
    with pytest.warns(UserWarning, match="the objective of .* cannot be rebuilt"):
        back = load(tmp_path / "run")
    assert back.objective == to_config(objective)
    assert torch.equal(back.sample(5)["x"], run.sample(5)["x"])


def test_an_objective_of_a_later_version_is_said(tmp_path, former):
    def newer(config):
        config["objective"] = {"class": "priory.inference.Newer", "beta": 1.0}

    with pytest.warns(UserWarning, match=r"no part priory\.inference\.Newer"):
        assert load(former(newer)).objective == {"class": "priory.inference.Newer", "beta": 1.0}

    def nameless(config):
        config["objective"].pop("class")

    with pytest.warns(UserWarning, match="describes no objective"):
        assert isinstance(load(former(nameless)).objective, dict)


@pytest.fixture
def former(tmp_path):
    """What writes the former run anew with an edited configuration."""

    def write(edit):
        files = {path.name: path.read_bytes() for path in FORMER_RUN.iterdir()}
        config = yaml.safe_load(files["config.yaml"])
        edit(config)
        files["config.yaml"] = yaml.safe_dump(config).encode()
        del files["manifest.json"]
        folder = tmp_path / "edited"
        folder.mkdir(exist_ok=True)
        for name, content in {**files, "manifest.json": manifest(files)}.items():
            (folder / name).write_bytes(content)
        return folder

    return write


def test_a_missing_extra_is_said_as_such(monkeypatch, former):
    def flow(config):
        config["pair"]["prior"] = to_config(Flow())

    folder = former(flow)
    monkeypatch.setitem(sys.modules, "zuko", None)
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(ImportError, match=r"pip install 'priory\[flows\]'"):
        load(folder)


def test_an_error_of_a_constructor_is_shown_as_it_is(monkeypatch):
    def broken(self, *args, **kwargs):
        return self.no_such_thing

    monkeypatch.setattr(VAE, "__init__", broken)
    with pytest.raises(AttributeError, match="no_such_thing"):
        load(FORMER_RUN)


def test_an_error_of_the_users_own_pair_is_shown_as_it_is():
    class Broken(VAE):
        def build(self, x):
            return self.no_such_thing

    with pytest.raises(AttributeError, match="no_such_thing"):
        load(FORMER_RUN, pair=Broken())


@pytest.mark.parametrize("former", ["priory.nets.Normal", "priory.nets.likelihoods.Normal"])
def test_a_likelihood_of_a_former_run_is_found_where_it_is_now(former):
    made = from_config({"class": former, "scale": "pixel"})
    assert type(made) is likelihoods.Normal
    assert made.scale == "pixel"
