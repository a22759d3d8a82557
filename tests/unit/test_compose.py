"""docker-compose.yml is valid, serves on loopback only, and starts the container as the library starts its server."""

from __future__ import annotations

import copy
import inspect
import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from modelport.server import EmbeddedServer, arguments, checks, secret, toolchain

# What the embedded server is given and the container is not, with the reason.
ONLY_EMBEDDED = {
    "backend-directory": "the container has backends of its own",
    "http-address": "the container listens on its own network; compose publishes on loopback",
    "grpc-address": "as http-address",
    "metrics-address": "as http-address",
    "log-verbose": "the container keeps Triton's default",
}
# The other way round: the embedded server starts empty, and loads its models with a limit of time for each.
ONLY_CONTAINER = [("load-model", "*")]
SECRET = "the-secret"


@pytest.fixture(scope="module")
def compose(root):
    return yaml.safe_load((root / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def schema(root):
    return jsonschema.Draft7Validator(json.loads((root / "tests" / "data" / "compose-spec.json").read_text()))


@pytest.fixture(scope="module", params=["triton", "triton-cpu"])
def service(request, compose):
    return compose["services"][request.param]


def options(command):
    """The options of a tritonserver command, as pairs of name and value; None for a switch."""
    pairs = [option.removeprefix("--").partition("=") for option in command]
    return [(name, value if equals else None) for name, equals, value in pairs]


@pytest.fixture(scope="module")
def container(service):
    """The container's options."""
    program, *rest = service["command"]
    assert program == "tritonserver"
    return options(rest)


@pytest.fixture(scope="module")
def embedded():
    """The embedded server's options, for its default ports."""
    nowhere = Path("/nowhere")
    defaults = inspect.signature(EmbeddedServer).parameters
    _, *rest = arguments.command(
        toolchain.Toolchain(server=nowhere, backends=nowhere, libraries=(), empty=nowhere),
        Path("/models"),
        trial=Path("/trial"),
        host="127.0.0.1",
        ports={name: defaults[f"{name.lower()}_port"].default for name in ("HTTP", "gRPC", "metrics")},
        secret=SECRET,
        shm_prefix="prefix",
    )
    # Versions are not yet tried in the container.
    return [pair for pair in options(rest) if pair != ("model-repository", "/trial")]


def test_it_follows_the_compose_schema(compose, schema):
    schema.validate(compose)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c["services"]["triton"].update(shm_sise="1gb"),
        lambda c: c["services"]["triton"].update(read_only="maybe"),
        lambda c: c["services"]["triton"].update(ports=8000),
        lambda c: c.update(service={}),
    ],
)
def test_the_schema_refuses_what_is_wrong(compose, schema, spoil):
    wrong = copy.deepcopy(compose)
    spoil(wrong)
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(wrong)


def test_the_container_is_started_as_the_embedded_server_is(container, embedded):
    """Same options, same values, ports and restricted APIs included."""
    ours = re.compile(r"\$\{MODELPORT_TRITON_SECRET:\?[^}]+\}")
    container = [(name, value and ours.sub(SECRET, value)) for name, value in container]
    embedded = [pair for pair in embedded if pair[0] not in ONLY_EMBEDDED]
    embedded.remove(("backend-config", "python,shm-region-prefix-name=prefix"))
    assert sorted(container, key=str) == sorted([*embedded, *ONLY_CONTAINER], key=str)


def test_ports_are_published_on_loopback_only_and_unchanged(service, container):
    ports = [dict(container)[f"{kind}-port"] for kind in ("http", "grpc", "metrics")]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}" for port in ports]


def test_the_image_is_pinned_to_a_release_without_the_known_vulnerabilities(service):
    name, _, tag = service["image"].partition(":")
    release = re.fullmatch(r"(\d\d\.\d\d)-py3", tag)
    assert name == "nvcr.io/nvidia/tritonserver" and release and release[1] >= "26.09"


def test_every_option_is_one_of_tritonserver(container):
    package, libpython = checks.check_environment()
    tools = toolchain.build(package, libpython)
    told = subprocess.run([tools.server, "--help"], env=tools.environment(), capture_output=True, text=True, timeout=60)
    known = set(re.findall(r"^\s*--([a-z0-9-]+)", told.stdout + told.stderr, re.MULTILINE))
    assert len(known) > 50
    assert {name for name, _ in container} <= known


def test_both_engines_calculate_in_float32(service):
    tools = toolchain.Toolchain(server=Path(), backends=Path(), libraries=(), empty=Path())
    assert service["environment"]["NVIDIA_TF32_OVERRIDE"] == tools.environment({})["NVIDIA_TF32_OVERRIDE"] == "0"


def test_the_secret_has_no_default(container):
    """Compose refuses to start without it; a default would be the same everywhere."""
    guards = [value for name, value in container if name.endswith(("restricted-api", "restricted-protocol"))]
    assert len(guards) == 2
    assert all(f":{secret.HTTP_HEADER}=${{MODELPORT_TRITON_SECRET:?" in guard for guard in guards)


def test_the_repository_is_mounted_read_only_and_nothing_else_is(service, container):
    assert service["volumes"] == [f"./model_repository:{dict(container)['model-repository']}:ro"]


def test_requests_in_flight_have_time_to_end(service, container):
    """Docker kills later than Triton gives up waiting."""
    assert int(service["stop_grace_period"].removesuffix("s")) > int(dict(container)["exit-timeout-secs"])


def test_the_container_is_confined(service):
    assert service["cap_drop"] == ["ALL"] and service["read_only"] is True
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["user"] not in ("0", "0:0", "root")
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)


def test_the_healthcheck_asks_the_servers_own_port(service, container):
    assert f"http://127.0.0.1:{dict(container)['http-port']}/v2/health/ready" in service["healthcheck"]["test"]


def test_the_two_services_differ_in_the_gpu_only(compose):
    gpu, cpu = (dict(compose["services"][name]) for name in ("triton", "triton-cpu"))
    (device,) = gpu.pop("deploy")["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"] and cpu.pop("profiles") == ["cpu"]
    assert gpu == cpu
