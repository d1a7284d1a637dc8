"""Trees: path probabilities and responsibilities by enumeration, the tree's own density."""

import itertools
import math

import numpy as np
import pytest
import torch
from pyro import distributions as dist
from scipy.special import roots_jacobi
from sklearn.metrics import adjusted_rand_score
from torch.distributions import Beta, Normal

from priory import fit, load
from priory.data import Data
from priory.evaluation import Draws, encode, evaluate
from priory.evaluation.isolation import sealed
from priory.evaluation.latents.hierarchy import purity_values
from priory.evaluation.report.gallery import Gallery, draw, gather
from priory.evaluation.report.trees import Nodes
from priory.inference import ELBO, MAP, Phases
from priory.models import CVAE, VAE, HierarchicalGMVAE
from priory.nets import MLP
from priory.parsing import parse
from priory.priors import PRIORS, NestedCRP
from priory.serialisation import from_config, to_config

pytestmark = pytest.mark.usefixtures("double")

LATENT = 2


def tree(depth=2, branching=2, **options):
    """A tree whose parameters are anywhere."""
    prior = NestedCRP(depth, branching, **options)
    prior.build(LATENT, torch.zeros(10, 4))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.7 * torch.randn_like(parameter))
    return prior.double()


def paths(prior):
    """Every path from the root to a leaf, as the children's numbers, in the order of the leaves."""
    return itertools.product(range(prior.branching), repeat=prior.depth)


def walked(prior, path):
    """The probability of a path and the mean at its end, one node after the other."""
    b = prior.branching
    probability, mean, node = 1.0, torch.zeros(LATENT), 0
    for level, child in enumerate(path):
        before = sum(b**at for at in range(level))
        sticks = [*torch.sigmoid(prior.log_odds[before + node]).tolist(), 1.0]
        probability *= sticks[child] * math.prod(1 - v for v in sticks[:child])
        mean = mean + prior.tau[level] * prior.offsets[(before + node) * b + child]
        node = node * b + child
    return probability, mean


@pytest.mark.parametrize(("depth", "branching"), [(1, 3), (2, 2), (3, 3)])
def test_paths_are_those_of_a_walk_and_their_probabilities_sum_to_one(depth, branching):
    prior = tree(depth, branching)
    each = [walked(prior, path) for path in paths(prior)]
    weights = torch.tensor([probability for probability, _ in each])
    torch.testing.assert_close(prior.log_weights().exp(), weights, atol=1e-12, rtol=0)
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0), atol=1e-12, rtol=0)
    torch.testing.assert_close(prior.means(), torch.stack([mean for _, mean in each]))
    for level in range(depth + 1):
        above = prior.log_weights(level).exp()
        torch.testing.assert_close(prior.at_level(weights, level), above, atol=1e-12, rtol=0)
    assert torch.equal(prior.means(0), torch.zeros(1, LATENT))
    with pytest.raises(ValueError, match=f"level must be from 0, the root, to {depth}"):
        prior.means(depth + 1)


def test_the_density_and_the_responsibilities_are_those_by_enumeration():
    prior = tree(2, 3)
    z = 2 * torch.randn(5, LATENT)
    scale = prior.log_scale.exp()
    joint = torch.stack(
        [
            math.log(probability) + Normal(mean, scale).log_prob(z).sum(-1)
            for probability, mean in (walked(prior, path) for path in paths(prior))
        ],
        -1,
    )
    torch.testing.assert_close(prior().log_prob(z), joint.logsumexp(-1))
    found = prior().components(z).softmax(-1)
    torch.testing.assert_close(found, joint.softmax(-1), atol=1e-8, rtol=0)
    inner = joint.softmax(-1).unflatten(-1, (3, 3)).sum(-1)
    torch.testing.assert_close(prior.at_level(found, 1), inner, atol=1e-8, rtol=0)


def test_rows_of_a_group_share_the_path_that_enumeration_gives():
    prior = tree(2, 2)
    z, group = 2 * torch.randn(5, LATENT), torch.tensor([1, 0, 1, 1, 0])
    scale = prior.log_scale.exp()
    for g in (0, 1):
        exact = torch.stack(
            [
                math.log(probability) + Normal(mean, scale).log_prob(z[group == g]).sum()
                for probability, mean in (walked(prior, path) for path in paths(prior))
            ]
        )
        torch.testing.assert_close(prior.group_components(z, group)[g], exact)
    alone = prior.group_components(z, torch.arange(5))
    torch.testing.assert_close(alone, prior().components(z))
    with pytest.raises(ValueError, match=r"integers \(n,\), got \(5, 2\) and torch.int64 \(4,\)"):
        prior.group_components(z, group[:4])


# Two nodes below the root, of which the second has three children of at most three, the first one.
PARENTS = (torch.tensor([0, 0]), torch.tensor([0, 1, 1, 1]))
SHARES = (torch.tensor([0.3, 0.7]), torch.tensor([1.0, 0.5, 0.2, 0.3]))
SLOTS = torch.tensor([0, 3, 4, 5])  # of the leaves, in a tree of nine


def ragged(**options):
    """That tree, in a prior whose other places had parameters of their own."""
    prior = tree(2, 3, **options)
    means = torch.randn(2, LATENT), torch.randn(4, LATENT)
    shares = tuple(share.double() for share in SHARES)
    prior.set_tree(PARENTS, means, shares, 0.4)
    return prior, means


def test_a_tree_with_fewer_nodes_is_the_mixture_of_those_that_it_has():
    prior, means = ragged()
    weights = torch.tensor([0.3, 0.35, 0.14, 0.21], dtype=torch.float64)
    assert prior.in_use(1).tolist() == [True, True, False]
    assert prior.in_use().nonzero().flatten().tolist() == SLOTS.tolist()
    torch.testing.assert_close(prior.log_weights().exp()[SLOTS], weights)
    assert prior.log_weights().exp().sum().item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(prior.means(1)[:2], means[0])
    torch.testing.assert_close(prior.means()[SLOTS], means[1])
    z = 2 * torch.randn(6, LATENT)
    joint = weights.log() + Normal(means[1], 0.4).log_prob(z.unsqueeze(1)).sum(-1)
    torch.testing.assert_close(prior().log_prob(z), joint.logsumexp(-1))
    torch.testing.assert_close(prior().components(z)[:, SLOTS], joint)
    alone = prior.group_components(z, torch.tensor([0, 0, 0, 1, 1, 1]))
    both = (joint - weights.log()).unflatten(0, (2, 3)).sum(1) + weights.log()
    torch.testing.assert_close(alone[:, SLOTS], both)
    assert (alone.softmax(1)[:, ~prior.in_use()] == 0).all()
    drawn = prior().sample((1000,))
    assert torch.cdist(drawn, means[1]).min(1).values.max() < 0.4 * 6
    pulls = torch.autograd.grad(prior().log_prob(z).sum(), [prior.offsets, prior.log_odds])
    assert all(pull.isfinite().all() for pull in pulls)
    moved = prior().rsample((9,)).sum()  # with the gradient by the weights
    assert all(p.isfinite().all() for p in torch.autograd.grad(moved, [*prior.parameters()]))


def test_only_nodes_and_sticks_that_are_there_have_a_density():
    prior, means = ragged(concentration=1.7)
    total = Normal(torch.zeros(LATENT), prior.tau[0]).log_prob(means[0]).sum()
    total = total + Normal(means[0][PARENTS[1]], prior.tau[1]).log_prob(means[1]).sum()
    v = torch.tensor([0.3, 0.5, 0.4], dtype=torch.float64)  # of the root, and of the second node
    total = total + (Beta(1.0, 1.7).log_prob(v) + v.log() + (1 - v).log()).sum()
    torch.testing.assert_close(prior.log_parameters(), total)
    slopes = torch.autograd.grad(prior.log_parameters(), [prior.offsets, prior.log_odds])
    assert (slopes[0][2] == 0).all()
    assert (slopes[1] != 0).sum() == 3


def test_its_places_are_kept_with_the_weights(tmp_path):
    data = Data.from_arrays(x=torch.rand(30, 5).round().numpy(), valid=5, test=5)
    pair = VAE(NestedCRP(2, 3), MLP((4,)), MLP((4,)), latent=LATENT)
    pair.build(data.train.x)
    means = torch.randn(2, LATENT), torch.randn(4, LATENT)
    pair.prior.set_tree(PARENTS, means, SHARES, 0.4)
    options = {"steps": 2, "batch_size": 8, "valid_every": 0, "progress": False}
    run = fit(pair, ELBO() + MAP(), data, folder=tmp_path, **options)
    again = load(tmp_path, data=data).pair.prior
    assert again.in_use().nonzero().flatten().tolist() == SLOTS.tolist()
    torch.testing.assert_close(again.log_weights(), run.pair.prior.log_weights())


@pytest.mark.parametrize(
    ("level", "part", "wrong", "words"),
    [
        (1, 0, torch.tensor([0, 0, 0, 0]), r"needs 1 to 3 children, got \[4, 0\]"),
        (1, 0, torch.tensor([0, 1, 0, 1]), "of the 4 nodes of level 2 must ascend from 0 to 1"),
        (1, 0, torch.tensor([0, 1, 1, 2]), "of the 4 nodes of level 2 must ascend from 0 to 1"),
        (0, 1, torch.zeros(3, LATENT), r"needs means \(2, 2\) and shares \(2,\) of the 2 nodes"),
        (1, 2, torch.tensor([1.0, 0.5, 0.2, 0.4]), "must be positive and sum to 1 among siblings"),
        (1, 2, torch.tensor([1.0, 1.0, 0.0, 0.0]), "must be positive and sum to 1 among siblings"),
    ],
)
def test_a_tree_that_is_none_is_refused(level, part, wrong, words):
    means = torch.randn(2, LATENT), torch.randn(4, LATENT)
    parts = [[*PARENTS], [*means], [*SHARES]]
    parts[part][level] = wrong
    with pytest.raises(ValueError, match=words):
        tree(2, 3).set_tree(*parts, 0.4)
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        tree(2, 3).set_tree(PARENTS, means, SHARES, 0.0)
    with pytest.raises(ValueError, match="needs nodes of 3 levels, got 2, 2 and 2"):
        tree(3, 3).set_tree(PARENTS, means, SHARES, 0.4)


def seated(blocks, a):
    """The chance of a partition into blocks of these sizes, customer by customer."""
    chance, customers = 1.0, 0
    for block in blocks:
        for at in range(block):
            chance *= (at or a) / (customers + a)
            customers += 1
    return chance


@pytest.mark.parametrize("a", [0.5, 2.0])
def test_customers_who_sit_down_one_by_one_share_tables_as_the_sticks_do(a):
    """Each partition of 4 customers by seating, and by E of products of the children's shares.

    Each block has one of the first children, or is at the last with what remains, which is the same
    process again. The mean over Beta(1, a) sticks is by Gauss-Jacobi, exact for the polynomials.
    """
    prior = NestedCRP(1, 4)
    prior.build(LATENT, torch.zeros(10, 4))
    prior.double()
    at, mass = (torch.from_numpy(part) for part in roots_jacobi(4, a - 1, 0))
    grid, weights = [], []
    for nodes in itertools.product(range(4), repeat=3):
        with torch.no_grad():
            prior.log_odds.copy_(torch.logit((at[[*nodes]] + 1) / 2)[None])
        grid.append(prior.log_weights().detach().exp())
        weights.append((mass / mass.sum())[[*nodes]].prod())
    shares, weights = torch.stack(grid), torch.stack(weights)
    for blocks in ((4,), (3, 1), (2, 2), (2, 1, 1), (1, 1, 1, 1)):
        total = 0.0
        for places in itertools.product(range(4), repeat=len(blocks)):
            if all(places.count(child) <= 1 for child in range(3)):
                product = math.prod(shares[:, p] ** n for p, n in zip(places, blocks, strict=True))
                rest = [n for p, n in zip(places, blocks, strict=True) if p == 3]
                total += float(weights @ product) * seated(rest, a)
        assert total == pytest.approx(seated(blocks, a), abs=1e-8)


def test_it_starts_at_mean_zero_and_variance_one_with_equal_shares():
    for depth, branching in ((1, 2), (3, 3), (2, 4)):
        prior = NestedCRP(depth, branching, spread=0.9, start=0.7)
        prior.build(LATENT, torch.zeros(10, 4))
        leaves = branching**depth
        torch.testing.assert_close(prior().mean, torch.zeros(LATENT), atol=1e-6, rtol=0)
        torch.testing.assert_close(prior().variance, torch.ones(LATENT), atol=1e-5, rtol=0)
        equal = torch.full((leaves,), 1 / leaves)
        torch.testing.assert_close(prior.log_weights().exp(), equal, atol=1e-6, rtol=0)
        assert prior.tau.square().sum().item() == pytest.approx(0.81, rel=1e-5)


def test_the_trees_own_density_is_that_of_its_nodes_and_shares():
    prior = tree(2, 3, concentration=1.7, rows=40)
    total = torch.zeros(())
    parents = {0: prior.means(0), 1: prior.means(1)}
    for level in (0, 1):
        above = parents[level].repeat_interleave(3, 0)
        total = total + Normal(above, prior.tau[level]).log_prob(prior.means(level + 1)).sum()
    v = torch.sigmoid(prior.log_odds)
    total = total + (Beta(1.0, 1.7).log_prob(v) + v.log() + (1 - v).log()).sum()
    torch.testing.assert_close(prior.log_parameters(), total)
    torch.testing.assert_close(prior.log_share(), total / 40)
    by_build = NestedCRP()
    by_build.build(LATENT, torch.zeros(30, 4))
    assert by_build.size.item() == 30
    (slope,) = torch.autograd.grad(prior.log_parameters(), [prior.log_odds])
    torch.testing.assert_close(slope, 1 - v - 1.7 * v)  # 0 at v = 1 / (1 + a)


def test_most_probable_means_are_the_nodes_posterior_means():
    """With the rows' leaves known and s held, all is normal: least squares against the precision.

    Gradient steps on -log p(z, m) / n, with each row in its leaf, end at the mean of the joint
    normal posterior over the 2 + 4 nodes of a 2-2 tree.
    """
    prior = tree(2, 2)
    leaf = torch.tensor([0, 0, 1, 2, 3, 3, 3, 2])
    z = torch.randn(8, LATENT)
    s = prior.log_scale.exp().item()
    first, second = prior.tau.square().tolist()
    precision, right = torch.zeros(6, 6), torch.zeros(6, LATENT)
    precision[range(2), range(2)] += 1 / first
    for child in range(4):
        parent, own = child // 2, 2 + child
        precision[[own, parent], [own, parent]] += 1 / second
        precision[[own, parent], [parent, own]] -= 1 / second
        precision[own, own] += (leaf == child).sum() / s**2
        right[own] = z[leaf == child].sum(0) / s**2
    exact = torch.linalg.solve(precision, right)
    optimiser = torch.optim.LBFGS([prior.offsets], max_iter=200, tolerance_change=1e-14)

    def loss():
        optimiser.zero_grad()
        rows = Normal(prior.means()[leaf], s).log_prob(z).sum()
        value = -(rows + prior.log_parameters())
        value.backward()
        return value

    optimiser.step(loss)
    torch.testing.assert_close(prior.means(1), exact[:2], atol=1e-6, rtol=0)
    torch.testing.assert_close(prior.means(2), exact[2:], atol=1e-6, rtol=0)


def test_one_inner_level_with_sticks_alone_is_a_mixture():
    prior, x = tree(1, 4), torch.rand(9, 5).round()
    mixture = parse("prior", "mixture:4", PRIORS)
    mixture.build(LATENT, x)
    mixture.double()
    with torch.no_grad():
        mixture.logits.copy_(prior.log_weights())
        mixture.loc.copy_(prior.means())
        mixture.log_scale.copy_(prior.log_scale.expand(4, LATENT))
    z = torch.randn(6, LATENT)
    torch.testing.assert_close(prior().log_prob(z), mixture().log_prob(z))


def test_the_term_adds_a_rows_share_and_nothing_else():
    pair, x = VAE("nested-crp", MLP((4,)), MLP((4,)), latent=LATENT), torch.rand(9, 5).round()
    pair.build(x)
    phases = Phases(pair.model, pair.guide, columns={"x": x})
    share = pair.prior.log_share()
    assert pair.prior.size.item() == 9
    both = (ELBO() + MAP()).loss(phases)
    torch.testing.assert_close(both, ELBO().loss(phases) - share)
    batch = MAP().loss(Phases(pair.model, pair.guide, columns={"x": x[:2]}))
    torch.testing.assert_close(batch, -share)  # of all rows, however many a batch has
    plain = VAE(latent=LATENT)
    plain.build(x)
    with pytest.raises(ValueError, match=r"such as nested-crp, and VAE has none: leave the term"):
        MAP()(plain.model, plain.guide, x)


def test_the_share_is_one_by_the_rows_that_are_trained_on(tmp_path):
    """Not by those that the pair was built of, nor by those of the run whose weights it has."""
    options = {"steps": 1, "batch_size": 8, "valid_every": 0, "progress": False}
    x = torch.rand(60, 5).round()
    few, many = (Data.from_arrays(x=x[:n].numpy(), valid=5, test=5) for n in (30, 60))
    pair = VAE(NestedCRP(1, 2), MLP((4,)), MLP((4,)), latent=LATENT)
    pair.build(few.train.x[:3])
    fit(pair, ELBO() + MAP(), few, folder=tmp_path, **options)
    assert pair.prior.size.item() == len(few.train) == 20
    again = load(tmp_path, data=few).pair
    assert again.prior.size.item() == 20
    fit(again, ELBO() + MAP(), many, **options)
    assert again.prior.size.item() == len(many.train) == 50
    given = VAE(NestedCRP(1, 2, rows=1000), MLP((4,)), MLP((4,)), latent=LATENT)
    fit(given, ELBO() + MAP(), few, **options)
    assert given.prior.size.item() == 1000


def test_it_is_read_and_written_and_its_mistakes_are_named():
    prior = parse("prior", "nested-crp:2:4:concentration=3", PRIORS)
    assert (prior.depth, prior.branching, prior.concentration) == (2, 4, 3.0)
    again = from_config(to_config(prior))
    assert (again.depth, again.branching, again.rows) == (2, 4, None)
    for options, words in (
        ({"branching": 1}, "branching must be at least 2, got 1"),
        ({"depth": 0}, "depth must be a positive integer, got 0"),
        ({"spread": 1.0}, "spread must be above 0 and below 1, got 1.0"),
        ({"start": 0.0}, "start must be above 0 and at most 1, got 0.0"),
        ({"ratio": 0.0}, "ratio must be positive, got 0.0"),
        ({"concentration": -1}, "concentration must be positive, got -1"),
        ({"rows": 0}, "rows must be a positive integer, got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            NestedCRP(**options)


# --- what is said of the rows -------------------------------------------------------------------


def brute_force(paths, labels):
    """The dendrogram purity, pair by pair."""
    found = []
    for i, j in itertools.combinations(range(len(labels)), 2):
        if labels[i] == labels[j]:
            together = int((paths[i] == paths[j]).long().cumprod(0).sum())
            node = (paths[:, :together] == paths[i, :together]).all(1)
            found.append((labels[node] == labels[i]).double().mean().item())
    return sum(found) / len(found)


def test_dendrogram_purity_is_the_mean_over_pairs():
    draw = torch.Generator().manual_seed(1)
    leaf, labels = (torch.randint(0, k, (40,), generator=draw) for k in (8, 3))
    paths = torch.stack([leaf // 4, leaf // 2, leaf], 1)
    values = purity_values(paths, labels)
    assert values.mean().item() == pytest.approx(brute_force(paths, labels), abs=1e-12)
    assert values.std() > 0
    shares = labels.bincount() / 40
    pairs = labels.bincount() * (labels.bincount() - 1)
    root = purity_values(torch.zeros(40, 1, dtype=torch.long), labels).mean()
    torch.testing.assert_close(root, (shares * pairs).sum() / pairs.sum())
    own = torch.stack([labels // 2, labels], 1)
    assert purity_values(own, labels).mean().item() == pytest.approx(1, abs=1e-12)
    last = purity_values(torch.stack([leaf // 4, torch.arange(40)], 1), labels).mean()
    assert last.item() == pytest.approx(brute_force((leaf // 4)[:, None], labels), abs=1e-12)


def test_purity_errors_are_those_of_rows_drawn_again():
    draw = torch.Generator().manual_seed(1)
    leaf = torch.randint(0, 4, (200,), generator=draw)
    labels = torch.where(torch.rand(200, generator=draw) < 0.7, leaf, leaf // 2)
    paths = torch.stack([leaf // 2, leaf], 1)
    values = purity_values(paths, labels)
    again = []
    for _ in range(300):
        rows = torch.randint(0, 200, (200,), generator=draw)
        again.append(purity_values(paths[rows], labels[rows]).mean())
    assert torch.stack(again).std() == pytest.approx(float(values.std() / 200**0.5), rel=0.15)


@pytest.fixture
def known():
    """A tree of two levels with codes near its leaves, in a pair whose decoder is not used."""
    pair = VAE(NestedCRP(2, 2), MLP((4,)), "linear", "normal", LATENT)
    leaf = torch.arange(80) % 4
    pair.build(torch.randn(80, LATENT))
    with torch.no_grad():
        pair.prior.log_scale.fill_(math.log(0.1))
        pair.prior.offsets.div_(pair.prior.start)  # at a distance of tau
    z = pair.prior.means()[leaf].detach() + 0.01 * torch.randn(80, LATENT)
    return pair, z, leaf


def near(x, length=None):
    """The posterior of an encoder that returns its datum."""
    return dist.Normal(x, 0.01).to_event(1)


def test_rows_get_their_nodes_at_every_level(known, monkeypatch):
    pair, z, leaf = known
    monkeypatch.setattr(pair.encoder, "forward", near)
    codes = encode(pair, z)
    assert torch.equal(codes.cluster, leaf)
    assert torch.equal(codes.probabilities["level1"].argmax(1), leaf // 2)
    sums = codes.probabilities["cluster"].unflatten(1, (2, 2)).sum(-1)
    torch.testing.assert_close(codes.probabilities["level1"], sums)
    assert "2 nodes of level 1" in codes.notes["level1"]
    swapped = torch.stack([leaf // 2, leaf.roll(4)], 1)  # the rows of a leaf, by another number
    columns = {"x": z, "y": leaf, "path": swapped}
    report = evaluate(pair, columns, metrics=["level_ari", "dendrogram_purity"])
    assert report["level_ari"].value == pytest.approx(1)
    assert report["dendrogram_purity"].value == pytest.approx(1)
    wrong = torch.stack([leaf // 2, leaf // 2 + 2 * (torch.arange(80) % 8 // 4)], 1)
    report = evaluate(pair, columns | {"path": wrong}, metrics=["level_ari"])
    second = adjusted_rand_score(wrong[:, 1], leaf)
    assert second < 0.6
    assert report["level_ari"].value == pytest.approx((1 + second) / 2)
    assert f"level 1 1.000, level 2 {second:.3f}" in report["level_ari"].note


def test_rows_of_a_group_get_the_nodes_of_all_of_them_together(known, monkeypatch):
    pair, z, leaf = known
    z = pair.prior.means()[leaf].detach() + 0.4 * torch.randn(80, LATENT)  # single rows err
    monkeypatch.setattr(pair.encoder, "forward", near)
    group = leaf + 4 * (torch.arange(80) // 40)  # eight of ten rows
    codes = encode(pair, {"x": z, "group": group + 3})
    exact = pair.prior.group_components(z, group).softmax(1)[group]
    torch.testing.assert_close(codes.probabilities["group_cluster"], exact)
    upper = exact.unflatten(1, (2, 2)).sum(-1)
    torch.testing.assert_close(codes.probabilities["group_level1"], upper)
    assert "8 groups" in codes.notes["group_cluster"]
    assert torch.equal(codes.cluster, pair.prior().components(z).argmax(1))
    assert "group_cluster_probabilities" in codes.arrays()
    assert "group_cluster" not in encode(pair, {"x": z}).probabilities
    path = torch.stack([leaf // 2, leaf], 1)
    columns = {"x": z, "y": leaf, "path": path}
    rows = evaluate(pair, columns, metrics=["level_ari"])["level_ari"]
    both = evaluate(pair, columns | {"group": group}, metrics=["level_ari"])["level_ari"]
    assert both.n == 8
    first = torch.stack([(group == k).nonzero()[0, 0] for k in range(8)])
    nodes = exact[first].argmax(1)
    value = (
        adjusted_rand_score(path[first, 0], nodes // 2) + adjusted_rand_score(path[first, 1], nodes)
    ) / 2
    assert both.value == pytest.approx(value)
    assert both.value > rows.value
    assert both.note.startswith("of 8 groups by all their rows: level 1 ")
    assert both.note.endswith("of single rows: " + rows.note)
    mixed = evaluate(pair, columns | {"group": leaf // 2}, metrics=["level_ari"])["level_ari"]
    assert "rows of one 'group' have different 'path's" in mixed.note
    odd = evaluate(pair, columns | {"group": group.double()}, metrics=["level_ari"])["level_ari"]
    assert "must have an integer for each row" in odd.note


def test_what_has_no_tree_has_no_levels(known):
    pair, z, leaf = known
    found = evaluate(pair, {"x": z, "y": leaf}, metrics=["level_ari"])["level_ari"]
    assert "no column 'path'" in found.note
    odd = {"x": z, "y": torch.arange(80), "path": leaf.double()}
    report = evaluate(pair, odd, metrics=["level_ari", "dendrogram_purity"])
    assert "must have integers, (rows, levels), got (80,)" in report["level_ari"].note
    assert "no two rows have the same label" in report["dendrogram_purity"].note
    plain = VAE("mixture", MLP((4,)), "linear", "normal", LATENT)
    plain.build(z)
    found = evaluate(plain, {"x": z, "y": leaf}, metrics=["dendrogram_purity"])
    assert "the pair's prior is no tree" in found["dendrogram_purity"].note


# --- the picture --------------------------------------------------------------------------------


def test_the_picture_has_every_node_where_it_is(known, monkeypatch):
    pair, z, leaf = known
    monkeypatch.setattr(pair.encoder, "forward", near)
    with sealed(pair.model, pair.guide):
        found = gather(Draws(pair.model, pair.guide, {"x": z})).tree
    assert [len(level) for level in found.means] == [1, 2, 4]
    assert not found.images
    torch.testing.assert_close(found.codes, z)
    assert torch.equal(found.leaf, leaf)
    (axes,) = draw(Gallery(tree=found))["Tree"].axes
    points, *nodes = (torch.as_tensor(part.get_offsets()) for part in axes.collections)
    torch.testing.assert_close(points, z)
    torch.testing.assert_close(nodes, [*found.means[1:]])
    edges = torch.from_numpy(np.stack([line.get_xydata() for line in axes.lines]))
    parents = torch.cat([found.means[0].expand(2, -1), found.means[1].repeat_interleave(2, 0)])
    torch.testing.assert_close(edges, torch.stack([parents, torch.cat(found.means[1:])], 1))


def test_images_stand_at_the_nodes_that_they_are_of():
    x = torch.rand(12, 1, 4, 4)
    pair = VAE(NestedCRP(2, 3), MLP((4,)), MLP((4,)), "continuous-bernoulli", 3)
    pair.build(x)
    with sealed(pair.model, pair.guide):
        found = gather(Draws(pair.model, pair.guide, {"x": x})).tree
    for level in range(3):
        exact = pair.decoder(pair.prior.means(level)).mean
        torch.testing.assert_close(found.images[level], exact.detach())
    (axes,) = draw(Gallery(tree=found))["Tree"].axes
    assert len(axes.images) == 1 + 3 + 9
    assert len(axes.lines) == 3 + 9
    places = [sum(image.get_extent()[:2]) / 2 for image in axes.images]
    assert places == pytest.approx([4.5, 1.5, 4.5, 7.5, *(k + 0.5 for k in range(9))])
    starts = [line.get_xdata()[0] for line in axes.lines[3:]]
    assert starts == pytest.approx([1.5] * 3 + [4.5] * 3 + [7.5] * 3)
    wide = Nodes(found.means[:2], found.parents[:1])
    assert draw(Gallery(tree=wide))["Tree"].axes[0].get_xlabel() == "first component"


def test_a_picture_has_the_nodes_that_are_in_use(known, monkeypatch):
    prior, means = ragged()
    pair, *_ = known
    pair.prior, z = prior, means[1].repeat(5, 1)
    monkeypatch.setattr(pair.encoder, "forward", near)
    with sealed(pair.model, pair.guide):
        found = gather(Draws(pair.model, pair.guide, {"x": z})).tree
    assert [len(level) for level in found.means] == [1, 2, 4]
    torch.testing.assert_close(found.means[2], means[1])
    assert [parent.tolist() for parent in found.parents] == [[0, 0], [0, 1, 1, 1]]
    assert found.leaf.tolist() == [0, 1, 2, 3] * 5
    (axes,) = draw(Gallery(tree=found))["Tree"].axes
    edges = torch.from_numpy(np.stack([line.get_xydata() for line in axes.lines]))
    parents = torch.cat([torch.zeros(2, LATENT), means[0][PARENTS[1]]])
    torch.testing.assert_close(edges, torch.stack([parents, torch.cat(means)], 1))
    colours = axes.collections[0].get_facecolors()
    assert len({tuple(colour) for colour in colours.tolist()}) == 2
    images = tuple(torch.rand(len(level), 1, 4, 4) for level in found.means)
    (axes,) = draw(Gallery(tree=Nodes(found.means, found.parents, images)))["Tree"].axes
    places = [sum(image.get_extent()[:2]) / 2 for image in axes.images]
    assert places == pytest.approx([1.5, 0.5, 2.5, 0.5, 1.5, 2.5, 3.5])
    starts = [line.get_xdata()[0] for line in axes.lines]
    assert starts == pytest.approx([1.5, 1.5, 0.5, 2.5, 2.5, 2.5])


def test_a_tree_above_other_latents_or_beside_labels_is_drawn_as_far_as_it_goes():
    x, y = torch.rand(12, 1, 4, 4), torch.arange(12) % 3
    labelled = CVAE(3, NestedCRP(1, 3), MLP((4,)), MLP((4,)), latent=2)
    labelled.build(x, y)
    with sealed(labelled.model, labelled.guide):
        found = gather(Draws(labelled.model, labelled.guide, {"x": x, "y": y})).tree
    assert len(found.leaf) == 12
    assert not found.images, "an image needs a label"
    upper = HierarchicalGMVAE(3, NestedCRP(1, 2), *(MLP((4,)) for _ in range(4)), latents=(2, 2))
    upper.build(x)
    report = evaluate(upper, {"x": x, "y": y}, metrics=["dendrogram_purity"])
    assert not report["dendrogram_purity"].applicable
