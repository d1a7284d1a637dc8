"""The verb: what only it needs is imported by it, as a help shows the signature alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from priory.evaluation.record import Unavailable


def explore(
    runs: Any,
    path: str | Path,
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Path:
    """Write a page on which the latent space of one run, or of several, is explored.

    It is one file without a server, a library or a network: a map of the test rows' codes, the
    decoder as a list of layers that the page evaluates, sliders, ways between two rows, the nearest
    training rows, and samples of each run side by side. A run whose latents have no map is shown by
    its samples; a decoder that cannot be exported by a grid of decoded places. The page says which.

    Args:
        runs: a run, or several on data of one shape.
        path: where to.
        names: what the page calls them; the pairs' names by default.
        seed: seed of all draws.

    Raises:
        ValueError: if there is no run, their data differ in shape, or there are not as many names.
        Unavailable: if no run has latents of which a map can be drawn; with the reason.

    Example:
        >>> explore([normal, vamp], "page.html", names=["normal", "vamp"])
        PosixPath('page.html')
    """
    from priory.evaluation.explorer.page import page_of
    from priory.evaluation.explorer.view import view_of

    several = list(runs) if isinstance(runs, (list, tuple)) else [runs]
    if not several:
        raise ValueError("give a run, or several: got none")
    names = list(names) if names is not None else [""] * len(several)
    if len(names) != len(several):
        raise ValueError(f"expected a name for each of {len(several)} runs, got {len(names)}")
    views = [view_of(run, name, seed=seed) for run, name in zip(several, names, strict=True)]
    shapes = {view.shape for view in views}
    if len(shapes) > 1:
        raise ValueError(f"the runs must be on data of one shape, got {sorted(shapes)}")
    if all(view.reason for view in views):
        raise Unavailable("; ".join(f"{view.name}: {view.reason}" for view in views))
    path = Path(path)
    path.write_text(page_of(views, several[0].data.name), encoding="utf-8")
    return path
