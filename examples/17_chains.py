"""Markov chains on points of the plane: a table, and their ways from noise as a picture.

A chain draws noise and undoes it step by step; its guide is the corruption. Each is trained by
single steps, and judged by the sum of all, a bound on log p(x), and by its samples: how many modes
of the grid they reach, and which share of them is near one.
"""

from matplotlib.figure import Figure

from priory import evaluate
from priory.data import Data
from priory.recipes import RECIPES

STEPS = 3000
grid = Data.named("grid", rows=10_000)
print(grid)

NET = {"net": "time-mlp:128:3", "timesteps": "100", "batch_size": "256"}
ROWS = {
    "DDPM, squared error": ("ddpm", NET),
    "DDPM, cosine, bound": (
        "ddpm-cosine",
        {**NET, "target": "v", "objective": "steps"},
    ),
    "flow matching": ("flow-matching", {k: v for k, v in NET.items() if k != "timesteps"}),
}

figure = Figure(figsize=(8.0, 1.8 * len(ROWS)), layout="constrained")
axes = figure.subplots(len(ROWS), 5, sharex=True, sharey=True, squeeze=False)
metrics = ["nll", "end_kl", "modes", "high_quality"]
TIMES = (1.0, 0.5, 0.2, 0.01, 0.0)  # from noise to the data


def stations(run, count):
    """Draw states of a way at all times, (count, 2) each, those before the last in their units."""
    if hasattr(run.pair, "flow"):
        noise = run.pair.units.centre.new_empty(count, 2).normal_()
        carried = run.pair.flow.between
        states = [carried(noise, 1.0, t) for t in TIMES[:-1]]
        return [*states, run.pair.units.inverse(carried(noise, 1.0, 0.0))]
    draws = run.sample(count)
    way = draws["z"]  # (samples, T, 2), the state nearest to the data first
    return [*(way[:, round(t * way.shape[1]) - 1] for t in TIMES[:-1]), draws["x"]]


for line, (title, (name, options)) in zip(axes, ROWS.items(), strict=True):
    run = RECIPES[name].fit(grid, **options, steps=STEPS, valid_every=0, progress=False)
    print(f"\n{title}")
    for record in evaluate(run, metrics=metrics, limit=500, n_samples=500, pictures=False):
        print(f"  {record}")

    for axis, t, points in zip(line, TIMES, stations(run, 500), strict=True):
        scale = 1.0 if t else 4.0  # states are in units of the data's spread
        axis.scatter(*points.cpu().T / scale, s=1.0, color="0.2")
        axis.set(title=f"t = {t:g}" if t else "x", xticks=(), yticks=(), xlim=(-3, 3), ylim=(-3, 3))
    line[0].set_ylabel(title, fontsize=7)
figure.savefig("chains.png", dpi=110)
print("\nwrote chains.png")
