"""Exchange the objective: bounds, divergences and critics are terms of one sum.

An objective compares the two phases of a pair, on some sites, by some divergence. Terms add and
scale, so that a method of the literature is an expression.
"""

import matplotlib.pyplot as plt

from priory import evaluate, fit
from priory.data import Data
from priory.divergences import mmd
from priory.inference import ELBO, IWAE, Match, Reconstruction
from priory.models import VAE
from priory.nets import MLP

# %%
# Four objectives, one pair
# -------------------------
# The first two bound log p(x). The third pays for squared errors and asks only that the codes of
# a whole batch follow the prior; its weight is in units of the error. The fourth is InfoVAE: half
# the price of the code, and the same match.

objectives = {
    "ELBO": ELBO(),
    "IWAE, 10 draws": IWAE(10, gradient="dreg"),
    "WAE-MMD": Reconstruction(cost="squared") + 100 * Match(mmd, "z"),
    "InfoVAE": ELBO(beta=0.5) + 100 * Match(mmd, "z"),
}
data = Data.named("digits")
options = {"steps": 500, "lr": 2e-3, "schedule": "cosine", "valid_every": 0, "progress": False}
metrics = ["nll", "kl", "reconstruction", "latent_mmd"]

runs = {}
for name, objective in objectives.items():
    pair = VAE(encoder=MLP((128,)), decoder=MLP((128,)), latent=8)
    runs[name] = fit(pair, objective, data, **options)

# %%
# One judge for all
# -----------------
# Each is judged by the same bound, whatever it was trained by; a loss that is no bound is never
# printed as one.

print(f"{'':16}", *(f"{metric:>20}" for metric in metrics))
reports = {n: evaluate(r, metrics=metrics, particles=100, pictures=False) for n, r in runs.items()}
for name, report in reports.items():
    cells = [f"{report[m].value:.4f} ± {report[m].se:.4f}" for m in metrics]
    print(f"{name:16}", *(f"{cell:>20}" for cell in cells))

# %%
# The codes
# ---------
# Means of the codes of the test images, by digit, in their first two coordinates; the circle
# holds 95% of the prior. All four fill the prior; what they traded for it stands in the numbers
# above.

figure, axes = plt.subplots(1, 4, figsize=(10, 2.7), layout="constrained")
labels = data.test.columns["y"].numpy()
for axis, (name, run) in zip(axes, runs.items(), strict=True):
    z = run.encode(data.test.x).mean["z"].numpy()
    axis.scatter(z[:, 0], z[:, 1], c=labels, cmap="tab10", s=8)
    axis.add_patch(plt.Circle((0, 0), 2.45, fill=False, color="0.6"))
    axis.set(title=name, xlim=(-4, 4), ylim=(-4, 4), aspect="equal", xticks=[], yticks=[])
