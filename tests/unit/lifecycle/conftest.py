"""A repository in which versions are published that hold nothing but what a plan is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository import switch
from modelport.repository.manifest import Manifest
from modelport.repository.publish import publish, staged
from modelport.spec import ModelSpec, TensorSpec, dtype_of


def spec_of(batch: int = 32) -> ModelSpec:
    x = TensorSpec(name="x", dtype=dtype_of("FP32"), dims=(3,))
    y = TensorSpec(name="y", dtype=dtype_of("FP32"), dims=(2,))
    return ModelSpec(name="net", inputs=(x,), outputs=(y,), max_batch_size=batch)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "model_repository"


@pytest.fixture
def release(repository: Path) -> Callable[..., int]:
    """`release(labels=..., asked=..., batch=..., **config options)`: publish the next version of `net`."""

    def act(
        *,
        labels: Sequence[str] = (),
        asked: Sequence[str] = (),
        batch: int = 32,
        parameters: Mapping[str, str] | None = None,
        candidate: bool = False,
        edit: Callable[[Any], None] = lambda _: None,
        **options: Any,
    ) -> int:
        spec = spec_of(batch)
        label_files = {"y": "y_labels.txt"} if labels else None
        config = configs.build(
            spec,
            **{"backend": "onnxruntime", "filename": "model.onnx", **options},
            versions=[],
            parameters=parameters,
            label_files=label_files,
        )
        edit(config)

        def finish(folder: Path, version: int) -> None:
            facts = {"format": "onnx", "backend": config.backend, "framework": "by hand", "created": "2026-01-02"}
            files = manifests.records(folder)
            manifests.write(folder, Manifest(spec=spec, version=version, files=files, asked=tuple(asked), **facts))

        with staged(repository, "net") as staging:
            (staging / "model.onnx").write_bytes(b"weights")
            published = publish(
                repository,
                staging,
                config,
                finish=finish,
                labels={"y_labels.txt": labels} if labels else None,
                asked=asked,
                candidate=candidate,
            )
        return published.version

    return act


@pytest.fixture
def carry_out(repository: Path) -> Callable[[Any], None]:
    """`carry_out(plan)`: bring the files to what a plan says."""

    def act(todo: Any) -> None:
        for name, text in todo.labels.items():
            (repository / "net" / name).write_text(text)
        switch.write(repository, "net", todo.config, todo.record)

    return act
