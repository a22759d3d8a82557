"""The settings of a model side by side in a server of its own: the running service is not touched.

Each setting is a model there, `tune-1` and so on: a folder with links to the version's files and a `config.pbtxt` of
its own. It is loaded when it is first asked for, and must answer rightly, from several callers at once, before it is
measured.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from modelport.bench import golden, perf_analyzer
from modelport.bench.golden import Recorded
from modelport.bench.load import CONCURRENCY, Load
from modelport.bench.perf_analyzer import Job
from modelport.bench.perf_output import Measured
from modelport.bench.perf_program import Program
from modelport.bench.places import GRPC, Place, Report, Wanted
from modelport.bench.tuning.space import Setting, applied
from modelport.client import Client
from modelport.convert.types import Arrays, rows, take
from modelport.errors import ManifestError, UsageError
from modelport.lifecycle import served
from modelport.lifecycle.served import Proven
from modelport.repository import config as configs
from modelport.repository.layout import CONFIG_FILE, config_path, version_folder, version_numbers
from modelport.server import EmbeddedServer

TIMEOUT_S = 60.0
_WARM_REQUESTS = 16
_FIRST = 3  # runs with a batch size that TorchScript needs to make itself at home
_CHUNKS, _CHUNK_REQUESTS = 8, 3  # of which the quickest counts: what else the machine does only adds to a time
_TIMED_S = 1.0  # for one batch size, or one chunk
_SIZES = (1, 2, 4, 16)  # and the largest


@dataclass
class Candidates:
    """A server with settings of one model.

    Attributes:
        repository: The model repository; only read.
        wanted: The version.
        server: Of `folder`, in which the settings lie.
        folder: A repository for them.
        scratch: For the load generator's files.
        program: perf_analyzer.
        kind: Where they run: `KIND_CPU`, `KIND_GPU`, or empty as configured.
        protocol: `http` or `grpc`.
        interval_s: Seconds of a window.
        proven: What the version must answer; None where it has no golden inputs.
    """

    repository: Path
    wanted: Wanted
    server: EmbeddedServer
    folder: Path
    scratch: Path
    program: Program
    kind: str = ""
    protocol: str = "http"
    interval_s: float = 1.0
    proven: Proven | None = None
    inputs: Recorded | None = None
    names: dict[Setting, str] = field(default_factory=dict)
    given: int = 0

    @property
    def config(self) -> configs.ModelConfig:
        """The model's configuration in its repository."""
        return configs.read(config_path(self.repository, self.wanted.model))

    def load(self, setting: Setting) -> str:
        """Have a setting loaded, and answering as it should; gives its name.

        Raises:
            ServerError: It does not load.
            VerificationError: It does not answer as the version's evidence says.
        """
        if setting not in self.names:
            self.given += 1
            name = f"tune-{self.given}"
            self._write(setting, name)
            self.server.load(name, timeout_s=TIMEOUT_S * 2)
            self.names[setting] = name
            self._warm(name)
        return self.names[setting]

    def unload(self, keep: Iterable[Setting] = ()) -> None:
        """Take the loaded settings out, but for these; they are loaded again when they are asked for."""
        kept = set(keep)
        for setting in [one for one in self.names if one not in kept]:
            self.server.unload(self.names[setting])
            del self.names[setting]

    def measure(self, setting: Setting, clients: int) -> Measured:
        """One run of perf_analyzer.

        Raises:
            ProcessError: It failed.
        """
        handle = self.server.handle
        url, headers = (
            (handle.grpc_url, handle.grpc_metadata) if self.protocol == GRPC else (handle.http_url, handle.http_headers)
        )
        job = Job(
            place=Place(url=url, kind="temporary", words="a temporary server", headers=headers),
            model=self.load(setting),
            inputs=self.inputs,
            interval_s=self.interval_s,
        )
        return perf_analyzer.measure(
            self.program, job, Load(kind=CONCURRENCY, value=float(clients)), folder=self.scratch
        )

    def run_us(self, threads: int, largest: int) -> dict[int, float]:
        """How long one run of the model takes on free cores, by its rows: one caller asks, the server counts.

        Args:
            threads: Of the instance.
            largest: The largest batch; 0 without a batch axis.
        """
        name = self.load(Setting(instances=1, threads=threads, batch=min(1, largest), delay_us=0))
        most = min(largest, max(1, self.config.max_batch_size))
        sizes = sorted({size for size in (*_SIZES, most) if 0 < size <= most}) or [1]
        found: dict[int, float] = {}
        with Client(self.server.handle.http_url, timeout_s=TIMEOUT_S, token="") as client:
            for size in sizes:  # more rows never take less time
                found[size] = max([self._timed(client, name, size if largest else 0), *found.values()])
        return found

    def _timed(self, client: Client, name: str, size: int) -> float:
        inputs = self._rows(size)
        for _ in range(_FIRST):
            client.infer(name, inputs=inputs)
        times: list[float] = []
        until = time.monotonic() + _TIMED_S
        while len(times) < _CHUNKS and (not times or time.monotonic() < until):
            before = self._compute(name)
            for _ in range(_CHUNK_REQUESTS):
                client.infer(name, inputs=inputs)
            after = self._compute(name)
            times.append((after[1] - before[1]) / max(1, after[0] - before[0]) / 1000)
        return min(times)

    def _compute(self, name: str) -> tuple[int, int]:
        """Runs of the model, and their nanoseconds all together."""
        found = self.server.handle.statistics(name)[0]["inference_stats"]
        parts = [found[part] for part in ("compute_input", "compute_infer", "compute_output")]
        return int(parts[1].get("count", 0)), sum(int(part.get("ns", 0)) for part in parts)

    def _rows(self, size: int) -> Arrays:
        """Inputs of so many rows, as callers send them; 0: without a batch axis."""
        if self.proven is None:
            return _zeros(self.config, size)
        recorded, tensors = self.proven.golden.inputs, self.proven.manifest.spec.inputs
        if self.proven.evidence.batched:
            count = rows(recorded)
            recorded = take(recorded, [row % count for row in range(max(1, size))])
        return configs.outside(recorded, tensors)

    def _warm(self, name: str) -> None:
        with Client(self.server.handle.http_url, timeout_s=TIMEOUT_S, token="") as client:
            if self.proven is not None:
                served.replay_mixed(client, self.proven, model=name, version=None, where=f"the trial server's {name}")
            else:
                for _ in range(_WARM_REQUESTS):
                    client.infer(name, inputs=self._rows(min(1, self.config.max_batch_size)))

    def _write(self, setting: Setting, name: str) -> None:
        source, target = (self.repository / self.wanted.model).resolve(), self.folder / name
        config = applied(self.config, setting, kind=self.kind)
        config.name = name
        configs.set_versions(config, [self.wanted.version])
        target.mkdir(exist_ok=True)
        numbers = set(map(str, version_numbers(self.repository, self.wanted.model))) - {str(self.wanted.version)}
        for entry in source.iterdir():
            if entry.name not in {CONFIG_FILE, *numbers} and not (target / entry.name).exists():
                (target / entry.name).symlink_to(entry)
        (target / CONFIG_FILE).write_text(configs.text(config), encoding="utf-8")


@contextlib.contextmanager
def opened(
    repository: Path,
    wanted: Wanted,
    scratch: Path,
    *,
    program: Program,
    kind: str,
    protocol: str,
    interval_s: float,
    report: Report,
) -> Iterator[Candidates]:
    """A server without a model yet, for settings of this version; it is stopped in the end.

    Args:
        repository: The model repository.
        wanted: The version.
        scratch: An empty folder.
        program: perf_analyzer.
        kind: As in `Candidates`; so are `protocol` and `interval_s`.
        report: Told which inputs are sent.

    Raises:
        ServerError: The server does not start.
        UsageError: The version has no golden inputs, and others cannot be made up.
    """
    proven, inputs = _inputs(repository, wanted, scratch / "inputs.json", report)
    folder = scratch / "repository"
    folder.mkdir()
    server = EmbeddedServer(folder, models=(), http_port=0, grpc_port=0, metrics_port=0)
    try:
        server.start()
        yield Candidates(
            repository=repository,
            wanted=wanted,
            server=server,
            folder=folder,
            scratch=scratch,
            program=program,
            kind=kind,
            protocol=protocol,
            interval_s=interval_s,
            proven=proven,
            inputs=inputs,
        )
    finally:
        server.stop(grace_s=0.0)  # nobody else asks it


def _inputs(repository: Path, wanted: Wanted, path: Path, report: Report) -> tuple[Proven | None, Recorded | None]:
    folder = version_folder(repository, wanted.model, wanted.version)
    try:
        proven = served.read(folder, compare_files=False)
        return proven, golden.write(folder, path)
    except ManifestError as exc:
        config = configs.read(config_path(repository, wanted.model))
        _zeros(config, min(1, config.max_batch_size))
        report(f"{wanted}: random inputs, for there are no golden ones ({exc.what}); its answers are not checked")
        return None, None


def _zeros(config: configs.ModelConfig, size: int) -> Arrays:
    """Inputs of zeros.

    Raises:
        UsageError: A size varies, or an input holds texts.
    """
    tensors = configs.spec_of(config).inputs
    if any(dim < 0 for tensor in tensors for dim in tensor.dims) or any(t.dtype.triton == "BYTES" for t in tensors):
        raise UsageError(
            f"{config.name} has no golden inputs to measure it with",
            why="sizes that vary and texts cannot be made up",
            fix="publish it with 'modelport export' or 'modelport adopt', which record inputs and answers",
        )
    return {tensor.name: np.zeros(((size,) if size else ()) + tensor.dims, tensor.dtype.np) for tensor in tensors}
