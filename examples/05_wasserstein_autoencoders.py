"""One pair, five ways to make its codes follow the prior: one table.

A Wasserstein autoencoder pays for squared errors, and for the distance between the distribution of
its codes and the prior. Whichever divergence measures it in training, all are judged alike: by the
codes of test images against draws of the prior, and by samples against test images.
"""

from priory import evaluate, fit
from priory.data import Data
from priory.models import VAE
from priory.parsing import parse_objective

MATCHES = {
    "nothing": "",
    "mmd": "100*match:mmd:z",
    "sinkhorn": "10*match:(sinkhorn:eps=4:steps=10):z",
    "sliced": "100*match:sliced:z",
    "max-sliced": "30*match:(max-sliced:steps=5):z",
    "a critic": "adversarial:z:critic=(mlp:128,128):r1=0.1",
}
METRICS = {
    "reconstruction": "error",
    "latent_mmd": "codes, mmd",
    "latent_sliced": "codes, sliced",
    "mmd": "samples, mmd",
}

digits = Data.named("digits", binarise="none")
print(digits)
print(f"\n{'codes matched by':18}", *(f"{title:>18}" for title in METRICS.values()))

for name, match in MATCHES.items():
    pair = VAE(
        encoder="mlp",
        decoder="mlp",
        likelihood="delta",  # the decoder's output is the image
        latent=4,
        deterministic=True,  # the encoder's output is the code
    )
    cost = "reconstruction:cost=squared"
    loss = parse_objective(f"{cost} + {match}" if match else cost)
    run = fit(pair, loss, digits, steps=300, lr=2e-3, schedule="cosine", valid_every=0)
    report = evaluate(run, metrics=list(METRICS), pictures=False)
    cells = [f"{report[m].value:.4f} ± {report[m].se:.4f}" for m in METRICS]
    print(f"{name:18}", *(f"{cell:>18}" for cell in cells), flush=True)

print(f"\nthe last run's samples are {tuple(run.sample(5)['x'].shape)}: each one decoded draw of z")
