"""Keras files, `.keras` and `.h5`: links, filters, giants, SavedModels, and damage."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from modelport.convert.hostile import h5_files
from modelport.convert.hostile.keras_files import check_h5, check_keras
from modelport.errors import SourceFormatError, UnsafeSourceError


def external_link(file: h5py.File, target: str) -> None:
    file["model_weights/evil"] = h5py.ExternalLink(target, "/secret")


def soft_link(file: h5py.File, target: str) -> None:
    file["model_weights/evil"] = h5py.SoftLink("/model_weights")


def external_storage(file: h5py.File, target: str) -> None:
    file.create_dataset("model_weights/evil", (100,), "u1", external=[(target, 0, 100)])


def virtual_dataset(file: h5py.File, target: str) -> None:
    layout = h5py.VirtualLayout((100,), "u1")
    layout[:] = h5py.VirtualSource(target, "secret", (100,))
    file.create_virtual_dataset("model_weights/evil", layout)


def plugin_filter(file: h5py.File, target: str) -> None:
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_chunk((10,))
    created.set_filter(40_000, h5py.h5z.FLAG_OPTIONAL, (1,))
    space = h5py.h5s.create_simple((100,))
    h5py.h5d.create(file["model_weights"].id, b"evil", h5py.h5t.NATIVE_UINT8, space, created)


def giant(file: h5py.File, target: str) -> None:
    file.create_dataset("model_weights/evil", (1 << 20, 1 << 20), "f8", chunks=(64, 64))


def many_big_ones(file: h5py.File, target: str) -> None:
    for index in range(10):
        file.create_dataset(f"model_weights/evil{index}", (4 << 20,), "f8", chunks=(1 << 10,))


def references(file: h5py.File, target: str) -> None:
    file.create_dataset("model_weights/evil", (3,), h5py.ref_dtype)


def ragged(file: h5py.File, target: str) -> None:
    file.create_dataset("model_weights/evil", (3,), h5py.vlen_dtype(np.int32))


ATTACKS = {
    external_link: "another file",
    soft_link: "soft link",
    external_storage: "another file",
    virtual_dataset: "virtual",
    plugin_filter: "filter 40000",
    giant: "fill the memory",
    many_big_ones: "fill the memory",
    references: "references",
    ragged: "varying length",
}


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A pipe as the target: whoever opens it waits for ever, and the test with it."""
    os.mkfifo(tmp_path / "target")
    return tmp_path / "target"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_h5_files_that_reach_outside_are_refused_and_the_target_is_not_opened(
    samples: dict, copied: Callable, refused: Callable, pipe: Path, attack: Callable
) -> None:
    path = copied(samples["h5"], "evil.h5")
    with h5py.File(path, "a") as file:
        file.require_group("model_weights")
        attack(file, str(pipe))
    refused(check_h5, path, UnsafeSourceError, "evil", ATTACKS[attack])


@pytest.mark.timeout(20)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_weights_inside_keras_files_are_checked_the_same(
    samples: dict, tmp_path: Path, refused: Callable, pipe: Path, attack: Callable, compression: int
) -> None:
    with zipfile.ZipFile(samples["keras"]) as good, zipfile.ZipFile(tmp_path / "evil.keras", "w", compression) as evil:
        good.extract("model.weights.h5", tmp_path)
        with h5py.File(tmp_path / "model.weights.h5", "a") as file:
            file.require_group("model_weights")
            attack(file, str(pipe))
        evil.write(tmp_path / "model.weights.h5", "model.weights.h5")
        evil.writestr("config.json", good.read("config.json"))
    refused(check_keras, tmp_path / "evil.keras", UnsafeSourceError, "model.weights.h5", ATTACKS[attack])


def test_good_files_pass(samples: dict[str, Path], rezip: Callable, tmp_path: Path) -> None:
    check_keras(samples["keras"])
    check_h5(samples["h5"])
    check_keras(rezip(samples["keras"], {"assets/words/vocabulary.txt": b"a\nb\n"}))
    packed = tmp_path / "packed.keras"
    with zipfile.ZipFile(samples["keras"]) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    check_keras(packed)


def test_compressed_weights_and_cycles_of_hard_links_pass(samples: dict, copied: Callable) -> None:
    path = copied(samples["h5"], "a.h5")
    with h5py.File(path, "a") as file:
        data = np.repeat(np.random.default_rng(1).random(1_000, np.float32), 10)
        file.create_dataset("model_weights/packed", data=data, compression="gzip", shuffle=True)
        file.create_dataset("model_weights/lzf", data=data, compression="lzf", chunks=(1_000,))
        file["model_weights/again"] = file["/"]
    check_h5(path)


def test_limits_on_attributes_and_objects_hold(
    samples: dict, refused: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(h5_files, "MAX_ATTRIBUTE_BYTES", 10)
    refused(check_h5, samples["h5"], UnsafeSourceError, "an attribute states")
    monkeypatch.undo()
    monkeypatch.setattr(h5_files, "MAX_OBJECTS", 3)
    refused(check_h5, samples["h5"], UnsafeSourceError, "more than 3 objects")


@pytest.mark.parametrize("name", ["assets/_layers/0/saved_model.pb", "saved_model.pb", "assets/a/keras_metadata.pb"])
def test_a_saved_model_among_the_assets_is_refused(
    samples: dict, rezip: Callable, refused: Callable, name: str
) -> None:
    refused(check_keras, rezip(samples["keras"], {name: b"\x08\x01"}), UnsafeSourceError, name)


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_a_missing_member_is_a_format_error(samples: dict, rezip: Callable, refused: Callable, member: str) -> None:
    refused(check_keras, rezip(samples["keras"], {member: None}), SourceFormatError, member)


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 200_000, b'{"a":' * 100_000, b"\xff\xfe", b"[1]", b"9" * 9_999])
def test_a_configuration_that_is_no_json_is_a_format_error(
    samples: dict, rezip: Callable, refused: Callable, text: bytes
) -> None:
    refused(check_keras, rezip(samples["keras"], {"config.json": text}), SourceFormatError, "config.json")


def test_a_lambda_is_refused_in_both_forms(samples: dict, rezip: Callable, copied: Callable, refused: Callable) -> None:
    code = {"class_name": "Lambda", "config": {"name": "evil", "function": ["4wAAAA==", None, None]}}
    config = json.loads(zipfile.ZipFile(samples["keras"]).read("config.json"))
    config["config"]["layers"].insert(1, code)
    path = rezip(samples["keras"], {"config.json": json.dumps(config).encode()})
    refused(check_keras, path, UnsafeSourceError, "'evil'", "Lambda", "config.json")
    path = copied(samples["h5"], "a.h5")
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"].insert(1, code)
        file.attrs["model_config"] = json.dumps(config)
    refused(check_h5, path, UnsafeSourceError, "'evil'", "Lambda")


def test_weights_without_a_model_are_a_format_error(samples: dict, copied: Callable, refused: Callable) -> None:
    path = copied(samples["h5"], "a.h5")
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
    refused(check_h5, path, SourceFormatError, "weights and no model")


@pytest.mark.parametrize("value", [3, [1, 2], np.float32(1), h5py.Empty("f")])
def test_a_configuration_that_is_no_text_is_a_format_error(
    samples: dict, copied: Callable, refused: Callable, value: object
) -> None:
    path = copied(samples["h5"], "a.h5")
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = value
    refused(check_h5, path, SourceFormatError)


def test_a_damaged_weight_in_a_keras_file_is_found(samples: dict, tmp_path: Path, refused: Callable) -> None:
    data = bytearray(samples["keras"].read_bytes())
    with zipfile.ZipFile(samples["keras"]) as archive:
        weights = archive.getinfo("model.weights.h5")
    data[weights.header_offset + weights.file_size - 100] ^= 1
    (tmp_path / "a.keras").write_bytes(data)
    refused(check_keras, tmp_path / "a.keras", SourceFormatError, "model.weights.h5", "checksum")
