"""What a run infers of each row: posterior means, scales and draws, clusters and classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Categorical

from priory.evaluation.isolation import placement, reseed
from priory.evaluation.likelihood.steps import refuse_way
from priory.evaluation.per_row import drawn
from priory.evaluation.record import Unavailable
from priory.evaluation.rows import Columns, blocks
from priory.evaluation.subject import check_counts, preparation_of
from priory.inference.phases.arguments import bind, owner, signature
from priory.inference.phases.recorder import Recorder
from priory.inference.phases.sites import (
    Site,
    base,
    in_batch,
    is_deterministic,
    is_latent,
    rows_of,
)
from priory.inference.tree_of_codes import GROUP
from priory.models.denoising import DAE
from priory.priors import NestedCRP

if TYPE_CHECKING:
    from priory.evaluation.draws import Draws

_STREAM = 48  # random
_AVERAGED = 64  # runs of the guide, where a mean has no closed form
_ROWS = 500  # rows at a time
_VALUES = 2**22  # numbers of one array
CLUSTER, CLASS = "cluster", "class"
"""Names of the probabilities of a mixture prior's components, and of the classes."""


@dataclass(frozen=True)
class Codes:
    """What is inferred of each row, in the rows' order, on the CPU.

    Attributes:
        mean: of q(z | x), `(n, *event)`, by latent site; a categorical site has none.
        scale: standard deviations, likewise; a site that is a point has none.
        draws: from q(z | x), `(draws, n, *event)`, by latent site.
        probabilities: `(n, values)`: of a categorical site's values by its name; of the components
            of a mixture prior, given the mean, as `cluster`, and of the inner nodes of a tree as
            `level1` and so on; where the data have a column `group`, the same of each row's whole
            group as `group_cluster`, `group_level1` and so on; of the classes as `class`.
        cluster: each row's likeliest value or component, `(n,)`; `None` if there are no clusters.
        classes: names of the classes, in the order of their probabilities.
        notes: what each of these is, by its name.
    """

    mean: dict[str, Tensor] = field(default_factory=dict)
    scale: dict[str, Tensor] = field(default_factory=dict)
    draws: dict[str, Tensor] = field(default_factory=dict)
    probabilities: dict[str, Tensor] = field(default_factory=dict)
    cluster: Tensor | None = None
    classes: tuple[str, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter((*self.mean.values(), *self.probabilities.values()))))

    @property
    def label(self) -> list[str] | None:
        """The name of each row's likeliest class; `None` if the pair has none."""
        if CLASS not in self.probabilities:
            return None
        return [self.classes[k] for k in self.probabilities[CLASS].argmax(1).tolist()]

    def arrays(self) -> dict[str, Any]:
        """Return all as arrays by name: `z_mean`, `z_scale`, `z_draws`, `cluster`, and so on."""
        parts = ("mean", "scale", "draws", "probabilities")
        found: dict[str, Any] = {
            f"{name}_{part}": value.numpy()
            for part in parts
            for name, value in getattr(self, part).items()
        }
        if self.cluster is not None:
            found[CLUSTER] = self.cluster.numpy()
        if self.label is not None:
            found |= {CLASS: self.label, "classes": list(self.classes)}
        return found

    def __str__(self) -> str:
        return "\n".join(f"{name}: {text}" for name, text in self.notes.items())


class _Moments(NamedTuple):
    """A draw of a site in one run of the guide, and the moments of what it was drawn from."""

    value: Tensor
    mean: Tensor
    variance: Tensor | None
    closed: bool
    categorical: bool


def encode(
    run: Any,
    data: Any = None,
    *,
    split: Literal["train", "valid", "test"] = "test",
    draws: int = 1,
    seed: int = 0,
) -> Codes:
    r"""Encode each row: what the guide infers of its latents, its cluster and its class.

    .. math:: \mathrm{E}[z \mid x] = \mathrm{E}_q\, m, \quad
        \mathrm{Var}[z \mid x] = \mathrm{E}_q\, s^2 + \mathrm{Var}_q\, m

    with the mean m and scale s of a site's distribution in one run of the guide. They are in closed
    form where every run has the same: where the site hangs on no other draw. Elsewhere, as in the
    upper layers of a ladder, they are averages over 64 runs, or as many as there are draws.
    Clusters are the values of a categorical site, or the components of a mixture prior, p(c | z) at
    the mean of z, as in the metrics of clustering; classes are those of the pair's `classify`.

    Args:
        run: a run, or an object with `model` and `guide`.
        data: rows in any form that `evaluate` takes, prepared as the run's own: a `Data`, one of
            its splits, columns by name, a data frame, an array of x, the name of a set, or of a
            file, all of whose rows are encoded in its order; the run's own data if `None`.
        split: which part of a `Data`: train, valid or test; anything else is taken whole.
        draws: draws of each latent.
        seed: seed of the draws.

    Raises:
        ValueError: if a row is NaN or infinite, of another shape or outside of the likelihood's
            support, a column that the guide asks for is not there, or a number is wrong.
        Unavailable: if nothing is inferred of a row, as by a GAN without an encoder, or what is
            drawn is no code of it, as of a denoising autoencoder.

    Example:
        >>> codes = encode(run, x, draws=3)
        >>> codes.mean["z"].shape, codes.scale["z"].shape, codes.draws["z"].shape
        (torch.Size([12, 2]), torch.Size([12, 2]), torch.Size([3, 12, 2]))
    """
    check_counts({"draws": draws}, seed)
    with drawn(run, data, split=split, seed=seed, whole=False) as rows:
        refuse_way(rows.model)
        if isinstance(owner(rows.model), DAE):
            raise Unavailable(
                "z is the datum itself, corrupted, and no code of it; train a pair with a code, "
                "such as vae or autoencoder"
            )
        codes = _inferred(rows, draws)
        _add_components(codes, rows)
        classes = _add_classes(codes, rows, getattr(preparation_of(run), "classes", ()))
        if not codes.mean and not codes.probabilities:
            raise Unavailable(
                "the pair infers nothing of a row: its guide draws no latent, as that of a GAN "
                "without an encoder, or of a model whose likelihood needs none; train a pair with "
                "a recognition, such as vae or bigan"
            )
        return Codes(**{**vars(codes), "cluster": _likeliest(codes), "classes": classes})


def _inferred(draws: Draws, count: int) -> Codes:
    """Return what the guide draws, and the moments, by blocks of rows."""
    parts: list[dict[str, list[_Moments]]] = []
    size = max(1, min(_ROWS, _VALUES // max(1, draws.columns["x"][0].numel())))
    like = placement(draws.model, draws.guide)
    for start, rows in blocks(draws.columns, size, like):
        reseed(next(iter(rows.values())).device, draws.seed, _STREAM, start)
        runs = [_run(draws, rows) for _ in range(max(count, 2))]
        if _varying(runs):
            runs += [_run(draws, rows) for _ in range(_AVERAGED - len(runs))]
        parts.append({site: [run[site] for run in runs] for site in runs[0]})
    codes = Codes()
    for site in parts[0]:
        _add_site(codes, site, [part[site] for part in parts], count)
    return codes


def _run(draws: Draws, rows: Columns) -> dict[str, _Moments]:
    """Run the guide once on a block of rows."""
    recorder = Recorder()
    with recorder:
        draws.guide(**bind(draws.guide, rows))
    sites = {n: s for n, s in recorder.sites.items() if _is_own(s)}
    single = not any(in_batch(s) for s in sites.values())
    n = len(next(iter(rows.values())))
    found = {}
    for name, site in sites.items():
        if single or in_batch(site):
            found[name] = _moments(site, single)
            if len(found[name].value) != n:
                raise Unavailable(
                    f"the guide's {name!r} has {len(found[name].value)} rows for {n} data; put it "
                    "into pyro.plate('data', len(x))"
                )
    return found


def _is_own(site: Site) -> bool:
    """Return whether a guide's site is a latent of the model's, and no auxiliary one."""
    return is_latent(site) and not is_deterministic(site) and not site["infer"].get("is_auxiliary")


def _moments(site: Site, single: bool) -> _Moments:
    from priory.evaluation.latents.clustering import choices

    def rows(value: Tensor) -> Tensor:
        return rows_of(site, value, single=single).detach()

    value, distribution = rows(site["value"]), site["fn"]
    probabilities = choices(distribution)
    if probabilities is not None:
        if isinstance(base(distribution), Categorical):  # its values have no dimension of their own
            each = torch.stack([rows(p) for p in probabilities.unbind(-1)], -1)
        else:
            each = rows(probabilities)
        return _Moments(value, each, None, closed=True, categorical=True)
    try:
        moments = rows(distribution.mean), rows(distribution.variance)
    except NotImplementedError:
        return _Moments(value, value, torch.zeros_like(value), closed=False, categorical=False)
    return _Moments(value, *moments, closed=True, categorical=False)


def _varying(runs: list[dict[str, _Moments]]) -> bool:
    """Return whether a site's mean is not the same in two runs of the guide, or has no form."""
    first, second = runs[:2]
    return any(not m.closed or not torch.equal(m.mean, second[s].mean) for s, m in first.items())


def _add_site(codes: Codes, site: str, parts: list[list[_Moments]], count: int) -> None:
    """Put the blocks of a site together."""
    varies = any(_varying([{site: run} for run in runs]) for runs in parts)
    means = torch.cat([torch.stack([run.mean for run in runs]).mean(0) for runs in parts]).cpu()
    if len(bad := (~means.isfinite()).reshape(len(means), -1).any(1).nonzero()):
        raise Unavailable(f"q({site} | x) of row {int(bad[0])} and {len(bad) - 1} more is NaN")
    values = [torch.stack([run.value for run in runs[:count]]) for runs in parts]
    codes.draws[site] = torch.cat(values, 1).cpu()
    how = f"averages over {len(parts[0])} runs of the guide" if varies else "in closed form"
    if parts[0][0].categorical:
        codes.probabilities[site] = means
        codes.notes[site] = f"probabilities of its {means.shape[-1]} values, {how}"
        return
    codes.mean[site] = means
    scale = torch.cat([_scale(runs, varies) for runs in parts]).cpu()
    if bool((scale > 0).any()):
        codes.scale[site] = scale
        codes.notes[site] = f"mean and scale of q({site} | x), {how}"
    else:
        codes.notes[site] = f"q({site} | x) is a point: a value for each row, and no scale"


def _scale(runs: list[_Moments], varies: bool) -> Tensor:
    """Return the standard deviation over runs: within them, and from one to the other."""
    inner = torch.stack([run.variance for run in runs if run.variance is not None]).mean(0)
    if not varies:
        return inner.sqrt()
    return (inner + torch.stack([run.mean for run in runs]).var(0)).sqrt()


def _add_components(codes: Codes, draws: Draws) -> None:
    """Add the probabilities of a mixture prior's components, at the posterior mean."""
    from priory.evaluation.latents.clustering import components_of, memberships_at
    from priory.evaluation.latents.hierarchy import group_probabilities

    if {*signature(draws.model).required} - {*draws.columns}:
        return
    try:
        phase = draws.phase
    except Unavailable:  # the model has latents that the guide does not infer
        return
    first = [s for s in codes.mean if s in phase.local and not phase.latents_before(s)]
    sites = [s for s in first if (components_of(phase.distribution(s, of="model")) or 1) > 1]
    if not sites:
        return
    site = sites[0]
    codes.probabilities[CLUSTER] = found = memberships_at(draws, site, codes.mean[site])
    codes.notes[CLUSTER] = (
        f"probabilities of the prior's {found.shape[1]} components at the mean of {site}"
    )
    prior = getattr(owner(draws.model), "prior", None)
    if not isinstance(prior, NestedCRP) or found.shape[1] != prior.branching**prior.depth:
        return
    _add_levels(codes, prior, CLUSTER, "level", "")
    if GROUP in draws.columns:
        groups, group = group_probabilities(prior, codes.mean[site], draws.columns[GROUP])
        name = f"{GROUP}_{CLUSTER}"
        codes.probabilities[name] = groups[group].to(found)
        codes.notes[name] = (
            f"the same of all rows of its {GROUP} together, which share their leaf; "
            f"{len(groups)} groups"
        )
        _add_levels(codes, prior, name, f"{GROUP}_level", f", of all rows of its {GROUP}")


def _add_levels(codes: Codes, prior: NestedCRP, leaves: str, name: str, whose: str) -> None:
    """Add the probabilities of the nodes between the root of a tree and its leaves."""
    for level in range(1, prior.depth):
        each = prior.at_level(codes.probabilities[leaves], level)
        codes.probabilities[f"{name}{level}"] = each
        used, places = int(prior.in_use(level).sum()), each.shape[1]
        where = "" if used == places else f" in {places} places"
        codes.notes[f"{name}{level}"] = (
            f"probabilities of the tree's {used} nodes of level {level}{where}, sums of those of "
            f"the leaves below{whose}"
        )


def _add_classes(codes: Codes, draws: Draws, names: tuple[str, ...]) -> tuple[str, ...]:
    """Add p(y | x), and return the classes' names."""
    from priory.evaluation.likelihood.classification import log_classes

    if not callable(getattr(owner(draws.model), "classify", None)):
        return ()
    found = log_classes(draws).exp()
    codes.probabilities[CLASS] = found
    codes.notes[CLASS] = f"probabilities of {found.shape[1]} classes, by the pair's classify"
    own = len(names) == found.shape[1]
    return names if own else tuple(map(str, range(found.shape[1])))


def _likeliest(codes: Codes) -> Tensor | None:
    """Return each row's cluster: the likeliest value of a categorical site, or component."""
    sites = [s for s, p in codes.probabilities.items() if s in codes.draws and p.dim() == 2]
    names = [*sites, *([CLUSTER] if CLUSTER in codes.probabilities else [])]
    return codes.probabilities[names[0]].argmax(1) if names else None
