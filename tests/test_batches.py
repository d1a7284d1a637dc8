"""Batches that are taken as they come: their order and draws, resuming, and what is refused."""

import itertools
import random
import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, TensorDataset

from priory import evaluate, fit, load
from priory.cli import main
from priory.data import Data
from priory.inference import ELBO, EM
from priory.models import GMM, VAE
from priory.nets import MLP
from priory.recipes.find import object_in

QUIET = {"valid_every": 0, "progress": False, "device": "cpu"}
X = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32))
Y = torch.arange(60) % 3


class Noisy(Dataset):
    """Rows with noise by each of the three global generators."""

    def __len__(self):
        return 60

    def __getitem__(self, i):
        noise = torch.randn(()) + float(np.random.normal()) + random.gauss(0, 1)  # noqa: NPY002
        return X[i] + 0.1 * noise, Y[i]


def loader(**options):
    return DataLoader(Noisy(), batch_size=16, shuffle=True, **options)


def trained(data, **options):
    torch.manual_seed(0)
    pair = VAE(encoder=MLP((5,)), decoder=MLP((5,)), latent=2)
    pair.build(X)
    return fit(pair, ELBO(), data, **{"steps": 3, **QUIET, **options})


def same(one, other):
    return all(map(torch.equal, one.pair.parameters(), other.pair.parameters()))


def test_batches_that_come_in_our_order_train_to_the_same_bits():
    held = Data.from_arrays(X, Y, valid=0, test=0)
    served = {"epoch": 0, "seed": 0, "shuffle": True}

    def batches():
        for batch in held.train.batches(16, **served):
            yield {n: c for n, c in batch.items() if n != "index"}

    data = Data.of(batches, valid={"x": X[:5], "y": Y[:5]})
    assert [len(s) for s in (data.train, data.valid, data.test)] == [48, 5, 0]
    assert "batches of 16 as they come" in repr(data)
    assert same(trained(data), trained(held, batch_size=16))
    with pytest.raises(ValueError, match="test split has no rows"):
        evaluate(trained(data), pictures=False)


@pytest.mark.parametrize("options", [{}, {"generator": torch.Generator()}])
def test_a_loader_that_shuffles_and_transforms_is_taken_up_to_the_same_bits(tmp_path, options):
    states = torch.get_rng_state(), np.random.get_state()[2], random.getstate()  # noqa: NPY002
    data = Data.of(loader(**options))
    assert len([*data.train.batches(16, shuffle=True)]) == 3
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[2] == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]
    one = trained(data, steps=5, seed=3)
    folder = {"folder": tmp_path / "run", "seed": 3}
    trained(data, steps=4, **folder)
    again = trained(Data.of(loader(**options)), steps=5, resume=True, **folder)
    assert same(one, again)
    assert again.config["batch_size"] == 16
    assert not same(one, trained(data, steps=5, seed=4))
    passes = [next(data.train.batches(16, epoch=e, shuffle=True))["x"] for e in (0, 1)]
    assert not torch.equal(*passes)


def test_ranks_share_each_batch_of_a_source_that_comes_again():
    train = Data.of(loader()).train
    whole = next(train.batches(16, epoch=2, shuffle=True))
    parts = [next(train.batches(16, epoch=2, shuffle=True, shard=(r, 2))) for r in (0, 1)]
    for name in ("x", "y"):
        assert torch.equal(torch.cat([part[name] for part in parts]), whole[name])
    counter = itertools.count()
    moving = Data.of(lambda: iter([X + next(counter)]))
    assert "never the same" in repr(moving)
    assert trained(moving).history[-1]["loss"]
    for options in ({"shard": (0, 2)}, {"start": 1}):
        with pytest.raises(ValueError, match="the batches come otherwise each time"):
            next(moving.train.batches(60, shuffle=True, **options))


def test_batches_are_prepared_as_the_first_ones():
    grey = torch.arange(64).reshape(16, 1, 2, 2).to(torch.uint8)
    names = np.array(["owl", "cat"])[np.arange(16) % 2]
    batches = [(grey[:4] % 2, names[:4]), *((grey[i : i + 4], names[:4]) for i in (4, 8, 12))]
    data = Data.of(lambda: iter(batches))
    assert data.classes == ("cat", "owl")
    found = [*data.train.batches(4, shuffle=True)]
    assert torch.equal(found[3]["x"], grey[12:].float() / 255)
    assert found[0]["y"].tolist() == [1, 0, 1, 0]
    far = Data.of(lambda: iter([X.double()[:30] + 1e9, X.double()[30:] + 1e9]))
    torch.testing.assert_close(far.restore(far.train.x)[:60], X.double() + 1e9, rtol=0, atol=1e-6)
    own = [*far.train.batches(30, shuffle=True)]
    torch.testing.assert_close(own[1]["x"] - own[1]["x"][0], X[30:] - X[30], rtol=0, atol=1e-6)
    lengths = [torch.tensor([2, 3]), torch.tensor([5, 1])]
    steps = [torch.rand(2, int(n.max()), 2) for n in lengths]
    padded = Data.of(lambda: ({"x": x, "length": n} for x, n in zip(steps, lengths, strict=True)))
    assert [b["x"].shape for b in padded.train.batches(2, shuffle=True)] == [(2, 5, 2)] * 2


def cut(rows):
    return lambda: iter(X[:rows].split(16))


def endless():
    return (X[:16] + i for i in itertools.count())


def growing():
    calls = itertools.count()
    return lambda: iter([X] * (3 if next(calls) < 2 else 1))


REFUSED = {
    "share": (loader, {"valid": 0.1}, "valid=0.1 would be taken off batches"),
    "standardise": (loader, {"standardise": True}, "have no standardise: prepare them"),
    "dynamic": (loader, {"binarise": "dynamic"}, "have no binarise='dynamic'"),
    "sizes": (lambda: iter([X[:8], X[:9]]), {}, "batch 1 has 9 rows, the first 8"),
    "middle": (lambda: iter([X[:8], X[:7], X[:8]]), {}, "batch 2 has 8 rows, the first 8"),
    "shapes": (lambda: iter([X, X[:, :2]]), {}, r"of batch 1 has rows of shape \(2,\)"),
    "nan": (lambda: iter([X, X * np.nan]), {}, "batch 1: column 'x' has nan in row 0"),
    "none": (lambda: iter([]), {}, "there is no batch"),
    "unknown": (lambda: iter([(X, Y - 1)]), {}, "need every label, and some are unknown"),
    "weight": (lambda: iter([{"x": X, "weight": Y}]), {}, "have no column 'weight'"),
    "rows": (lambda: iter([{"x": X, "t": Y[:3]}]), {}, "batch 0 has 60 rows of x, and others"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_batches_cannot_do_is_refused(case):
    given, options, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        Data.of(given() if given is loader else given, **options)


def test_what_a_run_on_batches_cannot_do_is_refused():
    data = Data.of(cut(60))
    with pytest.raises(ValueError, match=r"the batches have 16 rows .* got batch_size=32"):
        trained(data, batch_size=32)
    with pytest.raises(ValueError, match="takes all 48 training rows in one batch"):
        fit(GMM(2), EM(), data, **QUIET)
    with pytest.raises(ValueError, match="pass 0 has 1 batches, and the first had 3"):
        trained(Data.of(growing()), steps=3)
    with pytest.raises(ValueError, match="can't be made again from a config: pass the same loader"):
        Data.open(**data.config)
    endlessly = Data.of(endless, batches=4)
    assert len(endlessly.train) == 64
    assert trained(endlessly, steps=9).history[-1]["epoch"] == 3
    sampler = DistributedSampler(TensorDataset(X), num_replicas=2, rank=0)
    with pytest.raises(ValueError, match="DistributedSampler gives each rank other rows"):
        Data.of(DataLoader(TensorDataset(X), sampler=sampler))
    assert Data.of(lambda: {"x": X}).config["name"] == "arrays"


FILE = """
import numpy as np, pandas as pd, torch
from torch.utils.data import DataLoader, TensorDataset

X = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32))
table = pd.DataFrame(X.numpy(), columns=list("abc"))

def batches():
    return DataLoader(TensorDataset(X), batch_size=16, shuffle=True)
"""


def test_rows_of_a_file_of_ones_own_are_taken_on_the_command_line(tmp_path, capsys):
    (tmp_path / "own.py").write_text(FILE)
    own = f"{tmp_path}/own.py"
    short = ["--latent", "2", "--encoder", "mlp:5", "--decoder", "mlp:5", "--steps", "3"]
    out = f"{tmp_path}/run"
    main(["fit", "vae", "--data", f"{own}:batches", *short, "--out", out])
    assert "batches: 48 train, 0 valid, 0 test" in capsys.readouterr().out
    assert load(out, data=Data.of(object_in(own, "batches"))).config["batch_size"] == 16
    table = f"{tmp_path}/table"
    main(["fit", "vae", "--data", f"{own}:table", "--valid", "5", *short, "--out", table])
    assert "table: 49 train, 5 valid, 6 test" in capsys.readouterr().out
    main(["score", table, "--data", f"{own}:table", "--out", f"{tmp_path}/a.csv"])
    load(table, data=Data.of(object_in(own, "table"))).score(object_in(own, "table"))
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 61
    for name, words in (("tabel", "nearest 'table'"), ("", "name what .* has the rows in")):
        assert main(["fit", "vae", "--data", f"{own}:{name}".rstrip(":"), "--out", f"{tmp_path}/x"])
        assert re.search(words, capsys.readouterr().err)
