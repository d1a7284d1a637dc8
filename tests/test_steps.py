"""Nets over the steps of sequences: padding never counts, and a padded row is read as if alone."""

import copy
import math

import numpy as np
import pytest
import torch

from priory import encode, evaluate, fit, score
from priory.data import Data
from priory.distributions.independent import IndependentNormal
from priory.distributions.padded import Padded, blanked, carried
from priory.distributions.pixels import IndependentContinuousBernoulli
from priory.inference import ELBO, IWAE, SVI
from priory.likelihoods import Normal
from priory.models import CVAE, VAE, MaskedVAE
from priory.nets import (
    GRU,
    MLP,
    Conv1d,
    Deconv1d,
    GRUDecoder,
    Transformer,
    TransformerDecoder,
)
from priory.nets.steps import StepsDecoder

pytestmark = pytest.mark.usefixtures("double")

STEPS, WIDTH = 7, 3
ENCODERS = {
    "conv1d": lambda **o: Conv1d((4, 5), 6, **o),
    "gru": lambda **o: GRU(4, 2, **o),
    "gru-ahead": lambda **o: GRU(4, both=False, **o),
    "transformer": lambda **o: Transformer(8, 2, 2, **o),
}
DECODERS = {
    "deconv1d": lambda **o: Deconv1d((4, 5), 6, **o),
    "gru-decoder": lambda **o: GRUDecoder(4, 2, **o),
    "transformer-decoder": lambda **o: TransformerDecoder(8, 2, 2, **o),
}
BOTH = {**ENCODERS, **DECODERS}
LENGTH = torch.arange(1, STEPS + 1)


def built(name, steps=STEPS, time="first"):
    torch.manual_seed(1)
    net = BOTH[name](time=time)
    row = (steps, WIDTH) if time == "first" else (WIDTH, steps)
    ends = ((4,), (2, *row)) if isinstance(net, StepsDecoder) else (row, (2, 5))
    net.double().build(*ends)
    if isinstance(net, StepsDecoder):
        net.bias.data.normal_()
    return net.double().eval()


def cut(net, steps):
    """Return the net of the same weights for sequences of so many steps."""
    other = built(net.name if net.name != "gru" else _gru(net), steps)
    found = {}
    for name, value in other.state_dict().items():
        whole = net.state_dict()[name]
        if whole.shape != value.shape and name.startswith(("joined", "spread")):
            dim = 1 if name.startswith("joined") else 0  # of channels times steps
            channels = 5
            apart = whole.unflatten(dim, (channels, -1))
            kept = value.unflatten(dim, (channels, -1)).shape[dim + 1]
            whole = apart.narrow(dim + 1, 0, kept).flatten(dim, dim + 1)
        for dim, size in enumerate(value.shape):
            whole = whole.narrow(dim, 0, size)
        found[name] = whole
    other.load_state_dict(found)
    return other


def _gru(net):
    return "gru" if net.both else "gru-ahead"


def rows(behind=math.nan):
    """A row of every length, with something behind the ends."""
    torch.manual_seed(2)
    return blanked(torch.randn(STEPS, STEPS, WIDTH), LENGTH, 2, behind)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_padded_row_is_read_as_the_net_of_its_steps_reads_it_alone(name):
    net, x = built(name), rows()
    found = net(x, LENGTH)
    for row, steps in zip(x, LENGTH.tolist(), strict=True):
        alone = cut(net, steps)(row[None, :steps])[0]
        torch.testing.assert_close(found[steps - 1], alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(net(x[-1:]), found[-1:], rtol=0, atol=1e-12)  # a full one
    assert not torch.allclose(net(rows(0.0))[:-1], found[:-1])  # without lengths padding is data


@pytest.mark.parametrize("name", DECODERS)
def test_a_row_is_made_as_the_net_of_its_steps_makes_it_alone(name):
    net, z = built(name), torch.randn(2, STEPS, 4)
    found = net(z, LENGTH)
    assert found.shape == (2, STEPS, 2, STEPS, WIDTH)
    for i, steps in enumerate(LENGTH.tolist()):
        alone = cut(net, steps)(z[:, i])
        torch.testing.assert_close(found[:, i, :, :steps], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", BOTH)
def test_particles_and_either_axis_of_time(name):
    net, turned = built(name), built(name, time="last")
    turned.load_state_dict({k: v.mT if k == "bias" else v for k, v in net.state_dict().items()})
    x = torch.randn(2, 4, *net.inputs)
    out = net(x)
    assert out.shape == (2, 4, *net.outputs)
    torch.testing.assert_close(out[1], net(x[1]))
    if isinstance(net, StepsDecoder):
        assert torch.equal(turned(x).mT, out)
        assert net(x, LENGTH[:4]).shape == out.shape
        value = torch.randn(net.outputs)
        net.set_bias(value)
        torch.testing.assert_close(net(x), out - turned.bias.mT + value)
    else:
        assert torch.equal(turned(x.mT), out)
        torch.testing.assert_close(net(x[0], LENGTH[:4]), net(x, LENGTH[:4])[0])
        net.set_bias(torch.ones(net.outputs))
        torch.testing.assert_close(net(x), out + 1)
    with pytest.raises(ValueError, match=r"reads \(channels, steps\): take time='first'"):
        turned(x if isinstance(net, StepsDecoder) else x.mT, LENGTH[:4])


@pytest.mark.parametrize("name", BOTH)
def test_nothing_behind_an_end_touches_a_gradient(name):
    found = []
    for behind in (0.0, 3.0, math.nan):
        net = built(name)
        out = net(torch.ones(STEPS, 4), LENGTH) if name in DECODERS else net(rows(behind), LENGTH)
        if name in DECODERS:
            out = blanked(out.movedim(2, 1), LENGTH, 3)
        out.square().sum().backward()
        found.append({n: p.grad for n, p in net.named_parameters()})
    for n, grad in found[0].items():
        assert grad.isfinite().all()
        assert grad.abs().sum() > 0, n
        assert all(torch.equal(grad, other[n]) for other in found[1:]), n


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 8, 8), ()])
def test_images_and_volumes_are_refused(shape):
    words = {3: "images: use Conv", 4: "image volumes", 0: "no sequences"}[len(shape)]
    for make in ENCODERS.values():
        with pytest.raises(ValueError, match=words):
            make().build(shape, (2,))
    for make in DECODERS.values():
        with pytest.raises(ValueError, match=r"MLP|image" if shape else "use MLP"):
            make().build((2,), (1, *shape) if shape else (3,))
    if len(shape) == 4:
        with pytest.raises(ValueError, match=r"expected images .*use MLP"):
            VAE(encoder="conv").build(torch.rand(3, *shape))


def test_options_are_checked():
    for make, words in (
        (lambda: Conv1d(()), "channels must be positive"),
        (lambda: Deconv1d((0,)), "channels must be positive"),
        (lambda: GRU(0), "hidden must be"),
        (lambda: Transformer(6, heads=4), "heads must divide the width, 6, got 4"),
        (lambda: TransformerDecoder(layers=0), "layers must be"),
        (lambda: GRUDecoder(time="second"), "time"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    for pair in (CVAE(encoder="gru"), MaskedVAE(encoder="transformer")):
        with pytest.raises(ValueError, match="reads a sequence alone, and here a"):
            pair.build(torch.rand(6, 4, 2), torch.arange(6) % 2)


# --- the density ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "continuous"])
def test_a_density_is_that_of_the_steps_that_count(kind):
    one = {
        "normal": lambda a: IndependentNormal(a, a / 2, 2),
        "continuous": lambda a: IndependentContinuousBernoulli(a, 2),
    }[kind]
    maps = torch.randn(STEPS, STEPS, WIDTH, requires_grad=True)
    x = blanked(torch.rand(STEPS, STEPS, WIDTH), LENGTH, 2, math.nan)
    found = Padded(one(maps), LENGTH)
    assert found.support.check(x).all()
    alone = [one(maps[i : i + 1, : i + 1]).log_prob(x[i : i + 1, : i + 1]) for i in range(STEPS)]
    torch.testing.assert_close(found.log_prob(x), torch.cat(alone), rtol=0, atol=1e-12)
    (grad,) = torch.autograd.grad(found.log_prob(x).sum(), maps)
    (own,) = torch.autograd.grad(torch.cat(alone).sum(), maps)
    torch.testing.assert_close(grad, own, rtol=0, atol=1e-12)
    counted = torch.arange(STEPS) < LENGTH[:, None]
    moments = [found.variance, found.rsample()] if kind == "normal" else []
    for drawn in (found.sample((2,)), found.expand((3, STEPS)).mean, *moments):
        assert (drawn[..., ~counted, :] == 0).all()
        assert (drawn[..., counted, :] != 0).all()
    if kind == "continuous":
        assert not found.support.check(x - 1)[0]
    for wrong in (torch.zeros_like(LENGTH), LENGTH + 1, LENGTH.double()):
        with pytest.raises(ValueError, match="a sequence's length counts its steps, from 1 to 7"):
            Padded(one(maps), wrong).support.check(x)


def test_rows_that_are_carried_on_have_the_statistics_of_the_steps_that_count():
    x = rows()[[5, 2, 1, 4, 5, 5]]
    length = LENGTH[[5, 2, 1, 4, 5, 5]]
    full = carried(x, length)
    assert full.isfinite().all()
    for t in range(STEPS):
        own = x[length > min(t, 5), min(t, 5)]
        assert {tuple(row.tolist()) for row in full[:, t]} == {tuple(row.tolist()) for row in own}
        assert torch.equal(full[length > t, t], x[length > t, t])


# --- pairs ---------------------------------------------------------------------------------------

NETS = {
    "conv1d": ("conv1d", "deconv1d"),
    "gru": ("gru", "gru-decoder"),
    "transformer": ("transformer", "transformer-decoder"),
    "mlp": ("mlp", "mlp"),
}


def pair_of(name):
    torch.manual_seed(3)
    nets = {"mlp": MLP((6,))} | {n: m(time="first") for n, m in BOTH.items()}
    encoder, decoder = (copy.deepcopy(nets[n]) for n in NETS[name])
    return VAE(encoder=encoder, decoder=decoder, likelihood=Normal("pixel"), latent=2).double()


@pytest.mark.parametrize("name", NETS)
def test_padding_never_counts_in_a_pair(name):
    losses, grads = [], []
    for behind in (0.0, 7.0, math.nan):
        pair, x = pair_of(name), rows(behind)
        pair.build(x, length=LENGTH)
        torch.manual_seed(4)
        loss = IWAE(3)(pair.model, pair.guide, x=x, length=LENGTH)
        loss.backward()
        losses.append(loss.detach())
        grads.append([p.grad for p in pair.parameters()])
    assert losses[0].isfinite()
    assert losses[0] == losses[1] == losses[2]
    for other in grads[1:]:
        assert all(map(torch.equal, grads[0], other))


@pytest.fixture(scope="module")
def run():
    torch.manual_seed(5)
    length = torch.randint(2, 9, (60,))
    x = torch.randn(60, 8, 2).cumsum(1)
    data = Data.from_arrays(x=blanked(x, length, 2), length=length)
    pair = VAE(encoder=GRU(6), decoder=GRUDecoder(6), latent=2)
    return fit(pair, ELBO(), data, steps=20, valid_every=0, progress=False, device="cpu")


def test_what_a_run_says_of_rows_does_not_depend_on_their_padding(run):
    test = run.data.test.columns
    x, length = run.data.restore(test["x"]), test["length"]
    given = [{"x": blanked(x, length, 2, v), "length": length} for v in (0.0, 9.0, math.nan)]
    codes = [encode(run, rows).mean["z"] for rows in given]
    scores = [score(run, rows, particles=5).log_likelihood for rows in given]
    names = ["nll", "elbo", "mmd", "reconstruction"]
    reports = [evaluate(run, rows, metrics=names, pictures=False, particles=5) for rows in given]
    for other in (1, 2):
        assert torch.equal(codes[0], codes[other])
        assert torch.equal(scores[0], scores[other])
        for name in names:
            assert reports[0][name].value == reports[other][name].value
    assert reports[0]["nll"].value == pytest.approx(-scores[0].mean().item())
    padded = torch.nn.functional.pad(given[2]["x"], (0, 0, 0, 3), value=math.nan)
    longer = {"x": padded, "length": length}  # batches that are padded to a length of their own
    assert torch.equal(encode(run, longer).mean["z"], codes[0])
    drawn = run.sample(8)["x"]
    assert drawn.shape == (8, 8, 2)


def test_data_hold_zeros_behind_the_ends_whatever_stood_there():
    x, length = rows().numpy(), LENGTH.numpy()
    whole = {"valid": 0, "test": 0}
    data = Data.from_arrays(x=x, length=length, **whole)
    other = Data.from_arrays(x=np.nan_to_num(x, nan=5.0), length=length, **whole)
    for held in (data, other):
        assert torch.equal(held.train.x, rows(0.0))
    bad = x.copy()
    bad[4, 1, 0] = np.nan
    with pytest.raises(ValueError, match=r"nan in row 4 at position \(1, 0\)"):
        Data.from_arrays(x=bad, length=length, **whole)


def test_a_pair_that_would_take_padding_for_data_is_refused(run):
    data = run.data
    with pytest.raises(ValueError, match="padded behind their 'length', and the model takes no"):
        fit(CVAE(latent=2, classes=2), ELBO(), data, steps=1)
    images = Data.from_arrays(x=torch.rand(20, 3, 4, 4), length=torch.arange(20) % 3 + 1)
    with pytest.raises(ValueError, match="counts the steps of sequences"):
        fit(VAE(latent=2), ELBO(), images, steps=1, progress=False)


def test_recurrent_nets_run_eager_and_others_are_traced(run):
    def loss(encoder, decoder, compiled):
        pair = VAE(encoder=encoder, decoder=decoder, latent=2)
        quiet = {"valid_every": 0, "progress": False, "compile": compiled, "device": "cpu"}
        return fit(pair, ELBO(), run.data, steps=4, **quiet).history[-1]["loss"]

    nets = Transformer(8, 1, 2), TransformerDecoder(8, 1, 2)
    one, other = (loss(*copy.deepcopy(nets), way) for way in ("off", "trace"))
    assert one == pytest.approx(other, rel=1e-5)
    nets = GRU(4), GRUDecoder(4)
    one, other = (loss(*copy.deepcopy(nets), way) for way in ("off", "inductor"))
    assert one == other  # of which a graph would hold every step apart


def test_batches_of_other_rows_and_shorter_steps_take_the_same_steps(run):
    pair = copy.deepcopy(run.pair)
    columns = run.data.train.columns
    svi = SVI(pair.model, pair.guide, torch.optim.Adam, ELBO(), compile="trace")
    for rows in (16, 8, 5, 4, 3, 2):
        assert math.isfinite(svi.step(x=columns["x"][:rows], length=columns["length"][:rows]))


def test_figures_that_count_dimensions_are_not_given_of_different_lengths(run):
    found = evaluate(run, metrics=["bits_per_dim"], pictures=False, particles=2)["bits_per_dim"]
    assert "sequences of different lengths" in str(found)
    whole = {"x": rows(0.0)[..., 0], "length": LENGTH}
    with pytest.raises(ValueError, match="the rows are sequences; pairs for sequences work"):
        Data.from_arrays(**whole, valid=0, test=0, standardise=True)
