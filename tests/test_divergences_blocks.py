"""Many samples block by block: the same numbers and gradients from little memory, traced too."""

import weakref
from functools import partial

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from priory.divergences import (
    DIVERGENCES,
    energy,
    gaussian,
    max_sliced,
    mmd,
    sinkhorn,
    sliced,
)
from priory.serialisation import from_config, to_config

pytestmark = pytest.mark.usefixtures("double")

BLOCKED = {
    "imq": partial(mmd, scale=1.3),
    "rbf": partial(mmd, kernel="rbf"),
    "rbf-mixture": partial(mmd, kernel="rbf-mixture", unbiased=False),
    "energy": energy,
    "energy-biased": partial(energy, unbiased=False),
    "sinkhorn": partial(sinkhorn, eps=0.3, steps=20),
}


class Largest(TorchDispatchMode):
    """Takes down the most elements that any tensor made within has."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        self.most = max([self.most, *sizes])
        return out


class Live(TorchDispatchMode):
    """Counts the numbers that tensors made within hold, now and at most."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.take_down(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)
        return out

    def take_down(self, storage):
        key, size = storage._cdata, storage.nbytes() // 8
        if key not in self.seen:
            self.seen.add(key)
            self.now += size
            weakref.finalize(storage, self.forget, key, size)

    def forget(self, key, size):
        self.seen.discard(key)
        self.now -= size


def samples(n=60, m=45, d=3):
    return torch.randn(n, d, requires_grad=True), (torch.randn(m, d) + 0.5).requires_grad_()


def with_gradients(f, a, b):
    value = f(a, b)
    return value.detach(), *torch.autograd.grad(value, (a, b))


@pytest.mark.parametrize("block", [1, 200, 2699])
@pytest.mark.parametrize("name", BLOCKED)
def test_blocks_change_nothing(name, block):
    a, b = samples(12, 9) if block == 1 else samples()
    whole = with_gradients(BLOCKED[name], a, b)
    parts = with_gradients(partial(BLOCKED[name], block=block), a, b)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "f",
    [
        partial(mmd, kernel="rbf", block=50),
        partial(sinkhorn, eps=0.3, steps=3, block=50),
        partial(max_sliced, steps=2),
        gaussian,
    ],
)
def test_they_can_be_traced(f):
    a, b = samples(9, 8)
    graph = make_fx(partial(with_gradients, f))(a, b)
    a, b = samples(9, 8)
    torch.manual_seed(1)
    expected = with_gradients(f, a, b)
    torch.manual_seed(1)
    for one, other in zip(expected, graph(a, b), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", BLOCKED)
def test_no_tensor_is_larger_than_a_block(name):
    a, b = samples(600, 500)
    block = 6000
    kernels = {"imq": 7, "rbf-mixture": 5}.get(name, 1)  # held side by side
    own = 512 * 512 if name.startswith("rbf") else 0  # of the median, whatever the sets
    with Largest() as seen:
        with_gradients(partial(BLOCKED[name], block=block), a, b)
    assert seen.most <= max(kernels * block, own)
    with Largest() as seen:
        with_gradients(partial(BLOCKED[name], block=2**20), a, b)
    assert seen.most >= 600 * 600  # the test itself sees a matrix of all pairs


@pytest.mark.parametrize("name", BLOCKED)
def test_little_is_held_at_a_time(name):
    a, b = samples(600, 500)
    block = 6000
    f = partial(BLOCKED[name], block=block)
    value, held = None, []
    with Live() as live:
        value = f(a, b)
        held = [live.peak, live.now]
        torch.autograd.grad(value, (a, b))
    median = 4 * 512 * 512 if name.startswith("rbf") else 0
    assert held[0] <= 8 * block + median  # forward, in numbers
    assert held[1] <= 30 * (600 + 500)  # between
    assert live.peak <= 30 * block + median  # backward


@pytest.mark.parametrize("f", [sliced, max_sliced, gaussian])
def test_the_others_make_no_pairs(f):
    a, b = samples(1500, 1500)
    with Largest() as seen:
        with_gradients(f, a, b)
    assert seen.most <= 100 * 1500  # directions times samples


def test_second_derivatives_of_blocks():
    a, b = samples(6, 5, 2)
    f = partial(mmd, kernel="rbf", scale=1.0, block=7)
    assert torch.autograd.gradgradcheck(f, (a, b))
    assert torch.autograd.gradgradcheck(f, (a, b.detach()))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_saved_run_names_a_divergence_by_the_package(name):
    f = DIVERGENCES[name]
    path = f"priory.divergences.{f.__name__}"
    assert to_config(f) == {"function": path}
    assert from_config({"function": path}) is f
    option = {"sinkhorn": {"eps": 0.5}, "mmd": {"kernel": "rbf", "scale": None}}.get(name, {})
    written = to_config(partial(f, **option))
    again = from_config(written)
    assert again.func is f
    assert again.keywords == option


def test_a_mangled_divergence_is_refused():
    written = {"partial": {"function": "priory.divergences.mmd"}, "kernel": 3}
    with pytest.raises(ValueError, match="kernel can't be 3"):
        from_config(written)
    with pytest.raises(ValueError, match="unexpected keyword argument 'kernle'"):
        from_config({"partial": {"function": "priory.divergences.mmd"}, "kernle": "rbf"})
