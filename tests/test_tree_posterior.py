"""The posterior of a tree: the evidence by brute force, sweeps that rise, trees that grow."""

import itertools
import math

import pytest
import torch
from scipy.special import betaln, roots_jacobi
from torch.distributions import MultivariateNormal

from priory.inference.tree_moves import Change, changes
from priory.inference.tree_posterior import TreePosterior

LATENT, SCALE, TAU, A = 2, 0.6, (1.3, 0.8), 1.4
EVEN = [[0, 0], [0, 0, 1, 1]]


def drawn(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


class Rows:
    """Codes in groups of different sizes, each known by the mean and variance of its posterior."""

    def __init__(self, groups=4, seed=0):
        self.group = torch.tensor([g for g in range(groups) for _ in range(1 + g % 3)])
        self.mean = 1.5 * drawn(groups, LATENT, seed=seed)[self.group]
        self.mean = self.mean + 0.3 * drawn(len(self.group), LATENT, seed=seed + 1)
        self.variance = 0.05 + 0.1 * drawn(len(self.group), LATENT, seed=seed + 2).square()

    def posterior(self, branching=2):
        """The posterior before any fit."""
        count = self.group.bincount()
        total = torch.zeros(len(count), LATENT, dtype=torch.float64)
        centre = total.index_add(0, self.group, self.mean) / count.unsqueeze(1)
        rest = ((self.mean - centre[self.group]).square() + self.variance).sum(1)
        rest = torch.zeros(len(count), dtype=torch.float64).index_add(0, self.group, rest)
        return TreePosterior(centre, count, rest, 2, branching, A)

    def begun(self, leaf=(0, 1, 2, 3), parents=EVEN, branching=2):
        found = self.posterior(branching)
        found.begin(torch.tensor(leaf), parents, SCALE, TAU)
        return found


def nodes_prior(parents=EVEN):
    """The covariance of all nodes under p(m): the variances of the ancestors that two share."""
    level, nodes = [()], []
    for parent in parents:
        level = [(*level[p], i) for i, p in enumerate(parent)]
        nodes += level
    shared = [
        [sum(a == b for a, b in zip(one, two, strict=False)) for two in nodes] for one in nodes
    ]
    variances = torch.tensor([0.0, *(width**2 for width in TAU)], dtype=torch.float64).cumsum(0)
    return variances[torch.tensor(shared)]


def by_hand(rows, leaf, parents=EVEN, branching=2):
    """The log evidence of the codes and paths, and q(m), from the joint normal and Beta integrals.

    In expectation over q(z) the codes' log density is that of their means less the variances over
    2 s^2.
    """
    leaves = len(parents[-1])
    prior = nodes_prior(parents)
    pick = torch.zeros(len(rows.group), len(prior), dtype=torch.float64)
    where = len(prior) - leaves + torch.tensor(leaf)[rows.group]
    pick[torch.arange(len(where)), where] = 1.0
    noise = SCALE**2 * torch.eye(len(where), dtype=torch.float64)
    joint = pick @ prior @ pick.mT + noise
    normal = MultivariateNormal(torch.zeros(len(where), dtype=torch.float64), joint)
    value = normal.log_prob(rows.mean.mT).sum() - rows.variance.sum() / (2 * SCALE**2)
    gain = prior @ pick.mT @ torch.linalg.inv(joint)
    counts = torch.tensor(leaf).bincount(minlength=leaves).double()
    for parent in reversed(parents):
        each = [
            [float(n) for n, p in zip(counts, parent, strict=True) if p == k]
            for k in range(max(parent) + 1)
        ]
        for children in each:
            for at, n in enumerate(children[: branching - 1]):
                value = value + betaln(1 + n, A + sum(children[at + 1 :])) - betaln(1, A)
        counts = torch.tensor([sum(children) for children in each]).double()
    return float(value), gain @ rows.mean, prior - gain @ pick @ prior


def test_given_the_paths_nodes_and_sticks_are_the_exact_posterior():
    """On a 2-2 tree: the joint normal of nodes and codes, and quadrature over all three sticks."""
    rows, leaf = Rows(), (0, 1, 1, 3)
    found = rows.begun(leaf)
    exact, eta, covariance = by_hand(rows, leaf)
    order = [0, 1, 3, 2, 5]  # the third leaf has no group, and nodes with more come first
    assert found.parents == [[0, 0], [0, 0, 1]]
    torch.testing.assert_close(found.eta, eta[order])
    torch.testing.assert_close(found.covariance, covariance[order][:, order])
    assert found.bound() == pytest.approx(by_hand(rows, (1, 0, 0, 2))[0], abs=1e-9)
    assert found.bound() != pytest.approx(exact, abs=1e-3)  # of sticks broken in another order
    counts = [(3, 1), (2, 1), (1, 0)]  # at the root and at both nodes
    at, mass = (torch.from_numpy(part) for part in roots_jacobi(8, A - 1, 0))
    for (first, after), (level, node) in zip(counts, ((0, 0), (1, 0), (1, 2)), strict=True):
        v = (at + 1) / 2
        weight = mass * v**first * (1 - v) ** after
        mean = (weight * v).sum() / weight.sum()
        alpha, beta = (part[node] for part in found.sticks[level])
        assert float(alpha / (alpha + beta)) == pytest.approx(float(mean), abs=1e-9)


def test_the_bound_is_below_the_evidence_and_exact_where_the_paths_are_known():
    """The evidence sums over all 4^4 paths of the groups; the gap is what is unknown of them."""
    rows = Rows()
    total = torch.tensor(
        [by_hand(rows, leaf)[0] for leaf in itertools.product(range(4), repeat=4)]
    ).logsumexp(0)
    found = rows.begun()
    before = found.bound()
    for _ in range(50):
        found._place()
        found._break()
        found._assign()
    assert before < found.bound() < float(total)
    known = rows.begun((0, 0, 0, 0), [[0], [0]], branching=2)
    whole = by_hand(rows, (0, 0, 0, 0), [[0], [0]])[0]
    assert known.bound() == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize("branching", [2, 3])
def test_every_part_of_a_sweep_raises_the_bound_and_no_neighbour_is_better(branching):
    rows = Rows(12)
    found = rows.posterior(branching)
    found.begin(torch.arange(12) % 4, EVEN, SCALE, TAU)
    last = found.bound()
    for _ in range(6):
        for part in (found._place, found._measure, found._break, found._assign):
            part()
            value = found.bound()
            assert value > last - 1e-9
            last = value
    found.sweep()
    assert found.bound() > last - 1e-9
    for name, part in (
        ("eta", found._place),
        ("covariance", found._place),
        ("scale", found._measure),
        ("paths", found._assign),
    ):
        part()
        best, value = found.bound(), getattr(found, name)
        for other in (1.01, 0.99):
            moved = value * other
            if name == "paths":
                moved = value**other / (value**other).sum(1, keepdim=True)
            setattr(found, name, moved)
            assert found.bound() < best
        setattr(found, name, value)
    found._measure()
    best = found.bound()
    for level in range(2):
        for other in (1.01, 0.99):
            found.tau[level] *= other
            assert found.bound() < best
            found.tau[level] /= other
    found._break()
    best = found.bound()
    for level in range(2):
        for other in (1.01, 0.99):
            alpha, beta = found.sticks[level]
            found.sticks[level] = alpha * other, beta
            assert found.bound() < best
            found.sticks[level] = alpha, beta


def test_the_gain_of_every_change_is_what_it_does_to_the_bound():
    """All changes of all kinds, at paths that are soft, of a tree where nodes may have more."""
    found = Rows(12).posterior(3)
    found.begin(torch.arange(12) % 4, EVEN, SCALE, TAU)
    found.sweep()
    found.paths = 0.9 * found.paths + 0.1 / 4
    halves = found._halves()
    every = [*changes(found.parents, 3, [*halves]), Change("drop", found.parents, (2,))]
    assert {change.kind for change in every} == {"move", "split", "join", "drop"}
    values = found._collapsed(every, halves)
    before = found.paths, found.parents
    for change, value in zip(every, values.tolist(), strict=True):
        found.paths, found.parents = before
        found.paths = found._changed(change, halves)
        found.parents = [list(above) for above in change.parents]
        found._settle()
        assert found.bound() == pytest.approx(value, abs=1e-9)
        torch.testing.assert_close(found.paths.sum(1), torch.ones(12, dtype=torch.float64))


def shape(parents):
    """A tree as sets of sets of leaves, without nodes that have none."""
    nodes = [frozenset([leaf]) for leaf in range(len(parents[-1]))]
    for level in range(len(parents) - 1, -1, -1):
        pairs = [*zip(nodes, parents[level], strict=True)]
        size = len(parents[level - 1]) if level else 1
        nodes = [frozenset(n for n, p in pairs if p == k and n) for k in range(size)]
    return nodes[0]


def test_changes_reach_the_trees_next_to_one_and_give_no_node_too_many_children():
    parents = [[0, 0], [0, 0, 1], [0, 0, 1, 2, 2]]
    for branching in (2, 3):
        for change in changes(parents, branching, range(5)):
            for above in change.parents:
                assert max(above.count(parent) for parent in above) <= branching
    start = [[0, 0], [0, 0, 1]]
    for branching, trees in (
        (2, ([0, 1, 0], [1, 0, 0])),
        (3, ([0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 2])),
    ):
        every = {shape([[0] * (max(leaves) + 1), leaves]) for leaves in trees}
        moves = [c.parents for c in changes(start, branching, []) if c.kind == "move"]
        assert {shape(tree) for tree in moves} - {shape(start)} == every


# --- trees that grow and are pruned -------------------------------------------------------------

CENTRES = torch.tensor([[-5.0, 1], [-4, -1], [5, 1], [4, -1], [4.5, 3]], dtype=torch.float64)


def clusters(which, groups=6, rows=5):
    """Groups about some of the centres, and their cluster."""
    leaf = torch.arange(len(which) * groups) % len(which)
    mean = CENTRES[torch.tensor(which)][leaf] + 0.05 * drawn(len(leaf), LATENT)
    count = torch.full((len(leaf),), rows)
    rest = 0.02 * count.double()
    return TreePosterior(mean, count, rest, 2, 3), leaf


def test_a_tree_grows_from_one_path_to_what_the_data_are():
    found, leaf = clusters([0, 1, 2, 3, 4])
    found.begin(torch.zeros_like(leaf), [[0], [0]], 0.3, (4.0, 1.0))
    last = found.bound()
    while found.grow():
        found.sweep()
        assert found.bound() > last
        last = found.bound()
    assert len(found.parents[-1]) == 5
    found.fit()
    assert found.sizes() == [2, 5]
    nodes = found.paths.argmax(1)
    assert len({(int(a), int(b)) for a, b in zip(nodes, leaf, strict=True)}) == 5
    top = torch.tensor(found.parents[1])[nodes]
    assert len({(int(a), int(b)) for a, b in zip(top, leaf >= 2, strict=True)}) == 2


@pytest.mark.parametrize("far", [1e6, 1e8])
def test_a_fit_with_a_far_code_ends_and_every_change_raises_the_bound(far, monkeypatch):
    """The squares of far codes cancel in a predicted gain, where rounding must not count as one."""
    codes = drawn(100, 1)
    codes[0] = far
    found = TreePosterior(codes, torch.ones(100), torch.zeros(100), 3, 3)
    found.begin(
        torch.arange(100) % 27, [[i // 3 for i in range(3**n)] for n in (1, 2, 3)], 1.0, [4, 2, 1]
    )
    changed, bounds = found._change, [found.bound()]

    def noted(kinds):
        made = changed(kinds)
        bounds.append(found.bound())
        assert len(bounds) < 200
        return made

    monkeypatch.setattr(found, "_change", noted)
    assert found.fit() == bounds[-1]
    for before, after in itertools.pairwise(bounds):
        assert after >= before - 1e-6 - 1e-9 * abs(before)


def test_nodes_that_the_data_do_not_need_are_pruned():
    found, leaf = clusters([0])
    many = torch.arange(len(leaf)) % 6
    found.begin(many, [[0, 0], [0, 0, 0, 1, 1, 1]], 0.3, (1.0, 1.0))
    last = found.bound()
    while found.prune():
        assert found.bound() > last
        last = found.bound()
    assert found.sizes() == [1, 1]
    found, leaf = clusters([0, 2])
    found.begin(leaf, [[0, 0], [0, 1]], 0.3, (4.0, 1.0))
    found.sweep()
    found.paths = torch.cat([found.paths * 0.99, 0.01 * torch.ones(len(leaf), 1)], 1)
    found.parents = [[0, 0], [0, 1, 1]]  # a leaf with a share of each group, and none of its own
    found._place()
    found._break()
    assert found.prune()
    assert found.sizes() == [2, 2]


def test_means_and_shares_are_those_of_the_posterior():
    found, leaf = clusters([0, 1, 2, 3, 4])
    found.begin(leaf, [[0, 0], [0, 0, 1, 1, 1]], 0.3, (4.0, 1.0))
    for above, shares in zip(found.parents, found.shares(), strict=True):
        for parent in set(above):
            own = [float(s) for s, p in zip(shares, above, strict=True) if p == parent]
            assert sum(own) == pytest.approx(1)
            assert min(own) > 0
    # At the root the node of 18 groups comes before that of 12, which has what remains.
    assert found.shares()[0].tolist() == pytest.approx([19 / 32, 13 / 32])
    first = 7 / (7 + 1 + 12), (1 - 7 / 20) * 7 / (7 + 1 + 6)
    assert found.shares()[1][:2].tolist() == pytest.approx(first)
    torch.testing.assert_close(torch.cat(found.means()), found.eta)


def test_sweeps_on_other_groups_begin_with_the_tree():
    found, leaf = clusters([0, 1, 2, 3, 4])
    found.begin(leaf, [[0, 0], [0, 0, 1, 1, 1]], 0.3, (4.0, 1.0))
    value = found.fit()
    again = found.on(found.mean, found.rows, found.rest)
    assert again.bound() == pytest.approx(value, abs=1e-4)
    more = found.on(found.mean.repeat(2, 1), found.rows.repeat(2), found.rest.repeat(2))
    assert more.sizes() == found.sizes()
    torch.testing.assert_close(more.paths[:30].argmax(1), found.paths.argmax(1))
    assert math.isfinite(more.bound())


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"two numbers of each group, got \(3, 2\), \(2,\)"):
        TreePosterior(torch.zeros(3, 2), torch.ones(2), torch.ones(3), 1, 2)
