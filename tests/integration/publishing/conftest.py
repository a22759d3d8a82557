"""Publishers that are looked at and disturbed at each of their system calls, and what is read afterwards.

`strace` counts, kills and refuses. What a repository holds is read here without modelport: by folders, checksums and
Triton's own message.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2

# All that can change a file or a folder, make one, or lock it.
CHANGING = (
    "write", "pwrite64", "writev", "pwritev", "pwritev2", "copy_file_range", "sendfile", "splice", "fallocate",
    "truncate", "ftruncate", "fsync", "fdatasync", "sync_file_range", "syncfs", "msync", "rename", "renameat",
    "renameat2", "mkdir", "mkdirat", "mknod", "mknodat", "unlink", "unlinkat", "rmdir", "link", "linkat", "symlink",
    "symlinkat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat", "utime", "utimes", "futimesat",
    "utimensat", "setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr", "flock",
)  # fmt: skip
OPENING = ("open", "openat", "openat2", "creat")
TRACED = ",".join(f"?{name}" for name in (*CHANGING, *OPENING))  # `?`: not every machine has all of them
_LINE = re.compile(r"(?:(?P<pid>\d+) +)?(?P<name>\w+)\((?P<rest>.*)")
_PATH = re.compile(r"(?<=<)/[^>]*(?=>)|(?<=\")/[^\"]*(?=\")")
_UNIQUE = re.compile(r"(?<=net-)[0-9a-f]{12}\b|(?<=\.json\.)\d+\.[0-9a-f]{8}|(?<=pbtxt\.)\d+\.[0-9a-f]{8}")


class Mixture(AssertionError):
    """A repository that is neither what it was nor what it was to become."""


@dataclass(frozen=True)
class Call:
    """A system call in the order in which they began.

    Attributes:
        name: Such as `rename`.
        text: Its arguments; files that are open are shown with their paths.
        result: What it gave; `?` where the process died in it.
        number: How many calls of this name the process or thread had made, with this one.
    """

    name: str
    text: str
    result: str
    number: int

    @property
    def changes(self) -> bool:
        """Whether it changed anything."""
        if self.result.startswith("-1"):
            return False
        return self.name in CHANGING or "O_CREAT" in self.text or "O_TRUNC" in self.text

    @property
    def paths(self) -> list[str]:
        """The paths among its arguments; what differs from run to run is a `*`."""
        return [_UNIQUE.sub("*", path) for path in _PATH.findall(self.text)]

    def __str__(self) -> str:
        return f"{self.name} {self.number}: {' '.join(self.paths)}"


def calls_of(log: str) -> list[Call]:
    """What strace wrote, as calls."""
    counted: Counter[tuple[str | None, str]] = Counter()
    found = []
    for line in log.splitlines():
        match = _LINE.match(line)
        if match is None:  # the end of a process, a signal, or the end of a call that was interrupted
            continue
        who = (match["pid"], match["name"])
        counted[who] += 1
        text, _, result = match["rest"].rpartition(" = ")
        unfinished = not text
        text = match["rest"].partition(" <unfinished")[0] if unfinished else text.rstrip().removesuffix(")")
        found.append(Call(match["name"], text, "?" if unfinished else result, counted[who]))
    return found


@dataclass(frozen=True)
class Run:
    """A program's end.

    Attributes:
        code: Exit code; negative when a signal ended it.
        said: What it wrote to standard error.
        calls: Its system calls, where they were looked at.
    """

    code: int
    said: str
    calls: list[Call]

    def below(self, root: Path) -> list[Call]:
        """The calls that changed something at or below this path."""
        return [call for call in self.calls if call.changes and any(path.startswith(str(root)) for path in call.paths)]

    def died_in(self, step: Call) -> bool:
        """Whether this call was the last of its thread, and never came back."""
        return any(str(call) == str(step) and call.result == "?" for call in self.calls)

    def refused(self) -> list[Call]:
        """The calls that were answered with an error instead of being made."""
        return [call for call in self.calls if call.result.endswith("(INJECTED)")]


class Publishers:
    """Runs actions of `publisher.py`, each in a new process, under strace where asked."""

    def __init__(self, scratch: Path) -> None:
        self._log, self._output = scratch / "strace.log", scratch / "output.txt"
        command = [sys.executable, str(Path(__file__).with_name("publisher.py"))]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, action: str, repository: Path, *, inject: str = "", trace: str = "") -> Run:
        """Run an action to its end.

        Args:
            action: One of `ACTIONS` in `publisher.py`.
            repository: Where.
            inject: strace's word for what is done to which call, such as `rename:signal=KILL:when=2`.
            trace: The calls to look at; `TRACED` where something is injected.
        """
        self._ask({"action": action, "repository": str(repository), "output": str(self._output)})
        pid = int(self._answer())
        strace = self._attach(pid, trace or TRACED, inject) if inject or trace else None
        self._ask("go")
        code = os.waitstatus_to_exitcode(int(self._answer()))
        if strace is not None:
            strace.communicate(timeout=20)
        calls = calls_of(self._log.read_text()) if strace is not None else []
        return Run(code, self._output.read_text(), calls)

    def close(self) -> None:
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait(20)

    def _ask(self, what: object) -> None:
        assert self._server.stdin
        self._server.stdin.write(f"{json.dumps(what)}\n")
        self._server.stdin.flush()

    def _answer(self) -> str:
        assert self._server.stdout
        line = self._server.stdout.readline()
        assert line, "publisher.py died"
        return line

    def _attach(self, pid: int, trace: str, inject: str) -> subprocess.Popen[str]:
        command = ["strace", "-y", "-s", "0", "-o", str(self._log), "-e", f"trace={trace}", "-p", str(pid)]
        command += ["-e", f"inject={inject}"] if inject else []
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        said = process.stderr.readline()
        assert "attached" in said, f"strace: {said}"
        return process


class Command:
    """The same with the real command: `modelport export` of a small ONNX file."""

    def __init__(self, scratch: Path, publishers: Publishers) -> None:
        self.log, self._source, self._publishers = scratch / "strace.log", scratch / "net.onnx", publishers
        self.log.touch()
        node = helper.make_node("Relu", ["x"], ["y"])
        tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")]
        model = helper.make_model(
            helper.make_graph([node], "graph", tensors[:1], tensors[1:]),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        )
        onnx.save(model, self._source)
        (scratch / "labels.txt").write_text("cat\ndog\nbird\n")
        self._options = ["--name", "net", "--labels", str(scratch / "labels.txt")]

    def __call__(self, action: str, repository: Path, *, inject: str = "", trace: str = "") -> Run:
        """As `Publishers`; what is not `release` runs there."""
        if action != "release":
            return self._publishers(action, repository, inject=inject, trace=trace)
        with self.start(repository, inject=inject, trace=trace) as process:
            _, said = process.communicate(timeout=120)
        return Run(process.returncode, said, calls_of(self.log.read_text()) if inject or trace else [])

    def start(self, repository: Path, *, inject: str = "", trace: str = "") -> subprocess.Popen[str]:
        """Start it; the process is strace's, where that looks at it."""
        command = [sys.executable, "-m", "modelport", "export", str(self._source), "-r", str(repository)]
        command += self._options
        if inject or trace:
            strace = ["strace", "-f", "-y", "-s", "0", "-o", str(self.log), "-e", f"trace={TRACED}"]
            # The filter in the kernel is faster; strace 6.1 delivers no signals with it.
            strace += ["-e", f"inject={inject}"] if inject else ["--seccomp-bpf"]
            command = [*strace, *command]
        same = {"PYTHONDONTWRITEBYTECODE": "1", "ORT_DISABLE_TELEMETRY": "1"}  # every run makes the same calls
        return subprocess.Popen(
            command,
            env={**os.environ, **same},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


Runner = Callable[..., Run]


@pytest.fixture(scope="session")
def mixture() -> type[Mixture]:
    """The error of a repository that is neither one thing nor the other."""
    return Mixture


@pytest.fixture(scope="session", name="served")
def served_fixture() -> Callable[[Path], dict[int, dict[str, bytes]]]:
    """`served(repository)`: what Triton would serve, after a check of every version."""
    return served


@pytest.fixture(scope="session", name="calls_of")
def calls_of_fixture() -> Callable[[str], list[Call]]:
    """`calls_of(log)`: strace's lines as calls."""
    return calls_of


@pytest.fixture(scope="session")
def changing() -> set[str]:
    """The names of the system calls that are looked at."""
    return {*CHANGING, *OPENING}


@pytest.fixture(scope="session")
def publishers(tmp_path_factory: pytest.TempPathFactory, require: Callable[..., None]) -> Iterator[Publishers]:
    """`publishers(action, repository, inject=..., trace=...)`: see `Publishers`."""
    require("strace")
    found = Publishers(tmp_path_factory.mktemp("publishers"))
    yield found
    found.close()


@pytest.fixture
def others(tmp_path: Path, publishers: Publishers) -> Iterator[Publishers]:
    """A second one, for two runs at once."""
    (tmp_path / "others").mkdir()
    found = Publishers(tmp_path / "others")
    yield found
    found.close()


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory, publishers: Publishers) -> Command:
    """The same with `modelport export`."""
    return Command(tmp_path_factory.mktemp("command"), publishers)


@dataclass(frozen=True)
class Case:
    """A repository that a version is published into, and the trees that may be seen: the one before, the one after."""

    name: str
    run: Runner
    repository: Path
    template: Path
    before: dict[str, tuple[bytes, int]]
    after: dict[str, tuple[bytes, int]]
    served_before: dict[int, dict[str, bytes]]
    served_after: dict[int, dict[str, bytes]]
    full: Run

    def restore(self) -> None:
        """The repository as it was before."""
        for path in (self.repository, state_of(self.repository)):
            shutil.rmtree(path, ignore_errors=True)
            if (self.template / path.name).exists():
                shutil.copytree(self.template / path.name, path)

    @property
    def folder_after(self) -> Path:
        """The folder of the version that is published."""
        return self.repository / "net" / ("2" if self.name == CANDIDATE else "1")

    def steps(self) -> list[Call]:
        """The calls of an undisturbed run that change something in the repository or beside it."""
        return self.full.below(self.repository.parent)

    def fits(self) -> str:
        """`before` or `after`, by every file; those that are the same in both have kept their time.

        Raises:
            Mixture: It is neither.
        """
        seen = tree(self.repository)
        for word, wanted in (("before", self.before), ("after", self.after)):
            if contents(seen) == contents(wanted):
                touched = [n for n, was in self.before.items() if seen[n][0] == was[0] and seen[n] != was]
                if touched and not (word == "before" and self.name == COMMITTED):  # what was put back is a new file
                    raise Mixture(f"{touched} were written anew")
                return word
        raise Mixture(f"neither before nor after: {sorted(seen)}")

    def disturbed(self, step: Call, how: str, *, and_all_after: bool = False) -> Run:
        """A publish in which something is done to one call: `signal=KILL`, `error=EIO`; beforehand as it was before.

        With `and_all_after`, it is done to all later calls of that name as well.
        """
        self.restore()
        when = f"{step.number}{'+' if and_all_after else ''}"
        return self.run("release", self.repository, inject=f"{step.name}:{how}:when={when}")

    def left(self) -> list[str]:
        """What lies in staging and in the journal, and files of a half write anywhere in the state folder."""
        state = state_of(self.repository)
        found = [path for name in ("staging", "journal") for path in (state / name).glob("*")]
        return [path.name for path in {*found, *state.rglob("*.tmp")}]

    def settled(self) -> str:
        """Check what is there after a publisher was disturbed, and again after the next command's repair; as `fits`.

        Beside a committed configuration more than one file changes. As long as there is no version, nothing can be
        served from them, and the next command puts them back.

        Raises:
            Mixture: It is neither the old nor the new state, or the next command does not make it so.
        """
        if served(self.repository) not in (self.served_before, self.served_after):
            raise Mixture("callers would get neither the old nor the new")
        if self.name != COMMITTED:
            self.fits()
        assert self.run("repair", self.repository).code == 0
        return self.fits()

    def survives(self) -> str:
        """The same, and publish again: that succeeds and cleans up."""
        state = self.settled()
        again = self.run("release", self.repository)
        assert again.code == 0, again.said
        assert self.left() == [], "staging and journal are empty"
        if state == "before":
            assert self.fits() == "after"
        elif served(self.repository) != self.served_after:
            raise Mixture("one version more is a candidate")
        return state


NEW, COMMITTED, CANDIDATE = "a new model", "a committed configuration", "a candidate"
OWNED = """# Ours: two of them.
name: "net"
backend: "onnxruntime"
max_batch_size: 8
version_policy { specific { versions: [ 1 ] } }
instance_group [ { count: 2 } ]
"""


def make_case(name: str, run: Runner, scratch: Path) -> Case:
    """Prepare the repository, keep a copy, and publish once undisturbed."""
    repository, template = scratch / "case" / "models", scratch / "template"
    repository.parent.mkdir()
    if name == COMMITTED:
        (repository / "net").mkdir(parents=True)
        (repository / "net" / "config.pbtxt").write_text(OWNED)
        (repository / "net" / "y_labels.txt").write_bytes(b"old\r\n\xff")
    if name == CANDIDATE:
        assert run("release", repository).code == 0
    for path in (repository, state_of(repository)):
        if path.exists():
            shutil.copytree(path, template / path.name)
    before, before_served = tree(repository), served(repository)
    full = run("release", repository, trace=TRACED)
    assert full.code == 0, full.said
    return Case(name, run, repository, template, before, tree(repository), before_served, served(repository), full)


@pytest.fixture(scope="session", params=[NEW, COMMITTED, CANDIDATE])
def case(request: pytest.FixtureRequest, publishers: Publishers, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """First version of a new model; first one beside a configuration that came with the project; a later version."""
    return make_case(request.param, publishers, tmp_path_factory.mktemp("lean"))


@pytest.fixture(scope="session")
def case_of(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """`case_of(name)`: the same with the real command."""
    return functools.cache(lambda name: make_case(name, command, tmp_path_factory.mktemp("real")))


# --- reading ---------------------------------------------------------------------------------------------------------


def state_of(repository: Path) -> Path:
    return repository.with_name(f"{repository.name}.state")


def tree(repository: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its content and its time, every folder with neither."""
    return {
        str(path.relative_to(repository)): (read(path), path.stat().st_mtime_ns) if path.is_file() else (b"", 0)
        for path in repository.rglob("*")
    }


def read(path: Path) -> bytes:
    """A file's content; of a manifest without the time at which it was made."""
    content = path.read_bytes()
    return re.sub(rb'"created": "[^"]*"', b"", content) if path.name == "manifest.json" else content


def contents(seen: dict[str, tuple[bytes, int]]) -> dict[str, bytes]:
    return {name: content for name, (content, _) in seen.items()}


def served(repository: Path, model: str = "net") -> dict[int, dict[str, bytes]]:
    """What Triton would serve of a model: loaded version to its files, and those of the model that belong to it.

    Raises:
        Mixture: A version is not all there, or the configuration does not fit the folders.
    """
    folder = repository / model
    if not folder.exists():
        return {}
    numbers = [int(path.name) for path in folder.iterdir() if path.is_dir()]
    for number in numbers:
        _check_complete(folder / str(number))
    if not numbers:  # whatever the configuration says: there is nothing to serve
        return {}
    try:
        text = (folder / "config.pbtxt").read_text(errors="surrogateescape")
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
    except (OSError, text_format.ParseError) as exc:
        raise Mixture(f"versions {numbers} without a configuration: {exc}") from exc
    loaded = list(config.version_policy.specific.versions)
    if not config.version_policy.HasField("specific") or not set(loaded) <= set(numbers):
        raise Mixture(f"the policy is {config.version_policy}, the folders are {numbers}")
    own = {"config.pbtxt": text.encode(errors="surrogateescape")}
    for output in config.output:
        if output.label_filename:
            path = folder / output.label_filename
            if not path.is_file():
                raise Mixture(f"there is no {output.label_filename}")
            own[path.name] = path.read_bytes()
    return {n: {**own, **{f"{n}/{p.name}": read(p) for p in (folder / str(n)).iterdir()}} for n in loaded}


def _check_complete(folder: Path) -> None:
    try:
        listed = json.loads((folder / "manifest.json").read_text())["files"]
    except (OSError, ValueError) as exc:
        raise Mixture(f"version {folder.name} without a manifest: {exc}") from exc
    have = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    del have["manifest.json"]
    if have != {name: entry["sha256"] for name, entry in listed.items()}:
        raise Mixture(f"version {folder.name} is not what its manifest lists: {sorted(have)}")
