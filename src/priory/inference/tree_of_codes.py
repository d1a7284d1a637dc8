"""The tree of a VAE's codes as the start of a tree prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from priory.data import Data
from priory.inference.codes import StageOfCodes
from priory.inference.tree_posterior import TreePosterior
from priory.priors import NestedCRP

GROUP = "group"
"""The data's column of the group of each row, `(n,)`; rows of a group share their leaf."""


@dataclass(frozen=True, kw_only=True)
class TreeOfCodes(StageOfCodes):
    r"""A stage at whose end a tree prior gets its tree from the training codes.

    .. math:: \max_{\mathrm{tree},\, q,\, s,\, \tau} \;
        \mathrm{E}_{q(m)\, q(v)\, q(c)} \log
        \frac{p(W^{-1/2} z, m, v, c)}{q(m)\, q(v)\, q(c)}

    `TreePosterior` is fitted to the codes z, the means of q(z), with a path for each group of rows,
    which the data's column `group` says, else for each row (Goyal et al., 2017, cluster videos by
    their frames). Its tree grows and loses nodes within the prior's depth and branching, which is
    what the data need and not more. W is the covariance of the codes' means within groups, or else
    within the leaves of a first k-means: in its units codes are as wide about a leaf in all
    directions, as the prior has them, whatever linear map of the codes a net has found.

    The first start is the tree that the prior has. The others are leaves by k-means, with the most
    probable tree of 2 to `branching` children over them by `assembled`; of all fits the one of the
    highest bound is kept. The prior gets the posterior's means of nodes and sticks, and the
    standard deviation of the codes about their leaves.

    After a training of the prior the stage may come again, so that sweeps and gradient steps
    alternate, as in the paper: `stages=[TreeOfCodes(name="codes", ...), TreeOfCodes(name="more",
    ...)]`.

    Args:
        starts: Of the posterior's fit; the best is kept.
        groups: Whether to use the column `group`, where there is one.
        variances: Whether the variances of q(z) count as spread about a leaf, so that the bound is
            in expectation over q(z), as the pair's. A net that was trained with a normal prior has
            them as wide as that prior lets them be, which may hide all clusters.
        most: Groups, drawn at random, on which the tree is searched; sweeps on all follow.

    Raises:
        ValueError: There is no start, or no group to search on.

    Example:
        >>> from priory.inference import MAP, TreeOfCodes
        >>> from priory.priors import NestedCRP
        >>> stage = TreeOfCodes(name="codes", objective=ELBO(), frozen=("prior",), steps=2)
        >>> pair = VAE(NestedCRP(2, 2), latent=2)
        >>> run = fit(pair, ELBO() + MAP(), data, stages=[stage], steps=1)
        >>> sorted(run.history[0].keys() & {"stage", "log_p_tree", "log_p_z", "nodes_level2"})
        ['log_p_tree', 'log_p_z', 'nodes_level2', 'stage']
    """

    groups: bool = True
    variances: bool = False
    most: int = 3000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most < 1:
            raise ValueError(f"most must be at least 1, got {self.most}")

    def check(self, pair: Any) -> None:
        """Raise unless the pair has a tree prior and a normal posterior of the same latent.

        Raises:
            ValueError: if it has not, and why.
        """
        super().check(pair)
        if not isinstance(getattr(pair, "prior", None), NestedCRP):
            raise ValueError(
                f"the stage {self.name} finds the leaves of a tree; take prior=NestedCRP(3, 3), "
                "nested-crp:3:3 in a text"
            )
        self.check_encoder(pair)

    @torch.no_grad()
    def finish(self, pair: Any, data: Data, seed: int) -> dict[str, float]:
        """Find the tree, and give it to the prior.

        Returns:
            The mean log density of the codes as `log_p_z`, and that of the tree's own parameters as
            `log_p_tree`, in nats; the posterior's bound for each row, in nats of the codes, as
            `tree_bound`; and the number of nodes of each level, as `nodes_level1` and so on.

        Raises:
            ValueError: if codes are NaN or infinite or do not vary within groups, or the column
                `group` is not of integers, one for each row.
        """
        prior = pair.prior
        found = [*self.posteriors(pair, data)]
        codes = torch.cat([q.mean for q in found]).double().cpu()
        variance = torch.cat([q.variance for q in found]).double().cpu()
        if not codes.isfinite().all():
            raise ValueError(f"the codes of the stage {self.name} are NaN or infinite")
        group = self._group(data)
        within = _clusters(codes, len(prior.log_weights()), seed) if group is None else group
        unit = self._unit(codes, within)
        group = torch.arange(len(codes)) if group is None else group
        wide = variance if self.variances else torch.zeros_like(variance)
        best = self._searched(prior, codes, wide, group, unit, seed)
        back = torch.linalg.inv(unit)
        means = [mean @ back for mean in best.means()]
        squares = (codes.unsqueeze(1) - means[-1]).square().mean(-1)
        spread = (best.paths[group] * squares).sum(1) + variance.mean(1)
        parents = [torch.tensor(above) for above in best.parents]
        prior.set_tree(parents, means, best.shares(), float(spread.mean().sqrt()))
        return {
            "log_p_z": float(prior().log_prob(codes.to(prior.offsets)).mean()),
            "log_p_tree": float(prior.log_parameters()),
            "tree_bound": best.bound() / len(codes) + float(torch.linalg.slogdet(unit)[1]),
            **{f"nodes_level{n}": float(size) for n, size in enumerate(best.sizes(), 1)},
        }

    def _searched(
        self,
        prior: NestedCRP,
        codes: Tensor,
        variance: Tensor,
        group: Tensor,
        unit: Tensor,
        seed: int,
    ) -> TreePosterior:
        """Return the best posterior of all starts, on all groups."""
        kept = torch.arange(int(group.max()) + 1)
        if len(kept) > self.most:
            draw = torch.Generator().manual_seed(seed)
            kept = torch.randperm(len(kept), generator=draw)[: self.most].sort().values
        points, rows = _means(codes, group) @ unit, torch.bincount(group)
        rest = (codes @ unit - points[group]).square().sum(1) + variance @ unit.square().sum(1)
        rest = rest.new_zeros(len(points)).index_add(0, group, rest)

        def posterior(some: Tensor) -> TreePosterior:
            size = (prior.depth, prior.branching, prior.concentration)
            return TreePosterior(points[some], rows[some], rest[some], *size)

        scale = float((1 + (variance @ unit.square().sum(1)).mean() / codes.shape[1]).sqrt())
        tau = prior.tau.double().cpu() / prior.tau.norm().cpu() * points.std(0).norm()
        widths = (tau / codes.shape[1] ** 0.5).tolist()
        own = prior.group_components(codes.to(prior.offsets), group.to(prior.offsets.device))
        found = []
        for start in range(self.starts):
            leaf, children = own.argmax(1).cpu()[kept], prior.branching
            if start:
                leaf, children = self._balanced(points[kept], rows[kept], prior, start, seed)
            tried = posterior(kept)
            tried.begin(leaf, _even(children, prior.depth), scale, widths)
            found.append((tried.fit(), tried))
        best = max(found, key=lambda each: each[0])[1]
        return best if len(kept) == len(points) else best.on(points, rows, rest)

    def _balanced(
        self, points: Tensor, rows: Tensor, prior: NestedCRP, start: int, seed: int
    ) -> tuple[Tensor, int]:
        """Return the leaf of each group in an even tree, and the children of each of its nodes.

        There are fewer the more starts there were, from as many as the prior allows down to 2, and
        so few that a leaf has two different groups.
        """
        different = len(points.unique(dim=0)) // 2
        fitting = [b for b in range(prior.branching, 1, -1) if b**prior.depth <= different]
        if not fitting:
            return torch.zeros(len(points), dtype=torch.long), 1
        children = fitting[(start - 1) % len(fitting)]
        leaves = children**prior.depth
        leaf = _clusters(points, leaves, seed + start, rows)
        order = assembled(_means(points, leaf), prior.tau, children, 5, seed + start)
        return order.argsort()[leaf], children

    def _group(self, data: Data) -> Tensor | None:
        """Return the number of each training row's group, from 0, if there are groups."""
        if not self.groups or GROUP not in data.train.columns:
            return None
        group = data.train.columns[GROUP].cpu()
        if group.dim() != 1 or group.is_floating_point():
            raise ValueError(
                f"the column {GROUP!r} must have an integer for each row, got {group.dtype} of "
                f"shape {tuple(group.shape)}; leave it out, or set groups=False"
            )
        return group.unique(return_inverse=True)[1]

    def _unit(self, codes: Tensor, within: Tensor) -> Tensor:
        """Return a matrix by which codes get the covariance 1 within groups."""
        rest = codes - _means(codes, within)[within]
        factor, failed = torch.linalg.cholesky_ex(rest.mT @ rest / len(rest))
        freedom = len(codes) - int(within.max()) - 1
        if failed or freedom < codes.shape[1]:
            raise ValueError(
                f"the stage {self.name} needs codes that vary within groups or leaves in each of "
                f"{codes.shape[1]} coordinates; {len(codes)} rows in {int(within.max()) + 1} do "
                "not: take more rows, fewer coordinates, or, with groups, groups=False"
            )
        return torch.linalg.inv(factor).mT


def _even(children: int, depth: int) -> list[list[int]]:
    """Return the parents of the nodes of a tree where each has as many children."""
    return [[node // children for node in range(children**at)] for at in range(1, depth + 1)]


def _clusters(points: Tensor, most: int, seed: int, rows: Tensor | None = None) -> Tensor:
    """Return the cluster of each point by k-means, on one thread."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = KMeans(min(most, len(points.unique(dim=0))), n_init=1, random_state=seed)
    with threadpool_limits(1):  # sums over threads come in any order
        model.fit(points.numpy(), sample_weight=None if rows is None else rows.double().numpy())
    return torch.from_numpy(model.labels_).unique(return_inverse=True)[1]


def _means(codes: Tensor, group: Tensor) -> Tensor:
    """Return the mean code of each group."""
    count = torch.bincount(group)
    total = codes.new_zeros(len(count), codes.shape[1]).index_add(0, group, codes)
    return total / count.unsqueeze(-1)


def assembled(means: Tensor, tau: Tensor, branching: int, starts: int, seed: int) -> Tensor:
    r"""Order leaves so that a tree over them has the highest density that exchanges find.

    .. math:: \max_{\mathrm{tree}} \max_{\mathrm{inner}\ m} \sum_c
        \log N(m_c; m_{\mathrm{parent}(c)}, \tau_l^2)

    over the trees in which each node has as many children. With the inner nodes at their best, what
    an exchange of two nodes of one level changes is a quadratic form of the means of the leaves
    below them. From each start, a random order, the exchange that gains most is made until none
    gains, at the leaves and at every level above.

    Args:
        means: Of the leaves, (leaves, latent).
        tau: Standard deviation of the nodes of each level about their parents, (levels,).
        branching: Number of a node's children.
        starts: Random orders to begin with.
        seed: Of them.

    Returns:
        The order, (leaves,): the first `branching` of it are the first parent's.

    Example:
        >>> from priory.inference.tree_of_codes import assembled
        >>> leaves, tau = torch.tensor([[0.0], [5.0], [0.1], [5.2]]), torch.tensor([1.0, 0.5])
        >>> sorted(sorted(pair) for pair in assembled(leaves, tau, 2, 1, 0).view(2, 2).tolist())
        [[0, 2], [1, 3]]
    """
    draw = torch.Generator().manual_seed(seed)
    means = means.double().cpu()
    forms = _forms(tau.double().cpu().square(), branching)
    best, lowest = torch.arange(len(means)), torch.inf
    for _ in range(starts):
        order, level = torch.randperm(len(means), generator=draw), len(tau)
        while level > 1:
            moved = _exchanged(means[order], forms[level])
            if moved is None:
                level -= 1
            else:
                order, level = order.view(len(moved), -1)[moved].flatten(), len(tau)
        value = float((forms[-1] * (means[order] @ means[order].mT)).sum())
        if value < lowest:
            best, lowest = order, value
    return best


def _forms(tau: Tensor, b: int) -> list[Tensor]:
    """Return the precision of the means of the leaves below each node, for all levels.

    Given its parent a node has variance tau, and the mean of the leaves below it adds their own.
    """
    below = [torch.zeros((), dtype=torch.float64)]
    for variance in tau.flip(0):
        below.insert(0, (below[0] + variance) / b)
    forms = []
    for level in range(len(tau) + 1):
        node = torch.arange(b**level)
        covariance = below[level] * torch.eye(len(node), dtype=torch.float64)
        for at in range(1, level + 1):
            above = node // b ** (level - at)
            covariance += tau[at - 1] * (above.unsqueeze(1) == above)
        forms.append(torch.linalg.inv(covariance) if level else covariance)
    return forms


def _exchanged(leaves: Tensor, form: Tensor) -> Tensor | None:
    """Return the order of a level's nodes after the exchange that gains most, None if none gains.

    With u = e_i - e_j, exchanging i and j changes tr(QF) by -2 u'FQu + (u'Fu)(u'Qu).
    """
    nodes = leaves.view(len(form), -1, leaves.shape[-1]).mean(1)
    product = nodes @ nodes.mT
    change = _around(product) * _around(form) - 2 * _around(product @ form)
    at = int(change.argmin())
    if change.flatten()[at] > -1e-9 * (form * product).sum():
        return None
    order, (i, j) = torch.arange(len(form)), divmod(at, len(form))
    order[i], order[j] = j, i
    return order


def _around(matrix: Tensor) -> Tensor:
    """Return u'Au for the u = e_i - e_j of all pairs."""
    own = matrix.diagonal()
    return own.unsqueeze(0) + own.unsqueeze(1) - matrix - matrix.mT
