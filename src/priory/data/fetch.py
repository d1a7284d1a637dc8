"""Files of the named sets: from the folder of PRIORY_DATA, the cache, or the network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

RETRIES = 2
"""How often a failed download is tried again, by address."""


@dataclass(frozen=True)
class Remote:
    """A file with one right content.

    Args:
        path: where it lies under the folder of PRIORY_DATA, and in the cache.
        sha256: SHA-256 of its bytes.
        urls: addresses to try in turn; none if it can only be supplied.
    """

    path: str
    sha256: str
    urls: tuple[str, ...] = ()


def local(remote: Remote) -> Path | None:
    """Return where PRIORY_DATA holds the file, or None where it doesn't.

    Raises:
        ValueError: if PRIORY_DATA names no folder.
    """
    root = os.environ.get("PRIORY_DATA")
    if not root:
        return None
    if not Path(root).is_dir():
        raise ValueError(f"PRIORY_DATA names no folder: {root!r}; correct it or unset it")
    path = Path(root) / remote.path
    return path if path.exists() else None


def read(remote: Remote) -> bytes:
    """Return the file's bytes, checked by SHA-256.

    Looked for in this order: PRIORY_DATA, the cache, the addresses.

    Raises:
        ValueError: if the file under PRIORY_DATA has other bytes than it should.
        OSError: if the file can be had from nowhere.
    """
    path = local(remote) or download(remote)
    content = path.read_bytes()
    found = sha256(content).hexdigest()
    if found != remote.sha256:
        raise ValueError(
            f"{path} is damaged or not the official file: {len(content):,} bytes with SHA-256 "
            f"{found}, expected {remote.sha256}; replace it, or unset PRIORY_DATA to download it"
        )
    return content


def download(remote: Remote) -> Path:
    """Return the cached copy of the file, downloaded first where there is none.

    The cache is the user's cache folder, or the folder that PRIORY_CACHE names. A file gets there
    only after its SHA-256 was found right.

    Raises:
        OSError: if no address gave the right bytes.
    """
    import pooch

    mend = f"put the file at {remote.path} in a folder and name that folder in PRIORY_DATA"
    root = os.environ.get("PRIORY_DATA")
    if root:
        mend += f" (now {root}, where it is missing)"
    if not remote.urls:
        raise OSError(f"{remote.path} (SHA-256 {remote.sha256}) can't be downloaded: {mend}")
    failures = []
    for url in remote.urls:
        store = pooch.create(
            path=pooch.os_cache("priory"),
            base_url="",
            registry={remote.path: remote.sha256},
            urls={remote.path: url},
            env="PRIORY_CACHE",
            retry_if_failed=RETRIES,
        )
        try:
            return Path(store.fetch(remote.path))
        except (OSError, ValueError) as error:  # connection or disk; wrong SHA-256
            failures.append(f"{url}: {error}")
    reasons = "\n  ".join(failures)
    raise OSError(f"{remote.path} could not be downloaded:\n  {reasons}\nTo mend: {mend}")
