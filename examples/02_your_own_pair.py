"""A Pyro program that is no VAE through the same engine: Bayesian linear regression.

The weights are global latents, the data come in batches, and the exact posterior is known:
w ~ N(0, I), y = X w + 0.7 e gives w | y ~ N(S X'y / 0.49, S), S = (I + X'X / 0.49)^-1.
"""

from functools import partial

import pyro
import pyro.distributions as dist
import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

from priory.inference import ELBO, SVI, Linear

NOISE = 0.7
features, target = load_diabetes(return_X_y=True)
x = torch.tensor(scale(features[:, :4]), dtype=torch.float32)  # age, sex, body mass, pressure
y = torch.tensor(scale(target), dtype=torch.float32)
rows, width = x.shape


def model(x, y, size):
    w = pyro.sample("w", dist.Normal(torch.zeros(width), 1.0).to_event(1))
    with pyro.plate("data", size, subsample=torch.arange(len(x))):
        pyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)


# Each program gets the arguments that its signature names, so the guide may take none.
def guide():
    loc = pyro.param("loc", torch.zeros(width))
    root = pyro.param("root", 0.1 * torch.eye(width), constraint=dist.constraints.lower_cholesky)
    pyro.sample("w", dist.MultivariateNormal(loc, scale_tril=root))


# One's own loop: SVI takes the place of pyro.infer.SVI, and Linear lowers the learning rate.
pyro.set_rng_seed(0)
adam = partial(torch.optim.Adam, lr=0.02)
svi = SVI(model, guide, adam, ELBO(), rate=Linear(1.0, 0.02, 1500))
for _ in range(750):
    for batch in torch.randperm(rows).split(rows // 2):
        svi.step(x[batch], y[batch], rows)

precision = torch.eye(width) + x.T @ x / NOISE**2
exact = torch.linalg.solve(precision, x.T @ y / NOISE**2)
deviation = torch.linalg.inv(precision).diagonal().sqrt()
found = dist.MultivariateNormal(pyro.param("loc"), scale_tril=pyro.param("root"))
print("             mean (exact)    sd (exact)")
for k in range(width):
    loc, sd = float(found.mean[k].detach()), float(found.stddev[k].detach())
    print(f"weight {k:2}  {loc:6.3f} ({exact[k]:6.3f})  {sd:.3f} ({deviation[k]:.3f})")
off = float((found.mean.detach() - exact).abs().max() / deviation.max())
print(f"largest error of a mean: {off:.2f} posterior standard deviations")
