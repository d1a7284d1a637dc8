"""Everything that a run has trained, by name: out of a pair, into bytes, and back."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from priory.inference.checkpoints.disk import Damaged
from priory.inference.objectives.base import Objective
from priory.inference.phases.arguments import modules_of
from priory.lookup import first_line


def critics_of(objective: Any) -> list[nn.Module]:
    """Return the critics that an objective owns."""
    return [a.critic for a in objective.adversaries()] if isinstance(objective, Objective) else []


def tensors_of(pair: Any, objective: Any, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the live tensors: the pair's state, the critics', and the store's bare parameters.

    Of modules that a pair's programs close over, the parameters are in the store; their buffers,
    such as running means, are taken here.

    Args:
        pair: the pair.
        objective: what it is trained by.
        params: Pyro's store: unconstrained parameters by name.
    """
    modules = {"pair": pair} if isinstance(pair, nn.Module) else {}
    modules |= {f"critic{number}": critic for number, critic in enumerate(critics_of(objective))}
    tensors = {
        f"{part}.{name}": value
        for part, module in modules.items()
        for name, value in module.state_dict().items()
        if isinstance(value, Tensor)
    }
    owned = {id(p) for module in modules.values() for p in module.parameters()}
    tensors |= {f"store.{n}": p for n, p in params.items() if id(p) not in owned}
    return tensors | _closed_over(pair, [*modules.values()])


def _closed_over(pair: Any, known: list[nn.Module]) -> dict[str, Tensor]:
    """Return the buffers of those modules that a pair's programs close over."""
    owned = {id(part) for module in known for part in module.modules()}
    programs = [getattr(pair, name, None) for name in ("model", "guide")]
    found = {id(m): m for p in programs for m in modules_of(p) if id(m) not in owned}
    return {
        f"closed{number}.{name}": value
        for number, module in enumerate(found.values())
        for name, value in module.state_dict(keep_vars=True).items()
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
    }


def encode(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors as the content of a safetensors file."""
    return save({n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()})


def decode(path: Path, content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Args:
        path: for the message.
        content: of the file.

    Raises:
        Damaged: naming the file.
    """
    try:
        tensors: dict[str, Tensor] = load(content)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    return tensors


def encode_state(state: Mapping[str, Any]) -> bytes:
    """Return tensors and plain values as the content of a file of `torch.save`."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def decode_state(path: Path, content: bytes) -> dict[str, Any]:
    """Return what such a file holds, without running code that it might name.

    Args:
        path: for the message.
        content: of the file.

    Raises:
        Damaged: naming the file, if it is damaged or holds anything but dense tensors and plain
            values.
    """
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling may meet in a file of unknown origin
        raise Damaged(
            f"{path} cannot be loaded safely, and nothing was run: {first_line(error)}"
        ) from error
    if not isinstance(state, dict) or not _dense(state):
        raise Damaged(f"{path} cannot be loaded safely: it holds more than dense tensors")
    return state


def check_fit(own: Mapping[str, Tensor], found: Mapping[str, Tensor], source: Path) -> None:
    """Raise unless two sets of tensors agree in names, shapes and types.

    Args:
        own: those of the pair.
        found: those of the file.
        source: the file.

    Raises:
        ValueError: with the first tensor that differs.
    """
    wrong = [n for n in [*own, *found] if _kind(own.get(n)) != _kind(found.get(n))]
    if wrong:
        name = wrong[0]
        more = f" (and {len(set(wrong)) - 1} more differ)" if len(set(wrong)) > 1 else ""
        raise ValueError(
            f"{source}: the weights do not fit: {name!r} is {_kind(found.get(name))} in the file "
            f"and {_kind(own.get(name))} in the pair{more}; build the pair as it was when it was "
            "saved"
        )


@torch.no_grad()
def put(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Copy tensors into others of the same names, after `check_fit`."""
    for name, tensor in found.items():
        own[name].copy_(tensor)


def _dense(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.layout == torch.strided and not value.is_quantized
    if isinstance(value, Mapping):
        return all(map(_dense, value.values()))
    return all(map(_dense, value)) if isinstance(value, list | tuple) else True


def _kind(tensor: Tensor | None) -> str:
    if tensor is None:
        return "absent"
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
