"""What a training lets others know, and what it lets them do; logs, read back."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from priory import compare, fit
from priory.cli import main
from priory.data import Data
from priory.inference import ELBO, Callback, Stage
from priory.inference.loggers import LOGGERS, as_loggers
from priory.models import VAE
from priory.parsing import convert
from priory.signatures import options_of

OPTIONS = {"epochs": 3, "batch_size": 32, "compile": "off", "progress": False}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="module")
def data():
    return Data.from_arrays(torch.randn(120, 3), valid=20, test=20)


def train(data, **options):
    return fit(VAE(latent=2), ELBO(), data, **{**OPTIONS, **options})


class Takes(Callback):
    """Notes each turn with its step; fails at one of them."""

    def __init__(self, fails=""):
        self.turns, self.fails = [], fails

    def note(self, turn, training):
        torch.randn(3)  # may draw
        self.turns.append((turn, training.history[-1]["step"] if training.history else 0))
        if turn == self.fails:
            raise KeyError(turn)

    def begin(self, training):
        self.note("begin", training)

    def after_epoch(self, training):
        self.note("epoch", training)

    def after_best(self, training):
        self.note("best", training)

    def after_checkpoint(self, training, path):
        assert (path / "manifest.json").is_file()
        self.note("checkpoint", training)

    def finish(self, training):
        self.note("finish", training)

    def fail(self, training, error):
        self.turns.append(("fail", type(error).__name__))


PAGE = Path(__file__).parents[1] / "docs" / "tools.md"
SHOWN = re.search(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)[1]


@pytest.fixture(autouse=True, scope="module")
def own_logger():
    """The page's logger, which is registered when its code is run."""
    exec(SHOWN, {"__name__": __name__})
    yield
    LOGGERS.pop("lines")


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_turn_is_called_in_order(data, tmp_path):
    takes = Takes()
    run = train(data, callbacks=[takes], folder=tmp_path / "run", patience=5)
    steps = [row["step"] for row in run.history]
    epochs = [turn for turn in takes.turns if turn[0] in ("epoch", "best")]
    best = [row["step"] for row in run.history if row.get("best")]
    assert takes.turns[0] == ("begin", 0)
    assert [s for t, s in epochs if t == "epoch"] == steps
    assert [s for t, s in epochs if t == "best"] == best != []
    assert [t for t, _ in takes.turns].count("checkpoint") == 1
    assert takes.turns[-1] == ("finish", steps[-1])


def test_stages_are_one_run_to_a_callback(data):
    takes = Takes()
    train(data, callbacks=[takes], stages=[Stage(name="first", objective=ELBO(), steps=2)])
    turns = [turn for turn, _ in takes.turns]
    assert turns == ["begin", "epoch", *3 * ["epoch"], "finish"]


def test_training_is_the_same_to_the_bit_with_a_callback_that_draws(data):
    alone, seen = train(data), train(data, callbacks=[Takes()])
    for one, other in zip(alone.pair.parameters(), seen.pair.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("turn", ["epoch", "checkpoint", "finish"])
def test_an_error_is_named_once_and_spoils_nothing(data, tmp_path, turn):
    takes, other = Takes(turn), Takes()
    with pytest.warns(UserWarning, match=rf"Takes failed in \w+: KeyError: '{turn}'; it is left"):
        train(data, callbacks=[takes, other], folder=tmp_path / "run")
    assert [t for t, _ in takes.turns].count(turn) == 1
    assert other.turns[-1][0] == "finish"
    train(data, folder=tmp_path / "whole")
    for name in ("weights.safetensors", "config.yaml"):
        files = [(tmp_path / run / name).read_bytes() for run in ("run", "whole")]
        assert files[0] == files[1]


def test_an_error_before_the_first_step_stops_the_run(data):
    with pytest.raises(ValueError, match="Takes failed before the first step: KeyError: 'begin'"):
        train(data, callbacks=[Takes("begin")])


def test_what_ends_a_run_early_is_passed_on(data):
    def stop(row):
        raise KeyboardInterrupt

    takes, log = Takes(), LOGGERS["lines"]("unused")
    log.open = lambda *_: ""
    with pytest.raises(KeyboardInterrupt):
        train(data, callbacks=[takes], log=[log], on_epoch=stop)
    assert takes.turns[-1] == ("fail", "KeyboardInterrupt")
    assert log.status == "stopped"


def test_what_is_no_callback_or_logger_is_refused(data):
    with pytest.raises(ValueError, match=r"callbacks must be a list.*got \[3\]"):
        train(data, callbacks=[3])
    with pytest.raises(ValueError, match=r"log must be loggers.*callbacks="):
        train(data, log=[Takes()])
    with pytest.raises(ValueError, match="nearest 'tensorboard'"):
        train(data, log="tensorbord")
    with pytest.raises(ValueError, match="say where, log='tensorboard:FOLDER'"):
        train(data, log="tensorboard")


def test_an_address_keeps_its_colons():
    kind = options_of(fit)["log"].annotation
    first, second = convert("mlflow:http://host:5000:experiment=mine,lines:a", kind)
    assert (first.where, first.experiment) == ("http://host:5000", "mine")
    assert (second.name, second.where) == ("lines", "a")
    assert as_loggers("mlflow:http://host:5000")[0].where == "http://host:5000"


def broken(row):
    if row["epoch"] == 2:
        raise KeyboardInterrupt


def test_a_log_has_each_step_once_after_a_break(data, tmp_path):
    options = {"folder": tmp_path / "run", "log": f"lines:{tmp_path}", "checkpoint_every": 0.0}
    options |= {"epochs": 4}
    with pytest.raises(KeyboardInterrupt):
        train(data, **options, on_epoch=broken)
    run = train(data, **options, resume=True)
    lines = read(tmp_path / "run.jsonl")
    assert [line["step"] for line in lines] == [row["step"] for row in run.history]
    assert [line["loss"] for line in lines] == [row["loss"] for row in run.history]
    longer = train(data, **{**options, "epochs": 5}, resume=True)
    assert len(read(tmp_path / "run.jsonl")) == 5 == len(longer.history)


def test_a_log_that_is_asked_for_late_has_the_rows_before(data, tmp_path):
    train(data, folder=tmp_path / "run")
    more = {"log": f"lines:{tmp_path}", "resume": True, "epochs": 4}
    run = train(data, folder=tmp_path / "run", **more)
    found = [line["step"] for line in read(tmp_path / "run.jsonl")]
    assert found == [row["step"] for row in run.history]


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return events, {
        t: {e.step: e.value for e in events.Scalars(t)} for t in events.Tags()["scalars"]
    }


def metrics(folder, number=0):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("priory").experiment_id])
    run = runs[number]
    return run, {k: client.get_metric_history(run.info.run_id, k) for k in run.data.metrics}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_event_files_and_mlflow_have_the_history_and_the_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "fit vae --data ring --rows 300 --latent 2 --encoder mlp:8 --decoder mlp:8 --epochs 2"
    log = ["--log", "tensorboard,mlflow:store"]
    own = [*words.split(), "--lr", "0.004", "--schedule", "constant", "--out", "run", *log]
    assert main(own) == 0
    assert main(["fit", "run", "--resume", "--epochs", "3", *log]) == 0
    assert main(["evaluate", "run", "--metrics", "nll", "--particles", "3", "--limit", "20"]) == 0
    out = capsys.readouterr()
    assert "added the figures to tensorboard and mlflow:" in out.out, out.err
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    report = json.loads((tmp_path / "run" / "report.json").read_text())["records"]
    nll = next(record for record in report if record["name"] == "nll")
    events, found = scalars(tmp_path / "run" / "tensorboard")
    run, kept = metrics(tmp_path / "store")
    for name in ("loss", "bound"):
        wanted = {row["step"]: pytest.approx(row[name], rel=1e-6) for row in history}
        assert found[name] == wanted
        assert {m.step: m.value for m in kept[name]} == wanted
        assert len(kept[name]) == len(history) == 3
    last = history[-1]["step"]
    assert found["test/nll"] == {last: pytest.approx(nll["value"], rel=1e-6)}
    assert [(m.step, m.value) for m in kept["test/nll_se"]] == [(last, nll["se"])]
    assert run.info.status == "FINISHED"
    assert (run.data.params["pair.latent"], run.data.params["fit.lr"]) == ("2", "0.004")
    plugin = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"pair.latent" in plugin


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_each_fit_of_a_comparison_has_a_log_of_its_own(data, tmp_path):
    tiny = {"latent": 2, "encoder": "mlp:4", "decoder": "mlp:4", "batch_size": 32}
    tiny |= {"steps": 3, "jobs": 1, "metrics": ["nll"], "particles": 2, "progress": False}
    given = {"seeds": 2, "runs": tmp_path / "runs", "log": f"tensorboard:{tmp_path / 'logs'}"}
    compare(data, priors=["normal", "vamp:3"], **given, **tiny)
    names = ["normal-seed0", "normal-seed1", "vamp-3-seed0", "vamp-3-seed1"]
    assert sorted(p.name for p in (tmp_path / "logs").iterdir()) == names
    assert [*scalars(tmp_path / "logs" / "vamp-3-seed1")[1]["loss"]] == [2, 3]
    with pytest.raises(ValueError, match="say where"):
        compare(data, priors="normal", log="tensorboard", **tiny)


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow.tracking")]
)
def test_an_absent_library_names_its_extra(data, tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"pip install 'priory\[{name}\]'"):
        train(data, log=f"{name}:{tmp_path}")


def test_a_server_that_is_away_is_named(data, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ValueError, match="MLflow failed before the first step"):
        train(data, log="mlflow:http://127.0.0.1:9")
