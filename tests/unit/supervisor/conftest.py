"""The supervisor's own seams, with nothing behind them: a clock that is set, and work that is done at once."""

from __future__ import annotations

import pytest

from modelport.supervisor.link import Link


class Clock:
    """Seconds that only grow when the test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class AtOnce:
    """In the place of `Jobs`: what is started has ended when `start` returns."""

    def __init__(self):
        self.done = []

    def start(self, model, what, action):
        self.done.append((model, what))
        action()
        return True

    def busy(self):
        return {}


class Server:
    """In the place of `ServerHandle`: it does what the test says, or fails as the test says."""

    def __init__(self):
        self.calls, self.error, self.lives, self.trial = [], None, True, None
        self.sheds = {}

    def running(self):
        return self.lives

    def load(self, model, **options):
        return self._do("load", model)

    def shed(self, model, said=""):
        """What did not load is taken out, and the error with it."""
        if self.sheds:
            self.error = None
        return self.sheds

    def end_loads(self, model):
        self.calls.append(("end_loads", model))

    def restore(self, model, *, versions, **options):
        return self._do("restore", model, *versions)

    def _do(self, *call):
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        return (1,)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def jobs():
    return AtOnce()


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def link(server):
    return Link(handle=server, starts=1)


@pytest.fixture
def happened():
    """The events."""
    return []


@pytest.fixture
def kinds(happened):
    """`kinds()`: of the events, in order."""
    return lambda: [event.kind for event in happened]
