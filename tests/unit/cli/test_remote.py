"""Options of `serve` for a Triton and an Envoy that somebody else starts."""

from __future__ import annotations

import pytest

from modelport.cli.remote import check
from modelport.errors import UsageError


def test_options_of_the_embedded_server_do_not_go_with_another_one():
    with pytest.raises(UsageError, match="--isolated and --server"):
        check("http://triton:8000", embedded={"--isolated": True, "--http-port": False}, gateway=False, elsewhere=False)


def test_a_gateway_elsewhere_is_a_gateway():
    with pytest.raises(UsageError, match="--gateway is missing"):
        check("", embedded={}, gateway=False, elsewhere=True)


def test_what_goes_together_passes():
    check("", embedded={"--isolated": True}, gateway=True, elsewhere=True)
    check("http://triton:8000", embedded={"--isolated": False}, gateway=True, elsewhere=True)
