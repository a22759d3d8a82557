"""What was captured is deleted in time, is never too much, and is read in its order."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.gateway.capture import keeper, segment, stored
from modelport.gateway.capture.exchange import Exchange
from modelport.gateway.capture.keeper import Keeper, TooLargeError
from modelport.gateway.capture.segment import Damaged
from modelport.gateway.capture.stored import Rule

HOUR = 3600


def exchange(at, size=3, model="net"):
    zeros = np.arange(size, dtype=np.float32)
    return Exchange(
        model=model, version=1, at=at, protocol="http", status=200, inputs={"x": zeros}, outputs={"y": zeros}
    )


def rule(**more):
    return Rule(model="net", part=1.0, **{"keep_s": 24 * HOUR, **more})


def times(repository, key, **more):
    return [found.at for found in keeper.read(repository, "net", key, **more)]


def test_records_are_read_in_the_order_in_which_they_came(repository, key, now):
    writer = Keeper(repository, key)
    at = [now, now + 1, now + 2 * HOUR, now + 2 * HOUR + 1]
    for one in at:
        writer.keep(exchange(one), rule())
    assert times(repository, key) == at  # while they are written, too
    writer.close()
    assert times(repository, key) == at and times(repository, key, since=now + 5) == at[2:]
    assert keeper.kept(repository, "net").files == 2 and keeper.kept(repository, "net").oldest_at == now
    assert keeper.models(repository) == ["net"]
    assert keeper.folder(repository, "net").stat().st_mode & 0o077 == 0


def test_nothing_lives_longer_than_its_rule_says(repository, key, now):
    writer = Keeper(repository, key)
    for hours in range(6):
        writer.keep(exchange(now + hours * HOUR), rule())
    writer.close()
    stored.put(repository, rule())
    for later in np.arange(20.0, 32.0, 0.5):
        keeper.expire(repository, now + later * HOUR)
        assert all(now + later * HOUR - at < 24 * HOUR for at in times(repository, key))
        assert len(times(repository, key)) >= sum(1 for h in range(6) if later - h < 23)  # an hour less, at most
    assert keeper.models(repository) == []


def test_a_shorter_time_holds_for_what_is_there_a_longer_one_does_not(repository, key, now):
    writer = Keeper(repository, key)
    writer.keep(exchange(now), rule(keep_s=10 * HOUR))
    writer.close()
    stored.put(repository, rule(keep_s=100 * HOUR))
    assert keeper.expire(repository, now + 9 * HOUR) == 0
    stored.put(repository, rule(keep_s=1 * HOUR))
    assert keeper.expire(repository, now + 2 * HOUR) == 1


def test_what_is_off_expires_as_well_and_so_does_what_has_damaged_rules(repository, key, now):
    writer = Keeper(repository, key)
    writer.keep(exchange(now), rule())
    writer.close()
    stored.put(repository, rule())
    stored.path(repository).write_text("{")
    assert keeper.expire(repository, now + 23 * HOUR) == 0
    assert keeper.expire(repository, now + 25 * HOUR) == 1


def test_a_file_from_the_future_does_not_live_for_ever(repository, key, now):
    writer = Keeper(repository, key)
    writer.keep(exchange(now + 1000 * HOUR), rule())
    writer.close()
    assert keeper.expire(repository, now) == 1


def test_the_oldest_goes_where_there_is_too_much(repository, key, now):
    writer, most = Keeper(repository, key), stored.LEAST_BYTES
    for second in range(60):
        writer.keep(exchange(now + second, size=5000), rule(most_bytes=most))  # 40 kB each
        assert keeper.kept(repository, "net").size_bytes <= most
    writer.close()
    at = times(repository, key)
    assert at == [now + second for second in range(60 - len(at), 60)] and len(at) > 15


def test_one_that_is_larger_than_a_file_may_be_is_refused(repository, key, now):
    with pytest.raises(TooLargeError):
        Keeper(repository, key).keep(exchange(now, size=50_000), rule(most_bytes=stored.LEAST_BYTES))
    assert keeper.models(repository) == []


def test_what_is_deleted_while_it_is_written_stays_deleted_and_the_next_is_kept(repository, key, now):
    writer = Keeper(repository, key)
    writer.keep(exchange(now), rule())
    assert keeper.delete(repository, "net") == 1
    writer.keep(exchange(now + 1), rule())
    writer.close()
    assert times(repository, key) == [now + 1]


def test_damage_in_one_file_is_told_and_the_others_are_read(repository, key, now):
    writer = Keeper(repository, key)
    for hours in range(3):
        writer.keep(exchange(now + hours * HOUR), rule())
    writer.close()
    middle = sorted(keeper.folder(repository, "net").iterdir())[1]
    content = bytearray(middle.read_bytes())
    content[-1] ^= 1
    middle.write_bytes(content)
    found = list(keeper.read(repository, "net", key))
    damaged = [one for one in found if isinstance(one, Damaged)]
    assert len(found) == 4 and len(damaged) == 1 and middle.name in str(damaged[0])


def test_a_file_that_is_finished_between_listing_and_reading_is_read(repository, key, now):
    writer = Keeper(repository, key)
    writer.keep(exchange(now), rule())
    (path,) = keeper.folder(repository, "net").iterdir()
    writer.close()
    assert path.suffix == segment.OPEN and not path.exists()
    assert len(list(segment.read(path, key, "net"))) == 1
