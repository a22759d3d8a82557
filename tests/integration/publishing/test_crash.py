"""A publisher that is killed, at any of its system calls, leaves what was there or what was to be.

Most of the publishers are processes of `publisher.py`, which begin with what a real one does after its start-up. Some,
and with `pytest -m soak` all, are the command `modelport export`.
"""

from __future__ import annotations

import signal
from collections import Counter

import pytest

KILL, KILLED = "signal=KILL", -signal.SIGKILL
# What a publisher does beside the calls that are looked at: none of these changes a file or a folder.
HARMLESS = {
    "access", "brk", "clock_gettime", "clock_nanosleep", "close", "dup", "epoll_wait", "exit", "exit_group",
    "faccessat", "faccessat2", "fadvise64", "fcntl", "fstat", "futex", "getcwd", "getdents64", "getegid",
    "geteuid", "getgid", "getpid", "getrandom", "gettid", "gettimeofday", "getuid", "ioctl", "lseek", "lstat",
    "madvise", "mmap", "mprotect", "mremap", "munmap", "newfstatat", "poll", "ppoll", "prctl", "pread64",
    "pselect6", "read", "readlink", "readlinkat", "restart_syscall", "rt_sigaction", "rt_sigprocmask",
    "rt_sigreturn", "sched_yield", "select", "sigaltstack", "stat", "statfs", "statx", "sysinfo", "time",
    "umask", "uname",
}  # fmt: skip


def kill(case, step) -> str:
    """Kill a publisher at a call, check what it left, and publish again; gives the state that was left."""
    run = case.disturbed(step, KILL)
    assert run.code == KILLED, f"not killed at {step}: {run.said}"
    assert run.died_in(step), f"killed at {run.calls[-1]}, not at {step}"
    return case.survives()


def test_a_kill_at_any_call_leaves_the_old_state_or_the_new(case):
    """And the next publish succeeds and cleans up."""
    steps = case.steps()
    print(f"{case.name}: {len(steps)} calls, {dict(Counter(step.name for step in steps))}")
    assert len(steps) > 40 and {"openat", "write", "fsync", "mkdir", "rename", "flock"} <= {s.name for s in steps}
    found = [kill(case, step) for step in steps]
    print(f"{case.name}: {dict(Counter(found))}")
    change = found.index("after")
    assert set(found[:change]) == {"before"} and set(found[change:]) == {"after"}, "it changes at one call"
    assert steps[change - 1].name == "rename", "the one before is what changes it"


def test_no_other_call_changes_anything(case, publishers, changing):
    """Every name that a publisher calls is one of those that are looked at, or known to be harmless."""
    case.restore()
    names = {call.name for call in publishers("release", case.repository, trace="all").calls}
    assert {"openat", "read", "close", "rename"} <= names, "there is something to look at"
    assert names - changing - HARMLESS == set()


def test_a_kill_that_does_not_come_is_noticed(case):
    """The last call of a name and one: nothing is killed, and the run says so."""
    last = [step for step in case.full.calls if step.name == "rename"][-1]
    case.restore()
    run = case.run("release", case.repository, inject=f"rename:{KILL}:when={last.number + 1}")
    assert run.code == 0 and not run.died_in(last) and case.fits() == "after"


def test_a_publisher_that_is_careless_is_found_out(case, publishers, mixture):
    """One that copies into the repository file by file, and rewrites the configuration in place."""
    case.restore()
    steps = publishers("careless", case.repository, trace="openat,write,mkdir").below(case.repository)
    assert len(steps) > 5
    complaints = []
    for step in steps:
        case.restore()
        run = publishers("careless", case.repository, inject=f"{step.name}:{KILL}:when={step.number}")
        assert run.code == KILLED and run.died_in(step)
        try:
            case.survives()
        except mixture as exc:
            complaints.append(str(exc))
    assert len(complaints) > len(steps) / 2, complaints


@pytest.mark.parametrize("damage", ["a byte", "a file less", "a file more", "no version", "no configuration"])
def test_every_difference_from_the_old_and_the_new_is_found(case, mixture, damage):
    case.restore()
    assert case.run("release", case.repository).code == 0 and case.fits() == "after"
    folder = case.folder_after
    if damage == "a byte":
        (folder / "model.onnx").write_bytes(b"Weights" + (folder / "model.onnx").read_bytes()[7:])
    elif damage == "a file less":
        (folder / "card.md").unlink()
    elif damage == "a file more":
        (folder.parent / "notes.txt").touch()
    elif damage == "no version":
        folder.rename(folder.with_name("9"))
    else:
        (folder.parent / "config.pbtxt").unlink()
    with pytest.raises(mixture):
        case.settled()


def test_a_file_that_was_written_again_is_found(case, mixture):
    """With the same content: Triton would take the model for a changed one."""
    case.restore()
    assert case.run("release", case.repository).code == 0
    same = [name for name, was in case.before.items() if was[1] and case.after[name][0] == was[0]]
    for name in same:
        (case.repository / name).touch()
        with pytest.raises(mixture, match="written anew"):
            case.fits()
    assert same or not case.served_before, "a model that serves has such files"


# --- the real command ------------------------------------------------------------------------------------------------


def test_the_real_command_can_be_killed_as_well(case_of):
    """At the rename that makes the version visible, and after it."""
    case = case_of("a new model")
    steps = case.steps()
    print(f"modelport export: {len(steps)} calls, {dict(Counter(step.name for step in steps))}")
    assert len(steps) > 60
    *_, last = (n for n, step in enumerate(steps) if step.name == "rename")
    found = []
    for step in steps[last : last + 2]:
        run = case.disturbed(step, KILL)
        assert run.code == KILLED and run.died_in(step), f"{run.code} at {run.calls[-1]}, not at {step}: {run.said}"
        found.append(case.settled())
    assert found == ["before", "after"]
    assert case.survives() == "after"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["a new model", "a committed configuration", "a candidate"])
def test_the_real_command_can_be_killed_at_any_call(case_of, name):
    case = case_of(name)
    steps = case.steps()
    print(f"modelport export, {name}: {len(steps)} calls, {dict(Counter(step.name for step in steps))}")
    found = []
    for number, step in enumerate(steps):
        run = case.disturbed(step, KILL)
        assert run.code == KILLED and run.died_in(step), f"{run.code} at {run.calls[-1]}, not at {step}: {run.said}"
        found.append(case.settled() if number % 8 else case.survives())
    print(f"modelport export, {name}: {dict(Counter(found))}")
    change = found.index("after")
    assert set(found[:change]) == {"before"} and set(found[change:]) == {"after"}
