"""Values as Lua writes them: read by the LuaJIT in Envoy, which runs a script once when it checks a configuration."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from modelport.gateway.envoy import filters, program
from modelport.gateway.gate_data import GateData
from modelport.gateway.lua import literal

TYPE = "type.googleapis.com/envoy.extensions.filters"
TEXTS = [
    "",
    "plain",
    'a "quoted" word',
    "back\\slash, \\n, \\",
    "lines\r\n\t\0end",
    "\x7f\x01" + "1",
    "caf\u00e9 \U0001f600",
    "]] --[[ ]=] %s $(x) `y`",
    "\u202e",
]
NUMBERS = [0, -1, 7, 2**53, -(2**31), 0.5, -1e-7, 1e300, 33.333333]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """`run(code)`: what is wrong with a script; nothing for a right one."""
    folder = tmp_path_factory.mktemp("lua")

    def check(code: str) -> str:
        script = {"@type": f"{TYPE}.http.lua.v3.Lua", "default_source_code": {"inline_string": code}}
        router = {"@type": f"{TYPE}.http.router.v3.Router"}
        manager = {
            "@type": f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "test",
            "http_filters": [{"name": "lua", "typed_config": script}, {"name": "router", "typed_config": router}],
            "route_config": {"virtual_hosts": []},
        }
        chain = {"filters": [{"name": "manager", "typed_config": manager}]}
        listener = {"name": "test", "address": {"pipe": {"path": str(folder / "socket")}}, "filter_chains": [chain]}
        path = Path(folder, "envoy.json")
        path.write_text(json.dumps({"static_resources": {"listeners": [listener]}}))
        command = [program.find(), "--mode", "validate", "-c", path, "-l", "error"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    return check


def test_values_are_what_they_were(run):
    checks = [f"assert({literal(text)} == string.char({','.join(map(str, text.encode()))}))" for text in TEXTS]
    checks += [f"assert({literal(number)} == tonumber('{number!r}'))" for number in NUMBERS]
    table = {"none": None, "yes": True, "no": False, 'k"\n': {"list": ["a", 2, ["b"]], "empty": {}}, "end": 1}
    checks += [
        f"local t = {literal(table)}",
        "assert(t.none == nil and t.yes == true and t.no == false and t['end'] == 1)",
        "local k = t['k\"\\n']",
        "assert(k.list[1] == 'a' and k.list[2] == 2 and k.list[3][1] == 'b' and #k.list == 3 and next(k.empty) == nil)",
    ]
    assert run("\n".join(checks)) == ""


def test_a_check_that_fails_is_seen(run):
    """Negative control of the one above."""
    assert "on purpose" in run("assert(1 == 2, 'on purpose')")


def test_a_hundred_thousand_revoked_keys_can_be_read(run):
    code = filters.revoked({f"{number:012x}" for number in range(100_000)})["default_source_code"]["inline_string"]
    assert run(f"{code}\nassert(REVOKED.keys['00000001869f'] and not REVOKED.keys['0000000186a0'])") == ""


def test_ten_thousand_models_can_be_read(run):
    """Each with two inputs, two aliases and a route, and with all of the gate behind them."""
    inputs = {name: {"datatype": "FP32", "dims": [3, 224, 224], "optional": False} for name in ("left", "right")}
    route = {"by_tenant": False, "shares": [{"version": "1", "below": 90.0}, {"version": "2", "below": 100.0}]}
    model = {"batch": 8, "inputs": inputs, "names": "left, right", "aliases": {"a": "1", "b": "2"}, "route": route}
    data = GateData(
        models={f"model{number}": model for number in range(10_000)},
        revoked=frozenset(),
        bodies={"acme": 7},
        depth=100,
    )
    code = filters.gate(data, "secret")["default_source_code"]["inline_string"]
    checks = ["local last = DATA.models.model9999", "assert(DATA.depth == 100 and DATA.secret == 'secret')"]
    checks += ["assert(last.inputs.right.dims[3] == 224 and last.route.shares[2].below == 100)"]
    checks += ["assert(DATA.bodies.acme == 7)"]
    checks += ["local n = 0; for _ in pairs(DATA.models) do n = n + 1 end; assert(n == 10000 and not DATA.waits.acme)"]
    assert run("\n".join([code, *checks])) == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes", object(), [1, {"a": -float("inf")}]])
def test_what_has_no_literal_is_refused(value):
    with pytest.raises(TypeError, match="no literal in Lua"):
        literal(value)
