"""Clusters of digits without labels: pairs that have them, and mixtures fitted to codes; one table.

A pair's clusters are those of its own latent c, or of its prior's components. The codes of a plain
VAE, and the pixels, are divided afterwards. Three protocols name the clusters by test labels:
matched to one class each, by their commonest label, or by the label of their surest row.
"""

import torch
from sklearn.mixture import GaussianMixture

from priory import evaluate
from priory.data import Data
from priory.evaluation.latents.clustering import (
    confident_hits,
    hungarian_hits,
    kmeans,
    majority_hits,
)
from priory.recipes import RECIPES

PROTOCOLS = ("clustering_hungarian", "clustering_majority", "clustering_confident")
WARMED = "elbo:beta=(linear:0.01:1:1000)"
OPTIONS = {"valid_every": 0, "progress": False}

digits = Data.named("digits")
x, y = digits.test.x, digits.test.columns["y"]
bits = torch.bernoulli(digits.train.x)  # pixels that are binarised anew for each batch
print(digits)
print(f"\n{'clusters of test digits':32}", *(f"{p[11:]:>11}" for p in PROTOCOLS))


def row(title, values):
    """Print the accuracies of one way to cluster."""
    print(f"{title:32}", *(f"{value:11.3f}" for value in values), flush=True)


def divided(title, clusters, confidence):
    """Print the accuracies of clusters that were found afterwards."""
    hits = (hungarian_hits(clusters, y), majority_hits(clusters, y))
    row(title, [h.mean() for h in (*hits, confident_hits(clusters, y, confidence))])


for name in ("gmvae", "gmvae-wzy", "gm-vae"):
    more = {} if name.startswith("gmvae") else {"objective": WARMED, "latent": 8}
    run = RECIPES[name].fit(digits, steps=2000, **OPTIONS, **more)
    report = evaluate(run, metrics=PROTOCOLS, pictures=False)
    row(name, [report[p].value for p in PROTOCOLS])

vae = RECIPES["vae"].fit(digits, steps=2000, latent=8, objective=WARMED, **OPTIONS)
with torch.no_grad():
    train, codes = (vae.pair.encoder(rows).mean for rows in (bits, x))
divided("VAE, k-means of codes", *kmeans(codes, 10))
mixture = GaussianMixture(10, covariance_type="full", n_init=5, random_state=0).fit(train.numpy())
surest, clusters = torch.from_numpy(mixture.predict_proba(codes.numpy())).max(1)
divided("VAE, a mixture of normals on codes", clusters, surest)
divided("pixels, k-means", *kmeans(x.flatten(1), 10))
