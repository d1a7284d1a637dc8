"""A first variational autoencoder: define it, train it, judge it, look at it."""

import matplotlib.pyplot as plt

from priory import evaluate, fit
from priory.data import Data
from priory.inference import ELBO
from priory.models import VAE

data = Data.named("digits")  # 1,797 handwritten digits, 8 x 8, binarised afresh at every step
print(data)

# The prior, the nets and the likelihood are arguments; all have defaults.
pair = VAE(prior="normal", latent=8)

run = fit(pair, ELBO(), data, epochs=40, lr=3e-3, schedule="cosine")
print(f"trained for {run.history[-1]['step']} steps in {run.seconds:.0f} s")

# Every number comes with its standard error, sample count and kind.
report = evaluate(run, particles=500)
print(report)
report.to_html("first_vae.html")

# A run is a folder; `priory.load` and `priory evaluate` read it back.
run.save("first_vae", overwrite=True)

generated = run.sample(32)["x_mean"]
figure, axes = plt.subplots(4, 8, figsize=(6, 3))
for axis, image in zip(axes.flat, generated, strict=True):
    axis.imshow(image[0].numpy(), cmap="gray_r", vmin=0, vmax=1)
    axis.axis("off")
figure.savefig("first_vae.png", dpi=120)
print("wrote first_vae.html, first_vae.png and the folder first_vae")
