"""The explorer as a part of another page."""

from __future__ import annotations

import weakref
from html import escape
from typing import Any

from priory.evaluation.explorer.page import page_of
from priory.evaluation.explorer.view import view_of
from priory.inference.checkpoints.missing_data import Absent

_LIMIT = 1_000_000  # bytes that it may add to a report
_ABOUT = "Drag a point over the map of the codes, and see what the decoder makes of it"
_PRINT = "<style>@media print { .explorer { display: none; } }</style>"


class Held:
    """A run that a report may show, as long as anybody holds it; it is left out of pickles.

    Args:
        run: the run; what cannot be explored is not held.
    """

    def __init__(self, run: Any) -> None:
        self._run = weakref.ref(run) if hasattr(run, "explore") else None

    def __call__(self) -> Any:
        """Return the run; None if nobody holds it any more."""
        return None if self._run is None else self._run()

    def __reduce__(self) -> tuple[Any, ...]:
        return Held, (None,)


def section(held: Held | None) -> str:
    """Return a folded part of a page with the explorer of a run, "" if it has no map.

    Args:
        held: the run.
    """
    run = None if held is None else held()
    if run is None or isinstance(run.data, Absent) or (view := view_of(run, bare=False)).reason:
        return ""
    page = page_of([view], run.data.name, limit=_LIMIT)
    frame = (
        f'<iframe title="Explorer of the latent space" loading="lazy" srcdoc="{escape(page)}" '
        'style="width:100%;height:40rem;border:0"></iframe>'
    )
    return (
        f'{_PRINT}<section class="explorer"><h2>explorer</h2><details><summary>{_ABOUT}</summary>'
        f"{frame}</details></section>\n"
    )
