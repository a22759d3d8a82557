"""The rules of what is captured stand in one file, and a damaged one is told."""

from __future__ import annotations

import pytest

from modelport.errors import ManifestError, UsageError
from modelport.gateway.capture import stored
from modelport.gateway.capture.stored import Rule


def test_without_a_file_nothing_is_captured(repository):
    assert stored.rules(repository) == {} and not stored.remove(repository, "net")


def test_rules_come_back_as_they_were_set(repository):
    first = Rule(model="net", part=0.01, redact=("x", r"re:\d{4}"), keep_s=3600, also=("id",), most_bytes=1 << 21)
    second = Rule(model="other", part=1.0)
    stored.put(repository, Rule(model="net", part=0.5))
    stored.put(repository, second)
    stored.put(repository, first)
    assert stored.rules(repository) == {"net": first, "other": second}
    assert stored.remove(repository, "net") and stored.rules(repository) == {"other": second}
    assert stored.path(repository).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["{", "[]", '{"format":2,"rules":{}}', '{"format":1,"rules":{"net":{"part":7}}}'])
def test_a_damaged_file_is_told(repository, text):
    stored.put(repository, Rule(model="net", part=0.5))
    stored.path(repository).write_text(text)
    with pytest.raises(ManifestError, match="rules for capturing cannot be read"):
        stored.rules(repository)


def test_all_that_cannot_be_is_listed():
    with pytest.raises(UsageError) as caught:
        Rule(model="net", part=0.0, keep_s=1.0, also=("body",), most_bytes=1, redact=("re:[",))
    for word in ("part", "1 minute", "'body'", "1 MiB", "regular expression"):
        assert word in caught.value.why
