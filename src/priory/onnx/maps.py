"""The parts of a pair that are maps of arrays: encoder, decoder and sampler."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pyro.distributions import Delta
from torch import Tensor, nn

from priory.data import Preparation
from priory.data.missing import SEEN
from priory.distributions.levels import Floor
from priory.evaluation.latents.clustering import choices
from priory.inference.phases.arguments import Program, bind, owner, signature
from priory.inference.phases.recorder import Recorder
from priory.inference.phases.sites import Site, base, in_batch, is_deterministic, is_latent
from priory.models import GLO, FlowMatching, NormalizingFlow
from priory.models.chain import LatentChain
from priory.onnx.noise import NORMAL, UNIFORM, Noise, NoMapError, draw

Arrays = dict[str, Tensor]
X, X_MEAN = "x", "x_mean"
_ENDINGS = ("_mean", "_scale", "_probabilities")


class RefusedError(ValueError):
    """A pair has no such part, or it is no map of arrays."""


class Map(nn.Module):
    """A part of a pair as a map from named arrays to named arrays, rows first.

    It takes and returns arrays in the data's own units: how rows are prepared for the pair's
    programs is in it. `run` is the part itself, in the pair's units.

    Args:
        pair: In evaluation mode, on the CPU.
        rows: Some ten rows, columns as the pair's programs are given them.
        preparation: How rows become such columns; None if they are such.

    Attributes:
        inputs: What it takes of these rows, by name.
        outputs: Names of what it returns.
        left_out: Why something else is not returned, by name.

    Raises:
        RefusedError: The pair has no such part, with the reason.
    """

    name: ClassVar[str]
    mean: Tensor
    scale: Tensor
    fill: Tensor

    def __init__(self, pair: Any, rows: Arrays, preparation: Preparation | None) -> None:
        super().__init__()
        self.pair = pair
        self.rows, self.preparation = rows, preparation
        self._set_units()
        self.taken = self.examples()
        first, again = self.run(self.taken), self.run(self.taken)
        self.outputs = [n for n, v in first.items() if torch.equal(v, again[n])]
        others = [n for n in first if n not in self.outputs]
        self.left_out = dict.fromkeys(others, "it hangs on a draw, and is an average over many")
        if not self.outputs:
            raise RefusedError(f"{', '.join(first)}: an average over draws, and no map of the row")
        if bad := [n for n in self.outputs if not bool(first[n].isfinite().all())]:
            raise RefusedError(f"{bad[0]} is NaN or infinite")
        self.inputs = {n: self.given(n, v) for n, v in self.taken.items() if n != SEEN}

    @abstractmethod
    def examples(self) -> Arrays:
        """Return what the part takes of the rows, in the pair's units."""

    @abstractmethod
    def run(self, taken: Arrays) -> Arrays:
        """Return what the part makes of that, likewise."""

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs, in the order of their names.

        Args:
            arrays: The inputs, in the order of their names, (n, ...) each.
        """
        found = self.run(self.prepared(dict(zip(self.inputs, arrays, strict=True))))
        return tuple(self.restored(name, found[name]) for name in self.outputs)

    def expected(self) -> Arrays:
        """Return the outputs for the rows as they were prepared, put back by the preparation."""
        found = self.run(self.taken)
        if self.preparation is None or not self.scaled:
            return {n: found[n] for n in self.outputs}
        restore = self.preparation.restore
        return {
            n: restore(found[n].double()) if n in (X, X_MEAN) else found[n] for n in self.outputs
        }

    # --- units --------------------------------------------------------------------------------

    def _set_units(self) -> None:
        """Keep the columns' means and scales, and what stands in the place of missing entries."""
        kept = self.preparation
        units = None if kept is None else kept.units
        self.scaled = units is not None
        self.holed = kept is not None and kept.fill is not None
        mean, scale = (0.0, 1.0) if units is None else units
        fill = kept.fill if kept is not None and kept.fill is not None else 0.0
        shape = self.rows[X].shape[1:] if self.holed else ()
        for name, values in (("mean", mean), ("scale", scale), ("fill", fill)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))
        self.fill = self.fill.reshape(shape)

    def given(self, name: str, value: Tensor) -> Tensor:
        """Return a column as the data have it: x in its own units, NaN where it is missing."""
        if name != X:
            return value
        x = value.double() * self.scale + self.mean if self.scaled else value
        return x.where(self.rows[SEEN], torch.nan) if self.holed and SEEN in self.rows else x

    def prepared(self, given: Arrays) -> Arrays:
        """Return such columns as the programs are given them."""
        if X not in given:
            return given
        x, found = given[X], dict(given)
        if self.holed:
            found[SEEN] = ~x.isnan()
            x = x.where(found[SEEN], self.fill.to(x.dtype))
        if self.scaled:
            x = (x - self.mean) / self.scale
        if self.preparation is not None and self.preparation.binarise == "threshold":
            x = (x > 0.5).to(x.dtype)
        return {**found, X: x.to(self.rows[X].dtype)}

    def restored(self, name: str, value: Tensor) -> Tensor:
        """Return x or its mean in the data's own units, all else as it is."""
        if not self.scaled or name not in (X, X_MEAN):
            return value
        return value.double() * self.scale + self.mean

    # --- programs -----------------------------------------------------------------------------

    def needed(self, program: Program) -> Arrays:
        """Return the columns that a program asks for.

        Raises:
            RefusedError: A row's number is among them.
        """
        names = signature(program).required
        if "index" in names:
            raise RefusedError("the pair knows its training rows by their numbers")
        return {n: self.rows[n] for n in names}

    def relevant(self, candidates: Arrays) -> Arrays:
        """Return those arrays that change what the part makes of them."""
        before, found = self.run(candidates), {}
        for name, value in candidates.items():
            other = self.run({**candidates, name: value.roll(1, 0)})
            if any(not torch.equal(v, other[n]) for n, v in before.items()):
                found[name] = value
        return found

    def completed(self, program: Program, taken: Mapping[str, Tensor], n: Any) -> Arrays:
        """Return a program's arguments: what is taken, and zeros for what has no part in it."""
        absent = {k: v for k, v in self.needed(program).items() if k not in taken}
        zeros = {k: v.new_zeros((n, *v.shape[1:])) for k, v in absent.items()}
        return bind(program, {**zeros, **taken})


class Encoder(Map):
    r"""From a row to what q(z | x) is: of each latent mean and scale, or probabilities.

    .. math:: x \mapsto \mathrm{E}[z \mid x], \ \mathrm{sd}[z \mid x]
    """

    name = "encoder"

    def examples(self) -> Arrays:
        """Return the columns that the guide asks for."""
        if isinstance(owner(self.pair.guide), LatentChain):
            raise RefusedError("its latent is the whole way of a chain, and no code of a row")
        found = self.needed(self.pair.guide)
        if isinstance(owner(self.pair.guide), GLO):
            raise RefusedError("the code of a row is searched for through its generator")
        holes = self.holed and SEEN in signature(self.pair.guide).names
        return {**found, SEEN: self.rows[SEEN]} if holes else found

    def run(self, taken: Arrays) -> Arrays:
        """Return the moments of each site of the guide, and the classes' probabilities."""
        recorder = Recorder()
        with recorder:
            self.pair.guide(**bind(self.pair.guide, taken))
        found: Arrays = {}
        for name, site in _latents(recorder.sites).items():
            found |= _moments(name, site)
        classify = getattr(owner(self.pair.model), "classify", None)
        if callable(classify):
            found["class_probabilities"] = classify(taken[X]).logits.softmax(-1)
        if not found:
            raise RefusedError("its guide infers no latent of a row")
        return found


class Decoder(Map):
    r"""From latents to the mean of a row.

    .. math:: z \mapsto \mathrm{E}[x \mid z]
    """

    name = "decoder"

    def examples(self) -> Arrays:
        """Return draws of the latents, and the columns that have a part in the mean of x."""
        model = self.pair.model
        if isinstance(owner(model), NormalizingFlow):
            raise RefusedError("its latent is x itself with noise on it, if it has any")
        if isinstance(owner(model), LatentChain):
            raise RefusedError("its latent is the whole way of a chain, and no code of a row")
        recorder, guided = Recorder(), Recorder()
        with recorder:
            model(**self.needed(model))
        with guided:
            self.pair.guide(**bind(self.pair.guide, self.rows))
        drawn, known = _latents(recorder.sites), _latents(guided.sites)
        self.replayed = [name for name in drawn if name in known or not known]
        latents = {name: drawn[name]["value"] for name in self.replayed}
        if not latents:
            raise RefusedError("its model has no latent")
        found = self.relevant({**latents, **self.needed(model)})
        if X in found:
            raise RefusedError("p(x | z) reads x itself, entry by entry")
        if not {*found} & {*latents}:
            raise RefusedError("its model has no latent that x depends on")
        return found

    def run(self, taken: Arrays) -> Arrays:
        """Return the mean of x, and of what else the model draws that the guide does not infer."""
        model, n = self.pair.model, next(iter(taken.values())).shape[0]
        recorder = Recorder({k: v for k, v in taken.items() if k in self.replayed})
        with recorder:
            model(**self.completed(model, taken, n))
        return _observed(recorder.sites, self.replayed)


class Sampler(Map):
    r"""From noise to latents, and to the mean of x given them.

    .. math:: \epsilon \mapsto z(\epsilon), \ \mathrm{E}[x \mid z(\epsilon)]

    The noise has a column for each number that is drawn: `eps` standard normals,
    `eps_uniform` uniforms.
    """

    name = "sampler"

    def examples(self) -> Arrays:
        """Return noise, and the columns that the model asks for."""
        model = self.pair.model
        if isinstance(own := owner(model), LatentChain):
            raise RefusedError(f"its samples are the end of a loop of {own.timesteps} steps")
        if isinstance(own, FlowMatching):
            raise RefusedError("its samples are the end of an adaptive solver's steps")
        rows = self.needed(model)
        n, noise = len(self.rows[X]), Noise(len(self.rows[X]))
        self._drawn(rows, noise, n)
        kinds = {k: width for k, width in noise.used.items() if width}
        if not kinds:
            raise RefusedError("its model draws nothing that a row could hang on")
        generator = torch.Generator().manual_seed(0)
        taken = {
            k: noise_of(k, n, width, self.rows[X].dtype, generator) for k, width in kinds.items()
        }
        found = {**taken, **{k: v for k, v in rows.items() if k != X}}
        if X in rows and X in self.relevant({**found, X: rows[X]}):
            raise RefusedError("its draws read x itself")
        return found

    def run(self, taken: Arrays) -> Arrays:
        """Return the latents, and the mean of x, or x itself where it has no mean."""
        given = {k: v for k, v in taken.items() if k in (NORMAL, UNIFORM)}
        n = next(iter(given.values())).shape[0]
        columns = {k: v for k, v in taken.items() if k not in given}
        return self._drawn(columns, Noise(n, given), n)

    def _drawn(self, columns: Arrays, noise: Noise, n: Any) -> Arrays:
        def of(site: Site) -> Tensor:
            if not in_batch(site):
                raise RefusedError(f"{site['name']} is drawn once for all rows")
            try:
                return draw(site["fn"], noise)
            except NoMapError as error:
                raise RefusedError(f"{site['name']}: {error}") from error

        recorder, model = Recorder(draw=of), self.pair.model
        with recorder:
            model(**self.completed(model, columns, n))
        sites = recorder.sites
        found = {k: s["value"] for k, s in _latents(sites).items()}
        if X not in sites or isinstance(base(sites[X]["fn"]), Floor):
            return found
        mean = _mean(sites[X])
        return {**found, **({X: of(sites[X])} if mean is None else {X_MEAN: mean})}


def noise_of(kind: str, n: int, width: int, dtype: torch.dtype, generator: Any) -> Tensor:
    """Return noise of a kind, (n, width), with uniforms below 1.

    Args:
        kind: "eps" or "eps_uniform".
        n: Number of rows.
        width: Number of columns.
        dtype: Of the noise.
        generator: Torch's, of which it is drawn.
    """
    make = torch.randn if kind == NORMAL else torch.rand
    return make(n, width, dtype=dtype, generator=generator)


def _latents(sites: Mapping[str, Site]) -> dict[str, Site]:
    """Return the sites that a program draws for each row."""
    return {
        name: site
        for name, site in sites.items()
        if is_latent(site) and not is_deterministic(site) and not site["infer"].get("is_auxiliary")
    }


def _moments(name: str, site: Site) -> Arrays:
    """Return mean and scale of a site's distribution, or its probabilities; none if unknown."""
    if not in_batch(site):
        raise RefusedError(f"{name} is inferred of all rows together")
    probabilities = choices(site["fn"])
    if probabilities is not None:
        shape = (*site["fn"].batch_shape, probabilities.shape[-1])
        return {f"{name}_probabilities": probabilities.expand(shape)}
    try:
        mean, variance = site["fn"].mean, site["fn"].variance
    except NotImplementedError:
        return {}
    if isinstance(base(site["fn"]), Delta):
        return {f"{name}_mean": mean}
    return {f"{name}_mean": mean, f"{name}_scale": variance.sqrt()}


def _mean(site: Site) -> Tensor | None:
    """Return the mean of a site's distribution, None if it has none in closed form."""
    try:
        mean: Tensor = site["fn"].mean
    except NotImplementedError:
        return None
    return mean


def _observed(sites: Mapping[str, Site], latents: list[str]) -> Arrays:
    """Return the mean of x, and the moments of what else is no latent of the pair's."""
    found: Arrays = {}
    for name, site in sites.items():
        if name == X:
            mean = _mean(site)
            if mean is None:
                raise RefusedError("p(x | z) has no mean in closed form")
            found[X_MEAN] = mean
        elif name not in latents and is_latent(site) and not is_deterministic(site):
            found |= _moments(name, site)
    return found


MAPS: dict[str, type[Map]] = {kind.name: kind for kind in (Encoder, Decoder, Sampler)}
