"""Markov chains on points of the plane: a table, and their ways from noise as a picture.

Each chain starts from noise and ends at a sample. What its guide is tells them apart: a corruption
that is given (diffusion), the chain itself, with the datum infused or heated (infusion, variational
walkback), one step of noise (denoising), or none, as time has no steps (flow matching). Those with
a bound on log p(x) are judged by it, and all by their samples: how many modes of the grid they
reach, and which share of them is near one.
"""

from matplotlib.figure import Figure

from priory import evaluate
from priory.data import Data
from priory.recipes import RECIPES

STEPS = 500
grid = Data.named("grid", rows=10_000)
print(grid)

NET = {"net": "time-mlp:128:3", "batch_size": "256"}
PLAIN = {"net": "mlp:128,128", "likelihood": "normal:pixel", "level": "0.3", "batch_size": "256"}
BOUND = {"noise": "cosine", "target": "v", "variance": "learned", "objective": "steps"}
ROWS = {
    "denoising": ("dae", PLAIN),
    "walkback": ("dae-walkback", PLAIN),
    "infusion": ("infusion", {**NET, "rate": "0.066", "width": "0.2"}),
    "variational walkback": ("variational-walkback", {**NET, "timesteps": "12", "factor": "1.6"}),
    "diffusion": ("ddpm", {**NET, **BOUND, "timesteps": "100"}),
    "flow matching": ("flow-matching", NET),
}
METRICS = ("nll", "modes", "high_quality")
JUDGED = {"metrics": METRICS, "limit": 500, "n_samples": 500, "particles": 50, "pictures": False}
TIMES = (1.0, 0.5, 0.2, 0.05, 0.0)  # from noise to the data


def stations(run, count):
    """Draw points on their way at all times, (count, 2) each, in the data's units."""
    if hasattr(run.pair, "flow"):
        units = run.pair.units
        noise = units.centre.new_empty(count, 2).normal_()
        return [units.inverse(run.pair.flow.between(noise, 1.0, t)) for t in TIMES]
    way = run.chain(count)
    return [way[round((1 - t) * (len(way) - 1))] for t in TIMES]


figure = Figure(figsize=(8.0, 1.7 * len(ROWS)), layout="constrained")
axes = figure.subplots(len(ROWS), len(TIMES), sharex=True, sharey=True)
table = ["| chain | -log p(x) | modes | high quality |", "| --- | --- | --- | --- |"]
for line, (title, (name, options)) in zip(axes, ROWS.items(), strict=True):
    run = RECIPES[name].fit(grid, **options, steps=STEPS, valid_every=0, progress=False)
    report = evaluate(run, **JUDGED)
    nll, modes, quality = (report[metric] for metric in METRICS)
    bound = f"{nll.value:.2f}, {nll.kind}" if nll.applicable else "none"
    table.append(f"| {title} | {bound} | {modes.value:.0f} of 25 | {100 * quality.value:.0f}% |")
    print(f"trained {title}")

    for axis, t, points in zip(line, TIMES, stations(run, 500), strict=True):
        axis.scatter(*points.cpu().T, s=1.0, color="0.2")
        axis.set(title=f"t = {t:g}" if t else "x", xticks=(), yticks=(), xlim=(-9, 9), ylim=(-9, 9))
    line[0].set_ylabel(title, fontsize=7)
print("", *table, sep="\n")
figure.savefig("chains.png", dpi=110)
print("\nwrote chains.png")
