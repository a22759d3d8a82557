"""Settings for all unit tests: Keras's backend, and property tests that are the same in every run; tiny versions."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository import switch
from modelport.repository.manifest import Manifest
from modelport.repository.publish import publish, staged
from modelport.repository.record import Record
from modelport.spec import ModelSpec, TensorSpec, dtype_of

os.environ.setdefault("KERAS_BACKEND", "torch")  # before the first test module imports keras

# No time limit for one example: a busy machine would break it.
hypothesis.settings.register_profile("steady", derandomize=True, deadline=None, database=None, max_examples=100)
hypothesis.settings.load_profile("steady")


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """An empty place for `shelve`."""
    return tmp_path / "shelf"


@pytest.fixture
def shelve(shelf: Path) -> Callable[..., Path]:
    """`shelve(metrics=..., content=...)`: publish the next version of `net`, of bytes that no server would load."""
    spec = ModelSpec(
        name="net",
        inputs=(TensorSpec(name="x", dtype=dtype_of("FP32"), dims=(3,)),),
        outputs=(TensorSpec(name="y", dtype=dtype_of("FP32"), dims=(2,)),),
        max_batch_size=32,
    )
    config = configs.build(spec, backend="onnxruntime", filename="model.onnx", versions=[])

    def act(content: bytes = b"weights", **facts: Any) -> Path:
        def finish(folder: Path, version: int) -> None:
            files = manifests.records(folder)
            made = "2026-01-02T03:04:05+00:00"
            about: dict[str, Any] = {"format": "onnx", "backend": "onnxruntime", "framework": "pytorch 2", **facts}
            manifests.write(folder, Manifest(spec=spec, version=version, created=made, files=files, **about))

        with staged(shelf, "net") as staging:
            (staging / "model.onnx").write_bytes(content)
            return publish(shelf, staging, config, finish=finish).folder

    return act


@pytest.fixture
def stand(shelf: Path) -> Callable[..., None]:
    """`stand([2, 3], way_back=(2,))`: what `net` has loaded, and its record."""

    def act(loaded: list[int], **record: Any) -> None:
        config, _ = switch.read(shelf, "net")
        configs.set_versions(config, loaded)
        switch.write(shelf, "net", config, Record(**record))

    return act
