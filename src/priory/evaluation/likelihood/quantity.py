"""What a likelihood is of: which sites, densities or masses, and in whose units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from priory.data.missing import SEEN
from priory.distributions.mixed import MixedSupport
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
        columns: of a table with both, how many columns of x have densities and how many masses.
    """

    observed: tuple[str, ...]
    given: tuple[str, ...] = ()
    masses: tuple[str, ...] = ()
    partial: bool = False
    columns: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        """What it is, such as log p(x, y)."""
        given = f" | {', '.join(self.given)}" if self.given else ""
        return f"log p({', '.join(self.observed)}{given})"

    def __str__(self) -> str:
        kinds = (f"{s} {self._kind(s)}" for s in self.observed)
        seen = ", of the entries that are seen" if self.partial else ""
        return f"{self.name}: {', '.join(kinds)}{seen}"

    def _kind(self, site: str) -> str:
        """Say what a site has."""
        if site == "x" and any(self.columns):
            return "a density of {} columns and a mass of {}".format(*self.columns)
        return "a mass" if site in self.masses else "a density"

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
        return Quantity(tuple(sites), tuple(given), masses, self.partial, self.columns)


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
    mixed = (0, 0)
    if "x" in observed:
        support = getattr(phase.distribution("x", of="model"), "support", None)
        if isinstance(support, MixedSupport) and 0 < support.masses < support.columns:
            mixed = (support.columns - support.masses, support.masses)
    return Quantity(tuple(observed), tuple(given), tuple(discrete), partial, mixed)


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
