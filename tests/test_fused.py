"""Fused steps of an optimiser: the numbers of torch's plain steps, in whatever order memory is."""

from __future__ import annotations

import copy
import io
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from priory.inference import ELBO, SVI
from priory.inference.engine.fused import FusedAdam
from priory.inference.engine.optim import JointOptim

pytestmark = pytest.mark.usefixtures("double")


class Turned(nn.Module):
    """A net whose gradients by `torch.autograd.grad` are transposed."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3))

    def model(self, x):
        pyro.module("turned", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            loc = torch.einsum("bi,io->bo", z, self.weight)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x @ self.weight.detach().T, 1.0).to_event(1))


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_a_traced_step_moves_the_weights_that_an_eager_step_moves(name):
    found = []
    for mode, fused in (("off", False), ("off", True), ("trace", False), ("trace", True)):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        pair = Turned()
        optim = partial(getattr(torch.optim, name), lr=0.1, fused=fused)
        svi = SVI(pair.model, pair.guide, optim, ELBO(), compile=mode)
        for _ in range(4):
            svi.step(torch.randn(8, 3))
        found.append(pair.weight.detach())
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-9, atol=1e-9)


LAYOUTS = {
    "transposed": lambda: torch.randn(3, 5).t(),
    "permuted": lambda: torch.randn(2, 5, 3).permute(2, 1, 0),
    "strided": lambda: torch.randn(5, 6)[:, ::2],
    "expanded row": lambda: torch.randn(5, 3),
}


@pytest.mark.parametrize("options", [{}, {"fused": True}])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_parameters_in_any_order_in_memory_move_as_contiguous_ones(layout, options):
    start = LAYOUTS[layout]()
    own, plain = nn.Parameter(start), nn.Parameter(start.clone().contiguous())
    optim = JointOptim(torch.optim.Adam, {"lr": 0.1, **options})
    peer = torch.optim.Adam([plain], lr=0.1, fused=False)
    for step in range(4):
        gradient = torch.randn(start.shape)
        if layout == "expanded row" and step % 2:
            gradient = gradient[:1].expand(start.shape)
        own.grad, plain.grad = gradient, gradient.contiguous()
        optim([own])
        peer.step()
        torch.testing.assert_close(own, plain, rtol=1e-12, atol=1e-12)


def halve(optimizer, step):
    for group in optimizer.param_groups:
        group["lr"] = 0.5 * group["lr"]


def reload(optimizer, step):
    if step == 3:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def reload_by_file(optimizer, step):
    if step == 3:
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        optimizer.load_state_dict(torch.load(file, weights_only=True))


def join(optimizer, step):
    if step == 3:
        late = nn.Parameter(torch.ones(4))
        optimizer.add_param_group({"params": [late], "lr": 0.3})


def rest(optimizer, step):
    if step % 3 == 2:
        optimizer.param_groups[0]["params"][1].grad = None


def refill(optimizer, step):
    own = next(iter(optimizer.state.values()), {})
    if step == 3:
        values = {k: v.clone() for k, v in own.items()}
        own.clear()
        own.update({k: v * 0.5 for k, v in values.items()})
    if step == 5:
        own["exp_avg"].mul_(2.0)
        own["step"].fill_(20.0)


def regroup(optimizer, step):
    if step == 3:
        first, *rest = optimizer.param_groups
        moved = first["params"].pop()
        optimizer.param_groups = [first, *rest, {**first, "params": [moved], "lr": 0.01}]


def forget(optimizer, step):
    if step == 3:
        optimizer.state.clear()


def maximise(optimizer, step):
    if step == 3:
        optimizer.param_groups[0]["maximize"] = True


def nothing(optimizer, step):
    pass


DISTURBANCES = [
    nothing,
    halve,
    reload,
    reload_by_file,
    join,
    rest,
    refill,
    regroup,
    forget,
    maximise,
]
OPTIONS = {
    "Adam": {"lr": 0.1},
    "AdamW": {"lr": 0.1, "weight_decay": 0.1},
    "decay": {"lr": 0.1, "weight_decay": 0.1, "betas": (0.5, 0.99), "eps": 1e-3},
    "amsgrad": {"lr": 0.1, "amsgrad": True},
    "tensor rate": {"lr": torch.tensor(0.1)},
}


def trained(made, change, own_lists, dtype=torch.float32):
    """The parameters and states of all steps, and how many of these the lists took."""
    torch.manual_seed(0)
    shapes = [(4, 3), (3,), (2, 5, 2), (), (0, 2)]
    params = [nn.Parameter(torch.randn(s, dtype=dtype)) for s in shapes]
    name, options = made
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.02}]
    factory = torch.optim.AdamW if name == "AdamW" else torch.optim.Adam
    optimizer = factory(groups, **options, fused=True)
    kernel, seen, taken = FusedAdam.of(optimizer), [], 0
    for step in range(8):
        for p in [p for group in optimizer.param_groups for p in group["params"]]:
            p.grad = torch.randn(p.shape, dtype=p.dtype)
        change(optimizer, step)
        if own_lists and kernel.step():
            taken += 1
        else:
            optimizer.step()
        seen += [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]
        states = optimizer.state_dict()["state"].values()
        seen += [own[k].clone() for own in states for k in ("step", "exp_avg", "exp_avg_sq")]
    return seen, taken, optimizer


@pytest.mark.parametrize("change", DISTURBANCES)
@pytest.mark.parametrize("name", OPTIONS)
def test_steps_by_kept_lists_are_torchs_to_the_bit(name, change):
    found, taken, optimizer = trained((name, OPTIONS[name]), change, own_lists=True)
    expected, _, peer = trained((name, OPTIONS[name]), change, own_lists=False)
    assert len(found) == len(expected)
    assert all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(found, expected, strict=True)
    )
    plain = name not in ("amsgrad", "tensor rate")
    assert (taken >= 4) if plain else (taken == 0)
    own, others = optimizer.state_dict(), peer.state_dict()
    assert own["param_groups"] == others["param_groups"]
    assert own["state"].keys() == others["state"].keys()
    assert all(own["state"][i].keys() == others["state"][i].keys() for i in own["state"])


def test_float64_too():
    found, taken, _ = trained(("Adam", {"lr": 0.1}), nothing, True, torch.float64)
    expected, _, _ = trained(("Adam", {"lr": 0.1}), nothing, False, torch.float64)
    assert taken == 7
    assert all(map(torch.equal, found, expected))


def test_a_state_goes_on_in_torchs_own_steps():
    """Counts of steps are one tensor's items: each moves by one, whoever takes the steps."""
    _, _, optimizer = trained(("Adam", {"lr": 0.1}), nothing, own_lists=True)
    optimizer.step()
    assert [own["step"].item() for own in optimizer.state.values()] == [9.0] * 5
    assert FusedAdam.of(optimizer).step()
    assert [own["step"].item() for own in optimizer.state.values()] == [10.0] * 5


def hooked(optimizer, calls):
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))


def watched(optimizer, calls):
    step = optimizer.step
    optimizer.step = lambda *args: calls.extend(["before", "after"]) or step(*args)


@pytest.mark.parametrize("watch", [hooked, watched])
def test_hooks_on_steps_are_called(watch):
    param, calls = nn.Parameter(torch.ones(3)), []
    optim = JointOptim(torch.optim.Adam, {"lr": 0.1})
    for step in range(4):
        param.grad = torch.ones(3)
        optim([param])
        if step == 1:
            assert optim._kernel.step()
            watch(optim.joint, calls)
    assert calls == ["before", "after"] * 2


def test_a_schedule_of_torch_and_a_profiler_see_the_steps():
    param = nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    optim = JointOptim(torch.optim.Adam, {"lr": 0.1})
    optim([param])
    with torch.profiler.profile() as profile:
        optim([param])
    assert any("Optimizer.step#Adam.step" in event.key for event in profile.key_averages())
    schedule = torch.optim.lr_scheduler.StepLR(optim.joint, 1, gamma=0.5)
    for _ in range(2):
        optim([param])
        schedule.step()  # warns unless it saw a step
    assert optim.joint.param_groups[0]["lr"] == pytest.approx(0.025)


def test_another_kernel_than_known_is_left_to_torch(monkeypatch):
    monkeypatch.setattr("priory.inference.engine.fused._SIGNATURE", "(Tensor[] self) -> ()")
    param = nn.Parameter(torch.ones(3))
    optim = JointOptim(torch.optim.Adam, {"lr": 0.1})
    for _ in range(3):
        param.grad = torch.ones(3)
        optim([param])
    assert optim._kernel is None
    torch.testing.assert_close(param.detach(), torch.full((3,), 0.7), rtol=1e-6, atol=0)


def test_this_torch_has_the_kernel_that_is_known():
    assert FusedAdam.of(torch.optim.Adam([nn.Parameter(torch.ones(3))])) is not None


def test_a_state_that_is_set_and_a_rate_of_one_parameter_are_noticed():
    first, second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))
    copies = [nn.Parameter(p.detach().clone()) for p in (first, second)]
    optim = JointOptim(torch.optim.Adam, {"lr": 0.1})
    peer = torch.optim.Adam([{"params": [p]} for p in copies], lr=0.1, fused=True)
    kept = {}
    for step in range(9):
        for p, q in zip((first, second), copies, strict=True):
            p.grad = torch.randn(p.shape)
            q.grad = p.grad.clone()
        optim([first, second])
        peer.step()
        if step == 2:
            kept = copy.deepcopy((optim.get_state(), peer.state_dict()))
        if step == 4:
            optim.optim_objs[second].param_groups[0]["lr"] = 0.03
            peer.param_groups[1]["lr"] = 0.03
        if step == 6:
            optim.set_state(kept[0])
            peer.load_state_dict(kept[1])
        assert torch.equal(first, copies[0])
        assert torch.equal(second, copies[1])
    assert optim._kernel.step()
