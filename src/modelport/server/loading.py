"""Ask a server to load a model, over gRPC.

Over HTTP, Triton answers a load call in the thread that also carries callers' connections: until the model is loaded,
every request on every open HTTP connection of that thread waits (seen with 2.51.0: all of 32 clients stood still for
the six seconds of a load). Over gRPC nobody waits. Unloading and the other control calls answer at once.

The two messages are small enough to be written and read by hand; tritonclient takes longer to import than the server
takes to load a small model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelport.errors import ServerError
from modelport.server import failures

_METHOD = "/inference.GRPCInferenceService/RepositoryModelLoad"
_MODEL_NAME = 2 << 3 | 2  # field 2 of RepositoryModelLoadRequest, of length-delimited type
_LONGEST = 127  # bytes whose length goes into one byte; names of models are shorter


def load(address: str, metadata: Mapping[str, str], model: str, *, timeout_s: float) -> None:
    """Ask for a load and wait for its answer, which proves nothing: compare the index afterwards.

    Args:
        address: gRPC address, such as `127.0.0.1:8001`.
        metadata: What opens the restricted APIs.
        model: Model name, for which there is a folder.
        timeout_s: Seconds that loading may take. When they have passed, the call is left alone, not cancelled:
            cancellations can crash Triton before 25.02.

    Raises:
        ServerError: It did not load; `why` is Triton's reason.
        ServerTimeoutError: It is still loading.
    """
    import grpc

    channel = grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)))
    call = channel.unary_unary(_METHOD).future(_request(model), metadata=tuple(metadata.items()))
    call.add_done_callback(lambda _: channel.close())
    try:
        call.result(timeout_s)
    except grpc.FutureTimeoutError as exc:
        raise failures.still_loading(model, timeout_s) from exc
    except grpc.RpcError as exc:
        failed: Any = exc
        raise ServerError(
            f"the server did not load model {model!r}",
            why=failed.details() or failed.code().name,
            fix="correct what it names; its log may say more",
        ) from exc


def _request(model: str) -> bytes:
    name = model.encode()
    assert len(name) <= _LONGEST
    return bytes([_MODEL_NAME, len(name)]) + name
