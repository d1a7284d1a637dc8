"""From a verb and its words to an exit code."""

from __future__ import annotations

import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from priory.cli.entry import VERBS, uncollected
from priory.cli.grammar import Command, Request
from priory.inference.checkpoints.signals import Terminated
from priory.inference.distributed import ranks
from priory.inference.distributed.launch import start
from priory.lookup import named
from priory.registry import find_installed
from priory.signatures import Collector, Errors, Failures

_RANKED = ("fit", "evaluate", "encode", "score", "impute")  # of several processes, by torchrun


def run(words: Sequence[str]) -> int:
    """Run a verb.

    Args:
        words: the verb, and what follows it.

    Returns:
        0; 1 if something failed on the way, 2 if the request was wrong, 130 after Ctrl-C, 143
        after SIGTERM, 129 after SIGHUP.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            _run(words)
    except Failures as error:
        _complain(error.errors)
        return 1
    except Errors as error:
        verb = f" {words[0]}" if words and words[0] in VERBS else ""
        _complain([*error.errors, f"see priory{verb} --help"])
        return 2
    except KeyboardInterrupt as error:
        print(f"\npriory: interrupted{f': {error}' if str(error) else ''}", file=sys.stderr)
        return 130
    except Terminated as error:
        _complain([error.text])
        return 128 + error.number
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, ImportError, MemoryError) as error:
        _complain([f"{error}{_place(error)}"])
        return 1
    return 0


def _run(words: Sequence[str]) -> None:
    verb, *rest = words
    errors = Collector()
    errors.attempt(named, "command", verb, VERBS)
    errors.check()
    module = uncollected(f"priory.cli.{verb}")
    given = [word for word in rest if word not in ("--help", "-h")]
    wants_help = len(given) < len(rest)
    if not wants_help:
        find_installed()
    with start(quiet=True) if verb in _RANKED else nullcontext():
        request = Request(given)
        command: Command = module.command(request)
        if wants_help:
            request.errors.check()
            print(command.help())
        else:
            request.read(command)
            command.act(request)


def _complain(lines: Sequence[str]) -> None:
    if not ranks.is_main():  # the main rank prints for all; each has logged its own failure
        return
    print("\n".join(f"priory: {_as_typed(line)}" for line in lines), file=sys.stderr)


def _as_typed(text: str) -> str:
    """Return a message with the options of data as they are typed: --missing integrate."""
    from priory.data import Data
    from priory.signatures import options_of

    names = "|".join(options_of(Data.from_file))
    return re.sub(rf"\b({names})='([\w-]+)'", r"--\1 \2", text)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    _complain([f"warning: {message}"])


def _place(error: BaseException) -> str:
    """Return where in the user's own code an error arose, "" if it is not from there."""
    own = Path(__file__).parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        file = Path(frame.filename)
        installed = own in file.parents or "site-packages" in file.parts or not file.is_file()
        if not installed and file.is_relative_to(Path.cwd()):
            return f" ({file.name}, line {frame.lineno})"
    return ""
