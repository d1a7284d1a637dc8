"""A tree that is known, found again by a VAE with a tree, a mixture and a normal as its prior.

    python -m benchmarks.trees tree tree-4d

trains each prior on five trees of each set (`data.seed` and `seed` 0 to 4) and keeps the results
under `benchmarks/results/trees`. A trial (`--steps 100`) prints its table and writes nothing.

The tree is the recipe `ncrp-vae`, in its two stages. A mixture of 27 normals and a normal have as
many steps; they have no levels, and Ward's clustering of the means of the components, and of the
codes, makes them afterwards. Nodes are compared with the data's row by row, and by groups, whose
rows share their path: there the log densities of the rows of a group add up.

    python -m benchmarks.trees --picture

draws the tree of the digits.
"""

from __future__ import annotations

import argparse
from statistics import mean
from typing import Any

import torch
from scipy.cluster.hierarchy import cut_tree, ward
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from benchmarks import kept
from priory import evaluate
from priory.data import SETS, Data
from priory.evaluation import Draws
from priory.evaluation.isolation import sealed
from priory.evaluation.latents.clustering import memberships
from priory.evaluation.latents.hierarchy import purity_values
from priory.evaluation.report.gallery import Gallery, draw, gather
from priory.inference.tree_of_codes import assembled
from priory.priors import NestedCRP, Normal
from priory.recipes import RECIPES

TABLE = "trees"
PICTURE = kept.FOLDER / "trees.png"
NAMES, SEEDS, STEPS, PARTICLES = ("tree", "tree-4d"), 5, 1000, 100
WIDTHS = torch.tensor([9, 3, 1])  # leaves below a node of each level
_WARMED = {"objective": "elbo:beta=(linear:0.01:1:1000)", "lr": 5e-3, "schedule": "cosine"}
PRIORS: dict[str, tuple[str, dict[str, Any]]] = {
    "nested-crp:3:3": ("ncrp-vae", {}),
    "mixture:27": ("gm-vae", _WARMED),
    "normal": ("vae", _WARMED),
}


def nodes(prior: Any, codes: Tensor) -> Tensor:
    """Return the node of each row at each level, (rows, 3)."""
    if isinstance(prior, Normal):
        return torch.from_numpy(cut_tree(ward(codes.numpy()), (3, 9, 27)))
    leaf = memberships(prior(), codes).argmax(1, keepdim=True)
    if isinstance(prior, NestedCRP):
        return leaf // WIDTHS
    above = torch.from_numpy(cut_tree(ward(prior.loc.numpy()), (3, 9)))
    return torch.cat([above[leaf[:, 0]], leaf], 1)


def agreement(found: Tensor, true: Tensor) -> list[float]:
    """Return the adjusted Rand index of each level."""
    return [
        adjusted_rand_score(*both) for both in zip(true.T.numpy(), found.T.numpy(), strict=True)
    ]


def best(name: str, seed: int) -> list[float]:
    """Return the agreement of the most probable tree over the true leaves, by the true widths."""
    leaves = torch.from_numpy(SETS[name].nodes(seed)[-1])  # type: ignore[attr-defined]
    prior = NestedCRP(3, 3)
    prior.build(leaves.shape[1], torch.zeros(1, 1))
    prior.tau.copy_(torch.tensor([4.0, 2.0, 0.7]))
    place = assembled(leaves, prior, 20, 0).argsort().unsqueeze(1)
    return agreement(place // WIDTHS, torch.arange(27).unsqueeze(1) // WIDTHS)


@torch.no_grad()
def measure(name: str, title: str, seed: int, steps: int) -> dict[str, Any]:
    """Train and judge one prior on one tree.

    Args:
        name: Of the data set.
        title: Of the prior.
        seed: Of the tree and of the training.
        steps: Of each of two stages.
    """
    recipe, options = PRIORS[title]
    data = Data.named(name, seed=seed)
    length = (
        {"steps": steps, "codes.steps": steps} if recipe == "ncrp-vae" else {"steps": 2 * steps}
    )
    with torch.enable_grad():
        run = RECIPES[recipe].fit(
            data,
            prior=title,
            latent=SETS[name].dims,  # type: ignore[attr-defined]
            **options,
            **length,
            seed=seed,
            valid_every=0,
            progress=False,
        )
    path, y, group = (data.test.columns[column] for column in ("path", "y", "group"))
    prior, codes = run.pair.prior, run.pair.encoder(data.test.x).mean
    found = nodes(prior, codes)
    groups = None
    if isinstance(prior, NestedCRP):
        leaf = prior.group_components(codes, group).argmax(1, keepdim=True)
        first = torch.unique_consecutive(group, return_counts=True)[1].cumsum(0) - 1
        groups = agreement(leaf // WIDTHS, path[first])
    nll = evaluate(run, metrics=["nll"], particles=PARTICLES, pictures=False)["nll"]
    return {
        "prior": title,
        "rows": agreement(found, path),
        "groups": groups,
        "purity": float(purity_values(found, y).mean()),
        "nll": nll.value,
        "se": nll.se,
        "seconds": run.seconds,
    }


def results() -> list[dict[str, Any]]:
    """Return the kept results, in the order of the sets and seeds."""
    return kept.results(TABLE, NAMES)


def table(found: list[dict[str, Any]] | None = None) -> str:
    """Return results as Markdown, all that are kept if none are given."""
    found = results() if found is None else found
    lines = [
        "| set | prior | level 1 | level 2 | level 3 | purity | -log p(x) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(r["row"] for r in found):
        mine = [r for r in found if r["row"] == name]
        lines.append(f"| `{name}` | (most probable tree, true leaves) {_levels(mine)}| | |")
        for title in PRIORS:
            rows = [row for r in mine for row in r["priors"] if row["prior"] == title]
            purity = ", ".join(f"{row['purity']:.2f}" for row in rows)
            nll = ", ".join(f"{row['nll']:.2f}" for row in rows)
            levels = _levels([{"best": row["rows"]} for row in rows])
            lines.append(f"| `{name}` | `{title}` {levels}| {purity} | {nll} |")
            if rows[0]["groups"]:
                levels = _levels([{"best": row["groups"]} for row in rows])
                lines.append(f"| `{name}` | `{title}`, by groups {levels}| | |")
    error = mean(row["se"] for r in found for row in r["priors"])
    return "\n".join(
        [
            *lines,
            "",
            "Adjusted Rand index at each level of five trees, dendrogram purity with the leaves as "
            f"classes, the bound with K = {PARTICLES} on 3,000 test rows, its standard error "
            f"{error:.2f}. {kept.place(found)}",
        ]
    )


def _levels(rows: list[dict[str, Any]]) -> str:
    """Return the cells of the levels."""
    each = zip(*(row["best"] for row in rows), strict=True)
    return "".join(f"| {', '.join(f'{value:.2f}' for value in level)} " for level in each)


def picture() -> None:
    """Draw the tree of the digits, and print how it is judged on their test rows."""
    data = Data.named("digits")
    run = RECIPES["ncrp-vae"].fit(
        data, prior="nested-crp:2:4", latent=8, valid_every=0, progress=False
    )
    metrics = ["nll", "clustering_majority", "dendrogram_purity"]
    print(evaluate(run, metrics=metrics, particles=PARTICLES, pictures=False))
    pair = run.pair
    with sealed(pair.model, pair.guide):
        found = gather(Draws(pair.model, pair.guide, data.test.columns)).tree
    draw(Gallery(tree=found))["Tree"].savefig(PICTURE, dpi=110)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", default=[*NAMES], help=f"of {', '.join(NAMES)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[*range(SEEDS)])
    parser.add_argument("--steps", type=int, default=STEPS, help="of each of two stages")
    parser.add_argument("--picture", action="store_true", help="draw the tree of the digits alone")
    args = parser.parse_args()
    if args.picture:
        picture()
        return
    for seed in args.seeds:
        for name in args.sets:
            found = {
                "row": name,
                "seed": seed,
                "steps": args.steps,
                "best": best(name, seed),
                "priors": [measure(name, title, seed, args.steps) for title in PRIORS],
                **kept.circumstances(),
            }
            print(table([found]), flush=True)
            if args.steps == STEPS:
                kept.keep(TABLE, found)


if __name__ == "__main__":
    main()
