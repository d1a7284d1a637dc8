"""What a likelihood is of: which sites, densities or masses, and in whose units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from priory.data.missing import SEEN
from priory.evaluation.rows import Columns, has_missing
from priory.inference.phases.arguments import bind
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.sites import is_discrete


class Quantity(NamedTuple):
    """What the log likelihood of a pair is.

    Args:
        observed: sites that have a density.
        given: columns that the model takes besides.
        masses: the observed sites whose values are discrete: they have a probability, no density.
        partial: whether x may have missing entries, which are integrated out.
    """

    observed: tuple[str, ...]
    given: tuple[str, ...] = ()
    masses: tuple[str, ...] = ()
    partial: bool = False

    @property
    def name(self) -> str:
        """What it is, such as log p(x, y)."""
        given = f" | {', '.join(self.given)}" if self.given else ""
        return f"log p({', '.join(self.observed)}{given})"

    def __str__(self) -> str:
        kinds = (f"{s} a {'mass' if s in self.masses else 'density'}" for s in self.observed)
        seen = ", of the entries that are seen" if self.partial else ""
        return f"{self.name}: {', '.join(kinds)}{seen}"

    @property
    def is_density(self) -> bool:
        """Whether x has a density, whose logarithm depends on the units of x."""
        return "x" in self.observed and "x" not in self.masses

    def only(self, sites: Sequence[str], given: Sequence[str]) -> Quantity:
        """Return the likelihood of some of the sites, given others.

        Args:
            sites: those that have a density.
            given: those that are given.
        """
        masses = tuple(s for s in self.masses if s in sites)
        return Quantity(tuple(sites), tuple(given), masses, self.partial)


def quantity_of(phase: Phase, model: Callable[..., Any], columns: Columns) -> Quantity:
    """Return what the log likelihood of a pair is.

    Args:
        phase: of the pair, awake.
        model: its model.
        columns: the data.
    """
    observed = sorted(phase.observed, key=lambda site: site != "x")
    taken = bind(model, columns)
    given = [n for n in taken if n not in observed and n not in ("x", "index", SEEN)]
    discrete = (s for s in observed if is_discrete(phase.distribution(s, of="model")))
    partial = SEEN in taken and has_missing(columns)
    return Quantity(tuple(observed), tuple(given), tuple(discrete), partial)


def likelihood_of(draws: Any) -> tuple[str, str]:
    """Return what the pair's log likelihood is, and what a reader must know of it.

    Args:
        draws: of the pair.
    """
    quantity: Quantity = draws.quantity
    remarks = []
    if len(quantity.observed) > 1:
        remarks.append(f"joint: of {', '.join(quantity.observed)} together, {quantity.name}")
    elif quantity.name != "log p(x)":
        remarks.append(f"of {quantity.name}")
    if draws.units is not None and quantity.is_density:
        remarks.append("x in its own units, standardised for the pair")
    return str(quantity), "; ".join(remarks)
