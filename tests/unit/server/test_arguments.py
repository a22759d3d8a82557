"""A caller's further options never open the embedded server to others."""

from __future__ import annotations

import pytest

from modelport.errors import UsageError
from modelport.server import EmbeddedServer, arguments


@pytest.mark.parametrize(
    "words",
    [
        ["--http-address=0.0.0.0"],
        ["--grpc-address", "0.0.0.0"],
        ["--metrics-addr=0.0.0.0"],
        ["--http-restricted-api=trace:key=value"],
        ["--log-info=true", "--grpc-restricted=trace:key=value"],
        ["--allow-sagemaker=true"],
        ["--allow-vertex-ai=true"],
    ],
)
def test_what_opens_the_server_is_refused_also_when_it_is_shortened(words, tmp_path):
    with pytest.raises(UsageError, match="extra_args must not hold --"):
        EmbeddedServer(tmp_path, extra_args=words)


def test_other_options_pass_untouched():
    words = ("--rate-limit=off", "--http-thread-count", "2", "--allow-metrics=true", "--grpc-keepalive-time=7")
    assert arguments.harmless(words) == words
