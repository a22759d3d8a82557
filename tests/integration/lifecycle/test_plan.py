"""What `modelport plan` writes is taken up by the running server while callers are answered."""

from __future__ import annotations

import json
import urllib.request

from modelport.commands.plan import FEWEST, MEASURED, plan
from modelport.repository import switch
from modelport.server import cores


def test_a_running_server_takes_a_plan_up_and_its_computing_time_gives_the_weights(shelf, server, net, callers, ask):
    shelf.publish("idle")
    server.load("idle")
    assert "answered only" in plan(shelf.root).explained
    with callers(server, net) as load:
        load.wait(2 * FEWEST)
        found = plan(shelf.root, write=True)
        load.wait(20)
    server.unload("idle")
    assert load.violations([1]) == []
    assert found.weights == MEASURED and found.server == server.http_url
    assert [row.model for row in found.rows] == [net, "idle"] and found.rows[1].share < 0.1
    assert (found.rows[0].own, found.rows[1].own) == (cores.usable(), 0)
    config, known = switch.read(shelf.root, net)
    assert config.instance_group[0].count * int(config.parameters["intra_op_thread_count"].string_value) == (
        cores.usable()
    )
    with urllib.request.urlopen(f"{server.http_url}/v2/models/{net}/config", timeout=10) as reply:
        loaded = json.load(reply)
    assert loaded["parameters"]["intra_op_thread_count"]["string_value"] == str(found.rows[0].threads)
    assert loaded["instance_group"][0]["count"] == found.rows[0].instances
    assert known.tuned.startswith("modelport plan")
    assert ask(server, net) == 1
    assert plan(shelf.root).left_out == {} and [row.model for row in plan(shelf.root).rows] == [net]
