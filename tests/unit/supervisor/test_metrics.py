"""The supervisor's figures as Prometheus reads them."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from modelport import __version__
from modelport.gateway.capture.receiver import Counts
from modelport.repository.drops import Noted
from modelport.supervisor import metrics
from modelport.supervisor.gateway import Figures
from modelport.supervisor.link import Link
from modelport.supervisor.metrics import Known, Metrics
from modelport.supervisor.readiness import ModelView, Readiness
from modelport.usage.answers import BEYOND, Answers, Said, Times, Told

VIEWS = {
    "net": ModelView(wanted=(1, 2), loaded=(1,), budget_ms=20.0),
    "gone": ModelView(wanted=(3,)),
    "inside": ModelView(wanted=(1,), loaded=(1,), inside=True),
}
GATEWAY = Figures(
    up=True,
    restarts=2,
    quotas={"acme": (100, 7)},
    captures=Counts(received=5, kept=3, dropped={"queue full": 2}),
    expires_at=1_900_000_000.0,
    usage_failing=True,
    told=Told(
        answers={
            Said("acme", "net", "200", ""): Answers(requests=5, inferences=9, received_bytes=50, sent_bytes=70),
            Said("acme", "net", "200", "14"): Answers(requests=1, inferences=1, received_bytes=5, sent_bytes=7),
            Said("acme", "", "429", ""): Answers(requests=2),
        },
        times={
            ("acme", "net"): Times(
                counts={1000: 4, 5000: 1, BEYOND: 1}, us={1000: 3000, 5000: 4000, BEYOND: 31_000_000}
            )
        },
    ),
)
LES = ("0.0005", "0.001", "0.003", "0.005", "30", "+Inf")


@pytest.fixture
def page():
    """`page(...)`: name with labels -> value, of a supervisor that knows this."""

    def read(drops=(), gateway=None):
        ready = Readiness(ready=False, missing={"net": "why"}, models=("net",))
        care = SimpleNamespace(
            views=VIEWS,
            ready=lambda: ready,
            stubs=SimpleNamespace(dead=1, alive=lambda model, version: 2, lost=lambda: {"net": ["one", "two"]}),
            restorer=SimpleNamespace(restores={("net", True): 4}),
        )
        known = Known(
            link=Link(version="2.61.0"),
            care=care,
            prober=SimpleNamespace(results=dict, counts={("net", 1, "ok"): 8, ("net", 0, "ok"): 9}),
            events=lambda: {"dropped": 1, "drop_refused": 2},
            drops=lambda: iter(drops),
            ready=lambda: ready,
            gateway=lambda: gateway,
        )
        text = Metrics(known).text().decode()
        return dict(re.findall(r"^(modelport_\S+?(?:\{.*\})?) (\S+)$", text, re.MULTILINE))

    return read


def test_what_is_wanted_what_is_served_and_what_is_lost(page):
    found = page()
    assert found['modelport_wanted_version{model="net"}'] == "2.0"
    assert found['modelport_serving_version{model="net"}'] == "1.0"
    assert found['modelport_wanted_version{model="gone"}'] == "3.0"
    assert 'modelport_serving_version{model="gone"}' not in found
    assert found['modelport_lost_stubs{model="net"}'] == "2.0" and found['modelport_lost_stubs{model="gone"}'] == "0.0"
    assert 'modelport_lost_stubs{model="inside"}' not in found
    assert found['modelport_stub_restores_total{model="net",result="ok"}'] == "4.0"
    assert found['modelport_stub_restores_total{model="gone",result="failed"}'] == "0.0", "before anything is counted"
    assert found['modelport_latency_budget_seconds{model="net"}'] == "0.02"
    assert found["modelport_ready"] == "0.0" and found['modelport_model_ready{model="net"}'] == "0.0"
    (build,) = (name for name in found if name.startswith("modelport_build_info"))
    assert f'version="{__version__}"' in build and found[build] == "1.0"
    assert 'tritonserver="2.61.0"' in build, "what the server tells: it may be another one than ours"


def test_the_gateways_figures_are_there_where_a_gateway_is(page):
    found = page(gateway=GATEWAY)
    assert found["modelport_gateway_up"] == "1.0" and found["modelport_gateway_restarts_total"] == "2.0"
    assert float(found["modelport_certificate_expiry_timestamp_seconds"]) == 1_900_000_000
    assert found['modelport_quota_limit{tenant="acme"}'] == "100.0"
    assert found['modelport_quota_left{tenant="acme"}'] == "7.0"
    assert found["modelport_captured_total"] == "3.0" and found["modelport_usage_failing"] == "1.0"
    assert found['modelport_capture_dropped_total{reason="queue full"}'] == "2.0"
    without = {name.partition("{")[0] for name in page()}
    assert not any("gateway" in name or "quota" in name or "certificate" in name for name in without)


def test_what_callers_got_is_told_by_tenant_and_model(page):
    found = page(gateway=GATEWAY)
    net = '{model="net",tenant="acme"}'
    assert found['modelport_requests_total{code="200",grpc_status="14",model="net",tenant="acme"}'] == "1.0"
    assert found['modelport_requests_total{code="429",grpc_status="",model="",tenant="acme"}'] == "2.0"
    assert found[f"modelport_inferences_total{net}"] == "10.0"
    assert (found[f"modelport_received_bytes_total{net}"], found[f"modelport_sent_bytes_total{net}"]) == (
        "55.0",
        "77.0",
    )
    buckets = [found[f'modelport_request_seconds_bucket{{le="{le}",model="net",tenant="acme"}}'] for le in LES]
    assert buckets == ["0.0", "4.0", "4.0", "5.0", "5.0", "6.0"]
    assert found[f"modelport_request_seconds_count{net}"] == "6.0"
    assert float(found[f"modelport_request_seconds_sum{net}"]) == pytest.approx(31.007)


def test_golden_requests_to_versions_that_are_loaded_no_more_are_not_told(page):
    assert {name: value for name, value in page().items() if name.startswith("modelport_probes_total")} == {
        'modelport_probes_total{model="net",result="ok",version="1"}': "8.0"
    }


def test_version_folders_that_are_wrong_are_named_up_to_a_number(page):
    wrong = [("net", number, Noted(reason="r" * 1000, refused=True)) for number in range(metrics.MAX_PROBLEMS + 50)]
    named = [name for name in page(drops=wrong) if name.startswith("modelport_drop_problem")]
    assert len(named) == metrics.MAX_PROBLEMS and all(len(name) < 400 and 'result="refused"' in name for name in named)
    assert page()['modelport_drops_total{result="refused"}'] == "2.0"


def test_every_figure_is_described(page, root):
    """Those of the process itself (`modelport_supervisor_process_...`) are as for every program."""
    text = (root / "docs" / "metrics.md").read_text()
    names = {
        name.partition("{")[0] for name in page(gateway=GATEWAY, drops=[("net", 1, Noted(reason="r", refused=True))])
    }
    told = {
        name for name in names if not name.startswith("modelport_supervisor_process_") and not name.endswith("_created")
    }
    assert len(told) > 20 and {name for name in told if f"`{name}`" not in text} == set()
