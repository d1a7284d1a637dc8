"""Stick-breaking VAEs by Nalisnick and Smyth's protocol, beside a normal latent, on dynamic MNIST.

    PRIORY_DATA=folder python -m benchmarks.sticks normal kumaraswamy

trains and judges rows, each in some five minutes of one core, keeps their results under
`benchmarks/results/sticks` and writes the table into docs/results.md. A trial with other settings
(`--steps 200 --limit 500`) prints its result and writes nothing.

The networks are those of Nalisnick and Smyth (Stick-breaking variational autoencoders, 2017): one
hidden layer of 500 rectifiers, 50 latents, batches of 100, judged by the bound with K = 100 on the
10,000 test images, and by the nearest neighbours of sampled latents: of the weights that a stick is
broken into. They train on grey levels, for up to 2,000 epochs; here pixels are binarised, at each
step in training and once in the test.

Where the KL is raised slowly, its weight rises from 0.01 to 1 over the first quarter of the steps.
The row `series` is trained with the divergence of the published code, which stops a slowly
converging series after ten terms, and is judged by the right bound, as all rows are.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import pyro
import torch
from torch import Tensor

from benchmarks import kept, pages
from priory import evaluate
from priory.data import Data
from priory.evaluation import knn_hits
from priory.evaluation.rows import read
from priory.inference import Objective, Phases
from priory.recipes import RECIPES

TABLE = "sticks"
STEPS, BATCH, RATE, PARTICLES, IMAGES = 24_000, 100, 2e-3, 100, 10_000
NEIGHBOURS = (3, 5, 10)
EULER = 0.5772156649015329


def series_kl(a: Tensor, b: Tensor, alpha: Tensor, beta: Tensor, terms: int = 10) -> Tensor:
    r"""Return KL(Kumaraswamy(a, b), Beta(alpha, beta)) by a series that is cut off; wrong.

    .. math:: E[\log(1 - v)] = -b \sum_{m \ge 1} \frac{B(m / a, b)}{m + a b}

    Args:
        a: First shape, (*batch).
        b: Second shape, (*batch).
        alpha: Of the Beta distribution, (*batch).
        beta: Likewise.
        terms: How many are added up; the published code's 10 fall short of it.
    """
    m = torch.arange(1, terms + 1, dtype=a.dtype, device=a.device)
    first, second = a.unsqueeze(-1), b.unsqueeze(-1)
    log_terms = _log_beta(m / first, second) - torch.log(m + first * second)
    mean_log_rest = -b * log_terms.exp().sum(-1)
    return (
        (1 - alpha / a) * (-EULER - torch.digamma(b) - 1 / b)
        + torch.log(a * b)
        + _log_beta(alpha, beta)
        - (b - 1) / b
        - (beta - 1) * mean_log_rest
    )


def _log_beta(p: Tensor, q: Tensor) -> Tensor:
    return p.lgamma() + q.lgamma() - (p + q).lgamma()


class SeriesELBO(Objective):
    """The negative ELBO with `series_kl` in the place of the divergence: no bound."""

    def loss(self, phases: Phases) -> Tensor:
        """Return the expected cost and the series, averaged over the batch."""
        awake = phases.reparameterised
        q, p = (awake.distribution("z", of).base_dist for of in ("guide", "model"))
        kl = series_kl(q.a, q.b, p.concentration1, p.concentration0).sum(-1)
        return awake.average(kl) - awake.mean_log_p(["x"])


_STICKS = "stick-breaking:5"
_ELBO = "elbo:analytic_kl=true"
_WARM = f"{_ELBO}:beta=(linear:0.01:1:6000)"
# title; recipe; its options; objective
ROWS: dict[str, tuple[str, str, dict[str, str], str | Objective]] = {
    "normal": ("normal latent", "vae", {}, _ELBO),
    "kumaraswamy": ("Kumaraswamy", "sb-vae", {}, _ELBO),
    "series": ("Kumaraswamy, ten terms of the KL", "sb-vae", {}, SeriesELBO()),
    "logit-normal": ("logit-normal", "sb-vae", {"posterior": "logit-normal"}, _ELBO),
    "gamma": ("Gamma", "sb-vae", {"posterior": "gamma"}, _ELBO),
    "learned": (
        "Kumaraswamy, learned concentration",
        "sb-vae",
        {"prior": f"{_STICKS}:learned=true"},
        _ELBO,
    ),
    "few": ("Kumaraswamy, truncated at 20", "sb-vae", {"latent": "20"}, _ELBO),
    "many": ("Kumaraswamy, truncated at 100", "sb-vae", {"latent": "100"}, _ELBO),
    "normal-warm": ("normal latent, KL raised slowly", "vae", {}, _WARM),
    "warm": ("Kumaraswamy, KL raised slowly", "sb-vae", {}, _WARM),
    "shares": (
        "Kumaraswamy, shares read",
        "sb-vae",
        {"prior": f"{_STICKS}:reads=shares"},
        _ELBO,
    ),
}
# -log p(x); error of 3, 5 and 10 neighbours
PUBLISHED = {
    "normal": ("93.93", "28.4, 21.0, 15.3"),
    "series": ("98.01", "9.3, 8.7, 8.9"),
    "logit-normal": ("99.48", "-"),
    "gamma": ("100.74", "-"),
}


def train(name: str, args: argparse.Namespace) -> Any:
    """Train a row."""
    _, recipe, options, objective = ROWS[name]
    nets = {"encoder": "mlp:500", "decoder": "mlp:500", "latent": "50"}
    return RECIPES[recipe].fit(
        Data.named("mnist"),
        **{**nets, **options},
        objective=objective,
        steps=args.steps,
        batch_size=BATCH,
        lr=args.lr,
        schedule="cosine",
        valid_every=0,
        seed=args.seed,
        progress=False,
    )


def judge(name: str, run: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Judge a run on the test images, and return its line of the table."""
    metrics = ["nll", "elbo", "kl", *(["sticks"] if ROWS[name][1] == "sb-vae" else [])]
    report = evaluate(
        run, metrics=metrics, particles=PARTICLES, limit=args.limit, pictures=False, seed=args.seed
    )
    return {
        "row": name,
        "seed": args.seed,
        "particles": PARTICLES,
        **kept.figures(report),
        "neighbours": neighbour_errors(run, args.limit, args.seed),
    }


def neighbour_errors(run: Any, limit: int | None, seed: int) -> dict[str, float]:
    """Return the share of test images whose nearest neighbours among the training rows mislead.

    Args:
        run: Of labelled images.
        limit: Test images; all if None.
        seed: Of the latents' draws.
    """
    test, train = (read(split) for split in (run.data.test, run.data.train))
    z, y = drawn(run, test["x"][:limit], seed), test["y"][:limit]
    pool = drawn(run, train["x"], seed + 1), train["y"]
    return {str(k): 1 - float(knn_hits(z, y, pool, k).mean()) for k in NEIGHBOURS}


@torch.no_grad()
def drawn(run: Any, x: Tensor, seed: int) -> Tensor:
    """Return a draw of each row's latent, of a stick's weights where it is one, (n, latent)."""
    pyro.set_rng_seed(seed)
    weights = getattr(run.pair.prior, "weights", lambda z: z)
    with run.scope():
        return torch.cat([weights(run.pair.encoder(rows).sample()) for rows in x.split(1000)])


def results() -> list[dict[str, Any]]:
    """Return the kept results, in the order of the rows."""
    return kept.results(TABLE, ROWS)


def table() -> str:
    """Return the table of all results as Markdown."""
    lines = [
        "| latent | -log p(x), nats | published | ELBO | KL | error of 3, 5, 10 neighbours, % "
        "| published | sticks in use | concentration | CPU seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    found = results()
    for r in found:
        title, recipe, _, _ = ROWS[r["row"]]
        nll, error = PUBLISHED.get(r["row"], ("-", "-"))
        errors = ", ".join(f"{100 * share:.1f}" for share in r["neighbours"].values())
        used = concentration = "-"
        if recipe == "sb-vae":
            sticks = r["sticks"]
            many = sticks["note"].partition(":")[0]
            used = f"{sticks['value']:.2f} ± {sticks['se']:.2f} {many}"
            concentration = sticks["note"].partition("concentration ")[2].partition(",")[0]
        lines.append(
            f"| {title} | {r['nll']['value']:.2f} ± {r['nll']['se']:.2f} | {nll} "
            f"| {r['elbo']['value']:.2f} | {r['kl']['value']:.1f} | {errors} | {error} | {used} "
            f"| {concentration} | {r['cpu_seconds']:.0f} |"
        )
    return "\n".join([*lines, "", kept.place(found)])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", choices=[[], *ROWS], help="rows; all if none is named")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--lr", type=float, default=RATE)
    parser.add_argument("--limit", type=int, default=IMAGES, help="test images to be judged")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    usual = (args.steps, args.lr, args.limit) == (STEPS, RATE, IMAGES)
    for name in () if args.table else args.rows or ROWS:
        started = time.process_time()
        run = train(name, args)
        seconds = time.process_time() - started
        found = judge(name, run, args) | {
            "epochs": run.history[-1]["epoch"],
            "steps": run.history[-1]["step"],
            "rate": args.lr,
            "cpu_seconds": seconds,
            "judge_cpu_seconds": time.process_time() - started - seconds,
            **kept.circumstances(),
        }
        print(json.dumps(found), flush=True)
        if usual:
            kept.keep(TABLE, found)
            pages.write(sticks=table())
    print(table())


if __name__ == "__main__":
    main()
