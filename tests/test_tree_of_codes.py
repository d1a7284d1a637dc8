"""The start of a tree prior: leaves of codes, and the best tree over them by enumeration."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Normal

from priory import fit
from priory.data import Data
from priory.inference import ELBO, MAP, TreeOfCodes
from priory.inference.tree_of_codes import assembled
from priory.models import VAE
from priory.nets import MLP
from priory.parsing import parse
from priory.priors import PRIORS, NestedCRP

pytestmark = pytest.mark.usefixtures("double")

LATENT = 2


def tree(depth, branching):
    prior = NestedCRP(depth, branching)
    prior.build(LATENT, torch.zeros(10, 4))
    return prior.double()


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def grouped(items, size):
    """Every partition of items into sets of one size."""
    if not items:
        yield []
        return
    for others in itertools.combinations(items[1:], size - 1):
        rest = [item for item in items[1:] if item not in others]
        for more in grouped(rest, size):
            yield [(items[0], *others), *more]


def trees(leaves, branching):
    """The order of the leaves in each tree over them, all nodes of a level with one number."""
    if len(leaves) <= branching:
        yield [leaf for node in leaves for leaf in node]
        return
    for parents in grouped(leaves, branching):
        yield from trees([sum(children, ()) for children in parents], branching)


@pytest.mark.parametrize(("depth", "branching", "count"), [(2, 2, 3), (2, 3, 280), (3, 2, 315)])
def test_the_tree_is_the_most_probable_of_all(depth, branching, count):
    prior, leaves = tree(depth, branching), branching**depth
    means, equal = drawn(leaves, LATENT), torch.full((leaves,), 1 / leaves)

    def density(order):
        prior.set_leaves(means[order], equal, 0.1)
        return prior.log_parameters().item()

    orders = [*trees([(leaf,) for leaf in range(leaves)], branching)]
    assert len(orders) == count
    densities = sorted(density(order) for order in orders)
    assert densities[-2] < densities[-1] - 1e-3
    assert density(assembled(means, prior, 5, 0)) == pytest.approx(densities[-1], abs=1e-8)


def test_leaves_are_where_they_are_put_and_no_better_place_is_above_them():
    prior = tree(3, 2)
    means, weights = drawn(8, LATENT), drawn(8).softmax(0)
    prior.set_leaves(means, weights, 0.3)
    torch.testing.assert_close(prior.means(), means)
    torch.testing.assert_close(prior.log_weights().exp(), weights)
    assert prior.log_scale.exp().item() == pytest.approx(0.3)
    inner = [prior.means(level).detach().requires_grad_() for level in (1, 2)]
    total, above = torch.zeros(()), prior.means(0)
    for tau, level in zip(prior.tau, (*inner, means), strict=True):
        total = total - 0.5 * ((level - above.repeat_interleave(2, 0)) / tau).square().sum()
        above = level
    for slope in torch.autograd.grad(total, inner):
        torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-10, rtol=0)
    for given, words in (
        ((means[:4], weights, 0.3), r"needs means \(8, 2\) and weights \(8,\), got \(4, 2\)"),
        ((means, weights - weights.max(), 0.3), "must be positive"),
        ((means, weights, 0.0), "must be positive"),
    ):
        with pytest.raises(ValueError, match=words):
            prior.set_leaves(*given)


# --- the stage ----------------------------------------------------------------------------------

CENTRES = torch.tensor([[-2.0, -1.8], [1.5, 1.0], [-1.5, -2.0], [1.2, 1.6]], dtype=torch.float64)


def rows(noise=0.02, **columns):
    """48 rows about four centres, in 12 groups whose rows are apart in the order."""
    group = torch.arange(48) % 12
    z = CENTRES[group % 4] + noise * drawn(48, LATENT)
    held = {"x_valid": z[:4], "group_valid": group[:4], "x_test": z[:4], "group_test": group[:4]}
    return Data.from_arrays(z, **{"group": group, **held, **columns})


def pair(prior="nested-crp:2:2", **options):
    prior = parse("prior", prior, PRIORS)
    return VAE(prior, MLP((4,)), MLP((4,)), "normal", LATENT, **options)


def finished(data, by=None, **options):
    """The tree that the stage makes of data that are their own codes, with variance 0.01."""
    prior, by = tree(2, 2), torch.eye(LATENT) if by is None else by
    coded = SimpleNamespace(prior=prior, encoder=lambda x: Normal(x @ by, 0.1))
    stage = TreeOfCodes(name="codes", objective=ELBO(), **options)
    return prior, stage.finish(coded, data, 0)


@pytest.mark.parametrize("groups", [True, False])
def test_leaves_are_the_clusters_of_codes_and_near_ones_have_a_parent(groups):
    data = rows()
    prior, found = finished(data, groups=groups)
    x, leaf = data.train.x, data.train.columns["group"] % 4
    exact = torch.stack([x[leaf == k].mean(0) for k in range(4)])
    order = torch.cdist(prior.means(), exact).argmin(1)
    torch.testing.assert_close(prior.means(), exact[order])
    assert {frozenset(pair) for pair in order.view(2, 2).tolist()} == {
        frozenset((0, 2)), frozenset((1, 3)),
    }  # fmt: skip
    counts = leaf.bincount()[order]
    torch.testing.assert_close(prior.log_weights().exp(), counts / len(x))
    scale = ((x - exact[leaf]).square().mean() + 0.01).sqrt()
    torch.testing.assert_close(prior.log_scale.exp(), scale)
    assert found["log_p_tree"] == pytest.approx(prior.log_parameters().item())
    assert found["log_p_z"] == pytest.approx(prior().log_prob(x).mean().item())
    again, _ = finished(data, groups=groups)
    assert all(map(torch.equal, prior.parameters(), again.parameters()))


def test_a_linear_map_of_the_codes_leaves_rows_and_tree_as_they_are():
    data, skewed = rows(noise=0.5), torch.tensor([[3.0, 1.0], [0.0, 0.05]])
    (one, _), (other, _) = (finished(data, by=by) for by in (torch.eye(2), skewed))
    same = torch.cdist(other.means(), one.means() @ skewed).argmin(1)
    torch.testing.assert_close(other.means(), one.means()[same] @ skewed)
    torch.testing.assert_close(other.log_weights(), one.log_weights()[same])
    assert (same // 2).tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_rows_of_a_group_have_one_leaf():
    """Among codes so wide that clusters of single rows cut through the groups."""
    data = rows(noise=1.5)
    sizes = data.train.columns["group"].unique(return_counts=True)[1].tolist()
    sums = {sum(part) for n in range(13) for part in itertools.combinations(sizes, n)}
    assert len({*sizes}) == 1
    with_groups, without = (
        (finished(data, groups=groups)[0].log_weights().exp() * 48).round().int().tolist()
        for groups in (True, False)
    )
    assert {*with_groups} <= sums
    assert not {*without} <= sums


def test_a_run_begins_with_the_tree():
    first = TreeOfCodes(name="codes", objective=ELBO(), frozen=("prior",), steps=2)
    options = {"batch_size": 16, "progress": False, "compile": "off", "valid_every": 0}
    run = fit(pair(), ELBO() + MAP(), rows(), stages=[first], steps=1, lr=1e-13, **options)
    again = tree(2, 2)
    first.finish(SimpleNamespace(prior=again, encoder=run.pair.encoder), run.data, 0)
    same = torch.cdist(run.pair.prior.means(), again.means()).argmin(1)
    torch.testing.assert_close(run.pair.prior.means(), again.means()[same])
    assert (same // 2).tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    assert run.history[0]["stage"] == "codes"


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"prior": "mixture:4"}, "finds the leaves of a tree; take prior=NestedCRP"),
        ({"deterministic": True}, "with a normal posterior"),
        ({"posterior": "full"}, "with a normal posterior"),
        ({"prior": "nested-crp:2:4"}, "16 leaves needs as many different codes of groups, got 12"),
    ],
)
def test_a_pair_that_the_tree_does_not_suit_is_refused(made, words):
    first = TreeOfCodes(name="codes", objective=ELBO(), steps=1)
    with pytest.raises(ValueError, match=words):
        fit(pair(**made), ELBO(), rows(), stages=[first], steps=1, progress=False, compile="off")


def test_groups_are_integers_and_starts_are_there():
    with pytest.raises(ValueError, match="must have an integer for each row"):
        finished(rows(group=torch.rand(48), group_valid=torch.rand(4), group_test=torch.rand(4)))
    alone = torch.arange(48)
    with pytest.raises(ValueError, match="48 rows in 48 do not: take more rows"):
        finished(rows(group=alone))
    with pytest.raises(ValueError, match="starts must be at least 1, got 0"):
        TreeOfCodes(name="codes", objective=ELBO(), starts=0)
