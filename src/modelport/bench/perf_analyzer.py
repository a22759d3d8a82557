"""Run NVIDIA's perf_analyzer: one process for each load, with modelport's options and the caller's own behind them.

It is told to take what it measures in a fixed number of windows, however much these differ: whether a figure can be
relied on is seen from repeated runs, which are stored and compared, and not from one run's own windows.
"""

from __future__ import annotations

import re
import shlex
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelport._process import Child
from modelport.bench import perf_output
from modelport.bench.golden import Recorded
from modelport.bench.load import CONCURRENCY, Load
from modelport.bench.perf_output import Measured
from modelport.bench.perf_program import Program
from modelport.bench.places import GRPC, Place
from modelport.errors import ProcessError, UsageError

WINDOWS = 3  # as many as perf_analyzer takes at least
_ANY_SPREAD = "1000000"  # percent
_LOOK_S = 0.05
_STOP_S = 5.0
_SILENT_S = 60.0  # beyond the windows: connecting, reading the inputs, ending
_OUTPUT_BYTES = 100 * 1024  # perf_analyzer's own size of an output in shared memory
_HELP = "Usage: "

# What modelport sets itself, each with the option to use instead.
OWNED = {
    "-m": "NAME",
    "-x": "NAME/VERSION",
    "-u": "--url",
    "-i": "--protocol",
    "-b": "--batch-size",
    "-p": "--interval",
    "--measurement-interval": "--interval",
    "--concurrency-range": "--concurrency",
    "--request-rate-range": "--request-rate",
    "--shared-memory": "--shared-memory",
    "-f": "--output",
    "--profile-export-file": "--output",
    "--verbose-csv": "--output",
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is measured.

    Attributes:
        place: The server.
        model: The name under which the server knows the model.
        version: Its version; None for the one that serves.
        inputs: Its golden inputs; None for random ones.
        batch_size: Rows in one request.
        shared_memory: Hand tensors over in shared memory.
        interval_s: Length of a window in seconds.
        flags: perf_analyzer's own flags.
    """

    place: Place
    model: str
    version: int | None = None
    inputs: Recorded | None = None
    batch_size: int = 1
    shared_memory: bool = False
    interval_s: float = 1.0
    flags: tuple[str, ...] = ()


def check_flags(flags: Sequence[str]) -> tuple[str, ...]:
    """The caller's own flags for perf_analyzer, once none of them is one that modelport sets.

    Raises:
        UsageError: Some are, all of them listed; or the first is no flag.
    """
    if flags and not flags[0].startswith("-"):
        raise UsageError(
            f"{flags[0]!r} was not understood",
            why="one model is measured at a time, and behind -- come flags for perf_analyzer",
            fix="name another model with --against; or write: modelport bench NAME -- --percentile 99",
        )
    wrong = {flag: OWNED[owned] for flag in flags if (owned := _owned(flag))}
    if wrong:
        raise UsageError(
            f"these flags of perf_analyzer cannot be given behind --: {', '.join(wrong)}",
            why="modelport sets them itself",
            fix="use its own options: " + ", ".join(f"{option} for {flag}" for flag, option in wrong.items()),
        )
    return tuple(flags)


def command(program: Program, job: Job, load: Load, table: Path) -> list[str]:
    """The command line for one load.

    Args:
        program: perf_analyzer.
        job: What is measured.
        load: How.
        table: The CSV file that it writes.
    """
    place = job.place
    words = [str(program.path), "-m", job.model, "-i", place.protocol, "-u", _address(place)]
    words += ["-x", str(job.version)] if job.version is not None else []
    words += _tls(place)
    words += [word for name, value in place.headers.items() for word in ("-H", f"{name}:{value}")]
    value = f"{load.value:g}"
    words += ["--concurrency-range", value] if load.kind == CONCURRENCY else ["--request-rate-range", value]
    words += ["-b", str(job.batch_size), "-p", str(max(1, round(job.interval_s * 1000)))]
    words += ["-s", _ANY_SPREAD, "-r", str(WINDOWS)]
    if job.inputs is not None:
        words += ["--input-data", str(job.inputs.path)]
    if job.shared_memory:
        largest = job.inputs.largest_output_bytes if job.inputs is not None else 0
        words += ["--shared-memory", "system", "--output-shared-memory-size", str(max(_OUTPUT_BYTES, largest))]
    return [*words, "-v", "--verbose-csv", "-f", str(table), *job.flags]


def _tls(place: Place) -> list[str]:
    """What makes it use TLS; an https URL does of itself."""
    grpc = place.protocol == GRPC
    words = ["--ssl-grpc-use-ssl", "true"] if grpc and place.secure else []
    if place.ca_file is not None:
        option = "--ssl-grpc-root-certifications-file" if grpc else "--ssl-https-ca-certificates-file"
        words += [option, str(place.ca_file.resolve())]
    return words


def shown(words: Sequence[str]) -> list[str]:
    """A command line without what must not be shown or stored: values of headers, and folders of this machine."""
    hidden = []
    for before, word in zip(["", *words], words, strict=False):
        if before == "-H" or (word.startswith("-H") and len(word) > 2):
            word = re.sub(r":.*", ":...", word, flags=re.DOTALL)
        hidden.append(Path(word).name if word.startswith("/") else word)
    return hidden


def measure(program: Program, job: Job, load: Load, *, folder: Path) -> Measured:
    """Run perf_analyzer once.

    It is ended with this process, by Ctrl-C as well.

    Args:
        program: perf_analyzer.
        job: What is measured.
        load: How.
        folder: An existing folder for its output; files of an earlier run in it are overwritten.

    Raises:
        ProcessError: It failed, and with its own words why; or it said nothing for too long.
    """
    table, log = folder / "latencies.csv", folder / "perf_analyzer.log"
    table.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    words = command(program, job, load, table)
    child = Child(words, log=log, env=program.environment())
    try:
        code = _wait(child, job)
        text = _text(log)
        if code is None:
            raise _failed(job, load, words, text, f"it said nothing for {_patience_s(job):g} s")
        if code != 0 or not table.exists():  # the script of one of its packages ends with 0, whatever happened
            raise _failed(job, load, words, text, _reason(text) or f"it ended with code {code}")
        try:
            return perf_output.read(table.read_text(encoding="utf-8"), text)
        except (ValueError, KeyError) as exc:
            raise _failed(job, load, words, text, f"its output was not understood: {exc}") from exc
    finally:
        if job.shared_memory:  # on SIGINT it gives it back, when the window that it measures is over
            child.stop(grace_s=3 * _STOP_S + 2 * job.interval_s, first=signal.SIGINT)
        else:
            child.stop(grace_s=_STOP_S)


def _wait(child: Child, job: Job) -> int | None:
    """Its exit code; None when it said nothing for too long."""
    length, heard = 0, time.monotonic()
    while (code := child.wait(_LOOK_S)) is None:
        size = child.log.stat().st_size
        if size != length:
            length, heard = size, time.monotonic()
        elif time.monotonic() - heard > _patience_s(job):
            return None
    return code


def _patience_s(job: Job) -> float:
    return _SILENT_S + 10 * job.interval_s


def _failed(job: Job, load: Load, words: Sequence[str], text: str, why: str) -> ProcessError:
    return ProcessError(
        f"perf_analyzer could not measure {job.model} at {load}",
        why=why,
        fix=_advice(why) or "see all of its words: " + shlex.join(shown(words)),
        command=tuple(shown(words)),
        output_tail=text.partition(_HELP)[0][-4000:],
    )


_ADVICE = {
    "dynamic shape": "say which sizes: modelport bench ... -- --shape NAME:3,224,224; or measure with golden inputs",
    "larger time window": "give --interval more seconds: no request was answered within a window",
    "stable measurement": "leave -s and -r away, for repeated runs tell what can be relied on; or give --interval more",
    "unrecognized option": "perf_analyzer does not know this flag; its own description has all of them",
    "failed to parse": "correct the flag behind --; perf_analyzer's own description has all of them",
    "libcudart": "pip install 'modelport[server]', which has it; then modelport bench --install",
    "restricted": "the server closes its statistics: add its header behind --, such as -H NAME:VALUE",
    "batch-size must": "--batch-size must not be larger than the model's max_batch_size",
    "batch size": "--batch-size must not be larger than the model's max_batch_size",
    "certificate": "name the authority that signed the server's certificate: --ca-file FILE",
    "connect": "look whether the server runs, and at its log",
}


def _advice(why: str) -> str:
    return next((fix for word, fix in _ADVICE.items() if word in why.lower()), "")


def _reason(text: str) -> str:
    """What perf_analyzer said of the failure; its help, which it prints after a wrong flag, is left out."""
    lines = [line.strip() for line in text.partition(_HELP)[0].splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"rror|ailed|nvalid|estricted|unrecognized|must|what\(\)", line)]
    return "; ".join((telling or lines)[-3:])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _address(place: Place) -> str:
    return f"https://{place.address}" if place.secure and place.protocol != GRPC else place.address


def _owned(flag: str) -> str | None:
    """The flag of modelport's own that this one is; names may be cut short, and short ones have their value behind."""
    name = flag.partition("=")[0]
    if name.startswith("--"):
        return next((owned for owned in OWNED if len(name) > 2 and owned.startswith(name)), None)
    return next((owned for owned in OWNED if len(owned) == 2 and name.startswith(owned)), None)
