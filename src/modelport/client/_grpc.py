"""Triton's gRPC protocol: a call as a message, an answer as a value. Pure functions, and the channel's settings.

Messages and stubs are tritonclient's. No deadline is ever sent and no call is ever cancelled: in Triton before 25.02,
the embedded 2.51.0 among them, a cancellation that meets a finishing request crashes or freezes the whole server
(https://github.com/triton-inference-server/server/issues/8034; seen here after some thousand deadlines of a few
milliseconds). A call whose deadline passes is *abandoned*: the caller gets its `DeadlineError` in time, the answer is
dropped when it comes. Until then it keeps its place among the client's concurrent calls, so that a server that hangs
does not collect them without end. Other gRPC clients do send deadlines; the embedded server lives with that where its
compiled parts are there (`server/native/receive.cc`).
"""

from __future__ import annotations

import re
import socket
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from modelport.client import _errors
from modelport.client._calls import Answer, Call, Infer, Metadata, RawSpec, Ready, Tensor
from modelport.client._connection import Target, tls_context
from modelport.client._http import retry_after_s
from modelport.errors import InvalidNameError, ModelportError, RequestError, UsageError
from modelport.spec import TensorSpec, dtype_of

OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 2**20),  # an error's text is metadata; above 16 KiB gRPC would drop the call for it
    ("grpc.absolute_max_metadata_size", 2**21),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # retries are decided in one place, `_policy`
    ("grpc.use_local_subchannel_pool", 1),  # close() closes this client's connection, not one that others share
    ("grpc.initial_reconnect_backoff_ms", 100),  # a retry must find a new connection, not the last one's failure
    ("grpc.max_reconnect_backoff_ms", 1000),
)
MAX_INPUT_BYTES = 2**31 - 2**20  # protobuf's limit is 2 GiB - 1; names and shapes take a little of it
_NOT_CONNECTED = re.compile(r"failed to connect|resolv|connection attempt", re.IGNORECASE)
_TEXT_TOO_LONG = re.compile(r"metadata size exceeds")
_BROKEN = re.compile(
    r"socket closed|stream removed|recvmsg|sendmsg|goaway|connection reset|broken pipe|endpoint|transport",
    re.IGNORECASE,
)


def message_for(call: Call) -> tuple[str, Any]:
    """The stub's method and the message for a call.

    Raises:
        RequestError: The message would be larger than gRPC allows.
    """
    if isinstance(call, Infer):
        return "ModelInfer", _infer_message(call)
    version = "" if call.version is None else str(call.version)
    if isinstance(call, Metadata):
        return "ModelMetadata", pb.ModelMetadataRequest(name=call.model, version=version)
    if call.model is None:
        return "ServerReady", pb.ServerReadyRequest()
    return "ModelReady", pb.ModelReadyRequest(name=call.model, version=version)


def answer_from(target: Target, call: Call, message: Any) -> Answer:
    """What the server's answer to a call says.

    Raises:
        RemoteError: The answer cannot be read.
    """
    if isinstance(call, Ready):
        return bool(message.ready)
    try:
        if isinstance(call, Metadata):
            return RawSpec(inputs=_tensor_specs(message.inputs), outputs=_tensor_specs(message.outputs))
        return {
            output.name: Tensor(name=output.name, dtype=dtype_of(output.datatype), shape=tuple(output.shape), data=data)
            for output, data in zip(message.outputs, message.raw_output_contents, strict=True)
        }
    except (ValueError, InvalidNameError, UsageError) as error:
        raise _errors.unreadable(target, call, error) from error


def error_from(target: Target, call: Call, error: grpc.RpcError, timeout_s: float) -> ModelportError | None:
    """The error of a call that failed; None when a `Ready` call was answered with "no"."""
    code, details = error.code().name, str(error.details())
    if code == "DEADLINE_EXCEEDED":
        return _errors.late(target, call, timeout_s)
    if code == "UNAVAILABLE" and _NOT_CONNECTED.search(details):
        return _errors.unreachable(target, _reason(details))
    if code == "UNAVAILABLE" and _BROKEN.search(details):
        return _errors.broken(target, call, details)
    if isinstance(call, Ready) and code in ("NOT_FOUND", "UNAVAILABLE", "INVALID_ARGUMENT"):
        return None
    if _TEXT_TOO_LONG.search(details):  # RESOURCE_EXHAUSTED, which else means "not now"
        return _errors.refused(target, call, 500, "the server's error text is too long to be sent")
    trailers = {str(key): str(value) for key, value in error.trailing_metadata() or ()}
    word = trailers.get("modelport-code", "")
    status = _errors.STATUS_OF_WORD.get(word, _errors.STATUS_OF_CODE.get(code, 500))
    return _errors.refused(target, call, status, details, retry_after_s(trailers))


def _reason(details: str) -> BaseException | str:
    """gRPC's words for a failed connection, as the exception that HTTP gives where there is one."""
    if "Connection refused" in details:
        return ConnectionRefusedError(details)
    if "resolv" in details and "name" in details:
        return socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return details


def _infer_message(call: Infer) -> Any:
    size = sum(len(tensor.data) for tensor in call.inputs)
    if size > MAX_INPUT_BYTES:
        raise RequestError(
            f"the inputs for {call.subject} take {size} bytes",
            why=f"one gRPC message cannot hold more than {MAX_INPUT_BYTES} bytes of them",
            fix="send fewer rows in one request, or ask over HTTP",
        )
    message = pb.ModelInferRequest(
        model_name=call.model, model_version="" if call.version is None else str(call.version)
    )
    for tensor in call.inputs:
        message.inputs.add(name=tensor.name, datatype=tensor.dtype.triton, shape=tensor.shape)
        message.raw_input_contents.append(tensor.data)
    for name in call.outputs:
        output = message.outputs.add(name=name)
        if call.classes:
            output.parameters["classification"].int64_param = call.classes
    return message


def _tensor_specs(tensors: Any) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=t.name, dtype=dtype_of(t.datatype), dims=tuple(t.shape)) for t in tensors)


def credentials(target: Target) -> grpc.ChannelCredentials | None:
    """What a `grpcs` channel needs, or None. The files were checked by `tls_context` before."""
    if not target.is_secure:
        return None
    tls_context(target)
    read = {
        key: path.read_bytes() if path else None
        for key, path in {
            "root_certificates": target.ca_file,
            "private_key": target.client_key or target.client_cert,
            "certificate_chain": target.client_cert,
        }.items()
    }
    return grpc.ssl_channel_credentials(**read)
