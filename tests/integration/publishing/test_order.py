"""The order for a power cut, read from the system calls of one publish: nothing comes into place before it is on disk.

What is written stays in memory until `fsync`. After a power cut, a folder can know a file whose content is gone, and
a rename can be there without the one before it.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest


def complaints(calls, kept: list[str]) -> list[str]:
    """What a power cut could break.

    Args:
        calls: The calls of one process, in their order.
        kept: The folders whose content must be right at any moment; others, such as staging, need not.
    """
    content: set[str] = set()  # files whose content is not on disk
    entries: set[str] = set()  # folders whose entries are not on disk
    owed: set[str] = set()  # folders of `kept` to which something was done: to be synced before the next thing is done
    found = []

    def is_kept(path: str) -> bool:
        return any(path == root or path.startswith(f"{root}/") for root in kept)

    def changed(path: str, call) -> None:
        folder = str(PurePosixPath(path).parent)
        if is_kept(path):
            found.extend(f"{call}: {other} was not synced after what was done before" for other in owed)
            owed.add(folder)
        entries.add(folder)

    for call in calls:
        if not call.changes:
            continue
        path = call.paths[-1]
        if call.name in ("fsync", "fdatasync"):
            for unsynced in (content, entries, owed):
                unsynced.discard(path)
        elif call.name in ("openat", "open", "creat"):
            if is_kept(path):
                found.append(f"{call}: written in place")
            content.add(path)
            entries.add(str(PurePosixPath(path).parent))
        elif call.name in ("write", "pwrite64", "ftruncate", "truncate", "chmod"):
            content.add(path)
        elif call.name in ("mkdir", "unlink", "unlinkat", "rmdir"):
            changed(path, call)
        elif call.name == "rename":
            source = call.paths[0]
            below = {p for p in content | entries if p == source or p.startswith(f"{source}/")}
            if is_kept(path):
                found.extend(f"{call}: {p} is not on disk" for p in sorted(below))
            for unsynced in (content, entries):
                moved = {p.replace(source, path, 1) for p in unsynced & below}
                unsynced -= below
                unsynced |= moved
            changed(path, call)
        elif call.name not in ("flock", "sync_file_range"):
            raise AssertionError(f"{call} is not known here")
    found += [f"{folder} was not synced at the end" for folder in sorted(owed)]
    return found


def kept(repository) -> list[str]:
    state = repository.with_name(f"{repository.name}.state")
    return [str(repository), *(str(state / name) for name in ("journal", "placed"))]


def test_nothing_comes_into_place_before_it_is_on_disk(case):
    """And each folder is synced before the next thing is done, or the publisher ends."""
    steps = case.steps()
    places = kept(case.repository)
    into = [step for step in steps if step.name == "rename" and step.paths[-1].startswith(tuple(places))]
    print(*into, sep="\n")
    assert any(step.paths[-1] in (str(case.folder_after), str(case.folder_after.parent)) for step in into)
    assert complaints(steps, places) == []


def test_every_sync_of_what_is_kept_is_needed(case):
    """Without any of them there is a complaint: the check looks at all of them, and there are none too many."""
    steps = case.steps()
    places = kept(case.repository)
    needless = []
    for number, step in enumerate(steps):
        if step.name == "fsync" and not complaints([*steps[:number], *steps[number + 1 :]], places):
            needless.append(step.paths[-1])
    print(f"{case.name}: {sum(step.name == 'fsync' for step in steps)} calls of fsync, beside the point: {needless}")
    state = case.repository.with_name("models.state")
    allowed = {str(state.parent), str(state), f"{state}/staging/net-*"}
    assert set(needless) <= allowed and len(needless) <= 3, "a new state folder, and the folder that a version leaves"


GOOD = """
mkdir("/d/staging/net-1", 0777) = 0
openat(AT_FDCWD</home>, "/d/staging/net-1/model", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</d/staging/net-1/model>
write(3</d/staging/net-1/model>, ""..., 7) = 7
fsync(3</d/staging/net-1/model>) = 0
fsync(3</d/staging/net-1>) = 0
openat(AT_FDCWD</home>, "/d/staging/config", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</d/staging/config>
write(3</d/staging/config>, ""..., 7) = 7
fsync(3</d/staging/config>) = 0
rename("/d/staging/config", "/d/models/net/config") = 0
fsync(3</d/models/net>) = 0
rename("/d/staging/net-1", "/d/models/net/1") = 0
fsync(3</d/models/net>) = 0
"""


def test_a_good_order_is_not_complained_about(calls_of):
    assert complaints(calls_of(GOOD), ["/d/models"]) == []


@pytest.mark.parametrize("line", [number for number, line in enumerate(GOOD.splitlines()) if "fsync" in line])
def test_a_sync_that_is_missing_is_noticed(calls_of, line):
    lines = GOOD.splitlines()
    del lines[line]
    assert complaints(calls_of("\n".join(lines)), ["/d/models"])


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("fsync(3</d/staging/config>) = 0\n", "fsync(3</d/staging/config>) = -1 EIO (Input/output error)\n", "on disk"),
        (
            'fsync(3</d/staging/config>) = 0\nrename("/d/staging/config", "/d/models/net/config") = 0\n',
            'rename("/d/staging/config", "/d/models/net/config") = 0\nfsync(3</d/models/net/config>) = 0\n',
            "/d/staging/config is not on disk",
        ),
        (
            "fsync(3</d/staging/net-1/model>) = 0\n",
            'fsync(3</d/staging/net-1/model>) = 0\nwrite(3</d/staging/net-1/model>, ""..., 7) = 7\n',
            "/d/staging/net-1/model is not on disk",
        ),
        (
            'openat(AT_FDCWD</home>, "/d/staging/config"',
            'openat(AT_FDCWD</home>, "/d/models/net/config"',
            "written in place",
        ),
        ('mkdir("/d/staging/net-1", 0777) = 0\n', 'mkdir("/d/models/new", 0777) = 0\n', "/d/models was not synced"),
    ],
    ids=["a sync that failed", "a sync too late", "a write after the sync", "in place", "a new folder"],
)
def test_a_wrong_order_is_noticed(calls_of, before, after, complaint):
    assert before in GOOD
    found = complaints(calls_of(GOOD.replace(before, after)), ["/d/models"])
    assert any(complaint in line for line in found), found


def test_a_careless_publisher_is_noticed(case, publishers):
    case.restore()
    run = publishers("careless", case.repository, trace="openat,write,mkdir,rename,fsync")
    assert any("written in place" in line for line in complaints(run.calls, kept(case.repository)))
