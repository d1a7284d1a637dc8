"""Clusters of an autoencoder's codes as the start of a mixture prior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from priory.data import Data
from priory.inference.codes import StageOfCodes
from priory.nets import Encoder
from priory.priors import GaussianMixture

_SWEEPS = 1000


@dataclass(frozen=True, kw_only=True)
class MixtureOfCodes(StageOfCodes):
    r"""A stage at whose end the prior becomes a mixture of normals fitted to the training codes.

    .. math:: w, m, s = \arg\max \sum_i \log \sum_c w_c \, N(\mu(x_i); m_c, \mathrm{diag}(s_c^2))

    The fit is EM from several starts by k-means, the best of them by its likelihood. The codes are
    the posterior's means; its scale is set to the same small number for all rows, so that draws lie
    where the mixture was fitted. Jiang et al., 2017, Variational deep embedding: an unsupervised
    and generative approach to clustering.

    Args:
        starts: Of the mixture's fit.
        log_scale: Logarithm of the posterior's standard deviation after it.

    Raises:
        ValueError: There is no start.

    Example:
        >>> from priory.inference import MixtureOfCodes, Reconstruction
        >>> options = {"objective": Reconstruction(point=True), "frozen": ("prior",), "steps": 2}
        >>> stage = MixtureOfCodes(name="autoencoder", starts=1, **options)
        >>> pair = VAE(GaussianMixture(3), latent=2)
        >>> run = fit(pair, ELBO(), data, stages=[stage], steps=1)
        >>> sorted(run.history[0].keys() & {"stage", "log_p_z"})
        ['log_p_z', 'stage']
    """

    log_scale: float = -4.0

    def check(self, pair: Any) -> None:
        """Raise unless the pair has a mixture prior and a normal posterior of the same latent.

        Raises:
            ValueError: if it has not, and why.
        """
        super().check(pair)
        prior = getattr(pair, "prior", None)
        if not isinstance(prior, GaussianMixture) or prior.equal:
            raise ValueError(
                f"the stage {self.name} fits the mixture of a prior with learned weights; take "
                "prior=GaussianMixture(10), mixture:10 in a text"
            )
        self.check_encoder(pair)
        _last_layer(pair.encoder.net, 2 * prior.latent)

    @torch.no_grad()
    def finish(self, pair: Any, data: Data, seed: int) -> dict[str, float]:
        """Fit the mixture, and give it to the prior.

        Returns:
            The mean log density of the codes, in nats, as `log_p_z`.

        Raises:
            ValueError: if there are fewer training rows than components, or codes are NaN or
                infinite.
        """
        prior = pair.prior
        codes = torch.cat([q.mean for q in self.posteriors(pair, data)])
        if len(codes) < prior.components or not codes.isfinite().all():
            raise ValueError(
                f"a mixture of {prior.components} components needs as many finite codes, got "
                f"{len(codes)}, {int(codes.isfinite().all(-1).sum())} of them finite"
            )
        weights, loc, variance = fitted_mixture(codes, prior.components, self.starts, seed)
        prior.logits.copy_(weights.log())
        prior.loc.copy_(loc)
        prior.log_scale.copy_(0.5 * variance.log())
        _narrow(pair.encoder, batch_of(data), self.log_scale)
        return {"log_p_z": float(prior().log_prob(codes).mean())}


def fitted_mixture(
    codes: Tensor, components: int, starts: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Fit a mixture of diagonal normals by EM, in double precision and on one thread.

    Args:
        codes: Rows, (n, latent).
        components: Of the mixture.
        starts: From which it is fitted; the likeliest is kept.
        seed: Of the starts.

    Returns:
        Weights (components,), means and variances (components, latent).
    """
    from sklearn.mixture import GaussianMixture as Mixture
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    points = codes.double().cpu().numpy()
    model = Mixture(
        components, covariance_type="diag", n_init=starts, max_iter=_SWEEPS, random_state=seed
    )
    with threadpool_limits(1):  # sums over threads come in any order
        model.fit(points)
    found = (model.weights_, model.means_, model.covariances_)
    weights, loc, variance = (torch.from_numpy(value) for value in found)
    return weights, loc, variance


def batch_of(data: Data) -> Tensor:
    """Return a few training rows, (n, *shape)."""
    x: Tensor = next(data.train.batches(min(64, len(data.train))))["x"]
    return x


def _narrow(encoder: Encoder, x: Tensor, log_scale: float) -> None:
    """Give the posterior one scale for all rows, and prove it on some; its means stay."""
    before = encoder(x).mean
    latent = before.shape[-1]
    last = _last_layer(encoder.net, 2 * latent)
    last.weight[latent:] = 0.0
    last.bias[latent:] = log_scale
    after = encoder(x)
    scale = torch.full_like(after.stddev, math.exp(log_scale))
    if not (torch.allclose(after.mean, before) and torch.allclose(after.stddev, scale)):
        raise ValueError(
            f"{type(encoder.net).__name__} has no last layer by which the posterior's scale can be "
            "set alone; take encoder='mlp' or 'conv'"
        )


def _last_layer(net: nn.Module, outputs: int) -> nn.Linear:
    """Return the linear layer that gives the posterior's features.

    Raises:
        ValueError: if there is none with a bias.
    """
    last = getattr(net, "last", None)
    if not isinstance(last, nn.Linear) or last.out_features != outputs or last.bias is None:
        raise ValueError(
            f"{type(net).__name__} does not end in a linear layer with a bias, by which the "
            "posterior's scale could be set; take encoder='mlp' or 'conv'"
        )
    return last
