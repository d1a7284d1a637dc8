"""From the words of a command line to an exit code."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from priory.cli.verbs import VERBS
from priory.comparing import FailedFits
from priory.inference.keeping.signals import Terminated
from priory.inference.parallel import ranks
from priory.inference.parallel.launch import start
from priory.names import named
from priory.signatures import Collector, Faults, summary

_ABOUT = """usage: priory COMMAND [options]

Deep generative models as Pyro pairs: exchange the prior, the objective or the family, and trust
the comparison.

{verbs}

priory COMMAND --help shows a command's options, priory --version the version.

Parts are written name, name:argument or name:key=value, for instance vamp:100, mlp:200,200:tanh,
iwae:10, elbo:beta=0.5, 'reconstruction + 10*match:mmd'. priory list shows what there is."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: words after the program's name; those of the process by default.

    Returns:
        0; 1 if something failed on the way, 2 if the request was wrong, 130 after Ctrl-C, 143
        after SIGTERM, 129 after SIGHUP.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            _run(words)
    except Faults as error:
        verb = f" {words[0]}" if words and words[0] in VERBS else ""
        _complain([*error.faults, f"see priory{verb} --help"])
        return 2
    except FailedFits as error:
        _complain(error.failures)
        return 1
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


def _run(words: list[str]) -> None:
    if not words or words[0] in ("--help", "-h", "help"):
        lines = [f"  {verb.ljust(10)}{summary(run)}" for verb, run in VERBS.items()]
        print(_ABOUT.format(verbs="\n".join(lines)))
        return
    if words[0] == "--version":
        from priory import __version__

        print(f"priory {__version__}")
        return
    verb, *rest = words
    faults = Collector()
    run = faults.attempt(named, "command", verb, VERBS)
    faults.check()
    assert run is not None  # noqa: S101
    given = [word for word in rest if word not in ("--help", "-h")]
    with start(quiet=True) if verb in ("fit", "evaluate") else nullcontext():
        run(given, len(given) < len(rest))


def _complain(lines: Sequence[str]) -> None:
    if not ranks.is_main():  # the main rank speaks for all; each has told its own failure
        return
    print("\n".join(f"priory: {line}" for line in lines), file=sys.stderr)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    _complain([f"warning: {message}"])


def _place(error: BaseException) -> str:
    """Answer where in the user's own code an error arose, "" if it is not from there."""
    own = Path(__file__).parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        file = Path(frame.filename)
        installed = own in file.parents or "site-packages" in file.parts or not file.is_file()
        if not installed and file.is_relative_to(Path.cwd()):
            return f" ({file.name}, line {frame.lineno})"
    return ""
