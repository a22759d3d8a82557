"""Keras files: `.keras` (a zip archive) and legacy `.h5`.

Checked here is what `keras.saving.load_model(path, compile=False, safe_mode=True)` reads: the configuration, the
weights, and the assets. See `keras_configs` for what a configuration can do, and `h5_files` for HDF5.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from modelport.convert.hostile import archives, h5_files
from modelport.convert.hostile.keras_configs import check_config
from modelport.convert.hostile.refusals import Place, load_json, reading, regular_file

MAX_CONFIG_BYTES = 64 << 20
MAX_INFLATED_WEIGHTS_BYTES = 1 << 30

_CONFIG, _WEIGHTS, _OLD_WEIGHTS = "config.json", "model.weights.h5", "model.weights.npz"
_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt", "keras_metadata.pb")


def check_keras(path: Path) -> None:
    """Refuse a `.keras` file that would run code or reach outside itself when it is loaded.

    Args:
        path: The file.

    Raises:
        SourceFormatError: It is no Keras file, cut off, or damaged.
        UnsafeSourceError: It holds a Lambda, a foreign class, a SavedModel, or HDF5 links; the layer is named.
    """
    members = archives.check_zip(path)
    place = Place(path=path)
    for name in members:
        if name.rsplit("/", 1)[-1] in _SAVED_MODEL:
            raise place.inside(name).unsafe("this is a TensorFlow SavedModel", why="loading it would run its graph")
    for wanted in (_CONFIG, _WEIGHTS):
        if wanted not in members:
            old = " (it has weights in the .npz form of early Keras 3)" if _OLD_WEIGHTS in members else ""
            raise place.malformed(f"the archive has no {wanted!r}{old}", fix="save the model again with Keras 3")
    with reading(place), path.open("rb") as file:
        config = archives.read(file, members[_CONFIG], place, limit=MAX_CONFIG_BYTES)
        here = place.inside(_CONFIG)
        check_config(load_json(config, here), here)
        _check_weights(file, members, place)


def check_h5(path: Path) -> None:
    """Refuse a legacy `.h5` file that would run code or reach outside itself when it is loaded.

    Args:
        path: The file.

    Raises:
        SourceFormatError: It is no Keras file, cut off, damaged, or holds weights without a model.
        UnsafeSourceError: It holds a Lambda, a foreign class, or links; the layer or object is named.
    """
    size = regular_file(path)
    place = Place(path=path)
    config = h5_files.check_structure(path, size, place)
    if config is None:
        raise place.malformed(
            "the file holds weights and no model",
            why="there is no attribute 'model_config'; model.save_weights wrote it, or it is not from Keras",
            fix="build the model in Python, load the weights, and call modelport.export(model, ...)",
        )
    here = place.inside("model_config")
    check_config(load_json(config, here), here)


def _check_weights(file: BinaryIO, members: Mapping[str, archives.Member], place: Place) -> None:
    member = members[_WEIGHTS]
    here = place.inside(_WEIGHTS)
    source: io.RawIOBase | io.BytesIO
    if member.deflated:
        source = io.BytesIO(archives.read(file, member, place, limit=MAX_INFLATED_WEIGHTS_BYTES))
    else:
        archives.check_stored(file, member, place)
        source = h5_files.Window(file, member.offset, member.packed_bytes)
    h5_files.check_structure(source, member.size_bytes, here)
