"""Wait until a server that was just started answers, and take its secret out of its argument list."""

from __future__ import annotations

import logging
import re
import time

from modelport._process import Child
from modelport.errors import ServerDiedError
from modelport.server import failures, ports
from modelport.server.handle import ServerHandle
from modelport.server.secret import scrub, visible

_TRITON_LINE = re.compile(r"^[IWE][0-9]{4} ", re.MULTILINE)  # such a line comes after Triton has read its options
_log = logging.getLogger(__name__)


def await_answer(child: Child, handle: ServerHandle, timeout_s: float) -> None:
    """Wait until the server answers over HTTP and gRPC; it does so when it has tried to load its models.

    Args:
        child: The server's process.
        handle: What it was started with.
        timeout_s: Seconds that it may take.

    Raises:
        PortTakenError: Another process took one of its ports, and the server ended.
        ServerDiedError: It ended for another reason.
        ServerTimeoutError: It did not answer in time.
    """
    deadline = time.monotonic() + timeout_s
    scrubbed = False
    while True:
        if child.returncode() is not None:
            ports.check_free(handle.host, handle.ports)
            raise died(child)
        # Its memory is written to only when Triton has read its options.
        if not scrubbed and _TRITON_LINE.search(child.log_tail(5)):
            scrubbed = scrub(child.pid, handle.secret)
        if handle.live() and ports.answers(handle.host, handle.grpc_port):
            break
        if time.monotonic() > deadline:
            raise failures.too_slow(timeout_s, child.log_tail(), child.log)
        time.sleep(0.01)
    if visible(child.pid, handle.secret) and not scrub(child.pid, handle.secret):
        _log.warning("the kernel does not let us overwrite the control secret in the server's argument list")


def died(child: Child) -> ServerDiedError:
    """The error for a server that ended by itself."""
    return failures.died(child.wait(1.0) or 0, child.log_tail(), child.log)
