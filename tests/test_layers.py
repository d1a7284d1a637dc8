"""Layers of latents: exact posteriors of linear chains, limits, and the gradients through them."""

import copy
import functools
import math
import pickle
import re

import pyro
import pyro.distributions as dist
import pytest
import torch

from priory.data import Data
from priory.distributions.independent import IndependentNormal
from priory.evaluation import evaluate
from priory.inference import ELBO, IWAE, Linear, Phases, fit
from priory.inference.selection import judged
from priory.inference.validation import collapsed, fallen, layer_rates
from priory.models import VAE, HierarchicalVAE, LadderVAE, TwoLevelVAE
from priory.models.ladder import merged
from priory.nets import MLP, Conv, Deconv
from priory.priors import VampPrior
from priory.recipes import RECIPES
from trainings import check_traced_and_resumed


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    pyro.clear_param_store()
    yield
    torch.set_default_dtype(torch.float32)


def phases(pair, x, particles=1, seed=0):
    torch.manual_seed(seed)
    return Phases(pair.model, pair.guide, (x,), particles=particles)


def linear():
    return {"encoder": MLP(()), "decoder": MLP(()), "inner": MLP(())}


@torch.no_grad()
def set_affine(net, slope, shift, log_scale):
    """Make a linear net say N(slope z + shift, exp(log_scale)^2) of one coordinate."""
    net.last.weight.copy_(torch.stack([slope, torch.zeros_like(slope)]))
    net.last.bias.copy_(torch.stack([torch.as_tensor(shift), torch.as_tensor(log_scale)]))


# --- one layer is the VAE -----------------------------------------------------------------------


@pytest.mark.parametrize("prior", ["normal", "mixture", "vamp", "stick-breaking"])
@pytest.mark.parametrize("objective", [ELBO(), ELBO(analytic_kl=True), IWAE(3, "dreg")])
def test_one_layer_is_the_vae(prior, objective):
    x, losses = torch.rand(9, 4).round(), []
    for pair in (VAE(prior, latent=3), HierarchicalVAE(prior, latents=(3,))):
        torch.manual_seed(1)
        pair.build(x)
        torch.manual_seed(2)
        loss = objective(pair.model, pair.guide, x)
        loss.backward()
        losses.append([loss, *(p.grad for p in pair.parameters())])
    assert len(losses[0]) == len(losses[1])
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))


# --- a linear chain with its exact posterior ----------------------------------------------------


class Chain:
    """The model's affine maps, in one dimension a layer, and all that follows in closed form."""

    def __init__(self, layers=3, rows=7):
        self.x = torch.randn(rows, 2)
        self.slopes, self.shifts, self.sds = [0.8, -1.3], [0.4, -0.2], [0.6, 0.9]
        del self.slopes[layers - 1 :], self.shifts[layers - 1 :], self.sds[layers - 1 :]

    def tune(self, pair):
        """Set the layers above z1 and read the map from z1 to the datum off the decoder."""
        pair.build(self.x)
        for layer, slope, shift, sd in zip(
            pair.down, self.slopes, self.shifts, self.sds, strict=True
        ):
            set_affine(layer.net, torch.tensor([slope]), shift, math.log(sd))
        with torch.no_grad():
            pair.decoder.net.last.weight.copy_(torch.tensor([[1.1], [-0.7]]))
            at = [pair.decoder(torch.full((1, 1), v)) for v in (0.0, 1.0)]
        self.b = at[0].mean[0]
        self.a, self.s = at[1].mean[0] - self.b, at[0].stddev[0]

    @property
    def marginals(self):
        """Mean and variance of p(z_l), z1 first."""
        found = [(0.0, 1.0)]
        for slope, shift, sd in [*zip(self.slopes, self.shifts, self.sds, strict=True)][::-1]:
            mean, var = found[-1]
            found.append((slope * mean + shift, slope**2 * var + sd**2))
        return found[::-1]

    @property
    def log_p(self):
        """log p(x), one Gaussian."""
        mean, var = self.marginals[0]
        cov = var * torch.outer(self.a, self.a) + torch.diag(self.s**2)
        return dist.MultivariateNormal(self.a * mean + self.b, cov).log_prob(self.x)

    @property
    def term(self):
        """The likelihood term of z1: its mean for each datum, and its precision."""
        precision = (self.a**2 / self.s**2).sum()
        return ((self.x - self.b) * self.a / self.s**2).sum(1) / precision, precision


def bottom_up(pair, chain):
    """Give the pair the exact q(z1 | x), q(z2 | z1), ..."""
    (mean, var), (loc, precision) = chain.marginals[0], chain.term
    total = 1 / var + precision
    fit_affine(pair.encoder.net, pair.encoder.read(chain.x), (mean / var + loc * precision) / total)
    pair.encoder.net.last.bias.data[1] = -0.5 * total.log()
    for layer, slope, shift, sd, (mean, var) in zip(
        pair.up, chain.slopes, chain.shifts, chain.sds, chain.marginals[1:], strict=True
    ):
        total = 1 / var + slope**2 / sd**2
        at = (mean / var - slope * shift / sd**2) / total
        set_affine(layer.net, torch.tensor([slope / sd**2 / total]), at, -0.5 * math.log(total))


@torch.no_grad()
def fit_affine(net, inputs, outputs):
    """Make a linear net's mean the affine map from inputs (n, d) to outputs (n,)."""
    ones = torch.ones(len(inputs), 1)
    found = torch.linalg.lstsq(torch.cat([inputs, ones], 1), outputs[:, None]).solution[:, 0]
    set_affine(net, found[:-1], found[-1], 0.0)
    assert torch.allclose(net(inputs)[:, 0, 0], outputs, atol=1e-10)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_bound_of_a_linear_chain_is_its_likelihood(layers):
    chain = Chain(layers)
    pair = HierarchicalVAE(**linear(), likelihood="normal", latents=(1,) * layers)
    chain.tune(pair)
    bottom_up(pair, chain)
    weights = phases(pair, chain.x, 5).awake.log_weight()
    torch.testing.assert_close(weights, chain.log_p.expand(5, -1), rtol=0, atol=1e-9)
    own = {n for n, _ in pair.named_parameters() if n.startswith(("encoder", "up"))}
    for loss in (ELBO(gradient="stl"), IWAE(4, "dreg")):
        pair.zero_grad()
        loss(pair.model, pair.guide, chain.x).backward()
        for name, p in pair.named_parameters():
            assert name not in own or float(p.grad.abs().max()) < 1e-8, name


def test_a_wrong_guide_has_bounds_in_order():
    chain = Chain(2, rows=5)
    pair = HierarchicalVAE(**linear(), likelihood="normal", latents=(1, 1))
    chain.tune(pair)
    bottom_up(pair, chain)
    pair.up[0].net.last.bias.data += 0.5  # shifted and wider
    weights = phases(pair, chain.x, 20_000).awake.log_weight()
    grouped = [weights.detach().view(-1, k, 5) for k in (1, 5, 50, 20_000)]
    bounds = [float((w.logsumexp(1) - math.log(w.shape[1])).mean()) for w in grouped]
    assert bounds == sorted(bounds)
    assert bounds[-1] == pytest.approx(float(chain.log_p.detach().mean()), abs=0.02)


# --- the ladder ---------------------------------------------------------------------------------


def test_the_merge_of_likelihood_and_prior_is_the_posterior():
    """z ~ N(m, s^2) and x ~ N(a z, t^2): the likelihood term of z is N(x / a, (t / a)^2)."""
    z, x, m, s, a, t = torch.linspace(-9, 9, 20_001), 1.3, -0.4, 0.7, 1.9, 1.1
    prior = dist.Normal(m, s)
    joint = prior.log_prob(z) + dist.Normal(a * z, t).log_prob(torch.tensor(x))
    step = z[1] - z[0]
    posterior = joint - (joint.exp().sum() * step).log()
    pairs = ((x / a, math.log(t / a)), (m, math.log(s)))
    of = [IndependentNormal(torch.tensor([loc]), torch.tensor([log]), 1) for loc, log in pairs]
    torch.testing.assert_close(merged(*of).log_prob(z[:, None]), posterior, rtol=0, atol=1e-9)
    for first, other in (of, of[::-1]):
        wide = IndependentNormal(other.loc, other.log_scale + 60, 1)
        for found in (merged(first, wide), merged(wide, first)):  # which says nothing
            torch.testing.assert_close(found.mean, first.mean)
            torch.testing.assert_close(found.scale, first.scale)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_ladder_is_exact_on_a_linear_chain(layers):
    chain = Chain(layers)
    widths = (1,) * layers
    pair = LadderVAE("normal", MLP(()), MLP(()), "normal", latents=widths, widths=widths)
    for layer in pair.down:
        layer.net = MLP(())
    pair.up = torch.nn.ModuleList(MLP(()) for _ in pair.up)
    chain.tune(pair)
    (loc, precision), read = chain.term, pair.likelihood.read(chain.x)
    ones = torch.ones(len(read), 1)
    map_ = torch.linalg.lstsq(torch.cat([read, ones], 1), loc[:, None]).solution[:, 0]
    one = torch.ones(1)
    with torch.no_grad():
        pair.encoder.last.weight.copy_(map_[None, :2])  # d_1 is the likelihood term's mean
        pair.encoder.last.bias.copy_(map_[2:])
    var = 1 / precision
    mean = [1.0, 0.0]  # of the term in d_1, affine
    for n, layer in enumerate(pair.recognition):
        last = n == layers - 1
        if n:  # the term of z_n, pushed through N(slope z + shift, sd^2)
            slope, shift, sd = chain.slopes[n - 1], chain.shifts[n - 1], chain.sds[n - 1]
            mean, var = [mean[0] / slope, (mean[1] - shift) / slope], (var + sd**2) / slope**2
            with torch.no_grad():
                pair.up[n - 1].last.weight.fill_(1.0)
                pair.up[n - 1].last.bias.fill_(0.0)
        own, keep = (var, mean) if not last else (var / (1 + var), [m / (1 + var) for m in mean])
        set_affine(layer.net, one * keep[0], keep[1], 0.5 * torch.log(torch.as_tensor(own)))
    weights = phases(pair, chain.x, 5).awake.log_weight()
    torch.testing.assert_close(weights, chain.log_p.expand(5, -1), rtol=0, atol=1e-9)


def test_a_guide_that_hears_nothing_is_the_model():
    pair, x = small(LadderVAE), torch.rand(6, 4).round()
    pair.build(x)
    with torch.no_grad():
        pair.recognition[0].net.last.bias[3:] = 40.0  # log standard deviations of z1's term
    awake = phases(pair, x, 4).awake
    rest = (awake.log_q("z1") - awake.log_p("z1")).detach()
    assert float(rest.abs().max()) < 1e-2


# --- gradients through a chain of latents -------------------------------------------------------


def small(kind, **options):
    nets = {"encoder": MLP((5,), "tanh"), "decoder": MLP((5,), "tanh")}
    if kind is HierarchicalVAE:
        nets["inner"] = MLP((4,), "tanh")
    if kind is LadderVAE:
        nets["widths"] = (5, 4)
    if kind is TwoLevelVAE:
        nets |= {"lower_encoder": MLP((5,), "tanh"), "upper": MLP((4,), "tanh")}
    return kind(**nets, latents=(3, 2), **options)


PAIRS = {
    "hierarchical": lambda: small(HierarchicalVAE),
    "ladder": lambda: small(LadderVAE),
    "two-level": lambda: small(TwoLevelVAE),
    "two-level vamp": lambda: small(TwoLevelVAE, prior="vamp"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_estimators_of_the_gradient_agree_in_the_mean(name):
    torch.manual_seed(3)
    pair, rows, times = PAIRS[name](), torch.rand(3, 4).round(), 200
    x = rows.repeat(200, 1)
    pair.build(rows)
    pair.eval()  # no batch norm over rows
    found = {}
    for gradient in ("pathwise", "dreg"):
        draws = []
        for _ in range(times // 10):
            pair.zero_grad()
            IWAE(3, gradient)(pair.model, pair.guide, x).backward()
            draws.append(torch.cat([p.grad.flatten() for p in pair.parameters()]))
        found[gradient] = torch.stack(draws)
    a, b = found.values()
    se = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
    t = (a.mean(0) - b.mean(0)) / (se + 1e-12)
    assert float(t.abs().max()) < 5.5
    assert float(t.square().mean()) < 1.8


def test_rows_that_meet_in_a_batch_norm_have_no_gradient_of_their_own():
    x = torch.rand(6, 4).round()
    normed = functools.partial(MLP, (5,), batch_norm=True)
    for pair in (LadderVAE(), HierarchicalVAE(inner=normed()), VAE(decoder=normed())):
        with pytest.raises(ValueError, match="meet in the batch normalisation"):
            IWAE(3, "dreg")(pair.model, pair.guide, x)
        IWAE(3)(pair.model, pair.guide, x).backward()
    pair = VAE(encoder=normed())
    IWAE(3, "dreg")(pair.model, pair.guide, x).backward()


# --- two levels ---------------------------------------------------------------------------------


def test_the_top_prior_is_the_mean_of_the_posteriors_at_the_pseudo_inputs():
    pair, x = small(TwoLevelVAE, prior="vamp"), torch.rand(6, 4).round()
    pair.build(x)
    z = torch.randn(5, 2)
    q = pair.encoder(pair.prior.inputs())
    each = torch.stack([q.log_prob(row) for row in z])
    torch.testing.assert_close(
        pair.prior().log_prob(z), each.logsumexp(1) - math.log(each.shape[1])
    )


def test_images_reach_the_lower_encoder_with_planes_of_the_layer_above():
    nets = {"lower_encoder": Conv((3,), 8), "encoder": Conv((3,), 8), "decoder": Deconv((3,), 8)}
    pair, x = TwoLevelVAE(**nets, latents=(3, 2)), torch.rand(5, 1, 8, 8).round()
    pair.build(x)
    assert pair.lower_encoder.net.inputs == (3, 8, 8)
    assert phases(pair, x, 2).awake.log_weight().shape == (2, 5)


# --- a ladder below a mixture of its own posteriors ---------------------------------------------


def ladder(prior, x, latents=(4, 3, 2)):
    widths = (7, 6, 5, 4)[: len(latents)]
    pair = LadderVAE(prior, MLP((5,), "tanh"), MLP((5,), "tanh"), "auto", latents, widths)
    pair.build(x)
    return pair.eval()  # batch norms by their running statistics


LADDERS = {
    "images": lambda: torch.rand(6, 1, 4, 4).round(),
    "table": lambda: torch.randn(6, 4) * torch.tensor([1.0, 50.0, 0.01, 3.0]) + 7,
}


@pytest.mark.parametrize("data", LADDERS)
@pytest.mark.parametrize("latents", [(3,), (4, 2), (4, 3, 2), (4, 3, 2, 1)])
def test_a_ladders_top_prior_is_the_mean_of_its_posteriors_at_the_pseudo_inputs(data, latents):
    x = LADDERS[data]()
    pair, top = ladder(VampPrior(5, noise=0.1), x, latents), len(latents)
    inputs = pair.prior.inputs()
    read = pair.head.drawn_in(inputs) if data == "table" else pair.head.read(inputs)
    each = []
    for u in read:
        d = pair.encoder(u[None])
        for net in pair.up:
            d = net(d)
        loc, log_scale = pair.recognition[-1].net(d).reshape(2, latents[-1])
        each.append(dist.Normal(loc, log_scale.exp()))
    awake = phases(pair, x, 3).awake
    z = awake.sample[f"z{top}"]
    expected = torch.stack([q.log_prob(z).sum(-1) for q in each]).logsumexp(0) - math.log(5)
    torch.testing.assert_close(awake.log_p(f"z{top}"), expected, rtol=0, atol=1e-10)
    ELBO()(pair.model, pair.guide, x).backward()
    assert pair.prior.pseudo.grad.abs().sum() > 0
    if latents[-1] == 1:
        grid = torch.linspace(-40, 40, 200_001)
        with torch.no_grad():
            density = pair.prior().log_prob(grid[:, None]).exp()
        assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("data", LADDERS)
def test_at_the_data_it_is_the_aggregate_of_the_guides_posteriors(data):
    x = LADDERS[data]()
    pair = ladder(VampPrior(6, noise=0.0), x)
    q, z = phases(pair, x).awake.distribution("z3"), torch.randn(9, 2)
    expected = torch.stack([q.log_prob(row) for row in z]).logsumexp(1) - math.log(6)
    torch.testing.assert_close(pair.prior().log_prob(z), expected, rtol=0, atol=1e-9)


def test_copies_of_a_ladder_keep_to_their_own_posteriors():
    x, z = LADDERS["images"](), torch.randn(5, 2)
    pair = ladder(VampPrior(4), x)
    before = pair.prior().log_prob(z)
    for twin in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        torch.testing.assert_close(twin.prior().log_prob(z), before, rtol=0, atol=0)
        with torch.no_grad():
            twin.recognition[-1].net.last.weight.zero_()
        assert not torch.allclose(twin.prior().log_prob(z), before)
        torch.testing.assert_close(pair.prior().log_prob(z), before, rtol=0, atol=0)
    assert not any("prior.encode" in name for name, _ in pair.named_parameters())


@pytest.mark.parametrize("prior", ["vamp:5", "exemplar:5"])
def test_three_layers_below_such_a_prior_train_and_go_on(tmp_path, prior):
    nets = {"encoder": "mlp:8", "decoder": "mlp:8", "latents": "3,2,2", "widths": "6,5,4"}
    options = {"prior": prior, **nets, "steps": 8, "batch_size": 10, "progress": False}
    data = Data.named("ring", rows=50)
    back = check_traced_and_resumed(
        RECIPES["ladder-vae"], options, data, tmp_path / "run", atol=1e-5
    )
    report = evaluate(back, metrics=["nll", "kl"], particles=5, limit=10, pictures=False)
    assert (report["nll"].kind, report["kl"].applicable) == ("upper bound", True)


# --- each layer's rate in the history -----------------------------------------------------------


def rows_of_data():
    u = torch.rand(200, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    return Data.from_arrays((u > 0.5).float().numpy(), valid=0.2)


def test_the_history_holds_each_layers_rate_and_they_add_up_to_the_divergence():
    chain = Chain(3, rows=400)
    pair = HierarchicalVAE(**linear(), likelihood="normal", latents=(1, 1, 1))
    chain.tune(pair)
    bottom_up(pair, chain)
    split = Data.from_arrays(chain.x.numpy(), valid=0.5).valid
    pair.double()
    found, divergences = layer_rates(pair.model, pair.guide, split)
    assert divergences == ["z3"]  # the guide draws the others before what they depend on
    assert [*found] == ["z3", "z2", "z1"]
    # KL(q(z | x), p(z)) = E log p(x | z) - log p(x), of the exact posterior
    rows = split.columns["x"].double()
    awake = phases(pair, rows, 2000).awake
    kl = awake.log_q() - awake.log_p(awake.latents)
    assert sum(found.values()) == pytest.approx(float(kl.detach().mean()), abs=0.1)


@pytest.mark.parametrize("kind", [HierarchicalVAE, LadderVAE, TwoLevelVAE])
def test_a_run_writes_the_rates_and_is_otherwise_the_same(kind, monkeypatch):
    torch.set_default_dtype(torch.float32)
    options = {"epochs": 3, "batch_size": 32, "progress": False, "seed": 1}
    run = fit(small(kind), ELBO(), rows_of_data(), **options)
    assert {"kl.z1", "kl.z2"} < {*run.history[-1]}
    monkeypatch.setattr("priory.inference.validation.layer_rates", lambda *_, **__: ({}, []))
    other = fit(small(kind), ELBO(), rows_of_data(), **options)
    for name, value in run.pair.state_dict().items():
        assert torch.equal(value, other.pair.state_dict()[name]), name
    kept = ("loss", "bound")
    assert [{k: r[k] for k in kept} for r in run.history] == [
        {k: r[k] for k in kept} for r in other.history
    ]


def test_one_layer_has_rows_as_before():
    torch.set_default_dtype(torch.float32)
    run = fit(VAE(latent=2), ELBO(), rows_of_data(), epochs=1, batch_size=32, progress=False)
    assert not [key for key in run.history[-1] if key.startswith("kl")]


def test_a_layer_that_has_collapsed_is_reported_once():
    torch.set_default_dtype(torch.float32)
    pair = small(TwoLevelVAE)
    loss = ELBO(Linear(30.0, 31.0, 8))  # a price that no layer can pay
    options = {"epochs": 40, "batch_size": 32, "lr": 0.02, "seed": 1}
    run = fit(pair, loss, rows_of_data(), **options, progress=False)
    top = [line for line in run.warnings if "layer z2 holds" in line]
    assert len(top) == 1
    assert "free-bits" in top[0]
    assert run.history[-1]["kl.z2"] < 0.01


def test_a_collapse_counts_after_the_warm_up_and_twice():
    rows = [{"step": 10 * i, "kl.z1": 3.0, "kl.z2": v} for i, v in enumerate((0, 0, 1, 0, 0, 0))]
    found = [collapsed(rows[i], rows[:i], ["z1", "z2"], 15) for i in range(6)]
    assert found == [[], [], [], [], ["z2"], []]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([-500.0, -95.0, -94.0, -188.0], [None] * 4),  # the least that counts is its own size
        ([-500.0, -95.0, None, -191.0, -1e6], [None, None, None, -95.0, None]),  # once
        ([2.0, 8.0, -1.0, -2.5], [None, None, None, 8.0]),  # at least 10 nats
        ([-90.0, -math.inf], [None, -90.0]),
    ],
)
def test_a_bound_that_falls_by_its_own_size_is_reported_once(bounds, expected):
    rows, found = [], []
    for bound in bounds:
        row = {"bound": bound}
        best = None if bound is None else fallen(row, rows)
        found.append(best)
        rows.append(row if best is None else row | {"fallen": best})
    assert found == expected


def test_a_training_that_diverges_is_warned_of():
    torch.set_default_dtype(torch.float32)
    x = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    options = {"epochs": 6, "batch_size": 32, "lr": 0.05, "seed": 0, "progress": False}
    run = fit(VAE(latent=2), ELBO(), Data.from_arrays(x), **options)
    bounds = [row["bound"] for row in run.history]
    (at,) = [i for i, row in enumerate(run.history) if "fallen" in row]
    assert bounds[at] < 2 * run.history[at]["fallen"] < 0
    assert "the training has diverged" in run.warnings[0]
    assert not judged(run.history[at]), "the fall is no metric"


# --- each layer judged --------------------------------------------------------------------------


def test_each_layer_is_judged():
    chain = Chain(2, rows=400)
    pair = HierarchicalVAE(**linear(), likelihood="normal", latents=(1, 1))
    chain.tune(pair)
    bottom_up(pair, chain)
    names = ["kl", "active_units", "layer_loss"]
    report = evaluate(pair, {"x": chain.x}, metrics=names, pictures=False)
    draws = phases(pair, chain.x, 4000).awake
    kls = {z: (draws.log_q(z) - draws.log_p(z)).detach().mean() for z in ("z2", "z1")}
    assert report["kl"].value == pytest.approx(float(sum(kls.values())), abs=0.05)
    written = dict(re.findall(r"(z\d) (\S+?)[, ]", report["kl"].note))
    for site, kl in kls.items():
        assert float(written[site]) == pytest.approx(float(kl), abs=0.1)
    assert report["active_units"].note.startswith("z2 1 of 1, z1 1 of 1")

    # E log p(x | z1) with z1 from p(z1), from p(z1 | z2) and z2 ~ q, and from q; closed forms
    (mean, var), (loc, precision) = chain.marginals[0], chain.term
    total = 1 / var + precision
    post = (mean / var + loc * precision) / total  # of z1
    slope, shift, sd = chain.slopes[0], chain.shifts[0], chain.sds[0]
    gain = slope / sd**2 / (1 + slope**2 / sd**2)
    above = gain * (post - shift)  # E[z2 | x]
    spread = gain**2 / total + 1 / (1 + slope**2 / sd**2)
    moments = [
        (torch.full_like(loc, mean), var),
        (slope * above + shift, slope**2 * spread + sd**2),
        (post, 1 / total),
    ]
    scores = [-0.5 * precision * ((m - loc) ** 2 + v) for m, v in moments]
    losses = {"z2": scores[1] - scores[0], "z1": scores[2] - scores[1]}
    written = dict(re.findall(r"(z\d) (\S+?)[, ]", report["layer_loss"].note))
    for site, loss in losses.items():
        assert float(written[site]) == pytest.approx(float(loss.detach().mean()), abs=0.15)
    assert report["layer_loss"].value == pytest.approx(
        min(float(v.detach().mean()) for v in losses.values()), abs=0.15
    )


def test_a_dead_layer_loses_nothing_and_has_no_active_unit():
    pair, x = small(LadderVAE), torch.rand(300, 4).round()
    pair.build(x)
    with torch.no_grad():
        pair.recognition[1].net.last.weight.zero_()  # q(z2 | x) = p(z2)
        pair.recognition[1].net.last.bias.zero_()
    names = ["kl", "active_units", "layer_loss"]
    report = evaluate(pair, {"x": x}, metrics=names, pictures=False)
    assert "z2 0 of 2" in report["active_units"].note
    assert report["kl"].warnings == ("posterior collapse: z2 below 0.01 nats",)
    assert abs(report["layer_loss"].value) < 0.05


def test_a_pair_with_one_latent_has_no_layers_to_judge():
    report = evaluate(VAE(latent=2), {"x": torch.rand(20, 3)}, metrics=["layer_loss", "kl"])
    assert not report["layer_loss"].applicable
    assert "several latents of each datum; the model has z" in report["layer_loss"].note
    assert report["kl"].applicable


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: HierarchicalVAE(latents=()), "latents must be a number for each layer"),
        (lambda: HierarchicalVAE(latents=5), "latents must be a number for each layer"),
        (lambda: HierarchicalVAE(latents=(3, 0)), "latents must be a positive integer, got 0"),
        (lambda: HierarchicalVAE("vamp"), "use LadderVAE .of any layers. or TwoLevelVAE, whose"),
        (lambda: HierarchicalVAE(inner=torch.nn.Linear(2, 3)), "give a net that is not built"),
        (lambda: LadderVAE(latents=(3,)), "latents and widths must be as many"),
        (lambda: TwoLevelVAE(latents=(3,)), "latents must be two numbers"),
    ],
)
def test_what_cannot_be_is_said(make, words):
    with pytest.raises(ValueError, match=words):
        make()
