"""Whether a run may go on from a checkpoint: the same request, in the same surroundings."""

from __future__ import annotations

import functools
import importlib.metadata
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from priory.inference.distributed import ranks
from priory.inference.objectives.schedules import named_schedule

_FREE = {"fit.epochs", "fit.steps", "fit.device", "fit.skip_nonfinite", "fit.recipe"}
_SHOWN = 5


def environment(device: torch.device) -> dict[str, Any]:
    """Return what the bits of a result depend on besides the request.

    Args:
        device: where the run is.
    """
    cuda = device.type == "cuda"
    kind = torch.cuda.get_device_name(device) if cuda else torch.backends.cpu.get_cpu_capability()
    return {
        "device": device.type,
        "kind": kind,
        "gpus": torch.cuda.device_count() if cuda else 0,
        "ranks": ranks.world(),
        "threads": torch.get_num_threads(),
        **_versions(),
    }


def check_request(source: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise unless a run is asked for as it was begun; only its length may change.

    Args:
        source: where the old configuration is from.
        old: the configuration then.
        new: the configuration now.

    Raises:
        ValueError: naming each option that differs, or if another version's weights have other
            names.
    """
    if "likelihoods" in new and "likelihoods" not in old:  # their parameters have other names
        raise ValueError(
            f"{source} was begun by a version of Priory from before pairs held encoders and "
            "decoders, whose training this one cannot take up; its weights load, and a warm start "
            "goes on from them: fit(load(folder).pair, ...), priory fit RUN --warm --out FOLDER"
        )
    before, now = dict(_flat(old)), dict(_flat(new))
    changed = [k for k in dict.fromkeys([*before, *now]) if before.get(k) != now.get(k)]
    free = _FREE | ({"data.name"} if before.get("data.sha256") == now.get("data.sha256") else set())
    errors = [
        f"{k} was {before.get(k)!r}, now {now.get(k)!r}"
        for k in changed
        if k not in free and not k.startswith(("units", "preparation", "likelihoods"))
    ]
    if errors:
        more = [f"{len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else []
        raise ValueError(
            f"{source} was begun otherwise: {'; '.join([*errors[:_SHOWN], *more])}; go on with "
            "the same options, or begin a warm start, another run with its weights: "
            "fit(load(folder).pair, ...), priory fit RUN --warm --out FOLDER"
        )


def check_schedule(
    source: Path, old: Mapping[str, Any], new: Mapping[str, Any], step: int, total: int
) -> None:
    """Warn if a run goes on to another end under a schedule that falls over the whole run.

    Args:
        source: the checkpoint.
        old: the configuration then.
        new: the configuration now.
        step: number of steps behind.
        total: number of steps now.
    """
    lengths = [[config["fit"][k] for k in ("epochs", "steps")] for config in (old, new)]
    name = new["fit"]["schedule"]
    schedule = named_schedule(name, total) if isinstance(name, str) else None
    if schedule is not None and lengths[0] != lengths[1]:
        factor = schedule.at(step)
        warnings.warn(
            f"{source} goes on to another end: the {name} schedule now falls over {total:,} steps, "
            f"and the learning rate goes on from {factor:.3g} of its first value",
            stacklevel=2,
        )


def check_surroundings(
    source: Path, old: Mapping[str, Any], new: Mapping[str, Any], *, inexact: bool
) -> None:
    """Raise unless the bits come out the same here; warn if that is waived or cannot be had.

    Args:
        source: the checkpoint.
        old: its environment.
        new: the present one.
        inexact: whether the run may go on all the same.

    Raises:
        ValueError: naming each difference.
    """
    changed = [f"{k} was {old.get(k)!r}, now {v!r}" for k, v in new.items() if old.get(k) != v]
    if not changed:
        return
    told = f"{source} was written elsewhere ({'; '.join(changed)}), so that going on from it is "
    stranded = old.get("device") == "cuda" and not torch.cuda.is_available()
    if not inexact and not stranded:
        raise ValueError(f"{told}not bit-exact; pass inexact=True (--inexact) to do so")
    warnings.warn(f"{told}valid, but not bit-exact", stacklevel=2)


@functools.cache
def _versions() -> dict[str, str]:
    return {n: importlib.metadata.version(n) for n in ("priory", "torch", "pyro-ppl", "numpy")}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
