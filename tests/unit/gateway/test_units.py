"""Amounts are read as people write them, and nothing else is."""

from __future__ import annotations

import pytest

from modelport.errors import UsageError
from modelport.gateway import units


@pytest.mark.parametrize(
    ("text", "per_s"),
    [
        ("50/s", 50),
        ("1000/min", 1000 / 60),
        ("2.5/s", 2.5),
        ("600/h", 1 / 6),
        (" 10000/d ", 10000 / 86400),
        ("6/m", 0.1),
    ],
)
def test_a_rate_is_read(text, per_s):
    assert units.rate(text) == pytest.approx(per_s)


@pytest.mark.parametrize(
    "text", ["50", "50/", "/s", "50/x", "-1/s", "0/s", "1e3/s", "nan/s", "50s/s", "50/s/s", "", "9999999/s"]
)
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="is no rate"):
        units.rate(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("15min", 900), ("15m", 900), ("12h", 43200), ("30d", 2592000), ("2w", 1209600), ("0", 0)],
)
def test_a_length_of_time_is_read(text, seconds):
    assert units.duration(text) == seconds


@pytest.mark.parametrize("text", ["30", "d", "-1d", "1y", "1d12h", "1e3s", "inf s", "", "٣d"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(ValueError, match="is no length of time"):
        units.duration(text)


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("100000", 100000)])
def test_a_number_is_read(text, count):
    assert units.count(text) == count


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3", "ten", "", "9" * 16, "٣"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="no whole number"):
        units.count(text)


@pytest.mark.parametrize(
    ("text", "size"), [("1048576", 2**20), ("8MiB", 2**23), ("500kB", 500_000), ("1.5 GB", 1_500_000_000)]
)
def test_a_size_is_read(text, size):
    assert units.size(text) == size


@pytest.mark.parametrize("text", ["0", "-1", "8 megs", "MiB", "", "0.1B"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is no size"):
        units.size(text)


def test_options_are_read_together_and_what_is_wrong_is_told_together():
    assert units.read({"--rate": (units.rate, "2/s"), "--daily": (units.count, None)}) == {"--rate": 2.0}
    assert units.read({"--rate": (units.or_none(units.rate), "none")}) == {"--rate": None}
    with pytest.raises(UsageError) as caught:
        units.read({"--rate": (units.rate, "2"), "--expires": (units.duration, "3")})
    assert "--rate: '2'" in caught.value.why and "--expires: '3'" in caught.value.why


@pytest.mark.parametrize("text", ["50/s", "1000/min", "600/h", "10000/d", "1/d"])
def test_a_rate_is_shown_as_it_was_written(text):
    assert units.as_rate(units.rate(text)) in (text, "10/min")  # 600/h
