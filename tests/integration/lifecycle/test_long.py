"""B2: many promotions and rollbacks in a row under load; the server is as large after them as before."""

from __future__ import annotations

from dataclasses import replace

import pytest

import modelport
from modelport._process import wait_until

MIB = 2**20
GROWTH = 64 * MIB
WARM_UP = 3  # what a server needs only once is there then


def turns(shelf, server, net, count, load, moments):
    """Promote and go back, `count` of both together; when each switch was."""
    switches = []
    for turn in range(count):
        seen = moments()
        if turn % 2 == 0:
            done = modelport.promote(net, 2, repository=shelf.root, report=seen)
        else:
            done = modelport.rollback(net, repository=shelf.root, report=seen)
        switches.append(seen.switch(done.version))
        load.wait(30)
    return switches


def hold_steady(shelf, server, net, callers, footprint, moments, count):
    shelf.publish(net)
    with callers(server, net) as load:
        switches = turns(shelf, server, net, 2 * WARM_UP, load, moments)
        before = settled(server, footprint)
        switches += turns(shelf, server, net, count, load, moments)
        after = settled(server, footprint)
    print(f"{count} changes, {len(load.answers)} requests: {before} -> {after}")
    assert load.violations([1, 2], switches=switches) == []
    assert {one.value for one in load.answers if one.pinned is None} == {1, 2}
    assert larger(before, after) == []


def larger(before, after):
    """What of a server did not stay as it was."""
    now, then = vars(after), vars(before)
    grown = now["rss_bytes"] - then["rss_bytes"]
    found = [f"{key}: {then[key]} -> {now[key]}" for key in now if key != "rss_bytes" and now[key] != then[key]]
    return found + ([f"memory: {grown / MIB:+.0f} MiB"] if grown >= GROWTH else [])


def settled(server, footprint):
    """What the server holds once what was unloaded has ended: two looks that are the same but for the memory."""
    looks = [footprint(server)]

    def same():
        looks.append(footprint(server))
        last, present = (vars(look) | {"rss_bytes": 0} for look in looks[-2:])
        return last == present

    assert wait_until(same, timeout_s=20, interval_s=1.5)
    return looks[-1]


@pytest.mark.timeout(120)
def test_promotions_and_rollbacks_in_a_row(shelf, server, net, callers, footprint, moments):
    hold_steady(shelf, server, net, callers, footprint, moments, 6)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_fifty_promotions_and_rollbacks_in_a_row(shelf, server, net, callers, footprint, moments):
    hold_steady(shelf, server, net, callers, footprint, moments, 50)


def test_what_is_left_behind_is_noticed(shelf, server, net, footprint):
    """Negative control: one more model with a process is one more of these and one more region of shared memory.

    Descriptors are shown apart: a connection of an earlier test that Triton closes meanwhile can make up for them.
    """
    before = settled(server, footprint)
    shelf.publish("more", python={})
    server.load("more")
    after = settled(server, footprint)
    assert {"children", "shared_memory"} <= {one.split(":")[0] for one in larger(before, after)}
    more = before.descriptors + 1
    assert larger(before, replace(before, descriptors=more)) == [f"descriptors: {before.descriptors} -> {more}"]
    assert larger(before, replace(before, rss_bytes=before.rss_bytes + GROWTH)) == ["memory: +64 MiB"]
    server.unload("more")
