"""What `--otlp` and `--otlp-sample` mean, and what they cannot be."""

from __future__ import annotations

import pytest

from modelport.commands.gateway import receiver
from modelport.commands.serve import unwatched
from modelport.errors import UsageError
from modelport.gateway.otlp import read
from modelport.server import tracing


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("http://collector", "http://collector:4318/v1/traces"),
        ("http://collector:9999/", "http://collector:9999/v1/traces"),
        ("http://10.0.0.1:4318/otlp/v1/traces", "http://10.0.0.1:4318/otlp/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_port_and_path_of_a_receiver_may_be_left_out(url, whole):
    assert read(url).url == whole


@pytest.mark.parametrize(
    "url", ["collector:4318", "grpc://collector:4317", "https://collector", "http://a:0", "http://"]
)
def test_what_is_no_receiver_over_http_is_refused(url):
    with pytest.raises(UsageError, match="no URL of an OTLP receiver"):
        read(url)


@pytest.mark.parametrize(("sample", "percent"), [("1%", 1.0), ("0.01 %", 0.01), ("100%", 100.0)])
def test_a_share_is_a_number_of_percent(sample, percent):
    assert read("http://a", sample).percent == percent


@pytest.mark.parametrize("sample", ["1", "0%", "0.001%", "101%", "-1%", "all", ""])
def test_what_is_no_share_is_refused(sample):
    with pytest.raises(UsageError, match="no share of the requests"):
        read("http://a", sample)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"gateway": False}, "--gateway"),
        ({"url": "", "triton": True}, "--otlp"),
        ({"url": "", "trusted": True}, "--otlp"),
    ],
)
def test_what_would_make_no_trace_is_not_passed_over(options, missing):
    with pytest.raises(UsageError, match=f"{missing} is missing"):
        receiver(**{"url": "http://a", "sample": "1%", **options})


def test_without_a_word_of_it_there_are_no_traces(tmp_path):
    assert receiver("", "1%") is None
    assert not [one for one in unwatched(tmp_path, models=["net"])._extra_args if "trace" in one]
    named = unwatched(tmp_path, models=["net"], traces="http://a:4318/v1/traces")
    assert named._extra_args == tracing.options("http://a:4318/v1/traces")
