"""Writes the benchmarks' tables into README.md, from the committed result files.

python -m benchmarks.readme
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks import papers, step

README = Path(__file__).parents[1] / "README.md"


def main() -> None:
    """Replace what stands between each pair of marks."""
    text = README.read_text()
    for mark, table in (("papers", papers.table()), ("step", steps())):
        part = f"<!-- {mark} -->\n{table}\n<!-- /{mark} -->"
        text = re.sub(f"<!-- {mark} -->.*<!-- /{mark} -->", lambda _, p=part: p, text, flags=re.S)
    README.write_text(text)


def steps() -> str:
    """Answer the table of step times as Markdown."""
    if not step.RESULT.exists():
        return ""
    result = json.loads(step.RESULT.read_text())
    lines = [
        f"| | ms per step | ratio to {result['peer']} |",
        "| --- | --- | --- |",
        *(
            f"| {r['contender']} | {r['milliseconds']:.2f} | {r['ratio']:.2f} |"
            for r in result["rows"]
        ),
        "",
        f"Medians of {result['rounds']} interleaved rounds of {result['steps']} steps on "
        f"{result['hardware']}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
