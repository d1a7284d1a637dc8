"""What a model says of its data: densities, outliers and weights against exact answers."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pairs import LinearGaussian
from priory.evaluation import Unavailable, evaluate
from priory.evaluation.insight import (
    auroc,
    balance,
    bound,
    class_shares,
    code_length,
    complexity_ratio,
    cover,
    effective_size,
    latent_density,
    likelihood_ratio,
    mutate,
    prior_density,
    rarest,
    resample,
)
from priory.evaluation.insight.density import mixture_log_density, rare_share


def normal(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(pair, n, seed=0):
    """Data of a pair's own law."""
    with torch.no_grad():
        x = normal(n, pair.latent, seed=seed) @ pair.w.T + pair.b
        return x + pair.log_s.exp() * normal(n, len(pair.b), seed=seed + 1000)


class Splits:
    def __init__(self, train, test):
        self.train, self.valid, self.test = train, test, test


class Trained:
    """A run: a pair and its data."""

    def __init__(self, pair, train):
        self.pair, self.data = pair, Splits(train, train)


# Outliers: the area under the curve


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("sizes", [(50, 70), (2, 300), (400, 3)])
def test_auroc_is_scikit_learns(ties, sizes):
    a, b = 0.7 + normal(sizes[0]), normal(sizes[1], seed=1)
    if ties:
        a, b = (2 * a).round(), (2 * b).round()
    truth = np.r_[np.ones(sizes[0]), np.zeros(sizes[1])]
    theirs = roc_auc_score(truth, torch.cat([a, b]).numpy())
    assert auroc(a, b).value == pytest.approx(theirs, abs=1e-12)
    assert auroc(b, a).value == pytest.approx(1 - theirs, abs=1e-12)
    assert auroc(b, a).se == pytest.approx(auroc(a, b).se, abs=1e-12)
    assert auroc(a.exp(), b.exp()) == auroc(a, b)  # ranks alone count


@pytest.mark.parametrize("d", [0.0, 0.5, 2.0])
def test_auroc_of_two_normals_is_phi_of_d_over_root_two(d):
    found = auroc(d + normal(20_000), normal(20_000, seed=1))
    truth = 0.5 * (1 + math.erf(d / 2))
    assert abs(found.value - truth) < 3 * found.se


def test_auroc_of_sets_apart_and_of_equal_scores():
    low, high = torch.arange(5.0), torch.arange(5.0) + 10
    assert auroc(high, low) == (1.0, 0.0)
    assert auroc(low, high).value == 0.0
    assert auroc(torch.ones(4), torch.ones(9)) == (0.5, 0.0)
    infinite = torch.tensor([-math.inf, 0.0])
    assert auroc(torch.ones(2), infinite).value == 1.0
    with pytest.raises(ValueError, match="at least 2"):
        auroc(torch.ones(1), torch.ones(9))
    with pytest.raises(ValueError, match="nan"):
        auroc(torch.tensor([1.0, math.nan]), torch.ones(9))


def test_standard_error_of_auroc_is_the_spread_over_samples():
    found = [auroc(1 + normal(60, seed=i), normal(40, seed=i + 500)) for i in range(400)]
    spread = torch.tensor([f.value for f in found]).std()
    assert float(torch.tensor([f.se for f in found]).mean()) == pytest.approx(
        float(spread), rel=0.1
    )


# Outliers: scores


def test_bound_and_ratio_of_exact_pairs_are_exact():
    pair, other = LinearGaussian(), LinearGaussian(latent=3)
    x = drawn(pair, 50)
    log_p, log_q = (p.marginal.log_prob(x).detach() for p in (pair, other))
    torch.testing.assert_close(bound(pair, x, particles=3), log_p)
    torch.testing.assert_close(likelihood_ratio(pair, other, x, particles=3), log_p - log_q)
    score = complexity_ratio(pair, x, particles=3)
    torch.testing.assert_close(score, log_p + code_length(x))
    with pytest.raises(ValueError, match="a run, or a pair"):
        bound(object(), x)


def test_mutate_replaces_the_rate_by_what_is_possible():
    x = torch.full((200, 50), 0.5)
    half = mutate(x, 0.3, stream())
    assert float((half != x).double().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(half * 255, (half * 255).round()) or ((half * 255) % 0.5 < 1e-3).all()
    assert float(half.min()) >= 0
    assert float(half.max()) <= 1
    bits = mutate(torch.zeros(200, 50), 0.3, stream())
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    assert float(bits.mean()) == pytest.approx(0.15, abs=0.02)
    real = normal(100, 4)
    noise = mutate(real, 1.0, stream())
    assert noise.min() >= real.min()
    assert noise.max() <= real.max()
    assert torch.equal(mutate(real, 0.0), real)
    assert torch.equal(mutate(real, 0.4, stream(1)), mutate(real, 0.4, stream(1)))
    with pytest.raises(ValueError, match="from 0 to 1"):
        mutate(real, 1.5)


def test_codes_of_simple_images_are_shorter():
    flat = torch.full((1, 1, 28, 28), 0.3)
    ramp = (torch.arange(28) / 27).expand(1, 1, 28, 28)
    noise = torch.rand(1, 1, 28, 28, generator=stream())
    lengths = code_length(torch.cat([flat, ramp, noise]))
    assert lengths[0] < lengths[1] < lengths[2]
    assert lengths[2] == pytest.approx(784 * 8 * math.log(2), rel=0.05)  # noise has no shorter code
    bits = (noise > 0.5).float()
    assert code_length(torch.cat([bits, 1 - bits]))[0] == pytest.approx(784 * math.log(2), rel=0.15)
    images = torch.cat([flat, ramp, noise])
    assert torch.equal(code_length(images[[2, 0, 1]]), lengths[[2, 0, 1]])
    assert code_length(normal(5, 30)).shape == (5,)


def test_planted_outliers_are_found():
    pair = LinearGaussian()
    x = drawn(pair, 200)
    far = x + 4 * torch.eye(5, dtype=torch.float64)[0] * (-1) ** torch.arange(200)[:, None]
    assert auroc(bound(pair, x, particles=2), bound(pair, far, particles=2)).value > 0.9
    same = auroc(bound(pair, x, particles=2), bound(pair, drawn(pair, 200, 7), particles=2))
    assert abs(same.value - 0.5) < 3 * same.se


# Densities of codes


def by_hand(pair, x, components, own=None):
    """log 1/J sum_j N(m_i; m_j, S), the component `own[i]` left out."""
    means = pair.posterior(x).mean
    distribution = pair.posterior(x[components])
    scores = distribution.log_prob(means[:, None])
    if own is not None:
        scores[torch.tensor(components), torch.arange(len(components))] = -math.inf
    left = (scores > -math.inf).sum(1)
    return (scores.logsumexp(1) - left.log()).detach()


def test_density_of_codes_is_the_mixtures():
    pair = LinearGaussian()
    x = drawn(pair, 1203)
    components = list(range(1203))
    found = latent_density(pair, {"x": x}, components=5000)
    torch.testing.assert_close(found, by_hand(pair, x, components, components))
    new = drawn(pair, 40, seed=9)
    known = latent_density(pair, {"x": new}, {"x": x}, components=5000)
    scores = pair.posterior(x).log_prob(pair.posterior(new).mean[:, None]).detach()
    torch.testing.assert_close(known, scores.logsumexp(1) - math.log(1203))
    thinned = latent_density(pair, {"x": x}, components=3)
    torch.testing.assert_close(thinned, by_hand(pair, x, [0, 601, 1202], [0, 601, 1202]))


def test_aggregate_of_a_linear_gaussian_is_its_prior():
    """With the exact posterior q(z) is p(z) = N(0, I): at the codes of the data too, as N grows."""
    pair = LinearGaussian()
    x = drawn(pair, 3000)
    density = latent_density(pair, {"x": x}, components=3000)
    prior = prior_density(pair, {"x": x})
    codes = pair.posterior(x).mean.detach()
    distribution = torch.distributions.Normal(0, 1)
    torch.testing.assert_close(prior, distribution.log_prob(codes).sum(1))
    centre = codes.norm(dim=1) < 1
    assert abs(float((density - prior)[centre].mean())) < 0.03
    assert float((density - prior)[centre].std()) < 0.15


def test_a_row_does_not_make_itself_dense():
    pair = LinearGaussian()
    x = drawn(pair, 100)
    x[17] = 100.0
    density = latent_density(pair, {"x": x})
    assert rarest(density, 1).tolist() == [17]
    assert rarest(density, 0.01).tolist() == [17]
    assert float(density[17]) < -1000
    twice = latent_density(pair, {"x": torch.cat([x, x[17:18]])})
    assert float(twice[17]) > -10  # a second one like it is company


def test_density_does_not_depend_on_blocks_or_order():
    pair = LinearGaussian()
    x = drawn(pair, 90)
    distributions = [pair.posterior(part) for part in x.split(31)]
    z, own = pair.posterior(x).mean, torch.arange(90)
    whole = mixture_log_density(z, [pair.posterior(x)], own)
    for block in (1, 7, None):
        torch.testing.assert_close(mixture_log_density(z, distributions, own, block), whole)
    order = torch.randperm(90, generator=stream())
    moved = latent_density(pair, {"x": x[order]})
    torch.testing.assert_close(moved, latent_density(pair, {"x": x})[order])
    state = torch.get_rng_state()
    latent_density(pair, {"x": x})
    assert torch.equal(state, torch.get_rng_state())


def test_rarest_says_what_it_cannot_give():
    density = torch.tensor([3.0, 1.0, 2.0])
    assert rarest(density, 2).tolist() == [1, 2]
    for count in (0, 4, 1.5, -0.1):
        with pytest.raises(ValueError, match="count must be"):
            rarest(density, count)
    with pytest.raises(ValueError, match="components"):
        latent_density(LinearGaussian(), {"x": normal(9, 5)}, components=1)


def test_cover_gives_the_bound_and_both_densities():
    pair = LinearGaussian()
    train, new = {"x": drawn(pair, 120)}, {"x": drawn(pair, 30, 5)}
    run = Trained(pair, train)
    mine = cover(run, particles=2)
    torch.testing.assert_close(mine.bound, pair.marginal.log_prob(train["x"]).detach())
    torch.testing.assert_close(mine.density, latent_density(pair, train))
    other = cover(run, new, particles=2)
    torch.testing.assert_close(other.density, latent_density(pair, new, train))
    torch.testing.assert_close(other.prior, prior_density(pair, new))


# The row of the table


def test_share_of_rare_rows_under_equal_laws_is_the_level():
    shares, errors = zip(
        *(rare_share(normal(500, seed=i), normal(400, seed=i + 999), 0.05) for i in range(200)),
        strict=True,
    )
    means = torch.stack([hits.mean() for hits in shares])
    assert float(means.mean()) == pytest.approx(0.05, abs=3 * float(means.std()) / 200**0.5)
    assert float(torch.tensor(errors).mean()) == pytest.approx(float(means.std()), rel=0.2)
    hits, se = rare_share(normal(500), normal(400) + 100)
    assert float(hits.sum()) == 0
    assert se > 0
    with pytest.raises(ValueError, match="at least 100"):
        rare_share(normal(99), normal(9))


def test_rare_finds_rows_that_training_lacks():
    pair = LinearGaussian()
    train, test = drawn(pair, 600), drawn(pair, 200, 5)
    same = evaluate(pair, Splits({"x": train}, {"x": test}), metrics=["rare"])["rare"]
    assert abs(same.value - 0.01) < 4 * same.se
    assert same.values.shape == (200,)
    planted = torch.cat([test[:150], test[150:] + 10])
    moved = evaluate(pair, Splits({"x": train}, {"x": planted}), metrics=["rare"])["rare"]
    assert moved.value == pytest.approx(0.25, abs=0.02)
    among = evaluate(pair, Splits({"x": train}, {"x": test}), metrics=["kl", "insight"])["rare"]
    assert (among.value, among.se) == (same.value, same.se)


def test_rare_says_why_it_has_no_value():
    pair = LinearGaussian()
    x = {"x": drawn(pair, 50)}
    assert "no training rows" in evaluate(pair, x, metrics=["rare"])["rare"].note
    few = evaluate(pair, Splits(x, x), metrics=["rare"])["rare"]
    assert "at least 100 training rows" in few.note

    class Deterministic(LinearGaussian):
        def guide(self, x):
            pyro.module("ppca", self)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Delta(self.posterior(x).mean, event_dim=1))

    bare = evaluate(Deterministic(), Splits(x, x), metrics=["rare"])["rare"]
    assert "no density" in bare.note
    with pytest.raises(Unavailable, match="no density"):
        latent_density(Deterministic(), x)


# Weights


def test_even_densities_give_even_weights():
    for share in (0.0, 0.5, 0.9):
        assert torch.equal(balance(torch.full((7,), -3.0), share), torch.ones(7).double())
    assert effective_size(torch.full((9,), 4.0)) == pytest.approx(9)
    assert effective_size(torch.tensor([1.0, 0.0, 0.0])) == 1


def test_weights_undo_the_density():
    """Codes of density 2 z on (0, 1), weighed by its inverse, are even."""
    z = torch.rand(100_000, generator=stream(), dtype=torch.float64).sqrt()
    weights = balance((2 * z).log(), 0.0)
    assert float(weights.mean()) == pytest.approx(1)
    counts = torch.from_numpy(np.histogram(z, 10, (0, 1), weights=weights)[0])
    torch.testing.assert_close(
        counts / 100_000, torch.full((10,), 0.1).double(), atol=0.012, rtol=0
    )
    torch.testing.assert_close(weights * z, (weights * z)[:1].expand(100_000))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_weights_keep_the_effective_size(share):
    density = 5 * normal(500)
    weights = balance(density, share)
    assert effective_size(weights) == pytest.approx(share * 500, rel=1e-6)
    slopes = weights.log().diff() / density.diff()
    torch.testing.assert_close(slopes, slopes[:1].expand(499))
    assert -1 < float(slopes[0]) < 0
    torch.testing.assert_close(balance(density + 100, share), weights)
    assert balance(1e4 * density, share).isfinite().all()
    with pytest.raises(ValueError, match="share"):
        balance(density, 1.0)
    with pytest.raises(ValueError, match="row 1"):
        balance(torch.tensor([0.0, -math.inf]))


def test_resample_draws_each_row_its_due_number_of_times():
    weights = torch.tensor([0.0, 1.0, 2.5, 0.5, 0.0])
    for seed in range(20):
        counts = resample(weights, 8, stream(seed)).bincount(minlength=5)
        assert counts.tolist() == [0, 2, 5, 1, 0]
    uneven = torch.rand(50, generator=stream(), dtype=torch.float64)
    due = uneven / uneven.sum() * 70
    found = [resample(uneven, 70, stream(i)).bincount(minlength=50) for i in range(500)]
    counts = torch.stack(found).double()
    assert ((counts - due).abs() < 1).all()
    assert float((counts.mean(0) - due).abs().max()) < 0.1
    assert torch.equal(resample(uneven, 9, stream(4)), resample(uneven, 9, stream(4)))
    for n, bad in ((0, uneven), (3, torch.zeros(4)), (3, torch.tensor([1.0, -1.0]))):
        with pytest.raises(ValueError, match="must be"):
            resample(bad, n)


def test_a_rare_class_comes_up_more_often():
    """Two blobs of codes, nine to one: balanced by density they come near to even."""
    pair = LinearGaussian()
    with torch.no_grad():
        z = 2 * torch.rand(1000, 2, generator=stream(), dtype=torch.float64)
        y = (torch.arange(1000) % 10 == 0).long()
        x = (3 * z + 8 * (y[:, None] - 0.5)) @ pair.w.T + pair.b
    shares = class_shares(y)
    assert shares.tolist() == [0.9, 0.1]
    weights = balance(latent_density(pair, {"x": x}), 0.2)
    assert float(class_shares(y, weights)[1]) > 0.35
    rows = resample(weights, 1000, stream())
    torch.testing.assert_close(class_shares(y[rows]), class_shares(y, weights), atol=0.02, rtol=0)
