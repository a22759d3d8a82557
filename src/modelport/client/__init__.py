"""The client: `Client` and `AsyncClient` speak Triton's HTTP and gRPC protocols to any server of models.

Needs numpy, and tritonclient or aiohttp once a URL asks for them; never torch, keras or onnx. A call goes through
`sync` or `aio` (the public classes), `_session` (the rules of a call), `_tensors` (checks, batch axis), one of the
transports `_http_sync`, `_http_aio`, `_grpc_sync`, `_grpc_aio`, and `_http` or `_grpc` (the protocols); `_errors` makes
modelport's errors of foreign ones, `_policy` says what is sent again.
"""

from __future__ import annotations

from modelport.client._session import Ranked
from modelport.client._tensors import BATCH_UNKNOWN
from modelport.client.aio import AsyncClient
from modelport.client.sync import Client

__all__ = ["BATCH_UNKNOWN", "AsyncClient", "Client", "Ranked"]
