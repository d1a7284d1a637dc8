"""Downloads: cut, wrong, refused, offline. All from a server on this machine."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from priory.data.fetch import Remote, read

CONTENT = bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Answers each request by the next of `answers`, the last one for ever."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                answer = outer.answers[min(outer.requests, len(outer.answers) - 1)]
                outer.requests += 1
                self.send_response(500 if answer == "error" else 200)
                body = {"wrong": CONTENT[::-1], "cut": CONTENT[:5000]}.get(answer, CONTENT)
                self.send_header("Content-Length", str(len(CONTENT)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file.gz"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def serve(monkeypatch, tmp_path):
    servers = []

    def start(*answers):
        servers.append(Server(answers))
        return servers[-1]

    monkeypatch.setenv("PRIORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("PRIORY_DATA", raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    yield start
    for server in servers:
        server.close()


def remote(*servers):
    return Remote("some/file.gz", DIGEST, tuple(server.url for server in servers))


def cached(tmp_path):
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_downloaded_once_then_offline(serve, tmp_path):
    server = serve("right")
    file = remote(server)
    assert read(file) == CONTENT
    assert read(file) == CONTENT
    assert server.requests == 1
    server.http.server_close()
    assert read(file) == CONTENT
    assert [path.name for path in cached(tmp_path)] == ["file.gz"]


@pytest.mark.parametrize("error", ["wrong", "cut", "error"])
def test_a_fault_is_tried_again(serve, error):
    server = serve(error, "right")
    assert read(remote(server)) == CONTENT
    assert server.requests == 2


@pytest.mark.parametrize("error", ["wrong", "cut", "error"])
def test_a_lasting_fault_is_an_error_and_the_cache_stays_clean(serve, error, tmp_path):
    server = serve(error)
    with pytest.raises(OSError, match=r"some/file.gz could not be downloaded:(.|\n)*PRIORY_DATA"):
        read(remote(server))
    assert server.requests == 3
    assert cached(tmp_path) == []


def test_another_address_is_tried(serve):
    wrong, right = serve("wrong"), serve("right")
    assert read(remote(wrong, right)) == CONTENT


def test_without_network_the_error_says_how_to_mend(serve, tmp_path):
    server = serve("right")
    server.http.server_close()
    with pytest.raises(OSError, match="name that folder in PRIORY_DATA"):
        read(remote(server))
    assert cached(tmp_path) == []


def test_a_damaged_cache_is_replaced(serve, tmp_path):
    file = remote(serve("right"))
    read(file)
    cached(tmp_path)[0].write_bytes(CONTENT[:100])
    assert read(file) == CONTENT


def test_the_users_folder_comes_first(serve, tmp_path, monkeypatch):
    server = serve("right")
    monkeypatch.setenv("PRIORY_DATA", str(tmp_path))
    path = tmp_path / "some" / "file.gz"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    assert read(remote(server)) == CONTENT
    assert server.requests == 0
    path.write_bytes(CONTENT[:7])
    with pytest.raises(ValueError, match=r"file.gz is damaged .*7 bytes"):
        read(remote(server))
    path.unlink()
    assert read(remote(server)) == CONTENT
    assert server.requests == 1
