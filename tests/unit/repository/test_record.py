"""A model's record is one comment line: what was written is read, and what is damaged is one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from modelport.errors import InvalidNameError, ManifestError
from modelport.repository import record
from modelport.repository.record import MARK, NOTE, Kept, Record, check_word
from modelport.repository.route import Route, Share

WHERE = Path("net/config.pbtxt")
FULL = Record(
    on_drop="promote",
    aliases={"stable": 2, "canary.eu-1": 2147483647},
    tags={2: ("good", "v1.0"), 10: ("x",)},
    way_back=(1, 2),
    retired=(3,),
    highest=12,
    kept=Kept(
        max_batch_size=0, instance_counts=(1, 2), parameters={"a": "\n\u2028'", "b": None}, label_files={"y": ""}
    ),
    route=Route(
        shares=(Share(target="stable", percent=99.5), Share(target="7", percent=0.5)), sticky="header:x", shadow="3"
    ),
)


@pytest.mark.parametrize(
    "known",
    [
        Record(),
        FULL,
        Record(highest=1),
        Record(on_drop="promote"),
        Record(tags={7: ("a",)}),
        Record(way_back=(3, 1)),
        Record(kept=Kept(parameters={"a": None})),
        Record(kept=Kept(max_batch_size=8)),
        Record(route=Route(shadow="2")),
    ],
)
def test_what_was_written_is_read(tmp_path, known):
    path = tmp_path / "config.pbtxt"
    path.write_text(record.lines(known) + 'name: "net"\n')
    assert record.read(path) == known
    assert text_format.Parse(path.read_text(), model_config_pb2.ModelConfig()).name == "net", "Triton reads past it"


def test_an_empty_record_writes_nothing_and_a_small_one_only_what_it_holds():
    assert record.lines(Record()) == ""
    assert record.lines(Record(highest=3)) == f'{NOTE}\n{MARK}{{"highest": 3}}\n'
    kept = record.lines(Record(kept=Kept(max_batch_size=8)))
    assert kept == f'{NOTE}\n{MARK}{{"kept": {{"max_batch_size": 8}}}}\n'
    assert len(record.lines(FULL).splitlines()) == 2


def test_a_file_without_the_line_and_no_file_have_an_empty_record(tmp_path):
    assert record.read(tmp_path / "missing" / "config.pbtxt") == Record()
    (tmp_path / "file").write_text("# a comment\nname: 'net'\n")
    assert record.read(tmp_path / "file") == Record() == record.read(tmp_path / "file" / "config.pbtxt")


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_the_line_is_found_wherever_it_stands(ends):
    text = f'name: "net"\n# mine\n{record.lines(FULL)}max_batch_size: 3\n'.replace("\n", ends)
    assert record.parse(text, where=WHERE) == FULL


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "3", "null", '"text"', '{"a":' * 100_000, '{"on_drop": "serve"}', '{"on_drop": 1}',
        '{"aliases": []}', '{"aliases": {"stable": "2"}}', '{"aliases": {"stable": 0}}', '{"aliases": {"a b": 2}}',
        '{"aliases": {"stable": true}}', '{"aliases": {"stable": 2.0}}', '{"tags": {"x": ["a"]}}',
        '{"tags": {"01": []}}',
        '{"tags": {"1": "good"}}', '{"tags": {"1": [1]}}', '{"way_back": 1}', '{"way_back": "12"}',
        '{"way_back": [-1]}',
        '{"kept": []}', '{"kept": {"max_batch_size": "8"}}', '{"kept": {"instance_counts": [0]}}',
        '{"kept": {"parameters": ["a"]}}',
        '{"retired": {"1": 2}}', '{"highest": "9"}', '{"highest": -1}', '{"highest": 1e999}', '{"highest": 2147483648}',
    ],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_a_damaged_line_is_one_clear_error(tmp_path, content):
    path = tmp_path / "net" / "config.pbtxt"
    path.parent.mkdir()
    path.write_text(f'name: "net"\n{MARK}{content}\n')
    with pytest.raises(ManifestError) as caught:
        record.read(path)
    assert "net/config.pbtxt" in caught.value.what and caught.value.path == str(path)
    assert caught.value.why and MARK in caught.value.fix


def test_a_file_that_is_no_text_is_one_clear_error(tmp_path):
    (tmp_path / "config.pbtxt").write_bytes(b"\xff")
    for path in (tmp_path / "config.pbtxt", tmp_path):
        with pytest.raises(ManifestError):
            record.read(path)


@pytest.mark.parametrize("word", ["stable", "v1.0", "a_b-c", "A" * 32])
def test_words_that_can_be_aliases_and_tags(word):
    assert check_word(word) == word


@pytest.mark.parametrize("word", ["", "1", "1st", "a b", "a/b", "a=b", "ä", "a\n", "A" * 33, "-x", "a\u202eb", 3, None])
def test_words_that_cannot(word):
    with pytest.raises(InvalidNameError) as caught:
        check_word(word)
    assert caught.value.why and caught.value.fix


# --- where versions have been ----------------------------------------------------------------------------------------


def after(*steps: tuple[int | None, int, bool]) -> Record:
    known = Record()
    for old, new, back in steps:
        known = known.switched(old, new, back=back)
    return known


@pytest.mark.parametrize(
    ("steps", "way_back", "retired"),
    [
        ([(None, 1, False)], (), ()),
        ([(1, 2, False)], (1,), ()),
        ([(1, 2, False), (2, 3, False)], (1, 2), ()),
        ([(1, 2, False), (2, 3, False), (3, 2, True)], (1,), (3,)),
        ([(1, 2, False), (2, 3, False), (3, 1, True)], (), (2, 3)),
        ([(1, 2, False), (2, 1, True), (1, 2, False)], (1,), ()),
        ([(1, 2, False), (2, 1, False)], (2,), ()),
        ([(1, 2, False), (2, 3, False), (3, 1, False)], (2, 3), ()),
        ([(5, 3, True)], (), (5,)),
        ([(2, 2, False)], (), ()),
    ],
    ids=[
        "the first", "a promotion", "two", "back one", "back two", "and again", "a promotion of an older one",
        "of one on the way", "back to one that never served", "of itself",
    ],
)  # fmt: skip
def test_the_way_back_is_where_versions_served_before(steps, way_back, retired):
    known = after(*steps)
    assert (known.way_back, known.retired) == (way_back, retired)
    assert all(known.served(v) for v in (*way_back, *retired)) and not known.served(99)


def test_only_the_latest_are_remembered():
    known = after(*[(n, n + 1, False) for n in range(1, 100)])
    assert known.way_back == tuple(range(80, 100)) and known.retired == tuple(range(1, 80))


def test_deleted_versions_are_forgotten_but_not_their_numbers():
    known = FULL.without({2, 3, 40})
    assert (known.tags, known.way_back, known.retired, known.highest) == ({10: ("x",)}, (1,), (), 40)
    assert FULL.without({2}).highest == 12 and FULL.without(set()) == FULL


def test_the_aliases_of_a_version():
    known = Record(aliases={"b": 1, "a": 1, "c": 2})
    assert known.aliases_of(1) == ("a", "b") and known.aliases_of(3) == ()


def test_the_line_is_plain_json():
    assert json.loads(record.lines(FULL).splitlines()[1].removeprefix(MARK))["aliases"]["stable"] == 2
