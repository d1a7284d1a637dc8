"""One belief net of bits, trained by enumeration and by four estimates of it: one table.

Bits have no reparameterised samples. Of a net this small every value of the latents can be listed,
so that training can be exact, and every row is judged by the exact likelihood of the test images;
the gap is KL(q || p(z | x)), how far the recognition net is from the model's posterior.
"""

import torch

from priory.data import Data
from priory.inference import ELBO, IWAE
from priory.recipes import RECIPES

digits = Data.named("digits")
print(digits)
print(f"\n{'trained by':40}{'-log p(x)':>10}{'gap':>8}{'seconds':>9}   nats per test image")

for name in ("belief-net", "wake-sleep", "rws", "vimco", "disarm"):
    recipe = RECIPES[name]
    run = recipe.fit(digits, layers=(5, 2), steps=400, lr=1e-2, valid_every=0, progress=False)
    pair, x = run.pair, digits.test.x
    with torch.no_grad(), run.scope():
        # The enumerated bound of one particle is log p(x) itself.
        exact = IWAE(1, gradient="enumerate")(pair.model, pair.guide, x).item()
        bound = ELBO(gradient="enumerate")(pair.model, pair.guide, x).item()
    label = f"{name}: {recipe.loss}"
    print(f"{label:40}{exact:10.2f}{bound - exact:8.2f}{run.seconds:9.1f}", flush=True)
