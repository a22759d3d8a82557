"""A repository in a temporary folder, and a staged version to publish into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from modelport.repository import config as configs
from modelport.repository.manifest import Manifest, records, write
from modelport.repository.publish import Published, publish, staged
from modelport.spec import ModelSpec, TensorSpec, dtype_of


def tensor(name: str, dtype: str = "FP32", dims: Sequence[int] = (3,)) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype_of(dtype), dims=tuple(dims))


def spec_of(name: str = "net", *, batch: int = 32, inputs: Any = None, outputs: Any = None) -> ModelSpec:
    return ModelSpec(
        name=name,
        inputs=inputs or (tensor("x"),),
        outputs=outputs or (tensor("y", dims=(2,)),),
        max_batch_size=batch,
    )


def manifest_of(spec: ModelSpec, version: int, folder: Path, **facts: Any) -> Manifest:
    return Manifest(
        spec=spec,
        version=version,
        format="onnx",
        backend="onnxruntime",
        framework="pytorch 2",
        created="2026-01-02T03:04:05+00:00",
        files=records(folder),
        **facts,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "model_repository"


@pytest.fixture
def release(repository: Path) -> Callable[..., Published]:
    """`release(spec, labels=..., asked=..., **config options)`: publish one version with a tiny artefact."""

    def act(
        spec: ModelSpec | None = None,
        *,
        content: bytes = b"weights",
        labels: Mapping[str, Sequence[str]] | None = None,
        asked: Sequence[str] = (),
        candidate: bool = False,
        backend: str = "onnxruntime",
        filename: str = "model.onnx",
        report: Callable[[str], None] = lambda _: None,
        **options: Any,
    ) -> Published:
        spec = spec or spec_of()
        config = configs.build(spec, backend=backend, filename=filename, versions=[], **options)

        def finish(folder: Path, version: int) -> None:
            write(folder, manifest_of(spec, version, folder))

        with staged(repository, spec.name) as staging:
            (staging / filename).write_bytes(content)
            return publish(
                repository,
                staging,
                config,
                finish=finish,
                labels=labels,
                asked=asked,
                candidate=candidate,
                report=report,
            )

    return act


@pytest.fixture
def make_spec() -> Callable[..., ModelSpec]:
    """`make_spec(name, batch=..., inputs=..., outputs=...)`"""
    return spec_of


@pytest.fixture
def make_tensor() -> Callable[..., TensorSpec]:
    """`make_tensor(name, dtype, dims)`"""
    return tensor


@pytest.fixture
def make_manifest() -> Callable[..., Manifest]:
    """`make_manifest(spec, version, folder)`"""
    return manifest_of
