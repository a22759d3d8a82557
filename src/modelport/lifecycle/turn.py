"""Let another version serve in a running server: try it, switch, prove it, and take it back when anything fails."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from modelport.client import Client
from modelport.errors import ClientError, ModelportError, ServerError, VerificationError
from modelport.lifecycle import gating, served, settle, trial
from modelport.lifecycle.gating import Gates
from modelport.lifecycle.plan import Plan, Present, plan
from modelport.lifecycle.served import Proven
from modelport.repository import config as configs
from modelport.repository import disk, followed, journal, lock, switch
from modelport.repository.journal import STAGING, Note
from modelport.repository.layout import state_folder, version_folder
from modelport.repository.route import Route
from modelport.server import connection, restoring
from modelport.server.handle import ServerHandle

Report = Callable[[str], None]
PROMOTE, ROLLBACK = "promote", "rollback"
TEMPORARY = "a temporary server"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was checked.

    Attributes:
        what: In words.
        seconds: How long it took.
    """

    what: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Switched:
    """A change of the serving version.

    Attributes:
        operation: `promote` or `rollback`.
        model: Model name.
        version: The version that serves now.
        before: The version that served before; the same one where it served already; None where none did.
        loaded: The versions that are loaded now, ascending.
        server: Where it was proved: the running server's URL, or `a temporary server`.
        checks: What was checked, in order.
        switch_s: Seconds from the change of `config.pbtxt` until the new version was proved to serve.
        moved_aliases: Aliases that pointed at a version which is loaded no more; they point at `version` now.
        route: The model's route, which unversioned calls through the gateway follow; empty where none is set.
        route_changed: Whether it is another one than before, since it named a version that is loaded no more.
        judged: What the model's gates said, in words; empty where it has none, or they were overridden.
    """

    operation: str
    model: str
    version: int
    before: int | None
    loaded: tuple[int, ...]
    server: str
    checks: tuple[Check, ...]
    switch_s: float
    moved_aliases: tuple[str, ...] = ()
    route: str = ""
    route_changed: bool = False
    judged: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What was asked for, and what has been checked so far.

    Attributes:
        name: `promote` or `rollback`.
        repository: The model repository.
        unload_old: Take the version before out at once.
        timeout_s: Seconds that one loading may take.
        report: Called with one line at each step.
        checks: What was checked so far.
        judged: What the model's gates said.
    """

    name: str
    repository: Path
    unload_old: bool
    timeout_s: float
    report: Report
    checks: list[Check] = field(default_factory=list)
    judged: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """A check: reported when it begins, and kept when it held."""
        self.report(what)
        started = time.monotonic()
        yield
        self.checks.append(Check(what=what, seconds=time.monotonic() - started))


@dataclass(frozen=True, kw_only=True)
class Server:
    """The server with which a change is made.

    Attributes:
        handle: The server.
        temporary: Whether it was started for this change only.
    """

    handle: ServerHandle
    temporary: bool

    @property
    def name(self) -> str:
        """In words."""
        return TEMPORARY if self.temporary else self.handle.http_url


def change(now: Present, target: int, proven: Proven, server: Server, op: Operation, gates: Gates) -> Switched:
    """Try the version where that is needed, then switch to it.

    Args:
        now: How the model stands; its lock is held.
        target: The version that is to serve.
        proven: What it must answer.
        server: Where that is tried and proved.
        op: What was asked for.
        gates: What it has to pass besides.

    Raises:
        ModelportError: It does not load, does not answer as it should, or does not pass. What served before serves on.
    """
    handle = server.handle
    trial.clear(handle, now.model)
    if server.temporary or now.model in journal.to_load(now.repository):
        _load_present(now, handle, op)
    ready = handle.ready_versions(now.model)
    todo = plan(now, target, back=op.name == ROLLBACK, unload_old=op.unload_old, ready=ready)
    for version in todo.unfit:
        op.report(f"version {version} was made with other labels, parameters or steps: it cannot stay loaded")
    proven = proven.under(todo.config)
    warm = target in ready and (now.serving is None or target <= now.serving)
    try:
        if not warm:
            _try(now, todo, proven, handle, op, gates)
        else:
            if not _answers(now, proven, target, handle, op):
                _revive(now, proven, target, handle, op)
            _judge(gates, handle, now.model, op)
        switch_s = _switch(now, todo, proven, server, op)
    except ModelportError as exc:
        if not handle.running():
            exc.why = f"{exc.why}; the server ended meanwhile"
            raise
        if isinstance(exc, ClientError):  # what a caller would do about it does not help here
            exc.fix = f"look into the server's log for why version {target} does not answer; publish a corrected one"
        if now.serving in ready and _serves(now, handle):
            exc.why = f"{exc.why}; version {now.serving} serves on"
        raise
    journal.loaded(now.repository, now.model)
    route = todo.record.route
    return Switched(
        operation=op.name,
        model=now.model,
        version=target,
        before=now.serving,
        loaded=todo.loaded,
        server=server.name,
        checks=tuple(op.checks),
        switch_s=switch_s,
        moved_aliases=todo.moved,
        route=route.meant(todo.record.aliases, todo.loaded) if route != Route() else "",
        route_changed=route != now.record.route,
        judged=tuple(op.judged),
    )


def _load_present(now: Present, handle: ServerHandle, op: Operation) -> None:
    """Bring the server to what the configuration says before it is changed."""
    if now.serving is not None:
        with contextlib.suppress(ServerError):  # a serving version that does not load is a reason to change it
            handle.load(now.model, timeout_s=op.timeout_s)


def _serves(now: Present, handle: ServerHandle) -> bool:
    """Whether the version that served still does."""
    try:
        return max(handle.ready_versions(now.model), default=None) == now.serving
    except ServerError:
        return False


def _answers(now: Present, proven: Proven, target: int, handle: ServerHandle, op: Operation) -> bool:
    """Whether a version that is loaded answers as its evidence says; one of its processes may be dead."""
    if target in restoring.hurt(handle, now.model):
        op.report(f"version {target} is loaded, and does not answer as it should: one of its processes is lost")
        return False
    try:
        with (
            op.step(f"asking version {target}, which is loaded"),
            Client(handle.http_url, timeout_s=served.LOADED_S, retries=0, token="") as client,
        ):
            where = f"version {target} at {handle.http_url}"
            served.replay_one(client, proven, model=now.model, version=target, where=where)
    except (ClientError, VerificationError) as exc:
        op.report(f"version {target} is loaded, and does not answer as it should: {exc.what}")
        return False
    return True


def _revive(now: Present, proven: Proven, target: int, handle: ServerHandle, op: Operation) -> None:
    """Load a version anew whose process died or hangs; it takes no unversioned traffic that it did not take before."""
    with op.step(f"loading version {target} anew"):
        handle.restore(now.model, versions=(target,), timeout_s=op.timeout_s)
    with (
        Client(handle.http_url, timeout_s=max(served.TIMEOUT_S, op.timeout_s), token="") as client,
        op.step(f"replaying the evidence of version {target} through the server"),
    ):
        where = f"version {target} at {handle.http_url}"
        served.replay_all(client, proven, model=now.model, version=target, where=where)


def _try(now: Present, todo: Plan, proven: Proven, handle: ServerHandle, op: Operation, gates: Gates) -> None:
    """Load the version beside the serving one and replay its evidence; callers do not get it yet."""
    folder = version_folder(op.repository, now.model, todo.target)
    with disk.errors(op.repository), contextlib.ExitStack() as stack:
        with op.step(f"loading version {todo.target} on trial"):
            hurry = op.name == ROLLBACK  # what serves now may be why
            name = stack.enter_context(trial.trial(handle, folder, todo.config, timeout_s=op.timeout_s, hurry=hurry))
        with (
            Client(handle.http_url, timeout_s=max(served.TIMEOUT_S, op.timeout_s), token="") as client,
            op.step(f"replaying the evidence of version {todo.target} through the server"),
        ):
            where = f"version {todo.target} on trial at {handle.http_url}"
            served.replay_all(client, proven, model=name, version=todo.target, where=where)
            served.replay_mixed(client, proven, model=name, version=todo.target, where=where)
        _judge(gates, handle, name, op)


def _judge(gates: Gates, handle: ServerHandle, name: str, op: Operation) -> None:
    """Let the version pass the model's gates, where it has some."""
    if gates.rules:
        with op.step(f"judging version {gates.target} by {'; '.join(gate.words() for gate in gates.rules)}"):
            verdicts = gating.pass_through(gates, handle.http_url, name, gates.target)
        op.judged.extend(verdict.words() for verdict in verdicts)


def _switch(now: Present, todo: Plan, proven: Proven, server: Server, op: Operation) -> float:
    """Change the configuration, load, and prove it; else everything is put back. Gives the seconds."""
    names = [*todo.labels, configs.CONFIG_FILE]
    try:
        note = Note(
            operation=op.name,
            model=now.model,
            version=todo.target,
            before=journal.texts(now.repository, now.model, names),
            loads=True,
        )
        with journal.noted(now.repository, note):
            if todo.beside is not None:
                _load_beside(now, todo.beside, todo.target, server.handle, op)
            op.report(f"switching to version {todo.target}")
            started = time.monotonic()
            _write(now, todo)
            if todo.beside or {*todo.loaded} < {*now.loaded}:  # a gateway is to send nothing more to what is taken out
                followed.wait(now.repository, now.model)
            server.handle.end_loads(now.model, keep=todo.loaded)  # what serves now may hang in its loading
            server.handle.load(now.model, timeout_s=op.timeout_s)
            settle.require_ready(now.model, todo.loaded, server.handle)
            with op.step(f"asking for version {todo.target} by its number and without"):
                settle.require_answers(now.model, todo.target, proven, server.handle)
            switch_s = time.monotonic() - started
    except BaseException as exc:
        _take_back(now, op, exc)
        raise
    return switch_s


def _load_beside(now: Present, config: configs.ModelConfig, target: int, handle: ServerHandle, op: Operation) -> None:
    """Load the target beside what is loaded: a gateway leads calls to it as soon as the record says so."""
    with op.step(f"loading version {target} beside version {now.serving}"):
        with lock.writer(now.repository):
            switch.write(now.repository, now.model, config, now.record)
        handle.load(now.model, timeout_s=op.timeout_s)
        settle.require_ready(now.model, sorted([*now.loaded, target]), handle)


def _write(now: Present, todo: Plan) -> None:
    with lock.writer(now.repository):
        for name, text in todo.labels.items():
            disk.replace_text(now.repository / now.model / name, text, through=state_folder(now.repository) / STAGING)
        switch.write(now.repository, now.model, todo.config, todo.record)


def _take_back(now: Present, op: Operation, exc: BaseException) -> None:
    """Let the running server follow the files, which are as they were; what fails is said with the error."""
    op.report(f"taking it back: version {now.serving} serves on" if now.serving else "taking it back")
    try:
        handle = connection.find(now.repository)  # another one when it was started again meanwhile
        if handle is not None:
            settle.follow(now.repository, now.model, handle)  # with all the time it takes
    except ModelportError as second:
        if isinstance(exc, ModelportError):
            exc.why = f"{exc.why}; and going back to what served failed: {second.what} ({second.why})"
