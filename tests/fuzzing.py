"""Mangled input for the property tests. `PRIORY_FUZZ=20` makes twenty times as many, at random."""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

TIMES = int(os.environ.get("PRIORY_FUZZ", "1"))


def budget(examples):
    """Settings for so many examples: the same in every run, unless more of them are asked for."""
    return settings(
        max_examples=examples * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )


def in_words(error, *names):
    """Check that a refusal says something, and names what it should."""
    assert str(error)
    assert all(name in str(error) for name in names), error


class Sprung(BaseException):
    """Code was run that a file brought along: no `except Exception` hides it."""


def spring():
    raise Sprung


class Trap:
    """Runs `spring` when it is unpickled."""

    def __reduce__(self):
        return spring, ()


_edits = st.lists(
    st.tuples(
        st.sampled_from(["cut", "flip", "write", "insert", "delete", "repeat", "zeros"]),
        st.floats(0, 1),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=4,
)


def mangled(contents):
    """Damaged variants of one of the contents; now and then bytes of no form at all."""
    damaged = st.builds(_damage, st.sampled_from(contents), _edits)
    return st.one_of(damaged, damaged, damaged, st.binary(max_size=64))


def _damage(content, edits):
    made = bytearray(content)
    for kind, place, length, piece in edits:
        # Headers are short and matter most: half of all damage is done within the first bytes.
        reach = min(len(made), 160) if length > 0.5 else len(made)
        start = min(int(place * reach), max(0, len(made) - 1))
        stop = start + 1 + int(length * 16)
        if kind == "cut":
            del made[start:]
        elif kind == "flip" and made:
            made[start] ^= 1 << (piece[0] % 8)
        elif kind == "write":
            made[start : start + len(piece)] = piece
        elif kind == "insert":
            made[start:start] = piece
        elif kind == "delete":
            del made[start:stop]
        elif kind == "repeat":
            made[start:start] = made[start:stop]
        elif kind == "zeros":
            made[start:stop] = bytes(stop - start)
    return bytes(made)
