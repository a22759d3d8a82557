"""Load at a fixed rate keeps its rate, and tells what became of each request."""

from __future__ import annotations

import socket

import pytest

from modelport.bench import open_loop
from modelport.bench.requests import Request


@pytest.fixture
def silent():
    """The URL of a listener that never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("path", ["/echo", "/triton"])
def test_each_request_gets_its_answer_without_the_header(echo, path):
    replies = open_loop.drive(echo.url, Request(path=path, body=b"12345"), rate_per_s=100, seconds=0.5)
    assert [(reply.status, reply.body) for reply in replies] == [(200, b"12345")] * 50
    assert 0.45 < replies[-1].sent_s < 1.0, "it is sent at the rate"


def test_the_rate_stays_when_nobody_answers_and_the_late_are_told(silent):
    replies = open_loop.drive(silent, Request(path="/", body=b""), rate_per_s=50, seconds=0.4, patience_s=0.3)
    assert [reply.status for reply in replies] == [open_loop.LATE] * 20
    assert replies[-1].sent_s < 0.7, "nobody waits for the answers of others"
    assert 0.25 < open_loop.longest(replies, open_loop.LATE) < 1.0
    assert open_loop.longest(replies, 200) == 0.0


def test_an_error_is_told_as_it_came_and_the_connection_serves_on(echo):
    replies = open_loop.drive(echo.url, Request(path="/fail", body=b"1"), rate_per_s=50, seconds=0.2)
    assert {reply.status for reply in replies} == {500}


def test_a_connection_that_cannot_be_made_is_told(free_port):
    url = f"http://127.0.0.1:{free_port()}"
    [reply] = open_loop.drive(url, Request(path="/", body=b""), rate_per_s=1, seconds=1)
    assert reply.status == open_loop.BROKEN and reply.body
