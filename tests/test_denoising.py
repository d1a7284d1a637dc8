"""Denoising chains against matrices and closed forms: where they lead, and what they learn."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import linear

from priory.data import Data
from priory.evaluation import evaluate
from priory.evaluation.report.ways import over_time, save_moving
from priory.inference import ELBO, IWAE, Denoise, Match, Phases, Reconstruction
from priory.inference.phases.phases import generate
from priory.inference.run import Run
from priory.likelihoods import Normal
from priory.models import DAE, GSN, PAIRS, VAE
from priory.models.denoising import Step
from priory.nets import MLP, TimeMLP
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed

pytestmark = pytest.mark.usefixtures("double")

CHAINS = 20_000


def bits(n):
    """All states of n bits, (2^n, n)."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)))


def masses(distributions, n):
    """Probabilities of all states, (rows, 2^n), under the distributions of some rows."""
    return torch.stack([distributions.log_prob(state) for state in bits(n)], 1).exp()


def corruption(pair, n):
    """C as a matrix."""
    return masses(pair.corrupt(bits(n)), n)


def cleaning(pair, n):
    """p(x | z) as a matrix, of a DAE."""
    return masses(pair.decoder(bits(n)), n)


def stationary(kernel):
    """The distribution that a kernel leaves as it is."""
    n = len(kernel)
    rows = torch.cat([kernel.T - torch.eye(n), torch.ones(1, n)])
    return torch.linalg.lstsq(rows, torch.eye(n + 1)[n][:, None], driver="gelsd").solution[:, 0]


def bayes(p, noise):
    """P(x | x~), of a distribution p and a corruption."""
    joint = p[:, None] * noise
    return (joint / joint.sum(0)).T


def built(n=3, scale=2.0, **options):
    """A DAE of n bits whose net says anything."""
    pair = DAE(MLP((8,)), **options)
    pair.build((torch.rand(50, n) < 0.3).double())
    with torch.no_grad():
        for p in pair.parameters():
            p.copy_(scale * torch.randn_like(p))
    return pair


def frequencies(x):
    """How often each state of bits (rows, n) comes."""
    n = x.shape[1]
    index = (x.long() * 2 ** torch.arange(n - 1, -1, -1)).sum(1)
    return torch.bincount(index, minlength=2**n).double()


def check_counts(counts, p):
    """Assert that counts are those of a distribution, within four standard errors each."""
    mean = counts.sum() * p
    assert ((counts - mean).abs() < 4 * (mean * (1 - p)).sqrt() + 1).all()


# --- what the chain's distribution is -------------------------------------------------------------


def test_the_exact_denoiser_leaves_the_data_as_they_are():
    n = 4
    p = torch.rand(2**n).softmax(0) + (torch.arange(2**n) == 5) * 2.0
    p = p / p.sum()
    noise = corruption(built(n, level=0.4), n)
    torch.testing.assert_close(noise.sum(1), torch.ones(2**n))
    flipped = noise[0, 1]  # one pixel: p/2 of the draws, the others stay
    torch.testing.assert_close(flipped, torch.tensor(0.2 * 0.8**3), rtol=1e-12, atol=0)
    torch.testing.assert_close(stationary(noise @ bayes(p, noise)), p, rtol=0, atol=1e-12)
    wrong = noise @ bayes(p.roll(1), noise)
    assert (stationary(wrong) - p).abs().max() > 0.1


@pytest.mark.parametrize("walkback", [2, 5])
def test_the_optimum_of_walkback_leaves_the_data_as_they_are(walkback):
    # It is the one P that is exact for the corruption that walks by P itself.
    n = 3
    p = torch.rand(2**n).softmax(0) + (torch.arange(2**n) == 5) * 0.5
    p = p / p.sum()
    noise = corruption(built(n, level=0.5), n)
    back = bayes(p, noise)
    for _ in range(200):
        walks = [noise]
        while len(walks) < walkback:
            walks.append(walks[-1] @ back @ noise)
        mixture = torch.stack(walks).mean(0)
        before, back = back, bayes(p, mixture)
    torch.testing.assert_close(back, before, rtol=0, atol=1e-14)
    assert (back - bayes(p, noise)).abs().max() > 0.01  # another than without
    for kernel in (noise @ back, mixture @ back):
        torch.testing.assert_close(stationary(kernel), p, rtol=0, atol=1e-12)


def test_a_pair_that_is_exact_has_the_datas_distribution():
    # Of independent bits P(x | x~) is a linear denoiser's: log-odds and evidence add up.
    odds, level = torch.tensor([-1.0, 0.3, 2.0]), 0.3
    pair = DAE("linear", level=level)
    pair.build((torch.rand(50, 3) < 0.5).double())
    evidence = torch.tensor((1 - level / 2) / (level / 2)).log()
    with torch.no_grad():
        weight, bias = pair.parameters()
        weight.copy_(2 * evidence * torch.eye(3))
        bias.copy_(odds - evidence)
    p = (bits(3) * odds.sigmoid() + (1 - bits(3)) * (-odds).sigmoid()).prod(1)
    kernel = corruption(pair, 3) @ cleaning(pair, 3)
    torch.testing.assert_close(stationary(kernel), p, rtol=0, atol=1e-12)


def test_the_way_and_the_samples_follow_the_pairs_own_matrix():
    pair = built(burn_in=2)
    kernel = corruption(pair, 3) @ cleaning(pair, 3)
    at_first = (bits(3) * pair.mean + (1 - bits(3)) * (1 - pair.mean)).prod(1)
    states = [*pair.way(CHAINS, steps=3)]
    for t, x in enumerate(states):
        check_counts(frequencies(x), at_first @ torch.linalg.matrix_power(kernel, t))
    moves = frequencies(torch.cat([states[1], states[2]], 1))
    expected = (at_first @ kernel)[:, None] * kernel
    check_counts(moves, expected.flatten())
    drawn = generate(pair.model, {"x": torch.zeros(2, 3)}, CHAINS)
    check_counts(frequencies(drawn["x"]), at_first @ kernel @ kernel)
    start = bits(3)[5].expand(CHAINS, 3)
    *_, last = pair.way(CHAINS, steps=1, start=start)
    check_counts(frequencies(last), kernel[5])


class ByMeans(DAE):
    """A planted defect: the mean in the place of a draw."""

    def chain(self, x):
        while True:
            z, _ = self.advance(x, ())
            cleaner = self.decoder(z)
            yield Step(x, z, cleaner)
            x = cleaner.mean


@pytest.mark.parametrize(("kind", "exact"), [(DAE, True), (ByMeans, False)])
def test_a_normal_chain_keeps_the_datas_variance_and_collapses_by_means(kind, exact):
    variance, level = 4.0, 0.5
    pair = kind("linear", Normal(), corruption="gaussian", level=level)
    x = torch.randn(1000, 1)
    pair.build(1.0 + variance**0.5 * (x - x.mean()) / x.std(correction=0))
    slope = 1 / (1 + level**2)  # in units of the data's deviation
    with torch.no_grad():
        weight, bias, log_scale = (dict(pair.named_parameters())[n] for n in _LINEAR)
        weight.fill_(slope)
        bias.zero_()
        log_scale.fill_(0.5 * torch.tensor(slope * level**2).log())
    *_, last = pair.way(CHAINS, steps=20)
    collapsed = variance * slope**2 * level**2 / (1 - slope**2)
    expected = variance if exact else collapsed
    assert collapsed < 0.6 * variance
    assert abs(float(last.var()) - expected) < 4 * expected * (2 / CHAINS) ** 0.5
    assert abs(float(last.mean()) - 1.0) < 4 * (expected / CHAINS) ** 0.5


_LINEAR = ("decoder.net.last.weight", "decoder.net.last.bias", "decoder.likelihood.log_scale")


# --- what is learned ------------------------------------------------------------------------------


def test_the_optimum_on_normal_data_is_affine_and_says_the_slope():
    mean, root = torch.tensor([1.0, -2.0]), torch.tensor([[1.0, 0.0], [0.8, 0.5]])
    white = torch.randn(50_000, 2)
    white = (white - white.mean(0)) @ torch.linalg.inv(
        torch.linalg.cholesky(white.T.cov(correction=0))
    ).T
    x = mean + white @ root.T
    covariance = root @ root.T
    pair = DAE("linear", Normal(), corruption="gaussian", level=0.5)
    pair.build(x)
    noise = torch.diag(covariance.diagonal() * 0.25)
    fitted = torch.optim.LBFGS(pair.parameters(), max_iter=15, tolerance_change=1e-9)

    def closure():
        torch.manual_seed(1)
        fitted.zero_grad()
        loss = Denoise()(pair.model, pair.guide, x)
        loss.backward()
        return loss

    fitted.step(closure)
    z = mean + torch.randn(20, 2) @ root.T
    smoothed = covariance + noise
    cleaned = mean + (z - mean) @ torch.linalg.solve(smoothed, covariance)
    slope = -(z - mean) @ torch.linalg.inv(smoothed)
    found = pair.decoder(z)
    torch.testing.assert_close(found.mean, cleaned, rtol=0, atol=2e-2)
    said = (found.mean - z) @ noise.inverse()
    assert (said - slope).abs().max() < 2e-2 * slope.abs().max()
    left = covariance - covariance @ torch.linalg.solve(smoothed, covariance)
    torch.testing.assert_close(found.variance[0], left.diagonal(), rtol=2e-2, atol=0)


def test_walkback_is_the_cost_of_each_draw_on_the_way_back_to_the_datum():
    pair, x = built(), bits(3)

    def gradient(loss):
        return torch.autograd.grad(loss, [*pair.parameters()])

    torch.manual_seed(3)
    found = Denoise(3)(pair.model, pair.guide, x)
    torch.manual_seed(3)
    with torch.no_grad():
        steps = [*itertools.islice(pair.chain(x), 3)]
    expected = -sum(pair.decoder(step.z).log_prob(x) for step in steps).mean()
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(gradient(found), gradient(expected), strict=True):
        torch.testing.assert_close(mine, theirs)  # draws on the way are constants
    assert not torch.equal(steps[1].x, x)


@pytest.mark.parametrize("pair", [DAE(MLP((8,))), GSN((8, 4))], ids=["dae", "gsn"])
def test_one_step_is_the_reconstruction_from_the_guides_latent(pair):
    x = bits(3)
    pair.build(x)
    both = []
    for objective in (Denoise(), Reconstruction()):
        torch.manual_seed(0)
        loss = objective(pair.model, pair.guide, x)
        both.append((loss, *torch.autograd.grad(loss, [*pair.parameters()], allow_unused=True)))
    for mine, theirs in zip(*both, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert Phases(pair.model, pair.guide, (x,), particles=3).awake.sample["z"].shape[:2] == (3, 8)


def test_rows_count_by_their_weights():
    pair, x = built(), bits(3)
    weight = torch.tensor([2.0, 0, 0, 0, 0, 0, 0, 0])
    torch.manual_seed(0)
    found = Denoise(2)(pair.model, pair.guide, x, weight=weight)
    torch.manual_seed(0)
    first = -sum(p.log_prob(x)[0] for p in pair.walk(x, 2))
    torch.testing.assert_close(found, 2 * first / 8)


# --- the generative stochastic network ------------------------------------------------------------


def test_a_network_of_one_layer_is_an_autoencoder_with_tied_weights():
    x = bits(3)
    gsn, dae = GSN((5,)), DAE(MLP((5,), "tanh"))
    for pair in (gsn, dae):
        pair.build(x)
    with torch.no_grad():
        hidden, last = dae.decoder.net.layers[0], dae.decoder.net.last
        hidden.weight.copy_(gsn.up[0].weight)
        hidden.bias.copy_(gsn.up[0].bias.normal_())
        last.weight.copy_(gsn.up[0].weight.T)
        last.bias.copy_(gsn.decoder.net.bias)
    found = []
    for pair in (gsn, dae):
        torch.manual_seed(0)
        found.append(torch.stack([p.log_prob(x) for p in pair.walk(x, 4)]))
    torch.testing.assert_close(*found)


def test_layers_are_drawn_odd_ones_first_and_remember():
    tiny = 1e-200  # corruption and draws that are none
    pair = GSN((4, 3, 2), noise=0.0, likelihood=Normal(tiny), corruption="gaussian", level=tiny)
    x = torch.randn(6, 5)
    pair.build(x)
    with torch.no_grad():
        for layer in pair.up:
            layer.bias.normal_()
    (w1, b1), (w2, b2), (w3, b3) = ((layer.weight, layer.bias) for layer in pair.up)
    h2, h3 = torch.zeros(6, 3), torch.zeros(6, 2)
    state = x
    for cleaner in pair.walk(x, 3):
        scaled = pair.head.scaled(state)
        h1 = torch.tanh(linear(scaled, w1, b1) + h2 @ w2)
        h3 = torch.tanh(linear(h2, w3, b3))
        h2 = torch.tanh(linear(h1, w2, b2) + h3 @ w3)
        state = cleaner.mean
        clean = pair.head((h1 @ w1 + pair.decoder.net.bias).unsqueeze(-2)).mean
        torch.testing.assert_close(cleaner.mean, clean)


def test_noise_is_before_and_after_the_bend_of_all_layers_but_the_first():
    pair = GSN((2, 1), noise=0.5)
    pair.build(bits(2))
    corrupted = torch.zeros(CHAINS, 2)
    with torch.no_grad():
        first, (h1, h2) = pair._raise(corrupted, ())
        assert torch.equal(first, h1)
        assert torch.equal(h1, h1[:1].expand_as(h1))
        pre = pair.up[1](h1[:1])
        nodes = pre + 0.5 * torch.linspace(-6, 6, 4001)
        weights = torch.softmax(-0.5 * torch.linspace(-6, 6, 4001) ** 2, 0)
        mean = (weights * nodes.tanh()).sum()
        variance = (weights * (nodes.tanh() - mean) ** 2).sum() + 0.25
    assert abs(h2.mean() - mean) < 4 * (variance / CHAINS) ** 0.5
    assert abs(h2.var() / variance - 1) < 0.05


def test_the_gradient_of_a_network_is_that_of_its_steps():
    pair, x = GSN((4, 3)), bits(3)
    pair.build(x)
    torch.manual_seed(0)
    names = dict(pair.named_parameters())
    assert len(names) == 5  # two layers and the datum's bias: weights are tied
    loss = Denoise(3)(pair.model, pair.guide, x)
    assert all((g != 0).any() for g in torch.autograd.grad(loss, [*names.values()]))


# --- what there is no number for ------------------------------------------------------------------


@pytest.fixture(scope="module")
def report():
    torch.manual_seed(0)
    pair = built(8, burn_in=3)
    x = (torch.rand(60, 8) < 0.5).double()
    return evaluate(pair, {"x": x}, metrics=["likelihood", "latents", "samples"], pictures=False)


def test_bounds_are_not_applicable_and_samples_are(report):
    for name in ("nll", "elbo", "ess", "bits_per_dim", "kl", "active_units"):
        assert not report[name].applicable
        assert "no density" in report[name].note
    for name in ("mmd", "energy", "reconstruction"):
        assert report[name].applicable, report[name].note


def test_what_needs_a_density_refuses_in_words():
    pair, x = built(), bits(3)
    for objective in (ELBO(), IWAE(3)):
        with pytest.raises(ValueError, match=r"no density|no log p"):
            objective(pair.model, pair.guide, x)
    with pytest.raises(ValueError, match="no reparameterised samples"):
        Match("mmd", "x")(pair.model, pair.guide, x)


def test_wrong_options_are_refused_in_words():
    x = torch.rand(20, 3)
    vae = VAE(latent=1)
    for match, wrong in {
        "level must be positive": lambda: DAE(level=0.0),
        "at most 1": lambda: DAE(level=1.5).build(x),
        "scale them to": lambda: DAE(corruption="salt-and-pepper").build(3 * x),
        "unknown corruption": lambda: DAE(corruption="pepper"),
        "burn_in must be": lambda: DAE(burn_in=0),
        "walkback must be": lambda: Denoise(0),
        "width of one layer": lambda: GSN(()),
        "noise must not": lambda: GSN(noise=-1.0),
        "unknown activation": lambda: GSN(activation="bent"),
        "single map": lambda: GSN(likelihood=Normal("pixel")).build(x),
        "point mass": lambda: Denoise()(*_programs(DAE(likelihood="delta")), x),
        "VAE is none": lambda: Denoise()(*_programs(vae), x),
        "may be missing": lambda: Denoise()(*_programs(DAE()), x, seen=torch.ones(20, 3)),
    }.items():
        with pytest.raises(ValueError, match=match):
            wrong()


def _programs(pair):
    return pair.model, pair.guide


def test_salt_and_pepper_between_0_and_1_keeps_and_replaces():
    pair = DAE(MLP((4,)), level=0.4)
    pair.build(torch.rand(50, 2))
    x = torch.tensor([[0.25, 0.75]]).expand(CHAINS, 2)
    noisy = pair.corrupt(x).sample()
    for value, share in ((0.0, 0.2), (1.0, 0.2)):
        assert abs((noisy == value).double().mean() - share) < 4 * (0.16 / 2 / CHAINS) ** 0.5
    assert ((noisy == x) | (noisy == 0) | (noisy == 1)).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        pair.corrupt(x).log_prob(noisy)


@pytest.mark.parametrize("name", ["dae-walkback", "gsn"])
def test_trained_by_any_way_it_ends_alike(name, tmp_path):
    torch.set_default_dtype(torch.float32)
    small = {"net": "mlp:4"} if name != "gsn" else {"layers": "4,3"}
    options = {**small, "burn_in": 3, "steps": 6, "batch_size": 500, "valid_every": 0}
    data = Data.named("digits", binarise="threshold")
    run = check_traced_and_resumed(
        RECIPES[name], {**options, "progress": False}, data, tmp_path / "run", atol=1e-4
    )
    assert isinstance(run.objective, Denoise)


# --- the way over time ----------------------------------------------------------------------------


def test_the_way_of_a_run_is_in_the_datas_units_and_leaves_the_random_state():
    x = 5 + 2 * torch.randn(50, 2)
    data = Data.from_arrays(x, standardise=True, valid=0, test=0)
    pair = DAE("linear", Normal(), burn_in=4)
    pair.build(data.train.x)
    run, state = Run(pair, Denoise(), data), torch.get_rng_state()
    way = run.chain(200)
    assert way.shape == (5, 200, 2)
    assert torch.equal(state, torch.get_rng_state())
    assert (way[0].mean(0) - 5).abs().max() < 1
    assert torch.equal(way, run.chain(200))
    assert run.chain(3, steps=2).shape == (3, 3, 2)
    chain = Run(VAE(latent=1), ELBO(), data)
    for match, wrong in {
        "VAE is no chain": lambda: chain.chain(),
        "n must be": lambda: run.chain(0),
        "steps must be": lambda: run.chain(steps=0),
        "options of a diffusion": lambda: run.chain(sampler="ddim"),
    }.items():
        with pytest.raises(ValueError, match=match):
            wrong()


@pytest.mark.parametrize("pair", ["diffusion", "conditional-diffusion"])
def test_a_diffusions_way_ends_in_its_samples(pair):
    x, y = 3 + 2 * torch.randn(50, 2), torch.arange(50) % 2
    made = PAIRS[pair](net=TimeMLP(4, 1), timesteps=5, noise="cosine")
    columns = {"x": x} if pair == "diffusion" else {"x": x, "y": y}
    made.build(*columns.values())
    torch.manual_seed(1)
    states = torch.stack([*made.eval().way(50)])
    torch.manual_seed(1)
    drawn = generate(made.model, columns, 50)
    torch.testing.assert_close(states[-1], drawn["x"])
    torch.testing.assert_close(made.head.scaled(states[:-1]).flip(0).movedim(0, 1), drawn["z"])
    with pytest.raises(ValueError, match="steps of its own"):
        next(made.way(3, steps=2))


def test_a_moving_picture_has_the_states_in_their_order(tmp_path):
    from PIL import Image

    states = torch.zeros(3, 4, 1, 2, 2)
    states[1:, :, :, 0] = 1.0
    states[2] = 1.0 - states[1]
    save_moving(states, tmp_path / "way.gif")
    with Image.open(tmp_path / "way.gif") as image:
        assert image.n_frames == 3
        pages = []
        for i in range(3):
            image.seek(i)
            pages.append(torch.from_numpy(np.array(image.convert("L"))))
    first = pages[0].shape[0] // 10  # within the first image
    assert pages[0][first, first] == 0
    assert pages[1][first, first] == 255
    assert pages[2][first, first] == 0
    save_moving(torch.randn(2, 5, 2), tmp_path / "points.gif")
    with pytest.raises(ValueError, match="3 numbers"):
        save_moving(torch.randn(2, 5, 3), tmp_path / "rows.gif")
    assert len(over_time(torch.randn(40, 5, 2)).axes) == 12


# --- how chains mix -------------------------------------------------------------------------------

MIXING = ("chain_burn_in", "chain_rhat", "chain_ess")


def normal_chain(level):
    """An exact chain on N(0, 1): each state is the last one times 1 / (1 + level^2), and noise."""
    pair = DAE("linear", Normal(), corruption="gaussian", level=level, burn_in=10)
    x = torch.randn(300, 1)
    x = (x - x.mean()) / x.std(correction=0)
    pair.build(x)
    slope = 1 / (1 + level**2)
    with torch.no_grad():
        weight, bias, log_scale = (dict(pair.named_parameters())[n] for n in _LINEAR)
        weight.fill_(slope)
        bias.zero_()
        log_scale.fill_(0.5 * torch.tensor(slope * level**2).log())
    return pair, x, slope


def mixing(pair, x, steps):
    return evaluate(pair, {"x": x}, metrics=MIXING, steps=steps, pictures=False)


def test_an_exact_chain_mixes_as_its_slope_says():
    pair, x, slope = normal_chain(1.0)
    report = mixing(pair, x, 2000)
    assert report["chain_burn_in"].value == 0
    assert 1.0 <= report["chain_rhat"].value < 1.01
    assert report["chain_ess"].value == pytest.approx((1 - slope) / (1 + slope), rel=0.2)


def test_a_chain_that_starts_elsewhere_takes_as_long_as_its_slope_says():
    pair, x, slope = normal_chain(0.5)
    pair.mean += 4.0  # which falls by the slope at each step, until 0.3 is left
    found = mixing(pair, x, 200)["chain_burn_in"]
    steps = math.log(0.3 / 4) / math.log(slope)
    assert abs(found.value - steps) <= 3
    assert any("raise burn_in" in warning for warning in found.warnings)


def test_a_chain_that_stays_in_its_mode_is_seen():
    # Bits that are corrupted rarely and repeated: no mode is left.
    pair = DAE("linear", level=1e-3, burn_in=2)
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(30, 1)
    pair.build(x)
    with torch.no_grad():
        weight, bias = pair.parameters()
        weight.copy_(60 * torch.eye(2))
        bias.fill_(-30.0)
    report = mixing(pair, x, 40)
    assert not report["chain_ess"].applicable or report["chain_rhat"].value > 1.5


def test_chains_that_end_and_pairs_without_one_have_no_mixing():
    x = torch.randn(30, 2)
    for pair in (VAE(latent=1), PAIRS["diffusion"](TimeMLP(4, 1), timesteps=3, noise="cosine")):
        pair.build(x)
        for record in mixing(pair, x, 10):
            assert not record.applicable
            assert "no chain without an end" in record.note
