"""fit, its run, and what it promises about randomness, devices and files."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.infer
import pytest
import torch
from torch import nn

from pairs import LinearGaussian
from priory import evaluate, fit, load
from priory.data import Data
from priory.divergences import mmd
from priory.evaluation import ByMetric
from priory.inference import ELBO, IWAE, Adversarial, Linear, Match, Programs, Reconstruction
from priory.models import GAN, VAE
from priory.nets import MLP
from priory.priors import GaussianMixture


@pytest.fixture(scope="module")
def digits():
    return Data.named("digits")


def small(**options):
    options = {"latent": 3, "encoder": MLP((16,)), "decoder": MLP((16,))} | options
    return VAE(**options)


def weights(run):
    return {k: v.clone() for k, v in run.pair.state_dict().items()}


def test_digits_get_better_and_history_says_so(digits):
    run = fit(VAE(latent=8), ELBO(), digits, epochs=15, lr=3e-3)
    assert [row["epoch"] for row in run.history] == list(range(1, 16))
    assert run.history[-1]["bound"] > run.history[0]["bound"] + 5
    assert run.history[-1]["step"] == 15 * (1297 // 128)
    assert run.history[-1]["bound"] == pytest.approx(
        -evaluate(run, split="valid")["nll"].value, abs=1
    )
    assert not run.pair.training


@pytest.mark.parametrize(
    "objective",
    [
        lambda: Reconstruction() + 10 * Match(mmd, "z"),
        lambda: Reconstruction() + 10 * Adversarial(MLP((64, 64)), "z"),
    ],
    ids=["wae-mmd", "aae"],
)
def test_divergence_and_critic_pull_the_codes_to_the_prior(digits, objective):
    def gap(run):
        z = run.pair.encoder(digits.test.x).sample()
        return float(mmd(z, torch.randn(len(z), 3)))

    free = fit(small(), Reconstruction(), digits, epochs=15, lr=3e-3)
    held = fit(small(), objective(), digits, epochs=15, lr=3e-3)
    assert gap(held) < 0.1 * gap(free)
    assert held.history[-1]["bound"] > free.history[-1]["bound"] + 5


def test_gan_on_the_ring_reaches_several_modes():
    data = Data.named("ring", rows=4000)
    pair = GAN(generator=MLP((64, 64)), latent=2)
    critic = MLP((64, 64), "leaky-relu")
    adam = partial(torch.optim.Adam, betas=(0.5, 0.9))
    objective = Adversarial(critic, "x")
    run = fit(pair, objective, data, steps=1500, batch_size=256, lr=1e-3, optim=adam)
    x = run.sample(2000)["x"]
    assert x.shape == (2000, 2)
    near = torch.cdist(x, torch.as_tensor(data.density.centres, dtype=x.dtype)).min(1)
    assert len(near.indices.unique()) >= 6
    assert near.values.median() < 0.15
    assert run.history[-1].get("bound") is None


def test_same_seed_same_weights_other_seed_others(digits):
    runs = [fit(small(), ELBO(), digits, steps=12, seed=seed) for seed in (0, 0, 1)]
    first, second, third = (weights(run) for run in runs)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not all(torch.equal(first[k], third[k]) for k in first)


def test_global_state_is_left_alone(digits):
    pyro.param("mine", torch.tensor(1.0))
    before = torch.random.get_rng_state()
    fit(small(), ELBO(), digits, steps=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert list(pyro.get_param_store()) == ["mine"]


def test_evaluation_during_training_changes_nothing(digits):
    often = fit(small(), ELBO(), digits, epochs=3, valid_every=1)
    never = fit(small(), ELBO(), digits, epochs=3, valid_every=0)
    assert all(torch.equal(v, weights(never)[k]) for k, v in weights(often).items())


def test_two_models_in_one_process_equal_each_alone(digits):
    alone = weights(fit(small(), ELBO(), digits, steps=8))
    fit(small(prior=GaussianMixture(4)), IWAE(3), digits, steps=5)
    assert all(
        torch.equal(v, alone[k]) for k, v in weights(fit(small(), ELBO(), digits, steps=8)).items()
    )


@pytest.mark.parametrize(
    "objective",
    [
        ELBO(beta=Linear(0.0, 1.0, 20)),
        IWAE(3),
        Reconstruction() + 2 * Match(mmd, "z") + Adversarial(MLP((4,)), "z"),
    ],
    ids=["elbo", "iwae", "sum"],
)
def test_saved_run_comes_back_the_same(digits, tmp_path, objective):
    run = fit(small(prior="normal"), objective, digits, steps=8)
    folder = run.save(tmp_path / "run")
    assert sorted(p.name for p in folder.iterdir()) == [
        "card.md",
        "config.yaml",
        "history.json",
        "manifest.json",
        "weights.safetensors",
    ]
    back = load(folder)
    assert all(torch.equal(v, weights(back)[k]) for k, v in weights(run).items())
    assert back.history == run.history
    assert type(back.objective) is type(run.objective)
    assert back.objective.particles == run.objective.particles
    assert torch.equal(back.sample(5)["x"], run.sample(5)["x"])
    for one, two in zip(objective.adversaries(), back.objective.adversaries(), strict=True):
        assert all(map(torch.equal, one.critic.parameters(), two.critic.parameters()))
    with pytest.raises(FileExistsError, match="overwrite"):
        run.save(folder)
    run.save(folder, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="other things than a run"):
        run.save(tmp_path / "mine", overwrite=True)


def test_run_of_a_users_own_pair_needs_the_pair_to_load(tmp_path):
    data = Data.from_arrays(x=torch.randn(60, 5, dtype=torch.float64).float())
    pair = LinearGaussian().float()
    run = fit(pair, ELBO(), data, steps=3)
    run.save(tmp_path / "run")
    with pytest.raises(ValueError, match=r"load\(folder, pair="):
        load(tmp_path / "run")
    back = load(tmp_path / "run", pair=LinearGaussian().float(), data=data)
    assert torch.equal(back.pair.w, pair.w)
    wrong = LinearGaussian(latent=3).float()
    with pytest.raises(ValueError, match=r"'pair.w' is \(5, 2\) float32 in the file and \(5, 3\)"):
        load(tmp_path / "run", pair=wrong, data=data)


def test_two_callables_with_bare_parameters_are_a_pair(tmp_path):
    x = torch.linspace(-1, 3, 100)

    def model(x):
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 80, subsample=torch.arange(len(x))):
            pyro.sample("x", dist.Normal(w, 1.0).expand([1]).to_event(1), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.0))
        pyro.sample("w", dist.Normal(loc, 0.11))

    data = Data.from_arrays(x=x)
    run = fit((model, guide), ELBO(particles=4), data, epochs=150, lr=0.02, batch_size=40)
    exact = float(data.train.x.sum() / 81)
    assert float(run.store["params"]["loc"].detach()) == pytest.approx(exact, abs=0.1)
    assert "loc" not in pyro.get_param_store()
    run.save(tmp_path / "run")
    back = load(tmp_path / "run", pair=Programs(model, guide), data=data)
    assert torch.equal(back.store["params"]["loc"], run.store["params"]["loc"].detach())


def test_pyros_own_loss_and_columns_by_name():
    data = Data.from_arrays(x=torch.randn(50, 1), y=torch.arange(50) % 2)
    seen = set()

    def model(x, y):
        seen.add("model")
        loc = pyro.param("loc", torch.zeros(2))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(loc[y], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("m", torch.zeros(())), 1.0))

    run = fit((model, guide), pyro.infer.Trace_ELBO(), data, steps=3, batch_size=10)
    assert math.isfinite(run.history[-1]["loss"])
    with pytest.raises(ValueError, match="needs the argument 'y', but the data have the columns x"):
        fit((model, guide), ELBO(), Data.from_arrays(x=torch.randn(50, 1)), steps=1)


def test_program_that_refuses_particles_gets_a_hint():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z[:, :1], 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            m = pyro.param("m", torch.zeros(2))
            pyro.sample("z", dist.Normal(m, 1.0).to_event(1))

    data = Data.from_arrays(x=torch.randn(50, 1))
    with pytest.raises(ValueError, match="count dimensions from the right"):
        fit((model, guide), IWAE(5), data, steps=1)
    alone = fit((model, guide), ELBO(), data, steps=20, valid_particles=50)
    with alone.scope(), torch.no_grad():
        elbo = -float(ELBO(particles=1)(model, guide, data.valid.x))
    assert alone.history[-1]["bound"] == pytest.approx(elbo, abs=1.5)


def test_early_stopping_keeps_the_best_weights(digits):
    run = fit(small(), ELBO(), digits, epochs=200, lr=0.05, patience=3)
    bounds = [row["bound"] for row in run.history]
    assert len(bounds) < 200
    best = max(range(len(bounds)), key=bounds.__getitem__)
    assert best == len(bounds) - 4
    from priory.inference.validation import validation_bound

    found = validation_bound(run.pair.model, run.pair.guide, digits.valid)
    assert found == pytest.approx(bounds[best], abs=1e-4)


def test_cosine_ends_at_a_hundredth_of_the_rate(digits):
    run = fit(small(), ELBO(), digits, epochs=4, schedule="cosine", lr=0.01)
    rates = [row["rate"] for row in run.history]
    assert rates == sorted(rates, reverse=True)
    assert 1e-4 < rates[-1] < 1.3e-4


def test_moving_average_is_what_the_run_ends_with(digits):
    plain = fit(small(), ELBO(), digits, steps=20, valid_every=0)
    averaged = fit(small(), ELBO(), digits, steps=20, valid_every=0, ema=0.9)
    moved = [
        float((a - b).detach().abs().max())
        for a, b in zip(plain.pair.parameters(), averaged.pair.parameters(), strict=True)
    ]
    assert max(moved) > 0


def test_untrained_parameter_is_an_error(digits):
    pair = small(prior=GaussianMixture(3))
    with pytest.raises(ValueError, match=r"'.*prior.*' \(and . more\) got no gradient"):
        fit(pair, Reconstruction(), digits, steps=5)


def test_data_that_leave_the_support_are_an_error():
    grey = Data.named("digits", binarise="none")
    with pytest.raises(ValueError, match="binarise"):
        fit(small(likelihood="bernoulli"), ELBO(), grey, steps=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": -1.0}, "lr must be positive, got -1.0"),
        ({"epochs": 0}, "epochs must be an integer from 1, got 0"),
        ({"epochs": 1, "steps": 1}, "not both"),
        ({"epochs": -1, "lr": 0.0}, "epochs.*; lr"),
        ({"schedule": "cosin"}, "schedule must be"),
        ({"device": "tpu9"}, "no device 'tpu9'"),
        ({"patience": 2, "valid_every": 0}, "patience needs"),
        ({"clip": 0.0, "ema": 2.0}, "clip must be positive, got 0.0; ema must lie"),
    ],
)
def test_bad_options_are_told_before_training(digits, options, words):
    with pytest.raises(ValueError, match=words):
        fit(small(), ELBO(), digits, **options)


def test_patience_needs_a_bound():
    with pytest.raises(ValueError, match="patience needs a validation bound"):
        fit(
            GAN(generator=MLP((8,)), latent=2),
            Adversarial(MLP((8,)), "x"),
            Data.named("ring", rows=300),
            epochs=2,
            patience=1,
        )


def test_loss_that_is_not_finite_stops(digits):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = nn.Parameter(torch.tensor(math.nan))

        def model(self, x):
            pyro.module("broken", self)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample(
                    "x", dist.Normal(z[:, None, None, None], 1.0).expand(x.shape).to_event(3), obs=x
                )

        def guide(self, x):
            pyro.module("broken", self)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(self.m, 1.0, validate_args=False))

    with pytest.raises(ValueError, match="nan"):
        fit(Broken(), ELBO(), digits, steps=3, check=False)


def test_sampling_is_seeded_and_sized(digits):
    run = fit(small(), ELBO(), digits, steps=3)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two = run.sample(7), run.sample(7)
    assert torch.equal(one["x"], two["x"])
    assert one["x"].shape == (7, 1, 8, 8)
    assert one["z"].shape == (7, 3)
    assert one["x_mean"].shape == (7, 1, 8, 8)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    with pytest.raises(ValueError, match="n must be at least 1"):
        run.sample(0)


@pytest.mark.cuda
def test_fit_on_cuda_stays_there_and_saves_for_the_cpu(digits, tmp_path):
    run = fit(small(), ELBO(), digits, steps=5, device="cuda")
    assert {p.device.type for p in run.pair.parameters()} == {"cuda"}
    assert run.data.train.x.device.type == "cuda"
    run.save(tmp_path / "run")
    assert load(tmp_path / "run").sample(3)["x"].device.type == "cpu"
    on_cuda = evaluate(run, particles=200)["nll"]
    on_cpu = evaluate(load(tmp_path / "run"), particles=200)["nll"]
    assert abs(on_cuda.value - on_cpu.value) < 3 * on_cuda.se


@pytest.mark.cuda
def test_adversarial_fit_on_cuda_traces_its_steps():
    data = Data.named("ring", rows=400)
    pair = GAN(generator=MLP((8,)), latent=2)
    objective = Adversarial(MLP((8,)), "x")
    run = fit(pair, objective, data, steps=5, device="cuda", compile="trace")
    assert {p.device.type for p in objective.critic.parameters()} == {"cuda"}
    assert math.isfinite(run.history[-1]["loss"])


@pytest.mark.parametrize("valid_every", [0, 1])
@pytest.mark.parametrize("objective", [ELBO, lambda: Adversarial(MLP((8,)), "x")])
def test_without_validation_rows_a_pair_trains(objective, valid_every):
    data = Data.from_arrays(torch.randn(40, 3), valid=0)
    pair = VAE(latent=2) if objective is ELBO else GAN(latent=2)
    run = fit(pair, objective(), data, steps=15, valid_every=valid_every, snapshot_every=1)
    assert run.history[-1]["step"] == 15
    assert all(row.get("bound") is None for row in run.history)
    alone = Data.from_arrays(torch.randn(1, 3), valid=0, test=0)
    assert fit(VAE(latent=2), ELBO(), alone, steps=2).history[-1]["step"] == 2


@pytest.mark.parametrize("options", [{"patience": 2}, {"best": ByMetric("mmd")}])
def test_best_weights_need_validation_rows(options):
    data = Data.from_arrays(torch.randn(40, 3), valid=0)
    steps = []
    with pytest.raises(ValueError, match=r"validation rows, and the data have none; keep some"):
        fit(VAE(latent=2), ELBO(), data, epochs=2, on_epoch=steps.append, **options)
    assert not steps
