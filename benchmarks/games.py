"""Games on toys: which modes of a known mixture each adversarial game reaches, and how exactly.

    python -m benchmarks.games hinge wasserstein-penalty

trains each named game on the ring (8 modes, sd 0.01) and on the grid (25 modes, sd 0.05) from
five seeds, keeps its figures as one JSON file under `benchmarks/results/games`, and writes the
table into README.md. `--data ring --seeds 0 1` runs a part, and adds to what is there; another
budget (`--steps 200`) prints its figures and keeps nothing. `--picture` draws what was kept.

All games have one generator, one critic's net, one batch, one learning rate and one number of the
generator's steps; a row with its own setting says so. The pair brings the columns to unit
variance, as it does for every table.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import pages
from benchmarks.game_rows import ELSEWHERE, FIXED, GAMES, NET, Game
from benchmarks.machine import hardware
from priory import __version__
from priory.data.toys import DENSITIES, toy
from priory.evaluation.report.canvas import DATA, INK, MODEL, canvas
from priory.evaluation.samples.modes import modes
from priory.recipes import RECIPES

RESULTS = Path(__file__).parent / "results" / "games"
PICTURE = RESULTS.parent / "games.png"
SAMPLES, DRAWN = 2500, 400  # judged, and kept for the picture
SEEDS = (0, 1, 2, 3, 4)
SETS = {"ring": "ring, 8 modes", "grid": "grid, 25 modes"}


def fit_and_judge(game: Game, name: str, seed: int, **options: Any) -> tuple[dict, Tensor]:
    """Train a game on a toy set from one seed, and return its figures and some samples."""
    settings = {**game.training, "valid_every": 0, "progress": False, "device": "cpu", **options}
    started, failed = time.perf_counter(), {}
    try:
        run = RECIPES["gan"].fit(name, objective=game.objective, seed=seed, **settings)
        generated = run.sample(SAMPLES, seed=seed)["x"]
    except ValueError as error:  # a loss that is NaN or infinite: the game is lost, and counts
        generated, failed = torch.full((SAMPLES, 2), 1e6), {"failed": str(error)}
    seconds = time.perf_counter() - started
    row = {"data": name, "seed": seed, **judged(generated, name), "seconds": seconds, **failed}
    return row, generated


def judged(generated: Tensor, name: str) -> dict[str, Any]:
    """Return how samples spread over the modes of a toy set."""
    found = modes(generated, DENSITIES[name].centres, DENSITIES[name].sd)
    return {
        "modes": found.found,
        "high_quality": float(found.near.mean()),
        "kl": found.kl,
        "spread": found.spread,
    }


def perfect(name: str) -> list[dict[str, Any]]:
    """Return the figures of draws from a toy set's own density."""
    draws = (torch.from_numpy(toy(name, SAMPLES, seed=s, stream=9)[0]) for s in SEEDS)
    return [judged(x, name) for x in draws]


def keep(key: str, rows: list[dict], generated: dict[str, Tensor]) -> None:
    """Add rows to a game's file; what was measured with other settings is dropped."""
    game, file = GAMES[key], RESULTS / f"{key}.json"
    settings = {"objective": game.objective, "training": game.training}
    before = json.loads(file.read_text()) if file.exists() else {}
    if before.get("settings") != settings:
        before = {}
    new = {(r["data"], r["seed"]) for r in rows}
    kept = [r for r in before.get("rows", []) if (r["data"], r["seed"]) not in new]
    points = {n: [[round(v, 3) for v in p] for p in x.tolist()] for n, x in generated.items()}
    result = {
        "game": key,
        "settings": settings,
        "rows": sorted(kept + rows, key=lambda r: ([*SETS].index(r["data"]), r["seed"])),
        "dreams": {**before.get("dreams", {}), **points},
        "samples": SAMPLES,
        "hardware": hardware(torch.device("cpu")),
        "priory": __version__,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result) + "\n")


def results() -> dict[str, dict[str, Any]]:
    """Return what was kept, by the game, in the table's order."""
    files = {key: RESULTS / f"{key}.json" for key in GAMES}
    return {key: json.loads(file.read_text()) for key, file in files.items() if file.exists()}


def line(title: str, rows: list[dict[str, Any]], published: str) -> str:
    """Return a line of the table."""
    found = {n: torch.tensor([float(r[n]) for r in rows]) for n in ("modes", "high_quality", "kl")}
    quality = 100 * found["high_quality"]
    off = (quality - 100 * (1 - math.exp(-4.5))).abs()
    cells = [
        f"{_mean(found['modes'], 1)} ({found['modes'].min():.0f})",
        f"{_mean(quality, 1)} ({quality.min():.1f})",
        f"{off.mean():.1f}",
        f"{_mean(found['kl'], 3)} ({found['kl'].max():.3f})",
        f"{min(r.get('seconds', 0) for r in rows):.0f}",
    ]
    lost = sum("failed" in r for r in rows)
    title += f" ({lost} NaN or infinite)" if lost else ""
    return f"| {' | '.join([title, *cells, published])} |"


def _mean(values: Tensor, digits: int) -> str:
    spread = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def table(found: dict[str, dict[str, Any]] | None = None) -> str:
    """Return the tables as Markdown, one for each toy set.

    Args:
        found: results by the game; those of the files by default.
    """
    found = results() if found is None else found
    lines = []
    for name, title in SETS.items():
        lines += [
            f"| {title} | modes (worst) | high quality, % (worst) | off by | KL (worst) | s "
            "| published: modes / % / KL |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            line("*draws from the density itself*", perfect(name), ""),
        ]
        for key, result in found.items():
            rows = [r for r in result["rows"] if r["data"] == name]
            game = GAMES[key]
            own = "; own setting: " + _told(game.own) if game.own else ""
            if rows:
                lines.append(line(game.title + own, rows, game.published.get(name, "")))
        lines += [f"| {title} | | | | | | {cells[name]} |" for title, cells in ELSEWHERE.items()]
        lines.append("")
    counts = sorted({len({r["seed"] for r in f["rows"]}) for f in found.values()}) or [0]
    places = sorted({f["hardware"] for f in found.values()})
    return "\n".join(
        [
            *lines,
            f"Mean ± standard deviation over {' or '.join(map(str, counts))} seeds, and the worst "
            f"of them, of {SAMPLES:,} samples each: modes with a sample within 3 sd; the share of "
            "samples that are within 3 sd of a mode, and by how much it is off the 98.89% of a "
            "perfect sampler (above is over-concentrated); the KL divergence from the modes' "
            "shares to equal ones; seconds of the fastest seed, on a machine with other work. One "
            "setting for all games: " + _told(FIXED) + ", critic "
            f"{NET} on data of unit variance; the Wasserstein games take five critic steps for "
            "each of the generator's. The published figures are of other networks and budgets: Lin "
            "et al., 2018, PacGAN, and Srivastava et al., 2017, VEEGAN.",
            "",
            f"Measured on {'; '.join(places)}.",
        ]
    )


def _told(settings: dict[str, Any]) -> str:
    return ", ".join(f"{n.replace('_', ' ')} {v}" for n, v in settings.items())


def picture(found: dict[str, dict[str, Any]]) -> Any:
    """Draw each game's samples over both toy sets, the first seed's."""
    columns = 6
    bands = math.ceil(len(found) / columns)
    figure = canvas(1.5 * columns, 3.3 * bands + 0.4)
    figure.suptitle(
        "Samples of each game on the ring and the grid, first seed",
        x=0.01, ha="left", fontsize=13, fontweight="bold",
    )  # fmt: skip
    for i, (key, result) in enumerate(found.items()):
        band, column = divmod(i, columns)
        for j, name in enumerate(SETS):
            axes = figure.add_subplot(2 * bands, columns, (2 * band + j) * columns + column + 1)
            centres = DENSITIES[name].centres
            reach = 1.35 * float(centres.abs().max())
            axes.scatter(*centres.T, s=34, color=DATA, alpha=0.35, linewidths=0)
            generated = torch.tensor(result["dreams"].get(name, [[9.0, 9.0]]))
            axes.scatter(*generated.T, s=1, color=MODEL)
            if not (generated.abs() < reach).all(1).any():
                axes.text(0, 0, "all outside", ha="center", va="center", fontsize=8, color=INK)
            axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect=1)
            axes.spines[:].set_visible(False)
            if not j:
                game = GAMES[key]
                title = game.title.replace(", ", ",\n") + (";\nown setting" if game.own else "")
                axes.set_title(title, fontsize=8.5, color=INK)
    return figure


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("games", nargs="*", choices=[[], *GAMES], help="all if none is named")
    parser.add_argument("--data", nargs="*", choices=[*SETS], default=[*SETS])
    parser.add_argument("--seeds", nargs="*", type=int, default=[*SEEDS])
    parser.add_argument("--steps", type=int, help="for a trial, which keeps nothing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="train nothing, write the table")
    parser.add_argument("--picture", action="store_true", help="train nothing, draw what was kept")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for key in [] if args.table or args.picture else args.games or GAMES:
        for name in args.data:
            for seed in args.seeds:
                trial = {} if args.steps is None else {"steps": args.steps}
                row, generated = fit_and_judge(GAMES[key], name, seed, **trial)
                print(key, json.dumps(row), flush=True)
                if args.steps is None:
                    keep(key, [row], {name: generated[:DRAWN]} if seed == SEEDS[0] else {})
    if args.picture:
        picture(results()).savefig(PICTURE, dpi=130)
    if args.steps is None:
        pages.write(games=table())
    print(table())


if __name__ == "__main__":
    main()
