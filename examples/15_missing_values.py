"""Missing values: a table with 30% of its entries gone, integrated out and filled in again.

MIWAE bounds the likelihood of what is seen (Mattei and Frellsen, 2019). Its imputations are draws
given what is seen of a row, so that each has an interval; beside it stand the columns' means, and
scikit-learn's chained regressions, which have none.
"""

import numpy as np
from sklearn.datasets import load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer

from priory.data import Data
from priory.recipes import RECIPES

truth = load_wine().data.astype(float)
gone = np.random.default_rng(0).random(truth.shape) < 0.3
table = np.where(gone, np.nan, truth)

data = Data.from_arrays(table, standardise=True, missing="integrate", test=0)
print(data)
training = {"steps": 3000, "lr": 1e-3, "patience": 15, "valid_every": 5}
run = RECIPES["miwae"].fit(data, latent=8, likelihood="normal", progress=False, **training)
filled = run.impute(table, particles=1000)
print(filled)


mean, scale = np.nanmean(table, 0), np.nanstd(table, 0)


def error(x):
    """Return the root mean square error of filled entries, in their columns' deviations."""
    return float(np.sqrt(np.mean(((x - truth) / scale)[gone] ** 2)))


chains = IterativeImputer(max_iter=100, tol=0.02, random_state=0)
chained = chains.fit_transform((table - mean) / scale)
print(f"columns' means       {error(SimpleImputer().fit_transform(table)):.3f}")
print(f"chained regressions  {error(chained * scale + mean):.3f}")
print(f"MIWAE                {error(filled.x.numpy()):.3f}")

low, high = filled.low.numpy(), filled.high.numpy()
inside = ((low <= truth) & (truth <= high))[gone].mean()
print(f"\n{inside:.0%} of the true entries lie between the 5% and 95% quantiles of their draws")

scores = run.score(table)
print(f"\nthe likeliest and the rarest row; {scores.about}:")
for row in (int(scores.log_likelihood.argmax()), int(scores.log_likelihood.argmin())):
    print(f"row {row}: {scores.log_likelihood[row]:.1f} ± {scores.se[row]:.1g}")
