"""A run goes on, begins another one, or is opened where its training file is gone."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from priory import evaluate, fit, load
from priory.cli import main
from priory.data import Data
from priory.inference import ELBO
from priory.inference.checkpoints.resume import check_request
from priory.models import VAE
from priory.nets import MLP


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A folder to work in, with a table of rows."""
    monkeypatch.chdir(tmp_path)
    rows = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    text = "\n".join(",".join(f"{v:.6f}" for v in row) for row in rows.tolist())
    (tmp_path / "rows.csv").write_text(f"a,b,c\n{text}\n")
    return tmp_path


SMALL = ["--latent", "2", "--encoder", "mlp:8", "--decoder", "mlp:8", "--batch-size", "16"]
SMALL += ["--no-progress", "--schedule", "constant"]


def said(capsys, line, *more):
    code = main([*line.split(), *more])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


@pytest.mark.parametrize("auto", [["--resume=auto"], ["--resume", "auto"]])
def test_auto_begins_and_goes_on(capsys, table, auto):
    line = "fit vae --data rows.csv --out run --steps"
    assert said(capsys, f"{line} 3", *SMALL, *auto)[0] == 0
    assert said(capsys, f"{line} 6", *SMALL, *auto)[0] == 0
    assert load("run").history[-1]["step"] == 6
    assert said(capsys, "fit run --steps 9", *auto)[0] == 0
    assert load("run").history[-1]["step"] == 9
    code, _, err = said(capsys, "fit vae --resume=perhaps")
    assert (code, "--resume takes true, auto or false, got 'perhaps'" in err) == (2, True)


def test_a_warm_start_takes_the_weights_alone(capsys, table):
    assert said(capsys, "fit vae --data rows.csv --out run --steps 3", *SMALL)[0] == 0
    code, out, _ = said(capsys, "fit run --warm --out warm --lr 1e-30 --steps 2")
    assert code == 0
    assert "warm start: the weights of run, with a new optimiser" in out
    first, second = load("run"), load("warm")
    assert second.config["lr"] == 1e-30
    assert second.history[-1]["step"] == 2
    for name, value in first.pair.state_dict().items():
        torch.testing.assert_close(second.pair.state_dict()[name], value)
    (table / "more.csv").write_text((table / "rows.csv").read_text() + "1,2,3\n")
    assert said(capsys, "fit run --warm --out other --data more.csv --epochs 1")[0] == 0
    assert load("other").data.config["name"].endswith("more.csv")


def test_other_options_name_the_warm_start(capsys, table):
    assert said(capsys, "fit vae --data rows.csv --out run --steps 3", *SMALL)[0] == 0
    (table / "more.csv").write_text((table / "rows.csv").read_text() + "1,2,3\n")
    for line in ("--lr 0.1", "--schedule cosine", "--data more.csv", "--batch-size 8"):
        code, _, err = said(capsys, f"fit run --resume --steps 5 {line}")
        assert code
        assert "--warm --out FOLDER" in err
    for line in ("fit run --steps 5", "fit run --warm --resume", "fit run --warm --out run"):
        code, _, err = said(capsys, line)
        assert code == 2
        assert "warm" in err


def test_the_training_file_may_move(capsys, table):
    assert said(capsys, "fit vae --data rows.csv --out run --steps 3", *SMALL)[0] == 0
    (table / "rows.csv").rename(table / "moved.csv")
    assert said(capsys, "fit run --resume --steps 5 --data moved.csv")[0] == 0
    assert load("run").history[-1]["step"] == 5


@pytest.mark.parametrize("standardise", [[], ["--standardise"]])
def test_a_run_whose_file_is_gone_draws_and_judges_what_is_given(capsys, table, standardise):
    words = [*SMALL, *standardise]
    assert said(capsys, "fit vae --data rows.csv --out run --steps 3", *words)[0] == 0
    assert said(capsys, "sample run --n 5 --out before.npz")[0] == 0
    options = {"standardise": bool(standardise)}
    rows = Data.from_file("rows.csv", **options)
    before = evaluate(load("run"), rows, metrics=["nll"], particles=20)["nll"].value
    (table / "rows.csv").rename(table / "moved.csv")
    assert said(capsys, "sample run --n 5 --out after.npz")[0] == 0
    one, other = (np.load(name)["x"] for name in ("before.npz", "after.npz"))
    assert (one == other).all()
    assert evaluate(load("run"), rows, metrics=["nll"], particles=20)["nll"].value == before
    for line in ("evaluate run --metrics nll", "fit run --resume --steps 5"):
        code, _, err = said(capsys, line)
        assert code == 1
        assert "rows.csv; put the file back, or give the data" in err


class Forgetful(VAE):
    """Keeps one of its arguments under another name."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(latent=2, encoder=MLP((width,)), decoder=MLP((8,)))
        self.other = width


class Narrow(nn.Sequential):
    """A net that does not keep its argument."""

    def __init__(self, width):
        super().__init__(nn.Linear(2, width), nn.Tanh())


def test_a_pair_that_cannot_be_rebuilt_is_refused_before_it_is_trained(tmp_path):
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    data, seen = Data.from_arrays(x), []
    told = "cannot be rebuilt from a folder: .*argument 'width' is not kept as self.width"
    for pair in (Forgetful(), VAE(latent=2, encoder=Narrow(4))):
        with pytest.raises(ValueError, match=told):
            fit(pair, ELBO(), data, steps=2, folder=tmp_path / "run", on_epoch=seen.append)
    assert not seen
    run = fit(Forgetful(), ELBO(), data, steps=2)
    with pytest.raises(ValueError, match=r"keep each argument .* under its own name"):
        run.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_training_of_a_former_version_is_not_taken_up(tmp_path):
    former = Path(__file__).parent / "data" / "former-run"
    config = yaml.safe_load((former / "config.yaml").read_text())
    now = config | {"likelihoods": {}}
    with pytest.raises(ValueError, match=r"version of Priory from before pairs held .* warm start"):
        check_request(former, config, now)
    check_request(former, now, now)
