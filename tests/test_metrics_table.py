"""Every metric's number is the data's and the pair's, not of the order of rows or of blocks."""

import copy
import importlib
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pairs import LinearGaussian
from priory import evaluate, evaluate_samples, fit
from priory.data import Data
from priory.data.toys import RING
from priory.evaluation import METRICS
from priory.evaluation.samples import classifier
from priory.evaluation.table import GROUPS
from priory.inference import ELBO
from priory.models import DAE, VAE, VIB, CycleGAN, Diffusion, GaussianNaiveBayes, HierarchicalVAE
from priory.nets import MLP, TimeMLP
from priory.priors import GaussianMixture, NestedCRP

SMALL = {"particles": 40, "steps": 6, "few": 4, "pictures": False}

# Rows at a time, everywhere: no number may depend on them.
BLOCKS = {
    "draws": "_ROWS",
    "likelihood.ais": "_VALUES",
    "likelihood.bound": "_PARTICLES",
    "likelihood.conditional": "_VALUES",
    "likelihood.imputation": "_VALUES",
    "likelihood.steps": "_ROWS",
    "latents.information": "_BYTES",
    "insight.density": ("_BYTES", "_ROWS"),
    "latents.categorical": "_ROWS",
    "latents.layers": "_ROWS",
    "latents.clustering": "_ROWS",
    "interpolation.codec": "_ROWS",
    "interpolation.translation": "_ROWS",
    "posterior.calibration": "_ROWS",
    "samples.pairwise": "_ELEMENTS",
    "samples.discrepancy": "_ELEMENTS",
    "samples.transport": "_DIRECTIONS",
    "samples.features": "_ROWS",
}


class Labelled(torch.nn.Module):
    """A linear pair whose model observes labels besides x."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(2, 4, generator=draw).double())
        self.means = torch.nn.Parameter(torch.randn(3, 4, generator=draw).double())

    def model(self, x, y):
        pyro.module("labelled", self)
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(self.weight.new_full((3,), 1 / 3)), obs=y)
            z = pyro.sample("z", dist.Normal(self.weight.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.weight + self.means[y], 0.7).to_event(1), obs=x)

    def guide(self, x, y):
        pyro.module("labelled", self)
        precision = self.weight @ self.weight.T + 0.49 * torch.eye(2).to(self.weight)
        mean = torch.linalg.solve(precision, self.weight @ (x - self.means[y]).T).T
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.MultivariateNormal(mean, 0.49 * torch.linalg.inv(precision)))


class Coded(torch.nn.Module):
    """A code of three values, which its dream nearly determines."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.means = torch.nn.Parameter(torch.randn(3, 4, generator=draw).double())

    def model(self, x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.OneHotCategorical(self.means.new_full((3,), 1 / 3)))
            pyro.sample("x", dist.Normal(c @ self.means, 0.7).to_event(1), obs=x)

    def guide(self, x):
        distance = (x.unsqueeze(-2) - self.means).square().sum(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("c", dist.OneHotCategorical(logits=-distance))


def coins(x):
    """A background that knows of nothing: fair coins."""
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("x", dist.Bernoulli(torch.full_like(x, 0.5)).to_event(x.dim() - 1), obs=x)


def shuffled(columns, order):
    return {name: value[order] for name, value in columns.items()}


def parts(columns, train):
    """Columns as `evaluate` takes a `Data`: with training rows."""
    return SimpleNamespace(train=train, valid=columns, test=columns, name="set")


@pytest.fixture(scope="module")
def stages():
    """Pairs and data on which, together, every metric has a value."""
    torch.manual_seed(0)
    digits = Data.named("digits", binarise="threshold")
    run = fit(
        VAE(GaussianMixture(10), latent=4), ELBO(), digits, epochs=4, valid_every=0, progress=False
    )
    pair = run.pair.double()
    test = {"x": digits.test.x[:90].double(), "y": digits.test.columns["y"][:90]}
    train = {"x": digits.train.x[:300].double(), "y": digits.train.columns["y"][:300]}
    strange = {"x": 1 - test["x"][:40]}
    flat = SimpleNamespace(model=coins, guide=lambda x: None)
    rng = np.random.default_rng(0)
    points, far = (torch.from_numpy(RING.draw(150, rng)[0]) for _ in range(2))
    linear = LinearGaussian(latent=2, observed=4, widen=1.3)
    z = torch.randn(200, 2, generator=torch.Generator().manual_seed(1)).double()
    noise = torch.randn(200, 4, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        x = z @ linear.w.T + linear.b + linear.log_s.exp() * noise
    factors = {"x": x, "factor_a": z[:, 0], "factor_b": z[:, 1]}
    turning, domains = CycleGAN(MLP(hidden=()), MLP(hidden=())), {"x": x[:, :2], "other": x[:, 2:]}
    turning.build(domains["x"])
    labelled = Labelled()
    y = torch.arange(60) % 3
    with torch.no_grad():
        seen = z[:60] @ labelled.weight + labelled.means[y] + 0.7 * noise[:60]
    paths = torch.stack([y // 2, y], 1)
    layered = HierarchicalVAE(latents=(2, 1))
    layered.build(seen)
    broken = VAE("stick-breaking", MLP((4,)), MLP((4,)), latent=3)
    broken.build(seen)
    tree = VAE(NestedCRP(2, 2), MLP((4,)), MLP((4,)), latent=2)
    tree.build(seen)
    chain = Diffusion(TimeMLP(4, 1), timesteps=5, noise="cosine")
    chain.build(seen)
    denoiser = DAE(MLP((4,)), burn_in=2)
    denoiser.build(seen)
    bayes, bottleneck = GaussianNaiveBayes(), VIB(latent=2)
    for built in (bayes, bottleneck):
        built.build(seen, y)

    def judge(order, dtype=torch.float64, seed=0, device="cpu"):
        def cast(columns):
            return {k: v.to(dtype) if v.is_floating_point() else v for k, v in columns.items()}

        def judged(model, columns, names, train=None, **options):
            rows = torch.arange(len(columns["x"]))
            columns = cast(shuffled(columns, rows if order is None else order(len(rows))))
            data = columns if train is None else parts(columns, cast(train))
            return evaluate(
                copy.deepcopy(model).to(dtype), data, metrics=names, seed=seed, **SMALL, **options
            )

        ring = points if order is None else points[order(len(points))]
        reports = [
            judged(pair, test, ["all"], train, outliers=strange, background=flat),
            judged(linear, factors, ["latents"]),
            judged(labelled, {"x": seen, "y": y}, ["conditional_nll"]),
            judged(turning, domains, ["paths"]),
            judged(layered, {"x": seen}, ["layer_loss"]),
            judged(broken, {"x": seen}, ["sticks"]),
            judged(chain, {"x": seen}, ["end_kl"]),
            judged(denoiser, {"x": seen}, ["chain_burn_in", "chain_rhat", "chain_ess"]),
            judged(tree, {"x": seen, "y": y, "path": paths}, ["level_ari", "dendrogram_purity"]),
            judged(bayes, {"x": seen, "y": y}, ["accuracy", "label_nll"]),
            judged(bottleneck, {"x": seen, "y": y}, ["label_information"]),
            judged(Coded(), {"x": seen, "y": y}, ["code_information", "code_accuracy"]),
            judged(labelled, {"x": seen, "y": y}, ["label_agreement"], {"x": seen, "y": y}),
            evaluate_samples(
                far.to(dtype),
                SimpleNamespace(
                    train={"x": ring.to(dtype)},
                    valid={"x": ring.to(dtype)},
                    test={"x": ring.to(dtype)},
                    density=RING,
                    name="ring",
                ),
                seed=seed,
                pictures=False,
            ),
        ]
        found = {}
        for report in reports:
            for record in report:
                if record.name not in found and record.applicable:
                    found[record.name] = record
        return found

    return judge


def shuffle(n):
    return torch.randperm(n, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def numbers(stages):
    """Every metric's record: as it is, and with one thing changed that should not matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "_LEAST", 100)  # any net will do
        found = {
            "again": stages(None),
            "order": stages(shuffle),
            "single": stages(None, torch.float32),
            "base": stages(None),
        }
        for part, names in BLOCKS.items():
            module = importlib.import_module(f"priory.evaluation.{part}")
            for name in [names] if isinstance(names, str) else names:
                size = getattr(module, name)
                patch.setattr(
                    module, name, max(size // 4096, 1024) if size > 10_000 else size // 16
                )
        found["blocks"] = stages(None)
    return found


# What each metric is the same under to the last digits: the order of rows, the size of blocks.
# Where it is not, each row or block has noise of its own, and numbers agree within their errors.
EXACT = {
    **dict.fromkeys(("conditional_nll", "active_units", "knn_accuracy", "linear_probe"), "both"),
    **dict.fromkeys(("clustering_hungarian", "clustering_majority"), "both"),
    **dict.fromkeys(("code_accuracy", "accuracy", "label_nll"), "both"),
    **dict.fromkeys(("code_information",), "order"),
    **dict.fromkeys(("clustering_confident", "nmi", "ari", "mig", "sap"), "both"),
    **dict.fromkeys(("end_kl", "chain_burn_in", "chain_rhat", "chain_ess"), "both"),
    **dict.fromkeys(("level_ari", "dendrogram_purity"), "both"),
    **dict.fromkeys(("modes", "high_quality", "mode_kl", "rare", "copied"), "both"),
    **dict.fromkeys(("pairing_accuracy", "pairing_accuracy_back", "cycle_error"), "both"),
    **dict.fromkeys(("mmd", "mmd_imq", "mmd_hamming", "mmd_p", "energy"), "order"),
    **dict.fromkeys(("sliced_wasserstein", "wasserstein", "frechet", "kernel_distance"), "order"),
    **dict.fromkeys(("precision", "recall", "density", "coverage", "c2st_1nn"), "order"),
    **dict.fromkeys(("c2st_1nn_train", "memorisation", "class_kl", "calibration"), "order"),
    **dict.fromkeys(("label_agreement",), "order"),
    **dict.fromkeys(("bdmc",), "order"),
    **dict.fromkeys(("nll", "elbo", "ess", "khat", "bits_per_dim"), "blocks"),
    **dict.fromkeys(("predictive_p", "predictive_outliers"), "blocks"),
    **dict.fromkeys(("dci_disentanglement", "dci_completeness", "dci_informativeness"), "blocks"),
    **dict.fromkeys(("outlier_auroc", "outlier_auroc_complexity"), "blocks"),
    **dict.fromkeys(("outlier_auroc_ratio",), "blocks"),
    **dict.fromkeys(("arithmetic_target", "arithmetic_identity", "round_trip"), "blocks"),
    **dict.fromkeys(("imputation_nll", "ais", "inference_gap", "approximation_gap"), "neither"),
    **dict.fromkeys(("amortisation_gap", "kl", "mutual_information", "mismatch"), "neither"),
    **dict.fromkeys(
        (
            "distortion",
            "label_information",
            "layer_loss",
            "sticks",
            "reconstruction",
            "c2st",
            "latent_mmd",
            "latent_sliced",
        ),
        "neither",
    ),
}
NOISE = {"predictive_p": 0.1, "dci_disentanglement": 0.2, "dci_completeness": 0.2}  # without error
NOISE |= {"chain_burn_in": 4.0, "chain_rhat": 1.0, "chain_ess": 1.0}  # few chains, of few steps


def near(name, one, other):
    if one.se is None:
        return abs(one.value - other.value) <= NOISE.get(name, 1e-9)
    return abs(one.value - other.value) <= 4 * math.hypot(one.se, other.se) + 1e-9


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_depends_on_data_and_pair_alone(name, numbers):
    assert name in EXACT, f"say in EXACT what {name} is the same under"
    assert name in numbers["base"], f"no stage has a value of {name}: it is not tested"
    base = numbers["base"][name]
    assert numbers["again"][name].value == base.value
    assert numbers["again"][name].se == base.se
    for change in ("order", "blocks"):
        other = numbers[change][name]
        if EXACT[name] in (change, "both"):
            assert other.value == pytest.approx(base.value, rel=1e-7, abs=1e-7), change
        else:
            assert near(name, base, other), change
    assert near(name, base, numbers["single"][name]), "in float32"


@pytest.mark.cuda
def test_numbers_on_cuda_agree(numbers, stages):
    found = stages(None, device="cuda")
    for name in EXACT:
        assert near(name, numbers["base"][name], found[name]), name


def test_no_metric_is_tested_that_there_is_not():
    assert EXACT.keys() <= METRICS.keys()


def test_every_metric_is_explained_in_its_group():
    text = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    parts = {part.split(":")[0]: part for part in text.split("\n### ")[1:]}
    assert parts.keys() == {*GROUPS}
    for name, metric in METRICS.items():
        assert f"`{name}`" in parts[metric.group], f"{name} is missing under {metric.group}"
        assert not metric.slow or f"`{name}` ↓ *slow*" in parts[metric.group], name
