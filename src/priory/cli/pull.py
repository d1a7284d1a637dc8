"""The verb that fetches a run from a model hub."""

from __future__ import annotations

from pathlib import Path

from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.inference import pull
from priory.signatures import Option, options_of

_APART = ("repository", "out", "token")


def command(_: Request) -> Command:
    """Return what may be typed."""
    return Command(
        "priory pull OWNER/NAME [options]",
        f"{VERBS['pull']}. Every file is compared with the hash that was sent; files that hold "
        "code are left out.",
        {
            "hub": {n: o for n, o in options_of(pull).items() if n not in _APART},
            "output": {"out": Option("out", Path, None, "folder of the run; runs/NAME by default")},
        },
        act,
        ("OWNER/NAME", "what the run is called on the hub"),
        ("priory pull me/digits-vae --out runs/fetched",),
    )


def act(request: Request) -> None:
    """Fetch the run, and print where it is."""
    options, name = request.values("hub"), request.name or ""
    if name.count("/") != 1:
        request.errors.found.append(f"pull needs what to fetch, OWNER/NAME, got {name!r}")
    request.errors.check()
    out = Path(request.texts.get("out") or Path("runs", name.rpartition("/")[2]))
    print(f"fetched into {pull(name, out, **options)}\nnext: priory evaluate {out}")
