"""What a Pyro program does, recorded: the only code that touches poutine's handlers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pyro.poutine.messenger import Messenger, _bound_partial, _context_wrap
from pyro.poutine.trace_messenger import TraceHandler
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from priory.inference.phases import pathwise
from priory.inference.phases.precision import casting, widened
from priory.inference.phases.sites import Site, depth, in_batch, plates_scale, same
from priory.inference.phases.straight_through import passed_through

_unscaled: ContextVar[bool] = ContextVar("unscaled", default=False)


@contextmanager
def unscaled() -> Iterator[None]:
    """Context manager that leaves `poutine.scale` out of all densities; plates and masks stay.

    A scale is a device of training, such as an annealed KL: the model itself is judged without.
    """
    token = _unscaled.set(True)
    try:
        yield
    finally:
        _unscaled.reset(token)


class MismatchError(ValueError):
    """The model and the guide do not fit together: a site is missing, surplus or drawn twice."""


class DeeperPlates(Exception):
    """A site sits in more plates than dimensions were set aside for, to the right of particles."""

    def __init__(self, nesting: int) -> None:
        super().__init__(nesting)
        self.nesting = nesting


class Enough(Exception):
    """All that was wanted of a program has been drawn."""


class Recorder(Messenger):
    """Runs a program once and keeps its sample sites.

    Does in one handler what `trace`, `replay` and `uncondition` do in three, and draws `particles`
    samples of each site inside the batch plate. Sites outside of it (global latents) are drawn
    once: the particles of one datum must share them for a multi-sample bound to be a bound.

    Args:
        replay: values by site name, used in place of fresh draws.
        draw_observed: draw the observed sites too.
        particles: samples of each site in the batch plate, as a new leading dimension.
        nesting: number of plate dimensions to the right of the particles.
        single: there is no batch plate: the whole program is one datum.
        until: the site after which the program is broken off.
        mean: observed sites that are their means rather than drawn, where `draw_observed` is set.
        draw: draws the particles of a site in the batch plate, where they are not independent; with
            one particle, each latent.
        straight: whether draws without reparameterised samples hand on the gradient of their mean.
        point: whether latents are their distributions' means, without a draw.
    """

    def __init__(
        self,
        replay: Mapping[str, Tensor] | None = None,
        *,
        draw_observed: bool = False,
        particles: int = 1,
        nesting: int = 1,
        single: bool = False,
        until: str | None = None,
        mean: Collection[str] = (),
        draw: Callable[[Site], Tensor] | None = None,
        straight: bool = False,
        point: bool = False,
    ) -> None:
        super().__init__()
        self.straight = straight
        self.point = point
        self.draw = draw
        self.replay = replay or {}
        self.until = until
        self.mean = mean
        self.draw_observed = draw_observed
        self.particles = particles
        self.nesting = nesting
        self.single = single
        self.casting = casting()
        self.unscaled = _unscaled.get()
        self.sites: dict[str, Site] = {}
        self.subsamples: dict[str, Tensor] = {}
        self.whole = False  # whether the program ran to its end
        self.given: dict[str, Any] = {}  # what a program passed as the value of an observed site

    def _pyro_sample(self, msg: Site) -> None:
        name = msg["name"]
        if self.casting:
            msg["fn"] = widened(msg["fn"])
        if name in self.replay and not msg["is_observed"]:
            msg["value"] = self.replay[name]
            msg["done"] = True
        elif site_is_subsample(msg):
            return
        elif msg["is_observed"]:
            if self.draw_observed and not msg["infer"].get("_deterministic"):
                msg["is_observed"] = False
                msg["infer"]["was_observed"] = True
                self.given[name] = msg["value"]
                msg["value"] = self.replay.get(name)
                msg["done"] = name in self.replay
                if name in self.mean and not msg["done"]:
                    msg["value"], msg["done"] = pathwise.mean_of(name, msg["fn"]), True
        elif self.point:
            msg["value"], msg["done"] = pathwise.point_of(name, msg["fn"]), True
        elif self.particles == 1 or self.single or in_batch(msg):
            if self.particles > 1:
                self._expand(msg)
            if self.draw is not None:
                msg["value"], msg["done"] = self.draw(msg), True

    def _expand(self, msg: Site) -> None:
        shape = msg["fn"].batch_shape
        beyond, inner = shape[: -self.nesting], shape[-self.nesting :]
        if not beyond or tuple(beyond) == (1,):
            padding = (1,) * (self.nesting - len(inner))
            msg["fn"] = msg["fn"].expand((self.particles, *padding, *inner))
        elif len(beyond) > 1 and all(size == 1 for size in beyond):  # of no plate
            raise DeeperPlates(len(shape))

    def _pyro_post_sample(self, msg: Site) -> None:
        name = msg["name"]
        if site_is_subsample(msg):
            self.subsamples[name] = msg["value"]
            return
        if name in self.sites:
            raise MismatchError(f"two sites are called {name!r}; give each site its own name")
        if self.particles > 1 and (plates := depth([msg], self.single)) > self.nesting:
            raise DeeperPlates(plates)
        if not (msg["is_observed"] or name in self.replay or name in self.mean or self.point):
            pathwise.mark(msg)
            if self.straight and msg["infer"].pop(pathwise.MARK, False):
                msg["value"] = passed_through(msg)
        if self.unscaled and not same(msg["scale"], scale := plates_scale(msg)):
            msg["scale"] = scale
            msg["infer"] = {**msg["infer"], "_unscaled": True}
        self.sites[name] = msg
        if name == self.until:
            raise Enough


class ParameterRecorder(Messenger):
    """Keeps the unconstrained parameters that programs ask the store for while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.params: dict[str, Tensor] = {}

    def _pyro_post_param(self, msg: Site) -> None:
        value = msg["value"]
        # Pyro's setting module_local_params gives parameters that are in no store.
        self.params[msg["name"]] = getattr(value, "unconstrained", lambda: value)()


def below_handler(program: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """Return the program that one of Pyro's handlers wraps, and the arguments it has already.

    `None` if the program is not a handler's.
    """
    if isinstance(program, TraceHandler):
        return program.fn, ()
    if isinstance(program, _bound_partial):  # a method before it is one's own
        return program.func, ()
    if isinstance(program, functools.partial) and program.func is _context_wrap:
        return program.args[1], program.args[2:]
    return None
