"""Wait until a server that was just started answers, take its secret out of its argument list, and load its models.

The server starts without models. Those that it is told to load at its start keep it from answering until the last one
is loaded, and one that hangs in its loading does so for good.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from modelport._process import Child
from modelport.errors import ModelportError, ServerDiedError, ServerError
from modelport.server import failures, loading, model_folder, ports
from modelport.server.handle import ServerHandle
from modelport.server.secret import scrub, visible

AT_ONCE = 4  # models that are loaded at the same time
ENDING_S = 5.0  # a process that crashes answers no more before it has ended: its memory is taken down first
SLOWEST = "pytorch"  # the backend whose models load for the longest: each process imports torch
_TRITON_LINE = re.compile(r"^[IWE][0-9]{4} ", re.MULTILINE)  # such a line comes after Triton has read its options
_log = logging.getLogger(__name__)


def await_answer(child: Child, handle: ServerHandle, timeout_s: float) -> None:
    """Wait until the server answers over HTTP and gRPC.

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


def load_models(
    child: Child | None, handle: ServerHandle, models: Iterable[str], timeout_s: float, *, at_once: int = AT_ONCE
) -> dict[str, str]:
    """Have the server load its models, some at a time; one that takes too long goes on loading while others serve.

    Those that take longest are begun first: the last one that is begun would keep the others' cores idle.

    Versions that keep the serving version of their model from being loaded are taken out of its policy.

    Args:
        child: The server's process; None for one that is not ours.
        handle: The server.
        models: The models.
        timeout_s: Seconds to wait for each.
        at_once: Models that are loaded at the same time.

    Returns:
        The models that do not serve every version that they should, each with the reason.

    Raises:
        ServerDiedError: The server ended.
    """
    wanted = sorted(models, key=lambda model: model_folder.backend(handle.repository_of(model) / model) != SLOWEST)
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="modelport-load")
    try:
        said = dict(zip(wanted, pool.map(lambda model: _load(child, handle, model, timeout_s), wanted), strict=True))
    finally:  # after Ctrl-C nothing is waited for
        pool.shutdown(wait=False, cancel_futures=True)
    try:
        problems = handle.problems(wanted)
    except ServerError:
        if child is None or child.wait(ENDING_S) is None:
            raise
        raise died(child) from None
    return {model: why or said[model] or failures.SILENT for model, why in problems.items()}


def _load(child: Child | None, handle: ServerHandle, model: str, timeout_s: float) -> str:
    """Load a model; what the server says where it does not load."""
    address = f"{handle.host}:{handle.grpc_port}"
    try:
        loading.load(address, handle.grpc_metadata, model, timeout_s=timeout_s)
        return ""
    except ServerError as error:
        failed = error.why
    try:
        if (child is None or child.returncode() is None) and handle.shed(model):
            loading.load(address, handle.grpc_metadata, model, timeout_s=timeout_s)
            return ""
    except ModelportError as error:
        _log.warning("%s: %s", error.what, error.why)
    return failed


def died(child: Child) -> ServerDiedError:
    """The error for a server that ended by itself."""
    return failures.died(child.wait(1.0) or 0, child.log_tail(), child.log)
