"""A tree that is known, found again by a tree as the prior: agreement by level, and bounds.

The set `tree-4d` has 27 clusters in threes and again in threes, and groups of ten rows that have
one cluster. The recipe `ncrp-vae` trains a VAE with a normal prior, fits a tree to the codes of the
groups, whose nodes grow and are pruned, and goes on with it as the prior, to fit it once more on
the way. Then each row, and each group by its ten rows together, has a node at every level. A
mixture of as many normals says nothing of levels; its bound stands beside the tree's.
"""

import torch
from sklearn.metrics import adjusted_rand_score

from priory import evaluate
from priory.data import Data
from priory.recipes import RECIPES

STEPS = 2000  # in all, half of them before the tree is there
OPTIONS = {"latent": 4, "valid_every": 0, "progress": False}
WARMED = {"objective": "elbo:beta=(linear:0.01:1:1000)", "lr": 5e-3, "steps": STEPS}

data = Data.named("tree-4d")
print(data)
stages = {"codes.steps": STEPS // 2, "tree.steps": STEPS // 4, "steps": STEPS // 4}
tree = RECIPES["ncrp-vae"].fit(data, **stages, **OPTIONS)
mixture = RECIPES["gm-vae"].fit(data, prior="mixture:27", **WARMED, **OPTIONS)

path, group = data.test.columns["path"], data.test.columns["group"]
prior = tree.pair.prior
with torch.no_grad():
    codes = tree.pair.encoder(data.test.x).mean
    by_row = prior().components(codes).argmax(1)
    by_group = prior.group_components(codes, group).argmax(1)[group]

print(f"\n{'adjusted Rand index':22}{'level 1':>10}{'level 2':>10}{'level 3':>10}")
for title, leaf in (("row by row", by_row), ("by groups of ten", by_group)):
    levels = (adjusted_rand_score(path[:, n], leaf // 3 ** (2 - n)) for n in range(3))
    print(f"{title:22}", *(f"{level:9.3f}" for level in levels))

print(f"\n{'prior':22}{'-log p(x)':>10}{'±':>10}")
for title, run in (("nested-crp:3:3", tree), ("mixture:27", mixture)):
    nll = evaluate(run, metrics=["nll"], particles=100, pictures=False)["nll"]
    print(f"{title:22}{nll.value:10.3f}{nll.se:10.3f}")
