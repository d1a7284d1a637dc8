"""How much of the labels a simple classifier reads from latents."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from priory.evaluation.draws import Draws
from priory.evaluation.record import Estimate, Unavailable
from priory.evaluation.registry import check_finite, metric
from priory.evaluation.remedies import Doubt, Remedy
from priory.evaluation.rows import thin

_NEIGHBOURS = 5
_PROBED = 10_000  # training rows of a linear probe
_FOLDS = 5
_ITERATIONS = 1000


def check_labels(labels: Tensor) -> None:
    """Raise Unavailable unless labels are integers from 0, `(n,)`."""
    if labels.dim() != 1:
        raise Unavailable(f"labels must have shape (rows,), got {tuple(labels.shape)}")
    wrong = ((labels != labels.floor()) | (labels < 0)).nonzero().flatten()
    if len(wrong):
        row = int(wrong[0])
        raise Unavailable(
            f"labels must be integers from 0, got {float(labels[row]):g} in row {row}"
        )


def knn_hits(
    z: Tensor,
    labels: Tensor,
    train: tuple[Tensor, Tensor] | None = None,
    neighbours: int = 5,
) -> Tensor:
    """Return for each row whether its nearest neighbours' commonest label is its own.

    Neighbours are Euclidean, from the training rows, or from all the other rows (leave one out).
    Ties between labels go to the smaller label.

    Args:
        z: latents, `(n, latent)`.
        labels: `(n,)`.
        train: latents and labels of the training rows; leave-one-out if `None`.
        neighbours: number of neighbours that vote.

    Returns:
        1 where the vote is right, else 0, `(n,)`.

    Raises:
        Unavailable: if there are too few rows or only one label, if labels are no integers from
            0 or have rows of their own nowhere in the pool, or if all latents are equal.
    """
    pool = z if train is None else train[0]
    if len(pool) <= neighbours:
        raise Unavailable(
            f"{neighbours} neighbours need more than {neighbours} rows, got {len(pool)}"
        )
    labels, classes, voted = _classes(z, labels, train)
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=neighbours).fit(_array(pool))
    query = _array(z) if train is not None else None
    near = voted[index.kneighbors(query, return_distance=False)]
    votes = (near[:, :, None] == np.arange(len(classes))).sum(1)
    return torch.from_numpy(classes[votes.argmax(1)] == labels.numpy()).double()


def linear_probe(
    z: Tensor, labels: Tensor, train: tuple[Tensor, Tensor] | None = None, seed: int = 0
) -> tuple[Tensor, bool]:
    r"""Return for each row whether multinomial logistic regression on latents finds its label.

    .. math:: p(y \mid z) \propto e^{a_y + b_y \cdot (z - m) / s}

    Fitted to the training rows' latents, standardised by their own mean and standard deviation, and
    penalised by half the squared length of b; or to four fifths of the rows, five times.

    Alain and Bengio 2016, Understanding intermediate layers using linear classifier probes.

    Args:
        z: latents, `(n, latent)`.
        labels: `(n,)`.
        train: latents and labels of the training rows; cross-validated if `None`.
        seed: of the division into folds.

    Returns:
        1 where the label is found, else 0, `(n,)`; and whether all fits converged.

    Raises:
        Unavailable: as `knn_hits`, or if there are fewer than 5 rows to cross-validate.
    """
    if train is None and len(z) < _FOLDS:
        raise Unavailable(f"{_FOLDS} folds need at least {_FOLDS} rows, got {len(z)}")
    wanted = _classes(z, labels, train)[0].numpy()
    latents = _array(z)
    if train is not None:
        found, converged = _predict(_array(train[0]), train[1].long().cpu().numpy(), latents)
        return torch.from_numpy(found == wanted).double(), converged
    hits, settled = np.zeros(len(z)), []
    from sklearn.model_selection import KFold

    for fit, held in KFold(_FOLDS, shuffle=True, random_state=seed).split(latents):
        if len(np.unique(wanted[fit])) < 2:
            raise Unavailable("a fold has rows of a single label: nothing to predict")
        found, converged = _predict(latents[fit], wanted[fit], latents[held])
        hits[held] = found == wanted[held]
        settled.append(converged)
    return torch.from_numpy(hits), all(settled)


def _classes(
    z: Tensor, labels: Tensor, train: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Return checked labels, the pool's classes, and each pool row's place among them."""
    pool, pool_labels = train if train is not None else (z, labels)
    for found in (labels, pool_labels):
        check_labels(found)
    labels, pool_labels = labels.long().cpu(), pool_labels.long().cpu()
    if (pool == pool[:1]).all():
        raise Unavailable(f"all {len(pool)} latents are equal: no label can be predicted from them")
    classes, voted = np.unique(pool_labels.numpy(), return_inverse=True)
    if len(classes) < 2:
        raise Unavailable(f"all {len(pool)} rows have the label {classes[0]}: nothing to predict")
    others = pool_labels.bincount(minlength=int(labels.max()) + 1)[labels]
    alone = (others <= (train is None)).nonzero().flatten()  # a row is no neighbour of its own
    if len(alone):
        row = int(alone[0])
        raise Unavailable(
            f"no other row has the label {int(labels[row])} of row {row}, so that it can't be "
            "predicted; leave such rows out"
        )
    return labels, classes, voted


def _predict(z: np.ndarray, labels: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, bool]:
    z, query = z.astype(np.float64), query.astype(np.float64)
    centre, scale = z.mean(0), z.std(0)
    scale[scale == 0] = 1.0
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit((z - centre) / scale, labels)
    found: np.ndarray = model.predict((query - centre) / scale)
    return found, bool(model.n_iter_.max() < _ITERATIONS)


def _array(z: Tensor) -> np.ndarray:
    array: np.ndarray = z.detach().reshape(len(z), -1).cpu().numpy()
    return array


@metric("latents", "labels", "latents", better="higher")
def knn_accuracy(draws: Draws) -> Estimate:
    """Accuracy of nearest neighbours on posterior means."""
    means, pool = draws.latents.mean, _pool(draws)
    check_finite("posterior means", means)
    if pool is not None:
        check_finite("posterior means of training rows", pool[0])
    hits = knn_hits(means, draws.labels, pool, _NEIGHBOURS)
    among = "the other rows" if pool is None else f"{len(pool[1])} training rows"
    note = f"{_NEIGHBOURS} neighbours in the posterior means, among {among}"
    return Estimate.share(hits, kind="unbiased", note=note)


@metric("latents", "labels", "latents", better="higher", name="linear_probe")
def probe_accuracy(draws: Draws) -> Estimate:
    """Accuracy of logistic regression on posterior means."""
    means, pool = draws.latents.mean, _pool(draws)
    check_finite("posterior means", means)
    if pool is not None:
        check_finite("posterior means of training rows", pool[0])
        few = thin({"z": pool[0], "y": pool[1]}, _PROBED)
        pool = (few["z"], few["y"])
    hits, converged = linear_probe(means, draws.labels, pool, draws.seed)
    on = "five times four fifths of the rows" if pool is None else f"{len(pool[1])} training rows"
    note = f"multinomial logistic regression on standardised posterior means, fitted to {on}"
    short = Doubt("the logistic regression has not converged", Remedy.CARE)
    return Estimate.share(hits, kind="unbiased", note=note, warnings=() if converged else (short,))


def _pool(draws: Draws) -> tuple[Tensor, Tensor] | None:
    """Return the training rows' posterior means and labels, if there are any."""
    if draws.reference is None or "y" not in draws.reference or draws.train_latents is None:
        return None
    return draws.train_latents.mean, draws.reference["y"]
