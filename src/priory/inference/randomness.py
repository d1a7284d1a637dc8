"""Random states: kept, put back, saved and loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro.util
import torch

from priory.inference.alone import alone


@contextmanager
def own_randomness(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Put the random states of torch, Python and NumPy, and of a CUDA device, back afterwards.

    No other thread trains or judges meanwhile: its draws would be taken back.

    Args:
        device: where draws are made.
        seed: where the draws start; by default they go on from the present state.
    """
    with alone():
        former = pyro.util.get_rng_state()
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                if seed is not None:
                    pyro.util.set_rng_seed(seed % 2**32)  # NumPy takes no larger ones
                    torch.manual_seed(seed)
                yield
        finally:
            pyro.util.set_rng_state(former)


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the state of every generator, as tensors and plain values.

    Args:
        device: where the run is; the states of all CUDA devices are kept if it is one.
    """
    state = pyro.util.get_rng_state()
    kind, words, *rest = state["numpy"]
    return {
        "torch": state["torch"],
        "cuda": torch.cuda.get_rng_state_all() if device.type == "cuda" else [],
        "python": state["random"],
        "numpy": [kind, words.tolist(), *rest],
    }


def set_random_state(state: dict[str, Any], device: torch.device, *, inexact: bool = False) -> None:
    """Set every generator to a state from `random_state`.

    Args:
        state: as it was saved.
        device: where the run is; without CUDA, its generators' states are left out.
        inexact: whether a state of other CUDA devices may be left out too.

    Raises:
        ValueError: if a state is missing or malformed.
    """
    try:
        kind, words, *rest = state["numpy"]
        former = {
            "torch": state["torch"],
            "random": _tuples(state["python"]),
            "numpy": (kind, np.array(words, dtype=np.uint32), *rest),
        }
        pyro.util.set_rng_state(former)
        fits = device.type == "cuda" and len(state["cuda"]) == torch.cuda.device_count()
        if fits:
            torch.cuda.set_rng_state_all(state["cuda"])
        elif device.type == "cuda" and not inexact:
            raise ValueError(f"it has {len(state['cuda'])} CUDA devices")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the random state does not fit this machine ({error!r}); begin anew, or pass "
            "inexact=True (--inexact)"
        ) from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value
