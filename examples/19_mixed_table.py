"""A mixed table: numbers, counts, yes or no and names of categories, a likelihood for each column.

Rows are passengers of an invented ferry line, of three kinds that the model is not shown. A fifth
of the cells are gone. The kinds of the columns are chosen from their values, shown, and overruled
by name; samples and what is filled in have the categories' names.
"""

import numpy as np
import pandas as pd

from priory.data import Data
from priory.inference import IWAE, fit
from priory.inference.columns import lines
from priory.likelihoods import Columns
from priory.models import MaskedVAE

draw = np.random.default_rng(0)
n = 800
kind = draw.integers(3, size=n)
truth = pd.DataFrame(
    {
        "port": np.array(["Bergen", "Hull", "Oslo"])[(kind + (draw.random(n) < 0.1)) % 3],
        "bags": draw.poisson(np.array([1, 4, 9])[kind]),
        "fare": np.exp(3 + 0.5 * kind + 0.2 * draw.normal(size=n)),
        "weight": 60 + 8 * kind + 3 * draw.standard_t(3, size=n),
        "cabin": np.where(draw.random(n) < np.array([0.1, 0.5, 0.9])[kind], "yes", "no"),
    }
)
gone = draw.random(truth.shape) < 0.2
table = truth.mask(gone)

data = Data.from_arrays(table, missing="integrate")
print(data)
pair = MaskedVAE(latent=2, likelihood=Columns({"fare": "gamma", "weight": "student-t"}))
print(*lines(pair, data), sep="\n")
run = fit(pair, IWAE(5), data, steps=1500, lr=2e-3, progress=False)

print("\nsamples:")
print(pd.DataFrame(data.table(run.sample(5)["x"])).round(1).to_string(index=False))

filled = run.impute(table)
rows = pd.DataFrame(filled.table())
for name in ("port", "cabin"):
    lost = gone[:, truth.columns.get_loc(name)]
    right = (rows[name] == truth[name])[lost].mean()
    common = (table[name].mode()[0] == truth[name])[lost].mean()
    print(f"\n{name}: {right:.0%} of {lost.sum()} filled in rightly, {common:.0%} by the commonest")
for name in ("bags", "fare", "weight"):
    lost = gone[:, truth.columns.get_loc(name)]
    errors = (rows[name] - truth[name])[lost], (table[name].mean() - truth[name])[lost]
    own, mean = (float(np.sqrt((error**2).mean())) for error in errors)
    print(f"{name}: error of what is filled in {own:.2f}, of the mean {mean:.2f}")

scores = run.score(table)
print(f"\n{scores}")
