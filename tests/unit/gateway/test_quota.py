"""What tenants used is counted from the access log: each line once, whatever happens to the file."""

from __future__ import annotations

import itertools
import json

import pytest

from modelport.gateway import access_log, quota

DAY = "2026-03-04"
NUMBERS = itertools.count()


def line(tenant="acme", *, day=DAY, passed="1", flags="-"):
    about = {"id": str(next(NUMBERS)), "time": f"{day}T01:02:03.000Z", "status": 200}
    return json.dumps({**about, "tenant": tenant, "passed": passed, "flags": flags}) + "\n"


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "access.log"
    path.write_text("")
    return path


@pytest.fixture
def look(tmp_path, log):
    """As a process does that has just started."""
    return lambda day=DAY: dict(quota.Used(tmp_path, log).look(day))


def test_a_line_counts_once_over_any_number_of_starts(log, look):
    log.write_text(line() + line("other"))
    assert look() == look() == {"acme": 1, "other": 1}
    with log.open("a") as file:
        file.write(line())
    assert look() == {"acme": 2, "other": 1}


def test_what_did_not_pass_or_was_over_the_quota_costs_nothing(log, look):
    log.write_text(line(passed="") + line(flags="RL") + line(flags="UC,RL") + line(flags="URX") + "no JSON\n7\n[]\n")
    assert look() == {"acme": 1}


def test_a_line_counts_when_it_is_whole(log, look):
    whole = line() + line()
    log.write_text(whole[:-30])
    assert look() == {"acme": 1}
    log.write_text(whole)
    assert look() == {"acme": 2}


def test_only_the_days_own_requests_count(log, look):
    """One that began before midnight and is logged after it belongs to the day before."""
    log.write_text(line())
    assert look() == {"acme": 1}
    with log.open("a") as file:
        file.write(line() + line(day="2026-03-05"))
    assert look("2026-03-05") == {"acme": 1}


def test_a_clock_that_is_set_back_over_midnight_takes_nothing_off_what_was_used(tmp_path, log, look):
    log.write_text(line())
    assert look() == {"acme": 1}
    with log.open("a") as file:
        file.write(line(day="2026-03-05") * 2)
    assert look("2026-03-05") == {"acme": 2}
    with log.open("a") as file:
        file.write(line())
    assert look() == {"acme": 2}
    assert look("2026-03-05") == {"acme": 2}
    running = quota.Used(tmp_path, log)
    assert [running.look(f"2027-03-0{number}") for number in range(1, 5)] == [{}] * 4
    assert running.look(DAY) == {}, "days are not kept forever"


def test_what_an_earlier_version_counted_of_the_day_still_counts(tmp_path, look):
    (tmp_path / quota.STATE_FILE).write_text(json.dumps({"day": DAY, "logs": {}, "used": {"acme": 7}}))
    assert look() == {"acme": 7}


def test_a_log_that_is_put_aside_is_read_to_its_end(log, look):
    """Also where lines came between the last look and the change, and where there is no new log yet."""
    log.write_text(line())
    assert look() == {"acme": 1}
    with log.open("a") as file:
        file.write(line())
    log.replace(access_log.aside(log))
    assert look() == {"acme": 2}
    log.write_text(line() + line() + line())
    assert look() == look() == {"acme": 5}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"day": 1}', '{"day": "x", "logs": {"a": "b"}, "used": {}}'])
def test_a_damaged_state_is_counted_anew(tmp_path, log, look, content):
    log.write_text(line())
    (tmp_path / quota.STATE_FILE).write_text(content)
    assert look() == {"acme": 1}


def test_nobody_has_less_than_nothing_left():
    assert quota.left({"acme": 3, "new": 2}, {"acme": 5, "other": 1}) == {"acme": 0, "new": 2}
