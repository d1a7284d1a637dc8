"""A search for a learning rate and a prior, the best run's card, and a log of one's own."""

from pathlib import Path

from priory import fit, load, tune
from priory.data import Data
from priory.inference import ELBO, Callback
from priory.models import VAE

data = Data.named("digits")
search = {"lr": "1e-3..1e-2:log", "prior": ["normal", "mixture:10"]}
options = {"latent": 4, "encoder": "mlp:32", "decoder": "mlp:32", "epochs": 2}

found = tune(
    "vae", data, search=search, trials=4, out="tuned", metrics=["nll"], particles=20, **options
)
print(found)  # every trial, what became of it, and the best one
print(found.report)  # of the best one, on test rows

best = load("tuned/best")
print(Path("tuned/best/card.md").read_text(encoding="utf-8"))
print(f"pages: tuned/index.html, tuned/best/report.html; {len(best.history)} epochs")


class Printed(Callback):
    """Prints the bound of each epoch; a logger such as TensorBoard is one too."""

    def after_epoch(self, training):
        """Print the epoch's row."""
        row = training.history[-1]
        print(f"step {row['step']}: bound {row['bound']:.2f}")

    def after_best(self, training):
        """Say that it is the best so far."""
        print(f"  step {training.history[-1]['step']} is the best so far")


fit(VAE(latent=4), ELBO(), data, epochs=2, patience=3, callbacks=[Printed()])
