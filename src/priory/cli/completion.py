"""The verb that prints what a shell completes words by."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Literal

from priory.cli.entry import VERBS
from priory.cli.grammar import Command, Request
from priory.cli.list import TABLES
from priory.data import SETS
from priory.lookup import named
from priory.parsing import part_of
from priory.parsing.texts import names_of
from priory.recipes import RECIPES
from priory.signatures import Option

_OF_RUNS = (
    "evaluate",
    "sample",
    "encode",
    "score",
    "impute",
    "insight",
    "paths",
    "compare",
    "push",
)
_OF_RECIPES = ("fit", "tune")


def command(_: Request) -> Command:
    """Return what may be typed."""
    return Command(
        "priory completion SHELL",
        f"{VERBS['completion']}. For bash: priory completion bash > "
        "~/.local/share/bash-completion/completions/priory; for zsh, into a file that .zshrc "
        "sources; for fish: > ~/.config/fish/completions/priory.fish.",
        {},
        act,
        ("SHELL", ", ".join(SHELLS)),
        ("priory completion bash",),
    )


def act(request: Request) -> None:
    """Print the script."""
    name = request.name or ""
    make = request.errors.attempt(named, "shell", name, SHELLS)
    request.errors.check()
    assert make is not None  # noqa: S101
    print(make())


@functools.cache
def options_by_verb() -> dict[str, dict[str, Option]]:
    """Return the options of every verb as they are typed; of fit and tune those of all recipes."""
    found: dict[str, dict[str, Option]] = {}
    alike = {(r.family, tuple(s.name for s in r.stages)): name for name, r in RECIPES.items()}
    for verb in VERBS:
        module = import_module(f"priory.cli.{verb}")
        names = [[name] for name in alike.values()] if verb in _OF_RECIPES else [[]]
        if verb == "compare":
            names.append(["RUN"])
        found[verb] = {}
        for words in names:
            made: Command = module.command(Request(words))
            found[verb] |= {made.spelled(name): o for name, o in made.options.items()}
    return found


def values_of(name: str, option: Option) -> list[str]:
    """Return the words that an option's value may begin with; none where it may be anything.

    Args:
        name: as it is typed.
        option: the option.

    Example:
        >>> from priory.signatures import Option
        >>> values_of("precision", Option("precision", Literal["float32", "bf16"]))
        ['float32', 'bf16']
    """
    if name == "data":
        return [*SETS]
    kind = part_of(option.annotation)
    return [*(names_of(kind) if kind else ()), *_words(option.annotation)]


def _words(annotation: Any) -> Iterator[str]:
    if typing.get_origin(annotation) is Literal:
        yield from (str(word) for word in typing.get_args(annotation))
    else:
        for member in typing.get_args(annotation):
            yield from _words(member)


def _first(verb: str) -> str:
    """Return the words that may come first after a verb; those of runs are found by the shell."""
    words = {"list": [*TABLES], "completion": [*SHELLS]}
    return " ".join(RECIPES if verb in _OF_RECIPES else words.get(verb, ()))


def _values() -> dict[str, str]:
    """Return the words that follow each option that has any, of all verbs."""
    found: dict[str, dict[str, None]] = {}
    for options in options_by_verb().values():
        for name, option in options.items():
            found.setdefault(name, {}).update(dict.fromkeys(values_of(name, option)))
    return {name: " ".join(words) for name, words in found.items() if words}


_BASH = """\
# What bash completes for priory; written by `priory completion bash`.
_priory_runs() {
    local path below
    while IFS= read -r path; do
        below=("$path"/*/config.yaml)
        if [ -f "$path/config.yaml" ]; then COMPREPLY+=("$path")
        elif [ -f "${below[0]}" ]; then COMPREPLY+=("$path/"); compopt -o nospace 2> /dev/null
        fi
    done < <(compgen -d -- "$1")
}
_priory() {
    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}"
    local verb="${COMP_WORDS[1]}" words="" options=""
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "@VERBS@ --help --version" -- "$cur"))
        return
    fi
    case "$prev" in
@VALUES@
    esac
    if [ -n "$words" ]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
        return
    fi
    case "$verb" in
@OPTIONS@
    esac
    case "$cur" in
        -*) COMPREPLY=($(compgen -W "$options --help" -- "$cur")) ;;
        *)
            case "$prev" in --*) return ;; esac
            case "$verb" in
                @RUNS@) _priory_runs "$cur" ;;
            esac
            if [ "$COMP_CWORD" -eq 2 ] && [ -n "$words" ]; then
                COMPREPLY+=($(compgen -W "$words" -- "$cur"))
            fi ;;
    esac
}
complete -o default -F _priory priory"""


def bash() -> str:
    """Return the script for bash."""
    values = [f'        --{n}) words="{w}" ;;' for n, w in sorted(_values().items())]
    options = [
        f'        {verb}) options="{" ".join(f"--{n}" for n in sorted(known))}"; '
        f'words="{_first(verb)}" ;;'
        for verb, known in options_by_verb().items()
    ]
    parts = {
        "VERBS": " ".join(VERBS),
        "VALUES": "\n".join(values),
        "OPTIONS": "\n".join(options),
        "RUNS": "|".join((*_OF_RUNS, "fit", "push")),
    }
    script = _BASH
    for name, text in parts.items():
        script = script.replace(f"@{name}@", text)
    return script


def zsh() -> str:
    """Return the script for zsh, which takes bash's."""
    begin = ("autoload -U +X compinit && compinit", "autoload -U +X bashcompinit && bashcompinit")
    return "\n".join([*begin, bash()])


def fish() -> str:
    """Return the script for fish."""
    lines = ["# What fish completes for priory; written by `priory completion fish`."]
    for verb, about in VERBS.items():
        lines.append(f"complete -c priory -n __fish_use_subcommand -a {verb} -d {_quoted(about)}")
    values = _values()
    for verb, known in options_by_verb().items():
        seen = f"complete -c priory -n '__fish_seen_subcommand_from {verb}'"
        lines += [f"{seen} -a '{words}'"] if (words := _first(verb)) else []
        for name in sorted(known):
            after = f" -x -a '{values[name]}'" if name in values else ""
            lines.append(f"{seen} -l {name}{after}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
