"""What the gateway answers where it gives no outputs: the table of docs/callers.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Answers of one status.

    Attributes:
        status: Over HTTP.
        codes: The words that `code` may be.
        meaning: What went wrong, and what to do.
        retry: Whether the answer says after how many seconds to ask again.
        infer_only: Whether only inference can be answered so.
    """

    status: int
    codes: tuple[str, ...]
    meaning: str
    retry: bool = False
    infer_only: bool = False


REFUSALS = (
    Refusal(status=400, codes=("bad_request",), meaning="The text says what is wrong: a name, shape, type, length."),
    Refusal(status=401, codes=("unauthorized",), meaning="No key, none of this service, or it has expired."),
    Refusal(status=403, codes=("forbidden",), meaning="The key is revoked, or not for this model."),
    Refusal(status=404, codes=("not_found",), meaning="No such path, model or version."),
    Refusal(status=408, codes=("timeout",), meaning="The request did not arrive in time: send it again."),
    Refusal(
        status=413,
        codes=("too_large",),
        meaning="The request is larger than it may be: send fewer rows in one request.",
        infer_only=True,
    ),
    Refusal(status=415, codes=("unsupported",), meaning="The request is compressed: send it as it is."),
    Refusal(status=426, codes=("bad_request",), meaning="HTTP/1.0, or older: ask over HTTP/1.1 or HTTP/2."),
    Refusal(
        status=429,
        codes=("rate_limited", "quota_exceeded", "concurrency_limited"),
        meaning="More requests than the tenant may send, or have on their way, or the tenant's day (UTC) is used up.",
        retry=True,
    ),
    Refusal(status=431, codes=("too_large",), meaning="The headers are too large."),
    Refusal(
        status=500, codes=("internal",), meaning="The model failed: tell the owner, with the answer's `x-request-id`."
    ),
    Refusal(status=502, codes=("unavailable",), meaning="The server does not answer now: try again."),
    Refusal(
        status=503,
        codes=("unavailable", "overloaded"),
        meaning="The server does not answer now, or has too much to do: try again.",
        retry=True,
    ),
    Refusal(status=504, codes=("timeout",), meaning="The answer took too long: send fewer rows in one request."),
)
