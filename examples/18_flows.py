"""Flows: exact densities of a toy set in the plane, and bits per dimension of greyscale digits.

A spline flow and an affine one on a grid of 25 narrow modes, beside the entropy, below which no
mean of -log p(x) lies; then the digits' levels with uniform noise, and with noise that is learned.
"""

from priory import evaluate
from priory.data import DENSITIES, Data
from priory.data.toys import TOYS
from priory.evaluation.samples.modes import modes
from priory.recipes import RECIPES

grid = DENSITIES["grid"]
entropy = {toy.name: toy.entropy for toy in TOYS}["grid"]
print(f"grid: entropy {entropy:.3f} nats")
for name in ("nsf", "realnvp"):
    run = RECIPES[name].fit("grid", steps=1500, valid_every=0, progress=False)
    nll = evaluate(run, metrics=["nll"], pictures=False)["nll"]
    found = modes(run.sample(2000)["x"], grid.centres, grid.sd)
    near = float(found.near.mean())
    print(f"{name:8} -log p(x) {nll.value:.3f} ({nll.kind}), {found.found} modes, {near:.0%} near")

digits = Data.named("digits", binarise="none")
for dequantise in ("uniform", "variational"):
    run = RECIPES["glow"].fit(
        digits, dequantise=dequantise, steps=300, valid_every=0, progress=False
    )
    report = evaluate(run, metrics=["elbo", "bits_per_dim"], particles=20, pictures=False)
    bits = report["bits_per_dim"]
    print(f"{dequantise:12} {bits.value:.3f} ± {bits.se:.3f} bits per dimension ({bits.kind})")
    print(f"{'':12} one draw of the noise: {-report['elbo'].value:.1f} nats")
