"""What `modelport bench` is asked for, all of it checked before anything starts."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from modelport.bench import perf_analyzer, places
from modelport.bench.load import Load, loads
from modelport.bench.places import GRPC, HTTP, PROTOCOLS
from modelport.errors import ModelportError, UsageError
from modelport.repository.layout import DEFAULT_REPOSITORY, parse_reference

DEFAULT_CONCURRENCY = "1:32"
AUTO, GOLDEN, RANDOM = "auto", "golden", "random"
INPUTS = (AUTO, GOLDEN, RANDOM)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for.

    Attributes:
        reference: NAME or NAME/VERSION.
        against: What is measured in turns with it: another reference, or the URL of another server with the same model.
        repository: Folder of the model repository.
        url: A server; None for the running server of the repository, or else a temporary one.
        protocol: `http` or `grpc`; None for `http`, or what the URL says.
        concurrency: Requests on the way, such as `1,8` or `1:32`; None for `1:32` unless there is a request rate.
        request_rate: Requests per second, written alike.
        batch_size: Rows in one request.
        shared_memory: Hand tensors over in shared memory. Without a URL, always in a temporary server: perf_analyzer
            takes all regions of a server away, other callers' as well.
        inputs: `golden`, `random`, or `auto`: golden ones where the repository has some.
        repeats: Rounds; each measures every target at every load.
        interval_s: Seconds of one window; each run takes three.
        ca_file: PEM file with the only authorities to trust for the certificate of an https or grpcs URL.
        flags: perf_analyzer's own flags.
    """

    reference: str
    against: str | None = None
    repository: Path = DEFAULT_REPOSITORY
    url: str | None = None
    protocol: str | None = None
    concurrency: str | None = None
    request_rate: str | None = None
    batch_size: int = 1
    shared_memory: bool = False
    inputs: str = AUTO
    repeats: int = 3
    interval_s: float = 1.0
    ca_file: Path | None = None
    flags: tuple[str, ...] = ()

    @property
    def second_url(self) -> str | None:
        """The URL in `against`; None where it is no URL."""
        return self.against if self.against is not None and "://" in self.against else None

    @property
    def spoken(self) -> str:
        """The protocol for a server that speaks both."""
        return self.protocol or HTTP

    def loads(self) -> list[Load]:
        """How hard the server is asked.

        Raises:
            UsageError: It is no load.
        """
        default = DEFAULT_CONCURRENCY if self.request_rate is None else None
        return loads(concurrency=self.concurrency or default, request_rate=self.request_rate)


def check(asked: Asked) -> None:
    """Check everything that can be seen without a server.

    Raises:
        UsageError: All that cannot be right, together.
    """
    urls = [url for url in (asked.url, asked.second_url) if url is not None]
    references = [asked.reference] + ([asked.against] if asked.against and asked.second_url is None else [])
    checks: list[Callable[[], object]] = [
        asked.loads,
        lambda: perf_analyzer.check_flags(asked.flags),
        *(lambda url=url: places.at(url) for url in urls),
        *(lambda reference=reference: parse_reference(reference) for reference in references),
    ]
    problems = []
    for one in checks:
        try:
            one()
        except ModelportError as exc:
            problems.append(exc)
    problems += [UsageError(what, why=why, fix=fix) for what, why, fix in _wrong(asked, urls)]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UsageError(
            "; ".join(problem.what for problem in problems),
            why="; ".join(problem.why for problem in problems),
            fix="; ".join(problem.fix for problem in problems),
        )


def _wrong(asked: Asked, urls: list[str]) -> list[tuple[str, str, str]]:
    """What is wrong with single values: what, why, and what to do."""
    found = []
    if asked.protocol not in (None, *PROTOCOLS):
        found.append((f"--protocol {asked.protocol!r} is not known", "Triton speaks two", "give http or grpc"))
    elif asked.protocol is not None and any(_protocol(url) != asked.protocol for url in urls):
        found.append((f"--protocol {asked.protocol} is not what the URL says", "its scheme does", "leave one out"))
    if asked.inputs not in INPUTS:
        found.append(
            (
                f"--inputs {asked.inputs!r} is not known",
                "there are golden and random ones",
                f"give one of {', '.join(INPUTS)}",
            )
        )
    for option, count in (("--batch-size", asked.batch_size), ("--repeats", asked.repeats)):
        if count < 1:
            found.append((f"{option} {count} cannot be used", "it is at least 1", "give 1 or more"))
    if not 0.001 <= asked.interval_s <= 3600:
        found.append((f"--interval {asked.interval_s:g} cannot be used", "it is 0.001 to 3600 s", "give 1 or so"))
    if asked.shared_memory and not all(map(_is_here, urls)):
        found.append(("--shared-memory needs a server on this machine", f"{urls[0]} is not", "leave it out"))
    if asked.ca_file is not None and not any(url.startswith(("https:", "grpcs:")) for url in urls):
        found.append(
            ("--ca-file needs a URL with TLS", "no other server shows a certificate", "give https:// or grpcs://")
        )
    elif asked.ca_file is not None and not asked.ca_file.is_file():
        found.append((f"--ca-file {asked.ca_file} is no file", "nothing is there, or a folder", "name a PEM file"))
    if asked.second_url is not None and asked.url is None:
        found.append(
            ("--against names a URL, and --url is missing", "two servers are compared by theirs", "give both URLs")
        )
    return found


def _protocol(url: str) -> str:
    return GRPC if url.startswith("grpc") else HTTP


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
