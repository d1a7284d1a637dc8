"""The nested Chinese restaurant process: a mixture whose components are the leaves of a tree."""

import math
from collections.abc import Sequence

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from priory.lookup import positive
from priory.priors.base import Encode, Prior
from priory.priors.mixture import NormalMixture


class NestedCRP(Prior):
    r"""The nested Chinese restaurant process, truncated: normals about the leaves of a tree.

    .. math:: m_c \sim N(m_{\mathrm{parent}(c)}, \tau_l^2), \quad v \sim \mathrm{Beta}(1, a),
        \qquad p(z) = \sum_{\mathrm{leaves}\ c} w_c \, N(z; m_c, s^2)

    Goyal, Hu, Liang, Wang and Xing, 2017, Nonparametric variational auto-encoders for hierarchical
    representation learning. Every inner node at level l has `branching` children at level l + 1,
    whose shares are its stick broken as in `StickBreaking`, the last child having what remains;
    w_c is the product of the shares on the path to c, and the root's mean is 0. The path is summed
    out. Means, shares and s are parameters: a bound on log p(x) is one for these parameters, and
    without the term `MAP` it is maximised by them alone. With it the tree's own prior enters,
    log p(m, v) in each row by 1/n; what is bounded then is log p(x, m, v), at a point of m and v.

    At the start all shares are equal, the nodes stand close to their parents, and the whole mixture
    has mean 0 and variance 1 in each coordinate: as s falls, the levels part one after the other,
    the first before those below, as in annealing. The :math:`\tau_l` stay what they are: a point of
    m has the highest density at :math:`\tau = 0`, so that they cannot be learned with it.

    `branching` is the most children that a node may have. All have as many at the start; `set_tree`
    takes any tree within that, in which a node's last child has what remains of its stick. Places
    that are then not in use have no weight, and no share in the tree's density.

    Args:
        depth: Number of levels below the root.
        branching: Number of a node's children, at most.
        concentration: The a of the Beta distribution.
        spread: Standard deviation of the leaves' means by all :math:`\tau_l` together, below 1.
        ratio: Of :math:`\tau_{l+1}` to :math:`\tau_l`.
        start: Distance of a node from its parent at the start, in units of :math:`\tau_l`, 1 at
            most.
        seed: Of the means at the start.
        rows: The number n of training rows; by default all that `fit` is given, without `fit` those
            that `build` sees.

    Raises:
        ValueError: A number isn't positive, the spread is outside (0, 1) or the start outside
            (0, 1], or there are fewer than 2 children.

    Example:
        >>> prior = NestedCRP(depth=2, branching=3)
        >>> prior.build(2, torch.zeros(1, 4))
        >>> prior().components(torch.zeros(7, 2)).shape, prior.means(1).shape
        (torch.Size([7, 9]), torch.Size([3, 2]))
        >>> prior.at_level(torch.eye(9), 1).sum(0)
        tensor([3., 3., 3.])
    """

    name = "nested-crp"
    tau: Tensor
    size: Tensor
    degrees: Tensor

    def __init__(
        self,
        depth: int = 3,
        branching: int = 3,
        concentration: float = 1.0,
        spread: float = 0.95,
        ratio: float = 0.5,
        start: float = 0.1,
        seed: int = 0,
        rows: int | None = None,
    ) -> None:
        super().__init__()
        if positive("branching", branching) < 2:
            raise ValueError(
                "branching must be at least 2, got 1: a node's only child adds nothing"
            )
        if not 0 < spread < 1:
            raise ValueError(f"spread must be above 0 and below 1, got {spread}")
        if not 0 < start <= 1:
            raise ValueError(f"start must be above 0 and at most 1, got {start}")
        for option, value in (("concentration", concentration), ("ratio", ratio)):
            if not value > 0:
                raise ValueError(f"{option} must be positive, got {value}")
        self.depth, self.branching = positive("depth", depth), branching
        self.concentration, self.spread, self.ratio = concentration, spread, ratio
        self.start, self.seed = start, seed
        self.rows = None if rows is None else positive("rows", rows)

    def make(self, latent: int, x: Tensor, encode: Encode | None) -> None:  # noqa: ARG002
        """Make the nodes' offsets from their parents, the log-odds of the shares, and s."""
        draw = torch.Generator().manual_seed(self.seed)
        dtype, b = torch.get_default_dtype(), self.branching
        inner = sum(b**level for level in range(self.depth))
        offsets = torch.randn(inner, b, latent, generator=draw, dtype=torch.float64)
        offsets = (offsets - offsets.mean(1, True)) / offsets.std(1, correction=0, keepdim=True)
        self.offsets = nn.Parameter(self.start * offsets.flatten(0, 1).to(dtype))
        # Of k children that are left, the first takes 1/k of what remains: log-odds -log(k - 1).
        left = torch.arange(b - 1, 0, -1, dtype=dtype)
        self.log_odds = nn.Parameter(-left.log().repeat(inner, 1))
        scale = 0.5 * math.log(1 - (self.start * self.spread) ** 2)
        self.log_scale = nn.Parameter(torch.tensor(scale, dtype=dtype))
        tau = self.ratio ** torch.arange(self.depth, dtype=torch.float64)
        tau = tau * self.spread / tau.square().sum().sqrt()
        self.register_buffer("tau", tau.to(dtype), persistent=False)
        self.register_buffer("degrees", torch.full((inner,), b))
        size = len(x) if self.rows is None else self.rows
        self.register_buffer("size", torch.tensor(float(size), dtype=dtype))

    def means(self, level: int | None = None) -> Tensor:
        """Return the means of a level's nodes, (branching**level, latent); by default the leaves'.

        Args:
            level: From 0, the root, to the depth.

        Raises:
            ValueError: There is no such level.
            RuntimeError: The prior is not built.
        """
        mean = self.offsets.new_zeros(1, self.latent)
        for offsets, tau in self._by_level(self.offsets, level, first=1):
            mean = mean.repeat_interleave(self.branching, 0) + tau * offsets
        return mean

    def log_weights(self, level: int | None = None) -> Tensor:
        r"""Return the log probabilities of a level's nodes, likewise.

        Those of places that are not in use are :math:`-\infty`.
        """
        weight = self.log_odds.new_zeros(1)
        place = torch.arange(self.branching, device=weight.device)
        counts = self._by_level(self.degrees, level, first=0)
        for (log_odds, _), (count, _) in zip(
            self._by_level(self.log_odds, level, first=0), counts, strict=True
        ):
            none = torch.zeros_like(log_odds[:, :1])
            before = torch.cat([none, logsigmoid(-log_odds).cumsum(-1)], -1)
            own = torch.cat([logsigmoid(log_odds), none], -1)
            last, unused = place == count.unsqueeze(1) - 1, place >= count.unsqueeze(1)
            shares = (own.masked_fill(last, 0.0) + before).masked_fill(unused, -torch.inf)
            weight = (weight.unsqueeze(-1) + shares).flatten()
        return weight

    def in_use(self, level: int | None = None) -> Tensor:
        """Return which of a level's places have a node, (branching**level,); by default the leaves.

        Args:
            level: From 0, the root, to the depth.
        """
        used = torch.ones(1, dtype=torch.bool, device=self.degrees.device)
        place = torch.arange(self.branching, device=self.degrees.device)
        for count, _ in self._by_level(self.degrees, level, first=0):
            used = (used.unsqueeze(1) & (place < count.unsqueeze(1))).flatten()
        return used

    def _by_level(
        self, nodes: Tensor, level: int | None, first: int
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the rows of `nodes` of each level from `first` on, each with its tau."""
        self.check_built()
        level = self.depth if level is None else level
        if not 0 <= level <= self.depth:
            raise ValueError(f"level must be from 0, the root, to {self.depth}, got {level}")
        sizes = [self.branching ** (at + first) for at in range(self.depth)]
        return [*zip(nodes.split(sizes), self.tau, strict=True)][:level]

    @torch.no_grad()
    def set_tree(
        self,
        parents: Sequence[Tensor],
        means: Sequence[Tensor],
        shares: Sequence[Tensor],
        scale: float,
    ) -> None:
        """Take a tree, with at most `branching` children to a node.

        Args:
            parents: Of the nodes of each level below the root, (nodes,): their parent's number in
                the level above, in ascending order, so that siblings are adjacent.
            means: Of the same nodes, (nodes, latent).
            shares: Their probabilities among their siblings, (nodes,), positive.
            scale: Standard deviation about a leaf.

        Raises:
            ValueError: The levels are not as many, a tensor's shape is wrong, a node has no
                children or too many or is out of order, shares are not positive or do not sum to 1
                among siblings, or the scale isn't positive.
            RuntimeError: The prior is not built.
        """
        self.check_built()
        b = self.branching
        if not len(parents) == len(means) == len(shares) == self.depth:
            raise ValueError(
                f"needs nodes of {self.depth} levels, got {len(parents)}, {len(means)} and "
                f"{len(shares)}"
            )
        if not scale > 0:
            raise ValueError(f"the leaves' scale must be positive, got {scale}")
        slot, place = torch.zeros(1, dtype=torch.long), torch.zeros(1, self.latent).double()
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for level, tau in enumerate(self.tau.double().cpu()):
            parent, mean = parents[level].cpu(), means[level].double().cpu()
            share = shares[level].double().cpu()
            self._check_level(level + 1, parent, mean, share, len(slot))
            count = torch.bincount(parent)
            rank = torch.arange(len(parent)) - (count.cumsum(0) - count)[parent]
            offsets = torch.zeros(b ** (level + 1), self.latent).double()
            offsets[slot[parent] * b + rank] = (mean - place[parent]) / tau
            each = torch.zeros(b**level, b).double()
            each[slot[parent], rank] = share
            after = each.flip(1).cumsum(1).flip(1)[:, 1:]
            log_odds = torch.where(after > 0, each[:, :-1].log() - after.log(), 0.0)
            children = torch.zeros(b**level, dtype=torch.long).index_put((slot,), count)
            found.append((offsets, log_odds, children))
            slot, place = slot[parent] * b + rank, mean
        for own, part in zip(
            (self.offsets, self.log_odds, self.degrees), zip(*found, strict=True), strict=True
        ):
            own.copy_(torch.cat(part))
        self.log_scale.fill_(math.log(scale))

    def _check_level(
        self, level: int, parent: Tensor, mean: Tensor, share: Tensor, above: int
    ) -> None:
        """Raise unless a level's nodes can stand below those of the level above."""
        nodes, where = len(parent), f"of the {len(parent)} nodes of level {level}"
        if mean.shape != (nodes, self.latent) or share.shape != (nodes,):
            raise ValueError(
                f"needs means {(nodes, self.latent)} and shares {(nodes,)} {where}, got "
                f"{tuple(mean.shape)} and {tuple(share.shape)}"
            )
        if not nodes or bool((parent.diff() < 0).any()) or not 0 <= parent[0] <= parent[-1] < above:
            raise ValueError(f"the parents {where} must ascend from 0 to {above - 1}")
        count = torch.bincount(parent, minlength=above)
        if not bool(((count > 0) & (count <= self.branching)).all()):
            raise ValueError(
                f"each node above level {level} needs 1 to {self.branching} children, got "
                f"{count.tolist()}"
            )
        total = share.new_zeros(above).index_add(0, parent, share)
        if not (bool((share > 0).all()) and torch.allclose(total, torch.ones_like(total))):
            raise ValueError(f"the shares {where} must be positive and sum to 1 among siblings")

    def at_level(self, probabilities: Tensor, level: int) -> Tensor:
        """Sum probabilities of leaves (*batch, leaves) to those of a level's nodes."""
        return probabilities.unflatten(-1, (self.branching**level, -1)).sum(-1)

    def group_components(self, z: Tensor, group: Tensor) -> Tensor:
        r"""Return each group's log joint density with the leaves, where its rows share their path.

        .. math:: \log w_c + \sum_{i \in g} \log N(z_i; m_c, s^2)

        Its softmax are the responsibilities of the group, Goyal et al., 2017. Rows by themselves,
        as in training, have a path each.

        Args:
            z: Latents, (n, latent).
            group: The number of each row's group, (n,), from 0.

        Returns:
            Of each group and leaf, (groups, leaves), in nats.

        Raises:
            ValueError: There is not one number for each row.
        """
        weights = self.log_weights()
        if group.shape != z.shape[:1] or z.dim() != 2 or group.is_floating_point():
            raise ValueError(
                f"needs latents (n, latent) and integers (n,), got {tuple(z.shape)} and "
                f"{group.dtype} {tuple(group.shape)}"
            )
        means, equal = self.means(), torch.zeros_like(weights)
        each = NormalMixture(equal, means, self.log_scale.expand_as(means)).components(z)
        total = each.new_zeros(int(group.max()) + 1, len(weights))
        return weights + total.index_add(0, group, each + math.log(len(weights)))

    def log_parameters(self) -> Tensor:
        r"""Return the log density of the nodes' means and the shares' log-odds, (), in nats.

        .. math:: \sum_c \log N(m_c; m_{\mathrm{parent}(c)}, \tau_l^2)
            + \sum_v \log \mathrm{Beta}(v; 1, a) \, v (1 - v)

        In log-odds the density is highest where v is its mean 1 / (1 + a); in v itself it would be
        at an end, which takes children away.
        """
        total = self.offsets.new_zeros(())
        for level, (offsets, tau) in enumerate(self._by_level(self.offsets, None, first=1), 1):
            size, used = 0.5 * math.log(2 * math.pi) + tau.log(), self.in_use(level)
            squares = offsets.square().sum(-1) * used
            total = total - 0.5 * squares.sum() - used.sum() * self.latent * size
        a, stick = self.concentration, torch.arange(1, self.branching, device=total.device)
        each = logsigmoid(self.log_odds) + a * logsigmoid(-self.log_odds) + math.log(a)
        return total + (each * (stick < self.degrees.unsqueeze(1))).sum()

    def set_rows(self, rows: int, x: Tensor, numbers: Tensor | None) -> None:  # noqa: ARG002
        """Set n, unless it was given."""
        if self.rows is None:
            self.size.fill_(rows)

    def log_share(self) -> Tensor:
        """Return a training row's share of `log_parameters`, 1/n of it."""
        return self.log_parameters() / self.size

    def distribution(self) -> TorchDistribution:
        """Return the mixture of the leaves."""
        means = self.means()
        return NormalMixture(self.log_weights(), means, self.log_scale.expand_as(means))
