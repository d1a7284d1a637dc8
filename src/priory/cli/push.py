"""The verb that sends a run to a model hub."""

from __future__ import annotations

from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.cli.runs import check_run
from priory.inference import push
from priory.signatures import options_of

_APART = ("folder", "repository", "token")  # a token is no word to type: shells keep what is typed


def command(_: Request) -> Command:
    """Return what may be typed."""
    return Command(
        "priory push RUN OWNER/NAME [options]",
        f"{VERBS['push']}. The token is that of HF_TOKEN, or of `hf auth login`; HF_ENDPOINT names "
        "another hub.",
        {"hub": {n: o for n, o in options_of(push).items() if n not in _APART}},
        act,
        ("RUN OWNER/NAME ...", "the folder of a finished run, and its name on the hub"),
        ("priory push runs/vae-digits-seed0 me/digits-vae --private",),
    )


def act(request: Request) -> None:
    """Send the run, and print where it is."""
    options, errors = request.values("hub"), request.errors
    if len(request.arguments) != 2:
        errors.found.append("push needs the folder of a run and a name: priory push RUN OWNER/NAME")
    else:
        errors.attempt(check_run, request.arguments[0])
    errors.check()
    folder, repository = request.arguments
    print(f"sent to {push(folder, repository, **options)}")
