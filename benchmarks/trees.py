"""A tree that is known, found again by a VAE with a tree, a mixture and a normal as its prior.

    python -m benchmarks.trees tree tree-4d

trains each prior on five trees of each set (`data.seed` and `seed` 0 to 4) and keeps the results
under `benchmarks/results/trees`. A trial (`--steps 100`, `--shift 10`) prints its table and writes
nothing.

The tree is the recipe `ncrp-vae`, in its three stages, with at most as many children of a node as
the data's have, and with more. A mixture of 27 normals and a normal have as many steps; they have
no levels, and Ward's clustering of the means of the components, and of the codes, makes them
afterwards. Nodes are compared with the data's row by row, and by groups, whose rows share their
path: there the log densities of the rows of a group add up.

    python -m benchmarks.trees tree --priors nested-crp:3:3

trains these priors alone, and keeps what is there of the others.

    python -m benchmarks.trees --picture

draws the tree of the digits.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
DEPTH, CHILDREN = 3, 3  # of the data's trees
_WARMED = {"objective": "elbo:beta=(linear:0.01:1:1000)", "lr": 5e-3, "schedule": "cosine"}
PRIORS: dict[str, tuple[str, dict[str, Any]]] = {
    "nested-crp:3:3": ("ncrp-vae", {}),
    "nested-crp:3:5": ("ncrp-vae", {"codes.starts": 3, "tree.starts": 1}),  # for the time it takes
    "mixture:27": ("gm-vae", _WARMED),
    "normal": ("vae", _WARMED),
}


def below(children: int) -> Tensor:
    """Return the leaves below a node of each level, (3,)."""
    return children ** torch.arange(DEPTH).flip(0)


def nodes(prior: Any, codes: Tensor) -> Tensor:
    """Return the node of each row at each level, (rows, 3)."""
    if isinstance(prior, Normal):
        return torch.from_numpy(cut_tree(ward(codes.numpy()), (3, 9, 27)))
    leaf = memberships(prior(), codes).argmax(1, keepdim=True)
    if isinstance(prior, NestedCRP):
        return leaf // below(prior.branching)
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
    order = assembled(leaves, torch.tensor([4.0, 2.0, 0.7]), CHILDREN, 20, 0)
    place, widths = order.argsort().unsqueeze(1), below(CHILDREN)
    return agreement(place // widths, torch.arange(len(leaves)).unsqueeze(1) // widths)


@torch.no_grad()
def measure(name: str, title: str, seed: int, steps: int, shift: int = 0) -> dict[str, Any]:
    """Train and judge one prior on one tree.

    Args:
        name: Of the data set.
        title: Of the prior.
        seed: Of the tree and of the training.
        steps: Half of all.
        shift: Of the training's seed, against the tree's.
    """
    recipe, options = PRIORS[title]
    data = Data.named(name, seed=seed)
    length = (
        {"steps": steps - steps // 2, "tree.steps": steps // 2, "codes.steps": steps}
        if recipe == "ncrp-vae"
        else {"steps": 2 * steps}
    )
    with torch.enable_grad():
        run = RECIPES[recipe].fit(
            data,
            prior=title,
            latent=SETS[name].dims,  # type: ignore[attr-defined]
            **options,
            **length,
            seed=seed + shift,
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
        groups = agreement(leaf // below(prior.branching), path[first])
    nll = evaluate(run, metrics=["nll"], particles=PARTICLES, pictures=False)["nll"]
    return {
        "prior": title,
        "rows": agreement(found, path),
        "groups": groups,
        "nodes": [int(prior.in_use(n).sum()) for n in (1, 2, 3)] if groups else None,
        "purity": float(purity_values(found, y).mean()),
        "nll": nll.value,
        "se": nll.se,
        "seconds": run.seconds,
    }


def others(name: str, seed: int, titles: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is kept of a set and seed, but of some priors."""
    mine = [r for r in results() if (r["row"], r["seed"]) == (name, seed)]
    return [row for r in mine for row in r["priors"] if row["prior"] not in titles]


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
            if not rows:
                continue
            purity = ", ".join(f"{row['purity']:.2f}" for row in rows)
            nll = ", ".join(f"{row['nll']:.2f}" for row in rows)
            levels = _levels([{"best": row["rows"]} for row in rows])
            lines.append(f"| `{name}` | `{title}` {levels}| {purity} | {nll} |")
            if rows[0]["groups"]:
                levels = _levels([{"best": row["groups"]} for row in rows])
                lines.append(f"| `{name}` | `{title}`, by groups {levels}| | |")
                used = [
                    ", ".join(map(str, level))
                    for level in zip(*(r["nodes"] for r in rows), strict=True)
                ]
                lines.append(f"| `{name}` | `{title}`, nodes in use | {' | '.join(used)} | | |")
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
    parser.add_argument("--priors", nargs="+", choices=[*PRIORS], default=[*PRIORS])
    parser.add_argument("--steps", type=int, default=STEPS, help="half of all")
    parser.add_argument("--shift", type=int, default=0, help="of the trainings' seeds: a trial")
    parser.add_argument("--picture", action="store_true", help="draw the tree of the digits alone")
    args = parser.parse_args()
    if args.picture:
        picture()
        return
    trial = args.steps != STEPS or bool(args.shift)
    each = (args.steps, args.shift)
    for seed in args.seeds:
        for name in args.sets:
            found = {
                "row": name,
                "seed": seed,
                "steps": args.steps,
                "best": best(name, seed),
                "priors": [measure(name, title, seed, *each) for title in args.priors],
                **kept.circumstances(),
            }
            if not trial:
                found["priors"] += others(name, seed, args.priors)
            print(table([found]), flush=True)
            if not trial:
                kept.keep(TABLE, found)


if __name__ == "__main__":
    main()
