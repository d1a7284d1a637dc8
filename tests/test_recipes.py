"""Parts written as text, and the zoo: every row trains, and every combination of parts fits."""

import copy
import itertools
import re

import pyro
import pytest
import torch

from priory.data import Data
from priory.divergences import energy
from priory.evaluation import evaluate
from priory.inference import (
    ELBO,
    Adversarial,
    Contrast,
    Match,
    Phases,
    Reconstruction,
    Unfold,
    fit,
    load,
)
from priory.inference.objectives import OBJECTIVES
from priory.inference.objectives.base import Scaled
from priory.inference.phases.arguments import build
from priory.likelihoods import LIKELIHOODS, likelihood_for
from priory.models import VAE
from priory.nets import NETS
from priory.parsing import parse, parse_objective, read
from priory.priors import PRIORS, GaussianMixture, VampPrior
from priory.recipes import RECIPES, Recipe, find_recipe
from priory.serialisation import from_config, to_config
from priory.signatures import Errors, options_of

SMALL = {"encoder": "mlp:32", "decoder": "mlp:32", "latent": 3}
FLOWS = {"glow": "glow:2:1:8", "maf": "maf:2:32", "nsf": "nsf:2:32"}
ORDERED = {"made": "made:32", "pixelcnn": "pixelcnn:2:4:1"}


@pytest.fixture(scope="module")
def digits():
    return Data.named("digits")


def parts(recipe):
    """Options that make a recipe's nets small; a residual net is, and its kind matters."""
    kept = {n for n, v in recipe.options.items() if str(v).startswith("resnet")}
    fitting = {n: v for n, v in SMALL.items() if n in options_of(recipe.family) and n not in kept}
    ordered = str(recipe.options.get("decoder")).partition(":")[0]
    if ordered in ORDERED:
        fitting["decoder"] = ORDERED[ordered]
    flow = str(recipe.options.get("flow")).partition(":")[0]
    if flow in FLOWS:
        fitting["flow"] = FLOWS[flow]
    if recipe.name == "flow-matching":
        fitting["net"] = "time-mlp:8:1"
    if "timesteps" in options_of(recipe.family):
        fitting |= {"net": "time-mlp:32:1", "timesteps": 20}
    prior = str(recipe.options.get("prior")).partition(":")[0]
    few = {"vamp": "vamp:10", "exemplar": "exemplar:10", "nested-crp": "nested-crp:2:2"}
    prior = {"prior": few[prior]} if prior in few else {}
    return {**fitting, **prior}


def small(recipe):
    """Those, short stages, and small batches, unless the objective takes all rows at once."""
    stages = {f"{stage.name}.steps": 20 for stage in recipe.stages}
    batch = {} if recipe.objective().whole else {"batch_size": 64}
    return {**parts(recipe), **stages, **batch}


# --- text ---------------------------------------------------------------------------------------


def test_arguments_by_place_and_by_name_say_the_same():
    assert parse("prior", "vamp:100", PRIORS).components == 100
    assert parse("prior", "vamp:components=100", PRIORS).components == 100
    mlp = parse("net", "mlp:20,30:tanh:gated=true", NETS)
    assert (mlp.hidden, mlp.activation, mlp.gated) == ((20, 30), "tanh", True)


@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_can_be_written(name):
    assert type(parse("prior", name, PRIORS)) is PRIORS[name]


def test_a_sum_has_its_terms_and_weights():
    total = parse_objective("reconstruction + 10*match:mmd + 2.5e+1*adversarial:z:critic=(mlp:8)")
    first, second, third = total.terms()
    assert isinstance(first, Reconstruction)
    assert isinstance(second, Scaled)
    assert second.weight == 10
    assert isinstance(second.objective, Match)
    assert isinstance(third.objective, Adversarial)
    assert third.weight == 25
    assert third.objective.critic.hidden == (8,)


def test_a_schedule_stands_in_brackets():
    beta = parse_objective("elbo:beta=(linear:0:1:100)").beta
    beta.step = 50
    assert float(beta) == 0.5


def test_all_faults_are_told_at_once():
    with pytest.raises(Errors) as caught:
        parse_objective("elbbo + x*match:mmx + iwae:0")
    told = "\n".join(caught.value.errors)
    assert "nearest 'elbo'" in told
    assert "the weight must be" in told
    assert "nearest 'mmd'" in told
    assert "particles must be a positive integer" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vmap", "nearest 'vamp'"),
        ("vamp:x", "components must be an integer, got 'x'"),
        ("vamp:1:2:3:4", "too many arguments"),
        ("mixture:compnents=3", "nearest 'components'"),
        ("mixture:spread=2", "spread must be in"),
    ],
)
def test_a_wrong_prior_says_what_is_wrong(text, said):
    with pytest.raises(Errors if ":" in text else ValueError, match=said):
        parse("prior", text, PRIORS)


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("epochs", "none", None),
        ("epochs", "3", 3),
        ("clip", "1", 1.0),
        ("schedule", "cosine", "cosine"),
        ("check", "no", False),
        ("optim", "adamw", torch.optim.AdamW),
    ],
)
def test_options_are_read_by_their_types(option, text, value):
    found = read(options_of(fit)[option], text)
    assert found == value
    assert type(found) is type(value)


def test_an_optimiser_takes_its_own_arguments():
    optim = read(options_of(fit)["optim"], "adam:betas=0.5,0.99")
    assert optim.func is torch.optim.Adam
    assert optim.keywords == {"betas": (0.5, 0.99)}


# --- recipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_each_call_makes_fresh_parts(name):
    recipe = RECIPES[name]
    first, second = recipe.pair(), recipe.pair()
    assert first is not second
    assert not {id(m) for m in first.modules()} & {id(m) for m in second.modules()}
    critics = [a.critic for _ in range(2) for a in recipe.objective().adversaries()]
    assert len({id(critic) for critic in critics}) == len(critics)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_written_and_read_back(name):
    recipe = RECIPES[name]
    assert recipe.name == name
    for part in (recipe.pair(), recipe.objective()):
        written = to_config(part)
        assert to_config(from_config(written)) == written


def bare(term):
    return getattr(term, "objective", term)


def steady(name):
    """A recipe's terms but for games, energies and what follows them, where no loss need fall."""
    if any(isinstance(stage, Unfold) for stage in RECIPES[name].stages):
        return []
    terms = RECIPES[name].objective().terms()
    return [t for t in terms if not isinstance(bare(t), Adversarial | Contrast)]


@pytest.mark.parametrize("name", [n for n in RECIPES if steady(n)])
def test_loss_falls_on_digits(name, digits):
    recipe, terms = RECIPES[name], steady(name)
    data = digits if recipe.data == "digits" and not recipe.grey else recipe.own_data()
    options = {**small(recipe), "valid_every": 0}
    if terms[0].whole:  # the first step's loss is that before it
        run = recipe.fit(data, **options, steps=20)
        last = terms[0](run.pair.model, run.pair.guide, **data.train.take(slice(0, 500)))
        losses = [run.history[0]["loss"], float(last)]
    elif any(getattr(bare(t), "cost", "") == "features" for t in terms):
        losses = [row["loss"] for row in recipe.fit(data, **options, steps=60).history]
    else:
        columns = data.train.take(slice(0, 200))
        runs = [recipe.fit(data, **options, steps=steps) for steps in (1, 60)]
        with torch.no_grad(), pyro.get_param_store().scope():
            losses = [
                float(sum(t(r.pair.model, r.pair.guide, **columns) for t in terms)) for r in runs
            ]
    assert losses[-1] < losses[0] - 0.25


def test_gan_comes_nearer_to_the_ring():
    recipe = RECIPES["gan"]
    data = Data.named("ring", rows=2000)
    critic = "adversarial:x:critic=(mlp:64,64)"
    options = {"generator": "mlp:64,64", "objective": critic, "batch_size": 128}
    early = recipe.fit(data, **options, steps=1, valid_every=0)
    late = recipe.fit(data, **options, steps=500, valid_every=0)
    real = data.test.x[:1000]
    far, near = (energy(run.sample(1000)["x"], real) for run in (early, late))
    assert near < far / 4


@pytest.mark.parametrize("name", RECIPES)
def test_saved_and_loaded_it_is_the_same(name, tmp_path, monkeypatch):
    for constant, less in (("TEMPERATURES", 400), ("BURN_IN", 100)):  # weights after 3 steps
        monkeypatch.setattr(f"priory.evaluation.likelihood.normaliser.{constant}", less)
    recipe = RECIPES[name]
    data = Data.named(recipe.data, rows=200, **recipe.rendering(recipe.data))
    run = recipe.fit(data, **small(recipe), steps=3, valid_every=0)
    back = load(run.save(tmp_path / "run"))
    for key, value in run.pair.state_dict().items():
        assert torch.equal(value, back.pair.state_dict()[key]), key
    options = {"particles": 5, "limit": 50, "n_samples": 100, "pictures": False}
    before, after = (evaluate(r, metrics=["nll", "mmd"], **options) for r in (run, back))
    assert name not in ("boltzmann", "dbm") or before["nll"].applicable
    assert [r.value for r in before] == [r.value for r in after]


def rows_for(recipe, digits):
    """Some rows of the digits with their labels, or points of the plane."""
    if recipe.data in ("ring", "grid"):
        return {"x": torch.randn(64, 2)}
    data = digits if recipe.data == "digits" and not recipe.grey else recipe.own_data()
    return data.test.take(slice(0, 64))


def gradients(pair, objective, columns, loss):
    """Names of the pair's and of the critics' parameters that a loss gives a gradient."""
    with pyro.get_param_store().scope():
        phases = Phases(pair.model, pair.guide, columns=columns, particles=objective.particles)
        for adversary in objective.adversaries():
            adversary.build(Phases(pair.model, pair.guide, columns=columns))
        loss(phases).backward()
    critics = [a.critic for a in objective.adversaries()]
    players = {"pair": [pair], "critic": critics}
    found = {
        player: {n: p.grad for m in modules for n, p in m.named_parameters()}
        for player, modules in players.items()
    }
    reached = {
        k: {n for n, g in v.items() if g is not None and g.abs().sum() > 0}
        for k, v in found.items()
    }
    return reached, {k: set(v) for k, v in found.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_gradients_reach_exactly_each_players_parameters(name, digits):
    recipe = RECIPES[name]
    rows = rows_for(recipe, digits)
    pair = recipe.pair(**parts(recipe))
    build(pair, rows["x"], rows)
    with torch.no_grad():  # a layer that starts at zero lets nothing through in the first step
        for parameter in pair.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    objective = recipe.objective()
    if objective.whole:  # which has none: the same pair by a bound
        objective = ELBO(gradient="enumerate" if pair.name.endswith("mixture") else "pathwise")
    reached, all_of = gradients(copy.deepcopy(pair), objective, rows, objective.loss)
    frozen = {*recipe.training.get("frozen", ())}
    assert reached["pair"] == {n for n in all_of["pair"] if n.partition(".")[0] not in frozen}
    assert not reached["critic"]
    for adversary in objective.adversaries():
        fresh = copy.deepcopy(adversary)
        reached, all_of = gradients(copy.deepcopy(pair), fresh, rows, fresh.critic_loss)
        assert not reached["pair"]
        # A number added to all scores alike is nothing to some games.
        shift = {n for n in all_of["critic"] if re.fullmatch(r"(head\.)?last(\.layer)?\.bias", n)}
        assert reached["critic"] | shift == all_of["critic"] != set()


@pytest.mark.parametrize(
    ("name", "term", "part"),
    [("aae", 1, "encoder"), ("wae-mmd", 1, "encoder"), ("gan", 0, "generator")],
)
def test_matching_a_site_trains_only_what_draws_it(name, term, part, digits):
    recipe = RECIPES[name]
    rows = rows_for(recipe, digits)
    pair = recipe.pair(**parts(recipe))
    build(pair, rows["x"], rows)
    objective = recipe.objective().terms()[term]
    reached, all_of = gradients(pair, objective, rows, objective.loss)
    assert reached["pair"] == {n for n in all_of["pair"] if n.startswith(part)} != set()


def test_epochs_take_the_place_of_a_recipes_steps():
    _, _, options = RECIPES["vae"].prepare(epochs="3")
    assert options["epochs"] == 3
    assert "steps" not in options


def test_every_fault_in_the_options_is_told():
    with pytest.raises(Errors) as caught:
        RECIPES["vae"].prepare(latnt=3, prior="vmap", lr="x", objective="elbow")
    told = "\n".join(caught.value.errors)
    for said in ("nearest 'latent'", "nearest 'vamp'", "lr must be a number", "nearest 'elbo'"):
        assert said in told


def test_an_unknown_recipe_suggests_the_nearest():
    with pytest.raises(ValueError, match="nearest 'wae-mmd'"):
        find_recipe("wae-mdm")


def test_an_option_that_fit_has_too_can_be_meant_for_the_pair():
    class Steps(VAE):
        def __init__(self, steps: int = 1):
            super().__init__()
            self.steps = steps

    pair, _, options = Recipe("mine", "", Steps).prepare(**{"pair.steps": "7", "steps": "9"})
    assert pair.steps == 7
    assert options["steps"] == 9


# --- the contract: every prior with every objective and every likelihood --------------------------

# Beside a bound, which gives every parameter a gradient; the bounds alone.
WHOLE = {
    "adversarial": "elbo + adversarial:z:critic=(mlp:8)",
    "constraint": "elbo + constraint:reconstruction:5",
    "elbo": "elbo",
    "iwae": "iwae:3",
    "renyi": "renyi:0.5:3",
    "sleep": "elbo + 0.1*sleep:z:mean=x",
}
# Need labels and a categorical code: see test_terms.py and test_few_labels.py.
LABELLED = {"classification", "labelled-elbo", "of"}
# Chains alone have steps, denoise, or are infused: see test_diffusion.py, test_denoising.py and
# test_infusion.py for the refusal.
CHAINS = {"denoise", "infuse", "steps"}
# For priors whose parameters have a distribution; see test_tree.py for the refusal.
POINTS = {"map": {"nested-crp"}}
# Of bits, which these objectives' gradients do not reach, and of their energy: test_energies.py.
BITS, ENERGY = {"boltzmann"}, {"contrast"}
ALONE = {n for n, objective in OBJECTIVES.items() if objective.whole}  # see test_classical.py
COUNTED = (
    "categorical",
    "negative-binomial",
    "poisson",
    "zero-inflated-negative-binomial",
    "zero-inflated-poisson",
)
# By one prior and one bound alone: their heads are like the others' to all else.
LIKE_OTHERS = {*COUNTED, "student-t", "gamma", "beta", "columns"}
VALUES = {
    "bernoulli": lambda u: (u > 0.5).float(),
    "continuous-bernoulli": lambda u: u,
    "discretized-normal": lambda u: (u * 16).round() / 16,
    "logistic": lambda u: (u * 255).round() / 255,
    "normal": lambda u: 4 * u - 2,
    "delta": lambda u: 4 * u - 2,
    "student-t": lambda u: 4 * u - 2,
    "gamma": lambda u: 4 * u + 0.01,
    "beta": lambda u: 0.1 + 0.8 * u,
    "columns": lambda u: torch.where(torch.arange(5) < 3, 4 * u - 2, (4 * u).floor()),
} | dict.fromkeys(COUNTED, lambda u: (4 * u).floor())
IMPLICIT = {"delta"}
FEW = {"exemplar": "exemplar:4", "flow": "flow:1:8", "vamp": "vamp:4"}


def arrays(likelihood):
    u = torch.rand(60, 5, generator=torch.Generator().manual_seed(0))
    return Data.from_arrays(x=VALUES[likelihood](u).numpy())


@pytest.mark.parametrize(
    ("prior", "objective", "likelihood"),
    [
        combination
        for combination in itertools.product(
            [n for n in PRIORS if n not in BITS],
            [n for n in OBJECTIVES if n not in LABELLED | ENERGY | ALONE | CHAINS],
            [n for n in LIKELIHOODS if n not in IMPLICIT],
        )
        if combination[0] in POINTS.get(combination[1], PRIORS)
        and (combination[2] not in LIKE_OTHERS or combination[:2] == ("normal", "elbo"))
    ],
)
def test_every_combination_trains_and_is_judged(prior, objective, likelihood):
    pair = VAE(
        parse(
            "prior",
            {"vamp": "vamp:4", "exemplar": "exemplar:4", "flow": "flow:1:8"}.get(prior, prior),
            PRIORS,
        ),
        parse("net", "mlp:8", NETS),
        parse("net", "mlp:8", NETS),
        likelihood,
        latent=2,
    )
    data = arrays(likelihood)
    # fit raises if a parameter gets no gradient, or the loss isn't finite.
    run = fit(
        pair,
        parse_objective(WHOLE.get(objective, f"elbo + {objective}")),
        data,
        steps=1,
        batch_size=32,
        valid_every=0,
    )
    assert all(torch.isfinite(p).all() for p in pair.parameters())
    nll = evaluate(run, particles=3, metrics=["nll"], limit=4, pictures=False)["nll"]
    assert nll.applicable, nll.note


@pytest.mark.parametrize("likelihood", sorted(IMPLICIT))
@pytest.mark.parametrize(
    "prior", [n for n in PRIORS if n not in {"vamp", "exemplar", "mixture"} | BITS]
)
def test_an_implicit_pair_trains_on_its_dreams(prior, likelihood):
    assert likelihood in LIKELIHOODS
    recipe = RECIPES["gan"]
    prior = {"flow": "flow:1:8:kind=realnvp"}.get(prior, prior)
    run = recipe.fit(
        arrays(likelihood), prior=prior, generator="mlp:8", steps=1, batch_size=32, valid_every=0
    )
    assert not evaluate(run, metrics=["nll"], limit=4, pictures=False)["nll"].applicable


# Levels are continuous values in [0, 1] too: "logistic", "discretized-normal" and "delta" are
# chosen by name alone.
BY_VALUE = {
    "bernoulli": "bernoulli",
    "continuous-bernoulli": "continuous-bernoulli",
    "discretized-normal": "continuous-bernoulli",
    "logistic": "continuous-bernoulli",
    "normal": "normal",
    "delta": "normal",
    "student-t": "normal",
    "gamma": "normal",
    "beta": "continuous-bernoulli",
    "columns": "normal",
} | dict.fromkeys(COUNTED, "normal")


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_by_value_and_by_name_suit_the_data(name):
    x = arrays(name).train.x
    assert type(likelihood_for(x)) is LIKELIHOODS[BY_VALUE[name]]
    suits = {"normal", "delta", "student-t", "columns", BY_VALUE[name], name}
    suits |= {*COUNTED} if name in (*COUNTED, "bernoulli") else set()
    suits |= {"gamma"} if name == "beta" else set()
    suits |= {"beta"} if x.min() > 0 and x.max() < 1 else set()
    suits |= {"gamma"} if x.min() > 0 else set()
    suits |= {"continuous-bernoulli"} if name == "bernoulli" else set()
    suits |= {"logistic"} if name == "bernoulli" else set()
    suits |= {"discretized-normal"} if name in ("bernoulli", "logistic") else set()
    for other, made in LIKELIHOODS.items():
        if other in suits:
            made().check(x)
        else:
            with pytest.raises(ValueError, match="likelihood expected"):
                made().check(x)


def test_a_given_part_is_taken_as_it_is():
    prior = GaussianMixture(3)
    assert RECIPES["vae"].pair(prior=prior).prior is prior
    assert isinstance(RECIPES["vamp-vae"].pair().prior, VampPrior)


def test_data_may_be_given_by_name():
    recipe = RECIPES["dcgan"]
    options = {"steps": 1, "valid_every": 0, "generator": "mlp:8"}
    run = recipe.fit("digits", objective="adversarial:x:critic=(mlp:8)", **options)
    assert run.data.config["binarise"] == "none"
    with pytest.raises(ValueError, match="nearest 'digits'"):
        recipe.fit("digit", **options)
    again = fit(VAE(), data="digits", steps=1, valid_every=0, progress=False)
    assert again.data.config["name"] == "digits"
    with pytest.raises(ValueError, match=r"Data\.named\('digits'\).*got none"):
        fit(VAE())
