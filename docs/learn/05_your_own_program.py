"""Your own Pyro program, judged: two methods are enough.

Any module with a ``model`` and a ``guide`` is a pair. This one is in no table: an image is a
stroke of one of five brushes, a category, and a style. The category is summed out exactly, and
the report judges it like everything else.
"""

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
from torch import nn

from priory import evaluate, fit
from priory.data import Data
from priory.inference import ELBO

BRUSHES, LATENT = 5, 4

# %%
# The pair
# --------
# Sites are named: data ``x``, latents anything else; the batch is the plate ``data``. One
# ``pyro.module`` line registers what is trained.


def net(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, outputs))


class Brushes(nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder = net(BRUSHES + LATENT, 64)
        self.choice = net(64, BRUSHES)
        self.style = net(64 + BRUSHES, 2 * LATENT)

    def model(self, x):
        pyro.module("brushes", self)
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.OneHotCategorical(torch.ones(BRUSHES)))
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
            c, z = c.expand(*z.shape[:-1], -1), z.expand(*c.shape[:-1], -1)
            logits = self.decoder(torch.cat([c, z], -1)).unflatten(-1, (1, 8, 8))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(3), obs=x)

    def guide(self, x):
        pyro.module("brushes", self)
        flat = x.flatten(1)
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.OneHotCategorical(logits=self.choice(flat)))
            flat = flat.expand(*c.shape[:-1], -1)
            loc, log_scale = self.style(torch.cat([flat, c], -1)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


# %%
# The training
# ------------
# A category has no pathwise gradient; ``enumerate`` sums it out. Had the gradient been left to
# the default, the first step would have been refused, with the ways that there are.

data = Data.named("digits")
bound = ELBO(gradient="enumerate")
run = fit(Brushes(), bound, data, steps=1000, lr=3e-3, schedule="cosine", progress=False)

# %%
# The judge
# ---------
# It asks for draws alone, so that this pair gets the numbers of any VAE, calibration included.
# What a pair cannot be asked is "not applicable", with the reason.

metrics = ["nll", "elbo", "calibration", "mmd", "accuracy"]
print(evaluate(run, metrics=metrics, particles=100, pictures=False))

# %%
# The brushes
# -----------
# Ten samples of each brush, from the model's own draws.

drawn = run.sample(600)
figure, axes = plt.subplots(BRUSHES, 10, figsize=(6, 3))
for brush, row in enumerate(axes):
    for axis, image in zip(row, drawn["x_mean"][drawn["c"].argmax(-1) == brush], strict=False):
        axis.imshow(image[0].numpy(), cmap="gray_r", vmin=0, vmax=1)
        axis.axis("off")
