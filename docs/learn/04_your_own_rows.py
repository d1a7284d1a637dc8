"""Rows of your own: a table with gaps, scored, encoded and filled in.

Priory takes arrays, data frames, CSV and Parquet files and folders of images. This tutorial takes
the wine table of scikit-learn, removes a fifth of its entries, and puts all verbs for rows to
work.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine

from priory.data import Data
from priory.recipes import RECIPES

# %%
# The table
# ---------
# Columns have units of their own, so they are standardised; gaps are ``NaN``, and are to be
# integrated out of the likelihood. Numbers stay comparable: the change of units is counted in
# every density.

wine = load_wine()
gone = np.random.default_rng(0).random(wine.data.shape) < 0.2
table = np.where(gone, np.nan, wine.data)
data = Data.from_arrays(table, y=wine.target, standardise=True, missing="integrate", test=0)
print(data)

# %%
# A recipe
# --------
# ``RECIPES`` has every published method with its defaults; each default can be overruled.

training = {"steps": 1500, "lr": 1e-3, "patience": 15, "valid_every": 5, "progress": False}
run = RECIPES["miwae"].fit(data, latent=8, likelihood="normal", **training)

# %%
# Gaps
# ----
# A fill is a mean of draws given what is seen of the row, and has an interval. On the axes are
# the true and the filled-in values of one column.

filled = run.impute(table, particles=500)
print(filled)
alcohol = 0
hole = gone[:, alcohol]
mean, low, high = (part[:, alcohol].numpy()[hole] for part in (filled.x, filled.low, filled.high))
truth = wine.data[hole, alcohol]
figure, axis = plt.subplots(figsize=(3.6, 3.4), layout="constrained")
axis.plot(truth, mean, "o", ms=3)
axis.vlines(truth, low, high, lw=0.8)
axis.axline((13, 13), slope=1, color="0.6", lw=0.8)
axis.set(xlabel="alcohol, true", ylabel="alcohol, filled in")

# %%
# Scores and codes
# ----------------
# ``score`` is log p(x) of each row with its error, ``encode`` the mean and scale of each code.
# The rarest rows are the first to look at. On the right are two coordinates of the codes, by the
# class that was not shown.

scores = run.score(table)
rare = scores.log_likelihood.argsort()[:3]
for row in rare.tolist():
    print(f"row {row}: {scores.log_likelihood[row]:.1f} ± {scores.se[row]:.1g} nats")
z = run.encode(table).mean["z"].numpy()
first, second = z.var(0).argsort()[::-1][:2]
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
left.hist(scores.log_likelihood.numpy(), bins=30)
left.set(xlabel="log p(what is seen of a row), nats", ylabel="rows")
right.scatter(z[:, first], z[:, second], c=wine.target, cmap="tab10", s=12)
right.set(xlabel=f"z[{first}]", ylabel=f"z[{second}]")
