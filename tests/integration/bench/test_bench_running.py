"""`modelport bench` with the real perf_analyzer and a server that runs already; how fast anything was is not judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.bench import perf_analyzer, stored
from modelport.bench.golden import write as write_golden
from modelport.bench.load import Load
from modelport.bench.perf_analyzer import Job
from modelport.bench.places import Place
from modelport.errors import ProcessError
from modelport.server import EmbeddedServer, connection

SHORT = ("--interval", "0.4", "--repeats", "1", "--concurrency", "2")
TWO = Load(kind="concurrency", value=2)


def at(server: EmbeddedServer, protocol: str) -> Place:
    url, headers = server.http_url, server.http_headers
    if protocol == "grpc":
        url, headers = server.grpc_url, server.grpc_metadata
    return Place(url=url, kind="running", words="here", http_url=server.http_url, headers=headers)


def test_the_installed_program_is_the_known_one(program):
    """It was brought by `modelport bench --install`, runs, and says what it is."""
    assert program.version in ("tritonclient 2.50.0", "perf-analyzer 2.60.0")
    assert program.path.stat().st_size > 5_000_000


@pytest.mark.parametrize("model", ["scale", "strict"])
@pytest.mark.parametrize("shared_memory", [False, True])
def test_golden_inputs_reach_the_model_as_they_were_recorded(
    repository, server, program, protocol, model, shared_memory, tmp_path
):
    """`strict` answers nothing else; `scale` has an axis whose size only the inputs tell. In batches as well."""
    before = set(Path("/dev/shm").iterdir())
    inputs = write_golden(repository / model / "1", tmp_path / "inputs.json")
    job = Job(place=at(server, protocol), model=model, version=1, inputs=inputs, batch_size=2, interval_s=0.4,
              shared_memory=shared_memory)  # fmt: skip
    seen = perf_analyzer.measure(program, job, TWO, folder=tmp_path)
    assert seen.requests > 0 and seen.inferences_per_s > 0
    assert 0 < seen.p50_us <= seen.p90_us <= seen.p95_us <= seen.p99_us
    assert seen.compute_us > 0 and len(seen.windows) == 3 and seen.mean_batch >= 2
    parts = seen.client_us + seen.network_us + seen.queue_us + seen.compute_us
    assert parts == pytest.approx(seen.mean_us, rel=0.02)
    left = {path.name for path in set(Path("/dev/shm").iterdir()) - before}
    assert not {name for name in left if name.startswith(("x_", "text_", "y", "count"))}


def test_other_inputs_are_an_error_with_the_models_words(server, program, tmp_path, monkeypatch):
    """Else the test above says nothing. A flag's file is looked for in the caller's folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text('{"data": [{"text": ["not", "recorded"]}]}')
    flags = ("--input-data", "other.json")
    job = Job(place=at(server, "http"), model="strict", interval_s=0.4, flags=flags)
    with pytest.raises(ProcessError, match="strict at concurrency 2") as caught:
        perf_analyzer.measure(program, job, TWO, folder=tmp_path)
    assert "not what was recorded" in caught.value.why


def test_the_running_server_is_measured_and_everything_is_kept(run, repository, server, tmp_path):
    """Table, raw file and report; each tells what was measured, where, with what; and no file holds the secret."""
    done = run("bench", "scale", "-r", repository, "--concurrency", "1,2", "--interval", "0.2", "--repeats", "2",
               "-o", "out/a.json", "--", "--percentile", "95", "-H", "mine:hush")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"measuring in the running server of {repository}" in done.stderr
    assert "concurrency" in done.stdout and "queue" in done.stdout and "out/a.html" in done.stdout

    found = stored.read(tmp_path / "out" / "a.json")
    assert [(row.round, row.load.value) for row in found.rows] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert found.target["model"] == "scale" and found.target["inputs"].endswith(" golden inputs")
    assert found.target["triton"] == "2.51.0" and found.target["config"]["max_batch_size"] == 8
    about = found.circumstances
    assert about["machine"]["cores"] and about["versions"]["nvidia-pytriton"] and about["commit"] and about["time"]
    assert about["command"][:5] == ["python", "-m", "modelport", "bench", "scale"]
    assert "--percentile" in found.settings["perf_analyzer_command"]
    secret = next(iter(server.http_headers.values()))
    for path in (tmp_path / "out").iterdir():
        assert secret not in path.read_text() and "hush" not in path.read_text()
        assert str(tmp_path.parent) not in path.read_text(), "no folder of this machine"
    assert (tmp_path / "out" / "a.html").read_text().count("<svg") == 3
    assert connection.find(repository) is not None, "the server goes on"


def test_a_url_without_a_repository_says_that_its_inputs_are_random(run, server, tmp_path):
    """And where perf_analyzer cannot make them, or may not ask for statistics, the message says what to do."""
    name, value = next(iter(server.http_headers.items()))
    base = ("bench", "scale", "--url", server.http_url, "-r", "nowhere", *SHORT, "-o", "c.json", "--")
    done = run(*base, "-H", f"{name}:{value}", "--shape", "x:5")
    assert done.returncode == 0, done.stderr
    assert "random inputs, for there are no golden ones" in done.stderr
    assert stored.read(tmp_path / "c.json").target["inputs"] == "random inputs"

    unshaped = run(*base, "-H", f"{name}:{value}")
    assert unshaped.returncode == 60 and "--shape" in unshaped.stderr
    closed = run(*base, "--shape", "x:5")
    assert closed.returncode == 60 and "closes its statistics" in closed.stderr


def test_the_repositorys_own_server_is_known_by_its_url(run, repository, server, tmp_path):
    """Two URLs of one server are compared: HTTP against gRPC."""
    done = run("bench", "scale", "-r", repository, "--url", server.http_url, "--against", server.grpc_url, *SHORT,
               "-o", "d.json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert stored.read(tmp_path / "d-against.json").target["protocol"] == "grpc"
    assert "one round" in done.stdout, "one round gives no interval"


def test_tls_is_spoken_with_an_authority_of_ones_own(run, server, behind_tls):
    """A proxy speaks TLS for the server; without --ca-file its certificate is refused."""
    urls = [behind_tls(server.http_url), behind_tls(server.grpc_url)]
    opened = ["--", *(w for name, value in server.http_headers.items() for w in ("-H", f"{name}:{value}"))]
    opened += [w for name, value in server.grpc_metadata.items() for w in ("-H", f"{name}:{value}")]
    base = ("bench", "scale", "-r", "nowhere", *SHORT)
    done = run(*base, "--url", urls[0], "--against", urls[1], "--ca-file", behind_tls.ca, *opened, "--shape", "x:5")
    assert done.returncode == 0, done.stderr
    refused = run(*base, "--url", urls[1], *opened, "--shape", "x:5")
    assert refused.returncode == 60 and "--ca-file" in refused.stderr, refused.stderr


def test_a_version_that_the_url_does_not_have_is_told_before_anything_is_measured(run, repository, server, tmp_path):
    """The server has version 1 only."""
    done = run("bench", "scale/2", "-r", repository, "--url", server.http_url, *SHORT)
    assert done.returncode == 33, done.stderr
    assert "warming" not in done.stderr and list(tmp_path.iterdir()) == []
