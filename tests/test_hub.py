"""Runs sent to a hub and fetched: a server on this machine stands for it, with its refusals."""

import base64
import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from priory import load, pull, push
from priory.cli import main
from priory.data import Data
from priory.inference import ELBO, fit
from priory.models import VAE

REVISION = "a" * 40
NAME = "me/tiny"


class Hub:
    """A hub of one account: repositories by name, each a mapping from file names to contents."""

    def __init__(self):
        self.repositories, self.token, self.cut, self.private = {}, "right", None, []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status, body=b"", **headers):
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                short = body[: len(body) // 2] if hub.cut and hub.cut in self.path else body
                self.wfile.write(b"" if self.command == "HEAD" else short)
                self.close_connection = short is not body

            def do_POST(self):
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/api/validate-yaml":
                    return self.answer(200, {"errors": [], "warnings": []})
                if self.headers.get("Authorization") != f"Bearer {hub.token}":
                    return self.answer(401, {"error": "Invalid username or password."})
                if self.path == "/api/repos/create":
                    asked = json.loads(sent)
                    hub.repositories.setdefault(NAME, {})
                    private = asked.get("private") or asked.get("visibility") == "private"
                    hub.private.append(private)
                    return self.answer(200, {"url": f"{hub.url}/{NAME}"})
                if "/preupload/" in self.path:
                    files = json.loads(sent)["files"]
                    told = [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for f in files
                    ]
                    return self.answer(200, {"files": told})
                for line in map(json.loads, sent.splitlines()):
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        hub.repositories[NAME][line["value"]["path"]] = content
                url = f"{hub.url}/{NAME}/commit/{REVISION}"
                return self.answer(200, {"commitUrl": url, "commitOid": REVISION})

            def do_GET(self):
                files = hub.repositories.get(NAME)
                if NAME not in self.path or files is None:
                    return self.answer(404, {"error": "no"}, X_Error_Code="RepoNotFound")
                if self.path.startswith("/api/"):
                    return self.answer(200, {"_id": "1", "id": NAME, "sha": REVISION})
                name = self.path.rpartition("/")[2]
                if name not in files:
                    return self.answer(404, {"error": "no"}, X_Error_Code="EntryNotFound")
                etag = hashlib.sha256(files[name]).hexdigest()
                return self.answer(200, files[name], X_Repo_Commit=REVISION, ETag=f'"{etag}"')

            do_HEAD = do_GET

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "right")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PRIORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def data():
    return Data.from_arrays(torch.randn(60, 3), valid=10, test=10)


@pytest.fixture(scope="module")
def kept(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("kept") / "run"
    run = fit(VAE(latent=2), ELBO(), data, steps=2, compile="off", progress=False, folder=folder)
    (folder / "report.html").write_text("<script>")
    (folder / "bad-batch-step-1.safetensors").write_bytes(b"of its owner alone")
    return run, folder


def test_a_run_comes_back_the_same(hub, kept, data, tmp_path, capsys):
    run, folder = kept
    assert main(["push", str(folder), NAME, "--private"]) == 0
    assert f"sent to {hub.url}/{NAME}\n" in capsys.readouterr().out
    assert hub.private == [True]
    sent = hub.repositories[NAME]
    names = ["README.md", "config.yaml", "history.json", "manifest.json"]
    assert sorted(sent) == [*names, "report.html", "weights.safetensors"]
    assert sent["README.md"] == (folder / "card.md").read_bytes()
    assert sent["README.md"].startswith(b"---\nlibrary_name: priory\ntags:\n- priory\n")
    out = tmp_path / "back"
    assert main(["pull", NAME, "--out", str(out)]) == 0
    for name in ("config.yaml", "history.json", "weights.safetensors", "card.md"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    assert not (out / "report.html").exists(), "no script of a stranger's"
    back = load(out, data=data)
    assert torch.equal(back.sample(4)["x"], run.sample(4)["x"])
    with pytest.raises(FileExistsError, match="not empty"):
        pull(NAME, out)


def test_an_address_is_loaded_and_fetched_once(hub, kept, data):
    run, _ = kept
    assert run.push(NAME, token="right") == f"{hub.url}/{NAME}"
    first = load(f"hf://{NAME}", data=data)
    hub.cut = "safetensors"  # not asked for again
    again = load(f"hf://{NAME}", data=data)
    for back in (first, again):
        assert torch.equal(back.sample(4)["x"], run.sample(4)["x"])


@pytest.mark.parametrize("token", ["wrong", ""])
def test_a_wrong_token_is_named(hub, kept, monkeypatch, capsys, token):
    monkeypatch.setenv("HF_TOKEN", token)
    assert main(["push", str(kept[1]), NAME]) == 1
    assert "(401): the token is missing, wrong" in capsys.readouterr().err


def test_a_missing_repository_or_run_is_named(hub, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no repository me/tiny"):
        pull(NAME, tmp_path / "out")
    hub.repositories[NAME] = {"README.md": b"something else"}
    with pytest.raises(FileNotFoundError, match="me/tiny holds no run of Priory"):
        pull(NAME, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_arrives_changed_is_refused(hub, kept, tmp_path, data):
    push(kept[1], NAME)
    good = hub.repositories[NAME]["weights.safetensors"]
    hub.repositories[NAME]["weights.safetensors"] = good[:-1] + bytes([good[-1] ^ 1])
    with pytest.raises(ValueError, match=r"me/tiny arrived damaged.*weights.safetensors.*SHA-256"):
        pull(NAME, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="arrived damaged"):
        load(f"hf://{NAME}", data=data)


def test_what_is_cut_is_refused(hub, kept, tmp_path):
    push(kept[1], NAME)
    hub.cut = "weights.safetensors"
    with pytest.raises(OSError, match=r"me/tiny|cannot be reached"):
        pull(NAME, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_manifest_can_name_no_other_file(hub, kept, tmp_path):
    push(kept[1], NAME)
    files = hub.repositories[NAME]
    entries = json.loads(files["manifest.json"])
    entries["../../evil.py"] = entries["train.pt"] = entries["config.yaml"]
    files |= {"manifest.json": json.dumps(entries).encode(), "train.pt": files["config.yaml"]}
    pull(NAME, tmp_path / "out")
    there = {p.name for p in (tmp_path / "out").iterdir()}
    assert there == {
        "card.md",
        "config.yaml",
        "history.json",
        "manifest.json",
        "weights.safetensors",
    }


def test_without_network_the_address_is_named(hub, kept, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OSError, match=r"http://127.0.0.1:9 cannot be reached"):
        pull(NAME, tmp_path / "out")
    with pytest.raises(OSError, match=r"http://127.0.0.1:9 cannot be reached"):
        push(kept[1], NAME)


def test_what_cannot_be_sent_is_refused_before_the_network(kept, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        push(tmp_path, NAME)
    assert main(["push", str(kept[1])]) == 2
    assert main(["pull", "tiny"]) == 2
    assert "OWNER/NAME, got 'tiny'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'priory\[hub\]'"):
        pull(NAME, tmp_path / "out")
