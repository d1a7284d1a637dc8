"""What each of several layers of latents holds: its KL, its active units, what is lost without it.

The layers are the latents of single data in the order in which the model draws them, the top one
first. A layer's KL is that given the layers that it depends on; what the decoder loses without it
is measured with the layers above as the guide draws them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from priory.data.split import WEIGHT
from priory.evaluation.isolation import seeded
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.sample_sets import Sets, once
from priory.inference.phases.arguments import bind
from priory.inference.phases.joint_sample import Phase
from priory.inference.phases.phases import Phases
from priory.inference.phases.recorder import Recorder

_LAYERS = 43  # random stream
_ROWS = 500  # rows at a time
_DRAWS = 16
COLLAPSED = 0.01  # nats, below which a latent holds nothing of the data


class Layer(NamedTuple):
    """One of several layers of latents.

    Args:
        site: Its name.
        kl: KL(q(z_l | .) || p(z_l | .)) of each datum, `(n,)`, in nats.
        variances: Of E[z_l | x] over the data, by coordinate; None of what has no mean.
        loss: What the decoder loses of each datum without it, `(n,)`, in nats.
        nested: Whether the guide draws it by itself after the layers above, so that `kl` is a
            divergence that may collapse.
    """

    site: str
    kl: Tensor
    variances: Tensor | None
    loss: Tensor
    nested: bool


def is_layered(draws: Any) -> bool:
    """Return whether a datum has several latents.

    Args:
        draws: Of a pair.
    """
    return len(draws.phase.local) > 1


@once
def layers_of(draws: Any) -> list[Layer]:
    """Return the layers, the top one first.

    Raises:
        Unavailable: The datum has one latent or none, or the densities are improper.
    """
    sites = draws.phase.local
    if len(sites) < 2:
        found = ", ".join(sites) or "none"
        raise Unavailable(f"needs several latents of each datum; the model has {found}")
    if draws.density.auxiliary:
        raise Unavailable(f"the guide draws {draws.phase.auxiliary[0]!r}, which is no layer")
    kls: dict[str, list[Tensor]] = {site: [] for site in sites}
    losses: dict[str, list[Tensor]] = {site: [] for site in sites}
    means: dict[str, list[Tensor]] = {site: [] for site in sites}
    for rows in seeded(draws, _LAYERS, _ROWS):
        awake = [Phases(draws.model, draws.guide, columns=rows).awake for _ in range(_DRAWS)]
        kept = [[_kept(draws.model, rows, a, n) for n in range(len(sites) + 1)] for a in awake]
        likelihoods = torch.stack([torch.stack(scores) for scores in kept]).mean(0)
        for site, loss in zip(sites, likelihoods.diff(dim=0), strict=True):
            losses[site].append(loss.cpu())
            kls[site].append(torch.stack([_kl(a, site) for a in awake]).mean(0).cpu())
            means[site].append(torch.stack([_mean(a, site) for a in awake]).cpu())
    return [
        Layer(
            site,
            torch.cat(kls[site]),
            _variances(torch.cat(means[site], 1)),
            torch.cat(losses[site]),
            draws.phase.may_collapse(site),
        )
        for site in sites
    ]


def _kl(awake: Phase, site: str) -> Tensor:
    exact = awake.kl(site)
    return (awake.log_q(site) - awake.log_p(site) if exact is None else exact)[0].double()


def _mean(awake: Phase, site: str) -> Tensor:
    """Return the mean of a latent given those before it, (batch, d); without one no coordinate."""
    z, q = awake.sample[site][0], awake.distribution(site)
    try:
        mean = q.mean.expand(z.shape) if z.is_floating_point() else z[..., None][..., :0]
    except NotImplementedError:
        mean = z.new_zeros(len(z), 0)
    return mean.double().reshape(len(z), -1)


def _variances(means: Tensor) -> Tensor | None:
    """Return the variance over data of what `(draws, n, d)` average to, without the draws' own."""
    if not means.shape[2] or means.shape[1] < 2:
        return None
    own = means.var(0).mean(0) / len(means)
    return (means.mean(0).var(0) - own).clamp(min=0)


def _kept(model: Any, rows: Mapping[str, Tensor], awake: Phase, count: int) -> Tensor:
    """Return log p(x | z), `(batch,)`, with the first layers the guide's and the rest the model's.

    Args:
        model: The model's program.
        rows: Of the data.
        awake: The guide's draws.
        count: How many layers are kept, from the top.
    """
    values = awake.particle(0)
    recorder = Recorder({site: values[site] for site in awake.local[:count]})
    with recorder:
        model(**bind(model, {n: v for n, v in rows.items() if n != WEIGHT}))
    return Phase(recorder.sites, {}).log_p(awake.observed)[0].double()


def layered_kl(draws: Any) -> Estimate:
    """Return the divergence of all layers, each layer's in the note.

    Args:
        draws: Of a pair with several latents of each datum.
    """
    layers = layers_of(draws)
    parts = [f"{layer.site} {float(layer.kl.mean()):.3g}" for layer in layers]
    dead = [la.site for la in layers if la.nested and float(la.kl.mean()) < COLLAPSED]
    text = f"posterior collapse: {', '.join(dead)} below {COLLAPSED:g} nats"
    return Estimate.mean(
        torch.stack([layer.kl for layer in layers]).sum(0),
        kind="unbiased",
        unit="nats",
        note=f"{', '.join(parts)} nats, each given the layers it depends on; {_DRAWS} draws",
        warnings=(Doubt(text, Remedy.LATENTS),) if dead else (),
    )


def layered_units(draws: Any, threshold: float) -> Estimate:
    """Return the count of active units of all layers, each layer's in the note.

    Args:
        draws: Of a pair with several latents of each datum.
        threshold: Least variance of an active unit.
    """
    found = [(layer.site, layer.variances) for layer in layers_of(draws)]
    counts = {s: (int((v > threshold).sum()), len(v)) for s, v in found if v is not None}
    if not counts:
        raise Unavailable("no layer has a posterior mean in closed form, over 2 rows or more")
    parts = [f"{site} {count} of {of}" for site, (count, of) in counts.items()]
    note = (
        f"{', '.join(parts)}; the variance of E[z | x] exceeds {threshold}, without what {_DRAWS} "
        "draws of the other layers add to it"
    )
    total = float(sum(count for count, _ in counts.values()))
    return Estimate(total, None, draws.n, "biased", note=note)


@metric("latents", "density")
def layer_loss(draws: Sets) -> Estimate:
    """Log likelihood that the decoder loses without the layer that it needs least."""
    layers = layers_of(draws)
    least = min(layers, key=lambda layer: float(layer.loss.mean()))
    parts = [f"{layer.site} {float(layer.loss.mean()):.3g}" for layer in layers]
    note = (
        f"{', '.join(parts)} nats of log p(x | z), where a layer and those below are drawn by the "
        f"model, given the layers above as the guide draws them; {_DRAWS} draws"
    )
    return Estimate.mean(least.loss, kind="unbiased", unit="nats", note=note)
