"""What pictures show: gathered from a pair's draws, and true to the numbers."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from priory.evaluation import Calibration, Draws, Sets
from priory.evaluation.isolation import sealed
from priory.evaluation.report.charts import uniform_band
from priory.evaluation.report.gallery import Gallery, draw, gather


def model(x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        mean = z.repeat(1, 8).view(-1, 1, 4, 4)
        pyro.sample("x", dist.Normal(mean, 0.5).to_event(3), obs=x)


def guide(x):
    with pyro.plate("data", len(x), dim=-1):
        rows = x.flatten(1).view(len(x), 8, 2).sum(1)
        precision = 1.0 + 8 / 0.25
        distribution = dist.Normal(rows / 0.25 / precision, precision**-0.5)
        pyro.sample("z", distribution.to_event(1))


def images(n, seed=0):
    draw_ = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 2, generator=draw_)
    return (
        z.repeat(1, 8).view(-1, 1, 4, 4) + torch.randn(n, 1, 4, 4, generator=draw_) / 2
    ).double()


def gathered(guide=guide, **options):
    x, train = images(80), images(50, 1)
    with sealed(model, guide):
        return gather(Draws(model, guide, {"x": x}, reference={"x": train}, **options)), train


def test_a_pair_fills_the_gallery():
    found, train = gathered()
    assert found.strips.shape == (6, 11, 1, 4, 4)
    assert found.calibration.ranks.shape[1] == 2
    generated, near = found.nearest
    assert generated.shape == near.shape == (10, 1, 4, 4)
    distances = torch.cdist(generated.flatten(1).double(), train.flatten(1).double())
    assert torch.equal(train[distances.argmin(1)].to(near), near)
    assert found.bounds is None, "no metric has paid for it"
    assert {"Interpolations", "Calibration", "Nearest training rows"} <= draw(found).keys()


def test_the_gallery_is_the_same_each_time():
    first, second = gathered()[0], gathered()[0]
    assert torch.equal(first.strips, second.strips)
    assert torch.equal(first.calibration.ranks, second.calibration.ranks)
    assert torch.equal(first.generated, second.generated)


def test_samples_alone_have_no_latents_to_show():
    x = images(30)
    found = gather(Sets({"x": x}, images(20, 2), reference={"x": images(40, 1)}))
    assert len(found.generated) == 20
    assert found.nearest is not None
    assert found.strips is None
    assert found.calibration is None
    assert found.latents is None
    assert list(draw(found)) == ["Samples", "Nearest training rows"]


def test_a_guide_without_density_leaves_its_pictures_out():
    def fixed(x):
        with pyro.plate("data", len(x), dim=-1):
            rows = x.flatten(1).view(len(x), 8, 2).mean(1)
            pyro.sample("z", dist.Delta(rows).to_event(1))

    found = gathered(fixed)[0]
    assert found.latents is not None
    assert "Samples" in draw(found)


@pytest.mark.parametrize(("n", "levels"), [(50, 19), (1000, 99)])
def test_the_band_holds_calibrated_ranks_as_often_as_it_says(n, levels):
    expected = np.arange(1, levels + 1) / (levels + 1)
    low, high = uniform_band(n, expected, 0.95)
    stream = np.random.default_rng(1)
    trials = 2000
    ranks = stream.integers(0, levels + 1, (trials, n))
    counts = np.stack([np.bincount(row, minlength=levels + 1) for row in ranks])
    curves = counts.cumsum(1)[:, :-1] / n - expected
    inside = ((curves >= low - 1e-9) & (curves <= high + 1e-9)).all(1).mean()
    assert 0.95 - 3 * (0.05 * 0.95 / trials) ** 0.5 - 0.005 <= inside <= 0.985
    wide = uniform_band(n, expected, 0.999)
    assert (wide[0] <= low).all()
    assert (wide[1] >= high).all()


def test_a_narrow_guide_leaves_the_band_and_an_exact_one_does_not():
    stream = torch.Generator().manual_seed(0)
    z = torch.randn(1000, 3, generator=stream)
    draws = torch.randn(99, 1000, 3, generator=stream)
    right = (draws < z).sum(0)
    narrow = (0.6 * draws < z).sum(0)
    notes = []
    for ranks in (right, narrow):
        figure = draw(Gallery(calibration=Calibration(ranks, 99)))["Calibration"]
        notes.append(" ".join(text.get_text() for text in figure.axes[0].texts))
    assert "0 of 3 dimensions leave" in notes[0]
    assert "3 of 3 dimensions leave" in notes[1]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 4), (2,), (1,), (7,), (5, 3)])
def test_strips_of_any_shape_are_drawn(shape):
    ways = torch.rand(12, 5, *shape, generator=torch.Generator().manual_seed(0))
    assert list(draw(Gallery(strips=ways))) == ["Interpolations"]


@pytest.mark.parametrize("latent", [1, 2, 40])
def test_calibration_of_any_width_is_drawn(latent):
    ranks = torch.randint(0, 20, (30, latent), generator=torch.Generator().manual_seed(0))
    for names in ((), tuple(f"z[{d}]" for d in range(latent))):
        assert "Calibration" in draw(Gallery(calibration=Calibration(ranks * 0, 19, names)))
        assert "Calibration" in draw(Gallery(calibration=Calibration(ranks, 19, names)))
