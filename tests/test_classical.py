"""Models whose likelihood is exact: closed forms, EM, enumeration, and the judge against them."""

import itertools
import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.decomposition import FactorAnalysis as SklearnFactorAnalysis
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.naive_bayes import BernoulliNB, GaussianNB

from priory import compare, evaluate, fit, load
from priory.cli import main
from priory.data import Data
from priory.inference import ELBO, EM, IWAE, SVI, Phases
from priory.inference.phases.arguments import bind
from priory.models import (
    GMM,
    HMM,
    PAIRS,
    VAE,
    BernoulliMixture,
    FactorAnalysis,
    GaussianNaiveBayes,
    NaiveBayes,
    ProbabilisticPCA,
)
from priory.models.pair import Tractable
from priory.recipes import RECIPES

FITTED = [name for name, recipe in RECIPES.items() if recipe.objective().whole]
QUIET = {"valid_every": 0, "progress": False}


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(
        torch.as_tensor(a), torch.as_tensor(b), rtol=tolerance, atol=tolerance, check_dtype=False
    )


def correlated(n=300, d=5, latent=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    w, z, e = (torch.randn(*s, generator=draw) for s in ((latent, d), (n, latent), (n, d)))
    return z @ w + e * torch.linspace(0.5, 1.0, d) + torch.arange(d)


def blobs(n=300, seed=0):
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (n,), generator=draw)
    shear = torch.tensor([[1.0, 0.8], [0.0, 0.5]])
    return torch.randn(n, 2, generator=draw) @ shear + 4 * torch.eye(3)[y][:, :2], y


def bits(n=300, d=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (n,), generator=draw)
    probs = torch.rand(3, d, generator=draw) * 0.8 + 0.1
    return (torch.rand(n, d, generator=draw) < probs[y]).to(torch.get_default_dtype()), y


def chains(n=60, steps=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(4, (n, steps), generator=draw).to(torch.get_default_dtype())
    return x, torch.randint(1, steps + 1, (n,), generator=draw)


def made(name):
    """A pair with random parameters, and data that suit it."""
    torch.manual_seed(4)
    x, y = blobs()
    pair, columns = {
        "bernoulli-mixture": lambda: (BernoulliMixture(3), {"x": bits()[0]}),
        "factor-analysis": lambda: (FactorAnalysis(2), {"x": correlated()}),
        "gaussian-mixture": lambda: (GMM(3), {"x": x}),
        "gaussian-naive-bayes": lambda: (GaussianNaiveBayes(), {"x": x, "y": y}),
        "hmm": lambda: (HMM(3), dict(zip(("x", "length"), chains(), strict=True))),
        "naive-bayes": lambda: (NaiveBayes(smoothing=0.0), dict(zip("xy", bits(), strict=True))),
        "ppca": lambda: (ProbabilisticPCA(2), {"x": correlated()}),
    }[name]()
    pair.build(columns["x"], columns.get("y"))
    return pair, columns


EXACT = [name for name, pair in PAIRS.items() if issubclass(pair, Tractable)]


# --- what all have in common --------------------------------------------------------------------


@pytest.mark.parametrize("name", EXACT)
def test_em_never_lowers_the_likelihood(double, name):
    pair, columns = made(name)
    values = []
    for _ in range(40):
        values.append(pair.log_likelihood(**columns).mean().item())
        pair.maximise(**columns)
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(values))
    assert values[-1] > values[0] + 0.01


@pytest.mark.parametrize("name", EXACT)
def test_every_bound_is_the_likelihood_without_variance(double, name):
    pair, columns = made(name)
    pair.maximise(**columns)
    truth = pair.log_likelihood(**columns)
    phases = Phases(pair.model, pair.guide, columns=columns, particles=4)
    log_weight = phases.awake.log_weight()
    close(log_weight.detach(), truth.detach().expand_as(log_weight))
    gradient = "enumerate" if name.endswith("mixture") else "pathwise"
    for bound in (ELBO(gradient=gradient), IWAE(3, gradient=gradient)):
        close(bound(pair.model, pair.guide, **columns).detach(), -truth.mean().detach())


@pytest.mark.parametrize("name", EXACT)
def test_em_ends_where_the_gradient_does(double, name):
    pair, columns = made(name)
    for _ in range(400):
        pair.maximise(**columns)
    pair.log_likelihood(**columns).mean().backward()
    for key, parameter in pair.named_parameters():
        assert parameter.grad.abs().max() < 2e-3, key


@pytest.mark.parametrize("name", ["ppca", "factor-analysis", "gaussian-mixture", "naive-bayes"])
def test_svi_and_em_agree(double, name):
    pair, columns = made(name)
    twin, _ = made(name)
    for _ in range(200):
        pair.maximise(**columns)
    twin.load_state_dict(pair.state_dict())
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(0.2 * torch.randn_like(p))
    gradient = "enumerate" if name.endswith("mixture") else "pathwise"
    loss = ELBO(gradient=gradient)
    svi = SVI(twin.model, twin.guide, lambda p: torch.optim.Adam(p, lr=2e-2), loss)
    start = twin.log_likelihood(**columns).mean().item()
    for _ in range(150):
        svi.step(**columns)
    reached, best = (p.log_likelihood(**columns).mean().item() for p in (twin, pair))
    assert start < best - 1e-3
    assert reached == pytest.approx(best, abs=3e-3)


@pytest.mark.parametrize("name", FITTED)
def test_a_fit_is_resumed_to_the_bit(name, tmp_path):
    recipe = RECIPES[name]
    data = Data.named(recipe.data, rows=100)
    whole = recipe.fit(data, steps=4, **QUIET)
    recipe.fit(data, steps=2, folder=tmp_path / "run", **QUIET)
    again = recipe.fit(data, steps=4, folder=tmp_path / "run", resume=True, **QUIET)
    for key, value in whole.pair.state_dict().items():
        assert torch.equal(value, again.pair.state_dict()[key]), key
        assert torch.equal(value, load(tmp_path / "run").pair.state_dict()[key]), key


@pytest.mark.parametrize("name", FITTED)
def test_the_commands_take_it(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--steps", "2", "--rows", "100", "--out", "run", "--no-progress"]
    assert main(["fit", name, *words]) in (0, None)
    assert main(["evaluate", "run", "--metrics", "nll", "--limit", "50"]) in (0, None)
    assert main(["sample", "run", "--n", "4", "--out", "samples.npz"]) in (0, None)
    assert "nll" in capsys.readouterr().out


def test_they_are_compared_with_others():
    data = Data.named("digits", rows=100)
    table = compare(data, recipes=["bernoulli-mixture", "vae"], steps=2, metrics=["nll"], jobs=1)
    assert [row.cells["nll"].text for row in table.rows]


def test_traced_steps_have_the_eager_gradients():
    for name in ("ppca", "gaussian-naive-bayes", "hmm"):
        recipe = RECIPES[name]
        data = Data.named(recipe.data, rows=100)
        options = {"objective": "elbo", "steps": 4, "batch_size": 50, "lr": 1e-2, **QUIET}
        one, other = (recipe.fit(data, **options, compile=mode) for mode in ("trace", "off"))
        for key, value in one.pair.state_dict().items():
            torch.testing.assert_close(value, other.pair.state_dict()[key], msg=key)


# --- the objective ------------------------------------------------------------------------------


def test_em_says_what_it_needs():
    data = Data.from_arrays(correlated(50).float())
    with pytest.raises(ValueError, match=r"all 40 training rows in one batch, got batch_size=10"):
        fit(ProbabilisticPCA(), EM(), data, steps=1, batch_size=10)
    with pytest.raises(ValueError, match="VAE has none: train it by a bound"):
        fit(VAE(latent=2), EM(), data, steps=1, **QUIET)
    weighted = Data.from_arrays(correlated(50).float(), weight=torch.rand(50))
    with pytest.raises(ValueError, match="the rows have weights"):
        fit(ProbabilisticPCA(), EM(), weighted, steps=1, **QUIET)
    for mixed in (lambda: EM() + ELBO(), lambda: ELBO() + EM(), lambda: 2 * EM()):
        with pytest.raises(ValueError, match="moves the parameters by itself"):
            mixed()


def test_judging_moves_nothing():
    pair, columns = made("ppca")
    before = pair.weight.clone()
    pair.eval()
    close(EM()(pair.model, pair.guide, **columns), -pair.log_likelihood(**columns).mean().detach())
    assert torch.equal(pair.weight, before)
    pair.train()
    EM()(pair.model, pair.guide, **columns)
    assert not torch.equal(pair.weight, before)


# --- linear-Gaussian ----------------------------------------------------------------------------


def test_ppca_is_the_closed_form(double):
    x = correlated(400, 6)
    pair = ProbabilisticPCA(2)
    pair.build(x)
    pair.maximise(x)
    values = torch.linalg.eigvalsh(x.T.cov(correction=0)).flip(0)
    noise = values[2:].mean()
    close((2 * pair.log_scale).exp()[0].detach(), noise)
    logs = values[:2].log().sum() + 4 * noise.log() + 6 * math.log(2 * math.pi) + 6
    close(pair.log_likelihood(x).mean().detach(), -logs / 2)
    covariance = pair.weight @ pair.weight.mT + noise * torch.eye(6)
    close(pair.marginal().covariance_matrix.detach(), covariance.detach())
    gain = torch.linalg.inv(pair.weight.mT @ pair.weight + noise * torch.eye(2))
    close(pair.posterior(x).mean.detach(), ((x - pair.mean) @ pair.weight @ gain.mT).detach())
    close(pair.posterior(x).covariance_matrix[0].detach(), (noise * gain).detach())


def test_ppca_scores_as_in_scikit_learn(double):
    x = correlated(400, 6)
    theirs = torch.as_tensor(PCA(2).fit(x.numpy()).score_samples(x.numpy()))
    pair = ProbabilisticPCA(2)
    pair.build(x)
    pair.maximise(x)
    with torch.no_grad():  # their variances divide by n - 1
        pair.weight *= math.sqrt(400 / 399)
        pair.log_scale += math.log(400 / 399) / 2
    close(pair.log_likelihood(x).detach(), theirs)


def test_more_latents_than_columns_are_the_full_normal(double):
    x = correlated(100, 3)
    pair = ProbabilisticPCA(7)
    pair.build(x)
    pair.maximise(x)
    close(pair.marginal().covariance_matrix.detach(), x.T.cov(correction=0))


def test_factor_analysis_is_that_of_scikit_learn(double):
    x = correlated(400, 6)
    theirs = SklearnFactorAnalysis(2, tol=1e-9, max_iter=5000, svd_method="lapack").fit(x.numpy())
    pair = FactorAnalysis(2)
    pair.build(x)
    for _ in range(600):  # the last steps are slow
        pair.maximise(x)
    assert pair.log_likelihood(x).mean().item() == pytest.approx(theirs.score(x.numpy()), abs=1e-4)
    close((2 * pair.log_scale).exp().detach(), theirs.noise_variance_, 2e-2)


def test_factor_analysis_of_isotropic_noise_is_ppca(double):
    truth = ProbabilisticPCA(2)
    x = correlated(200, 5)
    truth.build(x)
    truth.maximise(x)
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / len(x))).mT
    wanted = truth.marginal().covariance_matrix.detach()
    x = white @ torch.linalg.cholesky(wanted).mT  # whose sample covariance is the model's
    factors, principal = FactorAnalysis(2), ProbabilisticPCA(2)
    for pair in (factors, principal):
        pair.build(x)
    principal.maximise(x)
    close(principal.marginal().covariance_matrix.detach(), wanted)
    start = {**principal.state_dict(), "log_scale": principal.log_scale.detach().repeat(5)}
    factors.load_state_dict({**start, "lowest": factors.lowest})
    for _ in range(3):
        factors.maximise(x)  # which stays where it is
    close(factors.weight.detach(), principal.weight.detach())
    close(factors.log_scale.detach(), start["log_scale"])
    close(factors.log_likelihood(x).detach(), principal.log_likelihood(x).detach())


def test_a_constant_pixel_has_a_floor(double):
    x = torch.cat([correlated(100, 3), torch.ones(100, 1)], 1)
    for pair in (FactorAnalysis(2), ProbabilisticPCA(3), GMM(2), GMM(2, covariance="diagonal")):
        pair.build(x)
        for _ in range(50):
            pair.maximise(x)
        assert pair.log_likelihood(x).isfinite().all()
    constant = torch.full((50, 2), 3.0)
    for pair in (FactorAnalysis(1), ProbabilisticPCA(1), GMM(3)):
        pair.build(constant)
        pair.maximise(constant)
        assert pair.log_likelihood(constant).isfinite().all()


# --- mixtures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_one_component_has_the_samples_moments(double, covariance):
    x, _ = blobs()
    pair = GMM(1, covariance=covariance)
    pair.build(x)
    pair.maximise(x)
    moments = x.T.cov(correction=0)
    moments = moments if covariance == "full" else moments.diag().diag()
    close(pair.log_likelihood(x).detach(), dist.MultivariateNormal(x.mean(0), moments).log_prob(x))


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_a_mixture_is_that_of_scikit_learn(double, covariance):
    x, _ = blobs(600)
    pair = GMM(3, covariance=covariance)
    torch.manual_seed(0)
    pair.build(x)
    their_kind = {"full": "full", "diagonal": "diag"}[covariance]
    theirs = SklearnMixture(
        3,
        covariance_type=their_kind,
        tol=1e-10,
        max_iter=3000,
        reg_covar=0.0,
        means_init=pair.mean.detach().numpy(),
        random_state=0,
    ).fit(x.numpy())
    for _ in range(300):
        pair.maximise(x)
    close(pair.log_likelihood(x).detach(), theirs.score_samples(x.numpy()), 1e-4)
    mine, other = pair.mean[:, 0].sort()[0].detach(), np.sort(theirs.means_[:, 0])
    close(mine, other, 1e-3)


def test_a_component_on_one_datum_keeps_its_floor(double):
    x = torch.cat([torch.randn(100, 2), torch.full((1, 2), 50.0)])
    torch.manual_seed(1)
    pair = GMM(4)
    pair.build(x)
    for _ in range(100):
        pair.maximise(x)
    assert pair.log_likelihood(x).isfinite().all()
    scaled = pair.factors() / pair.unit[:, None]
    lowest = torch.linalg.eigvalsh((scaled @ scaled.mT).detach()).min()
    assert lowest >= 1e-6 * (1 - 1e-6)


def test_a_full_covariance_of_images_is_sampled(double):
    x = torch.randn(4000, 1, 2, 2) @ torch.tensor([[1.0, 0.9], [0.0, 0.3]]) + 2
    pair = GMM(1)
    pair.build(x)
    pair.maximise(x)
    drawn = Phases(pair.model, pair.guide, columns={"x": x}).generated.sample["x"][0]
    assert drawn.shape == x.shape
    moments = [v.flatten(1).T.cov() for v in (x, drawn)]
    close(moments[0], moments[1], 0.15)


def test_bits_of_one_component_have_their_frequencies(double):
    x, _ = bits()
    pair = BernoulliMixture(1)
    pair.build(x)
    pair.maximise(x)
    close(pair.log_odds.sigmoid().detach()[0], x.mean(0))
    with pytest.raises(ValueError, match="expected values 0 and 1"):
        BernoulliMixture(2).build(x * 0.5)


# --- naive Bayes --------------------------------------------------------------------------------


def test_counts_are_smoothed_as_in_scikit_learn(double):
    x, y = bits()
    pair = NaiveBayes()
    pair.build(x, y)
    pair.maximise(x, y)
    ones = torch.stack([x[y == k].sum(0) for k in range(3)])
    rows = torch.stack([(y == k).sum() for k in range(3)])[:, None]
    close(pair.log_odds.sigmoid().detach(), (ones + 1) / (rows + 2))
    theirs = BernoulliNB(alpha=1.0).fit(x.numpy(), y.numpy())
    close(pair.classify(x).probs.detach(), theirs.predict_proba(x.numpy()))
    alone = pair.log_likelihood(x)
    close(alone.detach(), pair.log_joint(x).logsumexp(-1).detach())


def test_class_moments_are_the_samples(double):
    x, y = blobs()
    pair = GaussianNaiveBayes()
    pair.build(x, y)
    pair.maximise(x, y)
    for k in range(3):
        close(pair.mean[k].detach(), x[y == k].mean(0))
        close(pair.log_scale[k].exp().detach(), x[y == k].std(0, correction=0))
    theirs = GaussianNB(var_smoothing=0.0).fit(x.numpy(), y.numpy())
    close(pair.classify(x).probs.detach(), theirs.predict_proba(x.numpy()), 1e-8)


@pytest.mark.parametrize("family", [NaiveBayes, GaussianNaiveBayes])
def test_without_labels_the_guide_draws_them(double, family):
    x, y = bits()
    pair = family()
    pair.build(x, y)
    pair.maximise(x, y)
    bound = ELBO(gradient="enumerate")(pair.model, pair.guide, x)
    close(bound.detach(), -pair.log_likelihood(x).mean().detach())
    joint = pair.log_likelihood(x, y) - pair.log_likelihood(x)
    close(joint.detach(), pair.classify(x).log_prob(y).detach())
    unknown = torch.full_like(y, -1)
    assert pair.log_likelihood(x, unknown).isnan().all()


def test_naive_bayes_draws_each_class():
    run = RECIPES["naive-bayes"].fit(steps=1, **QUIET)
    x = run.sample(20, given={"y": 3})["x"]
    found = run.pair.classify(x).probs.argmax(-1)
    assert (found == 3).float().mean() > 0.6
    test = run.data.test
    seen = run.pair.classify(test.x).probs.argmax(-1)
    assert (seen == test.columns["y"]).float().mean() > 0.75


# --- hidden Markov models -----------------------------------------------------------------------


def chain(kind, steps=6):
    """A pair of three states with random parameters, and sequences of every length."""
    torch.manual_seed(2)
    if kind == "symbols":
        x, length = chains(12, steps)
    else:
        x, length = torch.randn(12, steps, 2), torch.arange(12) % steps + 1
    pair = HMM(3, symbols=4 if kind == "symbols" else 0)
    pair.build(x)
    with torch.no_grad():
        for p in pair.parameters():
            p.add_(torch.randn_like(p))
    return pair, x, length


def enumerated(pair, x, n):
    """log p(x, states) of one sequence of n steps for all K^n paths, and the paths."""
    sequences = pair.sequences()
    paths = torch.tensor([*itertools.product(range(3), repeat=n)])
    steps = sequences.steps(x[None])[0, :n]
    shown = sequences.emission.log_prob(steps)
    log_p = sequences.initial[paths[:, 0]]
    for t in range(1, n):
        log_p = log_p + sequences.transition[paths[:, t - 1], paths[:, t]]
    return log_p + sum(shown[t, paths[:, t]] for t in range(n)), paths


@pytest.mark.parametrize("kind", ["symbols", "normal"])
def test_all_paths_have_the_forward_likelihood_smoothing_and_best_path(double, kind):
    pair, x, length = chain(kind)
    found = pair.log_likelihood(x, length), pair.smooth(x, length), pair.decode(x, length)
    for i in range(len(x)):
        n = int(length[i])
        log_p, paths = enumerated(pair, x[i], n)
        close(found[0][i].detach(), log_p.logsumexp(0).detach())
        shares = log_p.softmax(0)
        for t in range(n):
            by_state = torch.stack([shares[paths[:, t] == k].sum() for k in range(3)])
            close(found[1][i, t].detach(), by_state.detach())
        assert found[1][i, n:].eq(0).all()
        assert found[2][i, :n].tolist() == paths[log_p.argmax()].tolist()


@pytest.mark.parametrize("kind", ["symbols", "normal"])
def test_padding_never_counts(double, kind):
    pair, x, length = chain(kind)
    counted = torch.arange(6) < length[:, None]
    counted = counted if kind == "symbols" else counted[..., None]
    other = torch.where(counted, x, 99.0)
    assert pair.sequences(length).support.check(other).all()
    assert torch.equal(pair.log_likelihood(x, length), pair.log_likelihood(other, length))
    gradients = []
    for padded in (x, other):
        pair.zero_grad()
        pair.log_likelihood(padded, length).sum().backward()
        gradients.append([p.grad.clone() for p in pair.parameters()])
    assert all(map(torch.equal, *gradients))
    states = []
    for padded in (x, other):
        twin, *_ = chain(kind)
        twin.maximise(padded, length)
        states.append([*twin.state_dict().values()])
    assert all(map(torch.equal, *states))
    alone = torch.stack(
        [pair.log_likelihood(x[i : i + 1], length[i : i + 1])[0] for i in range(12)]
    )
    close(alone.detach(), pair.log_likelihood(x, length).detach())


@pytest.mark.parametrize("kind", ["symbols", "normal"])
def test_forward_and_backward_agree_at_every_step(double, kind):
    pair, x, length = chain(kind)
    sequences = pair.sequences(length)
    truth = sequences.log_prob(x)
    for a, b in zip(sequences.forward(x), sequences.backward(x), strict=True):
        close((a + b).logsumexp(-1).detach(), truth.detach())


def test_one_step_is_a_mixture(double):
    pair, x, _ = chain("normal", 1)
    weights = pair.initial.softmax(-1)
    normals = dist.Normal(pair.mean, pair.log_scale.exp()).to_event(1)
    every = normals.log_prob(x[:, 0, None]) + weights.log()
    close(pair.log_likelihood(x).detach(), every.logsumexp(-1).detach())


def test_a_chain_of_normals_is_a_mixture_of_joint_normals(double):
    pair, x, _ = chain("normal", 5)
    total = []
    for path in itertools.product(range(3), repeat=5):
        path = torch.tensor(path)
        moves = pair.transition.log_softmax(-1)[path[:-1], path[1:]].sum()
        weight = pair.initial.log_softmax(-1)[path[0]] + moves
        joint = dist.MultivariateNormal(
            pair.mean[path].flatten(), (2 * pair.log_scale[path].flatten()).exp().diag()
        )
        total.append(weight + joint.log_prob(x.flatten(1)))
    close(pair.log_likelihood(x).detach(), torch.stack(total).logsumexp(0).detach())


def test_the_states_have_no_order(double):
    pair, x, length = chain("symbols")
    before, order = pair.log_likelihood(x, length), torch.tensor([2, 0, 1])
    with torch.no_grad():
        for p in (pair.initial, pair.logits, pair.transition):
            p.copy_(p[order])
        pair.transition.copy_(pair.transition[:, order])
    close(pair.log_likelihood(x, length).detach(), before.detach())


def test_draws_have_the_chains_frequencies(double):
    pair, _, _ = chain("symbols", 3)
    torch.manual_seed(0)
    drawn = pair.sequences().sample((20000,))
    every = torch.tensor([*itertools.product(range(4), repeat=3)]).double()
    probs = pair.log_likelihood(every).exp().detach()
    close(probs.sum(), 1.0)
    shares = (drawn[:, None] == every).all(-1).double().mean(0)
    assert (shares - probs).abs().max() < 5 * (probs / 20000).sqrt().max()
    short = pair.sequences(torch.tensor([1, 2, 3])).sample()
    assert short[0, 1:].eq(0).all()
    assert short[1, 2:].eq(0).all()


def test_the_casino_is_found():
    run = RECIPES["hmm"].fit(progress=False, valid_every=0)
    sixes = run.pair.logits.detach().softmax(-1)[:, 0, 5].sort().values
    assert sixes[0] == pytest.approx(1 / 6, abs=0.03)
    assert sixes[1] == pytest.approx(0.5, abs=0.05)


def test_wrong_sequences_are_refused():
    with pytest.raises(ValueError, match=r"integers from 0 to 2, got values in \[0, 5\]"):
        HMM(symbols=3).build(torch.tensor([[0.0, 5.0]]))
    with pytest.raises(ValueError, match="between 0 and 1 / states"):
        HMM(states=3, floor=0.4)
    data = Data.from_arrays(x=torch.arange(60).reshape(20, 3) % 4, length=torch.full((20,), 3))
    pair = HMM(symbols=9)
    fit(pair, EM(), data, steps=2, **QUIET)
    assert pair.symbols == 9


# --- the judge ----------------------------------------------------------------------------------


def test_the_judge_finds_the_exact_likelihood(double):
    pair, columns = made("ppca")
    pair.maximise(**columns)
    x = columns["x"][:20]
    with torch.no_grad():
        truth = pair.log_likelihood(x)
        pair.log_scale += 0.3  # a model of its own, not the data's
        truth = pair.log_likelihood(x)
    metrics = ["nll", "elbo", "ais", "bdmc"]
    report = evaluate(pair, x, metrics=metrics, few=20, steps=60, particles=30, pictures=False)
    for name in ("nll", "ais"):
        assert report[name].value == pytest.approx(-float(truth.mean()), abs=0.1), name
    assert report["elbo"].value == pytest.approx(float(truth.mean()), abs=1e-6)
    assert abs(report["bdmc"].value) < 0.1 + 3 * report["bdmc"].se


@pytest.mark.parametrize("name", ["gaussian-mixture", "bernoulli-mixture", "hmm"])
def test_the_bound_is_exact_where_annealing_is_not_to_be_had(double, name):
    pair, columns = made(name)
    pair.maximise(**columns)
    data = Data.from_arrays(**columns, valid=0.0, test=0.3)
    run = fit(pair, EM(), data, steps=1, batch_size=300, **QUIET)
    report = evaluate(run, metrics=["nll", "ais"], particles=5, pictures=False)
    with torch.no_grad():
        truth = pair.log_likelihood(**bind(pair.log_likelihood, data.test.columns))
    assert report["nll"].value == pytest.approx(-float(truth.mean()), abs=1e-5)
    assert not report["ais"].applicable or name == "hmm"


@pytest.mark.parametrize("wrong", [0, 7])
@pytest.mark.parametrize("objective", [EM, ELBO])
def test_a_length_that_counts_no_steps_is_refused(wrong, objective):
    x = torch.zeros(20, 6)
    length = torch.full((20,), 6)
    length[3] = wrong
    data = Data.from_arrays(x=x.numpy(), length=length.numpy(), valid=0)
    with pytest.raises(ValueError, match=f"from 1 to 6, got {min(wrong, 6)} to {max(wrong, 6)}"):
        fit(HMM(2), objective(), data, steps=1, batch_size=20, progress=False)
