"""NumPyro's SVI, its update compiled by jax.jit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import RATE, Case
from benchmarks.contenders.base import Contender, Missing


def contender(case: Case, device: torch.device) -> Contender:
    """Return NumPyro's SVI.

    Args:
        case: what is trained.
        device: where torch's parameters live; JAX's live on the same kind of device.

    Raises:
        Missing: if it is not installed, sees no such device or has no such loss.
    """
    try:
        import jax
        import numpyro
        from numpyro import distributions as dist
        from numpyro.infer import SVI, RenyiELBO, Trace_ELBO
    except ImportError as error:
        raise Missing(f"{error.name} is not installed: pip install 'priory[bench]'") from error
    if case.loss == "wae":
        raise Missing("NumPyro has no MMD loss")
    kind = {"cuda": "gpu"}.get(device.type, device.type)
    try:
        place = jax.devices(kind)[0]
    except RuntimeError as error:
        raise Missing(f"JAX sees no {kind}") from error
    jax.config.update("jax_default_matmul_precision", "float32")  # as torch's, on CUDA too
    event = len(case.shape)
    encode, decode = nets(case)

    def model(x: Any) -> None:
        net = numpyro.module("decoder", decode, (case.batch, case.latent))
        with numpyro.plate("data", case.batch):
            z = numpyro.sample("z", dist.Normal().expand([case.latent]).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=net(z)).to_event(event), obs=x)

    def guide(x: Any) -> None:
        net = numpyro.module("encoder", encode, (case.batch, *case.shape))
        with numpyro.plate("data", case.batch):
            loc, log_scale = jax.numpy.split(net(x), 2, -1)
            numpyro.sample("z", dist.Normal(loc, jax.numpy.exp(log_scale)).to_event(1))

    iwae = case.loss == "iwae"
    loss = RenyiELBO(alpha=0, num_particles=case.particles) if iwae else Trace_ELBO()
    svi = SVI(model, guide, numpyro.optim.Adam(RATE), loss)
    update = jax.jit(svi.update)

    def convert(x: Tensor) -> Any:
        return jax.device_put(x.cpu().numpy(), place)

    with jax.default_device(place):
        state = svi.init(jax.random.PRNGKey(0), convert(case.batches(1, device)[0]))

    def step(x: Any) -> Any:
        nonlocal state
        state, value = update(state, x)
        return value

    def wait() -> None:
        jax.block_until_ready(state)

    return Contender(step, size=case.batch, convert=convert, wait=wait)


def nets(case: Case) -> tuple[Any, Any]:
    """Return encoder and decoder, each as a pair (init, apply), as `numpyro.module` takes them."""
    from jax import nn
    from jax.example_libraries import stax

    he, glorot = nn.initializers.he_uniform(), nn.initializers.glorot_uniform()

    def dense(width: int, start: Any = glorot) -> Any:
        return stax.Dense(width, start, nn.initializers.zeros)

    def mlp(outputs: int) -> Any:
        two = [dense(case.hidden), stax.Tanh, dense(case.hidden), stax.Tanh]
        return stax.serial(*two, dense(outputs))

    if not case.conv:
        return mlp(2 * case.latent), mlp(case.pixels)
    first, second = case.channels
    depth, height, width = case.corner
    encoder = stax.serial(
        convolution(1, first, he),
        stax.Relu,
        convolution(first, second, he),
        stax.Relu,
        stax.Flatten,
        dense(case.hidden, he),
        stax.Relu,
        dense(2 * case.latent),
    )
    decoder = stax.serial(
        dense(case.hidden, he),
        stax.Relu,
        dense(depth * height * width, he),
        stax.Relu,
        reshaped(depth, height, width),
        convolution(second, first, he, up=True),
        stax.Relu,
        convolution(first, 1, glorot, up=True, bias=case.shape),
    )
    return encoder, decoder


def convolution(
    inputs: int, outputs: int, start: Any, up: bool = False, bias: tuple[int, ...] | None = None
) -> tuple[Any, Any]:
    """Return a 3 by 3 convolution, channels first, that halves an image's sides or doubles them.

    Args:
        inputs: channels.
        outputs: channels.
        start: draws the weights.
        up: whether it doubles.
        bias: its shape; one number per output channel if None.
    """
    from jax import lax, numpy

    order = ("NCHW", "OIHW", "NCHW")

    def init(key: Any, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Any]:
        sides = (2 * s if up else -(-s // 2) for s in shape[2:])
        kernel = start(key, (3, 3, inputs, outputs)).transpose(3, 2, 0, 1)
        return (shape[0], outputs, *sides), (kernel, numpy.zeros(bias or (outputs, 1, 1)))

    def apply(parameters: Any, x: Any, **_: Any) -> Any:
        kernel, shift = parameters
        if up:
            return shift + lax.conv_general_dilated(
                x, kernel, (1, 1), ((1, 2), (1, 2)), lhs_dilation=(2, 2), dimension_numbers=order
            )
        return shift + lax.conv_general_dilated(
            x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=order
        )

    return init, apply


def reshaped(*shape: int) -> tuple[Any, Any]:
    """Return a layer that gives each row a shape."""

    def init(_: Any, inputs: tuple[int, ...]) -> tuple[tuple[int, ...], Any]:
        return (inputs[0], *shape), ()

    def apply(_: Any, x: Any, **__: Any) -> Any:
        return x.reshape(-1, *shape)

    return init, apply
