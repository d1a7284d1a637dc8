"""Your first VAE: fit it, look at it, judge it.

A variational autoencoder has two nets. The *guide* q(z | x) turns an image into a distribution
over codes, and the *model* p(x, z) draws a code from the prior and an image from the code. Both
are Pyro programs, and the pair of them is all that Priory asks for.
"""

import matplotlib.pyplot as plt

from priory import evaluate, fit
from priory.data import Data
from priory.inference import ELBO
from priory.models import VAE

# %%
# The data
# --------
# 1,797 handwritten digits of 8 x 8 pixels come with scikit-learn. Each pixel is drawn afresh as 0
# or 1 at every step, with its brightness as the probability.

data = Data.named("digits")
print(data)

# %%
# The pair, and its training
# --------------------------
# Prior, nets and likelihood are arguments, and all have defaults. ``ELBO()`` is the objective:
# what the code costs in nats, and what the image costs given the code.

pair = VAE(latent=8)
run = fit(pair, ELBO(), data, epochs=40, lr=3e-3, schedule="cosine", progress=False)

rows = [row for row in run.history if "valid" in row]
figure, axis = plt.subplots(figsize=(5, 2.6), layout="constrained")
axis.plot(
    [row["step"] for row in run.history], [row["loss"] for row in run.history], label="training"
)
axis.plot([row["step"] for row in rows], [-row["valid"] for row in rows], label="validation")
axis.set(xlabel="step", ylabel="nats per image")
axis.legend()

# %%
# Reconstructions and samples
# ---------------------------
# *Awake*, the guide reads an image and the model is replayed on its code; *asleep*, the model
# draws the code by itself. Above are test images, below them what came back, and in the last two
# rows samples.

images = data.test.x[:12]
codes = run.encode(images)
back = run.pair.decoder(codes.mean["z"]).mean.detach()
samples = run.sample(24)["x_mean"]

figure, axes = plt.subplots(4, 12, figsize=(7, 2.5))
for axis, image in zip(axes.flat, [*images, *back, *samples], strict=True):
    axis.imshow(image[0].numpy(), cmap="gray_r", vmin=0, vmax=1)
    axis.axis("off")

# %%
# The judge
# ---------
# A training loss judges nothing: the judge bounds log p(x) of the test images by 500 draws for
# each, and sets every number beside its standard error. The full report has some forty rows; here
# are a few.

report = evaluate(run, metrics=["nll", "kl", "active_units", "mmd"], pictures=False)
print(report)

# %%
# ``nll`` is an upper bound on -log p(x) in nats, and ``mmd`` compares samples with test images:
# beside it stand other real images, which should be near 0, and a baseline that draws each pixel
# by itself.
