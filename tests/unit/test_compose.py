"""docker-compose.yml and the Dockerfile: valid, confined, and with the library's own ports, options and images."""

from __future__ import annotations

import copy
import inspect
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from modelport._version import __version__
from modelport.cli.serving import serve_command
from modelport.gateway.envoy import program
from modelport.gateway.gateway import FOLDER, Gateway
from modelport.gateway.settings import Settings
from modelport.server import EmbeddedServer, arguments, checks, connection, secret, toolchain
from modelport.server.remote import TRIAL
from modelport.watching import scrape

# What the embedded server is given and the container is not, with the reason.
ONLY_EMBEDDED = {
    "backend-directory": "the container has backends of its own",
    "http-address": "the container listens on internal networks",
    "grpc-address": "as http-address",
    "metrics-address": "as http-address",
    "log-verbose": "the container keeps Triton's default",
}
SECRET = "the-secret"
SERVED = "${MODELPORT_SERVED:-./served}"
REPOSITORY = Path("/srv/served/model_repository")
STATE = connection.state_folder(REPOSITORY)
GATEWAY_METRICS_PORT = 8004
GRAFANA_PORT = 3000
SERVICES = ["triton", "triton-cpu", "controller", "gateway", "prometheus", "grafana"]
OUTSIDE = {"gateway": "callers", "grafana": "people"}


@pytest.fixture(scope="module")
def compose(root):
    return yaml.safe_load((root / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


@pytest.fixture(scope="module")
def schema(root):
    return jsonschema.Draft7Validator(json.loads((root / "tests" / "data" / "compose-spec.json").read_text()))


@pytest.fixture(scope="module", params=SERVICES)
def service(request, services):
    return services[request.param]


@pytest.fixture(scope="module")
def serve_defaults():
    """The options of `modelport serve`, with their defaults."""
    return {name: one.default for name, one in inspect.signature(serve_command).parameters.items()}


def options(command):
    """The options of a command, as pairs of name and value; None for a switch."""
    pairs = [option.removeprefix("--").partition("=") for option in command]
    return [(name, value if equals else None) for name, equals, value in pairs]


@pytest.fixture(scope="module")
def container(services):
    """The container's options, those with the secret as well."""
    shell, flag, script, name, *plain = services["triton"]["command"]
    assert (shell, flag, name) == ("sh", "-c", "tritonserver") and 'exec tritonserver "$$@"' in script
    guards = re.findall(r'(--\S+?)="\$\$secret"', script)
    return options([*plain, *(f"{guard}={SECRET}" for guard in guards)])


@pytest.fixture(scope="module")
def embedded():
    """The embedded server's options, for its default ports."""
    nowhere = Path("/nowhere")
    defaults = inspect.signature(EmbeddedServer).parameters
    _, *rest = arguments.command(
        toolchain.Toolchain(server=nowhere, backends=nowhere, libraries=(), empty=nowhere),
        REPOSITORY,
        trial=Path("/srv/trial"),
        host="127.0.0.1",
        ports={name: defaults[f"{name.lower()}_port"].default for name in ("HTTP", "gRPC", "metrics")},
        secret=SECRET,
        shm_prefix="prefix",
    )
    return options(rest)


def binds(service):
    """Source to target and whether it is read-only, of the folders of this host that a container sees."""
    return {v["source"]: (v["target"], v.get("read_only", False)) for v in service["volumes"] if isinstance(v, dict)}


def test_it_follows_the_compose_schema(compose, schema):
    schema.validate(compose)
    assert sorted(compose["services"]) == sorted(SERVICES)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c["services"]["triton"].update(shm_sise="1gb"),
        lambda c: c["services"]["triton"].update(read_only=[1]),
        lambda c: c["services"]["gateway"].update(ports=8000),
        lambda c: c.update(service={}),
    ],
)
def test_the_schema_refuses_what_is_wrong(compose, schema, spoil):
    wrong = copy.deepcopy(compose)
    spoil(wrong)
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(wrong)


def tool(name: str, *words: Any) -> subprocess.CompletedProcess[str]:
    line = [str(Path(sys.executable).with_name(name)), *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def test_linters_find_nothing_that_matters(root):
    done = tool("compose-lint", root / "docker-compose.yml")
    assert done.returncode == 0 and "PASS" in done.stdout, done.stdout
    done = tool("hadolint", root / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linters_can_fail(root, tmp_path):
    compose, dockerfile = tmp_path / "docker-compose.yml", tmp_path / "Dockerfile"
    compose.write_text((root / "docker-compose.yml").read_text().replace("init: true", "privileged: true", 1))
    assert tool("compose-lint", compose).returncode != 0
    dockerfile.write_text((root / "Dockerfile").read_text() + "RUN cd /tmp && pip install torch\n")
    assert tool("hadolint", dockerfile).returncode != 0


def test_the_container_is_started_as_the_embedded_server_is(container, embedded):
    """Same options, same values, ports and restricted APIs included; no model is loaded before the controller says."""
    embedded = [pair for pair in embedded if pair[0] not in ONLY_EMBEDDED]
    embedded.remove(("backend-config", "python,shm-region-prefix-name=prefix"))
    assert sorted(container, key=str) == sorted(embedded, key=str)


def test_every_option_is_one_of_tritonserver(container):
    package, libpython = checks.check_environment()
    tools = toolchain.build(package, libpython)
    told = subprocess.run([tools.server, "--help"], env=tools.environment(), capture_output=True, text=True, timeout=60)
    known = set(re.findall(r"^\s*--([a-z0-9-]+)", told.stdout + told.stderr, re.MULTILINE))
    assert len(known) > 50
    assert {name for name, _ in container} <= known


def test_both_engines_calculate_in_float32(services):
    tools = toolchain.Toolchain(server=Path(), backends=Path(), libraries=(), empty=Path())
    own = services["triton"]["environment"]["NVIDIA_TF32_OVERRIDE"]
    assert own == tools.environment({})["NVIDIA_TF32_OVERRIDE"] == "0"


def test_the_two_tritons_differ_in_the_gpu_only(services):
    gpu, cpu = (dict(services[name]) for name in ("triton", "triton-cpu"))
    (device,) = gpu.pop("deploy")["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert (gpu.pop("profiles"), cpu.pop("profiles")) == (["gpu"], ["cpu"])
    assert gpu == cpu
    assert all("triton" in network["aliases"] for network in cpu["networks"].values())


def test_the_controller_finds_triton_where_it_listens(services, container, serve_defaults):
    own, ports = dict(options(services["controller"]["command"][1:])), dict(container)
    assert own["server"] == f"http://triton:{ports['http-port']}"
    assert int(ports["grpc-port"]) == int(ports["http-port"]) + 1  # what the controller takes it for
    assert int(ports["metrics-port"]) == serve_defaults["metrics_port"]
    assert own["repository"] == str(REPOSITORY) and ("model-repository", own["repository"]) in container


def test_the_controller_is_given_options_that_it_has(root, services):
    verb, *words = services["controller"]["command"]
    told = (root / "docs" / "cli.md").read_text()
    section = told.split(f"## `modelport {verb} [")[1].split("\n## ")[0]
    assert all(f"--{name}" in section for name, _ in options(words))
    assert f":{8003}/healthz" in str(services["controller"]["healthcheck"]["test"])


def test_triton_and_the_controller_see_the_same_repository_and_trials(services, container):
    """And the controller sees repository and state in one mount: nothing can be renamed from one mount to another."""
    triton, controller = binds(services["triton"]), binds(services["controller"])
    seen = [target for target, read_only in triton.values() if read_only]
    assert sorted(seen) == sorted(v for k, v in container if k == "model-repository") and len(seen) == len(triton)
    assert controller[SERVED] == (str(REPOSITORY.parent), False) and STATE.parent == REPOSITORY.parent
    assert {target for target, _ in controller.values()} == {str(REPOSITORY.parent), "/srv/tls"}
    assert triton[f"{SERVED}/{REPOSITORY.name}"] == (str(REPOSITORY), True)
    assert triton[f"{SERVED}/{STATE.name}/{TRIAL}"] == ("/srv/trial", True)
    assert services["controller"]["working_dir"] == str(REPOSITORY.parent)


def test_envoy_runs_as_the_gateway_starts_it(services, tmp_path):
    gateway = services["gateway"]
    (tmp_path / "model_repository").mkdir()
    _, *own = Gateway(tmp_path / "model_repository", Settings())._command()
    theirs = [word.replace(str(STATE.parent), str(tmp_path)) for word in gateway["command"]]
    at = own.index("--concurrency") + 1
    assert gateway["entrypoint"] == ["envoy"]
    assert int(theirs[at]) <= 2  # Envoy's limits of connections are reckoned for one more thread than Settings.workers
    assert [*theirs[:at], *theirs[at + 1 :]] == [*own[:at], *own[at + 1 :]]
    assert gateway["working_dir"] == str(STATE / FOLDER)
    assert binds(gateway)[f"{SERVED}/{STATE.name}/{FOLDER}"] == (str(STATE / FOLDER), False)


def test_envoy_sees_neither_what_signs_keys_nor_what_was_captured(services):
    empty = {word.partition(":")[0] for word in services["gateway"]["tmpfs"]}
    assert {str(STATE / FOLDER / "keys"), str(STATE / FOLDER / "capture")} <= empty
    assert "secrets" not in services["gateway"]


def test_only_the_gateway_and_grafana_are_published_and_grafana_on_loopback(services, serve_defaults):
    assert {name: one["ports"] for name, one in services.items() if "ports" in one} == {
        "gateway": [f"${{MODELPORT_GATEWAY_BIND:-0.0.0.0}}:{serve_defaults['gateway_port']}:{Settings().port}"],
        "grafana": [f"${{MODELPORT_GRAFANA_BIND:-127.0.0.1}}:{GRAFANA_PORT}:{GRAFANA_PORT}"],
    }
    assert not any({"network_mode", "expose"} & set(one) for one in services.values())


def test_only_what_is_published_is_on_a_network_that_leads_out(compose, services):
    inside = {name for name, network in compose["networks"].items() if network.get("internal")}
    for name, one in services.items():
        assert set(one["networks"]) - inside == ({OUTSIDE[name]} if name in OUTSIDE else set()), name
    assert "serving" not in services["grafana"]["networks"] and "serving" not in services["prometheus"]["networks"]


def test_prometheus_asks_all_three_where_they_listen(root, services, serve_defaults):
    triton = f"triton:{serve_defaults['metrics_port']}"
    places = {"triton": triton, "gateway": f"gateway:{GATEWAY_METRICS_PORT}", "supervisor": "controller:8003"}
    assert (root / "deploy/prometheus/prometheus.yml").read_text() == scrape.config(places)
    sources = binds(services["prometheus"])
    assert sources["./deploy/prometheus/prometheus.yml"] == ("/etc/prometheus/prometheus.yml", True)
    [rules] = [source for source, (target, _) in sources.items() if target == "/etc/prometheus/rules"]
    assert {path.name for path in (root / rules).glob("*.yml")} == set(scrape.rules())
    told = dict(options(services["controller"]["command"][1:]))
    assert told["health-address"] == told["gateway-metrics-address"] == "0.0.0.0"
    assert all("watching" in services[place.partition(":")[0]]["networks"] for place in places.values())


def test_grafana_is_given_what_its_provisioning_asks_for(root, services):
    provisioning = "".join(p.read_text() for p in (root / "deploy/grafana/provisioning").rglob("*.yml"))
    own = services["grafana"]["environment"]
    assert {own[name] for name in re.findall(r"\$\{(\w+)\}", provisioning)} == {
        "/etc/grafana/dashboards",
        "http://prometheus:9090",
    }


def test_every_image_is_pinned(services):
    triton = re.fullmatch(r"nvcr\.io/nvidia/tritonserver:(\d\d\.\d\d)-py3", services["triton"]["image"])
    assert triton and triton[1] >= "26.09"  # the first without the known vulnerabilities that we take
    assert services["gateway"]["image"] == f"envoyproxy/envoy:v{program.version()}"
    assert services["controller"]["image"] == f"modelport-controller:{__version__}"
    for name in ("prometheus", "grafana"):
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+@sha256:[0-9a-f]{64}", services[name]["image"])


def test_no_secret_is_in_the_file(root, compose, services):
    assert all(set(one) == {"file"} for one in compose["secrets"].values())
    for one in services.values():
        for name, value in one.get("environment", {}).items():
            if re.search("SECRET|PASSWORD|TOKEN", name):
                assert re.fullmatch(r"/run/secrets/(\w+)", value) and value.rpartition("/")[2] in one["secrets"]
    assert not re.search(r"[0-9a-f]{32}", re.sub(r"sha256:[0-9a-f]{64}", "", (root / "docker-compose.yml").read_text()))
    apis = ",".join(arguments.RESTRICTED_APIS)
    assert services["triton"]["command"][2].count(f'={apis}:{secret.HTTP_HEADER}="$$secret"') == 2


def test_every_container_is_confined(service):
    assert service["cap_drop"] == ["ALL"] and service["read_only"] is True
    assert "no-new-privileges:true" in service["security_opt"]
    user = re.sub(r"\$\{\w+:-(\d+)\}", r"\1", service["user"]).partition(":")[0]
    assert user.isdecimal() and int(user) > 0
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)


def test_every_container_is_watched_and_started_again(service):
    assert service["healthcheck"]["test"][0] == "CMD" and service["restart"] == "unless-stopped"
    assert service["pids_limit"] and service["logging"]["options"]["max-size"]
    assert "mem_limit" in service or "tritonserver" in service["image"]  # what models need, only their owner knows


def test_requests_in_flight_have_time_to_end(services, container):
    """Docker kills later than Triton gives up waiting."""
    assert int(services["triton"]["stop_grace_period"].removesuffix("s")) > int(dict(container)["exit-timeout-secs"])


def test_each_waits_for_what_it_needs(services):
    needs = {name: one["depends_on"] for name, one in services.items() if "depends_on" in one}
    assert {name: sorted(one) for name, one in needs.items()} == {
        "controller": ["triton", "triton-cpu"],
        "gateway": ["controller"],
        "grafana": ["prometheus"],
    }
    assert all(one["condition"] == "service_healthy" for need in needs.values() for one in need.values())
    assert all(one["required"] is False for one in needs["controller"].values())  # one of the two is there


def test_healthchecks_ask_the_services_own_ports(services, container):
    ports = {"triton": dict(container)["http-port"], "gateway": Settings().port, "grafana": GRAFANA_PORT}
    for name, port in ports.items():
        assert re.search(rf"127\.0\.0\.1[:/]{port}\b", str(services[name]["healthcheck"]["test"])), name


@pytest.fixture
def prepare(root, compose, tmp_path):
    """`prepare(**environment)`: runs the script on a project's folder; what it made of the secrets."""

    def run(**environment):
        line = [root / "deploy/compose/prepare.sh", tmp_path]
        done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, **environment})
        assert done.returncode == 0, done.stderr
        return {one["file"]: (tmp_path / one["file"]).read_text() for one in compose["secrets"].values()}

    return run


def settings(folder: Path) -> dict[str, str]:
    return dict(line.split("=") for line in (folder / ".env").read_text().splitlines())


def test_prepare_makes_what_is_missing_and_leaves_what_is_there(root, services, prepare, tmp_path):
    """Every folder and secret that compose wants; secrets are long, differ, and no other user of the host sees them."""
    made = prepare()
    sources = {source.replace(SERVED, "./served") for one in services.values() for source in binds(one)}
    wanted = {source for source in sources if not (root / source).exists()}
    assert wanted and all((tmp_path / source).exists() for source in wanted | {"./served/model_repository"})
    assert len({*made.values()}) == 2 and all(re.fullmatch("[0-9a-f]{64}", one) for one in made.values())
    state = tmp_path / "served" / "model_repository.state"
    for folder in (tmp_path / "secrets", tmp_path / "served", state):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    values = settings(tmp_path)
    assert values["COMPOSE_PROFILES"] in ("gpu", "cpu") and int(values["MODELPORT_UID"]) > 0
    (tmp_path / ".env").write_text("COMPOSE_PROFILES=gpu\nMODELPORT_UID=77\n")
    assert prepare() == made and settings(tmp_path).keys() == values.keys(), "what is missing is added"
    assert (settings(tmp_path)["COMPOSE_PROFILES"], settings(tmp_path)["MODELPORT_UID"]) == ("gpu", "77")


def test_prepare_copies_the_repository_once_with_its_state(prepare, tmp_path):
    """Promotions change it: in the project's own folder that would be in the way of its next release."""
    for name in ("model_repository/net/1", "model_repository.state/gateway"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "model_repository.state/gateway/quota").write_text("7")
    (tmp_path / "served/.copy/model_repository").mkdir(parents=True)  # of one that was interrupted
    prepare()
    served = tmp_path / "served"
    assert (served / "model_repository/net/1").is_dir() and not (served / ".copy").exists()
    assert (served / "model_repository.state/gateway/quota").read_text() == "7"
    (served / "model_repository.state/gateway/quota").write_text("8")
    (tmp_path / "model_repository/net/2").mkdir()
    prepare()
    assert not (served / "model_repository/net/2").exists()
    assert (served / "model_repository.state/gateway/quota").read_text() == "8"


def test_prepare_takes_another_folder_and_keeps_it_in_mind(prepare, tmp_path):
    other = tmp_path / "other"
    prepare(MODELPORT_SERVED=str(other))
    prepare()
    assert settings(tmp_path)["MODELPORT_SERVED"] == str(other)
    assert (other / "model_repository.state/trial").is_dir() and not (tmp_path / "served").exists()
    with pytest.raises(AssertionError, match=r"in \.env: change it there"):
        prepare(MODELPORT_SERVED=str(tmp_path / "third"))


def test_prepare_with_sudo_gives_all_to_who_called_it(prepare, tmp_path, require):
    require("root, who may give files to others", os.geteuid() == 0)
    prepare(SUDO_UID="1234", SUDO_GID="1235")
    own = [tmp_path / name for name in (".env", "secrets", "secrets/triton", "served/model_repository.state/trial")]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in own} == {(1234, 1235)}
    assert (settings(tmp_path)["MODELPORT_UID"], settings(tmp_path)["MODELPORT_GID"]) == ("1234", "1235")


def test_every_variable_of_the_file_has_a_default(root):
    """But for the users of the containers and the profile, `.env` need not say anything."""
    text = (root / "docker-compose.yml").read_text()
    assert {*re.findall(r"(?<!\$)\$\{(\w+)", text)} == {
        "MODELPORT_UID",
        "MODELPORT_GID",
        "MODELPORT_GATEWAY_BIND",
        "MODELPORT_GRAFANA_BIND",
        "MODELPORT_OTLP",
        "MODELPORT_SERVED",
        "MODELPORT_TLS_CERT",
        "MODELPORT_TLS_KEY",
    }
    assert re.findall(r"(?<!\$)\$\{\w+(?!:-|\w)", text) == []


def test_the_image_is_made_of_what_is_locked_and_runs_as_no_root(root):
    text = (root / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=python:3\.1[0-2]\.\d+-slim-\w+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${PYTHON}", "${PYTHON}"]
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["1000:1000"]
    assert "--constraint requirements.lock" in text and "HEALTHCHECK" in text
    [extras] = re.findall(r'"\.\[([a-z,]+)\]"', text)
    known = (root / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", known, re.MULTILINE) for extra in extras.split(","))


def test_the_image_is_built_from_nothing_but_its_sources(root):
    """Neither secrets nor models nor state reach the builder."""
    [first, *others] = [
        line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (root / "Dockerfile").read_text(), re.MULTILINE)
    assert first == "*"
    assert {one.removeprefix("!") for one in others if one.startswith("!")} == {
        w for line in copied for w in line.split()
    }
    assert all((root / word).exists() for line in copied for word in line.split())
