"""Classical models as pairs: naive Bayes beside logistic regression, pPCA beside a VAE.

Naive Bayes learns p(x, y) by counting, logistic regression p(y | x) by a gradient: the first soon
has what it can learn, the second goes on (Ng and Jordan, 2001), and only the first draws digits.
Probabilistic PCA is a VAE with linear nets; its likelihood is exact, which the judge is held to.
"""

from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

from priory import evaluate, fit
from priory.data import Data
from priory.inference import ELBO
from priory.models import VAE
from priory.recipes import RECIPES

ROWS = (30, 100, 300, 1000)
digits = Data.named("digits", binarise="threshold")
x, y = digits.test.x, digits.test.columns["y"]


def arrays(split):
    """Return a split's images as vectors, and its labels."""
    return split.x.flatten(1).numpy(), split.columns["y"].numpy()


accuracy = {"naive Bayes": [], "logistic regression": []}
for rows in ROWS:
    data = Data.named("digits", binarise="threshold", rows=rows)
    run = RECIPES["naive-bayes"].fit(data, progress=False)
    right = (run.pair.classify(x).probs.argmax(-1) == y).double().mean()
    other = LogisticRegression(max_iter=2000).fit(*arrays(data.train))
    for name, value in zip(
        accuracy, (float(right), other.score(*arrays(digits.test))), strict=True
    ):
        accuracy[name].append(value)
        print(f"{rows:5} rows, {name:20} {value:.3f}")

grey = Data.named("digits", binarise="none")
principal = RECIPES["ppca"].fit(grey, progress=False)
pair = VAE(likelihood="normal", latent=10)
vae = fit(pair, ELBO(), grey, steps=4000, lr=2e-3, valid_every=0, progress=False)
exact = principal.pair.log_likelihood(grey.test.x).mean().item()
print(f"\npPCA, log p(x) in nats: {exact:.2f} exactly")
for name, trained in (("pPCA", principal), ("VAE", vae)):
    nll = evaluate(trained, metrics=["nll"], particles=50, pictures=False)["nll"]
    print(f"{name:4}, the judge's: {-nll.value:.2f} ± {nll.se:.2f}, {nll.kind}")

figure = Figure(figsize=(9, 6.4), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=(1, 1.1))
axis = above.subplots()
for name, values in accuracy.items():
    axis.plot(ROWS, values, "o-", label=name)
axis.set(xscale="log", xlabel="training rows", ylabel="accuracy on test digits")
axis.set_xticks(ROWS, [f"{rows}" for rows in ROWS], minor=False)
axis.minorticks_off()
axis.legend(frameon=False)
classes = {"y": range(len(digits.classes))}
drawn = {
    "naive Bayes, a digit of each class": run.sample(10, given=classes)["x_mean"],
    "naive Bayes, its pixels drawn": run.sample(10, given=classes)["x"],
    "pPCA": principal.sample(10)["x_mean"],
    "VAE": vae.sample(10)["x_mean"],
}
for places, (title, images) in zip(below.subplots(4, 10), drawn.items(), strict=True):
    places[0].set_title(title, loc="left", fontsize=9).set_in_layout(False)
    for place, image in zip(places, images, strict=True):
        place.imshow(image[0].numpy(), cmap="gray_r", vmin=0, vmax=1)
        place.set_axis_off()
figure.savefig("classical.png", dpi=110)
print("\nwrote classical.png")
