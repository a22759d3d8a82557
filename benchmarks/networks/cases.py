"""What the benchmark of a GPU serves: networks in a precision, for a runtime, in several configurations."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks.large import WORDS, Bert, ImageClassifier, resnet50
from networks.resnet import resnet18

from modelport.bench.golden import Recorded, to_bytes
from modelport.repository import config as configs
from modelport.spec import ModelSpec, TensorSpec, dtype_of

SAMPLES = 4  # different requests, sent round and round
FILES = {"pytorch": "model.pt", "onnxruntime": "model.onnx"}
STAY = "FORCE_CPU_ONLY_INPUT_TENSORS"
# How a model is configured: instances, whether requests are joined, parameters.
VARIANTS: dict[str, tuple[int, bool, Mapping[str, str]]] = {
    "one_instance": (1, True, {}),
    "two_instances": (2, True, {}),
    "staying": (1, True, {STAY: "no"}),
    "no_batching": (1, False, {}),
}


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network and what it takes.

    Attributes:
        make: Builds it; True for the tiny one of a quick run.
        dtype: Element type of its input as Triton names it.
        dims: Sizes of one input; of the tiny one behind it.
        highest: Integers are drawn below it; 0 for normal numbers.
    """

    make: Callable[[bool], torch.nn.Module]
    dtype: str
    dims: tuple[tuple[int, ...], tuple[int, ...]]
    highest: int = 0

    def rows(self, count: int, *, quick: bool) -> Any:
        """Random inputs, always the same ones."""
        random, shape = np.random.default_rng(count), (count, *self.dims[quick])
        if self.highest:
            return random.integers(0, self.highest, shape).astype(dtype_of(self.dtype).numpy)
        return random.standard_normal(shape, dtype=np.float32)


PICTURE = (3, 224, 224), (3, 32, 32)
NETWORKS = {
    "resnet18": Network(make=lambda quick: resnet18(8 if quick else 64, 0), dtype="FP32", dims=PICTURE),
    "image_classifier": Network(
        make=lambda quick: ImageClassifier(0.25 if quick else 1.0),
        dtype="UINT8",
        dims=((224, 224, 3), (32, 32, 3)),
        highest=256,
    ),
    "resnet50": Network(make=lambda quick: resnet50(8 if quick else 64), dtype="FP32", dims=PICTURE),
    "bert_base": Network(
        make=lambda quick: Bert(16, 2, 32, 2) if quick else Bert(128),
        dtype="INT64",
        dims=((128,), (16,)),
        highest=WORDS,
    ),
}


class Half(torch.nn.Module):
    """A network that calculates in FP16; what it takes and gives stays as it is."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """In half precision; whole numbers stay whole."""
        out: torch.Tensor = self.network(x.half() if x.is_floating_point() else x)
        return out.float()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One network in one precision for one runtime.

    Attributes:
        network: Its name.
        precision: `fp32` or `fp16`.
        engine: `pytorch` or `onnxruntime`.
        folder: Where its file is.
        quick: Whether it is the tiny one.
    """

    network: str
    precision: str
    engine: str
    folder: Path
    quick: bool

    def __str__(self) -> str:
        return f"{self.network}_{self.precision}_{self.engine}"

    @property
    def file(self) -> Path:
        """The artefact."""
        return self.folder / FILES[self.engine]

    def rows(self, count: int) -> Any:
        """Random inputs."""
        return NETWORKS[self.network].rows(count, quick=self.quick)

    def write(self, device: torch.device) -> None:
        """Write the artefact; it is traced on the device, where all precisions run."""
        self.folder.mkdir(parents=True)
        torch.manual_seed(0)
        network = NETWORKS[self.network].make(self.quick).eval()
        module = (Half(network) if self.precision == "fp16" else network).to(device).eval()
        example = torch.from_numpy(self.rows(2)).to(device)
        if self.engine == "onnxruntime":
            sizes = ({0: torch.export.Dim("batch", max=4096)},)
            torch.onnx.export(
                module, (example,), self.file, dynamo=True, dynamic_shapes=sizes, input_names=["x"],
                output_names=["y"], external_data=False, verbose=False,
            )  # fmt: skip
            return
        with torch.no_grad():
            traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
            torch.jit.freeze(traced).save(str(self.file))  # type: ignore[no-untyped-call]

    def publish(self, repository: Path, outputs: Sequence[int], *, max_batch: int, kind: str) -> list[str]:
        """One model for each variant; their names.

        Args:
            repository: Where to.
            outputs: Sizes of one output.
            max_batch: Most rows of a run.
            kind: `KIND_GPU`, which is never served from the CPU, or `KIND_CPU`.
        """
        shape = NETWORKS[self.network]
        given = TensorSpec(name="x", dtype=dtype_of(shape.dtype), dims=shape.dims[self.quick])
        answer = TensorSpec(name="y", dtype=dtype_of("FP32"), dims=tuple(outputs))
        names = []
        for variant, (count, joined, parameters) in VARIANTS.items():
            spec = ModelSpec(name=f"{self}.{variant}", inputs=(given,), outputs=(answer,), max_batch_size=max_batch)
            config = configs.build(
                spec, backend=self.engine, filename=self.file.name, versions=[1], instance_count=count,
                parameters=parameters,
            )  # fmt: skip
            config.instance_group[0].kind = config.instance_group[0].Kind.Value(kind)
            if not joined:
                config.ClearField("dynamic_batching")
            version = repository / spec.name / "1"
            version.mkdir(parents=True)
            (version / self.file.name).symlink_to(self.file)
            (version.parent / "config.pbtxt").write_text(configs.text(config), encoding="utf-8")
            names.append(spec.name)
        return names

    def record(self, path: Path, largest_output_bytes: int) -> Recorded:
        """Write the requests as perf_analyzer's data file."""
        rows = self.rows(SAMPLES)
        data = [
            {"x": {"content": {"b64": b64encode(to_bytes(row)).decode()}, "shape": list(row.shape)}} for row in rows
        ]
        path.write_text(json.dumps({"data": data}), encoding="ascii")
        return Recorded(path=path, samples=SAMPLES, largest_output_bytes=largest_output_bytes)
