"""Trees of nodes with few children, and all that differ from one by a single change."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Parents = list[list[int]]
"""Of the nodes of each level below the root, their parent's number in the level above."""


@dataclass(frozen=True)
class Change:
    """A tree that differs from another by one change; nodes may be left without children.

    Args:
        kind: Whether a leaf is made, taken away, or nodes are moved.
        parents: Of the tree, after the change.
        leaves: Which leaf is split, its other part being the new last one; which two become the
            first of them; which is taken away. Empty for a move.
    """

    kind: Literal["split", "join", "drop", "move"]
    parents: Parents
    leaves: tuple[int, ...] = ()


def changes(parents: Parents, branching: int, whole: Sequence[int]) -> Iterator[Change]:
    """Yield every tree one change away, with at most `branching` children to a node.

    A node gets another parent, one that is there or one that is made for it, with those above;
    two nodes of one level change places; two become one, with the children of both; a leaf becomes
    two, of which one gets a parent likewise.

    Args:
        parents: Of the tree.
        branching: Most children of a node.
        whole: Leaves that can be split.

    Example:
        >>> from collections import Counter
        >>> from priory.inference.tree_moves import changes
        >>> sorted(Counter(c.kind for c in changes([[0, 0], [0, 0, 1]], 3, [0])).items())
        [('join', 3), ('move', 9), ('split', 3)]
    """
    children = _children(parents)
    last = len(parents) - 1
    for level, above in enumerate(parents):
        for node, own in enumerate(above):
            for new in _moved(parents, children, branching, level, node, own):
                yield Change("move", new)
        for i, j in itertools.combinations(range(len(above)), 2):
            if above[i] != above[j]:
                swapped = list(above)
                swapped[i], swapped[j] = above[j], above[i]
                yield Change("move", [*parents[:level], swapped, *parents[level + 1 :]])
            if level == last:
                yield Change("join", parents, (i, j))
            elif children[level + 1][i] + children[level + 1][j] <= branching:
                below = [i if parent == j else parent for parent in parents[level + 1]]
                yield Change("move", [*parents[: level + 1], below, *parents[level + 2 :]])
    for leaf in whole:
        more = [*parents[:last], [*parents[last], 0]]
        for new in _moved(more, children, branching, last, len(parents[last]), None):
            yield Change("split", new, (leaf,))


def _children(parents: Parents) -> list[list[int]]:
    """Return the number of children of each node, from the root down to above the leaves."""
    counts = [[0] * (len(parents[level - 1]) if level else 1) for level in range(len(parents))]
    for count, above in zip(counts, parents, strict=True):
        for parent in above:
            count[parent] += 1
    return counts


def _moved(
    parents: Parents,
    children: list[list[int]],
    branching: int,
    level: int,
    node: int,
    own: int | None,
) -> Iterator[Parents]:
    """Yield the trees in which a node has another parent, or hangs by new nodes further up."""
    for top in range(level, -1, -1):
        for place, count in enumerate(children[top]):
            if count == branching or (top == level and place == own):
                continue
            new, parent = list(parents), place
            for at in range(top, level):
                new[at] = [*new[at], parent]
                parent = len(new[at]) - 1
            new[level] = [*new[level]]
            new[level][node] = parent
            yield new
