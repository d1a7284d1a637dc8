"""Two domains without pairs: a CycleGAN finds which outline belongs to which digit.

The one domain are digits, the other outlines of other digits: no digit of the training rows has its
own outline among them. Each map has to fool a critic of its domain, and to undo the other map. Of
the test digits the outlines are known, so that what was found can be counted.
"""

import functools

import torch

from priory import evaluate, fit
from priory.data import Data
from priory.inference import Adversarial, Reconstruction, Sleep
from priory.models import CycleGAN
from priory.nets import MLP, ResNet

data = Data.named("digits:edges")
print(data)

# G, the encoder, reads x and says b; F, the decoder, reads b and says x.
pair = CycleGAN(encoder=ResNet(16, 1, patch=1), decoder=ResNet(16, 1, patch=1))

# Awake, x is a digit and b = G(x); asleep, b is an outline and x = F(b). Both domains are
# compared across the two phases, and both round trips come back to where they began.
loss = 0.03 * (Reconstruction("x", cost="absolute") + Sleep("b", cost="absolute"))
for site in ("x", "b"):
    critic = MLP((64,), "leaky-relu-0.2")
    loss = loss + Adversarial(critic, site, game="least-squares")

names = ["pairing_accuracy", "pairing_accuracy_back", "cycle_error"]
pair.build(data.train.x)
print("\nuntrained")
for record in evaluate(pair, data, metrics=names, pictures=False):
    print(" ", record)

run = fit(
    pair,
    loss,
    data,
    steps=400,
    batch_size=32,
    lr=2e-3,
    schedule="cosine",
    optim=functools.partial(torch.optim.Adam, betas=(0.5, 0.999)),
    valid_every=0,
)
print(f"\ntrained for {run.seconds:.0f} s, without a pair")
for record in evaluate(run, metrics=names, pictures=False):
    print(" ", record)

x, other = data.test.x[:2], data.test.columns["other"][:2]
with torch.no_grad():
    drawn = run.pair.encoder(x).clamp(0, 1)
print("\na digit          its outline, found  the true one")
for images in zip(x, drawn, other, strict=True):
    for lines in zip(*(image[0] for image in images), strict=True):
        print("    ".join("".join(" .:*#"[int(4 * v)] * 2 for v in line) for line in lines))
