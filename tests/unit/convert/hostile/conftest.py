"""What the tests of refusals share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelport.errors import SourceError, SourceFormatError, UnsafeSourceError


@pytest.fixture
def refused() -> Callable[..., str]:
    """`refused(check, path, error, *words)`: the message of a refusal, which names the file and the words."""

    def run(check: Callable[[Path], object], path: Path, error: type[SourceError], *words: str) -> str:
        with pytest.raises(error) as caught:
            check(path)
        message = str(caught.value)
        assert type(caught.value) in (SourceFormatError, UnsafeSourceError)
        assert caught.value.what and caught.value.why and caught.value.fix, message
        assert caught.value.path == str(path)
        for word in (str(path), *words):
            assert word in message, message
        return message

    return run
