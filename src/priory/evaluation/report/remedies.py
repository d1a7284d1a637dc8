"""What to do about a warning: by what it says, so that a page groups many of them."""

from __future__ import annotations

from collections.abc import Iterable

OTHER = "Read these numbers with care"
REMEDIES: dict[str, tuple[str, ...]] = {
    "Evaluate again with more samples or steps": (
        "take a larger K",
        "take more steps",
        "more steps are needed",
        "accept fewer than",
    ),
    "Give the guide a richer posterior": ("k-hat above", "the guide's posterior"),
    "Look at the latents: their number, prior and KL weight": (
        "take a larger latent",
        "posterior collapse",
        "the threshold is for latents",
    ),
    "Choose a likelihood that fits the data": (
        "unlike their replicates",
        "density on discrete levels",
    ),
    "Judge on more or other rows": ("only ", "are constant", "do not span"),
    "Compare the samples with the training rows": (
        "as copies do",
        "the model copies",
        "all but training rows",
        "over-concentrated",
    ),
    "Let the chains run longer": ("raise burn_in",),
}
"""What to do, and what the warnings of that kind hold."""


def remedy(warning: str) -> str:
    """Return what to do about a warning.

    Args:
        warning: its text.

    Example:
        >>> remedy("12% of the data have fewer than 10 effective samples: take a larger K")
        'Evaluate again with more samples or steps'
    """
    found = (what for what, phrases in REMEDIES.items() if any(p in warning for p in phrases))
    return next(found, OTHER)


def by_remedy(warnings: Iterable[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Return warnings by what to do about them, in the table's order.

    Args:
        warnings: what each is about, and its text.
    """
    groups: dict[str, list[tuple[str, str]]] = {what: [] for what in (*REMEDIES, OTHER)}
    for about, text in warnings:
        groups[remedy(text)].append((about, text))
    return {what: members for what, members in groups.items() if members}
