"""Exchange the prior: one argument, the same judge.

A prior is a part. Give another one, and the guide takes the posterior that fits its support;
nothing else changes. This tutorial trains four, and asks what can be said of the differences.
"""

import matplotlib.pyplot as plt

from priory import compare
from priory.data import Data
from priory.priors import GaussianMixture, VampPrior

# %%
# Parts as objects, parts as text
# -------------------------------
# A part can be written as on the command line, ``"stick-breaking:5"``, or given as an object.

data = Data.named("digits")
priors = {
    "normal": "normal",
    "mixture of 10": GaussianMixture(components=10),
    "VampPrior of 30": VampPrior(30),
    "stick-breaking": "stick-breaking:5",
}

# %%
# One table
# ---------
# Two seeds for each prior; all are judged on the same test rows. The last part of the table is
# what to read: differences from the best, row by row, with intervals that count the seeds as
# well, and Holm's correction for the number of comparisons.

table = compare(
    data,
    priors=priors,
    seeds=2,
    steps=300,
    latent=8,
    particles=100,
    metrics=["nll", "kl", "knn_accuracy"],
    jobs=1,
)
print(table)

# %%
# The picture of it
# -----------------
# Bars are one standard deviation over the seeds. With two seeds hardly anything can be
# distinguished, and the table says so: a smaller number is not yet a better prior.

rows = [row for row in table.rows if row.cells["nll"].value is not None]
figure, axis = plt.subplots(figsize=(5.5, 2.4), layout="constrained")
labels = [row.label for row in rows]
values = [row.cells["nll"].value for row in rows]
spread = [row.cells["nll"].spread for row in rows]
axis.errorbar(values, range(len(rows)), xerr=spread, fmt="o", capsize=4)
axis.set_yticks(range(len(rows)), labels)
axis.set(xlabel="-log p(x) in nats, upper bound", ylim=(-0.5, len(rows) - 0.5))

# %%
# On the command line the same is ``priory compare --data digits --prior
# normal,mixture:10,vamp:30,stick-breaking:5 --seeds 2``.
