"""Traversals: of a linear decoder they are exact, in layers and trees as they should."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pairs import LinearGaussian
from priory.evaluation import Unavailable
from priory.evaluation.interpolation import traverse, traverse_tree
from priory.models import GAN, VAE, HelmholtzMachine, HierarchicalVAE
from priory.priors import NestedCRP, StickBreaking


def normal(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def built(pair, x):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pair.build(x)
    return pair


def test_a_linear_decoder_moves_by_its_column():
    pair, x, levels = LinearGaussian(3, 5), normal(200, 5), (0.0, 0.5, 1.0)
    with torch.no_grad():
        pair.w[:, 1] *= 3  # moves the mean most
        pair.w[:, 2] *= 1e-4  # and not at all
    state = torch.get_rng_state()
    found = traverse(pair.model, pair.guide, {"x": x}, "z", quantiles=levels)
    assert torch.equal(state, torch.get_rng_state())
    assert found.frames.shape == (2, 3, 5)
    assert found.labels[0] == "z[1]" or found.frames[0].var(0).sum() > found.frames[1].var(0).sum()
    assert set(found.labels) == {"z[0]", "z[1]"}
    assert found.note == "2 of 3 coordinates of z move the mean of p(x | z)"
    z = pair.posterior(x).mean.detach()
    apart = ((z - z.mean(0)) / z.std(0)).square().sum(1)
    base = z[(apart == apart.sort().values[100]).nonzero()[0, 0]]  # of 200 rows
    for label, row in zip(found.labels, found.frames, strict=True):
        i = int(label[2])
        ends = torch.stack([z[:, i].min(), z[:, i].median(), z[:, i].max()])
        torch.testing.assert_close(row[0] + (ends[2] - ends[0]) * pair.w[:, i].detach(), row[2])
        expected = base @ pair.w.T + pair.b + (ends[0] - base[i]) * pair.w[:, i]
        torch.testing.assert_close(row[0], expected.detach())
    assert traverse(pair.model, pair.guide, {"x": x}, "z", rows=1).frames.shape == (1, 7, 5)
    with pytest.raises(ValueError, match="quantiles from 0 to 1"):
        traverse(pair.model, pair.guide, {"x": x}, "z", quantiles=(2.0,))


class Layers(nn.Module):
    """Two layers, z1 ~ N(a z2, 1) and x ~ N(z1 + b z2, 1), with a guide of points."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def model(self, x):
        pyro.module("layers", self)
        with pyro.plate("data", len(x)):
            z2 = pyro.sample("z2", dist.Normal(torch.zeros(1).to(x), 1.0).to_event(1))
            z1 = pyro.sample("z1", dist.Normal(self.a * z2, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z1 + 5 * z2, 1.0).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("layers", self)
        with pyro.plate("data", len(x)):
            z1 = pyro.sample("z1", dist.Normal(x + self.a, 1.0).to_event(1))
            pyro.sample("z2", dist.Normal(3 * z1, 1.0).to_event(1))


def test_layers_above_stay_and_layers_below_follow():
    x = torch.tensor([-5.0, -1.0, 0.0, 3.0, 5.0], dtype=torch.float64).unsqueeze(1)
    pair = Layers()
    top = traverse(pair.model, pair.guide, {"x": x}, "z2", quantiles=(0.0, 1.0))
    ends = 3 * (torch.tensor([-5.0, 5.0], dtype=torch.float64) + 2)
    torch.testing.assert_close(top.frames[0, :, 0], (2 + 5) * ends)
    low = traverse(pair.model, pair.guide, {"x": x}, "z1", quantiles=(0.0, 1.0))
    stays = 5 * 3 * (3.0 + 2)  # of the datum at 3, at the median distance from the mean, 0.4
    torch.testing.assert_close(low.frames[0, :, 0], torch.tensor([-3.0, 7.0]).to(x) + stays)


def test_a_tree_is_walked_from_its_root_to_its_leaves():
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()
    pair = built(VAE(NestedCRP(2, 3), latent=4), x)
    with torch.no_grad():
        pair.prior.log_odds[0, 0] += 2.0  # the first child of the root is the likeliest
    found = traverse_tree(pair.model, pair.guide, {"x": x}, rows=5)
    assert found.frames.shape == (5, 5, 1, 8, 8)
    assert found.steps == (0.0, 0.5, 1.0, 1.5, 2.0)
    assert [label[:3] for label in found.labels[:3]] == ["1.1", "1.2", "1.3"]
    weight = pair.prior.log_weights().exp().detach()
    assert found.labels[0].endswith(f"({float(weight.max()):.0%})")
    for row, label in zip(found.frames, found.labels, strict=True):
        path = [int(number) - 1 for number in label.split()[0].split(".")]
        nodes = [pair.prior.means(level) for level in range(3)]
        way = [nodes[0][0], nodes[1][path[0]], nodes[2][3 * path[0] + path[1]]]
        for step, mean in zip((0, 2, 4), way, strict=True):
            torch.testing.assert_close(row[step], pair.decoder(mean).mean.detach())
    with pytest.raises(Unavailable, match="no tree"):
        traverse_tree(GAN().model, GAN().guide, {"x": x})


def test_pairs_of_all_kinds_are_traversed_or_refused():
    x = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0)).round()
    for pair, site in (
        (GAN(latent=3), "z"),
        (HierarchicalVAE(latents=(4, 3)), "z2"),
        (VAE(StickBreaking(4), latent=4), "z"),
    ):
        pair = built(pair, x)
        found = traverse(pair.model, pair.guide, {"x": x}, site)
        assert found.frames.shape[1:] == (7, 1, 4, 4)
        assert found.frames.isfinite().all()
        assert torch.equal(found.frames, traverse(pair.model, pair.guide, {"x": x}, site).frames)
    with pytest.raises(Unavailable, match="no latent 'z1'; its latents: z"):
        traverse(pair.model, pair.guide, {"x": x}, "z1")
    bits = built(HelmholtzMachine(), x)
    with pytest.raises(Unavailable, match="z1 is discrete"):
        traverse(bits.model, bits.guide, {"x": x}, "z1")


def test_a_simplex_keeps_its_sum():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Dirichlet(torch.ones(3, dtype=x.dtype)))
            pyro.sample("x", dist.Delta(z, event_dim=1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Dirichlet(100 * x))

    x = torch.softmax(2 * normal(50, 3), -1)
    found = traverse(model, guide, {"x": x}, "z")
    torch.testing.assert_close(found.frames.sum(-1), torch.ones_like(found.frames[..., 0]))
    i = int(found.labels[0][2])
    levels = x[:, i].quantile(torch.tensor(found.steps, dtype=x.dtype))
    torch.testing.assert_close(found.frames[0, :, i], levels)
