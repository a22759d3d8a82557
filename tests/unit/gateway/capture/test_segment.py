"""A file of captured records: what was changed in it is refused, and named."""

from __future__ import annotations

import itertools
import resource
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.gateway.capture import segment
from modelport.gateway.capture.secret import Key
from modelport.gateway.capture.segment import Damaged, Head, Opened, Writer

KEY = Key(secret=bytes(range(32)))
AT = 1_760_000_000
CONTENTS = [b"first secret", b"second secret", b"", b"fourth secret" * 100]


def written(folder, contents=CONTENTS, *, model="net", close=True):
    """A segment with these contents, and where each record ends."""
    writer = Writer(Path(folder), KEY, begins_at=AT, lives_s=600)
    ends = [writer.size]
    for content in contents:
        writer.append(Head(model=model, version=1, at=AT + 0.5), content)
        ends.append(writer.size)
    path = writer.path
    if close:
        writer.close()
        path = path.with_suffix(segment.FINISHED)
    return path, ends


def read(path, key=KEY, model="net"):
    found = list(segment.read(path, key, model))
    return [f.content for f in found if isinstance(f, Opened)], [f for f in found if isinstance(f, Damaged)]


def changed(content, folder, path):
    """The same file with another content."""
    other = Path(folder, path.name)
    other.write_bytes(content)
    return other


def test_what_was_written_is_read_and_does_not_stand_in_the_file(tmp_path):
    path, _ = written(tmp_path)
    assert read(path) == (CONTENTS, [])
    assert b"secret" not in path.read_bytes() and path.stat().st_mode & 0o777 == 0o600


def test_equal_records_are_not_equal_in_the_file(tmp_path):
    path, ends = written(tmp_path, [b"same secret"] * 2)
    content = path.read_bytes()
    sealed = len(b"same secret") + segment.NONCE_BYTES + segment.TAG_BYTES
    first, second = (content[end - sealed : end] for end in ends[1:3])
    assert first[: segment.NONCE_BYTES] != second[: segment.NONCE_BYTES] and first != second


def test_a_file_whose_writer_was_killed_is_read(tmp_path):
    path, _ = written(tmp_path, close=False)
    assert path.suffix == segment.OPEN and read(path) == (CONTENTS, [])


@settings(max_examples=80)
@given(st.data())
def test_one_flipped_bit_anywhere_is_found_and_nothing_changed_comes_out(data):
    with tempfile.TemporaryDirectory() as name:
        path, _ = written(name)
        content = bytearray(path.read_bytes())
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        contents, damaged = read(path)
    assert len(damaged) == 1 and contents == CONTENTS[: len(contents)] and path.name in damaged[0].where


@settings(max_examples=80)
@given(st.data())
def test_a_cut_anywhere_is_found(data):
    with tempfile.TemporaryDirectory() as name:
        path, _ = written(name)
        content = path.read_bytes()
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        contents, damaged = read(path)
    assert len(damaged) == 1 and contents == CONTENTS[: len(contents)]


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 2, 3), (0, 0, 1, 2, 3), (0, 1, 3, 2)])
def test_moved_left_out_and_repeated_records_are_found_and_named(tmp_path, order):
    path, ends = written(tmp_path)
    content = path.read_bytes()
    records = [content[start:end] for start, end in itertools.pairwise(ends)]
    path.write_bytes(content[: ends[0]] + b"".join(records[i] for i in order) + content[ends[-1] :])
    contents, damaged = read(path)
    wrong = next(place for place, index in enumerate(order) if place != index)
    assert contents == CONTENTS[:wrong]
    assert damaged[0].where == f"record {wrong + 1} of {path.name}" and "moved" in damaged[0].why


def test_a_record_of_another_file_is_found(tmp_path):
    path, ends = written(tmp_path)
    (tmp_path / "other").mkdir()
    other, other_ends = written(tmp_path / "other")
    content = bytearray(path.read_bytes())
    content[ends[0] : ends[1]] = other.read_bytes()[other_ends[0] : other_ends[1]]
    path.write_bytes(content)
    assert read(path)[0] == [] and len(read(path)[1]) == 1


def test_another_key_reads_nothing(tmp_path):
    path, _ = written(tmp_path)
    contents, damaged = read(path, Key(secret=bytes(32)))
    assert contents == [] and "another key" in damaged[0].why


def test_a_renamed_file_is_refused(tmp_path):
    """Its name says until when it may live."""
    path, _ = written(tmp_path)
    longer = path.rename(path.with_name(path.name.replace("-600-", "-999999-")))
    assert read(longer)[0] == [] and "renamed" in read(longer)[1][0].why


def test_a_file_in_another_models_folder_is_refused(tmp_path):
    path, _ = written(tmp_path)
    contents, damaged = read(path, model="other")
    assert contents == [] and "another model" in damaged[0].why


def test_what_a_full_disk_cut_off_is_taken_back(tmp_path):
    """After a write that failed the next record follows the last good one."""
    writer = Writer(tmp_path, KEY, begins_at=AT, lives_s=600)
    writer.append(Head(model="net", version=None, at=AT), b"one")
    limits, size = resource.getrlimit(resource.RLIMIT_FSIZE), writer.size
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
        with pytest.raises(OSError):
            writer.append(Head(model="net", version=None, at=AT), b"x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert writer.path.stat().st_size == size
    writer.append(Head(model="net", version=None, at=AT), b"two")
    writer.close()
    assert read(writer.path.with_suffix(segment.FINISHED)) == ([b"one", b"two"], [])
