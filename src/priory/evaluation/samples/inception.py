"""Features of the published Frechet distances, by an optional library that fetches the weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from priory.evaluation.record import Unavailable
from priory.evaluation.rows import rows_of


def inception_features(
    x: Tensor,
) -> tuple[Callable[[Tensor], Tensor], dict[str, Tensor], str]:
    """Return Inception's 2048 features of images, its weights, and how images are given to it.

    Greyscale images are repeated to three channels; intensities go from [0, 1], or from the data's
    own range if it is another, to 0..255. They alone are comparable with published distances.

    Szegedy, Vanhoucke, Ioffe, Shlens and Wojna 2016, Rethinking the Inception Architecture for
    Computer Vision.

    Args:
        x: data that set the range of intensities, `(n, channels, height, width)`.

    Raises:
        ImportError: if torch-fidelity is not installed.
        Unavailable: if the data are no images of one or three channels.
    """
    shape = tuple(x.shape[1:])
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise Unavailable(
            f"Inception looks at images of 1 or 3 channels, got rows of shape {shape}"
        )
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ImportError(
            "features='inception' needs torch-fidelity: pip install 'priory[fid]'"
        ) from error
    low, high = float(x.min()), float(x.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).eval()

    def features(rows: Tensor) -> Tensor:
        scaled = (rows.reshape(-1, *shape).cpu().double() - low) / (high - low)
        images = (scaled.clamp(0, 1) * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)
        return rows_of(network(images)[0])

    weights: dict[str, Tensor] = network.state_dict()
    return features, weights, f"from {low:g}..{high:g} to 0..255, shape {shape}"
