"""The explorer's page: its decoder in node against torch, what it holds, what it refuses."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import zlib
from importlib.resources import files
from types import SimpleNamespace

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.nn import functional as f

from pairs import SMALL_PRIORS
from priory import evaluate, explore, fit
from priory.cli import main
from priory.data import Data
from priory.evaluation import Unavailable
from priory.evaluation.explorer.layers import BINARY, UNARY, Inexpressible, head_of, layers_of
from priory.evaluation.explorer.page import _Pack, page_of
from priory.evaluation.explorer.section import Held
from priory.evaluation.explorer.view import view_of
from priory.evaluation.report.report import Report
from priory.inference import ELBO, Run
from priory.likelihoods import LIKELIHOODS
from priory.models import CVAE, GAN, VAE
from priory.nets import DCGAN, MLP, Deconv, Fourier
from priory.nets.base import ACTIVATIONS

NODE = shutil.which("node") or "/usr/bin/node"
CLOSE = 2e-3
RUN = """
const zlib = require('zlib');
const given = JSON.parse(require('fs').readFileSync(0));
const texts = given.tensors.map((t) => {
  const raw = zlib.inflateSync(Buffer.from(t.data, 'base64'));
  return unpack(t.type, raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength));
});
const found = given.cases.map((c) => {
  const decoder = { ...c, held: c.held.map((i) => texts[i]) };
  return c.points.map((u, i) => Array.from(
    decode(decoder, Float32Array.from(u), Boolean(c.sampled), i)));
});
console.log(JSON.stringify(found));
"""


def script(name):
    return (files("priory.evaluation.explorer") / name).read_text(encoding="utf-8")


def kind_of(tensor, half):
    matrix = "f16" if half and tensor.dim() > 1 else "f32"
    return matrix if tensor.is_floating_point() else "i32"


def in_node(decoders, half=False):
    """What the page's own script makes of points, by decoders in the page's own packing."""
    pack, cases = _Pack(), []
    for layers, points, more in decoders:
        held = [pack.add(t, kind_of(t, half)) for t in layers.tensors]
        size = int(torch.tensor(layers.shape).prod())
        case = {"records": [*layers.records], "held": held, "head": layers.head, "size": size}
        cases.append({**case, "points": points.tolist(), **more})
    code = script("arrays.js") + script("worker.js") + RUN
    done = subprocess.run(
        [NODE, "-e", code],
        input=json.dumps({"tensors": pack.texts, "cases": cases}),
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    return [torch.tensor(found, dtype=torch.float64) for found in json.loads(done.stdout)]


@pytest.fixture(autouse=True, scope="module")
def node():
    if not shutil.which(NODE):
        pytest.skip(f"no {NODE}: apt-get install nodejs")


def image(channels, side):
    return nn.Sequential(nn.Linear(4, channels * side**2), nn.Unflatten(1, (channels, side, side)))


CHAIN = {
    "1-D convolution": nn.Sequential(
        nn.Linear(4, 18), nn.Unflatten(1, (3, 6)), nn.Conv1d(3, 4, 3, 2, 1), nn.Flatten(1)
    ),
    "convolution": nn.Sequential(image(4, 5), nn.Conv2d(4, 6, 3, 2, 1, groups=2)),
    "dilated": nn.Sequential(image(2, 6), nn.Conv2d(2, 3, 3, padding=(2, 1), dilation=2)),
    "transposed": nn.Sequential(image(4, 3), nn.ConvTranspose2d(4, 6, 5, 2, 2, 1, groups=2)),
    "1-D transposed": nn.Sequential(
        nn.Linear(4, 18), nn.Unflatten(1, (3, 6)), nn.ConvTranspose1d(3, 2, 4, 2, 1)
    ),
    "batch norm": nn.Sequential(image(4, 3), nn.BatchNorm2d(4)),
    "batch norm of vectors": nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False)),
    "layer norm": nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6)),
    "group norm": nn.Sequential(image(4, 3), nn.GroupNorm(2, 4)),
    "instance norm": nn.Sequential(image(2, 3), nn.GroupNorm(2, 2, affine=False)),
    "nearest": nn.Sequential(image(2, 3), nn.Upsample(scale_factor=2)),
    "bilinear": nn.Sequential(image(2, 3), nn.Upsample(scale_factor=2, mode="bilinear")),
    "bicubic": nn.Sequential(image(1, 4), nn.Upsample(scale_factor=2, mode="bicubic")),
    "shuffled": nn.Sequential(image(4, 3), nn.PixelShuffle(2)),
    "pooled": nn.Sequential(image(2, 6), nn.AvgPool2d(2)),
    "padded": nn.Sequential(image(2, 3), nn.ReflectionPad2d(1), nn.ConstantPad2d(1, 0.5)),
    "gated": nn.Sequential(nn.Linear(4, 8), nn.GLU(1)),
    "softmax": nn.Sequential(image(3, 2), nn.Softmax(1)),
    "log-softmax": nn.Sequential(nn.Linear(4, 5), nn.LogSoftmax(1)),
    "in place": nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True)),
    "mlp": MLP((8,), gated=True, batch_norm=True),
    "spectral": MLP((8,), spectral=True, output="tanh"),
    "fourier": Fourier(3, hidden=(8,)),
    "deconv": Deconv((2, 3), 8, batch_norm=True, output="sigmoid"),
    "dcgan": DCGAN((2, 3)),
}
CHAIN |= {name: nn.Sequential(nn.Linear(4, 9), make()) for name, make in ACTIVATIONS.items()}
SHAPES = {"deconv": (1, 7, 8), "dcgan": (1, 7, 8)}


def positive(u):
    return (u * u).mean(1, keepdim=True) + u.abs() + 0.1


FUNCTIONS = {
    "residual": lambda u: u + torch.tanh(u) * 0.5 - u / 3,
    "columns": lambda u: u * torch.tensor([1.0, 200.0, 0.1, 3.0]) + torch.tensor([0, 1e3, 2, -4]),
    "broadcast": lambda u: u[:, :, None] * torch.linspace(0.1, 1, 3) + u.mean(1)[:, None, None],
    "joined": lambda u: torch.cat([u, torch.ones(1, 2), u.flip(1)[:, :2]], 1),
    "chosen": lambda u: torch.where(u > 0.2, u, -u).index_select(1, torch.tensor([2, 0, 0])),
    "scaled sums": lambda u: torch.addcmul(torch.add(u, u.exp(), alpha=0.3), u, u, value=2.0),
    "one minus": lambda u: torch.rsub(u, 1.0, alpha=2) + torch.cumprod(u, 1) + torch.cumsum(u, 1),
    "sides": lambda u: torch.maximum(u, u.flip(1)) + 2 * torch.minimum(u, torch.zeros(1)),
    "compared": lambda u: sum(
        k * g(u, torch.tensor(0.25)).double()
        for k, g in enumerate((torch.gt, torch.ge, torch.lt, torch.le, torch.eq, torch.ne), 1)
    ),
    "powers": lambda u: torch.pow(positive(u), 1.5) + torch.pow(2.0, u) + u**2,
    "clamps": lambda u: u.clamp(-0.5, 0.7) + u.clamp_min(0.1) * u.clamp_max(0.2) + f.hardtanh(u),
    "logs": lambda u: positive(u).log() + positive(u).log1p() + positive(u).sqrt(),
    "roots": lambda u: positive(u).rsqrt() + positive(u).reciprocal() + u.sigmoid().logit(eps=1e-3),
    "waves": lambda u: u.sin() + u.cos() + u.expm1() + u.erf() + u.neg(),
    "steps": lambda u: (3 * u).floor() + (3 * u).ceil() + (3 * u).round() + u.sign() + u.abs(),
    "rarer": lambda u: f.mish(u) + f.hardswish(u) + f.hardsigmoid(u) + f.logsigmoid(u),
    "gelu by tanh": lambda u: f.gelu(u, approximate="tanh"),
}


def made(name):
    """A map in double precision by name, with parameters that are not those of a start."""
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    net = CHAIN[name]
    if hasattr(net, "build"):
        net.build((4,), SHAPES.get(name, (6,)))
    net = net.double()
    for p in [*net.parameters(), *net.buffers()]:
        if p.is_floating_point():
            noise = 0.3 * torch.randn(p.shape, dtype=p.dtype)
            p.data = p.data.abs() + noise.abs() if p.dim() == 1 else p.data + noise
    return net.eval()


@pytest.fixture(scope="module")
def maps():
    """Every map's layers, torch's outputs, and those of the page's script."""
    torch.manual_seed(0)
    points = torch.randn(3, 4, dtype=torch.float64)
    points[0, :2] = torch.tensor([0.25, 0.5])  # where comparisons and roundings meet their edges
    wanted, decoders = {}, []
    with torch.no_grad():
        for name in (*CHAIN, *FUNCTIONS):
            function = made(name)
            out = torch.cat([function(u[None]).double() for u in points])
            shape = tuple(out.shape[1:])
            layers = layers_of(lambda u, g=function: ("mean", [g(u)], {}), points[:1], shape)
            wanted[name] = out.flatten(1)
            decoders.append((layers, points, {}))
    single, half = (dict(zip(wanted, in_node(decoders, h), strict=True)) for h in (False, True))
    kinds = {r["kind"] for layers, _, _ in decoders for r in layers.records}
    return SimpleNamespace(wanted=wanted, single=single, half=half, kinds=kinds)


@pytest.mark.parametrize("name", [*CHAIN, *FUNCTIONS])
def test_the_page_computes_what_torch_does(maps, name):
    wanted = maps.wanted[name]
    scale = wanted.abs().amax(0).clamp(min=1)
    assert ((maps.single[name] - wanted).abs() / scale).max() < 2e-6
    assert ((maps.half[name] - wanted).abs() / scale).max() < CLOSE
    assert wanted.std(0).max() > 1e-2, "it depends on the point"


def test_every_kind_of_layer_is_compared(maps):
    kinds = {*UNARY, *BINARY, "gelu_tanh"} - {"rsub"}
    kinds |= {"constant", "gather", "where", "linear", "convolution", "mix", "scale"}
    kinds |= {"normalise", "softmax", "cumprod"}
    assert maps.kinds == kinds


# --- p(x | z) -------------------------------------------------------------------------------------


def head(likelihood, maps, x):
    """Layers whose output is a likelihood's parameters, moved by the latent."""
    made = LIKELIHOODS[likelihood]()
    made.build(x)
    made = made.to(x.dtype)
    maps = maps[: made.params]
    shape = tuple(x.shape[1:])
    u = torch.zeros(1, 1, dtype=x.dtype)
    with pyro.validation_enabled(False):  # as the page's own maker has it
        return made, layers_of(lambda u: head_of(made((maps + u)[None])), u, shape)


ROWS = {"normal": 30 * torch.randn(40, 6).double() + 7, "delta": torch.randn(40, 6).double()}
LEVELS = torch.randint(0, 17, (40, 6)).double() / 16
LEVELS[0], LEVELS[1] = 0.0, 1.0
ROWS |= {"bernoulli": (LEVELS > 0.5).double(), "continuous-bernoulli": LEVELS}
ROWS |= {"logistic": torch.randint(0, 256, (40, 6)).double() / 255, "discretized-normal": LEVELS}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_page_has_the_mean_of_each_likelihood(likelihood):
    x = ROWS.get(likelihood)
    if x is None:
        pytest.skip("its mean is checked as layers of the general kinds")
    parameters = torch.stack([torch.linspace(-3, 3, 6), torch.linspace(-2, 0.5, 6)]).double()
    parameters[0, 3] = 1e-5  # next to where a continuous Bernoulli's mean is 0 / 0
    made, layers = head(likelihood, parameters, x)
    points = torch.tensor([[0.0], [0.4]]).double()
    wanted = torch.cat([made((parameters[: made.params] + u)[None]).mean for u in points])
    (found,) = in_node([(layers, points, {})])
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-5, atol=1e-5)


DRAWN = ("bernoulli", "continuous-bernoulli", "normal", "logistic", "discretized-normal")


@pytest.mark.parametrize("likelihood", DRAWN)
def test_samples_have_the_moments_of_their_distribution(likelihood):
    """4,000 draws of a few pixels, against closed forms and the likelihood's own draws."""
    x = ROWS[likelihood]
    parameters = torch.stack([torch.linspace(0, 1.2, 6), torch.linspace(-2, -0.5, 6)]).double()
    made, layers = head(likelihood, parameters, x)
    points = torch.zeros(4000, 1).double()
    (found,) = in_node([(layers, points, {"sampled": True})])
    truth = made(parameters[: made.params][None])
    own = truth.sample((4000,)).squeeze(1)
    mean, spread = truth.mean[0].detach(), own.std(0)
    assert ((found.mean(0) - mean).abs() < 4 * spread / 4000**0.5).all()
    torch.testing.assert_close(found.std(0), spread, rtol=0.06, atol=1e-3)
    if likelihood in ("logistic", "discretized-normal"):
        top = made.levels - 1
        torch.testing.assert_close(found * top, (found * top).round())


# --- runs -----------------------------------------------------------------------------------------


def untrained(pair, x):
    data = Data.from_arrays(x, valid=10, test=20)
    if hasattr(pair, "build"):
        pair.build(data.train.x)
    return Run(pair, None, data)


def pictures(n=60, channels=1, side=6):
    bits = torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(0))
    return (bits > 0.5).float().numpy()


def values_of(page):
    """What a page holds: its values, and its arrays as lists."""
    text = re.search(r'<script type="application/json" id="values">(.*?)</script>', page, re.S)[1]
    return json.loads(text)


def array(values, place, dtype):
    raw = zlib.decompress(base64.b64decode(values["tensors"][place]["data"]))
    return torch.frombuffer(bytearray(raw), dtype=dtype)


@pytest.mark.parametrize("name", SMALL_PRIORS)
def test_a_prior_is_explored_or_the_page_says_why(name):
    """The page's decoder is the model's own, through the support's bijection and the embedding."""
    pair = VAE(SMALL_PRIORS[name](), encoder=MLP((8,)), decoder=MLP((8,)), latent=3)
    view = view_of(untrained(pair, pictures()))
    if name == "boltzmann":
        assert view.reason == "z is discrete: there is no path between its values"
        assert view.samples["x_mean"].shape == (24, 1, 6, 6)
        return
    assert not view.reason
    assert view.half
    assert view.grid is None
    points, means = view.checked
    (found,) = in_node([(view.layers, points, {})], half=True)
    torch.testing.assert_close(found, means.flatten(1).double(), rtol=0, atol=CLOSE)
    assert view.test.codes.shape[0] == 20
    assert view.train.codes.shape[0] == 30


class Attends(nn.Module):
    """A decoder with a product of two arrays of the latent."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 36)

    def forward(self, z):
        h = self.layer(z).view(-1, 6, 6)
        return torch.bmm(h, h).flatten(1)


def test_a_grid_stands_in_for_what_is_no_layer():
    run = untrained(VAE(decoder=Attends(), latent=2), pictures())
    view = view_of(run)
    assert view.layers is None
    assert view.grid.reason == "the operation bmm is no kind of layer that the page knows"
    assert view.grid.x.shape == (169, 1, 6, 6)
    side, plane = 13, view.plane
    t = torch.tensor([5 / 12, 9 / 12]).double()
    place = plane.centre + (view.grid.low + t * (view.grid.high - view.grid.low)) @ plane.directions
    z = place.float()[None]
    wanted = run.pair.decoder(z).mean[0].detach()
    torch.testing.assert_close(view.grid.x[9 * side + 5], wanted)
    values = values_of(page_of([view], "bits"))["runs"][0]
    assert values["decoder"] is None
    assert values["grid"]["reason"] == view.grid.reason


REFUSED = {
    "draws at random": lambda u: u + torch.randn_like(u),
    "cannot be recorded": lambda u: u if u.sum() > 1 else -u,
    "rounds numbers to integers": lambda u: (5 * u).long().float() * u,
    "multiplies two arrays": lambda u: u.t() @ u,
    "takes more than 300 layers": lambda u: sum(u.sin() * k for k in range(200)),
    "divides with rounding": lambda u: torch.div(u, 0.3, rounding_mode="floor"),
    "the operation aten.round.decimals": lambda u: u.round(decimals=1),
    "the operation sort": lambda u: u.sort(1).values,
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_the_page_would_get_wrong_is_refused(reason):
    def function(u):
        return "mean", [REFUSED[reason](u)], {}

    with pytest.raises(Inexpressible, match=reason):
        layers_of(function, torch.zeros(1, 3), (3,))


def test_a_decoder_that_looks_at_the_other_rows_is_refused():
    class Centred(nn.Linear):
        def forward(self, z):
            h = super().forward(z)
            return h - 0.5 * h.mean(0, keepdim=True)

    view = view_of(untrained(VAE(decoder=Centred(2, 36), latent=2), pictures()))
    assert view.grid.reason == "what it does depends on the values, or on the other rows"


def test_large_weights_stay_in_single_precision():
    pair = VAE(decoder=MLP(()), latent=2, likelihood="normal")
    run = untrained(pair, pictures())
    assert view_of(run).half
    with torch.no_grad():
        pair.decoder.net.last.weight[0, 0] = 1e6  # beyond half precision
    view = view_of(run)
    assert not view.half
    points, means = view.checked
    (found,) = in_node([(view.layers, points, {})])
    torch.testing.assert_close(found, means.flatten(1).double(), rtol=1e-5, atol=1e-5)


def test_a_table_is_shown_in_its_own_units():
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)).double()
    x = x * torch.tensor([1.0, 50.0, 1e3]) + torch.tensor([0.0, 7.0, 1e5])
    data = Data.from_arrays(x.numpy(), valid=10, test=20, standardise=True)
    run = fit(VAE(latent=2), ELBO(), data, steps=3, batch_size=16, progress=False)
    page = page_of([view_of(run)], "table")
    values = values_of(page)
    decoder = values["runs"][0]["decoder"]
    means = array(values, decoder["means"], torch.float64).view(-1, 3)
    assert 9.5e4 < means[:, 2].mean() < 1.05e5
    shown = array(values, values["runs"][0]["test"]["x"], torch.float32).view(-1, 3)
    torch.testing.assert_close(shown.double(), run.preparation.restore(data.test.x).double())
    assert values["datum"]["kind"] == "bars"


def test_principal_components_are_the_plane():
    run = untrained(VAE(encoder=MLP((8,)), latent=3), pictures())
    view = view_of(run)
    codes = view.test.codes
    values, vectors = torch.linalg.eigh((codes - codes.mean(0)).T @ (codes - codes.mean(0)))
    wanted = vectors.flip(1)[:, :2].T
    inner = (view.plane.directions * wanted).sum(1).abs()
    torch.testing.assert_close(inner, torch.ones(2).double())
    torch.testing.assert_close(view.plane.share, (values / values.sum()).flip(0)[:2])


def test_a_generator_without_an_encoder_shows_draws_of_the_prior():
    view = view_of(untrained(GAN(latent=2, generator=MLP((8,))), pictures()))
    assert view.train is None
    assert view.test.codes.shape == (2000, 2)
    (found,) = in_node([(view.layers, view.checked[0], {})])
    torch.testing.assert_close(found, view.checked[1].flatten(1).double(), rtol=0, atol=1e-5)


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    pair = VAE(latent=3, encoder=MLP((8,)), decoder=MLP((8,)))
    return fit(pair, ELBO(), Data.named("digits", rows=300), steps=3, progress=False)


def test_the_page_allows_its_own_scripts_alone(run, tmp_path):
    page = explore(run, tmp_path / "page.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    assert allowed["default-src"] == "'none'"
    assert allowed["worker-src"] == "blob:"
    for what in ("script", "style"):
        text = re.search(f"<{what}>(.*?)</{what}>", page, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed[f"{what}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"https?:|<[^>]+ style=|<[^>]+ on\w+=|\bfetch\b|XMLHttp|@import", page)
    assert len(page) < 400_000


def test_rows_are_left_out_where_the_page_would_be_too_large(run):
    view = view_of(run)
    whole = page_of([view], "digits")
    small = page_of([view], "digits", limit=len(whole) - 1)
    assert len(small) < len(whole)
    found = values_of(small)["runs"][0]["train"]
    assert found["n"] < found["total"] == len(run.data.train)
    assert values_of(whole)["runs"][0]["test"]["n"] == len(run.data.test)


def test_a_page_of_mnist_is_below_three_megabytes():
    """Of the size that MNIST's pages have, with pixels that compress worse."""
    view = view_of(untrained(VAE(latent=50), torch.rand(3000, 1, 28, 28).numpy()))
    assert view.layers.weights > 200_000
    assert len(page_of([view], "noise")) < 3_000_000


def test_what_several_runs_share_is_held_once(run):
    view = view_of(run)
    one, two = page_of([view], "digits"), page_of([view, view], "digits")
    assert len(two) < len(one) + 10_000
    assert len(values_of(two)["runs"]) == 2


def test_a_run_without_a_map_is_shown_by_its_samples(run, tmp_path):
    pair = CVAE(latent=2, encoder=MLP((8,)), decoder=MLP((8,)))
    other = fit(pair, ELBO(), Data.named("digits", rows=300), steps=3, progress=False)
    path = explore([run, other], tmp_path / "page.html", names=["plain", "given labels"])
    first, second = values_of(path.read_text(encoding="utf-8"))["runs"]
    assert not first["reason"]
    assert second["reason"].startswith("paths need a pair of x alone")
    assert {*second["samples"]} == {"x", "x_mean"}
    with pytest.raises(Unavailable, match="CVAE: paths need a pair of x alone"):
        other.explore(tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_wrong_requests_are_refused(run, tmp_path):
    with pytest.raises(ValueError, match="give a run, or several"):
        explore([], tmp_path / "page.html")
    with pytest.raises(ValueError, match="a name for each of 1 runs, got 2"):
        explore(run, tmp_path / "page.html", names=["a", "b"])
    with pytest.raises(ValueError, match=r"data of one shape, got .*\(1, 6, 6\), \(1, 8, 8\)"):
        explore([run, untrained(VAE(latent=2), pictures())], tmp_path / "page.html")


def test_the_command_writes_the_page(run, tmp_path, capsys):
    folder, out = run.save(tmp_path / "run"), tmp_path / "page.html"
    assert main(["explore", str(folder), str(folder), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {out}: ")
    assert len(values_of(out.read_text(encoding="utf-8"))["runs"]) == 2
    assert main(["explore", str(folder), "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["explore", str(tmp_path), "--out", "page.txt"]) == 2
    errors = capsys.readouterr().err
    assert "out must end in .html" in errors
    assert "holds no run" in errors


def test_a_report_has_the_explorer_while_the_run_is_held(run, no_pixels):
    report = evaluate(run, metrics=["nll"], particles=2, limit=20)
    page = report.html()
    assert page.count("<iframe") == 1
    assert "default-src &#x27;none&#x27;" in page
    assert evaluate(run, metrics=["nll"], particles=2, limit=20, pictures=False).run() is None
    assert Held.__reduce__(report.run) == (Held, (None,))
    bare = Report(report.records, run=Held(None))
    assert "<iframe" not in bare.html()


def test_a_pyro_program_of_ones_own_is_explored(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.there, self.back = nn.Linear(5, 2), nn.Linear(2, 5)

        def model(self, x):
            pyro.module("own", self)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                loc = torch.exp(-self.back(z).abs())
                pyro.sample("x", dist.Normal(loc, 0.3).to_event(1), obs=x)

        def guide(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(self.there(x), 0.5).to_event(1))

    view = view_of(untrained(Own(), torch.rand(60, 5).numpy()))
    assert view.layers.head["kind"] == "normal"
    points = view.checked[0][:1].double().repeat(2000, 1)
    found, drawn = in_node(
        [(view.layers, view.checked[0], {}), (view.layers, points, {"sampled": True})]
    )
    torch.testing.assert_close(found, view.checked[1].double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(drawn.std(0), torch.full((5,), 0.3).double(), rtol=0.08, atol=0)
