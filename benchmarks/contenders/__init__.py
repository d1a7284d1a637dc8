"""The contenders: each trains the same pair on the same batches, its own way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.contenders import by_hand, by_numpyro, by_priory, by_pyro, by_pythae
from benchmarks.contenders.base import Contender, Missing

__all__ = ["CONTENDERS", "PEER", "Contender", "Missing"]

PEER = "torch"

CONTENDERS: dict[str, Callable[..., Contender]] = {
    "priory": partial(by_priory.contender, mode="off"),
    "priory, traced": partial(by_priory.contender, mode="trace"),
    "priory, compiled": partial(by_priory.contender, mode="inductor"),
    "priory, compiled, bf16": partial(by_priory.contender, mode="inductor", precision="bf16"),
    "priory, CUDA graph": partial(by_priory.contender, mode="cudagraph"),
    "torch": partial(by_hand.contender, mode="eager"),
    "torch, compiled": partial(by_hand.contender, mode="compiled"),
    "torch, CUDA graph": partial(by_hand.contender, mode="graph"),
    "pyro": by_pyro.contender,
    "pyro, no validation": partial(by_pyro.contender, validation=False),
    "pyro, jitted": partial(by_pyro.contender, validation=False, jit=True),
    "numpyro, jitted": by_numpyro.contender,
    "pythae": by_pythae.contender,
}
