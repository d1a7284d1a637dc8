"""Nets: leading dims, shapes, starting values, and what they say of a mistake."""

import copy

import pytest
import torch
from torch import nn

from priory.names import named
from priory.nets import MLP, NETS, Conv, Deconv, Wrapped, as_net
from priory.nets.base import ACTIVATIONS

pytestmark = pytest.mark.usefixtures("double")


CASES = {
    "mlp": (MLP((7, 5)), (1, 4, 3), (2, 5)),
    "linear": (MLP(()), (6,), (3,)),
    "gated": (MLP((7,), gated=True), (6,), (2, 3)),
    "critic": (MLP((7,), "leaky-relu"), (6,), ()),
    "conv": (Conv((3, 4), 6), (2, 7, 6), (2, 5)),
    "deconv": (Deconv((3, 4), 6), (5,), (2, 1, 7, 6)),
    "wrapped": (Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(12, 10))), (1, 4, 3), (2, 5)),
}


def built(name):
    net, inputs, outputs = CASES[name]
    net = copy.deepcopy(net).double()
    net.build(inputs, outputs)
    return net, inputs, outputs


@pytest.mark.parametrize("name", CASES)
def test_particles_are_independent(name):
    net, inputs, outputs = built(name)
    x = torch.randn(3, 4, *inputs)
    out = net(x)
    assert out.shape == (3, 4, *outputs)
    torch.testing.assert_close(out, torch.stack([net(part) for part in x]))
    assert net(x[0, 0]).shape == outputs


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_gets_a_gradient(name):
    net, inputs, _ = built(name)
    net(torch.randn(16, *inputs)).square().sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", sorted(set(CASES) - {"wrapped"}))
def test_a_bias_shifts_the_output(name):
    net, inputs, outputs = built(name)
    x = torch.randn(2, *inputs)
    before, value = net(x), torch.randn(outputs)
    net.set_bias(value)
    torch.testing.assert_close(net(x), before + value)


@pytest.mark.parametrize("name", sorted(set(CASES) - {"wrapped"}))
def test_saved_weights_load_back(name):
    net, inputs, outputs = built(name)
    other = copy.deepcopy(CASES[name][0])
    other.build(inputs, outputs)
    other.load_state_dict(net.state_dict())
    x = torch.randn(2, *inputs)
    assert torch.equal(net(x), other(x))


@pytest.mark.parametrize("side", range(1, 12))
def test_convolutions_take_any_size(side):
    conv, deconv = Conv((2, 3, 4), 5), Deconv((2, 3, 4), 5)
    conv.build((1, side, side + 3), (4,))
    deconv.build((4,), (2, 1, side, side + 3))
    assert deconv(conv(torch.randn(2, 1, side, side + 3))).shape == (2, 2, 1, side, side + 3)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_start_at_a_useful_scale(activation):
    net = MLP((100, 100), activation)
    net.build((50,), (100,))
    spread = net(torch.randn(200, 50)).std()
    assert 0.05 < spread < 5


def test_gate_multiplies():
    net = MLP((3,), gated=True)
    net.build((2,), (3,))
    with torch.no_grad():
        net.last.weight.copy_(torch.eye(3))
    x = torch.randn(5, 2)
    linear = net.layers[0]
    value, gate = (x @ linear.weight.T).chunk(2, -1)
    torch.testing.assert_close(net(x), value * torch.sigmoid(gate))


def test_configuration_is_readable():
    assert (MLP((3,), "tanh").hidden, MLP((3,), "tanh").activation) == ((3,), "tanh")
    assert (Conv((3,)).channels, Deconv(hidden=9).hidden) == ((3,), 9)
    module = nn.Linear(2, 2)
    assert as_net(module).module is module
    assert as_net(as_net(module)).module is module
    assert all(isinstance(kind(), nn.Module) for kind in NETS.values())


def test_building_again_does_nothing_or_objects():
    net, inputs, outputs = built("mlp")
    weight = net.last.weight
    net.build(inputs, outputs)
    assert net.last.weight is weight
    with pytest.raises(ValueError, match=r"built for .*\(1, 4, 3\).*net of its own"):
        net.build((5,), outputs)


def test_mistakes_are_told():
    net = MLP()
    with pytest.raises(RuntimeError, match="call build first"):
        net(torch.zeros(3))
    net.build((3,), (2,))
    with pytest.raises(ValueError, match=r"expected inputs .*\(3,\).*got \(5, 4\)"):
        net(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="unknown activation 'rele', nearest 'relu'"):
        MLP(activation="rele")
    with pytest.raises(ValueError, match=r"must be positive, got \(3, 0\)"):
        MLP((3, 0))
    with pytest.raises(ValueError, match="use MLP"):
        Conv().build((3,), (2,))
    with pytest.raises(ValueError, match="use MLP"):
        Deconv().build((3,), (2,))
    with pytest.raises(ValueError, match=r"to 6 numbers each, shaped \(2, 3\); got \(2, 5\)"):
        Wrapped(nn.Linear(4, 5)).build((4,), (2, 3))
    with pytest.raises(TypeError, match="got list"):
        as_net([nn.Linear(2, 2)])
    with pytest.raises(ValueError, match="the names are one, two"):
        named("number", "xyz", {"one": 1, "two": 2})


def test_a_module_keeps_its_mode_when_tried():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    Wrapped(module).build((2,), (3,))
    assert module.training
    assert torch.equal(module[1].running_mean, torch.zeros(3))
