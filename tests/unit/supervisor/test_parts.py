"""What the service takes of the machine is told by part, by the processes that live."""

from __future__ import annotations

import shutil
import subprocess

import psutil

from modelport.supervisor import parts


def test_this_process_and_those_that_it_started_are_counted_by_their_programs(tmp_path):
    before = parts.taken()
    assert before[parts.SUPERVISOR].processes == 1 and before[parts.SUPERVISOR].cpu_s > 0
    program = tmp_path / "envoy"
    shutil.copy(shutil.which("sleep"), program)
    with subprocess.Popen([program, "60"]) as child:
        try:
            psutil.Process(child.pid).cmdline()
            gateway = parts.taken()["gateway"]
        finally:
            child.kill()
    assert gateway.processes == 1 and 0 < gateway.memory_bytes < 100_000_000
    assert "gateway" not in parts.taken()
