"""Conditional pairs: exact likelihoods, optimal critics, labels that are wrong, given values."""

import math
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch

from priory import evaluate, fit, load
from priory.cli.conditions import read_given, repeated, spread
from priory.cli.entry import main
from priory.data import Data
from priory.evaluation.likelihood.conditional import conditional_log_likelihood
from priory.evaluation.report.labelled import by_label
from priory.evaluation.samples.label_agreement import agreement
from priory.inference import ELBO, Adversarial, Phases
from priory.likelihoods import Normal
from priory.models import CVAE, VAE, ConditionalGAN
from priory.models.class_prior import Labels, label_frequencies
from priory.nets import MLP, Conv, Deconv
from priory.recipes import RECIPES

CLASSES = 3


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(classes=CLASSES, features=4, noise=0.6):
    """A linear-Gaussian pair x = a z + B y + b + noise whose guide is the exact posterior."""
    pair = CVAE(classes, encoder=MLP(()), decoder=MLP(()), likelihood=Normal(noise), latent=1)
    x, y = numbers(0, 30, features).sigmoid(), torch.arange(30) % classes  # read as they are
    pair.build(x, y[:20])
    a, shift, b = numbers(1, features, 1), numbers(2, features, classes), numbers(3, features)
    precision = 1 + float(a.square().sum()) / noise**2
    gain = a[:, 0] / noise**2 / precision
    with torch.no_grad():
        pair.decoder.net.last.weight.copy_(torch.cat([a, shift / math.sqrt(classes)], 1))
        pair.decoder.net.last.bias.copy_(b)
        mean = torch.cat([gain, -gain @ shift])
        pair.encoder.net.last.weight.copy_(torch.stack([mean, torch.zeros_like(mean)]))
        pair.encoder.net.last.bias.copy_(
            torch.stack([-gain @ b, b.new_tensor(precision).log() / -2])
        )
    covariance = a @ a.T + noise**2 * torch.eye(features).double()
    distribution = dist.MultivariateNormal(shift.T[y] + b, covariance)
    return pair, {"x": x, "y": y}, distribution.log_prob(x)


# --- the pairs ----------------------------------------------------------------------------------


def test_conditional_likelihood_of_a_linear_pair_is_exact():
    pair, data, exact = linear()
    found = conditional_log_likelihood(pair.model, pair.guide, data, particles=3)
    torch.testing.assert_close(found.log_likelihood, exact, rtol=1e-9, atol=1e-9)
    assert found.exact
    assert (found.given, found.observed) == (("y",), ("y",))
    record = evaluate(pair, data, metrics=["conditional_nll"], particles=3)["conditional_nll"]
    assert record.value == pytest.approx(-float(exact.mean()), rel=1e-9)
    assert record.kind == "upper bound"


def test_labels_follow_the_training_rows():
    pair, data, exact = linear()
    shares = torch.tensor([7, 7, 6]).double() / 20
    torch.testing.assert_close(pair.labels.log_frequencies.exp(), shares)
    loss = ELBO()(pair.model, pair.guide, **data).detach()
    assert float(loss) == pytest.approx(-float((exact + shares.log()[data["y"]]).mean()), rel=1e-9)
    torch.manual_seed(0)
    drawn = Labels(logits=shares.log()).sample((40_000,))
    counts = drawn.bincount(minlength=3) / len(drawn)
    assert ((counts - shares).abs() < 4 * (shares * (1 - shares) / len(drawn)).sqrt()).all()


def test_a_law_of_labels_is_a_categorical():
    shares = torch.tensor([0.2, 0.5, 0.3]).double()
    mine, library = Labels(probs=shares), dist.Categorical(probs=shares)
    y = torch.arange(3)
    torch.testing.assert_close(mine.log_prob(y), library.log_prob(y))
    assert mine.expand((4,)).log_prob(torch.tensor(1)).shape == (4,)
    assert torch.isnan(mine.log_prob(torch.tensor([3, -1]))).all()


@pytest.mark.parametrize(
    ("encoder", "decoder", "shape"),
    [
        (MLP((8,)), MLP((8,)), (1, 8, 8)),
        (Conv((2, 3), 8), Deconv((2, 3), 8), (1, 8, 8)),
        (torch.nn.Sequential(torch.nn.Conv2d(4, 6, 8), torch.nn.Flatten()), "mlp", (1, 8, 8)),
        (MLP((8,)), MLP((8,)), (5,)),
        (MLP((8,)), MLP((8,)), ()),
    ],
)
def test_every_net_is_told_the_label(encoder, decoder, shape):
    torch.manual_seed(0)
    pair = CVAE(CLASSES, encoder=encoder, decoder=decoder, latent=3)
    x, y = torch.rand(12, *shape), torch.arange(12) % CLASSES
    pair.build(x, y)
    z = torch.randn(12, 3)

    def decoded(z, y):
        return pair.decoder(z, pair.labels.indicators(y, z))

    for distribution, at in ((pair.encoder, x), (decoded, z)):
        assert not torch.equal(distribution(at, y).mean, distribution(at, (y + 1) % CLASSES).mean)
        torch.testing.assert_close(distribution(at, y).mean[3], distribution(at[3], y[3]).mean)
    phases = Phases(pair.model, pair.guide, columns={"x": x, "y": y}, particles=5)
    assert phases.awake.log_weight().shape == (5, 12)
    assert phases.asleep.sample["y"].dtype == torch.long
    assert phases.sampled("x").shape == x.shape


def test_a_dream_replaces_the_label_that_the_guide_reads():
    pair, data, _ = linear()
    pyro.set_rng_seed(0)
    asleep = Phases(pair.model, pair.guide, columns=data).asleep
    x, y = asleep.sample["x"][0], asleep.sample["y"][0]
    torch.testing.assert_close(asleep.distribution("z").mean, pair.encoder(x, y).mean)
    assert not torch.equal(y, data["y"])


def test_a_vamp_prior_is_refused():
    with pytest.raises(ValueError, match="use GaussianMixture"):
        CVAE(prior="vamp")


@pytest.mark.parametrize("compile", ["off", "trace"])
@pytest.mark.parametrize("name", ["cvae", "cgan", "cgan-projection"])
def test_traced_steps_are_the_same(name, compile):
    recipe, data = RECIPES[name], Data.named("digits", rows=200)
    options = {"generator": "mlp:16:batch_norm=true"} if name != "cvae" else {"encoder": "mlp:16"}
    run = recipe.fit(data, **options, steps=4, batch_size=50, valid_every=0, compile=compile)
    fixed = recipe.fit(data, **options, steps=4, batch_size=50, valid_every=0, compile="off")
    for key, value in run.pair.state_dict().items():
        torch.testing.assert_close(value, fixed.pair.state_dict()[key], msg=key)


# --- wrong labels -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [CVAE, ConditionalGAN])
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.arange(100) % 4, r"25 of 100 labels are not among 0..2: row 3 has the label 3"),
        (torch.arange(100) % 2, "no training row has the label 2"),
    ],
)
def test_wrong_labels_are_told_before_training(family, labels, said):
    x = numbers(0, 100, 2).float()
    data = Data.from_arrays(x, labels, valid=0.0, test=0.0)
    data.train.columns["y"] = labels
    data.train.columns["x"] = x
    with pytest.raises(ValueError, match=said):
        fit(family(CLASSES), None, data, steps=1)


def test_labels_that_are_no_numbers_are_told():
    with pytest.raises(ValueError, match="integers"):
        label_frequencies(torch.rand(4), 2)
    with pytest.raises(ValueError, match="-1"):
        label_frequencies(torch.tensor([0, -1, 1]), 2)


def test_data_without_labels_are_told():
    with pytest.raises(ValueError, match=r"labels of all training rows.*column .y."):
        fit(CVAE(CLASSES), ELBO(), Data.from_arrays(numbers(0, 100, 2).float()), steps=1)


# --- the critic ---------------------------------------------------------------------------------


def test_a_conditional_critic_tends_to_the_log_ratio_of_each_class():
    # p(x | y) = N(m_y, 1) against g(x | y) = N(0, 1): the logit is m_y x - m_y^2 / 2.
    torch.manual_seed(0)
    means = torch.tensor([-1.0, 0.0, 1.0])
    critic = Adversarial(MLP((32, 32), "tanh"), ("x", "y"))

    def model(x, y):
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(torch.ones(3) / 3), obs=y)
            pyro.sample("x", dist.Normal(0.0, 1.0).expand((len(x), 1)).to_event(1), obs=x)

    def batch(n):
        y = torch.randint(3, (n,))
        return {"x": (means[y] + torch.randn(n)).unsqueeze(1), "y": y}

    critic.build(Phases(model, lambda: None, columns=batch(8)))
    player = torch.optim.Adam(critic.critic.parameters(), lr=1e-2)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(player, 300)
    for _ in range(300):
        loss = critic.critic_loss(Phases(model, lambda: None, columns=batch(2048)))
        player.zero_grad()
        loss.backward()
        player.step()
        falling.step()
    x = torch.linspace(-1.5, 1.5, 31).repeat(3)
    y = torch.arange(3).repeat_interleave(31)
    with torch.no_grad():
        logit = critic.scores(torch.cat([x.unsqueeze(1), torch.eye(3)[y]], 1))
    exact = means[y] * x - means[y].square() / 2
    assert (logit - exact).abs().mean() < 0.05
    # Without the label it could only know of the mixture: off by much more than that.
    blind = (torch.exp(means[:, None] * x - means[:, None].square() / 2)).mean(0).log()
    assert (blind - exact).abs().mean() > 0.3


# --- given values -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    data = Data.named("digits", rows=300)
    return RECIPES["cvae"].fit(data, encoder="mlp:16", decoder="mlp:16", steps=5, valid_every=0)


def test_given_values_are_held(trained):
    one = trained.sample(4, given={"y": 3})
    assert one["y"].tolist() == [3, 3, 3, 3]
    assert "y_mean" not in one
    each = trained.sample(3, given={"y": [0, 1, 2], "z": torch.zeros(16)})
    assert each["y"].tolist() == [0, 1, 2]
    assert not each["z"].any()
    distribution = trained.pair.decoder(
        each["z"], trained.pair.labels.indicators(each["y"], each["z"])
    )
    torch.testing.assert_close(each["x_mean"], distribution.mean)
    again = trained.sample(3, given={"y": ["0", "1", "2"]})
    assert torch.equal(again["y"], each["y"])
    assert len(trained.sample(5)["y"].unique()) > 1


def test_an_argument_that_is_not_drawn_can_be_given():
    class Shifted(torch.nn.Module):
        classes = 10

        def model(self, x, y):
            with pyro.plate("data", len(x), dim=-1):
                distribution = dist.Normal(y.float().unsqueeze(-1), 0.1).expand((len(x), 64))
                pyro.sample("x", distribution.to_event(1), obs=x.flatten(1))

        def guide(self):
            return None

    pair = Shifted()
    run = fit(VAE(latent=2), ELBO(), Data.named("digits", rows=200), steps=1, valid_every=0)
    run.pair = pair
    drawn = run.sample(2, given={"y": [3, 7]})["x"].mean(1)
    assert drawn.round().tolist() == [3, 7]
    with pytest.raises(ValueError, match="from 0 to 9, got 10"):
        run.sample(2, given={"y": 10})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"y": 10}, "y must be an integer from 0 to 9, got 10"),
        ({"y": -1}, "integers from 0"),
        ({"y": 1.5}, "integers from 0"),
        ({"y": math.nan}, "finite"),
        ({"y": [0, 1]}, r"\(3,\) with one for each of n = 3; got \(2,\)"),
        ({"y": "seven"}, "one of 0, 1, 2"),
        ({"y": [[0], [1, 2]]}, "numbers of one shape"),
        ({"yy": 1}, "did you mean 'y'"),
        ({"w": 1}, "it has y, z"),
        ({"x": 1}, "run the guide"),
        ({"z": 1.0}, "shape"),
    ],
)
def test_wrong_given_values_are_told(trained, given, said):
    with pytest.raises(ValueError, match=said):
        trained.sample(3, given=given)


def test_a_run_that_is_loaded_knows_its_labels(trained, tmp_path):
    back = load(trained.save(tmp_path / "run"))
    torch.testing.assert_close(
        back.pair.labels.log_frequencies, trained.pair.labels.log_frequencies
    )
    assert torch.equal(back.sample(5)["x"], trained.sample(5)["x"])


def test_given_values_as_text(trained):
    assert read_given("") == {}
    assert read_given("y=1,2, u=0.5") == {"y": [1, 2], "u": [0.5]}
    assert spread({"y": ["all"]}, trained) == ({"y": list(range(10))}, 10)
    assert spread({"y": [1, 2], "u": [0.5]}, trained) == ({"y": [1, 2], "u": [0.5, 0.5]}, 2)
    assert repeated([1, 2], 2) == [1, 1, 2, 2]
    for text in ("y", "3", "y=", "=3", "y=1,y=2"):
        with pytest.raises(ValueError, match="site=value"):
            read_given(text)
    with pytest.raises(ValueError, match="as many values"):
        spread({"y": [1, 2], "u": [1, 2, 3]}, trained)
    with pytest.raises(ValueError, match="needs a column 'u'"):
        spread({"u": ["all"]}, trained)


def test_dreams_by_label_from_the_command_line(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained.save("run")
    assert main(["sample", "run", "--given", "y=all", "--n", "2", "--out", "a.png"]) in (0, None)
    assert "x (20, 1, 8, 8)" in capsys.readouterr().out
    assert main(["sample", "run", "--given", "y=3", "--n", "5", "--out", "a.npz"]) in (0, None)
    capsys.readouterr()
    assert main(["sample", "run", "--given", "y=12", "--out", "b.png"]) == 2
    assert "from 0 to 9, got 12" in capsys.readouterr().err


# --- the metric ---------------------------------------------------------------------------------


def test_agreement_by_label():
    found = agreement(torch.tensor([0, 1, 1, 5]), torch.tensor([0, 1, 0, 7]))
    assert found.hits.tolist() == [1, 1, 0, 0]
    assert (found.labels.tolist(), found.shares.tolist()) == ([0, 1, 7], [0.5, 1, 0])
    with pytest.raises(ValueError, match="as many"):
        agreement(torch.zeros(2), torch.zeros(3))


CENTRES = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0], [0.0, -4.0]])


class Planted(torch.nn.Module):
    """A sampler of four far clusters that confuses a share of the labels."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong

    def model(self, x, y):
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(torch.ones(4) / 4), obs=y)
            slip = torch.rand(len(x)) < self.wrong
            kept = torch.where(slip, (y + 1) % 4, y)
            pyro.sample("x", dist.Normal(CENTRES[kept], 0.3).to_event(1), obs=x)

    def guide(self):
        return None


def clusters(n, seed):
    y = torch.arange(n) % 4
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return {"x": CENTRES[y] + 0.3 * noise, "y": y}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRIORY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def judged(pair, columns=None, **options):
    test = clusters(400, 1) if columns is None else columns
    data = SimpleNamespace(train=clusters(800, 0), valid=test, test=test, name="clusters")
    return evaluate(pair, data, metrics=["label_agreement"], pictures=False, **options)


def test_a_tenth_of_wrong_labels_is_seen(cache):
    report = judged(Planted(0.1), n_samples=4000)
    found = report["label_agreement"]
    assert found.se == pytest.approx(math.sqrt(0.09 / 4000), rel=0.1)
    assert abs(found.value - 0.9) < 4 * found.se
    assert "by label 0: 0.9" in found.note or "by label 0: 0.8" in found.note
    assert report["label_agreement_real"].value == 1.0
    assert report["label_agreement_baseline"].value < 0.5
    assert judged(Planted(0.0))["label_agreement"].value == 1.0
    assert judged(Planted(1.0))["label_agreement"].value == 0.0


def test_agreement_needs_a_label_that_matters(cache):
    class Deaf(Planted):
        def model(self, x, y):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("y", dist.Categorical(torch.ones(4) / 4), obs=y)
                pyro.sample("x", dist.Normal(torch.zeros(len(x), 2), 4.0).to_event(1), obs=x)

    class Alone(Planted):
        def model(self, x):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("x", dist.Normal(torch.zeros(len(x), 2), 4.0).to_event(1), obs=x)

    assert "does not depend on the label" in judged(Deaf(0))["label_agreement"].note
    assert "no label y" in judged(Alone(0))["label_agreement"].note
    unlabelled = {"x": clusters(50, 1)["x"]}
    assert "no labels" in judged(Alone(0), unlabelled)["label_agreement"].note


def test_a_report_shows_dreams_by_label(trained, cache):
    report = evaluate(trained, metrics=["reconstruction"], limit=20, particles=2, n_samples=50)
    assert report.gallery.labelled[0].shape == (10, 10, 1, 8, 8)
    assert report.gallery.labelled[1] == tuple("0123456789")
    for x in (report.gallery.labelled[0], torch.randn(10, 5, 2), torch.randn(10, 5, 3)):
        assert by_label(x, "0123456789").axes
