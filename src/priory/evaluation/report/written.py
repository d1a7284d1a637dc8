"""What a report and a comparison have in common: they are written as a page and as JSON."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from priory.evaluation.report.page import framed


class Written(ABC):
    """Something that is shown as one page, and kept as plain values."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is about, on one line."""

    @abstractmethod
    def html(self) -> str:
        """Return it as one page that needs no other file."""

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, without its pictures."""

    def _repr_html_(self) -> str:
        return framed(self.html(), self.title)

    def to_html(self, path: str | Path) -> Path:
        """Write the page that needs no other file.

        Args:
            path: where to.
        """
        path = Path(path)
        path.write_text(self.html(), encoding="utf-8")
        return path

    def to_json(self, path: str | Path) -> Path:
        """Write the plain values as JSON, without the pictures.

        Args:
            path: where to.
        """
        path = Path(path)
        text = json.dumps(self.as_dict(), indent=2, allow_nan=False, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path
