"""What a trained model says of its data: rare examples, outliers, and weights that balance.

Nine of ten fours are taken out of the training digits. The model, which never sees a label, is
asked which digits it covers thinly, which images are none, and how to weigh the digits.
"""

import torch

from priory import fit
from priory.data import Data
from priory.evaluation.insight import (
    auroc,
    balance,
    bound,
    class_shares,
    cover,
    effective_size,
    mutate,
    rarest,
    resample,
)
from priory.inference import ELBO
from priory.models import VAE

RARE = 4
digits = Data.named("digits", binarise="none")
x, y = digits.train.x, digits.train.columns["y"]
kept = (y != RARE) | (torch.arange(len(y)) % 10 == 0)
x, y, test = x[kept], y[kept], digits.test.x

data = Data.from_arrays(x, x_valid=digits.valid.x, x_test=test)
run = fit(VAE(latent=3), ELBO(), data, epochs=60, lr=2e-3, schedule="cosine", valid_every=0)
print(f"trained on {len(x)} digits, {int((y == RARE).sum())} of them fours\n")

# How densely the model covers each training digit: by its code among the others' codes.
coverage = cover(run, particles=20)
rows = rarest(coverage.density, 0.05)
among = float((y[rows] == RARE).double().mean())
print(f"the {len(rows)} rarest digits, {among:.0%} fours: {y[rows].tolist()}")
row = int(rows[0])
print(f"rarest of all is row {row}: log density {coverage.density[row]:.1f} nats, a {y[row]}:")
for line in x[row, 0]:
    print("   ", "".join(" .:*#"[int(4 * value)] * 2 for value in line))

# How well the bound on log p(x) separates test digits from images that are none.
stream = torch.Generator().manual_seed(0)
shuffled = test.flatten(1)[:, torch.randperm(64, generator=stream)].view_as(test)
planted = {
    "inverted": 1 - test,
    "shuffled": shuffled,
    "upside down": test.flip(-2),
    "a tenth of the pixels random": mutate(test, 0.1, stream),
}
usual = bound(run, test, particles=20)
print("\noutliers against test digits, area under the ROC curve")
for name, images in planted.items():
    area = auroc(usual, bound(run, images, particles=20))
    print(f"  {name:30} {area.value:.3f} ± {area.se:.3f}")

# Weights by inverse density of the codes: the thinly covered come up more often.
weights = balance(coverage.density, share=0.3)
drawn = resample(weights, len(x), stream)
print(f"\nweights worth {effective_size(weights):.0f} equal ones; share of each digit, in %")
for name, shares in (("as they are", class_shares(y)), ("resampled", class_shares(y[drawn]))):
    print(f"  {name:12}", " ".join(f"{100 * share:5.1f}" for share in shares))
balanced = Data.from_arrays(x[drawn], x_valid=digits.valid.x, x_test=test)
print(f"\nto be trained on as any data: {balanced}")
