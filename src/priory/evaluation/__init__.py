"""Judging pairs: draws, metrics as pure functions, the report and its pictures.

`__init__.pyi` lists the names and their modules, each of which is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
