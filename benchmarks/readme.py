"""Writes the benchmarks' tables into README.md, and the picture of dreams from saved runs.

python -m benchmarks.readme makes the tables from the committed result files; with the option
--runs runs/papers it draws the picture too.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import papers, step
from priory import load

README = Path(__file__).parents[1] / "README.md"
PICTURE = Path(__file__).parent / "results" / "dreams.png"
COLUMNS = 16


def main() -> None:
    """Write the tables, and draw the picture if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help="folder of the saved runs")
    folder = parser.parse_args().runs
    if folder is not None:
        dreams(folder).savefig(PICTURE, dpi=110, bbox_inches="tight")
    write()


def write() -> None:
    """Replace what stands between each pair of marks in README.md."""
    text = README.read_text()
    for mark, table in (("papers", papers.table()), ("step", steps())):
        part = f"<!-- {mark} -->\n{table}\n<!-- /{mark} -->"
        text = re.sub(f"<!-- {mark} -->.*<!-- /{mark} -->", lambda _, p=part: p, text, flags=re.S)
    README.write_text(text)


def dreams(folder: Path) -> Figure:
    """Draw dreams of every saved run: a row of means of p(x given z) each, z from the prior."""
    names = [n for n in papers.ROWS if (folder / f"{n}-seed0").is_dir()]
    figure = Figure(figsize=(COLUMNS * 0.55, len(names) * 0.8))
    for i, name in enumerate(names):
        images = load(folder / f"{name}-seed0").sample(COLUMNS)["x_mean"]
        for j, image in enumerate(images):
            axis = figure.add_subplot(len(names), COLUMNS, i * COLUMNS + j + 1)
            axis.imshow(image[0].cpu(), cmap="gray_r", vmin=0, vmax=1)
            axis.set_axis_off()
            if j == 0:
                row = papers.ROWS[name]
                axis.set_title(f"{row.title}, {row.data}", loc="left", fontsize=9)
    figure.subplots_adjust(wspace=0.05, hspace=0.35)
    return figure


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
