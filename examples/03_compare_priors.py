"""Four priors over the latent, all else equal: one table, and a page with the pictures.

Every fit has the same nets, steps and data; every run is judged by the same K-sample bound on the
test images, never by its own loss. The parts are written as text, or given as objects.
"""

from priory import compare
from priory.data import Data
from priory.priors import GaussianMixture

data = Data.named("digits")
print(data)

table = compare(
    data,
    priors={
        "normal": "normal",
        "mixture of 10": GaussianMixture(components=10),
        "VampPrior of 50": "vamp:50",
        "stick-breaking": "stick-breaking:5",
    },
    seeds=2,
    steps=300,
    latent=8,
    particles=100,
    metrics=["nll", "kl", "knn_accuracy", "mmd"],
    jobs=1,  # leave it out to train on every core
)
print(table)

best = next(row for row in table.rows if row.cells["nll"].best)
print(f"\nthe best bound: {best.label}, {best.cells['nll'].text} nats per image")
print(f"wrote {table.to_html('priors.html')}")
