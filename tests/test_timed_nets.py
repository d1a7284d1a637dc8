"""Nets with a time: leading dims, what they read, where they start, any side of an image."""

import pytest
import torch

from priory.nets import TIMED, TimeMLP, UNet, timed
from priory.nets.timed import TimedNet

pytestmark = pytest.mark.usefixtures("double")

SMALL = {"unet": {"channels": 4, "multipliers": (1, 2)}, "time-mlp": {"width": 8, "layers": 1}}


def built(name, shape=(1, 5, 4), params=2, given=3):
    net = TIMED[name](**SMALL.get(name, {}))
    net.build(shape, params, given)
    net.double()
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.3)
    return net


@pytest.mark.parametrize("name", TIMED)
def test_rows_are_independent_and_read_state_time_and_vector(name):
    net = built(name)
    z, t, given = torch.randn(3, 4, 1, 5, 4), torch.rand(4), torch.randn(4, 3)
    out = net(z, t, given)
    assert out.shape == (3, 4, 2, 1, 5, 4)
    one = net(z[1, 2], t[2], given[2])
    torch.testing.assert_close(out[1, 2], one)
    for other in (net(z + 0.1, t, given), net(z, 1 - t, given), net(z, t, given + 0.1)):
        assert not torch.isclose(other, out).any(dim=-1).all()
    with torch.no_grad():
        torch.testing.assert_close(net(z, t, given), out)


class Product(TimedNet):
    """State, time and vector together; a test's own, row by row."""

    def make(self, shape, params, given):
        """Nothing is to be made."""

    def apply_flat(self, z, t, given):
        assert z.shape[:1] == t.shape == given.shape[:1]
        return (z * (1 + t[:, None, None, None]) + given.sum(-1)[:, None, None, None])[:, None]


@pytest.mark.parametrize("times", [(), (1,), (4,), (1, 4), (3, 1), (3, 4)])
@pytest.mark.parametrize("vectors", [(), (4,), (3, 1)])
@pytest.mark.parametrize("name", [*TIMED, "own"])
def test_times_that_rows_share_are_each_rows_own(name, times, vectors, monkeypatch):
    net = Product() if name == "own" else built(name)
    net.build((1, 5, 4), 1 if name == "own" else 2, 3)
    z, t, given = torch.randn(3, 4, 1, 5, 4), torch.rand(times), torch.randn(*vectors, 3)
    rows = (z.flatten(0, 1), t.expand(3, 4).reshape(12), given.expand(3, 4, 3).reshape(12, 3))
    alone = torch.stack([net(*row) for row in zip(*rows, strict=True)]).unflatten(0, (3, 4))
    torch.testing.assert_close(net(z, t, given), alone)
    for size in (1, 3, 5, 9):
        monkeypatch.setattr(timed, "_ROWS", size)
        with torch.no_grad():
            torch.testing.assert_close(net(z, t, given), alone)


def test_a_net_without_a_map_says_so():
    class Empty(TimedNet):
        def make(self, shape, params, given):
            """Nothing is to be made."""

    net = Empty()
    net.build((2,), 1)
    with pytest.raises(NotImplementedError, match="Empty has no apply_flat"):
        net(torch.randn(3, 2), torch.rand(3))


@pytest.mark.parametrize("name", TIMED)
def test_every_parameter_gets_a_gradient_and_it_starts_at_zero(name):
    net = built(name)
    net(torch.randn(6, 1, 5, 4), torch.rand(6), torch.randn(6, 3)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())
    fresh = TIMED[name](**SMALL.get(name, {}))
    fresh.build((1, 5, 4), 2)
    assert not fresh.double()(torch.randn(6, 1, 5, 4), torch.rand(6)).any()


@pytest.mark.parametrize("side", [1, 2, 3, 7, 8])
def test_a_unet_takes_any_side(side):
    net = UNet(channels=4, multipliers=(1, 1, 2), depthwise=side % 2 == 0)
    net.build((2, side, side + 1), 1)
    assert net.double()(torch.randn(2, 2, side, side + 1), torch.rand(2)).shape == (
        2, 1, 2, side, side + 1
    )  # fmt: skip


def test_few_coordinates_are_seen_by_their_waves():
    few, many = built("time-mlp", (2,)), built("time-mlp", (9,))
    assert few.first.in_features == 2 * (1 + 2 * 16)
    assert many.first.in_features == 9


def test_mistakes_are_told():
    net = built("time-mlp", (2,), given=0)
    with pytest.raises(ValueError, match="expected states of shape"):
        net(torch.zeros(3, 4), torch.rand(3))
    with pytest.raises(ValueError, match="vectors of 0 numbers"):
        net(torch.zeros(3, 2), torch.rand(3), torch.zeros(3, 1))
    with pytest.raises(RuntimeError, match="call build first"):
        TimeMLP()(torch.zeros(3, 2), torch.rand(3))
    with pytest.raises(ValueError, match="UNet expected images"):
        UNet().build((5,), 1)
    with pytest.raises(ValueError, match="multiple of 4"):
        UNet(channels=6)
    with pytest.raises(ValueError, match="width and layers must be positive"):
        TimeMLP(width=0)
