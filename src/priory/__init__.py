"""Priory: deep generative models as Pyro pairs, trained by one loop and judged by one module.

The verbs are here, listed in `__init__.pyi` and imported when they are first used; the parts are in
`priory.models`, `priory.priors`, `priory.nets`, `priory.inference`, `priory.divergences`,
`priory.data` and `priory.evaluation`.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
