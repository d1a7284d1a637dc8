"""Extractors and the rows of the table that read them, on data with planted defects."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from priory.data import Data
from priory.data.toys import RING
from priory.evaluation import METRICS, Sets, Unavailable, evaluate_samples
from priory.evaluation.rows import rows_of
from priory.evaluation.samples import classifier
from priory.evaluation.samples.features import (
    EXTRACTORS,
    digest,
    extractor,
    extractor_of,
)
from priory.evaluation.samples.pairwise import stream
from priory.evaluation.table import measure

ROWS = {name: row for name, row in METRICS.items() if row.group == "samples"}
SAMPLE_ROWS = [n for n in ROWS if n != "reconstruction" and not n.startswith("chain_")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    monkeypatch.setenv("PRIORY_CACHE", str(cache))
    monkeypatch.setattr(classifier, "_LEAST", 300)  # steps: enough for a test


@pytest.fixture(scope="module")
def digits():
    """Grey digits: training rows, fresh rows to compare with, and others to stand for dreams."""
    data = Data.named("digits")
    parts = [getattr(data, name).columns for name in ("train", "valid", "test")]
    x, y = (torch.cat([part[name] for part in parts]) for name in ("x", "y"))
    order = torch.randperm(len(x), generator=stream(0))
    x, y = x[order].float(), y[order]
    x = 0.98 * x + 0.02 * torch.rand(x.shape, generator=stream(1))  # no two rows are equal
    return SimpleNamespace(
        train={"x": x[:1100], "y": y[:1100]},
        test={"x": x[1100:1440], "y": y[1100:1440]},
        fresh={"x": x[1440:1780], "y": y[1440:1780]},
    )


def sets(digits, generated, **options):
    return Sets(digits.test, generated, reference=digits.train, n_samples=340, **options)


def value(draws, name):
    return ROWS[name].function(draws)


# Extractors


def test_classifier_is_a_function_of_its_training_rows(digits, cache, monkeypatch, tmp_path):
    first = extractor("auto", sets(digits, None))
    assert first.name == "classifier"
    assert len(first.digest) == 12
    hits = first.classes(rows_of(digits.test["x"])) == digits.test["y"]
    assert float(hits.double().mean()) > 0.9
    x = rows_of(digits.test["x"])
    assert first(x).shape == (340, 64)
    assert torch.equal(first(x), extractor("classifier", sets(digits, None))(x))
    before = torch.get_rng_state()
    monkeypatch.setenv("PRIORY_CACHE", str(tmp_path))
    torch.manual_seed(99)
    again = extractor("classifier", sets(digits, None))
    assert again.digest == first.digest
    assert [path.name for path in (tmp_path / "features").iterdir()] == [
        path.name for path in (cache / "features").iterdir()
    ]
    torch.set_rng_state(before)
    folder = next((tmp_path / "features").iterdir())
    weights = folder / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"oops")
    assert extractor("classifier", sets(digits, None)).digest == first.digest
    assert weights.read_bytes() == content


def test_classifier_leaves_no_trace_and_needs_no_cache(digits, monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("PRIORY_CACHE", str(blocked))
    monkeypatch.setattr(classifier, "_LEAST", 5)
    monkeypatch.setattr(classifier, "_MOST", 5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.no_grad(), pytest.warns(UserWarning, match="not kept for the next time"):
        classifier.trained_classifier(digits.train, (1, 8, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_images_get_convolutions():
    net = classifier.Classifier((1, 28, 28), 10)
    assert any(isinstance(layer, nn.Conv2d) for layer in net.modules())
    assert net(torch.zeros(3, 784)).shape == (3, 10)
    assert net.features(torch.zeros(3, 784)).shape == (3, classifier.FEATURES)


def test_labels_that_do_for_a_classifier():
    x = torch.zeros(10, 20)
    assert classifier.labelled({"x": x, "y": torch.arange(10) % 2})
    for y in (torch.arange(10), torch.zeros(10).long(), torch.zeros(10, 2).long(), torch.rand(10)):
        assert not classifier.labelled({"x": x, "y": y})
    with pytest.raises(Unavailable, match="needs training rows with labels"):
        classifier.trained_classifier({"x": x}, (20,))


def test_auto_takes_what_the_data_allow(digits):
    plain = {"x": digits.train["x"]}
    assert extractor("auto", Sets(digits.test)).name.startswith("pca")
    assert extractor("auto", Sets(digits.test, reference=plain)).name.startswith("pca")
    low = {"x": rows_of(digits.test["x"])[:, :16]}
    assert extractor("auto", Sets(low)).name == "identity"


def test_principal_components_are_sklearns(digits):
    from sklearn.decomposition import PCA

    found = extractor("pca", sets(digits, None))
    x = rows_of(digits.train["x"]).double()
    other = PCA(0.95, svd_solver="full").fit(x.numpy())
    fresh = rows_of(digits.test["x"]).double()
    assert found(fresh).shape[1] == other.n_components_
    truth = other.transform(fresh.numpy())
    assert np.allclose(np.abs(found(fresh).numpy()), np.abs(truth), atol=1e-8)
    assert found.digest == extractor("pca", sets(digits, None)).digest
    assert found.digest != extractor("pca", Sets(digits.test)).digest


def test_own_extractors(digits):
    x = rows_of(digits.test["x"])
    module = nn.Sequential(nn.Conv2d(1, 2, 8), nn.Dropout(0.5))
    found = extractor(module, sets(digits, None))
    assert found(x).shape == (340, 2)
    assert torch.equal(found(x), found(x))  # no dropout
    assert module.training
    assert module[1].training
    with torch.no_grad():
        module[0].weight += 1
    assert extractor(module, sets(digits, None)).digest != found.digest
    means = extractor(lambda rows: rows.mean((1, 2, 3)), sets(digits, None))
    assert torch.allclose(means(x).flatten(), x.double().mean(1), atol=1e-6)
    assert extractor(means, sets(digits, None)) is means
    with pytest.raises(Unavailable, match="know no classes"):
        means.classes(x)
    with pytest.raises(ValueError, match="unknown features 'inceptoin', nearest 'inception'"):
        extractor("inceptoin", sets(digits, None))
    with pytest.raises(ValueError, match="a module or a function, got int"):
        extractor(3, sets(digits, None))


def test_inception_names_what_to_install(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(ImportError, match=r"pip install 'priory\[fid\]'"):
        extractor("inception", sets(digits, None))
    with pytest.raises(Unavailable, match="images of 1 or 3 channels"):
        extractor("inception", Sets({"x": torch.rand(9, 20)}))


def test_inception_is_given_bytes_of_three_channels(digits, monkeypatch):
    class Network(nn.Module):
        def __init__(self, name, features):
            super().__init__()
            assert features == ["2048"]
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            assert x.dtype == torch.uint8
            assert x.shape[1:] == (3, 8, 8)
            return (x.double().mean((2, 3)),)

    name = "torch_fidelity.feature_extractor_inceptionv3"
    library = ModuleType(name)
    library.FeatureExtractorInceptionV3 = Network
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, name, library)
    found = extractor("inception", sets(digits, None))
    x = rows_of(digits.test["x"])
    assert torch.allclose(found(x), x.double().mean(1, keepdim=True).expand(-1, 3) * 255, atol=0.5)


def test_digests_tell_apart():
    one, two = torch.zeros(4), torch.zeros(2, 2)
    marks = {digest(one), digest(two), digest(one.double()), digest({"a": one}), digest("a", one)}
    assert len(marks) == 5
    assert digest({"a": one, "b": two}) == digest({"b": two, "a": one})


def test_every_extractor_is_a_row():
    assert {"auto", "classifier", "identity", "inception", "pca"} == set(EXTRACTORS)


# Rows


@pytest.fixture(scope="module")
def whole(digits):
    return sets(digits, digits.fresh["x"])


@pytest.mark.parametrize("name", SAMPLE_ROWS)
def test_row_is_one_sentence_and_answers_alone_as_among_others(name, digits, whole):
    row = ROWS[name]
    sentence = row.function.__doc__.strip()
    assert sentence.endswith(".")
    assert "\n" not in sentence
    alone = sets(digits, digits.fresh["x"])
    records = [measure(name, row, draws) for draws in (alone, whole)]
    assert [r.as_dict() for r in records[0]] == [r.as_dict() for r in records[1]]
    assert len(records[0]) == (3 if row.anchored else 1)
    if name in ("mmd_hamming", "modes", "high_quality", "mode_kl", "label_agreement"):
        assert not records[0][0].applicable
    else:
        assert records[0][0].applicable
        turned = measure(name, row, sets(digits, digits.fresh["x"].flip(0)))[0]
        close = 0.1 if name in ("mmd_p", "c2st") else 1e-6 * max(1, abs(records[0][0].value))
        assert turned.value == pytest.approx(records[0][0].value, abs=close)


def test_equal_laws_pass_every_row(digits):
    draws = sets(digits, digits.fresh["x"])
    for name in ("mmd", "mmd_imq", "energy", "kernel_distance"):
        assert abs(value(draws, name).value) < 3 * value(draws, name).se
    assert value(draws, "mmd_p").value > 0.01
    for name in ("c2st", "c2st_1nn", "memorisation"):
        assert abs(value(draws, name).value - 0.5) < 3.5 * value(draws, name).se
    assert value(draws, "coverage").value == pytest.approx(0.969, abs=0.04)
    assert value(draws, "density").value == pytest.approx(1.0, abs=0.12)
    assert not [n for n in SAMPLE_ROWS if ROWS[n].needs and n.startswith(("copied", "memo", "c2st"))
                and value(draws, n).warnings]  # fmt: skip


def test_a_dropped_class_costs_recall_and_not_precision(digits):
    kept = digits.fresh["x"][digits.fresh["y"] >= 5]
    good, bad = sets(digits, digits.fresh["x"]), sets(digits, kept)
    for name in ("recall", "coverage"):  # at 5 of 10 classes
        assert value(bad, name).value < value(good, name).value - 0.1
    assert value(bad, "precision").value > value(good, "precision").value - 0.02
    found = value(bad, "class_kl")
    assert found.value > 0.25
    assert "of 10 classes generated" in found.note
    assert value(good, "class_kl").value < 0.05


def test_blur_costs_precision_and_distance(digits):
    blurred = nn.functional.avg_pool2d(digits.fresh["x"], 3, 1, 1)
    good, bad = sets(digits, digits.fresh["x"]), sets(digits, blurred)
    assert value(bad, "precision").value < value(good, "precision").value
    for name in ("density", "coverage"):
        assert value(bad, name).value < 0.7 * value(good, name).value
    for name in ("frechet", "kernel_distance", "mmd", "energy", "sliced_wasserstein"):
        assert value(bad, name).value > value(good, name).value + 3 * value(bad, name).se
    assert value(bad, "mmd_p").value < 0.01
    assert value(bad, "c2st").value > 0.7
    assert abs(value(bad, "memorisation").value - 0.5) < 3.5 * value(bad, "memorisation").se
    assert not value(bad, "copied").warnings


def test_copies_move_memorisation_and_nothing_else(digits):
    good = sets(digits, digits.fresh["x"])
    copies = Sets(digits.test, digits.train["x"], reference=digits.train)
    for name in ("memorisation", "copied"):
        assert value(copies, name).value == 1.0
    assert value(copies, "c2st_1nn_train").value == 0.0
    assert "as copies do" in value(copies, "c2st_1nn_train").warnings[0]
    assert "the model copies" in value(copies, "memorisation").warnings[0]
    assert "all but training rows" in value(copies, "copied").warnings[0]
    for name in ("mmd", "energy", "kernel_distance", "frechet", "recall", "precision"):
        a, b = value(good, name), value(copies, name)
        assert abs(a.value - b.value) < 4 * (a.se**2 + b.se**2) ** 0.5 + 0.02
    upon = Sets(digits.test, digits.test["x"], features="pca")
    assert value(upon, "c2st_1nn").value == 0.0
    assert value(upon, "c2st_1nn").warnings


def test_binary_data_have_their_own_kernel():
    x = (torch.rand(90, 20, generator=stream(0)) < 0.4).double()
    y = (torch.rand(80, 20, generator=stream(1)) < 0.6).double()
    found = value(Sets({"x": x}, y), "mmd_hamming")
    truth = sum(
        sign * torch.exp(-(a.unsqueeze(1) != b).sum(2) / 20).sum() / pairs
        for a, b, sign, pairs in ((x, x, 1, 90 * 89), (y, y, 1, 80 * 79), (x, y, -2, 90 * 80))
    ) - (90 / (90 * 89) + 80 / (80 * 79))
    assert found.value == pytest.approx(float(truth), abs=1e-6)
    assert found.value > 3 * found.se
    with pytest.raises(Unavailable, match="the samples are not binary"):
        value(Sets({"x": x}, y + 0.1), "mmd_hamming")


def test_modes_of_a_known_mixture():
    x, mode = (torch.from_numpy(part) for part in RING.draw(4000, np.random.default_rng(0)))
    draws = Sets({"x": x[:2000]}, x[2000:][mode[2000:] != 5])
    with pytest.raises(Unavailable, match="no mixture whose modes are known"):
        value(draws, "modes")
    draws.mixture = RING
    assert value(draws, "modes").value == 7
    assert value(draws, "mode_kl").value == pytest.approx(np.log(8 / 7), abs=0.01)
    quality = value(draws, "high_quality")
    assert quality.value == pytest.approx(0.9889, abs=3 * quality.se)
    assert "0.9889 for a perfect sampler" in quality.note
    draws = Sets({"x": x[:2000]}, RING.centres[mode])
    draws.mixture = RING
    assert "over-concentrated" in value(draws, "high_quality").warnings[0]


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6])
def test_no_number_of_rows_is_too_few_to_answer(rows):
    x = torch.rand(rows, 20, generator=stream(rows))
    for data in (x, torch.zeros(rows, 20)):
        columns = {"x": data, "y": torch.zeros(rows).long()}
        for draws in (Sets(columns, x, reference=columns, n_samples=50), Sets(columns, x)):
            for name in SAMPLE_ROWS:
                assert all(record.name for record in measure(name, ROWS[name], draws))


def test_few_rows_and_broken_dreams_are_told(digits):
    draws = Sets({"x": torch.rand(2, 20)}, torch.rand(2, 20), features="identity")
    for name in ("mmd", "precision", "c2st"):
        assert "needs at least" in measure(name, ROWS[name], draws)[0].note
    broken = digits.fresh["x"].clone()
    broken[7] = torch.nan
    for name in SAMPLE_ROWS:
        record = measure(name, ROWS[name], sets(digits, broken))[0]
        assert not record.applicable
    few = Sets({"x": rows_of(digits.test["x"])[:30]}, rows_of(digits.fresh["x"])[:30])
    few.features = "identity"
    assert "do not span 64 features" in value(few, "frechet").warnings[0]


def test_records_name_the_extractor_and_anchors_share_it(digits):
    draws = sets(digits, digits.fresh["x"], features=lambda x: x.flatten(1)[:, :20])
    found = measure("frechet", ROWS["frechet"], draws)
    mark = extractor_of(draws)
    assert mark.digest in found[0].note
    assert [record.name for record in found] == ["frechet", "frechet_real", "frechet_baseline"]
    assert found[1].value < found[2].value


@pytest.mark.data
def test_real_digits_pass_and_clothes_do_not():
    data = Data.named("mnist", rows=4000)
    x, y = data.test.x, data.test.columns["y"]
    real = {"x": x[:1000], "y": y[:1000]}
    options = {"train": data.train, "pictures": False, "n_samples": 1000}
    metrics = ["mmd_p", "frechet", "coverage", "recall", "c2st_1nn", "memorisation"]
    fresh = evaluate_samples(x[1000:2000], real, metrics=metrics, **options)
    clothes = Data.named("fashion-mnist").test.x[:1000]
    other = evaluate_samples(clothes, real, metrics=metrics, **options)
    assert "classifier features" in fresh["frechet"].note
    assert fresh["mmd_p"].value > 0.01 > other["mmd_p"].value
    assert abs(fresh["coverage"].value - 0.97) < 0.03
    assert other["coverage"].value < 0.2
    assert abs(fresh["c2st_1nn"].value - 0.5) < 0.06
    assert other["c2st_1nn"].value > 0.9
    assert other["frechet"].value > 20 * fresh["frechet"].value
    assert abs(fresh["memorisation"].value - 0.5) < 0.1
