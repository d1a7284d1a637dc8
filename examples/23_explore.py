"""Two priors on one page: drag a point through each latent space, offline, in one file.

The page holds the decoders as lists of layers, which the browser evaluates while the point moves.
What stands in it is also printed here: the layers that each decoder has become.
"""

import priory
from priory import fit
from priory.data import Data
from priory.evaluation.explorer.view import view_of
from priory.inference import ELBO
from priory.models import VAE
from priory.nets import Deconv
from priory.priors import VampPrior

digits = Data.named("digits")
PAIRS = {
    "normal": VAE(prior="normal", latent=8),
    "vamp": VAE(prior=VampPrior(50), latent=8),
    "convolutions": VAE(latent=2, decoder=Deconv((8, 16), 64, batch_norm=True)),
}
runs = {name: fit(pair, ELBO(), digits, epochs=60, lr=2e-3) for name, pair in PAIRS.items()}

for name, run in runs.items():
    view = view_of(run, name)
    kinds = " > ".join(record["kind"] for record in view.layers.records)
    print(f"{name}: {view.varying} of {run.pair.latent} coordinates vary with the data")
    print(f"  {kinds}, then the mean of {view.layers.head['kind']}")
    print(f"  {view.layers.weights:,} numbers, {'half' if view.half else 'single'} precision")

page = priory.explore(list(runs.values()), "priors.html", names=list(runs))
print(f"{page}: {page.stat().st_size / 1e6:.2f} MB, which any browser opens")
