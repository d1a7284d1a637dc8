"""Reasons to doubt a number, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum


class Remedy(Enum):
    """What to do about a warning, in the order in which a page shows the groups.

    A report keeps the name, a page shows the value.

    Example:
        >>> Remedy.SAMPLES.value
        'Evaluate again with more samples or steps'
    """

    SAMPLES = "Evaluate again with more samples or steps"
    GUIDE = "Give the guide a richer posterior"
    LATENTS = "Look at the latents: their number, prior and KL weight"
    LIKELIHOOD = "Choose a likelihood that fits the data"
    ROWS = "Judge on more or other rows"
    COPIES = "Compare the samples with the training rows"
    BURN_IN = "Let the chains run longer"
    STEPS = "Train again with more steps in the chain"
    CARE = "Read these numbers with care"


class Doubt(str):
    """A warning: a reason to doubt a number, as text, with what to do about it.

    Args:
        text: The reason.
        remedy: What to do.

    Example:
        >>> doubt = Doubt("12% of the data have fewer than 10 effective samples", Remedy.SAMPLES)
        >>> doubt.startswith("12%"), doubt.remedy.name
        (True, 'SAMPLES')
    """

    __slots__ = ("remedy",)
    remedy: Remedy

    def __new__(cls, text: str, remedy: Remedy) -> Doubt:
        """Make the text and keep its remedy beside it."""
        found = super().__new__(cls, text)
        found.remedy = remedy
        return found

    def __getnewargs__(self) -> tuple[str, Remedy]:  # type: ignore[override]
        """Return what a copy is made of: a comparison's processes send reports to each other."""
        return str(self), self.remedy

    def as_dict(self) -> dict[str, str]:
        """Return the warning as plain values."""
        return {"text": str(self), "remedy": self.remedy.name}

    @classmethod
    def read(cls, values: str | Mapping[str, str]) -> Doubt:
        """Return the warning that `as_dict` wrote.

        Args:
            values: Plain values; or a text alone, as older reports have it, or a remedy that this
                version does not know: there the remedy is to read the number with care.

        Example:
            >>> Doubt.read("K is too small").remedy.name
            'CARE'
        """
        if isinstance(values, str):
            return cls(values, Remedy.CARE)
        known = Remedy.__members__.get(values["remedy"], Remedy.CARE)
        return cls(values["text"], known)


def by_remedy(doubts: Iterable[tuple[str, Doubt]]) -> dict[Remedy, list[tuple[str, Doubt]]]:
    """Return warnings by what to do about them, in the remedies' order.

    Args:
        doubts: What each is about, and the warning.

    Example:
        >>> by_remedy([("nll", Doubt("K is too small", Remedy.SAMPLES))])[Remedy.SAMPLES]
        [('nll', 'K is too small')]
    """
    groups: dict[Remedy, list[tuple[str, Doubt]]] = {remedy: [] for remedy in Remedy}
    for about, doubt in doubts:
        groups[doubt.remedy].append((about, doubt))
    return {remedy: members for remedy, members in groups.items() if members}
