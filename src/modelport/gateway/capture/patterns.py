"""What is redacted: the words of a rule, and its regular expressions.

A word is the name of a tensor, whose values are replaced as a whole; or `re:` and a regular expression, whose matches
are replaced in the texts of BYTES tensors.

Texts come from callers, and Python's regular expressions can take for ever on a text that was made for it. So an
expression is tried with such texts when the rule is made, and what is longer than `LONGEST` is replaced unsearched.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterator

from modelport.errors import UsageError

PREFIX = "re:"
REPLACEMENT = "[redacted]"
LONGEST = 8192  # letters of a text that is searched
SLOW_S = 0.5  # for one text


def is_pattern(word: str) -> bool:
    """Whether a word of a rule is a regular expression, not a tensor's name."""
    return word.startswith(PREFIX)


@functools.lru_cache(maxsize=64)
def compiled(word: str) -> re.Pattern[str]:
    """The expression of `re:...`.

    Raises:
        ValueError: It is none, or it matches an empty text.
    """
    text = word.removeprefix(PREFIX)
    try:
        found = re.compile(text)
    except (re.error, OverflowError, RecursionError) as exc:
        raise ValueError(f"{word!r} is no regular expression: {exc}") from exc
    if found.search("") is not None:
        raise ValueError(f"{word!r} matches an empty text, so it would match everywhere")
    return found


def check_speed(word: str) -> None:
    """Try an expression with texts that take long. It is a test, no proof.

    Raises:
        UsageError: It takes too long.
    """
    pattern = compiled(word)
    for unit in _units(word.removeprefix(PREFIX)):
        for length in _lengths():
            text = (unit * length)[:length] + "\0"
            began = time.thread_time()
            pattern.sub("", text)
            took_s = time.thread_time() - began
            if took_s > SLOW_S:
                raise UsageError(
                    f"{word!r} takes too long",
                    why=f"it takes {took_s:.2g} s for {length} letters such as {unit * 3!r}",
                    fix="repeat nothing that repeats, as (a+)+ does, and say how often at most, as in [a-z]{1,64}",
                )


def _lengths() -> Iterator[int]:
    """One more each time first: what doubles with each letter is found out before it takes minutes."""
    yield from range(8, 64)
    length = 64
    while length < LONGEST:
        length = min(length * 5 // 4, LONGEST)
        yield length


def _units(text: str) -> Iterator[str]:
    """What hostile texts are made of: each sign of the expression that stands for itself, and a few usual ones."""
    own = re.sub(r"\\.|[^\w@ .,:;/-]", "", text)
    yield from dict.fromkeys([*own[:12], *("a", "0", " ", "a.", "a@", "0-", own or "a")])
