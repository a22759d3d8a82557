"""PromQL that several panels share. The figures are explained in docs/metrics.md."""

from __future__ import annotations

from form import BAD, GOOD

RATE = "[$__rate_interval]"
REAL = 'model!~".+[.]trial"'  # versions that are being tried are no models
ASKED = "modelport_requests_total"
FAILED_GRPC = 'grpc_status=~"2|4|13|14|15"'
REFUSED_GRPC = 'grpc_status!~"0?|2|4|13|14|15"'
NO_GATEWAY = "no gateway runs"
NOBODY = f"nobody has asked for days, or {NO_GATEWAY}"
NO_GPU = "Triton sees no GPU"
NO_TRAFFIC = "1e-9"  # requests a second: less than any that come
NO_LIMIT = "the tenant has no daily quota"
REASONS = (
    "By Triton's reason. BACKEND: the model itself, or too many wait for it. "
    "REJECTED: Triton's queue was full, or too slow."
)
YES = [("1", "yes", GOOD), ("0", "no", BAD)]
BY_VERSION = "{{version}}"


def answers(which: str) -> list[tuple[str, str]]:
    """Queries for the rates of answers by their kind; over gRPC the status of HTTP is 200 for a refusal, too.

    A kind that nobody got is 0 while there is any answer at all: without one nothing is known, and nothing is shown.
    """

    def rate(filters: str) -> str:
        chosen = ",".join(word for word in (which, filters) if word)
        return f"(sum(rate({ASKED}{{{chosen}}}{RATE})) or 0 * sum({ASKED}{{{which}}}))"

    http_failed, http_refused = rate('code=~"5.."'), rate('code!~"200|5.."')
    return [
        (rate('code="200",grpc_status=~"0?"'), "answered"),
        (f"{http_refused} + {rate(REFUSED_GRPC)}", "refused"),
        (f"{http_failed} + {rate(FAILED_GRPC)}", "failed"),
    ]


def failed_part(which: str = "") -> str:
    """The part of the requests that failed through the service's fault; 0 while there are none."""
    return f"({answers(which)[2][0]}) / clamp_min(sum(rate({ASKED}{{{which}}}{RATE})), {NO_TRAFFIC})"


def quantiles(histogram: str, which: str = "") -> list[tuple[str, str]]:
    """p50, p90 and p99 of a histogram."""
    rates = f"sum by (le) (rate({histogram}_bucket{{{which}}}{RATE}))"
    return [
        (f"histogram_quantile({part}, {rates})", name) for part, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
    ]


def per_request(figure: str, which: str, by: str) -> str:
    """Mean microseconds of a request."""
    return (
        f"sum by ({by}) (rate(nv_inference_{figure}_duration_us{{{which}}}{RATE}))"
        f" / (sum by ({by}) (rate(nv_inference_request_success{{{which}}}{RATE})) > 0)"
    )


def mean_batch(which: str, by: str) -> str:
    """Rows in a run."""
    return (
        f"sum by ({by}) (rate(nv_inference_count{{{which}}}{RATE}))"
        f" / (sum by ({by}) (rate(nv_inference_exec_count{{{which}}}{RATE})) > 0)"
    )
