"""A tree that is known, found again by priors with and without one: agreement by level, and bounds.

The set `tree` has 27 clusters in groups of three and again of three. A VAE whose prior is a tree
with as many leaves says of each row which node of each level it belongs to. A mixture of 27 normals
and a standard normal have no levels: the means of the mixture's components, and the codes of the
other, are put together into 27, 9 and 3 clusters afterwards, as trees usually are made (Ward's).
"""

import torch
from scipy.cluster.hierarchy import cut_tree, ward
from sklearn.metrics import adjusted_rand_score

from priory import evaluate
from priory.data import Data
from priory.evaluation.latents.clustering import memberships
from priory.evaluation.latents.hierarchy import purity_values
from priory.priors import NestedCRP, Normal
from priory.recipes import RECIPES

WARMED = "elbo:beta=(linear:0.01:1:1000)"
PRIORS = {"nested-crp:3:3": f"{WARMED} + map", "mixture:27": WARMED, "normal": WARMED}

data = Data.named("tree")
path, y = data.test.columns["path"], data.test.columns["y"]
print(data)
titles = ("level 1", "level 2", "level 3", "purity", "-log p(x)")
print(f"\n{'prior':18}", *(f"{title:>10}" for title in titles), f"{'±':>6}")


def nodes(pair, codes):
    """Return the cluster of each row at each level, `(rows, 3)`."""
    prior = pair.prior
    if isinstance(prior, Normal):
        return torch.from_numpy(cut_tree(ward(codes.numpy()), (3, 9, 27)))
    leaf = memberships(prior(), codes).argmax(1, keepdim=True)
    if isinstance(prior, NestedCRP):
        return leaf // torch.tensor([9, 3, 1])
    above = torch.from_numpy(cut_tree(ward(prior.loc.numpy()), (3, 9)))
    return torch.cat([above[leaf[:, 0]], leaf], 1)


for prior, objective in PRIORS.items():
    run = RECIPES["ncrp-vae"].fit(
        data, steps=2000, prior=prior, objective=objective, valid_every=0, progress=False
    )
    with torch.no_grad():
        found = nodes(run.pair, run.pair.encoder(data.test.x).mean)
    levels = [adjusted_rand_score(path[:, n], found[:, n]) for n in range(3)]
    purity = float(purity_values(found, y).mean())
    nll = evaluate(run, metrics=["nll"], particles=100, pictures=False)["nll"]
    numbers = (*levels, purity, nll.value)
    print(f"{prior:18}", *(f"{n:10.3f}" for n in numbers), f"{nll.se:6.3f}", flush=True)
