"""What cannot be asked for is refused before anything is looked at."""

from __future__ import annotations

import math

import pytest

from modelport.errors import UsageError
from modelport.lifecycle.change import promote, rollback


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("verb", [promote, rollback])
def test_a_time_in_which_nothing_can_load_is_refused(tmp_path, verb, timeout_s):
    """The version would not load in it, and the one before neither when that is taken back."""
    with pytest.raises(UsageError, match="cannot load in") as caught:
        verb("net", repository=tmp_path, timeout_s=timeout_s)
    assert caught.value.why and caught.value.fix
