"""The options of a training run: what they may be."""

from __future__ import annotations

from typing import Any

from priory.inference.selection import Criterion


def check_options(options: dict[str, Any]) -> None:
    """Raise one error that names every option of `fit` that is out of range.

    Raises:
        ValueError: with one line per fault.
    """
    least = {"epochs": 1, "steps": 1, "batch_size": 1, "patience": 1}
    least |= {"valid_every": 0, "valid_particles": 1, "seed": 0, "skip_nonfinite": 0, "keep": 2}
    least |= {"snapshot_every": 0}
    faults = [
        f"{name} must be a whole number from {low}, got {options[name]!r}"
        for name, low in least.items()
        if options[name] is not None and (type(options[name]) is not int or options[name] < low)
    ]
    if not options["checkpoint_every"] >= 0:
        faults.append(f"checkpoint_every must be 0 or more, got {options['checkpoint_every']!r}")
    if not options["lr"] > 0:
        faults.append(f"lr must be positive, got {options['lr']!r}")
    if options["clip"] is not None and not options["clip"] > 0:
        faults.append(f"clip must be positive, got {options['clip']!r}")
    if options["ema"] is not None and not 0 < options["ema"] < 1:
        faults.append(f"ema must lie between 0 and 1, got {options['ema']!r}")
    if options["epochs"] is not None and options["steps"] is not None:
        faults.append("give epochs or steps, not both")
    faults += [
        f"{name} needs evaluations: valid_every must not be 0"
        for name in ("best", "patience")
        if options[name] is not None and options["valid_every"] == 0
    ]
    if not isinstance(options["best"], Criterion | None):
        faults.append(
            "best must be a Criterion, for instance priory.evaluation.ByMetric('mmd'), got "
            f"{options['best']!r}"
        )
    if faults:
        raise ValueError("; ".join(faults))
