"""Generative models as scikit-learn's estimators: in pipelines, cross-validation and searches."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from priory.data import Data
from priory.evaluation.record import Unavailable
from priory.inference import Run
from priory.inference.phases.arguments import signature
from priory.onnx.maps import Decoder
from priory.onnx.writing import opened
from priory.recipes import find_recipe

__all__ = ["GenerativeClusterer", "GenerativeModel"]

Floats = NDArray[np.float64]
_PARTS = ("prior", "objective", "likelihood", "encoder", "decoder", "latent")
_TRAINING = ("steps", "batch_size", "lr")


class GenerativeModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""A generative model of a table's rows, by the recipe of a published method.

    .. math:: \mathrm{transform}: x \mapsto \mathrm{E}_q[z \mid x], \qquad
        \mathrm{score\_samples}: x \mapsto \log p(x)

    What stands as None is the recipe's own. All parts are written as on the command line,
    "vamp:50", or given as objects, which are copied. Recipes that ask for labels are not for it.

    Args:
        recipe: the method, a name that `priory list` shows; None is "vae".
        prior: p(z), such as "normal", "mixture:10", "vamp:50".
        objective: what it is trained by, such as "iwae:5".
        likelihood: of a row; "auto" takes the one that fits the values.
        encoder: the encoder's net.
        decoder: the decoder's.
        latent: number of latent coordinates.
        steps: of training.
        batch_size: rows of a step.
        lr: the learning rate.
        options: others by name, of the pair's constructor and of `fit`.
        standardise: whether columns are centred and scaled by the mean and standard deviation of
            the training rows; what is returned is in their own units.
        shape: of a row for nets that read images, such as (1, 8, 8); a vector if None.
        particles: importance samples K of each row, by which log p(x) is bounded.
        random_state: an integer, for the same model and scores each time; a `RandomState`, of which
            a seed is drawn; None for another at each fit. No global random state is used.

    Attributes:
        run_: the trained run.
        n_features_in_: number of columns.
        feature_names_in_: their names, of a data frame.

    Example:
        >>> model = GenerativeModel("vae", latent=2, steps=2, random_state=0)
        >>> z = model.fit_transform(np.random.default_rng(0).normal(size=(50, 4)))
        >>> z.shape, model.sample(3).shape
        ((50, 2), (3, 4))
    """

    _usual: ClassVar[str] = "vae"

    def __init__(
        self,
        recipe: str | None = None,
        *,
        prior: Any = None,
        objective: Any = None,
        likelihood: Any = None,
        encoder: Any = None,
        decoder: Any = None,
        latent: int | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        options: Mapping[str, Any] | None = None,
        standardise: bool = True,
        shape: Sequence[int] | None = None,
        particles: int = 100,
        random_state: Any = None,
    ) -> None:
        self.recipe = recipe
        self.prior = prior
        self.objective = objective
        self.likelihood = likelihood
        self.encoder = encoder
        self.decoder = decoder
        self.latent = latent
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.options = options
        self.standardise = standardise
        self.shape = shape
        self.particles = particles
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> GenerativeModel:  # noqa: ARG002
        """Train the model.

        Args:
            X: rows, (n, columns).
            y: not used.

        Raises:
            ValueError: if a row is NaN or infinite, an option is wrong, or the recipe asks for
                labels.
        """
        rows = self._rows(X, reset=True)
        self.seed_ = self._seed()
        given = {n: getattr(self, n) for n in (*_PARTS, *_TRAINING) if getattr(self, n) is not None}
        given |= dict(self.options or {})
        recipe = find_recipe(self._method)
        pair, _, _ = recipe.prepare(**copy.deepcopy(given))
        if lacking := [n for n in signature(pair.model).required if n != "x"]:
            raise ValueError(
                f"the recipe {self._method} asks for the column {lacking[0]!r} beside X: train it "
                "by priory.fit, or take a recipe that reads X alone"
            )
        data = Data.from_arrays(x=self._shaped(rows), valid=0, test=0, standardise=self.standardise)
        usual = {"seed": self.seed_, "progress": False, "valid_every": 0}
        self.run_: Run = recipe.fit(data, **{**usual, **copy.deepcopy(given)})
        try:
            self._n_features_out = self._encoded(rows[:2]).shape[1]
        except Unavailable:  # said by transform, where it is asked for
            self._n_features_out = 0
        return self

    def transform(self, X: Any) -> Floats:
        """Return the posterior means of the latents, (n, coordinates), site after site.

        Of a categorical latent they are the probabilities of its values.

        Args:
            X: rows, (n, columns).

        Raises:
            ValueError: if a row is NaN or infinite, or the pair infers no latent.
        """
        return self._encoded(self._rows(X))

    def inverse_transform(self, X: Any) -> Floats:
        """Return the mean of p(x | z) for latents, (n, columns), in the columns' own units.

        Args:
            X: latents as `transform` returns them, (n, coordinates).

        Raises:
            ValueError: if the shape is wrong, or there is no such mean, as of a decoder that reads
                the row itself.
        """
        check_is_fitted(self)

        values = np.asarray(X, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self._n_features_out:
            raise ValueError(
                f"latents must be of shape (n, {self._n_features_out}), got {values.shape}"
            )
        n, at, sites = len(values), 0, {}
        for site, shape in self._layout:
            end = at + math.prod(shape)
            sites[site] = torch.from_numpy(values[:, at:end].reshape(n, *shape))
            at = end
        with opened(self.run_, None, "train") as (pair, rows, preparation):
            decoder = Decoder(pair, rows, preparation)
            if odd := [k for k, v in decoder.inputs.items() if sites[k].shape[1:] != v.shape[1:]]:
                raise ValueError(f"the latent {odd[0]} is a category, and has no mean to decode")
            x = decoder(*(sites[k].to(v.dtype) for k, v in decoder.inputs.items()))
            mean = dict(zip(decoder.outputs, x, strict=True))["x_mean"]
        return np.asarray(mean.flatten(1), dtype=np.float64)

    def score_samples(self, X: Any) -> Floats:
        """Return log p(x) of each row in nats, or the bound on it from below, (n,).

        It is of X in its own units, as `priory.score` has it, with `particles` samples of each row,
        which follow the seed and the row's place.

        Args:
            X: rows, (n, columns).

        Raises:
            ValueError: if a row is NaN or infinite, or the pair has no likelihood.
        """
        rows = self._rows(X)
        scores = self.run_.score(self._shaped(rows), particles=self.particles, seed=self.seed_)
        found: Floats = scores.log_likelihood.numpy()
        return found

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002
        """Return the mean of `score_samples`, by which models are compared.

        Args:
            X: rows, (n, columns).
            y: not used.
        """
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: int | None = None) -> Floats:
        """Draw rows, (n, columns), in the columns' own units.

        Args:
            n_samples: n.
            random_state: seed of the draws; that of the fit if None.

        Raises:
            ValueError: if n is not positive.
        """
        check_is_fitted(self)
        seed = self.seed_ if random_state is None else int(random_state)
        x = self.run_.sample(n_samples, seed=seed)["x"]
        return np.asarray(x.flatten(1), dtype=np.float64)

    # --- what the methods share ---------------------------------------------------------------

    @property
    def _method(self) -> str:
        return self._usual if self.recipe is None else self.recipe

    def _rows(self, X: Any, *, reset: bool = False) -> Floats:
        """Return rows checked as scikit-learn does; the columns' number and names are kept."""
        if not reset:
            check_is_fitted(self)
        options = {"reset": reset, "dtype": np.float64, "ensure_min_samples": 2 if reset else 1}
        try:
            from sklearn.utils.validation import validate_data
        except ImportError:  # before scikit-learn 1.6
            return self._validate_data(X, **options)
        found: Floats = validate_data(self, X, **options)
        return found

    def _shaped(self, rows: Floats) -> Floats:
        """Return rows as the nets read them."""
        if self.shape is None:
            return rows
        if math.prod(self.shape) != rows.shape[1]:
            raise ValueError(f"shape={self.shape} has not as many numbers as X: {rows.shape[1]}")
        return rows.reshape(len(rows), *self.shape)

    def _seed(self) -> int:
        if self.random_state is None:
            return int(np.random.SeedSequence().generate_state(1)[0] >> 1)
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _encoded(self, rows: Floats) -> Floats:
        """Return the means of all latents, or probabilities, and keep which columns are whose."""
        codes = self.run_.encode(self._shaped(rows), seed=self.seed_)
        means = {site: codes.mean.get(site, codes.probabilities.get(site)) for site in codes.draws}
        found = {site: value for site, value in means.items() if value is not None}
        self._layout = [(site, tuple(value.shape[1:])) for site, value in found.items()]
        flat = [value.flatten(1).double() for value in found.values()]
        return torch.cat(flat, 1).numpy()


class GenerativeClusterer(ClusterMixin, GenerativeModel):
    r"""A generative model whose latent is a cluster, or has a mixture as its prior.

    .. math:: \hat c(x) = \arg\max_c \, p(c \mid x)

    The clusters are those of `priory encode`: the values of a categorical latent, or the components
    of the prior, given the mean of z.

    Args:
        recipe: as for `GenerativeModel`, like all that follow; one that has clusters, and None is
            "gm-vae".
        prior: p(z), such as "mixture:10".
        objective: what it is trained by.
        likelihood: of a row.
        encoder: the encoder's net.
        decoder: the decoder's.
        latent: number of latent coordinates.
        steps: of training.
        batch_size: rows of a step.
        lr: the learning rate.
        options: others by name, such as {"components": 5}.
        standardise: whether columns are centred and scaled.
        shape: of a row for nets that read images.
        particles: importance samples K of each row.
        random_state: an integer, a `RandomState`, or None.

    Attributes:
        labels_: cluster of each training row.

    Example:
        >>> model = GenerativeClusterer(prior="mixture:3", latent=2, steps=2, random_state=0)
        >>> model.fit_predict(np.random.default_rng(0).normal(size=(50, 4))).shape
        (50,)
    """

    _usual: ClassVar[str] = "gm-vae"

    def fit(self, X: Any, y: Any = None) -> GenerativeClusterer:
        """Train the model, and find the cluster of each row.

        Args:
            X: rows, (n, columns).
            y: not used.

        Raises:
            ValueError: as for `GenerativeModel`, or if the recipe has no clusters.
        """
        super().fit(X, y)
        self.labels_ = self.predict(X)
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the likeliest cluster of each row, (n,), an integer from 0.

        Args:
            X: rows, (n, columns).

        Raises:
            ValueError: if a row is NaN or infinite, or the recipe has no clusters.
        """
        rows = self._shaped(self._rows(X))
        codes = self.run_.encode(rows, seed=self.seed_)
        if codes.cluster is None:
            raise ValueError(
                f"the recipe {self._method} has no clusters: take one such as gm-vae, gmvae or "
                "gaussian-mixture, or a prior such as mixture:10"
            )
        found: NDArray[np.int64] = codes.cluster.numpy().astype(np.int64)
        return found
