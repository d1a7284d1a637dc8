"""Boltzmann machines of one layer, of two, and below a belief net; and what a cold network recalls.

Each is a pair whose log Z is found by annealing both ways: forwards it is at most log Z, back at
least, in expectation. Then two mean digits, stored by Hebb's rule and retrieved from broken ones.
"""

import torch

from priory import evaluate
from priory.data import Data
from priory.distributions.network import hebb
from priory.recipes import RECIPES

digits = Data.named("digits")
for name, options in (
    ("rbm", {"lr": 0.5, "epochs": 30}),
    ("dbn", {"rbm.epochs": 30, "epochs": 10, "sweeps": 20}),
    ("dbm", {"epochs": 30}),
):
    run = RECIPES[name].fit(digits, **options, progress=False)
    report = evaluate(run, metrics=["nll", "elbo"], particles=100, pictures=False)
    nll = report["nll"]
    print(
        f"{name}: -log p(x) {nll.value:.2f} ± {nll.se:.2f} nats, bound {report['elbo'].value:.2f}"
    )
    print(f"    {nll.note}")

columns = digits.train.take(slice(0, len(digits.train)))
x, y = columns["x"], columns["y"]
rows = torch.stack([x[y == label].mean(0) for label in (0, 1)])
patterns = (rows.flatten(1) > 0.5).float()
network = hebb(patterns)
torch.manual_seed(0)
for share in (0.1, 0.3):
    broken = torch.where(torch.rand(len(patterns), 64) < share, 1 - patterns, patterns)
    found = network.settle(broken)
    right = (found == patterns).float().mean()
    before, after = (-network.log_density(s).mean() for s in (broken, found))
    print(f"{share:.0%} of pixels flipped: {right:.0%} right, energy {before:.0f} to {after:.0f}")
