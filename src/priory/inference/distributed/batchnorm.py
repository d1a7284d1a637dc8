"""BatchNorm layers whose statistics are those of the global batch."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from priory.inference.distributed import ranks

_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def share_statistics(*modules: nn.Module) -> None:
    """Let the BatchNorm layers of modules take their statistics over the rows of all ranks.

    The layers, their weights and their buffers stay what they are; in training mode they normalise
    by the mean and variance of the global batch, with gradients through both, on the CPU too.
    Nothing happens in one process.

    Args:
        modules: searched for layers of torch's own three classes.
    """
    if ranks.world() == 1:
        return
    for module in modules:
        for layer in module.modules():
            if type(layer) in _LAYERS:
                layer.forward = functools.partial(_forward, layer)


def _forward(layer: Any, x: Tensor) -> Tensor:
    if not layer.training and layer.running_mean is not None:
        usual: Tensor = type(layer).forward(layer, x)
        return usual
    layer._check_input_dim(x)
    over = [0, *range(2, x.dim())]
    shape = [1, -1] + [1] * (x.dim() - 2)
    mean = _average(x.mean(over))
    centred = x - mean.view(shape)
    variance = _average(centred.square().mean(over))
    if layer.training and layer.running_mean is not None:
        _remember(layer, mean.detach(), variance.detach(), x.numel() // x.shape[1] * ranks.world())
    out = centred * (variance + layer.eps).rsqrt().view(shape)
    if layer.weight is None:
        return out
    return out * layer.weight.view(shape) + layer.bias.view(shape)


def _average(statistic: Tensor) -> Tensor:
    return ranks.gather(statistic.unsqueeze(0)).mean(0)


@torch.no_grad()
def _remember(layer: Any, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running statistics towards those of a batch."""
    layer.num_batches_tracked.add_(1)
    weight = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean, weight)
    layer.running_var.lerp_(variance * (count / (count - 1)), weight)
