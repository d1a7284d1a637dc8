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
    means, node = drawn(leaves, LATENT), torch.arange(leaves)
    levels = range(1, depth + 1)
    above = [node // branching ** (depth - k) for k in levels]
    # Leaves, given the root: covariances by ancestors in common. The best inner nodes leave the
    # same quadratic form as integrating them out, all being normal.
    shared = [
        (n.unsqueeze(0) == n.unsqueeze(1)) * t**2 for n, t in zip(above, prior.tau, strict=True)
    ]
    precision = torch.linalg.inv(torch.stack(shared).sum(0))

    def density(order):
        return -0.5 * (precision * (means[order] @ means[order].mT)).sum().item()

    orders = [*trees([(leaf,) for leaf in range(leaves)], branching)]
    assert len(orders) == count
    densities = sorted(density(list(order)) for order in orders)
    assert densities[-2] < densities[-1] - 1e-3
    found = assembled(means, prior.tau, branching, 5, 0)
    assert density(found) == pytest.approx(densities[-1], abs=1e-8)


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


def finished(data, by=None, scale=0.1, size=(2, 2), **options):
    """The tree that the stage makes of data that are their own codes, with the same scale."""
    prior, by = tree(*size), torch.eye(LATENT) if by is None else by
    coded = SimpleNamespace(prior=prior, encoder=lambda x: Normal(x @ by, scale))
    stage = TreeOfCodes(name="codes", objective=ELBO(), **options)
    return prior, stage.finish(coded, data, 0)


@pytest.mark.parametrize("groups", [True, False])
def test_leaves_are_the_clusters_of_codes_and_near_ones_have_a_parent(groups):
    data = rows()
    prior, found = finished(data, groups=groups)
    x, leaf = data.train.x, data.train.columns["group"] % 4
    exact = torch.stack([x[leaf == k].mean(0) for k in range(4)])
    order = torch.cdist(prior.means(), exact).argmin(1)
    torch.testing.assert_close(prior.means(), exact[order], atol=0.01, rtol=0)  # less the shrinkage
    assert {frozenset(pair) for pair in order.view(2, 2).tolist()} == {
        frozenset((0, 2)), frozenset((1, 3)),
    }  # fmt: skip
    counted = (data.train.columns["group"].unique() if groups else leaf) % 4
    counts = counted.bincount()[order].double()  # of which each stick has one more, by its prior
    sticks = [(counts[:2].sum(), counts[2:].sum()), (counts[0], counts[1]), (counts[2], counts[3])]
    first = [float((1 + one) / (2 + one + two)) for one, two in sticks]
    torch.testing.assert_close(prior.log_odds.flatten(), torch.logit(torch.tensor(first)))
    scale = ((x - prior.means()[order.argsort()[leaf]]).square().mean() + 0.01).sqrt()
    torch.testing.assert_close(prior.log_scale.exp(), scale)
    assert found["log_p_tree"] == pytest.approx(prior.log_parameters().item())
    assert found["log_p_z"] == pytest.approx(prior().log_prob(x).mean().item())
    assert (found["nodes_level1"], found["nodes_level2"]) == (2.0, 4.0)
    again, _ = finished(data, groups=groups)
    assert all(map(torch.equal, prior.parameters(), again.parameters()))


def test_a_linear_map_of_the_codes_leaves_rows_and_tree_as_they_are():
    data, skewed = rows(noise=0.5), torch.tensor([[3.0, 1.0], [0.0, 0.05]])
    (one, first), (other, second) = (
        finished(data, by=by, scale=1e-9) for by in (torch.eye(2), skewed)
    )
    same = torch.cdist(other.means(), one.means() @ skewed).argmin(1)
    torch.testing.assert_close(other.means(), one.means()[same] @ skewed)
    torch.testing.assert_close(other.log_weights(), one.log_weights()[same])
    shift = torch.linalg.slogdet(skewed)[1].item()  # of the density, by the volume
    assert second["tree_bound"] == pytest.approx(first["tree_bound"] - shift, abs=1e-6)


def test_places_that_the_data_do_not_need_stay_free():
    """Four clusters in a tree that has room for 27, for more leaves than there are groups."""
    data = rows()
    prior, found = finished(data, size=(3, 3))
    assert found["nodes_level3"] == prior.in_use().sum().item() == 4
    codes = prior.group_components(data.train.x, data.train.columns["group"]).argmax(1)
    assert len(codes.unique()) == 4
    assert prior().log_prob(data.train.x).isfinite().all()


def test_variances_may_count_as_spread_about_a_leaf():
    data = rows(noise=0.2)
    _, found = finished(data, variances=True)
    _, points = finished(data)
    assert (found["nodes_level2"], points["nodes_level2"]) == (4.0, 4.0)
    assert found["tree_bound"] < points["tree_bound"]
    _, hidden = finished(data, scale=5.0, variances=True)
    assert (hidden["nodes_level1"], hidden["nodes_level2"]) == (1.0, 1.0)
    _, points = finished(data, scale=5.0)
    assert points["nodes_level2"] == 4.0


def test_a_second_stage_begins_with_the_tree_that_there_is():
    """Of one start, which is the prior's own tree, swept again."""
    data = rows()
    prior, found = finished(data)
    coded = SimpleNamespace(prior=prior, encoder=lambda x: Normal(x, 0.1))
    before = prior.means().clone()
    again = TreeOfCodes(name="more", objective=ELBO(), starts=1).finish(coded, data, 7)
    torch.testing.assert_close(prior.means(), before, atol=1e-3, rtol=0)
    assert again["tree_bound"] == pytest.approx(found["tree_bound"], abs=1e-5)


def test_the_tree_of_some_groups_is_swept_on_all():
    data = rows()
    prior, found = finished(data, most=8)
    assert (found["nodes_level1"], found["nodes_level2"]) == (2.0, 4.0)
    exact, _ = finished(data)
    order = torch.cdist(prior.means(), exact.means()).argmin(1)
    torch.testing.assert_close(prior.means(), exact.means()[order], atol=1e-3, rtol=0)
    torch.testing.assert_close(prior.log_weights(), exact.log_weights()[order], atol=0.01, rtol=0)


def test_rows_of_a_group_have_one_leaf():
    """Groups of two rows up and two down: a leaf has all four, and by themselves rows have two."""
    up = torch.tensor([0.0, 1.0]) * (1 - 2 * (torch.arange(48) // 12 % 2)).unsqueeze(1)
    data = Data.from_arrays(
        rows().train.x + up, group=rows().train.columns["group"], valid=0, test=0
    )
    found = (finished(data, groups=groups)[0].means() for groups in (True, False))
    near = [torch.cdist(CENTRES, means).min(1).values.max() for means in found]
    assert near[0] < 0.05
    assert near[1] > 0.5


def test_a_run_begins_with_the_tree():
    first = TreeOfCodes(name="codes", objective=ELBO(), frozen=("prior",), steps=2)
    options = {"batch_size": 16, "progress": False, "compile": "off", "valid_every": 0}
    run = fit(pair(), ELBO() + MAP(), rows(), stages=[first], steps=1, lr=1e-13, **options)
    again = tree(2, 2)
    first.finish(SimpleNamespace(prior=again, encoder=run.pair.encoder), run.data, 0)
    torch.testing.assert_close(run.pair.prior.means(), again.means(), atol=1e-6, rtol=0)
    torch.testing.assert_close(run.pair.prior.log_weights(), again.log_weights())
    assert torch.equal(run.pair.prior.degrees, again.degrees)
    assert run.history[0]["stage"] == "codes"
    assert run.history[0]["nodes_level2"] == again.in_use().sum()


class Broken(Exception):
    """Stands for a process that dies: nothing is saved on the way out."""


def test_a_run_broken_in_any_stage_goes_on_to_the_same_bits(tmp_path):
    """In the first, in a second, which begins with the first's tree, and after both."""

    def run(folder, **more):
        stages = [
            TreeOfCodes(name="codes", objective=ELBO(), frozen=("prior",), steps=6, starts=2),
            TreeOfCodes(name="more", objective=ELBO() + MAP(), steps=6, starts=2),
        ]
        options = {"batch_size": 16, "progress": False, "compile": "off", "valid_every": 0}
        options |= {"folder": folder, "checkpoint_every": 0.0, **more}
        made = pair("nested-crp:2:3")
        return fit(made, ELBO() + MAP(), rows(), stages=stages, steps=6, **options)

    whole = run(tmp_path / "whole")
    assert [row.get("stage") for row in whole.history] == ["codes"] * 2 + ["more"] * 2 + [None] * 2
    for epoch in (1, 3, 4, 5):

        def broken(row, epoch=epoch):
            if row["epoch"] == epoch:
                raise Broken

        folder = tmp_path / f"{epoch}"
        with pytest.raises(Broken):
            run(folder, on_epoch=broken)
        again = run(folder, resume=True)
        states = (each.pair.state_dict().values() for each in (whole, again))
        assert all(map(torch.equal, *states))
        for one, other in zip(whole.history, again.history, strict=True):
            assert {**one, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"prior": "mixture:4"}, "finds the leaves of a tree; take prior=NestedCRP"),
        ({"deterministic": True}, "with a normal posterior"),
        ({"posterior": "full"}, "with a normal posterior"),
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
    with pytest.raises(ValueError, match="most must be at least 1, got 0"):
        TreeOfCodes(name="codes", objective=ELBO(), most=0)
