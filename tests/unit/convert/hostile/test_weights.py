"""Weights for --weights: safetensors and state dicts, and what is neither."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.serialization import config

from modelport.convert.hostile.weights import check_weights
from modelport.errors import SourceFormatError, UnsafeSourceError


def safetensors(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_good_weights_pass_and_are_told_apart_by_content(samples: dict[str, Path], copied: Callable) -> None:
    assert check_weights(samples["safetensors"]) == "safetensors"
    assert check_weights(samples["state_dict"]) == "state_dict"
    assert check_weights(samples["legacy_state_dict"]) == "state_dict"
    assert check_weights(copied(samples["safetensors"], "weights.pt")) == "safetensors"


@pytest.mark.parametrize("legacy", [False, True])
def test_every_kind_of_tensor_in_a_state_dict_passes(tmp_path: Path, legacy: bool) -> None:
    dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64]
    dtypes += [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
    tensors = {str(dtype): torch.ones(2, dtype=dtype) for dtype in dtypes}
    if not legacy:
        tensors |= {"float8": torch.ones(2).to(torch.float8_e4m3fn), "uint16": torch.ones(2, dtype=torch.uint16)}
    state = OrderedDict(tensors, parameter=torch.nn.Parameter(torch.ones(3)), view=torch.ones(4, 4).t()[1:])
    state._metadata = OrderedDict({"": {"version": 1}})  # as Module.state_dict() has it
    checkpoint = {"state_dict": state, "epoch": 3, "loss": 0.5, "shape": torch.Size([1])}
    torch.save(checkpoint, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    assert check_weights(tmp_path / "a.pt") == "state_dict"
    assert set(torch.load(tmp_path / "a.pt", weights_only=True)) == set(checkpoint)


def test_weights_saved_without_checksums_pass(tmp_path: Path) -> None:
    with config.patch("save.compute_crc32", False):
        torch.save({"weight": torch.ones(3)}, tmp_path / "a.pt")
    assert check_weights(tmp_path / "a.pt") == "state_dict"


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a.pth", "a.safetensors"])
@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(
    tmp_path: Path, payload: object, refused: Callable, form: str, name: str
) -> None:
    path = tmp_path / name
    state = {"weight": torch.ones(2), "extra": payload}
    if form == "bare":
        path.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    refused(check_weights, path, UnsafeSourceError, "safetensors")
    assert not payload.ran()
    pickle.load(path.open("rb")) if form == "bare" else torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
    assert payload.ran(), "the payload does not work, so the test shows nothing"


def test_a_whole_pickled_module_is_refused_by_the_name_of_its_class(tmp_path: Path, refused: Callable) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    refused(check_weights, tmp_path / "module.pt", UnsafeSourceError, "torch.nn.modules.linear.Linear", "state_dict()")


def test_a_second_pickle_in_the_archive_is_scanned_too(samples: dict, rezip: Callable, refused: Callable) -> None:
    path = rezip(samples["state_dict"], {"state_dict/more.pkl": b"\x80\x02cos\nsystem\n."})
    refused(check_weights, path, UnsafeSourceError, "more.pkl", "os.system")


def test_pickles_behind_the_first_of_a_legacy_file_are_scanned_too(
    samples: dict, tmp_path: Path, refused: Callable
) -> None:
    data = samples["legacy_state_dict"].read_bytes()
    evil = pickle.dumps(1001, protocol=2) + b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00x\x85R."
    path = tmp_path / "a.pt"
    path.write_bytes(data[:15] + evil)
    refused(check_weights, path, UnsafeSourceError, "os.system", "system information")


def test_a_model_is_not_taken_for_weights(samples: dict, refused: Callable) -> None:
    refused(check_weights, samples["torchscript"], SourceFormatError, "TorchScript")
    for kind in ("onnx", "keras", "h5", "exported_program"):
        refused(check_weights, samples[kind], SourceFormatError)


def test_a_safetensors_file_with_metadata_and_scalars_and_empty_tensors_passes(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "scalar": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [4, 4]},
        "half": {"dtype": "BF16", "shape": [2], "data_offsets": [4, 8]},
    }
    assert check_weights(safetensors(tmp_path / "a", header, bytes(8))) == "safetensors"


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 2**63]},
        {"dtype": "F32", "shape": [True, 4], "data_offsets": [0, 16]},
        {"dtype": "PICKLE", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": "4", "data_offsets": [0, 16]},
        {"dtype": "F32", "data_offsets": [0, 16]},
        [],
    ],
)
def test_a_safetensors_entry_that_does_not_fit_is_a_format_error(
    tmp_path: Path, refused: Callable, entry: object
) -> None:
    refused(check_weights, safetensors(tmp_path / "a", {"w": entry}, bytes(16)), SourceFormatError)


def test_safetensors_that_overlap_or_leave_holes_are_refused(tmp_path: Path, refused: Callable) -> None:
    one = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    for other in ([2, 6], [5, 9]):
        header = {"a": one, "b": {"dtype": "U8", "shape": [4], "data_offsets": other}}
        refused(check_weights, safetensors(tmp_path / "a", header, bytes(other[1])), SourceFormatError, "'b'")
    refused(check_weights, safetensors(tmp_path / "a", {"a": one}, bytes(9)), SourceFormatError, "9 follow")


@pytest.mark.parametrize(
    "text", [b"{", b"{]" * 9, b'{"a":' * 100_000, b'{"a":{},"a":{}}', b"{\xff}", b'{"a":' + b"9" * 9999 + b"}"]
)
def test_a_safetensors_header_that_is_no_json_is_a_format_error(tmp_path: Path, refused: Callable, text: bytes) -> None:
    refused(check_weights, safetensors(tmp_path / "a", text), SourceFormatError, "safetensors header")


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 100_000_001, 1_000])
def test_a_safetensors_header_longer_than_the_file_is_a_format_error(
    tmp_path: Path, refused: Callable, length: int
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}" + bytes(40))
    refused(check_weights, path, SourceFormatError, str(length))
