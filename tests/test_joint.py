"""Pairs compared on several sites: who moves whom, and known answers in one dimension."""

import math
from functools import partial

import pyro
import pytest
import torch
from torch import nn

from priory import evaluate, fit, load
from priory.cli import main
from priory.data import DOMAINS, Data
from priory.evaluation.interpolation import paired, translate
from priory.evaluation.record import Unavailable
from priory.inference import Adversarial, Phases, Reconstruction, Sleep
from priory.inference.phases.arguments import build
from priory.models import VAE, CycleGAN, StackedGAN
from priory.nets import MLP, ResNet
from priory.parsing import parse_objective
from priory.recipes import RECIPES
from priory.serialisation import from_config, to_config

LEAST = "game=least-squares:critic=(mlp:16)"
ADAM = partial(torch.optim.Adam, betas=(0.5, 0.9))


def linear():
    """A net without hidden layers."""
    return MLP(hidden=())


@torch.no_grad()
def put(net, slope, offset):
    """Make a linear net of one input and output say slope * x + offset."""
    net.last.weight.fill_(slope)
    net.last.bias.fill_(offset)


def quantiles(n):
    """n points with the mean and the variance of a standard normal, exactly."""
    q = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(n) + 0.5) / n)
    return ((q - q.mean()) / q.std(correction=0)).unsqueeze(1)


def reached(module, loss):
    """Names of a module's parts whose parameters a loss gives a gradient."""
    module.zero_grad()
    loss.backward()
    moved = {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    return {name.split(".")[0] for name in moved}


def term(text, pair, **columns):
    """The loss of an objective given as text, its critics built."""
    objective = parse_objective(text)
    for adversary in objective.adversaries():
        adversary.build(Phases(pair.model, pair.guide, columns=columns))
    return objective(pair.model, pair.guide, **columns)


# --- BiGAN --------------------------------------------------------------------------------------


def bidirectional(a=2.0, b=3.0, slope=None):
    """G(z) = a z + b, and its inverse as the encoder, or a line of another slope."""
    pair = VAE("normal", linear(), linear(), "delta", latent=1, deterministic=True)
    pair.build(torch.rand(4096, 1))  # bounded: the nets read the data in their own units
    slope = 1 / a if slope is None else slope
    put(pair.decoder.net, a, b)
    put(pair.encoder.net, slope, -b * slope)
    return pair


def equilibrium(pair, a=2.0, b=3.0, steps=300):
    """Train a critic on x, z alone, and answer what it wins on fresh samples."""
    adversary = Adversarial(MLP((32, 32)), ("x", "z"))

    def phases(n):
        return Phases(pair.model, pair.guide, columns={"x": b + a * torch.randn(n, 1)})

    adversary.build(phases(8))
    optim = torch.optim.Adam(adversary.critic.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optim, steps)
    for _ in range(steps):
        optim.zero_grad()
        adversary.critic_loss(phases(512)).backward()
        optim.step()
        rate.step()
    return float(adversary.value(phases(20_000)))


def test_the_inverse_encoder_is_the_equilibrium(double):
    """X22: with E the inverse of G the joints are equal, and the critic wins -log 4."""
    assert equilibrium(bidirectional()) == pytest.approx(-math.log(4), rel=0.02)


def test_an_encoder_that_is_no_inverse_is_told_though_both_marginals_fit(double):
    assert equilibrium(bidirectional(slope=-0.5)) > -0.8


def test_both_sides_of_a_bidirectional_game_move(double):
    pair = bidirectional()
    x = torch.randn(32, 1)
    assert reached(pair, term("adversarial:x,z:critic=(mlp:8)", pair, x=x)) == {
        "encoder",
        "decoder",
    }
    assert reached(pair, term("adversarial:z:critic=(mlp:8)", pair, x=x)) == {"encoder"}


# --- CycleGAN -----------------------------------------------------------------------------------


def test_each_term_of_the_cycle_moves_its_own_maps(double):
    pair = CycleGAN(linear(), linear())
    rows = {"x": torch.randn(32, 2), "other": 1 + torch.randn(32, 2)}
    build(pair, rows["x"], rows)
    both = {"encoder", "decoder"}
    assert reached(pair, term(f"adversarial:b:{LEAST}", pair, **rows)) == {"encoder"}
    assert reached(pair, term(f"adversarial:x:{LEAST}", pair, **rows)) == {"decoder"}
    assert reached(pair, term("reconstruction:cost=absolute", pair, **rows)) == both
    assert reached(pair, term("sleep:b:cost=absolute", pair, **rows)) == both


@torch.no_grad()
def cycle_losses(pair, rows):
    """Both round trips, and the squared differences of mean and deviation in both domains."""
    phases = Phases(pair.model, pair.guide, columns=rows)
    trips = [Reconstruction(cost="absolute").loss(phases), Sleep("b", cost="absolute").loss(phases)]
    moments = [
        (phases.data(s).mean() - phases.sampled(s).mean()) ** 2
        + (phases.data(s).std() - phases.sampled(s).std()) ** 2
        for s in ("x", "b")
    ]
    return float(sum(trips)), float(sum(moments))


def gaussians():
    """Two normal domains, N(1, 0.5^2) and N(-2, 1.5^2), by 200 quantiles each, unpaired."""
    q = quantiles(200)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    return {"x": 1 + 0.5 * q, "other": (-2 + 1.5 * q)[order]}


def test_two_normal_domains_have_two_affine_cycles(double):
    """X23: of all affine maps that undo each other, those of slope 3 and -3 alone match."""
    rows, found = gaussians(), []
    pair = CycleGAN(linear(), linear())
    build(pair, rows["x"], rows)
    for slope in [s / 2 for s in range(-8, 9) if s]:
        for offset in range(-6, 7):
            put(pair.encoder, slope, offset)
            put(pair.decoder, 1 / slope, -offset / slope)
            trips, moments = cycle_losses(pair, rows)
            assert trips < 1e-9
            if moments < 1e-9:
                found.append((slope, offset))
    assert found == [(-3.0, 1), (3.0, -5)]
    put(pair.encoder, 3, -5)  # both match in law, but the one is not the other's inverse
    put(pair.decoder, -1 / 3, 1 / 3)
    trips, moments = cycle_losses(pair, rows)
    assert moments < 1e-9
    assert trips > 1


class Quadratic(nn.Module):
    """A critic that sees mean and variance: enough between normals."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return torch.cat([torch.ones_like(x), x, x * x], 1) @ self.weight


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_game_finds_the_cycle_of_the_sign_that_it_starts_from(sign, double):
    rows = gaussians()
    data = Data.from_arrays(
        **rows, **{f"{n}_{part}": v[:5] for n, v in rows.items() for part in ("valid", "test")}
    )
    pair = CycleGAN(linear(), linear())
    build(pair, rows["x"], rows)
    for net in (pair.encoder, pair.decoder):
        put(net, sign, 0.0)
    loss = 0.3 * (Reconstruction(cost="squared") + Sleep("b", cost="squared"))
    for site in ("x", "b"):
        loss = loss + Adversarial(Quadratic(), site, game="least-squares", rate=2.0)
    fit(
        pair,
        loss,
        data,
        steps=400,
        batch_size=200,
        lr=0.05,
        schedule="cosine",
        optim=ADAM,
        valid_every=0,
    )
    trips, moments = cycle_losses(pair, rows)
    assert float(pair.encoder.last.weight.detach()) == pytest.approx(3 * sign, rel=0.02)
    assert float(pair.decoder.last.weight.detach()) == pytest.approx(sign / 3, rel=0.02)
    assert trips < 0.02
    assert moments < 1e-3


def test_domains_of_two_shapes_are_refused():
    pair, x = CycleGAN(), torch.randn(6, 2)
    pair.build(x)
    with pytest.raises(ValueError, match=r"rows of shape \(2,\) of real numbers, like x"):
        pair.model(x, torch.randn(6, 3))
    with pytest.raises(ValueError, match="int64"):
        pair.model(x, torch.ones(6, 2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"x\.float"):
        CycleGAN().build(torch.ones(6, 2, dtype=torch.long))


def test_a_set_without_another_domain_is_refused():
    with pytest.raises(ValueError, match="'other'"):
        RECIPES["cyclegan"].fit(Data.named("digits"), steps=1)


# --- stacked GAN --------------------------------------------------------------------------------

GENERATORS = ("upper", "lower")
INVERSES = ("upper_inverse", "lower_inverse")


def stack(joint=True, features=2):
    pair = StackedGAN(
        encoder=linear(),
        upper=linear(),
        lower=linear(),
        upper_inverse=linear(),
        lower_inverse=linear(),
        features=features,
        latent=2,
        classes=3,
        joint=joint,
    )
    pair.build(**labelled())
    return pair


def labelled():
    return {"x": torch.rand(12, 4), "y": torch.arange(12) % 3}


@pytest.mark.parametrize(
    ("text", "joint", "parts"),
    [
        ("classification:label", True, {"encoder", "classifier"}),
        ("adversarial:h:critic=(mlp:8)", True, {"upper"}),
        ("adversarial:x:critic=(mlp:8)", True, {"upper", "lower"}),
        ("adversarial:x:critic=(mlp:8)", False, {"lower"}),
        ("sleep:f:cost=squared", True, {"upper", "lower"}),
        ("sleep:f:cost=squared", False, {"lower"}),
        ("sleep:y", True, {"upper"}),
        ("sleep:z1", True, {"upper", "upper_inverse"}),
        ("sleep:z0", False, {"lower", "lower_inverse"}),
    ],
)
def test_labels_alone_move_the_encoder(text, joint, parts, double):
    torch.manual_seed(3)
    pair = stack(joint, features=6)
    assert reached(pair, term(text, pair, **labelled())) == parts


@pytest.mark.parametrize("joint", [True, False])
def test_the_conditional_loss_is_0_where_the_encoder_undoes_the_generator(joint, double):
    """E_0(G_0(f, z)) = f for all f and z, by linear maps; any step off it costs its square."""
    pair = stack(joint)
    basis = torch.linalg.qr(torch.randn(4, 4))[0]
    with torch.no_grad():
        pair.encoder.last.weight.copy_(basis[:, :2].T)
        pair.encoder.last.bias.fill_(5.0)  # features are positive: the rectifier does nothing
        pair.lower.net.last.weight.copy_(torch.cat([basis[:, 2:], basis[:, :2]], 1))
        pair.lower.net.last.bias.copy_(-5 * basis[:, :2].sum(1))
        pair.upper.last.bias.fill_(50.0)
    rows = labelled()
    assert float(term("sleep:f:cost=squared", pair, **rows).detach()) == pytest.approx(0, abs=1e-20)
    with torch.no_grad():
        pair.lower.net.last.weight[:, 2:] *= 1.1
        pair.lower.net.last.bias *= 1.1
    phases = Phases(pair.model, pair.guide, columns=rows)
    loss = Sleep("f", cost="squared").loss(phases)
    expected = (0.1 * (phases.sampled("f") - 5)).square().sum(1).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)


def test_a_separate_level_reads_data_in_training_and_its_dream_afterwards(double):
    pair, rows = stack(joint=False), labelled()
    real = pair.encode(rows["x"])

    def generated(site):
        return Phases(pair.model, pair.guide, columns=rows).sampled(site)

    assert torch.equal(generated("f"), real)
    pair.eval()
    torch.manual_seed(0)
    f = generated("f")
    torch.manual_seed(0)
    assert torch.equal(f, generated("h"))
    assert not torch.equal(f, real)


def test_a_stack_draws_the_label_that_is_asked_for():
    data = Data.named("digits", binarise="none")
    run = RECIPES["stacked-gan"].fit(
        data, steps=350, lr=1e-3, batch_size=64, valid_every=0, compile="trace"
    )
    generated = run.sample(50, given={"y": 3})
    assert (generated["y"] == 3).all()
    report = evaluate(run, metrics=["label_agreement"], n_samples=300, pictures=False)
    assert report["label_agreement"].value > 0.3  # chance is 0.1


# --- domains ------------------------------------------------------------------------------------


def test_domains_are_what_they_say():
    x = Data.named("digits", binarise="none").test.x[:20]
    turn, mirror, invert = DOMAINS["turned"], DOMAINS["mirrored"], DOMAINS["inverted"]
    assert torch.equal(turn(turn(turn(turn(x)))), x)
    assert torch.equal(mirror(mirror(x)), x)
    assert torch.equal(invert(invert(x)), x)
    plane = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert torch.equal(turn(plane), torch.tensor([[0.0, 1.0], [-2.0, 0.0]]))
    assert torch.equal(mirror(plane), torch.tensor([[-1.0, 0.0], [0.0, 2.0]]))
    dot = torch.zeros(1, 1, 5, 5)
    dot[..., 2, 2] = 1
    assert DOMAINS["thick"](dot).sum() == 9
    assert DOMAINS["edges"](dot).sum() == 8
    assert DOMAINS["edges"](dot)[..., 2, 2] == 0


@pytest.mark.parametrize("domain", DOMAINS)
def test_training_rows_are_unpaired_and_test_rows_are_paired(domain):
    plain, data = Data.named("digits", binarise="none"), Data.named(f"digits:{domain}")
    rows = len(plain.train) // 2
    assert len(data.train) == rows
    assert torch.equal(data.train.x, plain.train.x[0 : 2 * rows : 2])
    assert torch.equal(data.train.columns["y"], plain.train.columns["y"][0 : 2 * rows : 2])
    other = DOMAINS[domain](plain.train.x[1 : 2 * rows : 2])
    assert torch.equal(data.train.columns["other"], other)
    for part in ("valid", "test"):
        split, same = getattr(data, part), getattr(plain, part)
        assert torch.equal(split.x, same.x)
        assert torch.equal(split.columns["other"], DOMAINS[domain](same.x))
    again = Data.open(**data.config)
    assert torch.equal(again.train.columns["other"], other)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("digits:invertd", "nearest 'inverted'"),
        ("digit:inverted", "nearest 'digits'"),
        ("ring:edges", "edges is for images"),
    ],
)
def test_a_wrong_domain_says_what_is_wrong(name, said):
    with pytest.raises(ValueError, match=said):
        Data.open(name, rows=10)
    with pytest.raises(ValueError, match="not to be binarised"):
        Data.open("digits:inverted", binarise="dynamic")


# --- pairing ------------------------------------------------------------------------------------


def test_the_true_map_pairs_all_and_a_permuted_one_none_but_by_chance(double):
    true = torch.randn(400, 5)
    assert paired(true, true).mean() == 1
    assert paired(true.roll(1, 0), true).mean() == 0
    assert paired(torch.zeros_like(true), true).sum() == 1
    order = torch.randperm(400, generator=torch.Generator().manual_seed(1))
    assert paired(true[order], true).sum() == (order == torch.arange(400)).sum() <= 5
    twins = torch.cat([true, true])
    assert paired(twins, twins).mean() == 1
    with pytest.raises(ValueError, match="of one shape"):
        paired(true, true[:3])


def cycle(slope=1.0):
    """The pair that turns the plane, with the way there scaled by a factor."""
    pair = CycleGAN(linear(), linear())
    pair.build(torch.zeros(4, 2))
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    with torch.no_grad():
        pair.encoder.last.weight.copy_(slope * quarter)
        pair.decoder.last.weight.copy_(quarter.T)
        for net in (pair.encoder, pair.decoder):
            net.last.bias.zero_()
    return pair


def test_the_true_pair_of_maps_is_judged_perfect():
    data = Data.named("swiss-roll:turned", rows=100)
    names = ["pairing_accuracy", "pairing_accuracy_back", "cycle_error"]
    report = evaluate(cycle(), data, metrics=names, pictures=False)
    assert [report[n].value for n in names] == [1, 1, 0]
    assert report["pairing_accuracy"].n == 1000
    assert 0 < report["pairing_accuracy"].se < 0.01
    assert "chance 0.001" in report["pairing_accuracy"].note
    far = evaluate(cycle(slope=3.0), data, metrics=names, pictures=False)
    assert far["pairing_accuracy"].value < 0.1
    assert far["pairing_accuracy_back"].value == 1
    x = translate(cycle().model, cycle().guide, {"x": data.test.x[:7], "other": data.test.x[7:14]})
    expected = 2 * (data.test.x[:7].abs().mean(1) + data.test.x[7:14].abs().mean(1)) / 2
    rows = {"x": data.test.x[:7], "other": data.test.x[7:14]}
    found = evaluate(cycle(slope=3.0), rows, metrics=["cycle_error"], pictures=False)
    assert found["cycle_error"].value == pytest.approx(float(expected.mean()), rel=1e-5)
    assert torch.equal(x.round_x, data.test.x[:7])


def test_pairs_without_a_second_domain_are_not_judged_by_it():
    data = Data.named("swiss-roll:turned", rows=100)
    pair = VAE(latent=2, likelihood="normal")
    report = evaluate(pair, data, metrics=["pairing_accuracy"], limit=20, pictures=False)
    assert "does not take its latent from the column other" in report["pairing_accuracy"].note
    plain = evaluate(pair, Data.named("ring", rows=100), metrics=["cycle_error"], pictures=False)
    assert "no column other" in plain["cycle_error"].note
    with pytest.raises(Unavailable, match="no column other"):
        translate(pair.model, pair.guide, {"x": data.test.x[:5]})


# --- the net, and the whole way -----------------------------------------------------------------


def test_a_residual_net_keeps_things_where_they_are(double):
    net = ResNet(channels=4, blocks=1, patch=2)
    net.build((1, 21, 13), (2, 21, 13))
    image = torch.zeros(1, 1, 21, 13, requires_grad=True)
    out = net(image)
    assert out.shape == (1, 2, 21, 13)
    out[0, 0, 4, 4].backward()
    seen = image.grad[0, 0].nonzero()
    assert len(seen)
    assert (seen - 4).abs().max() <= 2 * (2 + 2 * 1) + 1  # two convolutions and one block's two
    net.set_bias(torch.tensor([0.25, -2.0]).reshape(2, 1, 1).expand(2, 21, 13))
    with torch.no_grad():
        net.last.weight.zero_()
    assert torch.equal(net(image)[0, :, 20, 12], torch.tensor([0.25, -2.0]))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"channels": 0}, "channels"), ({"patch": 0}, "patch"), ({"blocks": -1}, "blocks")],
)
def test_a_residual_net_refuses_what_it_cannot_be(options, said):
    with pytest.raises(ValueError, match=f"{said} must be at least"):
        ResNet(**options)
    with pytest.raises(ValueError, match="use MLP"):
        ResNet().build((5,), (5,))


@pytest.mark.parametrize("name", ["cyclegan", "stacked-gan", "bigan"])
def test_steps_are_the_same_eager_and_traced(name, tmp_path):
    recipe, data = RECIPES[name], Data.named(RECIPES[name].data, rows=200)
    run, eager = (
        recipe.fit(data, steps=4, compile=mode, valid_every=0) for mode in ("trace", "off")
    )
    for one, other in zip(run.pair.parameters(), eager.pair.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    back = load(run.save(tmp_path / "run"))
    assert to_config(back.pair) == to_config(run.pair)
    assert to_config(from_config(to_config(run.objective))) == to_config(run.objective)


def test_two_domains_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--data", "digits:thick", "--steps", "2", "--out", "run", "--no-progress"]
    assert main(["fit", "cyclegan", *words]) in (0, None)
    assert main(["evaluate", "run", "--metrics", "pairing_accuracy,cycle_error"]) in (0, None)
    assert "pairing accuracy" in capsys.readouterr().out


def test_stacks_and_cycles_take_particles(double):
    rows = labelled()
    awake = Phases(stack().model, stack().guide, columns=rows, particles=3).awake
    assert awake.sample["z0"].shape == (3, 12, 2)
    pair = CycleGAN(linear(), linear())
    columns = {"x": rows["x"], "other": rows["x"]}
    with pyro.validation_enabled(False):
        phases = Phases(pair.model, pair.guide, columns=columns, particles=3)
        assert phases.awake.sample["b"].shape == (3, 12, 4)
