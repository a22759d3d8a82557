"""The command line for perf_analyzer, the flags that a caller may add, and what is never shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modelport.bench import perf_analyzer
from modelport.bench.golden import Recorded
from modelport.bench.load import Load
from modelport.bench.perf_analyzer import Job
from modelport.bench.perf_program import Program
from modelport.bench.places import Place
from modelport.errors import ProcessError, UsageError

PROGRAM = Program(path=Path("/opt/bin/perf_analyzer"), version="1", sha256="0")
HTTP = Place(url="http://127.0.0.1:8000", kind="url", words="there", headers={"modelport-control": "the-secret"})
EIGHT = Load(kind="concurrency", value=8)


def words(job, load=EIGHT):
    return perf_analyzer.command(PROGRAM, job, load, Path("/tmp/t.csv"))


def value(command, flag):
    return command[command.index(flag) + 1]


def test_the_command_says_what_is_measured():
    command = words(Job(place=HTTP, model="net", version=3, batch_size=4, interval_s=0.5, flags=("--percentile", "99")))
    said = {flag: value(command, flag) for flag in ("-m", "-x", "-u", "-i", "-b", "-p", "--concurrency-range", "-H")}
    assert said == {
        **{"-m": "net", "-x": "3", "-u": "127.0.0.1:8000", "-i": "http", "-b": "4", "-p": "500"},
        **{"--concurrency-range": "8", "-H": "modelport-control:the-secret"},
    }
    assert command[-2:] == ["--percentile", "99"], "the caller's own come last, so that they win"
    assert "--input-data" not in command and "--shared-memory" not in command


@pytest.mark.parametrize(
    ("url", "address", "tls"),
    [
        ("grpc://127.0.0.1:8001", "127.0.0.1:8001", False),
        ("grpcs://there:443", "there:443", True),
        ("https://there:443", "https://there:443", False),
    ],
)
def test_each_protocol_has_its_address(url, address, tls):
    command = words(Job(place=replace(HTTP, url=url), model="net"))
    assert value(command, "-u") == address
    assert value(command, "-i") == ("grpc" if url.startswith("grpc") else "http")
    assert ("--ssl-grpc-use-ssl" in command) is tls
    assert "-x" not in command


@pytest.mark.parametrize(
    ("url", "flag"),
    [("https://there", "--ssl-https-ca-certificates-file"), ("grpcs://there:1", "--ssl-grpc-root-certifications-file")],
)
def test_an_authority_is_handed_on(url, flag):
    command = words(Job(place=replace(HTTP, url=url, ca_file=Path("/etc/ca.pem")), model="net"))
    assert value(command, flag) == "/etc/ca.pem"


def test_a_request_rate_keeps_its_fraction():
    command = words(Job(place=HTTP, model="net"), Load(kind="request_rate", value=0.5))
    assert value(command, "--request-rate-range") == "0.5"
    assert "--concurrency-range" not in command


def test_shared_memory_has_room_for_the_largest_output():
    inputs = Recorded(path=Path("/tmp/in.json"), samples=1, largest_output_bytes=5_000_000)
    command = words(Job(place=HTTP, model="net", inputs=inputs, shared_memory=True))
    assert value(command, "--shared-memory") == "system"
    assert int(value(command, "--output-shared-memory-size")) >= 5_000_000
    assert value(command, "--input-data") == "/tmp/in.json"


def test_no_secret_and_no_folder_is_shown():
    job = Job(
        place=HTTP, model="net", flags=("-H", "authorization:Bearer xyz", "-Hkey:abc", "--input-data", "/a/b.json")
    )
    shown = " ".join(perf_analyzer.shown(words(job)))
    assert not [word for word in ("the-secret", "xyz", "abc", "/opt", "/tmp", "/a/") if word in shown]
    assert "modelport-control:..." in shown and "authorization:..." in shown and "b.json" in shown


@pytest.mark.parametrize(
    "flags", [(), ("-s", "5"), ("--percentile", "95"), ("-a",), ("-H", "a:b"), ("--input-data", "zero"), ("-v",)]
)
def test_flags_of_perf_analyzer_pass(flags):
    assert perf_analyzer.check_flags(flags) == flags


@pytest.mark.parametrize(
    ("flags", "instead"),
    [
        (("-m", "x"), "NAME"),
        (("-b8",), "--batch-size"),
        (("--concurrency-range", "1:4"), "--concurrency"),
        (("--conc=4",), "--concurrency"),
        (("--request-rate-range", "9"), "--request-rate"),
        (("-f", "x.csv"), "--output"),
        (("--measurement-interval", "100"), "--interval"),
    ],
)
def test_flags_that_modelport_sets_itself_are_refused_with_the_option_to_use(flags, instead):
    with pytest.raises(UsageError) as caught:
        perf_analyzer.check_flags(("-v", *flags))
    assert flags[0] in caught.value.what and instead in caught.value.fix


def test_a_second_model_is_no_flag():
    with pytest.raises(UsageError, match="other"):
        perf_analyzer.check_flags(("other",))


def test_a_program_that_fails_is_told_with_its_words_and_without_the_secret(tmp_path):
    """Here the program is a shell that says what perf_analyzer says, and ends as the script of its package does: with 0."""  # noqa: E501
    program = tmp_path / "perf_analyzer"
    program.write_text("#!/bin/sh\necho 'error: input x contains dynamic shape, provide shapes'\nexit 0\n")
    program.chmod(0o755)
    with pytest.raises(ProcessError) as caught:
        perf_analyzer.measure(replace(PROGRAM, path=program), Job(place=HTTP, model="net"), EIGHT, folder=tmp_path)
    assert "net at concurrency 8" in caught.value.what
    assert "dynamic shape" in caught.value.why and "--shape" in caught.value.fix
    assert "the-secret" not in f"{caught.value} {caught.value.command} {caught.value.output_tail}"


def test_a_wrong_flag_is_told_without_the_whole_help(tmp_path):
    program = tmp_path / "perf_analyzer"
    program.write_text("#!/bin/sh\necho \"unrecognized option '--nosuch'\"\necho 'Usage: much more must'\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(ProcessError) as caught:
        perf_analyzer.measure(replace(PROGRAM, path=program), Job(place=HTTP, model="net"), EIGHT, folder=tmp_path)
    assert caught.value.why == "unrecognized option '--nosuch'"
    assert "Usage" not in caught.value.output_tail
