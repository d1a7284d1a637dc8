"""Layers of latents: one, two and three of them, and a ladder; what each layer holds, as a picture.

Every network is trained alike, by the bound with a warm-up of its KL. The history has the rate of
each layer, in nats of a datum, while it is trained; the judge says what the decoder loses without
it. A layer that holds nothing is not there: the top of a chain is the first to go.
"""

from matplotlib.figure import Figure

from priory import evaluate
from priory.data import Data
from priory.recipes import RECIPES

EPOCHS = 40
digits = Data.named("digits")
print(digits)

NETS = {"encoder": "mlp:128:tanh", "decoder": "mlp:128:tanh", "inner": "mlp:64:tanh"}
ROWS = {
    "one layer": ("hierarchical-vae", {**NETS, "latents": "16"}),
    "two layers": ("hierarchical-vae", {**NETS, "latents": "16,8"}),
    "three layers": ("hierarchical-vae", {**NETS, "latents": "16,8,4"}),
    "ladder": ("ladder-vae", {"latents": "16,8,4", "widths": "128,64,32"}),
}

figure = Figure(figsize=(3.4 * len(ROWS), 3.0), layout="constrained")
axes = figure.subplots(1, len(ROWS), sharex=True, sharey=True)
for axis, (title, (name, options)) in zip(axes, ROWS.items(), strict=True):
    run = RECIPES[name].fit(
        digits, **options, epochs=EPOCHS, objective="elbo:beta=(linear:0.01:1:300)", progress=False
    )
    metrics = ["nll", "kl", "active_units", "layer_loss"]
    report = evaluate(run, metrics=metrics, particles=200, pictures=False)
    print(f"\n{title}")
    for record in report:
        print(f"  {record}")
        if record.applicable and record.name != "nll":
            print(f"    {record.note}")
    for text in run.warnings:
        print(f"  warning: {text}")

    epochs = [row["epoch"] for row in run.history]
    layers = sorted(key for key in run.history[-1] if key.startswith("kl."))
    for key in layers:
        axis.plot(epochs, [row[key] for row in run.history], label=key.removeprefix("kl."))
    if not layers:
        value = report["kl"].value
        axis.axhline(value, label="z1, at the end")
    axis.axhline(0.0, color="0.8", linewidth=0.8, zorder=0)
    axis.set(title=f"{title}: {report['nll'].text} nats", xlabel="epoch")
    axis.legend(frameon=False)
axes[0].set_ylabel("rate of the layer, nats")
figure.savefig("layers.png", dpi=110)
print("\nwrote layers.png")
