"""A disk that is full or broken, at any system call of a publish: an error that names the cause, and the old state."""

from __future__ import annotations

import errno
import os
from collections import Counter

import pytest

REPOSITORY_ERROR = 30
FAULTS = {"write": "ENOSPC", "openat": "ENOSPC", "mkdir": "ENOSPC", "rename": "EIO", "fsync": "EIO"}
OTHER_FAULTS = {
    "write": "EIO", "openat": "EACCES", "mkdir": "EROFS", "rename": "ENOSPC", "fsync": "ENOSPC", "flock": "EIO",
    "chmod": "EPERM", "ftruncate": "EIO", "unlink": "EIO", "unlinkat": "EIO", "rmdir": "EIO",
}  # fmt: skip


def outcome(case, step, run) -> str:
    """`refused`: exit code and message are right, and the state is the old one. Else what else may be.

    `tolerated`: the version was published; what failed is the name of a lock's holder, or cleaning up.
    `late`: the version is in its place, and then the note about it could not be removed; the error says so.
    """
    state, path = case.fits(), step.paths[-1]
    if run.code == 0:
        holder = step.name in ("write", "ftruncate") and path.endswith(("/lock", ".lock"))
        cleaning = step.name in ("unlinkat", "rmdir") and "/staging/" in path
        assert state == "after" and (holder or cleaning), f"{step} failed and nobody said so"
        return "tolerated"
    assert run.code == REPOSITORY_ERROR, f"{run.code} after {step}: {run.said}"
    if state == "after":
        assert "/journal" in path, f"{step} failed and the version is there"
        return "late"
    return "refused"


def names_the_cause(said: str, error: str) -> bool:
    """All three parts are there, and the system's words are among them."""
    return os.strerror(getattr(errno, error)) in said and "  why: " in said and "  do:  " in said


def refuse_each(case, faults) -> Counter[str]:
    found: Counter[str] = Counter()
    for step in case.steps():
        if step.name in faults:
            error = faults[step.name]
            run = case.disturbed(step, f"error={error}")
            assert [str(call) for call in run.refused()] == [str(step)], f"refused {run.refused()}, not {step}"
            word = outcome(case, step, run)
            assert word == "tolerated" or names_the_cause(run.said, error), f"{step}: {run.said}"
            assert case.left() == [] or word != "refused", f"{step} failed, and {case.left()} was left"
            found[f"{step.name} {error} {word}"] += 1
    print(f"{case.name}: {dict(found)}")
    return found


def test_a_call_that_fails_is_an_error_that_names_the_cause_and_leaves_the_old_state(case):
    found = refuse_each(case, FAULTS)
    assert all(found[f"{name} {error} refused"] for name, error in FAULTS.items()), "each kind was tried"
    assert found["write ENOSPC tolerated"] == len([s for s in case.steps() if s.name == "ftruncate"]), "lock files only"


@pytest.mark.soak
def test_other_calls_and_errors(case):
    assert sum(refuse_each(case, OTHER_FAULTS).values()) > 40


def stays_broken(case, steps) -> None:
    """What fails once fails from then on; the next command, on a disk that works, makes it right."""
    for step in steps:
        error = FAULTS[step.name]
        run = case.disturbed(step, f"error={error}", and_all_after=True)
        assert run.refused() and str(run.refused()[0]) == str(step)
        assert run.code == REPOSITORY_ERROR and names_the_cause(run.said, error), run.said
        state = case.survives()
        assert state == "before" or "/journal" in step.paths[-1], f"{step}: {state}"


def test_a_disk_that_stays_broken_leaves_nothing_that_the_next_command_cannot_put_right(case):
    """From the first rename on; those before have nothing to put right."""
    steps = case.steps()
    first = next(n for n, step in enumerate(steps) if step.name == "rename")
    stays_broken(case, [step for step in steps[first:] if step.name in ("rename", "fsync")])


@pytest.mark.soak
def test_a_disk_that_stays_broken_from_any_call_on(case):
    """But of writing, which also the message needs: a full disk is a test of tests/unit/repository/test_publish.py."""
    stays_broken(case, [step for step in case.steps() if step.name in ("rename", "fsync", "mkdir")])


def test_the_check_notices_an_error_that_was_swallowed(case):
    """A run that was refused nothing, taken for one that was."""
    case.restore()
    run = case.run("release", case.repository)
    step = next(step for step in case.steps() if step.name == "fsync")
    with pytest.raises(AssertionError, match="nobody said so"):
        outcome(case, step, run)
    assert not names_the_cause(run.said, "EIO")


def test_the_real_command_says_what_the_disk_refused(case_of):
    case = case_of("a new model")
    last = [step for step in case.steps() if step.name == "fsync"][-2]
    run = case.disturbed(last, "error=EIO")
    assert [str(call) for call in run.refused()] == [str(last)]
    assert run.code == REPOSITORY_ERROR and names_the_cause(run.said, "EIO"), run.said
    assert "modelport: " in run.said and "Traceback" not in run.said
    assert case.fits() == "before" and case.left() == []
