"""What is shown is the difference of two readings; quantiles are those of a longer time."""

from __future__ import annotations

import pytest

from modelport.watching.pages import Reading
from modelport.watching.series import Series
from modelport.watching.view import view

TRITON = """
nv_inference_request_success{{model="net",version="1"}} {one}
nv_inference_request_success{{model="net",version="2"}} {two}
nv_inference_request_success{{model="net.trial",version="3"}} 7
nv_inference_request_failure{{model="net",reason="BACKEND",version="1"}} {failed}
nv_inference_count{{model="net",version="1"}} {rows}
nv_inference_exec_count{{model="net",version="1"}} {one}
nv_inference_request_duration_us{{model="net",version="1"}} {us}
nv_inference_queue_duration_us{{model="net",version="1"}} {queue_us}
nv_inference_pending_request_count{{model="net",version="1"}} 4
nv_cpu_utilization 0.5
"""
GATEWAY = """
modelport_gateway_up 1
modelport_requests_total{{tenant="acme",model="net",code="200",grpc_status=""}} {ok}
modelport_requests_total{{tenant="acme",model="net",code="200",grpc_status="14"}} {down}
modelport_requests_total{{tenant="acme",model="",code="429",grpc_status=""}} {limited}
modelport_request_seconds_bucket{{model="net",le="0.001"}} {fast}
modelport_request_seconds_bucket{{model="net",le="0.002"}} {all}
modelport_request_seconds_bucket{{model="net",le="+Inf"}} {all}
"""
WATCHED = 'modelport_ready 1\nmodelport_serving_version{model="net"} 2\nmodelport_model_ready{model="net"} 0\n'
GPU = 'nv_gpu_utilization{gpu_uuid="GPU-1"} 0.25\nnv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 2e9\n'


def triton(one=0, two=0, failed=0, rows=0, us=0, queue_us=0):
    return TRITON.format(one=one, two=two, failed=failed, rows=rows, us=us, queue_us=queue_us)


def reading(at_s, *pages):
    return Reading(at_s=at_s, series=Series(pages), away={})


def test_rates_and_means_are_those_between_the_last_two_readings():
    first = reading(0.0, triton(one=5, two=5))
    before = reading(8.0, triton(one=100, two=50, failed=1, rows=400, us=1000, queue_us=100))
    found = view([first, before, reading(10.0, triton(120, 80, 2, 480, 41000, 10100), WATCHED)])
    (net,) = found.models
    assert (found.seconds, found.requests_per_s, found.errors_per_s, found.cpu) == (2.0, 25.0, 0.5, 0.5)
    assert (net.serving, net.ready, found.ready, found.quantiles) == (2, False, True, "server")
    one, two = (version.work for version in net.versions)
    assert (one.requests_per_s, one.mean_batch, one.mean_ms, one.queue_ms, one.pending) == (10.0, 4.0, 2.0, 0.5, 4)
    assert (two.requests_per_s, two.mean_batch) == (15.0, None)


def test_a_server_that_was_started_again_counts_from_nothing():
    found = view([reading(0.0, triton(one=900, us=9000)), reading(1.0, triton(one=20, us=20000))])
    assert (found.requests_per_s, found.models[0].work.mean_ms) == (20.0, 1.0)


def test_callers_and_tenants_are_told_by_the_gateway():
    def page(ok, down, limited, fast):
        return GATEWAY.format(ok=ok, down=down, limited=limited, fast=fast, all=ok)

    pages = [page(0, 0, 0, 0), page(10, 0, 0, 0), page(20, 2, 3, 10)]
    found = view([reading(float(second), triton(), text) for second, text in enumerate(pages)])
    (acme,), seen = found.tenants, found.models[0].seen
    assert (acme.seen.requests_per_s, acme.seen.refused_per_s, acme.seen.failed_per_s) == (15.0, 3.0, 2.0)
    assert (seen.requests_per_s, seen.failed_per_s, found.quantiles) == (12.0, 2.0, "gateway")
    # Half of the last two seconds' twenty were within one millisecond.
    assert (seen.p50_ms, seen.p99_ms) == (pytest.approx(1.0), pytest.approx(1.98))
    assert acme.seen.p50_ms is None


def test_what_was_counted_before_anybody_looked_is_not_what_happens_now():
    """The figures of tenants outlast restarts: after one, or after days without a call, they begin anywhere."""
    page = GATEWAY.format(ok=1_000_000, down=0, limited=0, fast=900_000, all=1_000_000)
    found = view([reading(0.0, triton(), "modelport_gateway_up 1\n"), reading(2.0, triton(), page)])
    (acme,), seen = found.tenants or (None,), found.models[0].seen
    assert acme is None and (seen.requests_per_s, seen.p50_ms) == (0.0, None)


def test_a_gpu_is_shown_where_triton_tells_of_one():
    quiet = reading(0.0, triton())
    (gpu,) = view([quiet, reading(1.0, triton(), GPU)]).gpus
    assert (gpu.uuid, gpu.used, gpu.memory_bytes, gpu.power_w) == ("GPU-1", 0.25, 2e9, None)
    assert view([quiet, quiet]).gpus == ()
