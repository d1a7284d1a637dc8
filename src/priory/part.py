"""What every part of a pair is: configuration first, parameters once the shapes are known."""

from abc import ABC
from collections.abc import Callable
from typing import Any

from torch import nn

Shape = tuple[int, ...]


class Part(nn.Module, ABC):
    """What is configured first, and gets its parameters once the shapes are known.

    Attributes:
        built_for: What it is built for, such as the shapes of a net; None before.
    """

    _kind, _owner = "part", "pair"  # for the message, where another pair has it

    def __init__(self) -> None:
        super().__init__()
        self.built_for: Any = None

    def build_once(self, size: Any, make: Callable[[], object]) -> None:
        """Make the parameters; a second time for the same size does nothing.

        Args:
            size: What they are made for.
            make: Makes them.

        Raises:
            ValueError: They are already made for another size.
        """
        if self.built_for is None:
            make()
            self.built_for = size
        elif self.built_for != size:
            raise ValueError(
                f"{type(self).__name__} is built for {self.built_for}, got {size}; give each "
                f"{self._owner} a {self._kind} of its own"
            )

    def check_built(self) -> None:
        """Raise a RuntimeError unless there are parameters."""
        if self.built_for is None:
            raise RuntimeError(f"{type(self).__name__} has no parameters yet: call build first")
