"""The leaves of a VAE's codes, and the tree above them, as the start of a tree prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from priory.data import Data
from priory.inference.codes import StageOfCodes
from priory.priors import NestedCRP

GROUP = "group"
"""The data's column of the group of each row, `(n,)`; rows of a group share their leaf."""


@dataclass(frozen=True, kw_only=True)
class TreeOfCodes(StageOfCodes):
    r"""A stage at whose end a tree prior gets its leaves from the training codes.

    .. math:: m, c = \arg\min \sum_g n_g \, |W^{-1/2} (\bar\mu_g - m_{c(g)})|^2, \qquad
        \mathrm{tree} = \arg\max \log p(W^{-1/2} m \mid \mathrm{tree})

    The leaves are the centres of k-means on the codes, which are the posterior's means; where the
    data have a column `group`, on each group's mean code, as the rows of a group share their leaf
    (Goyal et al., 2017, cluster videos by their frames). W is the codes' covariance within groups,
    or else within the leaves of a first k-means: in its units codes are as wide about a leaf in all
    directions, as the prior has them, whatever linear map of the codes a net has found. Which
    leaves have a parent in common is then found by `assembled`. A leaf's weight is its share of the
    rows, and s is the standard deviation of the rows' posteriors about their leaves.

    Args:
        starts: Of k-means, and of the search for the tree; the best is kept.
        groups: Whether to use the column `group`, where there is one.

    Raises:
        ValueError: There is no start.

    Example:
        >>> from priory.inference import MAP, TreeOfCodes
        >>> from priory.priors import NestedCRP
        >>> stage = TreeOfCodes(name="codes", objective=ELBO(), frozen=("prior",), steps=2)
        >>> pair = VAE(NestedCRP(2, 2), latent=2)
        >>> run = fit(pair, ELBO() + MAP(), data, stages=[stage], steps=1)
        >>> sorted(run.history[0].keys() & {"stage", "log_p_tree", "log_p_z"})
        ['log_p_tree', 'log_p_z', 'stage']
    """

    starts: int = 20
    groups: bool = True

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
        """Find leaves and tree, and give them to the prior.

        Returns:
            The mean log density of the codes as `log_p_z`, and that of the tree's own parameters as
            `log_p_tree`, in nats.

        Raises:
            ValueError: if there are fewer rows or groups than leaves, codes are NaN or infinite or
                do not vary within groups, or the column `group` is not of integers, one for each
                row.
        """
        prior = pair.prior
        found = [*self.posteriors(pair, data)]
        codes = torch.cat([q.mean for q in found]).double().cpu()
        variance = torch.cat([q.variance for q in found]).double().cpu()
        if not codes.isfinite().all():
            raise ValueError(f"the codes of the stage {self.name} are NaN or infinite")
        group = self._group(data)
        within = self._leaves(codes, None, prior, seed) if group is None else group
        unit = self._unit(codes, within)
        leaf = self._leaves(codes @ unit, group, prior, seed)
        means = _means(codes, leaf)
        spread = (codes - means[leaf]).square() + variance
        order = assembled(means @ unit, prior, self.starts, seed)
        weights = torch.bincount(leaf) / len(codes)
        prior.set_leaves(means[order], weights[order], float(spread.mean().sqrt()))
        z = codes.to(prior.offsets)
        return {
            "log_p_z": float(prior().log_prob(z).mean()),
            "log_p_tree": float(prior.log_parameters()),
        }

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

    def _leaves(self, codes: Tensor, group: Tensor | None, prior: NestedCRP, seed: int) -> Tensor:
        """Return the leaf of each row by k-means, on one thread."""
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        leaves, points = len(prior.log_weights()), codes
        rows = torch.ones(len(codes), dtype=torch.float64)
        if group is not None:
            rows = torch.bincount(group).double()
            points = _means(codes, group)
        different = len(points.unique(dim=0))
        if different < leaves:
            raise ValueError(
                f"a tree of {leaves} leaves needs as many different codes of "
                f"{'rows' if group is None else 'groups'}, got {different}: take a smaller tree, "
                "nested-crp:2:2 say, or more rows"
            )
        model = KMeans(leaves, n_init=self.starts, random_state=seed)
        with threadpool_limits(1):  # sums over threads come in any order
            model.fit(points.numpy(), sample_weight=rows.numpy())
        leaf = torch.from_numpy(model.labels_).long()
        return leaf if group is None else leaf[group]


def _means(codes: Tensor, group: Tensor) -> Tensor:
    """Return the mean code of each group."""
    count = torch.bincount(group)
    total = codes.new_zeros(len(count), codes.shape[1]).index_add(0, group, codes)
    return total / count.unsqueeze(-1)


def assembled(means: Tensor, prior: NestedCRP, starts: int, seed: int) -> Tensor:
    r"""Order leaves so that a tree over them has the highest density that exchanges find.

    .. math:: \max_{\mathrm{tree}} \max_{\mathrm{inner}\ m} \sum_c
        \log N(m_c; m_{\mathrm{parent}(c)}, \tau_l^2)

    With the inner nodes at their best, what an exchange of two nodes of one level changes is a
    quadratic form of the means of the leaves below them. From each start, a random order, the
    exchange that gains most is made until none gains, at the leaves and at every level above.

    Args:
        means: Of the leaves, (leaves, latent).
        prior: A tree, for its levels' standard deviations.
        starts: Random orders to begin with.
        seed: Of them.

    Returns:
        The order, (leaves,): the first `branching` of it are the first parent's.

    Example:
        >>> prior = NestedCRP(2, 2)
        >>> prior.build(1, torch.zeros(1, 4))
        >>> order = assembled(torch.tensor([[0.0], [5.0], [0.1], [5.2]]), prior, 1, 0)
        >>> sorted(sorted(pair) for pair in order.view(2, 2).tolist())
        [[0, 2], [1, 3]]
    """
    draw = torch.Generator().manual_seed(seed)
    means = means.double().cpu()
    forms = _forms(prior)
    best, lowest = torch.arange(len(means)), torch.inf
    for _ in range(starts):
        order, level = torch.randperm(len(means), generator=draw), prior.depth
        while level > 1:
            moved = _exchanged(means[order], forms[level])
            if moved is None:
                level -= 1
            else:
                order, level = order.view(len(moved), -1)[moved].flatten(), prior.depth
        value = float((forms[prior.depth] * (means[order] @ means[order].mT)).sum())
        if value < lowest:
            best, lowest = order, value
    return best


def _forms(prior: NestedCRP) -> list[Tensor]:
    """Return the precision of the means of the leaves below each node, for all levels.

    Given its parent a node has variance tau^2, and the mean of the leaves below it adds their own.
    """
    b, tau = prior.branching, prior.tau.double().cpu().square()
    below = [torch.zeros((), dtype=torch.float64)]
    for variance in tau.flip(0):
        below.insert(0, (below[0] + variance) / b)
    forms = []
    for level in range(prior.depth + 1):
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
