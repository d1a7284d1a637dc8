"""The exemplar prior leaves a row out of its own mixture in training, and nowhere else."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import priory.cli
from priory import evaluate
from priory.data import Data
from priory.data.mapped import Mapped
from priory.data.split import Split
from priory.inference import ELBO, IWAE, SVI, fit, load
from priory.inference.phases.phases import Phases
from priory.models import VAE
from priory.nets import MLP
from priory.priors import ExemplarPrior, NormalMixture
from priory.priors.training_rows import numbered, scored, scored_rows
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed

pytestmark = pytest.mark.usefixtures("double")

ROWS, LATENT = 6, 2
X = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def pair_of(components=4, x=X, latent=LATENT, **options):
    pair = VAE(ExemplarPrior(components, **options), MLP((5,)), MLP((5,)), "normal", latent)
    pair.build(x)
    with torch.no_grad():
        pair.prior.log_scale.fill_(-0.4)
    return pair


def by_hand(pair, z, rows, left_out=True):
    """Return log p(z) of each row, component by component, of distinct exemplars."""
    prior = pair.prior
    codes, scale = prior.posteriors(prior.exemplars).mean, prior.log_scale.exp()
    same = (prior.exemplars[:, None] == pair.likelihood.scaled(X)).all(-1)
    origins = [int(row.nonzero()) for row in same]
    found = torch.empty(z.shape[:-1])
    for n, row in enumerate(rows.tolist()):
        others = [m for m, origin in enumerate(origins) if not (left_out and origin == row)]
        each = [Normal(codes[m], scale).log_prob(z[..., n, :]).sum(-1) for m in others]
        found[..., n] = torch.stack(each).logsumexp(0) - math.log(len(others))
    return found


@pytest.mark.parametrize("particles", [1, 3])
def test_the_priors_term_is_the_log_mean_over_the_other_rows(particles):
    pair, rows = pair_of(), torch.tensor([4, 0, 0, 5, 1, 2, 3])
    pair.prior.set_rows(ROWS, X, torch.arange(ROWS))
    columns = {"x": X[rows], "index": rows}
    with numbered():
        phases = Phases(pair.model, pair.guide, columns=columns, particles=particles)
        awake, asleep = phases.awake, phases.asleep
    z = awake.sample["z"]
    others, every = by_hand(pair, z, rows), by_hand(pair, z, rows, left_out=False)
    torch.testing.assert_close(awake.log_p("z"), others, rtol=0, atol=1e-12)
    assert ((others - every).abs() > 1e-3).any(0).sum() == 5, "rows 4 of 6, one of them twice"
    ratio = awake.log_p("x") + others - awake.log_q("z")
    torch.testing.assert_close(awake.log_weight(), ratio, rtol=0, atol=1e-12)
    # What the model generates is scored by the whole mixture.
    whole = by_hand(pair, asleep.sample["z"], rows, left_out=False)
    torch.testing.assert_close(asleep.log_p("z"), whole, rtol=0, atol=1e-12)
    # And so is everything that is no step of a training, whatever the mode and the columns.
    for mode in (True, False):
        pair.train(mode)
        torch.manual_seed(0)
        free = Phases(pair.model, pair.guide, columns=columns, particles=particles).awake
        whole = by_hand(pair, free.sample["z"], rows, left_out=False)
        torch.testing.assert_close(free.log_p("z"), whole, rtol=0, atol=1e-12)


def test_the_weight_of_a_component_left_out_goes_to_the_others():
    logits = torch.randn(5, 3)
    logits[1, 2] = logits[4, 0] = -torch.inf
    loc, log_scale = torch.randn(3, 2), torch.randn(3, 2) / 3
    made, z = NormalMixture(logits, loc, log_scale), torch.randn(7, 5, 2)
    assert (made.batch_shape, made.event_shape) == ((5,), (2,))
    for n in range(5):
        alone = NormalMixture(logits[n], loc, log_scale)
        torch.testing.assert_close(made.log_prob(z)[:, n], alone.log_prob(z[:, n]))
        torch.testing.assert_close(made.mean[n], alone.mean)
        torch.testing.assert_close(made.variance[n], alone.variance)
    draws = made.expand((3, 5)).sample((20_000,)).flatten(0, 1)
    assert draws.shape == (60_000, 5, 2)
    error = 5 * (made.variance / len(draws)).sqrt()
    assert ((draws.mean(0) - made.mean).abs() < error).all()


def test_draws_of_mixtures_of_a_batch_have_the_gradient_of_each_alone():
    logits, z = torch.randn(2, 3, requires_grad=True), torch.randn(6, 2)
    loc, log_scale = torch.randn(3, 2), torch.randn(3, 2) / 3
    made = NormalMixture(logits, loc, log_scale)._by_weights(z)
    found = torch.autograd.grad(made.square().sum() + made.sum(), logits)[0]
    for n in range(2):
        one = logits[n].detach().requires_grad_()
        moved = NormalMixture(one, loc, log_scale)._by_weights(z[n::2])
        expected = torch.autograd.grad(moved.square().sum() + moved.sum(), one)[0]
        torch.testing.assert_close(found[n], expected)


# --- fit ----------------------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch):
    """The components that each mixture is without, and the numbers of the rows that it scores."""
    found, inner = [], ExemplarPrior.distribution

    def distribution(self):
        made = inner(self)
        found.append((made.logits.isneginf(), scored_rows()))
        return made

    monkeypatch.setattr(ExemplarPrior, "distribution", distribution)
    return found


def trained(data, pair=None, **options):
    pair = VAE(ExemplarPrior(5), MLP((5,)), MLP((5,)), latent=2) if pair is None else pair
    options = {"steps": 3, "batch_size": 10, "compile": "off", "progress": False} | options
    return fit(pair, options.pop("objective", ELBO()), data, **options)


def data_of(kind):
    draw = np.random.default_rng(0)
    if kind == "table":  # in units that are not those of the nets
        return Data.from_arrays(x=draw.normal(size=(50, 3)) * [1.0, 50.0, 9e3] + [0.0, 7.0, -4e4])
    if kind == "sequences":
        length = draw.integers(2, 6, 50)
        return Data.from_arrays(x=draw.normal(size=(50, 5, 2)), length=length)
    grey = draw.random((50, 1, 3, 3))
    return Data.from_arrays(x=grey, binarise="dynamic" if kind == "dynamic" else "none")


@pytest.mark.parametrize("kind", ["images", "dynamic", "table", "sequences"])
@pytest.mark.parametrize("objective", [ELBO(), IWAE(3)], ids=["elbo", "iwae"])
def test_each_step_leaves_a_row_out_of_its_own_mixture(seen, kind, objective):
    data = data_of(kind)
    run = trained(data, objective=objective, valid_every=0)
    prior, x = run.pair.prior, data.train.snapshot()
    assert len(prior.numbers.unique()) == 5
    own = prior.data_units[0].scaled(x) if prior.data_units else x
    if kind != "sequences":  # whose padding is filled
        torch.testing.assert_close(own[prior.numbers], prior.exemplars)
    steps = [(mask, rows) for mask, rows in seen if rows is not None]
    assert len(steps) == 3
    for mask, rows in steps:
        assert torch.equal(mask, rows[:, None] == prior.numbers)
    assert any(mask.any() for mask, _ in steps)
    assert not any(mask.any() for mask, rows in seen if rows is None)


def test_validation_and_evaluation_have_the_whole_mixture(seen):
    data = data_of("images")
    run = trained(data, steps=4)
    valid = len(seen)
    assert run.history[-1]["bound"] is not None
    for split in ("test", "train"):
        evaluate(run, split=split, metrics=["nll"], particles=2, pictures=False)
    assert len(seen) > valid
    assert sum(rows is not None for _, rows in seen) == 4
    assert not any(mask.any() for mask, rows in seen if rows is None)


def test_without_leaving_out_every_component_counts(seen):
    trained(data_of("images"), VAE(ExemplarPrior(5, leave_out=False), latent=2))
    assert not any(mask.any() for mask, _ in seen)


def test_svi_on_batches_of_its_own_has_the_whole_mixture(seen):
    pair = pair_of()
    svi = SVI(pair.model, pair.guide, torch.optim.SGD, ELBO())
    svi.step(x=X, index=torch.arange(ROWS))
    assert seen
    assert not any(mask.any() for mask, _ in seen)


def test_repeated_exemplars_are_left_out_together():
    pair = pair_of(2 * ROWS)
    pair.prior.set_rows(ROWS, X, 10 * torch.arange(ROWS))
    z = torch.randn(ROWS, LATENT)
    with numbered(), scored(10 * torch.arange(ROWS)):
        found = pair.prior().log_prob(z)
    torch.testing.assert_close(found, by_hand_of_every_row(pair, z))


def by_hand_of_every_row(pair, z):
    codes, scale = pair.encoder(X).mean, pair.prior.log_scale.exp()
    found = []
    for n in range(ROWS):
        around = Independent(Normal(torch.cat([codes[:n], codes[n + 1 :]]), scale), 1)
        mixture = MixtureSameFamily(Categorical(torch.ones(ROWS - 1)), around)
        found.append(mixture.log_prob(z[n]))
    return torch.stack(found)


# --- where a row's own component is not known -----------------------------------------------------


def test_exemplars_of_other_rows_are_refused():
    data, other = data_of("images"), data_of("images").train.x[:20] / 2
    pair = VAE(ExemplarPrior(5), latent=2)
    pair.build(other)
    with pytest.raises(ValueError, match=r"its exemplars are not of these training rows: train on"):
        trained(data, pair)
    pair.prior.leave_out = False
    trained(data, pair)


def test_batches_that_are_not_held_are_refused():
    x = data_of("images").train.x
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=10)
    options = {"batch_size": 10, "steps": 1}
    with pytest.raises(ValueError, match=r"batches that are not held have none: give rows"):
        trained(Data.of(loader), VAE(ExemplarPrior(5), latent=2), **options)
    trained(Data.of(loader), VAE(ExemplarPrior(5, leave_out=False), latent=2), **options)


def test_a_mixture_of_one_row_is_refused():
    with pytest.raises(ValueError, match="all its 1 are of one row: give 2 components or more"):
        trained(data_of("images"), VAE(ExemplarPrior(1), latent=2))


def test_numbers_of_rows_in_a_mapped_file():
    column = Mapped(np.arange(40.0).reshape(20, 2))
    split = Split({"x": column})
    limit = split.nbytes // 3
    held, rows = split.resident(limit), split.resident_rows(limit)
    assert 1 < len(rows) < 20
    assert torch.equal(held.x, column[rows])
    whole = Split({"x": torch.arange(6.0).reshape(3, 2)})
    assert whole.resident() is whole
    assert whole.resident_rows().tolist() == [0, 1, 2]


# --- engines, checkpoints, the command line -------------------------------------------------------


def test_traced_steps_are_the_eager_ones_and_a_broken_run_goes_on(tmp_path):
    recipe = RECIPES["exemplar-vae"]
    nets = {"encoder": "mlp:8", "decoder": "mlp:8", "latent": 2}
    options = {"prior": "exemplar:8", **nets, "steps": 8, "batch_size": 10, "progress": False}
    data = Data.named("ring", rows=50)
    back = check_traced_and_resumed(recipe, options, data, tmp_path / "run", atol=1e-6)
    assert len(back.pair.prior.numbers) == 0
    trained(back.data, back.pair)  # on the same rows, which it knows again
    assert len(back.pair.prior.numbers) == 8


def test_leaving_out_changes_the_training():
    recipe, data = RECIPES["exemplar-vae"], data_of("images")
    found = []
    for prior in ("exemplar:8", "exemplar:8:leave_out=false"):
        run = recipe.fit(data, prior=prior, steps=8, batch_size=10, latent=2, progress=False)
        found.append(run.pair.prior.log_scale.item())
    assert found[0] > found[1], "the mixture is wider where no row has its own component"


def test_by_the_command_line(tmp_path, capsys):
    folder = tmp_path / "run"
    words = ["fit", "vae", "--prior", "exemplar:6:leave-out=true", "--steps", "2"]
    words += ["--data", "digits", "--out", str(folder), "--batch-size", "50"]
    assert priory.cli.main(words) == 0
    capsys.readouterr()
    run = load(folder)
    assert (run.pair.prior.components, run.pair.prior.leave_out) == (6, True)
