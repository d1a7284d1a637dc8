"""The nested Chinese restaurant process: a mixture whose components are the leaves of a tree."""

import math

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

    Args:
        depth: Number of levels below the root.
        branching: Number of a node's children.
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
        """Return the log probabilities of a level's nodes, (branching**level,), likewise."""
        weight = self.log_odds.new_zeros(1)
        for log_odds, _ in self._by_level(self.log_odds, level, first=0):
            rest = logsigmoid(-log_odds).cumsum(-1)
            before = torch.cat([torch.zeros_like(rest[:, :1]), rest[:, :-1]], -1)
            shares = torch.cat([logsigmoid(log_odds) + before, rest[:, -1:]], -1)
            weight = (weight.unsqueeze(-1) + shares).flatten()
        return weight

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
    def set_leaves(self, means: Tensor, weights: Tensor, scale: float) -> None:
        """Move the leaves to given places; the nodes above are put where they are most probable.

        A node's place, given its children's, is normal, as all are: the children's mean with the
        variance (v + tau^2) / branching, v being that of a child given the leaves below it. Going
        down, it is weighed against the parent's.

        Args:
            means: Of the leaves, (leaves, latent), siblings adjacent.
            weights: Their probabilities, (leaves,), positive.
            scale: Standard deviation about a leaf.

        Raises:
            ValueError: There are not as many leaves, or a weight or the scale isn't positive.
            RuntimeError: The prior is not built.
        """
        self.check_built()
        b, leaves = self.branching, self.branching**self.depth
        if means.shape != (leaves, self.latent) or weights.shape != (leaves,):
            raise ValueError(
                f"needs means {(leaves, self.latent)} and weights {(leaves,)}, got "
                f"{tuple(means.shape)} and {tuple(weights.shape)}"
            )
        if not (bool((weights > 0).all()) and scale > 0):
            raise ValueError("the leaves' weights and scale must be positive")
        tau = self.tau.double().cpu()
        above, variance = [means.double().cpu()], [tau.new_zeros(())]
        for width in tau.flip(0):
            above.insert(0, above[0].unflatten(0, (-1, b)).mean(1))
            variance.insert(0, (variance[0] + width.square()) / b)
        place, offsets, log_odds = torch.zeros_like(above[0]), [], []
        shares = weights.double().cpu()
        for level, width in enumerate(tau, 1):
            parent, gain = place.repeat_interleave(b, 0), width.square()
            place = (gain * above[level] + variance[level] * parent) / (gain + variance[level])
            offsets.append((place - parent) / width)
            each = shares.view(b ** (level - 1), b, -1).sum(-1)
            rest = each.flip(1).cumsum(1).flip(1)
            log_odds.append((each[:, :-1] / rest[:, 1:]).log())
        self.offsets.copy_(torch.cat(offsets))
        self.log_odds.copy_(torch.cat(log_odds))
        self.log_scale.fill_(math.log(scale))

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
        means = self.means()
        each = NormalMixture(weights, means, self.log_scale.expand_as(means)).components(z)
        total = each.new_zeros(int(group.max()) + 1, len(weights))
        return weights + total.index_add(0, group, each - weights)

    def log_parameters(self) -> Tensor:
        r"""Return the log density of the nodes' means and the shares' log-odds, (), in nats.

        .. math:: \sum_c \log N(m_c; m_{\mathrm{parent}(c)}, \tau_l^2)
            + \sum_v \log \mathrm{Beta}(v; 1, a) \, v (1 - v)

        In log-odds the density is highest where v is its mean 1 / (1 + a); in v itself it would be
        at an end, which takes children away.
        """
        total = self.offsets.new_zeros(())
        for offsets, tau in self._by_level(self.offsets, None, first=1):
            size = 0.5 * math.log(2 * math.pi) + tau.log()
            total = total - 0.5 * offsets.square().sum() - offsets.numel() * size
        a = self.concentration
        each = logsigmoid(self.log_odds) + a * logsigmoid(-self.log_odds) + math.log(a)
        return total + each.sum()

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
