"""The posterior of a tree over groups of codes: mean-field sweeps, and a tree that grows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Beta, kl_divergence

from priory.inference.tree_moves import Change, Parents, changes

_TOLERANCE = 1e-6  # nats by which a change must raise the bound
_ROUNDING = 1e-9  # of the bound, likewise: what large numbers lose of their digits
_SWEEPS = 200
_NUMBERS = 2**21  # of one array


class TreePosterior:
    r"""A variational posterior of a tree's nodes, its sticks and the paths of groups of codes.

    .. math:: q(m) \prod_v q(v) \prod_g q(c_g) \approx p(m, v, c \mid z), \qquad
        q(m) = N(\eta, C \otimes I), \quad q(v) = \mathrm{Beta}(\alpha, \beta)

    Goyal, Hu, Liang, Wang and Xing, 2017, Nonparametric variational auto-encoders for hierarchical
    representation learning, after Wang and Blei, 2009, Variational inference for the nested Chinese
    restaurant process. The model is that of `NestedCRP`: nodes normal about their parents, the
    root's mean 0; `branching` children of each node at most, whose sticks are Beta(1, a); and the
    codes of a group, all of one leaf c_g, normal about it with the variance s^2. Codes are known by
    their own posterior: they enter by the means and variances of q(z). The nodes are not
    independent under q(m), as they are in the paper: given the paths the posterior of a tree's
    means is normal, and a linear system gives it as it is.

    `bound` is then a lower bound on the log evidence of the codes, in expectation over q(z),

    .. math:: \mathrm{E}_q \log p(z \mid c, m) - \mathrm{KL}(q(m) \| p(m))
        - \mathrm{KL}(q(v) \| p(v)) + \mathrm{E}_q \log p(c \mid v) + H(q(c))

    which each step of a `sweep` maximises in its own part: nodes; the widths s and
    :math:`\tau_l`, points; sticks; paths. A path goes only through nodes that are there. `grow`,
    `prune` and `move` change these where that raises the bound; all have the same model, so that
    trees of any size compare.

    Args:
        mean: Of each group's codes, (groups, latent).
        rows: Number of its rows, (groups,).
        rest: Sum over them of the squared distance from that mean and of the variances of q(z),
            (groups,).
        depth: Number of levels below the root.
        branching: Most children of a node.
        concentration: The a of the Beta distribution.

    Raises:
        ValueError: Shapes are wrong.

    Example:
        >>> from priory.inference.tree_posterior import TreePosterior
        >>> mean = torch.tensor([[-2.0], [-2.1], [1.9], [2.0]])
        >>> found = TreePosterior(mean, torch.full((4,), 5), torch.full((4,), 0.1), 1, 3)
        >>> found.begin(torch.zeros(4).long(), [[0]], scale=0.2, tau=[2.0])
        >>> before = found.bound()
        >>> found.fit() > before, found.paths.argmax(1).tolist()
        (True, [0, 0, 1, 1])
    """

    def __init__(
        self,
        mean: Tensor,
        rows: Tensor,
        rest: Tensor,
        depth: int,
        branching: int,
        concentration: float = 1.0,
    ) -> None:
        if mean.dim() != 2 or rows.shape != mean.shape[:1] or rest.shape != mean.shape[:1]:
            raise ValueError(
                "needs means (groups, latent) and two numbers of each group, got "
                f"{tuple(mean.shape)}, {tuple(rows.shape)} and {tuple(rest.shape)}"
            )
        self.mean, self.rows, self.rest = mean.double(), rows.double(), rest.double()
        self.depth, self.branching, self.concentration = depth, branching, concentration
        self.latent = mean.shape[1]
        self.total = float((self.rest + self.rows * self.mean.square().sum(1)).sum())

    def begin(self, leaf: Tensor, parents: Parents, scale: float, tau: Sequence[float]) -> None:
        """Set out from a tree and a leaf of each group.

        Args:
            leaf: Numbers of leaves, (groups,).
            parents: Of the nodes of each level, their parent's number in the level above.
            scale: Of the codes about their leaf.
            tau: Of nodes about their parents, of each level.
        """
        self.scale, self.tau = float(scale), [float(width) for width in tau]
        self.parents = [list(above) for above in parents]
        self.paths = torch.nn.functional.one_hot(leaf, len(self.parents[-1])).double()
        self._settle()

    def on(self, mean: Tensor, rows: Tensor, rest: Tensor) -> TreePosterior:
        """Return the posterior of this tree on other groups, after sweeps that begin with its own.

        Args:
            mean: Of each group's codes, (groups, latent).
            rows: Number of its rows, (groups,).
            rest: Sum over them, as in the constructor.
        """
        size = (self.depth, self.branching, self.concentration)
        other = TreePosterior(mean, rows, rest, *size)
        for name in ("parents", "scale", "tau", "eta", "covariance", "sticks"):
            setattr(other, name, getattr(self, name))
        other.parents, other.tau = [[*above] for above in self.parents], [*self.tau]
        other._assign()
        other._swept()
        return other

    def sizes(self) -> list[int]:
        """Return the number of nodes of each level below the root."""
        return [len(above) for above in self.parents]

    def fit(self) -> float:
        """Change the tree and sweep until neither raises the bound, and return it.

        Changes come first: of one path the widths would be those of a tree that has nothing to
        split.
        """
        begun = False
        while True:
            changed = False
            while self._change(("split", "join", "drop", "move")):
                changed = True
            if begun and not changed:
                return self.bound()
            self._swept()
            begun = True

    def sweep(self) -> None:
        """Maximise the bound in each part after the other: nodes, widths, sticks, paths."""
        self._place()
        self._measure()
        self._break()
        self._assign()

    def grow(self) -> bool:
        """Split the leaf whose split raises the bound most; return whether there was one."""
        return self._change(("split",))

    def prune(self) -> bool:
        """Join two leaves, or take one away, likewise."""
        return self._change(("join", "drop"))

    def move(self) -> bool:
        """Give a node another parent, exchange two, or make two inner ones one, likewise."""
        return self._change(("move",))

    def bound(self) -> float:
        """Return the bound, in nats."""
        paths, shares = self.paths, self._log_shares()[-1]
        codes = (paths * self._log_codes()).sum() + (paths * shares).sum()
        return float(codes - torch.xlogy(paths, paths).sum() - self._divergence())

    def means(self) -> list[Tensor]:
        """Return the means of the nodes of each level, (nodes, latent)."""
        return [*self.eta.split(self.sizes())]

    def shares(self) -> list[Tensor]:
        """Return the nodes' mean shares of their parents, the last child's being what remains."""
        found = []
        for above, (alpha, beta) in zip(self.parents, self.sticks, strict=True):
            parent = torch.tensor(above)
            last = torch.cat([parent.diff() > 0, torch.ones(1, dtype=torch.bool)])
            stick = torch.where(last, 1.0, alpha / (alpha + beta))
            rest = torch.where(last, 0.0, (1 - stick).log())
            found.append((stick.log() + _before(rest, above)).exp())
        return found

    # --- the parts of a sweep ---------------------------------------------------------------------

    def _swept(self) -> None:
        """Sweep until the bound stands."""
        before = -math.inf
        for _ in range(_SWEEPS):
            self.sweep()
            value = self.bound()
            if value < before + 1e-9 * abs(value):
                break
            before = value

    def _assign(self) -> None:
        """Set q(c)."""
        self.paths = (self._log_shares()[-1] + self._log_codes()).softmax(1)

    def _place(self) -> None:
        """Set q(m): its precision is that of the tree, with each leaf's codes added."""
        precision, leaves = self._precision(), slice(-len(self.parents[-1]), None)
        _, sharp, pull = self._statistics(self.paths)
        precision[leaves, leaves] += torch.diag(sharp)
        right = torch.zeros(len(precision), self.latent, dtype=torch.float64)
        right[leaves] = pull
        self.covariance = torch.cholesky_inverse(torch.linalg.cholesky(precision))
        self.eta = self.covariance @ right

    def _measure(self) -> None:
        """Set s and each tau to the root of the mean square that it is the width of."""
        squares, start, above = self._distances(), 0, -1
        total = self.rest.sum() + (self.paths * self.rows.unsqueeze(1) * squares).sum()
        self.scale = float((total / (self.latent * self.rows.sum())).sqrt())
        for level, parents in enumerate(self.parents):
            own = torch.arange(start, start + len(parents))
            change = torch.zeros(len(own), len(self.eta), dtype=torch.float64)
            change[torch.arange(len(own)), own] = 1.0
            if level:
                change[torch.arange(len(own)), above + torch.tensor(parents)] = -1.0
            moved = (change @ self.eta).square().mean(1)
            variance = ((change @ self.covariance) * change).sum(1)
            width = float((moved + variance).mean().sqrt())
            self.tau[level] = max(width, 1e-3 * self.scale)
            start, above = start + len(parents), start

    def _break(self) -> None:
        """Set q(v): counts of the groups at a node, and at its later siblings."""
        self.sticks: list[tuple[Tensor, Tensor]] = []
        mass = self._masses(self.paths.sum(0))
        for above, own in zip(self.parents, mass, strict=True):
            after = _before(own.flip(0), above[::-1]).flip(0)
            self.sticks.append((1 + own, self.concentration + after))

    def _log_shares(self) -> list[Tensor]:
        """Return E log p(node | v) of each level."""
        found = [torch.zeros(1, dtype=torch.float64)]
        for above, (alpha, beta) in zip(self.parents, self.sticks, strict=True):
            all_of = torch.digamma(alpha + beta)
            whole = self._whole(above)
            stick = torch.where(whole, 0.0, torch.digamma(alpha) - all_of)
            rest = torch.digamma(beta) - all_of
            found.append(found[-1][torch.tensor(above)] + stick + _before(rest, above))
        return found

    def _whole(self, above: Sequence[int]) -> Tensor:
        """Return which nodes are a parent's last possible child, which has all that remains."""
        rank = torch.tensor([i - above.index(parent) for i, parent in enumerate(above)])
        return rank == self.branching - 1

    def _log_codes(self) -> Tensor:
        """Return the E log p(z | c, m) of each group and leaf, (groups, leaves)."""
        squares = self.rest.unsqueeze(1) + self.rows.unsqueeze(1) * self._distances()
        size = self.latent * math.log(2 * math.pi * self.scale**2)
        return -0.5 * (self.rows.unsqueeze(1) * size + squares / self.scale**2)

    def _distances(self) -> Tensor:
        """Return the E |mean - m|^2 of each group and leaf, (groups, leaves)."""
        count = len(self.parents[-1])
        spread = self.latent * self.covariance.diagonal()[-count:]
        return (self.mean.unsqueeze(1) - self.eta[-count:]).square().sum(-1) + spread

    def _divergence(self) -> Tensor:
        """Return KL(q(m) || p(m)) + KL(q(v) || p(v))."""
        precision, d = self._precision(), self.latent
        trace = (precision * self.covariance).sum()
        logdet = torch.logdet(precision) + torch.logdet(self.covariance)
        squares = (self.eta * (precision @ self.eta)).sum()
        total = 0.5 * (d * (trace - len(precision) - logdet) + squares)
        one = torch.ones((), dtype=torch.float64)
        prior = Beta(one, self.concentration * one)
        for above, (alpha, beta) in zip(self.parents, self.sticks, strict=True):
            each = kl_divergence(Beta(alpha, beta), prior)
            total = total + each[~self._whole(above)].sum()
        return total

    def _precision(self) -> Tensor:
        """Return the precision of all nodes below the root under p(m), level after level."""
        size = sum(self.sizes())
        precision, start, above = torch.zeros(size, size, dtype=torch.float64), 0, -1
        for level, parents in enumerate(self.parents):
            each = self.tau[level] ** -2
            own = torch.arange(start, start + len(parents))
            precision[own, own] += each
            if level:
                parent = above + torch.tensor(parents)
                precision.diagonal().index_add_(
                    0, parent, torch.full((len(own),), each, dtype=torch.float64)
                )
                precision[own, parent] = precision[parent, own] = -each
            start, above = start + len(parents), start
        return precision

    def _statistics(self, paths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return each leaf's groups, and the precision and the pull of its rows."""
        weighed = paths * self.rows.unsqueeze(1) / self.scale**2
        return paths.sum(0), weighed.sum(0), weighed.mT @ self.mean

    def _masses(self, leaves: Tensor) -> list[Tensor]:
        """Return the groups of the nodes of each level, from those of the leaves."""
        found = [leaves]
        for level in range(self.depth - 1, 0, -1):
            above = torch.tensor(self.parents[level])
            none = torch.zeros(len(self.parents[level - 1]), dtype=torch.float64)
            found.insert(0, none.index_add(0, above, found[0]))
        return found

    def _settle(self) -> None:
        """Take nodes without groups away, put heavy siblings first, and set q(m) and q(v)."""
        mass = self._masses(self.paths.sum(0))
        number, kept = {0: 0}, list[int]()
        for level, above in enumerate(self.parents):
            kept = [i for i, parent in enumerate(above) if mass[level][i] > 0 and parent in number]
            kept.sort(key=lambda i: (number[above[i]], -float(mass[level][i]), i))
            self.parents[level] = [number[above[i]] for i in kept]
            number = {i: at for at, i in enumerate(kept)}
        self.paths = self.paths[:, kept]
        self._place()
        self._break()

    # --- changes of the tree ----------------------------------------------------------------------

    def _change(self, kinds: Sequence[str]) -> bool:
        """Make the change that raises the bound most, with q(m) and q(v) at their best after it."""
        halves = self._halves() if "split" in kinds else {}
        found = [c for c in changes(self.parents, self.branching, [*halves]) if c.kind in kinds]
        if "drop" in kinds:
            found += [Change("drop", self.parents, (leaf,)) for leaf in self._spare()]
        if "move" in kinds:
            found.append(Change("move", self.parents))  # heavy siblings first
        if not found:
            return False
        self._place()
        self._break()
        now = self.bound()
        least = torch.full((len(found),), max(_TOLERANCE, _ROUNDING * abs(now)))
        least[[c.kind == "drop" for c in found]] *= -1
        gain = self._collapsed(found, halves) - now - least
        best = int(gain.argmax())
        if gain[best] <= 0:
            return False
        change, before = found[best], (self.paths, self.parents)
        self.paths = self._changed(change, halves)
        self.parents = [list(above) for above in change.parents]
        self._settle()
        if self.bound() - now > least[best]:
            return True
        # Far codes' squares cancel in the prediction, whose digits are then lost.
        self.paths, self.parents = before
        self._place()
        self._break()
        return False

    def _changed(self, change: Change, halves: dict[int, Tensor]) -> Tensor:
        """Return the groups' paths after a change."""
        paths = self.paths.clone()
        if change.kind == "split":
            (leaf,) = change.leaves
            part = paths[:, leaf] * halves[leaf]
            paths[:, leaf] -= part
            return torch.cat([paths, part.unsqueeze(1)], 1)
        if change.kind == "join":
            first, second = change.leaves
            paths[:, first] += paths[:, second]
            paths[:, second] = 0.0
        if change.kind == "drop":
            paths[:, change.leaves[0]] = 0.0
            paths = paths / paths.sum(1, keepdim=True)
        return paths

    def _collapsed(self, found: Sequence[Change], halves: dict[int, Tensor]) -> Tensor:
        """Return the bound after each change, with q(m) and q(v) at their best, (changes,)."""
        count = len(self.parents[-1])
        width = max(len(change.parents[-1]) for change in found)
        base = self._statistics(self.paths)
        entropy = -torch.xlogy(self.paths, self.paths).sum()
        parts = {
            leaf: self._statistics((self.paths[:, leaf] * half).unsqueeze(1))
            for leaf, half in halves.items()
        }
        joined = self._joined() if any(c.kind == "join" for c in found) else {}
        chunk, values = max(1, _NUMBERS // width**2), []
        for start in range(0, len(found), chunk):
            some = found[start : start + chunk]
            stats = [s.new_zeros(len(some), width, *s.shape[1:]) for s in base]
            for own, s in zip(stats, base, strict=True):
                own[:, :count] = s
            more = torch.full((len(some),), float(entropy), dtype=torch.float64)
            for at, change in enumerate(some):
                if change.kind == "split":
                    for own, part in zip(stats, parts[change.leaves[0]], strict=True):
                        own[at, count] = part[0]
                        own[at, change.leaves[0]] -= part[0]
                elif change.kind == "join":
                    i, j = change.leaves
                    for own in stats:
                        own[at, i] += own[at, j]
                        own[at, j] = 0.0
                    more[at] += joined.get((i, j), 0.0)
                elif change.kind == "drop":
                    paths = self._changed(change, halves)
                    more[at] = -torch.xlogy(paths, paths).sum()
                    for own, s in zip(stats, self._statistics(paths), strict=True):
                        own[at, :count] = s
            values.append(self._evidence([c.parents for c in some], *stats) + more)
        return torch.cat(values)

    def _evidence(
        self, trees: Sequence[Parents], groups: Tensor, sharp: Tensor, pull: Tensor
    ) -> Tensor:
        r"""Return log E p(z | c, m) p(c | v) over the nodes and sticks of several trees, (trees,).

        A node's message to its parent m is exp(-p m^2 / 2 + h m), up to a factor; all are normal.
        Siblings' sticks are broken in the order of their groups.
        """
        rows = float(self.rows.sum())
        size = rows * self.latent * math.log(2 * math.pi * self.scale**2)
        value = (
            -0.5 * (size + self.total / self.scale**2) * torch.ones(len(trees), dtype=torch.float64)
        )
        above = [_padded([tree[level] for tree in trees]) for level in range(self.depth)]
        above[-1] = torch.nn.functional.pad(above[-1], (0, groups.shape[1] - above[-1].shape[1]))
        for level in range(self.depth - 1, -1, -1):
            gain, variance = 1 + sharp * self.tau[level] ** 2, self.tau[level] ** 2
            squares = variance * pull.square().sum(-1) / gain
            value = value + 0.5 * (squares - self.latent * gain.log()).sum(1)
            value = value + self._seating(above[level], groups)
            nodes = above[level - 1].shape[1] if level else 1
            sharp, pull, groups = (
                _summed(each, above[level], nodes)
                for each in (sharp / gain, pull / gain.unsqueeze(-1), groups)
            )
        return value

    def _seating(self, above: Tensor, groups: Tensor) -> Tensor:
        """Return the log of the mean, over sticks, of the probability of the groups' choices."""
        own, other = groups.unsqueeze(2), groups.unsqueeze(1)
        place = torch.arange(groups.shape[1])
        first = (own > other) | ((own == other) & (place.unsqueeze(1) < place))
        first = first & (above.unsqueeze(2) == above.unsqueeze(1))
        after = torch.where(first, other, 0.0).sum(2)
        rank = (first.sum(1)).to(groups)  # siblings that come before
        a = self.concentration
        each = _log_beta(1 + groups, a + after) + math.log(a)
        return torch.where((rank < self.branching - 1) & (groups > 0), each, 0.0).sum(1)

    def _joined(self) -> dict[tuple[int, int], float]:
        """Return what the entropy of the paths changes by where two leaves become one."""
        shared = self.paths.mT @ self.paths
        i, j = torch.triu_indices(len(shared), len(shared), 1)
        touching = shared[i, j] > 1e-12
        found = {}
        for a, b in zip(i[touching].tolist(), j[touching].tolist(), strict=True):
            on = (self.paths[:, a] > 0) & (self.paths[:, b] > 0)
            one, two = self.paths[on, a], self.paths[on, b]
            both = one + two
            change = torch.xlogy(one, one) + torch.xlogy(two, two) - torch.xlogy(both, both)
            found[a, b] = float(change.sum())
        return found

    def _spare(self) -> list[int]:
        """Return leaves with less than one group, none of which they have to themselves."""
        few = (self.paths.sum(0) < 1) & (self.paths.max(0).values < 1 - 1e-3)
        return few.nonzero().flatten().tolist() if len(few) > 1 else []

    def _halves(self) -> dict[int, Tensor]:
        """Return which groups of a leaf make its other part: two means along its longest axis."""
        found = {}
        for leaf, paths in enumerate(self.paths.mT):
            on = paths > 1e-3
            points, weight = self.mean[on], (paths * self.rows)[on].unsqueeze(1)
            if len(points) < 2:
                continue
            rest = (points - (weight * points).sum(0) / weight.sum()) * weight.sqrt()
            axis = torch.linalg.eigh(rest.mT @ rest).eigenvectors[:, -1]
            side = rest @ axis > 0
            for _ in range(10):
                if side.all() or not side.any():
                    break
                one, two = (
                    (weight[part] * points[part]).sum(0) / weight[part].sum()
                    for part in (side, ~side)
                )
                before = side
                side = (points - one).square().sum(1) < (points - two).square().sum(1)
                if torch.equal(side, before):
                    break
            if side.any() and not side.all():
                found[leaf] = torch.zeros(len(paths), dtype=torch.float64)
                found[leaf][on.nonzero().flatten()[side]] = 1.0
        return found


def _before(values: Tensor, above: Sequence[int]) -> Tensor:
    """Return the sum of the values of the siblings before each node; siblings are adjacent."""
    found = torch.zeros_like(values)
    for at in range(1, len(above)):
        if above[at] == above[at - 1]:
            found[at] = found[at - 1] + values[at - 1]
    return found


def _summed(values: Tensor, above: Tensor, nodes: int) -> Tensor:
    """Sum values (trees, children, ...) of the children of each node, (trees, nodes, ...)."""
    none = values.new_zeros(len(values), nodes, *values.shape[2:])
    index = above if values.dim() == 2 else above.unsqueeze(-1).expand_as(values)
    return none.scatter_add(1, index, values)


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return lists of different lengths as the rows of one tensor, filled up with 0."""
    table = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(table)


def _log_beta(alpha: Tensor, beta: Tensor) -> Tensor:
    return alpha.lgamma() + beta.lgamma() - (alpha + beta).lgamma()
