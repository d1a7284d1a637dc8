"""Where the fits of a comparison run: processes of this machine, or workers of a cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from priory.lookup import named

if TYPE_CHECKING:  # only a comparison that starts needs it
    import joblib


def check_backend(backend: str) -> tuple[str, str]:
    """Return a backend's name and the address that follows it, if there is one.

    Args:
        backend: a name in `BACKENDS`, with an address after a colon: "dask:tcp://host:8786".

    Raises:
        ValueError: if there is no such backend, or it takes no address.
        ImportError: if its library is not installed; names the extra.

    Example:
        >>> check_backend("loky")
        ('loky', '')
    """
    name, _, address = backend.partition(":")
    named("backend", name, BACKENDS)
    if name == "loky" and address:
        raise ValueError(f"loky runs on this machine and takes no address, got {backend!r}")
    if name != "loky":
        try:
            __import__(name if name == "ray" else "distributed")
        except ImportError as error:
            raise ImportError(
                f"backend={backend!r} needs an extra: pip install 'priory[{name}]'"
            ) from error
    return name, address


@contextmanager
def workers(backend: str, jobs: int) -> Iterator[joblib.Parallel]:
    """Open what runs tasks, and close what was opened for it.

    Args:
        backend: as in `check_backend`; without an address a cluster of this machine's own is made.
        jobs: tasks at once; a cluster with an address takes as many as it has room for.
    """
    name, address = check_backend(backend)
    with ExitStack() as stack:
        yield BACKENDS[name](stack, address, jobs)


def _loky(_stack: ExitStack, _address: str, jobs: int) -> joblib.Parallel:
    import joblib

    return joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")


def _dask(stack: ExitStack, address: str, jobs: int) -> joblib.Parallel:
    import joblib
    from distributed import Client, LocalCluster

    where = address or stack.enter_context(
        LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            dashboard_address=None,
            silence_logs=logging.ERROR,  # it warns of workers that take their time to end
        )
    )
    client = stack.enter_context(Client(where, set_as_default=False))
    stack.enter_context(client.as_current())
    stack.enter_context(joblib.parallel_config(backend="dask"))
    return joblib.Parallel(n_jobs=-1 if address else jobs, return_as="generator_unordered")


def _ray(stack: ExitStack, address: str, jobs: int) -> joblib.Parallel:
    import joblib
    import ray
    from ray.util.joblib import register_ray

    if not ray.is_initialized():
        ray.init(**({"address": address} if address else {"num_cpus": jobs}))
        stack.callback(ray.shutdown)
    register_ray()
    stack.enter_context(joblib.parallel_config(backend="ray"))
    return joblib.Parallel(n_jobs=-1 if address else jobs)  # gives its results at the end only


BACKENDS: dict[str, Callable[[ExitStack, str, int], joblib.Parallel]] = {
    "loky": _loky,
    "dask": _dask,
    "ray": _ray,
}
