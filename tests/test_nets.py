"""Nets: leading dims, shapes, starting values, and what they say of a mistake."""

import copy

import pytest
import torch
from torch import nn

from priory.lookup import named
from priory.nets import DCGAN, MLP, NETS, Conv, DCGANCritic, Deconv, Wrapped, as_net
from priory.nets.base import ACTIVATIONS
from priory.nets.layers import Spectral

pytestmark = pytest.mark.usefixtures("double")


CASES = {
    "mlp": (MLP((7, 5)), (1, 4, 3), (2, 5)),
    "linear": (MLP(()), (6,), (3,)),
    "gated": (MLP((7,), gated=True), (6,), (2, 3)),
    "critic": (MLP((7,), "leaky-relu"), (6,), ()),
    "normed": (MLP((7, 5), batch_norm=True, output="sigmoid"), (6,), (2, 3)),
    "spectral": (MLP((7,), spectral=True), (6,), (2, 3)),
    "conv": (Conv((3, 4), 6), (2, 7, 6), (2, 5)),
    "spectral-conv": (Conv((3, 4), 6, spectral=True, batch_norm=True), (2, 7, 6), (2, 5)),
    "dcgan": (DCGAN((3, 4), "linear"), (5,), (2, 1, 7, 6)),
    "dcgan-critic": (DCGANCritic((3, 4)), (2, 7, 6), ()),
    "ranged": (Deconv((3, 4), 6, batch_norm=True, output="tanh"), (5,), (2, 1, 7, 6)),
    "deconv": (Deconv((3, 4), 6), (5,), (2, 1, 7, 6)),
    "wrapped": (Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(12, 10))), (1, 4, 3), (2, 5)),
}


def built(name):
    net, inputs, outputs = CASES[name]
    net = copy.deepcopy(net).double()
    net.build(inputs, outputs)
    return net.eval(), inputs, outputs


@pytest.mark.parametrize("name", CASES)
def test_particles_are_independent(name):
    net, inputs, outputs = built(name)
    x = torch.randn(3, 4, *inputs)
    out = net(x)
    assert out.shape == (3, 4, *outputs)
    torch.testing.assert_close(out, torch.stack([net(part) for part in x]))
    assert net(x[0, 0]).shape == outputs


@pytest.mark.parametrize("name", [name for name, (_, inputs, _) in CASES.items() if inputs == (6,)])
@pytest.mark.parametrize("lead", [(3, 4), (4,)])
def test_what_stands_beside_an_input_is_read_as_if_joined_to_it(name, lead):
    net, _, outputs = built(name)
    x, given = torch.randn(4, 4), torch.randn(*lead, 2)
    found = net.beside(x, given)
    joined = net(torch.cat([x.expand(*lead, -1), given], -1))
    torch.testing.assert_close(found, joined, rtol=0, atol=1e-12)
    assert net.beside(x[0], given[..., 0, :]).shape == (*lead[:-1], *outputs)
    with pytest.raises(ValueError, match="expected inputs of shape"):
        net.beside(x, given[..., :1])


class Doubled(MLP):
    """A net that reads its inputs in a way of its own."""

    def apply_flat(self, x):
        return super().apply_flat(2 * x)


def test_a_subclass_with_a_way_of_its_own_keeps_it_beside_other_vectors():
    net = Doubled((7,))
    net.build((6,), (3,))
    x, given = torch.randn(4, 4), torch.randn(4, 2)
    torch.testing.assert_close(net.beside(x, given), net(torch.cat([x, given], -1)))


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_gets_a_gradient(name):
    net, inputs, _ = built(name)
    net(torch.randn(16, *inputs)).square().sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", sorted(set(CASES) - {"wrapped", "normed", "ranged"}))
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
    other.eval().load_state_dict(net.state_dict())
    x = torch.randn(2, *inputs)
    assert torch.equal(net(x), other(x))


@pytest.mark.parametrize(("name", "low"), [("normed", 0.0), ("ranged", -1.0)])
def test_outputs_keep_their_range_and_start_where_they_are_told(name, low):
    net, inputs, outputs = built(name)
    out = net(100 * torch.randn(50, *inputs))
    assert low <= out.min() < out.max() <= 1
    value = torch.rand(outputs) * 0.9 + 0.05
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    net.set_bias(value)
    torch.testing.assert_close(net(torch.zeros(2, *inputs)), value.expand(2, *outputs))
    net.set_bias(torch.ones(outputs))
    assert net(torch.zeros(1, *inputs)).min().item() == pytest.approx(0.99)


def test_spectral_layers_have_a_largest_singular_value_of_one():
    net = Conv((3, 4), 6, "relu", spectral=True)
    net.build((2, 8, 8), ())
    for _ in range(200):  # in training mode, each call is one power iteration
        net(torch.randn(1, 2, 8, 8))
    layers = [m for m in net.modules() if isinstance(m, Spectral)]
    assert len(layers) == 4
    for layer in layers:
        sigma = layer.u @ layer.matrix @ layer.v
        torch.testing.assert_close(sigma, torch.linalg.matrix_norm(layer.matrix, 2))
        x = torch.randn(5, layer.matrix.shape[1])
        if isinstance(layer.layer, nn.Linear):
            torch.testing.assert_close(layer(x), x @ (layer.matrix / sigma).T + layer.bias)
    before = [b.clone() for b in net.buffers()]
    net.eval()(torch.randn(1, 2, 8, 8))
    assert all(map(torch.equal, net.buffers(), before))


@pytest.mark.parametrize("side", [8, 28, 32])
def test_dcgan_starts_and_is_built_as_in_the_paper(side):
    generator, critic = DCGAN((8, 16)), DCGANCritic((8, 16))
    generator.build((5,), (1, 3, side, side))
    critic.build((3, side, side), ())
    images = generator(torch.randn(7, 5))
    assert images.shape == (7, 1, 3, side, side)
    assert 0 <= images.min() < images.max() <= 1
    assert critic(images[:, 0]).shape == (7,)
    norms = [
        [m.num_features for m in n.modules() if isinstance(m, nn.BatchNorm2d)]
        for n in (generator, critic)
    ]
    assert norms == [[16, 8], [16]]  # none in the generator's last layer and the critic's first
    weights = torch.cat([p.flatten() for p in critic.parameters() if p.dim() > 1])
    assert float(weights.detach().std()) == pytest.approx(0.02, rel=0.05)


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
