"""Pickles, found out by their opcodes."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest

from modelport.convert.hostile import pickles
from modelport.convert.hostile.refusals import Place
from modelport.errors import SourceFormatError, UnsafeSourceError

PLACE = Place(path=Path("some.pt"))


def scan(data: bytes) -> None:
    pickles.scan(io.BytesIO(data), PLACE, why="because", fix="do this")


def test_numbers_and_containers_pass() -> None:
    scan(pickle.dumps({"a": [1, 2.5, None, True, (1, 2, 3, 4), 1 << 70], "b": "text"}, protocol=2))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_is_refused_by_name_in_every_protocol_and_does_not_run(payload: object, protocol: int) -> None:
    data = pickle.dumps({"weight": 1, "x": payload}, protocol=protocol)
    with pytest.raises(UnsafeSourceError, match=r"posix\.system") as caught:
        scan(data)
    assert "some.pt" in str(caught.value) and "do this" in str(caught.value)
    assert not payload.ran()
    pickle.loads(data)
    assert payload.ran(), "the payload does not work, so the test shows nothing"


@pytest.mark.parametrize(
    "name",
    [
        "os system",
        "builtins eval",
        "builtins getattr",
        "torch.storage _load_from_bytes",
        "torch load",
        "torch.jit load",
        "torch.hub load",
        "torch._utils _rebuild_wrapper_subclass",
        "torch.serialization _get_layout",
        "torch._C PyTorchFileReader",
        "numpy._core.multiarray scalar",
        "collections defaultdict",
        "collections OrderedDict.fromkeys",
        "torch.os system",
        "torch.FloatStorage.from_file x",
        "runpy _run_code",
        "mypackage.models Net",
    ],
)
def test_globals_that_tensors_do_not_need_are_refused(name: str) -> None:
    module, _, function = name.partition(" ")
    with pytest.raises(UnsafeSourceError, match="calls for"):
        scan(f"\x80\x02c{module}\n{function}\n.".encode("latin1"))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x80\x02\x82\x01.", "copyreg extension 1"),
        (b"(ios\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"\x80\x02(U\x02os\x81o.", "opcode"),
        (b"Pid\n.", "opcode PERSID"),
        (b"\x80\x05\x97.", "opcode NEXT_BUFFER"),
    ],
)
def test_other_ways_to_reach_code_are_refused(data: bytes, word: str) -> None:
    with pytest.raises(UnsafeSourceError, match=word):
        scan(data)


def test_opcodes_can_be_denied_in_addition() -> None:
    data = b"\x80\x02ccollections\nOrderedDict\n)R}b."
    scan(data)
    with pytest.raises(UnsafeSourceError, match="opcode BUILD"):
        pickles.scan(io.BytesIO(data), PLACE, denied_opcodes=frozenset({"BUILD"}), why="because", fix="do this")


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x02", b"\x80\x02}q\x00X\xff\xff\xff\x7fa", b"\xff", b"\x80\x02cos\n", b"I9" * 99]
)
def test_what_is_cut_off_or_no_pickle_is_a_format_error(data: bytes) -> None:
    with pytest.raises(SourceFormatError, match="cut off or damaged"):
        scan(data)


def test_a_pickle_of_endless_opcodes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_OPCODES", 1_000)
    with pytest.raises(UnsafeSourceError, match="more than 1000 opcodes"):
        scan(b"\x80\x02" + b"N0" * 1_000 + b"N.")
