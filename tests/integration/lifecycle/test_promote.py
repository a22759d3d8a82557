"""Promoting and going back in a running server: what callers get, what is refused, and what is left behind."""

from __future__ import annotations

import time

import pytest

import modelport
from modelport.errors import ModelportError, ServerError, VerificationError, VersionNotFoundError
from modelport.repository import config as configs
from modelport.server import stubs

PROVED = "asking for version {} by its number and without"


class Moments:
    """When each step of a promotion began."""

    def __init__(self):
        self.steps = []

    def __call__(self, text):
        self.steps.append((time.monotonic(), text))

    def of(self, version):
        """When the switch to the version had been made: it was asked for then, to prove it."""
        [moment] = [at for at, text in self.steps if text == PROVED.format(version)]
        return moment


def processes(server, model="net"):
    return {stub.version: stub.pid for stub in stubs.find(server.handle, model)}


def test_a_promotion_under_load_loses_no_request_and_mixes_no_versions(shelf, start, ask, callers):
    """B1 and A10: every answer is version 1's or 2's, only 2's after the switch, and version 1 is not loaded anew."""
    shelf.publish()
    server = start()
    shelf.publish()
    assert ask(server) == 1, "a published version takes no traffic"
    before, seen = processes(server), Moments()
    with callers(server) as load:
        done = modelport.promote("net", repository=shelf.root, report=seen)
        returned = time.monotonic()
        load.wait(100)
    assert load.violations([1, 2], only=[(seen.of(2), 2)]) == []
    assert {one.value for one in load.answers if one.pinned is None and one.sent > returned} == {2}
    assert (done.version, done.before, done.loaded, done.server) == (2, 1, (1, 2), server.http_url)
    assert shelf.named() == (1, 2)
    assert processes(server)[1] == before[1], "version 1 was loaded anew"
    assert server.log.read_text().count("successfully loaded 'net'") == 2
    assert server.index() == tuple(state for state in server.index() if state.model == "net")


def test_going_back_under_load(shelf, start, callers):
    """A5: from the moment the switch is made, nobody gets version 2's answer any more."""
    shelf.publish()
    server = start()
    shelf.publish()
    modelport.promote("net", repository=shelf.root)
    seen, started = Moments(), time.monotonic()
    with callers(server) as load:
        done = modelport.rollback("net", repository=shelf.root, report=seen)
        assert time.monotonic() - started < 10
        load.wait(100)
    assert load.violations([1, 2], only=[(seen.of(1), 1)]) == []
    assert (done.version, done.before, done.loaded) == (1, 2, (1,))
    assert server.ready_versions("net") == shelf.named() == (1,)
