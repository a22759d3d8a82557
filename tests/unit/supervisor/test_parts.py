"""What the service takes of the machine is told by part, by the processes that live."""

from __future__ import annotations

import shutil
import subprocess

import psutil

from modelport.supervisor import parts


def test_this_process_and_those_that_it_started_are_counted_by_their_programs(tmp_path):
    """Beside gateways of other tests that this process has started."""
    before = parts.taken()
    others = before.get("gateway", parts.Taken(processes=0, memory_bytes=0, cpu_s=0.0))
    assert before[parts.SUPERVISOR].processes == 1 and before[parts.SUPERVISOR].cpu_s > 0
    program = tmp_path / "envoy"
    shutil.copy(shutil.which("sleep"), program)
    with subprocess.Popen([program, "60"]) as child:
        try:
            psutil.Process(child.pid).cmdline()
            gateway = parts.taken()["gateway"]
        finally:
            child.kill()
    assert gateway.processes == others.processes + 1
    assert 0 < gateway.memory_bytes - others.memory_bytes < 100_000_000
    assert ("gateway" in parts.taken()) == ("gateway" in before)
