"""The processes of `docker-compose.yml`, started with its own commands: `tritonserver` of the embedded server in the
container's place, the controller, and Envoy on the files that the controller writes.

Each sees what its container sees of the host: it has a mount namespace with the binds and the empty folders of the
compose file, each a mount of its own, on a root that is read-only.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from modelport._process import wait_until
from modelport.gateway.envoy import program
from modelport.server import checks, shared_memory, toolchain
from modelport.server.handle import ServerHandle
from modelport.server.remote import RemoteServer

START_S = 60.0


class Composed:
    """The services, each started and ended by itself.

    Args:
        project: The project's folder.
        root: The repository, in the folder that is served.
        ports: Free ones, by what they are for.
        apart: Makes the line of a process with mounts of its own.
        beside: Makes the line of a process that sees the mounts of another.
    """

    def __init__(self, project: Path, root: Path, ports: Mapping[str, int], apart: Any, beside: Any) -> None:
        self._apart, self._beside = apart, beside
        self.services = yaml.safe_load((project / "docker-compose.yml").read_text())["services"]
        self._project = project
        self.secrets = root.parent.parent / "secrets"
        self.root, self.ports = root, ports
        self.state = Path(f"{root}.state")
        self.gateway_folder = self.state / "gateway"
        self.url = f"https://127.0.0.1:{ports['gateway']}"
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.prefix = shared_memory.new_prefix()
        self._places = {
            "http://triton:8000": f"http://127.0.0.1:{ports['http']},grpc://127.0.0.1:{ports['grpc']}",
            "--http-port=8000": f"--http-port={ports['http']}",
            "--grpc-port=8001": f"--grpc-port={ports['grpc']}",
            "--metrics-port=8002": f"--metrics-port={ports['metrics']}",
            "/run/secrets": str(self.secrets),
            "0.0.0.0": "127.0.0.1",
            "$$": "$",
        }

    def command(self, service: str) -> list[str]:
        """What compose starts, with the places of this machine."""
        return [self._here(word) for word in self.services[service]["command"]]

    def _here(self, word: str) -> str:
        for theirs, ours in self._places.items():
            word = word.replace(theirs, ours)
        return word

    def triton(self) -> None:
        """Start the server, as its container would; what only the embedded one needs is added."""
        tools = toolchain.build(*checks.check_environment())
        here = [f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")]
        own = [f"--backend-directory={tools.backends}", *here]
        own.append(f"--backend-config=python,shm-region-prefix-name={self.prefix}")
        if tools.onnxruntime:
            own.append(f"--backend-config=onnxruntime,library={tools.onnxruntime}")
        environment = tools.environment()
        environment["PATH"] = f"{tools.server.parent}:{environment['PATH']}"
        self._start("triton", [*self.command("triton"), *own], environment)

    def controller(self) -> None:
        """Start the controller."""
        options = [f"--{name}-port={self.ports[name]}" for name in ("metrics", "health", "gateway", "gateway-metrics")]
        quick = ["--settle=0.5", "--probe-interval=1"]
        given = self.services["controller"]["environment"]
        own = {name: self._here(re.sub(r"\$\{\w+:-(.*)\}", r"\1", given[name])) for name in given if name != "HOME"}
        line = [sys.executable, "-m", "modelport", *self.command("controller"), *options, *quick]
        self._start("controller", line, {**os.environ, **own})

    def gateway(self) -> None:
        """Start Envoy, in the folder that the compose file names."""
        self._start("gateway", [str(program.find()), *self.command("gateway")], dict(os.environ))

    def prometheus(self) -> None:
        """Start Prometheus on a copy of its configuration, with the places of this machine, and quicker."""
        folder, ports = self.root.parent / "prometheus", self.ports
        shutil.copytree(self._project / "deploy" / "prometheus", folder)
        text = (folder / "prometheus.yml").read_text().replace(": 15s", ": 1s")
        places = {"triton:8002": "metrics", "controller:8003": "health", "gateway:8004": "gateway-metrics"}
        for theirs, ours in places.items():
            assert text.count(theirs) == 1
            text = text.replace(theirs, f"127.0.0.1:{ports[ours]}")
        (folder / "prometheus.yml").write_text(text)
        words = [word.replace("/etc/prometheus", str(folder)) for word in self.services["prometheus"]["command"]]
        words = [word.replace("=/prometheus", f"={folder / 'data'}") for word in words]
        words.append(f"--web.listen-address=127.0.0.1:{ports['prometheus']}")
        self._start("prometheus", ["prometheus", *words], os.environ, contained=False)

    @property
    def secret(self) -> str:
        """What opens Triton's control API."""
        return (self.secrets / "triton").read_text()

    def driven(self, repository: Path | None = None, secret: str = "") -> ServerHandle:
        """The server, as whoever drives it from outside the containers has it."""
        ports = {f"{name}_port": self.ports[name] for name in ("http", "grpc", "metrics")}
        own = {"host": "127.0.0.1", "secret": secret or self.secret, "models": ()}
        return RemoteServer(repository or self.root, **own, **ports).start().handle

    def log(self, service: str) -> str:
        """What it printed, of all its starts."""
        return (self.root.parent / f"{service}.log").read_text()

    def end(self, service: str, number: int = signal.SIGTERM) -> int:
        """End one, and what it started; its exit code."""
        process = self.running.pop(service)
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(number)
        try:
            return process.wait(30)
        finally:
            process.kill()
            for child in family:
                with contextlib.suppress(psutil.Error):
                    child.kill()
            if service == "triton":
                shared_memory.remove(self.prefix)

    def run(self, *words: str, fails: bool = False) -> str:
        """A command, as `docker compose exec controller modelport ...` runs it; its output, or what it complains of."""
        line = [sys.executable, "-m", "modelport", *words]
        inside = self._beside(self.running["controller"].pid, self.services["controller"]["working_dir"], line)
        done = subprocess.run(inside, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert (done.returncode != 0) == fails, done.stderr + self.log("controller")
        return done.stderr if fails else done.stdout

    def until(self, what: Callable[[], bool], timeout_s: float = START_S) -> None:
        """Wait for something; what was printed is shown where it does not come."""
        assert wait_until(what, timeout_s=timeout_s, interval_s=0.1), "\n".join(map(self.log, self.running))

    def _start(self, service: str, line: list[str], environment: Mapping[str, str], *, contained: bool = True) -> None:
        inside = self._apart(self._mounts(service), line) if contained else line
        with (self.root.parent / f"{service}.log").open("ab") as log:
            self.running[service] = subprocess.Popen(
                inside, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment)
            )

    def _mounts(self, service: str) -> list[str]:
        """A script that mounts what the container sees."""
        about = self.services[service]
        script = ["mount -t tmpfs tmpfs /srv", "mount --bind /tmp /tmp"]
        for one in about["volumes"]:
            source = one["source"].replace("${MODELPORT_SERVED:-./served}", str(self.root.parent))
            source = source.replace("./secrets", str(self.secrets))
            script += [f"mkdir -p {one['target']}", f"mount --bind {shlex.quote(source)} {one['target']}"]
            if one.get("read_only"):
                script.append(f"mount -o remount,bind,ro {one['target']}")
        for folder, _, options in (word.partition(":") for word in about["tmpfs"]):
            if folder != "/tmp":  # the test's own files are there
                script.append(f"mount -t tmpfs -o {options} tmpfs {folder}")
        if about["read_only"]:
            script += ["mount -o remount,bind,ro /srv", "mount -o remount,bind,ro /"]
        return [*script, f"cd {about.get('working_dir', '/')}"]


@pytest.fixture(scope="module")
def composed(shelf: Any, root: Path, apart: Any, beside: Any) -> Iterator[Composed]:
    """All three, from nothing: the repository is empty but for version 1 of `net`."""
    shelf.publish("net")
    subprocess.run([root / "deploy/compose/prepare.sh", shelf.root.parent], check=True, capture_output=True)
    shelf.root = shelf.root.parent / "served" / "model_repository"  # a copy of what was published
    names = ("http", "grpc", "metrics", "health", "gateway", "gateway-metrics", "prometheus")
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in names]
        for one in held:
            one.bind(("127.0.0.1", 0))
        ports = {name: one.getsockname()[1] for name, one in zip(names, held, strict=True)}
    made = Composed(root, shelf.root, ports, apart, beside)
    try:
        made.triton()
        made.controller()
        made.until(lambda: "gateway_unreachable" in made.log("controller"))
        made.gateway()
        if shutil.which("prometheus"):
            made.prometheus()  # it asks nobody for five seconds: meanwhile others are tested
        yield made
    finally:
        for service in reversed(list(made.running)):
            made.end(service, signal.SIGKILL)
