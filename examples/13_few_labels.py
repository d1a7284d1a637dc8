"""Few labels: M2 beside a classifier of the same size that sees the labelled rows alone; one table.

M2 explains all training digits, and its classifier q(y | x) is taught by the labels that may be
seen: held where known, summed exactly where not. The fewer the labels, the more the other rows
tell. Accuracy on the same test digits.
"""

import torch
from torch.nn.functional import cross_entropy

from priory import evaluate
from priory.data import Data
from priory.nets import MLP
from priory.recipes import RECIPES

LABELS = (20, 50, 100, 300, 1000)
METRICS = ["accuracy", "label_nll"]
WIDTHS = (11, 7, 27, 7)


def supervised(data, steps=300):
    """Return the test accuracy and -log p(y | x) of M2's classifier, trained on labels alone."""
    torch.manual_seed(0)
    net = MLP((128,))
    net.build((1, 8, 8), (len(data.classes),))
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    seen = data.train.columns["labelled"]
    x, y = data.train.x[seen], data.train.columns["y"][seen]
    for _ in range(steps):
        optimiser.zero_grad()
        cross_entropy(net(torch.bernoulli(x)), y).backward()
        optimiser.step()
    logits, labels = net(data.test.x), data.test.columns["y"]
    return float((logits.argmax(1) == labels).double().mean()), cross_entropy(logits, labels).item()


print(Data.named("digits"))
titles = ("supervised", "M2", "supervised, -log p(y | x)", "M2")
print("\nlabels", *(f"{title:>{width}}" for title, width in zip(titles, WIDTHS, strict=True)))
for labels in LABELS:
    data = Data.named("digits", labelled=labels)
    other = supervised(data)
    run = RECIPES["m2"].fit(data, steps=1500, valid_every=0, progress=False)
    report = evaluate(run, metrics=METRICS, pictures=False)
    ours = [report[metric].value for metric in METRICS]
    cells = zip((other[0], ours[0], other[1], ours[1]), WIDTHS, strict=True)
    print(f"{labels:6}", *(f"{value:{width}.3f}" for value, width in cells), flush=True)

classes = range(len(data.classes))
samples = run.sample(len(classes), given={"y": classes})["x"]
print("\nsamples of M2, one of each label:", tuple(samples.shape))
