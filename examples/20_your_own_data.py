"""Your own data: a loader, a data frame, AnnData, and sequences of different lengths.

What rows are held in already is what `fit` takes, and what `evaluate`, `score` and `encode` take of
new ones. `pip install 'priory[frames]'` brings polars and anndata.
"""

import anndata
import numpy as np
import polars
import torch
from sklearn.datasets import load_digits, load_wine
from torch.utils.data import DataLoader, Dataset

from priory import evaluate, fit
from priory.data import Data
from priory.inference import ELBO
from priory.models import VAE
from priory.nets import GRU, GRUDecoder

quiet = {"progress": False}
judged = {"metrics": ["nll"], "pictures": False, "particles": 200}

# A DataLoader: its batches are taken as they come, with its own order and transformation.
images, labels = load_digits(return_X_y=True)
images = torch.from_numpy(images > 7.5).float().reshape(-1, 1, 8, 8)


class Moved(Dataset):
    """Digits, each moved to the left or the right by chance."""

    def __len__(self):
        return 1500

    def __getitem__(self, i):
        return images[i].roll(int(torch.randint(-1, 2, ())), -1), int(labels[i])


loader = DataLoader(Moved(), batch_size=100, shuffle=True)
data = Data.of(loader, test={"x": images[1500:], "y": labels[1500:]})
print(data)
run = fit(VAE(latent=8), ELBO(), data, epochs=10, **quiet)
print("digits in the middle  ", evaluate(run, **judged)["nll"])
moved = DataLoader([(images[i].roll(1, -1), labels[i]) for i in range(1500, 1797)], batch_size=99)
print("digits that are moved ", evaluate(run, moved, **judged)["nll"], "\n")

# A data frame, of polars or pandas: columns by their names, the column `class` for labels.
wine = load_wine()
table = polars.from_numpy(wine.data, schema=list(wine.feature_names))
table = table.with_columns(polars.Series("class", wine.target_names[wine.target]))
data = Data.of(table, standardise=True)
print(data)
run = fit(VAE(latent=4, likelihood="normal"), ELBO(), data, epochs=40, **quiet)
turned = table.select(reversed(table.columns))
same = torch.equal(
    run.score(table, particles=100).log_likelihood, run.score(turned, particles=100).log_likelihood
)
print(f"columns in another order have the same scores: {same}\n")

# AnnData: a layer by name, and a column of `obs` as label.
cells = anndata.AnnData(wine.data.astype(np.float32))
cells.layers["log"] = np.log1p(cells.X)
cells.obs["cultivar"] = wine.target
data = Data.of(cells, layer="log", label="cultivar", standardise=True)
print(data)
run = fit(VAE(latent=4, likelihood="normal"), ELBO(), data, epochs=40, **quiet)
cells.obsm["X_vae"] = run.encode(cells).mean["z"].numpy()  # of the same layer
print(f"codes of {cells.obsm['X_vae'].shape}\n")

# Sequences: padding never counts, whatever stands there.
data = Data.named("sunspots")
print(data)
pair = VAE(encoder=GRU(32), decoder=GRUDecoder(32), latent=2)
run = fit(pair, ELBO(), data, steps=150, valid_every=0, **quiet)
x, length = data.test.columns["x"].clone(), data.test.columns["length"]
before = run.score({"x": x, "length": length}, particles=100)
x[torch.arange(x.shape[1]) >= length[:, None]] = torch.nan
after = run.score({"x": x, "length": length}, particles=100)
for steps, one, other in zip(length, before.log_likelihood, after.log_likelihood, strict=True):
    print(f"a cycle of {steps:2} years  {one:.2f}  with NaN behind its end  {other:.2f}")
