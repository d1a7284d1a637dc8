"""Pairs: every prior with every likelihood, shapes, copies, and what they say of a mistake."""

import copy
import inspect
import math
import pickle
import re
from pathlib import Path

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from pairs import SMALL_PRIORS
from priory.data import Data
from priory.inference import ELBO, fit, load
from priory.inference.phases.arguments import bind
from priory.likelihoods import LIKELIHOODS
from priory.models import GAN, GPVAE, PAIRS, VAE, Pair
from priory.models.pair import Labelled, Tractable
from priory.nets import MLP, Conv, Decoder, Deconv, Encoder
from priory.priors import PRIORS, GaussianMixture, Normal, VampPrior

pytestmark = pytest.mark.usefixtures("double")


SHAPE = (1, 4, 5)


def data(n=6):
    generator = torch.Generator().manual_seed(3)
    return (torch.rand(n, *SHAPE, generator=generator, dtype=torch.float64) < 0.4).double()


def small(prior="normal", likelihood="bernoulli", latent=3):
    prior = SMALL_PRIORS[prior]() if isinstance(prior, str) else prior
    return VAE(prior, MLP((9,)), MLP((9,)), likelihood, latent)


def traced(pair, x, particles=None):
    plates = [pyro.plate("particles", particles, dim=-2)] if particles else []

    def within(program):
        def run(x):
            for plate in plates:
                with plate:
                    return program(x)
            return program(x)

        return run

    guide = poutine.trace(within(pair.guide)).get_trace(x)
    model = poutine.trace(poutine.replay(within(pair.model), guide)).get_trace(x)
    guide.compute_log_prob()
    model.compute_log_prob()
    return guide, model


def test_the_priors_are_tested():
    assert SMALL_PRIORS.keys() == PRIORS.keys()


def test_a_pair_has_tests_of_its_own():
    own = Path(__file__)
    files = [path for path in own.parent.glob("test_*.py") if path != own]
    texts = [path.read_text(encoding="utf-8") for path in files]
    named = set(re.findall(r"\w+", "\n".join(texts)))
    assert not [name for name, kind in PAIRS.items() if kind.__name__ not in named]


# Columns are of tables (test_columns.py); categories have no mean, and are read as one-hot codes.
OF_IMAGES = [n for n in LIKELIHOODS if n not in ("columns", "categorical")]


def inside(likelihood, x):
    """Data in the support of a likelihood, from zeros and ones."""
    return 0.2 + x / 2 if likelihood in ("beta", "gamma") else x


@pytest.mark.parametrize("prior", SMALL_PRIORS)
@pytest.mark.parametrize("likelihood", OF_IMAGES)
def test_every_prior_with_every_likelihood(prior, likelihood):
    pair, x = small(prior, likelihood), inside(likelihood, data())
    for particles, lead in ((None, ()), (5, (5,))):
        guide, model = traced(pair, x, particles)
        assert guide.nodes["z"]["value"].shape == (*lead, 6, 3)
        assert guide.nodes["z"]["log_prob"].shape == (*lead, 6)
        assert model.nodes["z"]["log_prob"].shape == (*lead, 6)
        assert model.nodes["x"]["log_prob"].shape == (*lead, 6)
        assert pair.prior.support.check(guide.nodes["z"]["value"]).all()
        assert model.nodes["x"]["fn"].mean.shape == (*lead, 6, *SHAPE)
    generate = poutine.trace(poutine.uncondition(pair.model)).get_trace(x)
    assert generate.nodes["x"]["value"].shape == (6, *SHAPE)
    density = model.nodes["x"]["log_prob"]
    if likelihood == "delta":
        density = -(model.nodes["x"]["fn"].mean - x).square().sum((-3, -2, -1))
    loss = -(density + model.nodes["z"]["log_prob"] - guide.nodes["z"]["log_prob"]).mean()
    loss.backward()
    assert loss.isfinite()
    for key, parameter in pair.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("prior", SMALL_PRIORS)
def test_copies_and_saved_weights(prior):
    pair, x = small(prior), data()
    pair.build(x)
    twin, fresh = copy.deepcopy(pair), small(prior)
    fresh.build(torch.zeros(2, *SHAPE))
    fresh.load_state_dict(pair.state_dict())
    z = pair.encoder(x).sample()
    assert not any(key.startswith("prior.encoder") for key in pair.state_dict())
    for other in (twin, fresh, pickle.loads(pickle.dumps(pair))):
        torch.testing.assert_close(other.prior().log_prob(z), pair.prior().log_prob(z))
        torch.testing.assert_close(other.encoder(x).mean, pair.encoder(x).mean)
    with torch.no_grad():
        for parameter in twin.encoder.parameters():
            parameter.zero_()
    moved = not torch.allclose(twin.prior().log_prob(z), pair.prior().log_prob(z))
    assert moved == (prior in ("vamp", "exemplar"))


@pytest.mark.parametrize("prior", SMALL_PRIORS)
def test_pyros_own_svi_trains_it(prior):
    pair, x = small(prior), data(40)
    pair.build(x)
    svi = SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 1e-2}), Trace_ELBO(num_particles=2))
    before = [svi.evaluate_loss(x) for _ in range(20)]
    for _ in range(60):
        svi.step(x)
    after = [svi.evaluate_loss(x) for _ in range(20)]
    assert sum(after) < sum(before)


@pytest.mark.parametrize("prior", ["normal", "stick-breaking"])
def test_analytic_divergence_agrees_with_draws(prior):
    pair, x = small(prior), data()
    pair.build(x)
    exact = TraceMeanField_ELBO(num_particles=2000, vectorize_particles=True)
    drawn = Trace_ELBO(num_particles=2000, vectorize_particles=True)
    with torch.no_grad():
        values = [loss.loss(pair.model, pair.guide, x) for loss in (exact, drawn)]
    assert values[0] == pytest.approx(values[1], rel=5e-3)


def test_the_start_knows_the_mean_of_the_data():
    pair, x = VAE(latent=3), data(50)
    pair.build(x)
    with torch.no_grad():
        for p in (pair.decoder.net.last.weight,):
            p.zero_()
    mean = pair.decoder(torch.zeros(1, 3)).mean[0]
    torch.testing.assert_close(mean, x.mean(0).clamp(0.001, 0.999))


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
def test_convolutional_pair(likelihood):
    pair = VAE("normal", Conv((3, 4), 8), Deconv((3, 4), 8), likelihood, latent=2)
    _, model = traced(pair, data(), particles=2)
    assert model.nodes["x"]["fn"].event_shape == SHAPE
    assert model.nodes["x"]["log_prob"].isfinite().all()


def test_a_users_own_modules():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(20, 6))
    decoder = nn.Linear(3, 20)
    pair = VAE("normal", encoder, decoder, "bernoulli", latent=3)
    guide, _ = traced(pair, data(), particles=2)
    assert guide.nodes["z"]["value"].shape == (2, 6, 3)
    with pytest.raises(ValueError, match=r"6 numbers each, shaped \(2, 3\); got \(2, 5\)"):
        VAE("normal", nn.Sequential(nn.Flatten(), nn.Linear(20, 5)), latent=3).build(data())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("prior", SMALL_PRIORS)
def test_parameters_take_the_datas_precision(prior, dtype):
    pair = small(prior)
    pair.build(data().to(dtype))
    assert {p.dtype for p in pair.parameters()} == {dtype}
    guide, model = traced(pair, data().to(dtype))
    assert guide.nodes["z"]["log_prob"].dtype == dtype
    assert model.nodes["z"]["log_prob"].dtype == dtype


def test_the_programs_build_the_pair_themselves():
    pair, x = small(), data()
    assert not list(pair.parameters())
    pair.guide(x)
    assert len(pyro.get_param_store()) == len(list(pair.parameters())) == 8
    shapes = [tuple(p.shape) for p in pair.parameters()]
    pair.build(x)
    assert [tuple(p.shape) for p in pair.parameters()] == shapes


def test_table_data_and_the_likelihood_by_itself():
    x = torch.randn(30, 5)
    pair = VAE(latent=2)
    guide, model = traced(pair, x)
    assert type(pair.likelihood).__name__ == "Normal"
    assert guide.nodes["z"]["log_prob"].shape == model.nodes["x"]["log_prob"].shape == (30,)


@pytest.mark.parametrize("prior", sorted(set(SMALL_PRIORS) - {"exemplar", "vamp"}))
def test_gan_dreams_with_gradients(prior):
    pair, x = GAN(SMALL_PRIORS[prior](), MLP((9,)), latent=2), torch.randn(12, 2)
    guide = poutine.trace(pair.guide).get_trace(x)
    assert [key for key, site in guide.nodes.items() if site["type"] == "sample"] == []
    generate = poutine.trace(poutine.uncondition(pair.model)).get_trace(x)
    value = generate.nodes["x"]["value"]
    assert value.shape == (12, 2)
    value.square().sum().backward()
    for key, parameter in pair.generator.named_parameters():
        assert parameter.grad.abs().sum() > 0, key
    if prior != "normal":
        assert generate.nodes["z"]["value"].shape == (12, 2)


def test_mistakes_are_told():
    for pair in (VAE, GAN):
        with pytest.raises(ValueError, match="latent must be a positive integer, got -1"):
            pair(latent=-1)
        with pytest.raises(ValueError, match="unknown prior 'vmap', nearest 'vamp'"):
            pair("vmap")
    with pytest.raises(ValueError, match="unknown net 'mpl', nearest 'mlp'"):
        VAE(encoder="mpl")
    with pytest.raises(ValueError, match=r"give the net itself, MLP\(\.\.\.\) with its arguments"):
        VAE(encoder="mlp:500,500")
    with pytest.raises(ValueError, match="unknown likelihood 'bernouli', nearest 'bernoulli'"):
        VAE(likelihood="bernouli")
    with pytest.raises(ValueError, match="no encoder"):
        GAN("vamp").build(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="binarise"):
        VAE(likelihood="bernoulli").build(data() * 0.3)
    pair = small()
    with pytest.raises(RuntimeError, match="call build first"):
        pair.encoder(data())
    pair.build(data())
    with pytest.raises(ValueError, match=r"built for data of shape \(1, 4, 5\), got \(3, 3\)"):
        pair.model(torch.zeros(2, 3, 3))


def test_a_vamp_prior_under_an_encoder_of_ones_own_says_what_it_needs():
    class Own(Encoder):
        pass

    class Mine(VAE):
        def __init__(self):
            super().__init__("vamp", latent=2)
            self.encoder = Own("mlp", self.prior.support)

    with pytest.raises(ValueError, match=r"no encoder of that very class \(a subclass may read"):
        Mine().build(torch.randn(9, 3))


def test_one_component_and_a_plain_vae_have_the_same_bound():
    x = data()
    plain, mixed = small(), small(GaussianMixture(1))
    plain.build(x)
    mixed.build(x)
    mixed.encoder.load_state_dict(plain.encoder.state_dict())
    mixed.decoder.load_state_dict(plain.decoder.state_dict())
    bounds = []
    for pair in (plain, mixed):
        pyro.clear_param_store()
        pyro.set_rng_seed(5)
        guide, model = traced(pair, x, particles=3)
        bounds.append((model.log_prob_sum() - guide.log_prob_sum()).item())
    assert math.isclose(*bounds, rel_tol=1e-12)


# --- one model, whichever door ------------------------------------------------------------------


def pair_of(name):
    """A pair of the table with small nets, and arguments of its programs beside x."""
    options = {"classes": 3} if issubclass(PAIRS[name], Labelled) else {}
    labels = {"y": torch.arange(6) % 3} if options else {}
    labels |= {"t": torch.arange(6)} if PAIRS[name] is GPVAE else {}
    return PAIRS[name](**options), labels


def called(pair, x, labels):
    """What a pair's programs are called by: guide and model, each with the columns it names."""
    other = {"other": x} if "other" in inspect.signature(pair.model).parameters else {}
    for program, more in ((pair.guide, {}), (pair.model, other)):
        wants = {n for n in inspect.signature(program).parameters if n in labels}
        yield lambda run=program, own={n: labels[n] for n in wants} | more: run(x, **own)


WRONG = {
    "integers": (torch.ones(6, 4, dtype=torch.int64), "expects real numbers, got x of torch.int64"),
    "binary": (torch.ones(6, 4, dtype=torch.bool), "expects real numbers, got x of torch.bool"),
    "bytes": (torch.ones(6, 4, dtype=torch.uint8), "expects real numbers, got x of torch.uint8"),
    "complex": (torch.ones(6, 4, dtype=torch.complex64), "expects real numbers, got x of"),
    "number": (torch.tensor(1.0), "expects rows of data"),
}
WRONG_LATER = {
    "width": (torch.ones(6, 5), r"built for data of shape \(4,\), got \(5,\)"),
    "rank": (torch.ones(6, 2, 3), r"built for data of shape \(4,\), got \(2, 3\)"),
    "row": (torch.ones(4), r"expects a batch of data of shape \(4,\), got one datum"),
    "float32": (torch.ones(6, 4, dtype=torch.float32), r"data of torch.float64, got x of torch.f"),
    "device": (torch.ones(6, 4, device="meta"), "the pair is on cpu, got x on meta"),
}


@pytest.mark.parametrize("wrong", [*WRONG, *WRONG_LATER])
@pytest.mark.parametrize("name", PAIRS)
def test_wrong_data_get_the_same_error_in_every_call(name, wrong):
    x, words = {**WRONG, **WRONG_LATER}[wrong]
    pair, labels = pair_of(name)
    good = torch.randn(6, 4) if name.startswith("flow") else torch.randn(6, 4).gt(0).double()
    if wrong in WRONG:
        for call in (*called(pair, x, labels), lambda: pair.build(x, **labels)):
            with pytest.raises(ValueError, match=words):
                call()
        assert pair.shape is None
        assert not list(pair.parameters())
    pair.build(good, **labels)
    for _ in range(2):
        for call in (*called(pair, x, labels), lambda: pair.build(x, **labels)):
            with pytest.raises(ValueError, match=words):
                call()
        columns = {"x": good, "index": torch.arange(6), **labels}
        pair.guide(**bind(pair.guide, columns))


@pytest.mark.parametrize("name", PAIRS)
def test_no_training_row_is_an_error(name):
    pair, labels = pair_of(name)
    with pytest.raises(ValueError, match="without a row"):
        pair.build(torch.zeros(0, 4), **{k: v[:0] for k, v in labels.items()})


@pytest.mark.parametrize("name", ["cvae", "conditional-gan", "stacked-gan"])
def test_a_pair_with_labels_is_built_with_labels_by_every_door(name):
    x, y = torch.randn(7, 4), torch.tensor([0, 0, 0, 0, 0, 1, 2])
    pair, _ = pair_of(name)
    bare = SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    arguments = (x, y) if name == "cvae" else (x,)
    doors = (lambda: pair.build(x), lambda: pair.model(x, y), lambda: pair.guide(*arguments))
    for door in (*doors, lambda: bare.step(x, y) if name == "cvae" else pair.model(x, y)):
        with pytest.raises(ValueError, match=r"p\(y\) from the labels of all training rows"):
            door()
    pair.build(x, y)
    torch.testing.assert_close(pair.labels.log_frequencies.exp(), torch.tensor([5.0, 1.0, 1.0]) / 7)
    pair.model(x[:2], y[:2])  # a later batch changes nothing
    torch.testing.assert_close(pair.labels.log_frequencies.exp(), torch.tensor([5.0, 1.0, 1.0]) / 7)


UNBUILT = {
    "aae": [lambda p, x: p.encoder(x), lambda p, x: p.decoder(x, x)],
    "autoregressive": [lambda p, x: p.decoder()],
    "binomial-diffusion": [lambda p, x: p.denoiser(x, x[:, 0])],
    "conditional-diffusion": [lambda p, x: p.denoiser(x, x[:, 0], x)],
    "conditional-gan": [lambda p, x: p.generator(x, torch.zeros(6, dtype=torch.long))],
    "cvae": [
        lambda p, x: p.encoder(x, torch.zeros(6, dtype=torch.long)),
        lambda p, x: p.decoder(x, torch.zeros(6, dtype=torch.long)),
    ],
    "cyclegan": [lambda p, x: p.encoder(x)],
    "dae": [lambda p, x: p.decoder(x)],
    "boltzmann-machine": [lambda p, x: p.network()],
    "dbm": [lambda p, x: p.mean_field(x), lambda p, x: p.decoder(x)],
    "dbn": [lambda p, x: p.encoder(x), lambda p, x: p.decoder(x)],
    "deep-autoencoder": [
        lambda p, x: p.encoder(x),
        lambda p, x: p.decoder(x),
        lambda p, x: p.machine_of(1),
    ],
    "deep-gp-vae": [
        lambda p, x: p.encoder(x),
        lambda p, x: p.explain(x),
        lambda p, x: p.layers[0].prior(),
        lambda p, x: p.layers[0].posterior(),
    ],
    "flow": [lambda p, x: p.density()],
    "flow-matching": [lambda p, x: p.density(), lambda p, x: p.flow.velocity(x, x[:, 0])],
    "diffusion": [lambda p, x: p.denoiser(x, x[:, 0])],
    "gan": [lambda p, x: p.generator(x)],
    "glo": [lambda p, x: p.generator(x), lambda p, x: p.find(x)],
    "dlgmm": [
        lambda p, x: p.mixture(x, x),
        lambda p, x: p.weigher(x),
        lambda p, x: p.decoder(x),
    ],
    "gmvae": [lambda p, x: p.clusters(x), lambda p, x: p.encoder(x, x), lambda p, x: p.decoder(x)],
    "gp-vae": [
        lambda p, x: p.encoder(x),
        lambda p, x: p.decoder(x),
        lambda p, x: p.process(x),
    ],
    "gsn": [lambda p, x: p.decoder(x)],
    "helmholtz": [lambda p, x: p.encoder(x), lambda p, x: p.decoder(x)],
    "hierarchical-gmvae": [
        lambda p, x: p.encoder(x),
        lambda p, x: p.upper_encoder(x),
        lambda p, x: p.upper(x),
        lambda p, x: p.decoder(x),
    ],
    "hierarchical-vae": [
        lambda p, x: p.encoder(x),
        lambda p, x: p.up[0](x),
        lambda p, x: p.down[0](x),
        lambda p, x: p.decoder(x),
    ],
    "infusion": [lambda p, x: p.denoiser(x, x[:, 0])],
    "infogan": [lambda p, x: p.encoder(x), lambda p, x: p.generator(x, x, x)],
    "ladder-vae": [lambda p, x: p.terms(x), lambda p, x: p.down[0](x)],
    "masked-vae": [lambda p, x: p.encoder(x), lambda p, x: p.decoder(x)],
    "m1": [lambda p, x: p.classify(x), lambda p, x: p.encoder(x), lambda p, x: p.decoder(x)],
    "m1-m2": [
        lambda p, x: p.classify(x),
        lambda p, x: p.encoder(x),
        lambda p, x: p.decoder(x),
        lambda p, x: p.upper(x),
        lambda p, x: p.upper_encoder(x),
    ],
    "m2": [
        lambda p, x: p.classify(x),
        lambda p, x: p.encoder(x, torch.zeros(6, dtype=torch.long)),
        lambda p, x: p.decoder(x, x),
    ],
    "rbm": [lambda p, x: p.harmonium(), lambda p, x: p.decoder(x)],
    "softmax-rbm": [lambda p, x: p.harmonium(), lambda p, x: p.given(x)],
    "stacked-gan": [lambda p, x: p.encode(x), lambda p, x: p.lower(x, x)],
    "two-level-vae": [
        lambda p, x: p.encoder(x),
        lambda p, x: p.lower_encoder(x, x),
        lambda p, x: p.decoder(x, x),
    ],
    "vae": [lambda p, x: p.encoder(x), lambda p, x: p.decoder(x)],
    "variational-walkback": [lambda p, x: p.denoiser(x, x[:, 0])],
    "vib": [lambda p, x: p.encoder(x), lambda p, x: p.classify(x)],
    "vlae": [lambda p, x: p.encoder(x), lambda p, x: p.decoder(x)],
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_that_is_not_built_says_so(name):
    exact = [lambda p, x: p.log_likelihood(x)] if issubclass(PAIRS[name], Tractable) else []
    for use in exact or UNBUILT[name]:
        with pytest.raises(RuntimeError, match="has no parameters yet: call build first"):
            use(pair_of(name)[0], torch.zeros(6, 4))


# --- parts that two pairs share -----------------------------------------------------------------


def test_a_likelihood_with_units_is_not_shared():
    head = LIKELIHOODS["normal"]()
    VAE(likelihood=head, latent=2).build(100 + 10 * torch.randn(50, 4))
    centre = head.centre.clone()
    with pytest.raises(ValueError, match="give each pair a likelihood of its own"):
        VAE(likelihood=head, latent=2).build(torch.randn(50, 4))
    assert torch.equal(head.centre, centre)


@pytest.mark.parametrize("name", [*OF_IMAGES, "categorical"])
def test_a_likelihood_is_not_shared_by_data_of_two_shapes(name):
    head, x = LIKELIHOODS[name](), inside(name, data())
    VAE(likelihood=head, latent=2).build(x)
    with pytest.raises(ValueError, match="give each pair a likelihood of its own"):
        VAE(likelihood=head, latent=2).build(x.flatten(1))
    assert head.shape == SHAPE


def test_nets_and_priors_are_not_shared_by_pairs_of_two_sizes():
    net, x = MLP((9,)), torch.randn(12, 4)
    VAE(encoder=net, latent=2).build(x)
    with pytest.raises(ValueError, match="give each pair a net of its own"):
        VAE(encoder=net, latent=3).build(x)
    for make in SMALL_PRIORS.values():
        prior = make()
        VAE(prior, latent=2).build(x)
        with pytest.raises(ValueError, match="give each pair a prior of its own"):
            VAE(prior, latent=3).build(x)


def test_a_prior_of_one_encoders_posteriors_is_not_shared():
    prior, x = VampPrior(4), torch.randn(12, 4)
    pair = VAE(prior, latent=2)
    pair.build(x)
    pair.build(x)
    with pytest.raises(ValueError, match="another pair's posteriors"):
        VAE(prior, latent=2).build(x)


class Unasked(Pair):
    """A pair of one's own, whose constructor leaves the likelihood to the data."""

    def __init__(self):
        super().__init__(latent=2)
        self.prior = Normal()
        self.decoder = Decoder("mlp", self.prior)
        self.encoder = Encoder("mlp", self.prior.support)

    def model(self, x):
        with self.batch(x):
            pyro.sample("x", self.decoder(pyro.sample("z", self.prior())), obs=x)

    def guide(self, x):
        with self.batch(x):
            pyro.sample("z", self.encoder(x))


class Derived(VAE):
    """A VAE of one's own, whose likelihood is chosen from the data as well."""


@pytest.mark.parametrize("kind", [Unasked, Derived])
def test_a_likelihood_that_was_chosen_from_the_data_is_the_runs(kind, tmp_path):
    run = fit(kind(), ELBO(), Data.named("ring", rows=60), steps=1, compile="off", progress=False)
    again = load(run.save(tmp_path / "run"), pair=kind())
    assert type(again.pair.likelihood) is type(run.pair.likelihood) is LIKELIHOODS["normal"]
    x = run.data.test.x
    torch.testing.assert_close(again.pair.encoder(x).mean, run.pair.encoder(x).mean)
