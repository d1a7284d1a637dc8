"""Run folders on a model hub: sent there, and fetched, with every file's hash compared."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from priory.inference.card import CARD
from priory.inference.checkpoints.disk import (
    MANIFEST,
    Damaged,
    manifest,
    read_checked,
    read_json,
    write_folder,
)
from priory.inference.checkpoints.folders import (
    CONFIG,
    HISTORY,
    SNAPSHOTS,
    WEIGHTS,
    read_finished,
)
from priory.lookup import first_line

SCHEME = "hf://"
_README = "README.md"  # what a hub shows; in a run's folder the card
_NEEDED = (CONFIG, HISTORY, WEIGHTS)
_PICTURES = ("training.png", "samples.png", "snapshots.png")
_FETCHED = (*_NEEDED, _README, SNAPSHOTS, *_PICTURES, "report.json")
_SENT = (*_FETCHED, "report.html")
_TRANSPORT = ("httpx", "httpx2", "requests")  # by the hub's library, of its several versions
_HUB = "https://huggingface.co"


def push(
    folder: str | os.PathLike[str],
    repository: str,
    *,
    private: bool = False,
    message: str | None = None,
    token: str | None = None,
) -> str:
    """Send a finished run's folder to a model hub; return its address there.

    What is sent: configuration, history, weights, snapshots, pictures, the report, and the card
    as the page's README.md; no checkpoints. A path of your own data is in the configuration.

    Args:
        folder: the run's.
        repository: owner/name; made if it does not exist.
        private: whether one that is made is for its owner alone.
        message: of the commit.
        token: of the hub's account; that of HF_TOKEN, or of the login on this machine, if `None`.

    Raises:
        FileNotFoundError: if there is no finished run.
        ValueError: if the run's files are damaged, or the name is none.
        OSError: if the hub cannot be reached, or refuses; says why.
        ImportError: if the hub's library is not installed; names the extra.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"{folder} holds no finished run: there is no {MANIFEST} in it")
    read_finished(folder)
    paths = {name: folder / (CARD if name == _README else name) for name in _SENT}
    files = {name: path.read_bytes() for name, path in paths.items() if path.is_file()}
    api = _api(token)
    from huggingface_hub import CommitOperationAdd

    sent = {**files, MANIFEST: manifest(files)}
    with _explained(repository, api.endpoint, "written"):
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.create_commit(
            repository,
            [CommitOperationAdd(name, content) for name, content in sent.items()],
            commit_message=message or f"Add the run {folder.resolve().name}",
        )
    return str(done.commit_url).partition("/commit/")[0]


def pull(
    repository: str,
    out: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
) -> Path:
    """Fetch a run's folder from a model hub; return the folder, which is there whole or not at all.

    Only the files of a run are fetched, and none that holds code: the page of a report is left
    out. Each is compared with the run's manifest by its SHA-256.

    Args:
        repository: owner/name.
        out: the folder to write; it must not exist, or be empty.
        revision: a branch, tag or commit; the newest if `None`.
        token: as in `push`.

    Raises:
        FileExistsError: if the folder is not empty.
        FileNotFoundError: if there is no such repository, or no run in it.
        ValueError: naming a file that arrived damaged; nothing is written.
        OSError: if the hub cannot be reached, or refuses; says why.
        ImportError: if the hub's library is not installed; names the extra.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is not empty; choose another folder")
    api = _api(token)
    with _explained(repository, api.endpoint, "read"):
        commit = api.repo_info(repository, revision=revision).sha
    return _fetch(api, repository, str(commit), out)


def fetched(address: str) -> Path:
    """Return the folder of a run on a hub, from the cache where this commit of it is there.

    Args:
        address: hf://owner/name, or with a revision hf://owner/name@revision.

    Raises:
        OSError: as in `pull`.
        ValueError: likewise.
    """
    import pooch

    repository, _, revision = address.removeprefix(SCHEME).partition("@")
    api = _api(None)
    with _explained(repository, api.endpoint, "read"):
        commit = str(api.repo_info(repository, revision=revision or None).sha)
    home = os.environ.get("PRIORY_CACHE") or pooch.os_cache("priory")
    folder = Path(home) / "hub" / repository.replace("/", "--") / commit
    return folder if (folder / MANIFEST).is_file() else _fetch(api, repository, commit, folder)


def _fetch(api: Any, repository: str, commit: str, out: Path) -> Path:
    """Fetch a commit's files, compare them, and write them at once."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def one(name: str) -> None:
            api.hf_hub_download(repository, name, revision=commit, local_dir=folder)

        with _explained(repository, api.endpoint, "read"):
            one(MANIFEST)
            known = read_json(folder / MANIFEST, (folder / MANIFEST).read_bytes())
            names = [name for name in _FETCHED if name in known or name in _NEEDED]
            for name in names:
                one(name)
        try:
            files = read_checked(folder, names)
        except Damaged as error:
            said = str(error).replace(f"{folder}{os.sep}", "")
            raise Damaged(
                f"{repository} arrived damaged, and nothing is written: {said}; fetch it again, "
                "or ask its owner"
            ) from error
    out.parent.mkdir(parents=True, exist_ok=True)
    write_folder(out, {CARD if n == _README else n: content for n, content in files.items()})
    return out


def _api(token: str | None) -> Any:
    """Return the hub's client; HF_ENDPOINT may name another hub."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ImportError("a model hub needs an extra: pip install 'priory[hub]'") from error
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or _HUB, token=token)


@contextmanager
def _explained(repository: str, endpoint: str, done: str) -> Iterator[None]:
    """Raise what goes wrong at a hub as an error that says what to do."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise ValueError(
            f"a repository is named owner/name, got {repository!r}: {error}"
        ) from error
    except HfHubHTTPError as error:
        raise _refused(error, repository, endpoint, done) from error
    except EntryNotFoundError as error:
        raise OSError(f"{repository} cannot be {done}: {first_line(error)}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _TRANSPORT:
            raise
        raise OSError(
            f"{endpoint} cannot be reached: {first_line(error)}; look at the network, or at "
            "HF_ENDPOINT if that is set"
        ) from error


def _refused(error: Any, repository: str, endpoint: str, done: str) -> OSError:
    from huggingface_hub.errors import EntryNotFoundError

    status = getattr(error.response, "status_code", None)
    if isinstance(error, EntryNotFoundError):
        return FileNotFoundError(f"{repository} holds no run of Priory: {first_line(error)}")
    if status in (401, 403):
        return PermissionError(
            f"{endpoint} does not let {repository} be {done} ({status}): the token is missing, "
            "wrong, or has no right to it; set HF_TOKEN, or log in by `hf auth login`"
        )
    if status == 404:
        return FileNotFoundError(
            f"{endpoint} has no repository {repository}, or none that this token may see; look at "
            "its name, owner/name"
        )
    return OSError(f"{endpoint} has refused {repository} ({status}): {first_line(error)}")
