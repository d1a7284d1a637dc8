"""What latents hold, against closed forms, limits and a library's own numbers."""

import math
import re
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn import metrics as library
from torch.distributions import kl_divergence

from pairs import LinearGaussian
from priory.distributions.independent import IndependentNormal
from priory.evaluation import METRICS, aggregate_log_density, evaluate, split_kl
from priory.evaluation.draws import Draws
from priory.evaluation.isolation import sealed
from priory.evaluation.latents.clustering import (
    ari_values,
    confident_hits,
    hungarian_hits,
    kmeans,
    majority_hits,
    nmi_values,
)
from priory.evaluation.latents.collapse import collapse_doubts, coordinate_kl
from priory.evaluation.latents.information import distortion
from priory.evaluation.latents.probes import linear_probe
from priory.evaluation.sample_sets import Units
from priory.evaluation.statistics import pseudo_values
from priory.models import VAE, Autoregressive
from priory.nets import MLP
from priory.priors.mixture import NormalMixture


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs(n, classes, apart=20.0, width=2, seed=0):
    """Labelled points around the corners of a simplex, `apart` standard deviations from 0."""
    labels = torch.arange(n) % classes
    centres = apart * torch.eye(classes, max(classes, width), dtype=torch.float64)
    noise = torch.randn(n, centres.shape[1], generator=draw(seed), dtype=torch.float64)
    return centres[labels] + noise, labels


# Standard errors without resampling


def test_pseudo_values_of_a_mean_are_the_data():
    x = torch.randn(50, generator=draw(), dtype=torch.float64)
    assert torch.allclose(pseudo_values(lambda w: (w @ x) / w.sum(), 50), x)


def test_pseudo_values_have_the_standard_error_of_a_ratio_and_a_variance():
    x = torch.randn(4000, generator=draw(), dtype=torch.float64)

    def variance(w):
        w = w / w.sum()
        return w @ x.square() - (w @ x).square()

    values = pseudo_values(variance, len(x))
    assert float(values.mean()) == pytest.approx(float(x.var(correction=0)))
    error = float(values.std()) / math.sqrt(len(x))
    assert error == pytest.approx(math.sqrt(2 / len(x)), rel=0.1)


# Information and collapse


def test_information_of_separated_and_of_equal_posteriors():
    n = 40
    for means, truth in ((1000.0 * torch.arange(n), math.log(n)), (torch.zeros(n), 0.0)):
        distribution = dist.Normal(means.double().unsqueeze(1), 1.0).to_event(1)
        prior = dist.Normal(torch.zeros(1).double(), 1.0).to_event(1)
        z = means.double().unsqueeze(1) + torch.randn(n, 1, generator=draw(), dtype=torch.float64)
        split = split_kl(
            distribution.log_prob(z), prior.log_prob(z), aggregate_log_density(z, [distribution])
        )
        assert float(split.mutual_information.mean()) == pytest.approx(truth, abs=1e-9)
        assert torch.allclose(split.kl, split.mutual_information + split.mismatch)


@pytest.mark.parametrize("block", [None, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_aggregate_by_a_matrix_product_is_the_aggregate(block, dtype):
    loc = 5 * torch.randn(60, 3, generator=draw(), dtype=dtype)
    log_scale = torch.randn(60, 3, generator=draw(1), dtype=dtype) - 3
    z = loc + log_scale.exp() * torch.randn(60, 3, generator=draw(2), dtype=dtype)
    fast = [
        IndependentNormal(*part, 1) for part in zip(loc.split(40), log_scale.split(40), strict=True)
    ]
    slow = dist.Normal(loc.double(), log_scale.double().exp()).to_event(1)
    found = aggregate_log_density(z, fast, block)
    assert torch.allclose(found, aggregate_log_density(z.double(), [slow]), rtol=1e-9)


@pytest.mark.parametrize("library_law", [False, True])
def test_the_dimensions_divergences_add_up(library_law):
    loc = torch.randn(30, 4, generator=draw(), dtype=torch.float64)
    log_scale = 0.3 * torch.randn(30, 4, generator=draw(1), dtype=torch.float64)
    if library_law:
        posterior = dist.Normal(loc, log_scale.exp()).to_event(1)
        prior = dist.Normal(torch.zeros(4).double(), 1.0).to_event(1)
    else:
        posterior = IndependentNormal(loc, log_scale, 1)
        prior = IndependentNormal(torch.zeros(4).double(), torch.zeros(()).double(), 1)
    values = coordinate_kl(loc, posterior, prior)
    assert torch.allclose(values.sum(1), kl_divergence(posterior, prior))


def test_a_mixtures_marginals_and_a_law_without_marginals():
    mixture = NormalMixture(
        torch.tensor([0.3, -0.2]).double(),
        torch.randn(2, 1, generator=draw(), dtype=torch.float64),
        torch.zeros(2, 1).double(),
    )
    z = torch.randn(9, 1, generator=draw(1), dtype=torch.float64)
    posterior = dist.Normal(torch.zeros(9, 1).double(), 1.0).to_event(1)
    found = coordinate_kl(z, posterior, mixture)
    assert torch.allclose(found[:, 0], posterior.log_prob(z) - mixture.log_prob(z))
    flow = dist.TransformedDistribution(posterior, [dist.transforms.Spline(1)])
    assert coordinate_kl(z, posterior, flow) is None


def test_collapse_is_told_in_words():
    live, dead = torch.tensor([1.0, 2.0, 0.5]), torch.zeros(13)
    assert collapse_doubts(live) == ()
    assert collapse_doubts(torch.cat([live, dead[:1]])) == ()
    assert "13 of 16 dimensions collapsed" in collapse_doubts(torch.cat([live, dead]))[0]
    assert "all 13 dimensions have KL below 0.01 nats: z is ignored" in collapse_doubts(dead)[0]
    assert "the only dimension" in collapse_doubts(dead[:1])[0]


def gaussian_pair(encode, width, observed=0.1):
    """A pair whose guide has the mean `encode(x)` and whose latent has `width` dimensions."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(width).double(), 1.0).to_event(1))
            mean = z @ torch.eye(width, x.shape[1]).double()
            pyro.sample("x", dist.Normal(mean, observed).to_event(1), obs=x)

    def guide(x):
        loc = encode(x)
        scale = torch.where(loc.abs().sum(0) == 0, 1.0, 0.1).double()
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    return SimpleNamespace(model=model, guide=guide)


@pytest.mark.parametrize("live", [0, 1, 3])
def test_live_dimensions_are_counted_and_collapse_is_flagged(live):
    def encode(x):
        mask = (torch.arange(4) < live).double()
        return x[:, :1] * mask

    x = torch.randn(200, 5, generator=draw(), dtype=torch.float64)
    report = evaluate(gaussian_pair(encode, 4), x, metrics=["active_units", "kl"])
    assert report["active_units"].value == live
    words = " ".join(report["kl"].warnings)
    assert words == " ".join(report["active_units"].warnings)
    assert ("z is ignored" in words) == (live == 0)
    assert ("3 of 4 dimensions collapsed" in words) == (live == 1)
    assert (words == "") == (live == 3)


def test_latents_of_small_variance_are_not_called_dead():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Beta(torch.ones(2).double(), 9.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.1).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Beta(1 + x, 9.0 - x).to_event(1))

    x = torch.rand(50, 2, generator=draw(), dtype=torch.float64)
    pair = SimpleNamespace(model=model, guide=guide)
    record = evaluate(pair, x, metrics=["active_units"])["active_units"]
    assert record.value == 0
    assert record.warnings[0].startswith("2 dimensions have KL above 0.01 nats")


# Probes


def test_a_linear_probe_of_one_dimension_reaches_the_best_rate():
    noise = torch.randn(4000, 1, generator=draw(), dtype=torch.float64)
    labels = torch.arange(4000) % 2
    z = noise + labels.unsqueeze(1)  # N(0, 1) against N(1, 1): Phi(1/2) = 0.6915
    hits, converged = linear_probe(z[2000:], labels[2000:], (z[:2000], labels[:2000]))
    assert converged
    assert float(hits.mean()) == pytest.approx(0.6915, abs=3 * math.sqrt(0.25 / 2000))
    crossed, _ = linear_probe(z[:2000], labels[:2000])
    assert float(crossed.mean()) == pytest.approx(0.6915, abs=3 * math.sqrt(0.25 / 2000))


def test_a_linear_probe_ignores_units_and_fails_on_a_ring():
    z, labels = blobs(300, 3)
    assert linear_probe(z, labels)[0].mean() == 1
    assert linear_probe(z * torch.tensor([1e4, 1.0, 1e-4]) + 5, labels)[0].mean() == 1
    angle = 2 * math.pi * torch.rand(400, generator=draw(), dtype=torch.float64)
    radius = torch.where(torch.arange(400) % 2 == 0, 1.0, 3.0)
    ring = radius.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], 1)
    assert linear_probe(ring, torch.arange(400) % 2)[0].mean() < 0.65


@pytest.mark.parametrize(
    ("z", "labels", "train", "words"),
    [
        (torch.ones(9, 2), torch.arange(9) % 2, None, "all 9 latents are equal"),
        (torch.randn(9, 2, generator=draw()), torch.zeros(9), None, "all 9 rows have the label 0"),
        (torch.randn(4, 2, generator=draw()), torch.arange(4) % 2, None, "at least 5 rows"),
        (torch.randn(9, 2, generator=draw()), torch.arange(9) / 2, None, "integers"),
    ],
)
def test_a_probe_tells_what_it_lacks(z, labels, train, words):
    with pytest.raises(ValueError, match=words):
        linear_probe(z, labels, train)


# Clusters


def accuracies(clusters, labels):
    confidence = torch.rand(len(labels), generator=draw())
    return [
        float(hits.mean())
        for hits in (
            hungarian_hits(clusters, labels),
            majority_hits(clusters, labels),
            confident_hits(clusters, labels, confidence),
            nmi_values(clusters, labels),
            ari_values(clusters, labels),
        )
    ]


def test_permuted_labels_are_perfect_clusters():
    labels = torch.randint(5, (200,), generator=draw())
    permuted = torch.tensor([3, 0, 4, 1, 2])[labels]
    assert accuracies(permuted, labels) == pytest.approx([1, 1, 1, 1, 1])


def test_a_single_cluster_has_the_majority_rate():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    found = accuracies(torch.zeros(10).long(), labels)
    assert found[:2] == [0.6, 0.6]
    assert found[3:] == pytest.approx([0, 0])


def test_clusters_follow_the_three_protocols():
    clusters = torch.tensor([0, 0, 0, 1, 1, 2])
    labels = torch.tensor([0, 0, 1, 0, 0, 1])
    confidence = torch.tensor([0.1, 0.2, 0.9, 0.5, 0.5, 0.3])
    assert hungarian_hits(clusters, labels).tolist() == [1, 1, 0, 0, 0, 1]
    assert majority_hits(clusters, labels).tolist() == [1, 1, 0, 1, 1, 1]
    assert confident_hits(clusters, labels, confidence).tolist() == [0, 0, 1, 1, 1, 1]
    few = torch.tensor([0, 0, 0, 0, 1, 1])  # fewer clusters than labels
    assert hungarian_hits(few, torch.tensor([0, 0, 1, 2, 2, 2])).tolist() == [1, 1, 0, 0, 1, 1]


def test_agreement_is_the_librarys_and_ignores_names_and_order():
    clusters = torch.randint(7, (300,), generator=draw())
    labels = torch.where(torch.rand(300, generator=draw(1)) < 0.5, clusters // 2, 3 - clusters // 2)
    nmi, ari = nmi_values(clusters, labels), ari_values(clusters, labels)
    assert float(nmi.mean()) == pytest.approx(
        library.normalized_mutual_info_score(labels, clusters)
    )
    assert float(ari.mean()) == pytest.approx(library.adjusted_rand_score(labels, clusters))
    order = torch.randperm(300, generator=draw())
    renamed = torch.tensor([5, 3, 0, 6, 1, 2, 4])[clusters]
    assert torch.allclose(nmi_values(renamed[order], labels[order]), nmi[order])
    for hits in (hungarian_hits, majority_hits):
        assert torch.equal(hits(renamed[order], labels[order]), hits(clusters, labels)[order])


@pytest.mark.parametrize("values", [nmi_values, ari_values])
def test_the_error_of_agreement_is_the_bootstraps(values):
    labels = torch.randint(4, (500,), generator=draw())
    noise = torch.randint(4, (500,), generator=draw(1))
    clusters = torch.where(torch.rand(500, generator=draw(2)) < 0.7, labels, noise)
    error = float(values(clusters, labels).std()) / math.sqrt(500)
    indices = (torch.randint(500, (500,), generator=draw(s)) for s in range(300))
    again = torch.stack([values(clusters[i], labels[i]).mean() for i in indices])
    assert error == pytest.approx(float(again.std()), rel=0.15)


def test_kmeans_finds_blobs_and_refuses_copies():
    z, labels = blobs(200, 4)
    clusters, confidence = kmeans(z + 1e6, 4)
    assert accuracies(clusters, labels) == pytest.approx([1] * 5)
    assert confidence.max() < 0
    with pytest.raises(ValueError, match="4 clusters need as many distinct latents, got 1"):
        kmeans(torch.ones(10, 2), 4)


NAMES = ["clustering_hungarian", "clustering_majority", "clustering_confident", "nmi", "ari"]


def mixture_pair(categorical):
    """x around two far centres, with the component summed out or drawn as a latent of its own."""
    loc = torch.tensor([[-10.0], [10.0]]).double()

    def model(x):
        with pyro.plate("data", len(x)):
            if categorical:
                c = pyro.sample("c", dist.Categorical(torch.tensor([0.5, 0.5]).double()))
                z = pyro.sample("z", dist.Normal(loc[c], 1.0).to_event(1))
            else:
                distribution = NormalMixture(
                    torch.zeros(2).double(), loc, torch.zeros(2, 1).double()
                )
                z = pyro.sample("z", distribution)
            pyro.sample("x", dist.Normal(z, 0.1).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            if categorical:
                logits = torch.cat([-x, x], 1)
                pyro.sample("c", dist.Categorical(logits=logits))
            pyro.sample("z", dist.Normal(x, 0.1).to_event(1))

    return SimpleNamespace(model=model, guide=guide)


@pytest.mark.parametrize("categorical", [False, True])
def test_a_pairs_own_clusters_are_judged(categorical):
    labels = torch.arange(700) % 2
    x = 10.0 - 20.0 * labels.double().unsqueeze(1)
    x = x + torch.randn(700, 1, generator=draw(), dtype=torch.float64)
    report = evaluate(mixture_pair(categorical), {"x": x, "y": labels}, metrics=NAMES)
    assert [report[name].value for name in NAMES] == pytest.approx([1] * 5)
    origin = "clusters by q(c | x)" if categorical else "the prior's 2 components"
    assert all(origin in report[name].note for name in NAMES)


def test_without_a_mixture_clusters_are_those_of_kmeans():
    z, labels = blobs(60, 3)
    pair = gaussian_pair(lambda x: x, 3)
    report = evaluate(pair, {"x": z, "y": labels}, metrics=NAMES)
    assert [report[name].value for name in NAMES] == pytest.approx([1] * 5)
    assert "3 clusters of posterior means by k-means" in report["nmi"].note
    alone = evaluate(pair, {"x": z, "y": labels}, metrics=["nmi"])
    assert alone["nmi"].value == report["nmi"].value
    constant = evaluate(pair, {"x": z, "y": 0 * labels}, metrics=["ari", "nmi"])
    assert "all 60 rows have the label 0" in constant["ari"].note


def test_a_probe_reads_the_labels_of_a_pair_with_training_rows():
    z, labels = blobs(90, 3)
    splits = SimpleNamespace(
        train={"x": z[:60], "y": labels[:60]}, valid={}, test={"x": z[60:], "y": labels[60:]}
    )
    report = evaluate(gaussian_pair(lambda x: x, 3), splits, metrics=["linear_probe"])
    assert report["linear_probe"].value == 1
    assert "fitted to 60 training rows" in report["linear_probe"].note
    bare = evaluate(LinearGaussian(3, 3), z, metrics=["linear_probe"])["linear_probe"]
    assert "no column y" in bare.note


# Rate and distortion


@pytest.mark.parametrize("standardised", [False, True])
def test_distortion_is_what_a_linear_decoder_pays_and_makes_the_bound_with_the_kl(standardised):
    pair = LinearGaussian(latent=2, observed=4, widen=1.3)
    x = pair.marginal.sample((3000,)).detach()
    centre, scale = torch.arange(4.0).double(), torch.tensor([1.0, 2.0, 4.0, 8.0]).double()
    units = Units(centre, scale) if standardised else None
    q, variance = pair.posterior(x), (2 * pair.log_s).exp()
    missed = (x - pair.b - q.mean @ pair.w.T).square().sum(-1)
    spread = (pair.w @ q.covariance_matrix[0] @ pair.w.T).diagonal().sum()
    exact = (missed + spread) / (2 * variance) + 2 * (2 * math.pi * variance).log()
    shift = float(scale.log().sum()) if standardised else 0.0
    draws = Draws(pair.model, pair.guide, {"x": x}, units=units, particles=20)
    with sealed(pair.model, pair.guide):
        found = distortion(draws)
        rate, bound = (METRICS[n].function(draws) for n in ("kl", "elbo"))
    assert abs(found.value - float(exact.detach().mean()) - shift) < 4 * found.se
    assert abs(found.value + rate.value + bound.value) < 0.1
    assert "bits" not in found.note, "of a density"


def test_the_bits_of_masses_are_split_between_code_and_decoder():
    x = torch.rand(50, 4).round()
    pair = VAE(latent=2, encoder=MLP((4,)), decoder=MLP((4,)))
    pair.build(x)
    report = evaluate(pair, {"x": x}, metrics=["distortion", "kl"])
    note = report["distortion"].note
    code, rest = re.search(r"; (\S+) bits of a datum in the code, (\S+) in", note).groups()
    assert float(rest) == pytest.approx(report["distortion"].value / math.log(2), rel=0.01)
    assert abs(float(code) - report["kl"].value / math.log(2)) < 8 * report["kl"].se + 0.05
    alone = Autoregressive()
    alone.build(x)
    report = evaluate(alone, {"x": x}, metrics=["distortion"])
    assert "no code of each datum" in report["distortion"].note
