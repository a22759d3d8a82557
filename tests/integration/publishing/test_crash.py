"""A publisher that is killed, at any of its system calls, leaves what was there or what was to be.

pytest -m soak tests/integration/publishing         every call of the real command as well
"""

from __future__ import annotations

import signal
from collections import Counter

import pytest

KILLED = -signal.SIGKILL


def test_a_kill_at_any_call_leaves_the_old_state_or_the_new(case, publishers):
    """And the next publish succeeds and cleans up."""
    steps = case.steps()
    print(f"{case.name}: {len(steps)} calls, {dict(Counter(step.name for step in steps))}")
    assert len(steps) > 40 and {"openat", "write", "fsync", "mkdir", "rename", "flock"} <= {s.name for s in steps}
    found = []
    for step in steps:
        case.restore()
        run = publishers("release", case.repository, inject=f"{step.name}:signal=KILL:when={step.number}")
        assert run.code == KILLED, f"not killed at {step}: {run.said}"
        assert str(run.calls[-1]) == str(step) and run.calls[-1].result == "?", f"killed at {run.calls[-1]}, not {step}"
        found.append(case.survives(publishers))
    print(f"{case.name}: {dict(Counter(found))}")
    change = found.index("after")
    assert set(found[:change]) == {"before"} and set(found[change:]) == {"after"}, "it changes at one call"
    assert steps[change - 1].name == "rename", "the one before is what changes it"


def test_a_kill_that_does_not_come_is_noticed(case, publishers):
    """The last call of a name and one: nothing is killed, and the run says so."""
    last = max(step.number for step in case.steps() if step.name == "rename")
    case.restore()
    run = publishers("release", case.repository, inject=f"rename:signal=KILL:when={last + 1}")
    assert run.code == 0 and run.calls[-1].result != "?" and case.fits() == "after"


def test_a_publisher_that_is_careless_is_found_out(case, publishers, mixture):
    """One that copies into the repository file by file, and rewrites the configuration in place."""
    case.restore()
    steps = publishers("careless", case.repository, trace="openat,write,mkdir").below(case.repository)
    assert len(steps) > 5
    complaints = []
    for step in steps:
        case.restore()
        run = publishers("careless", case.repository, inject=f"{step.name}:signal=KILL:when={step.number}")
        assert run.code == KILLED
        try:
            case.survives(publishers)
        except mixture as exc:
            complaints.append(str(exc))
    assert len(complaints) > len(steps) / 2, complaints


@pytest.mark.parametrize("damage", ["a byte", "a file less", "a file more", "no version", "a time"])
def test_every_difference_from_the_old_and_the_new_is_found(case, publishers, mixture, damage):
    case.restore()
    assert publishers("release", case.repository).code == 0 and case.fits() == "after"
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
        before = [name for name, was in case.before.items() if was[1] and case.after[name][0] == was[0]]
        if not before:
            return
        (case.repository / before[0]).touch()
    with pytest.raises(mixture):
        case.survives(publishers)
