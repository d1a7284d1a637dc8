"""One likelihood for each column of a mixed table: the sum of its parts."""

import itertools
import math

import pytest
import torch

from priory.distributions.mixed import Mixed
from priory.distributions.seen import Seen
from priory.evaluation.likelihood.masking import coordinate_log_prob
from priory.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Columns,
    Delta,
    NegativeBinomial,
    Normal,
    Poisson,
)
from priory.models import VAE, Autoregressive
from priory.parsing import parse
from priory.priors import PRIORS

pytestmark = pytest.mark.usefixtures("double")
NAMES = ("city", "visits", "height", "smoker", "weight", "size")
LEVELS = (("Bern", "Oslo", "Rome"), (), (), (), (), ("l", "m", "s"))


def table(n=60):
    draw = torch.Generator().manual_seed(0)
    u = torch.rand(n, 6, generator=draw, dtype=torch.float64)
    x = u.clone()
    x[:, (0, 5)] = (3 * u[:, (0, 5)]).floor()
    x[:, 1] = (12 * u[:, 1].square()).floor()
    x[:, 2], x[:, 4] = 170 + 20 * u[:, 2], 60 + 9 * u[:, 4]
    x[:, 3] = (u[:, 3] > 0.6).double()
    return x


@pytest.fixture
def head():
    made = Columns()
    made.meet(NAMES, LEVELS)
    made.check(table())
    made.build(table())
    return made.double()


def test_kinds_follow_from_levels_and_values(head):
    assert head.lines() == [
        "categorical: city (3 levels), size (3 levels)",
        "negative-binomial: visits",
        "normal: height, weight",
        "bernoulli: smoker",
    ]
    years = torch.tensor([[1990.0, 1.0], [2004.0, 0.0], [2010.0, 9.0]])
    assert Columns().chosen(years)[0][1].name == "normal", "integers that vary less than counts"
    assert Columns().chosen(years)[1][1].name == "negative-binomial"


def test_the_density_is_the_sum_of_its_parts(head):
    x, maps = table(7), torch.randn(4, 7, head.params, 6)
    found = head(maps)
    assert isinstance(found, Mixed)
    assert (found.batch_shape, found.event_shape) == ((4, 7), (6,))
    codes = maps[..., (0, 5)]
    parts = torch.stack(
        [
            Categorical(3).distribution(codes.unbind(-2), 1).log_prob(x[:, (0, 5)]),
            head.groups[1](maps[..., :1, 1:2]).log_prob(x[:, 1:2]),
            head.groups[2](maps[..., :1, (2, 4)]).log_prob(x[:, (2, 4)]),
            Bernoulli().distribution((maps[..., 0, 3:4],), 1).log_prob(x[:, 3:4]),
        ]
    )
    torch.testing.assert_close(found.log_prob(x), parts.sum(0))
    cells = coordinate_log_prob(found, x.expand(4, 7, 6))
    torch.testing.assert_close(cells.sum(-1), found.log_prob(x))
    torch.testing.assert_close(cells[..., 3], parts[3])
    seen = torch.rand(7, 6) < 0.5
    torch.testing.assert_close(Seen(found, seen).log_prob(x), torch.where(seen, cells, 0.0).sum(-1))
    with pytest.raises(NotImplementedError, match="no mean"):
        _ = found.mean


def test_draws_stand_in_the_order_of_the_columns(head):
    found = head(head.bias(table()).unsqueeze(0))
    drawn = found.sample((4000,))[:, 0]
    head.check(drawn)
    assert bool(found.support.check(drawn).all())
    assert not bool(found.support.check(drawn + 0.5).any())
    numbers = drawn[:, (1, 2, 3, 4)].mean(0) - table()[:, (1, 2, 3, 4)].mean(0)
    spread = drawn[:, (1, 2, 3, 4)].std(0) / math.sqrt(4000)
    assert (numbers.abs() < 5 * spread).all()
    for column in (0, 5):
        real, made = ((v[:, column] == 2).double().mean() for v in (table(), drawn))
        assert abs(real - made) < 0.05


def test_masses_alone_sum_to_one():
    x = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]])
    made = Columns({"x_0": "bernoulli", "x_1": "categorical", "x_2": "categorical"})
    made.build(x)
    found = made(torch.randn(made.params, 3))
    rows = torch.tensor([*itertools.product((0.0, 1.0), (0.0, 1.0), (0.0, 1.0, 2.0))])
    torch.testing.assert_close(found.log_prob(rows).exp().sum(), torch.tensor(1.0))
    assert found.support.is_discrete


def test_nets_read_columns_in_their_order_and_a_category_as_a_code(head):
    x = table(5)
    read = head.read(x)
    assert read.shape == (5, *head.inputs((6,))) == (5, 10)
    torch.testing.assert_close(read[:, :3].argmax(1).double(), x[:, 0])
    torch.testing.assert_close(read[:, 7:].argmax(1).double(), x[:, 5])
    torch.testing.assert_close(read[:, 5], x[:, 3])
    height, weight = head.groups[2].scaled(x[:, (2, 4)]).unbind(1)
    torch.testing.assert_close(read[:, 4], height)
    torch.testing.assert_close(read[:, 6], weight)
    mask = torch.tensor([True, False, True, False, False, True])
    assert head.beside(mask).tolist() == [True] * 3 + [False, True, False, False] + [True] * 3
    plain = Columns()
    plain.build(x[:, 1:5])
    assert plain.inputs((4,)) == (4,)
    assert plain(torch.randn(5, plain.params, 4)).mean.shape == (5, 4)


def test_a_column_is_overruled_by_its_name():
    made = Columns({"visits": "poisson", "height": Normal("pixel")})
    made.meet(NAMES, LEVELS)
    kinds = dict(made.chosen(table()))
    assert type(kinds["visits"]) is Poisson
    assert kinds["height"].scale == "pixel"
    assert kinds["weight"].scale == "learned"
    written = parse("likelihood", "columns:visits=poisson:height=(normal:pixel)", LIKELIHOODS)
    assert [(n, type(k)) for n, k in written.kinds] == [("visits", Poisson), ("height", Normal)]
    assert written.kinds[1][1].scale == "pixel"
    with pytest.raises(ValueError, match="nearest 'poisson'"):
        parse("likelihood", "columns:visits=poison", LIKELIHOODS)


def _chosen(kinds):
    made = Columns(kinds)
    made.meet(NAMES, LEVELS)
    return made.chosen(table())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _chosen({"hight": "normal"}), r"unknown column 'hight', nearest 'height'"),
        (lambda: _chosen({"city": "normal"}), "column 'city' has the levels Bern, Oslo, Rome"),
        (lambda: _chosen({"height": "categorical"}), "integers 0 to 255, the numbers of levels"),
        (lambda: Columns({"city": "delta"}), "unknown likelihood of a column 'delta'"),
        (lambda: Columns({"city": Delta()}), "with a density or a mass, got delta"),
        (lambda: Columns().check(torch.zeros(3, 1, 4, 4)), r"a table.*\(3, 1, 4, 4\)"),
        (lambda: Categorical().meet(NAMES, LEVELS), "the same levels for all.*'columns'"),
        (lambda: Normal().meet(NAMES, LEVELS), "column 'city' has the levels.*'columns'"),
        (lambda: _check({"height": "poisson"}), r"column 'height': .*got 1\d\d.* in row 0: round"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_column(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _check(kinds):
    made = Columns(kinds)
    made.meet(NAMES, LEVELS)
    made.check(table())


def test_new_rows_outside_of_a_columns_support_are_refused(head):
    x = table()
    x[4, 5] = 3
    with pytest.raises(ValueError, match=r"column 'size': .*integers 0 to 2.*got 3 in row 4"):
        head.check(x)


def test_what_is_built_is_built_again_from_its_arguments(head):
    again = Columns(head.kinds)
    again.build(again.blank(torch.zeros(2, 6)))
    again.double().load_state_dict(head.state_dict())
    maps, x = torch.randn(3, head.params, 6), table(3)
    torch.testing.assert_close(again(maps).log_prob(x), head(maps).log_prob(x))
    torch.testing.assert_close(again.read(x), head.read(x))


def test_an_autoregressive_decoder_reads_numbers_alone():
    x = table()
    pair = Autoregressive("made", Columns({"x_0": "categorical"}))
    with pytest.raises(ValueError, match="a category is read as one for each level"):
        pair.build(x)
    pair = Autoregressive("made", "columns")
    pair.build(x[:, 1:5])
    assert pair.decoder().sample((2,)).shape == (2, 4)


@pytest.mark.parametrize("prior", ["normal", "vamp:4"])
def test_a_pair_of_mixed_columns_has_gradients_everywhere(prior):
    pair, x = VAE(prior=parse("prior", prior, PRIORS), likelihood="columns", latent=2), table()
    pair.decoder.meet(NAMES, LEVELS)
    pair.build(x)
    z = pair.encoder(x).rsample()
    (pair.decoder(z).log_prob(x) + pair.prior().log_prob(z)).sum().backward()
    for name, parameter in pair.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_levels_of_two_columns_may_be_of_different_number():
    x = torch.tensor([[0.0, 0.0], [1.0, 4.0], [1.0, 2.0]])
    made = Columns({"x_0": Categorical(2), "x_1": Categorical(5)})
    made.build(x)
    assert len(made.groups) == 2
    assert made.inputs((2,)) == (7,)
    assert made.params == 5
    shares = made(made.bias(x).unsqueeze(0)).parts[1].probs[0, 0]
    torch.testing.assert_close(shares, torch.tensor([2.0, 1.0, 2.0, 1.0, 2.0]) / 8)
    assert type(dict(Columns().chosen(x * 9))["x_1"]) is NegativeBinomial
