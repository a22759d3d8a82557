"""Models as people have them, after Triton's own examples: no error, and no warning but a known one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from modelport.repository.doctor import context
from modelport.repository.doctor.registry import examine
from modelport.repository.doctor.targets import TARGETS

INPUT = 'input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] } ]\n'
OUTPUT = 'output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ]\n'
STRINGS = INPUT.replace("FP32", "STRING").replace("3", "1") + OUTPUT
ON_CPU = "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
UNGROUPED = "instances-missing"  # Triton's own examples leave it out; it is one of the traps


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A model, its files beside config.pbtxt, and what is a warning of it."""

    config: str
    files: tuple[str, ...]
    warned: frozenset[str] = frozenset()


MODELS = {
    "dynamic sequences": Foreign(
        config='platform: "tensorrt_plan"\nmax_batch_size: 8\n' + INPUT + OUTPUT + "sequence_batching {\n"
        "  max_sequence_idle_microseconds: 5000000\n"
        "  oldest { max_candidate_sequences: 4 preferred_batch_size: [ 8 ] max_queue_delay_microseconds: 100 }\n"
        '  control_input [ { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] } ]\n'
        "}\n",
        files=("1/model.plan",),
        warned=frozenset({UNGROUPED}),
    ),
    "python with its environment": Foreign(
        config='backend: "python"\nmax_batch_size: 16\n' + STRINGS + ON_CPU + "dynamic_batching { }\n"
        'parameters: { key: "EXECUTION_ENV_PATH", value: { string_value: "$$TRITON_MODEL_DIRECTORY/env.tar.gz" } }\n',
        files=("1/model.py", "1/tokenizer/vocab.txt", "env.tar.gz", "requirements.txt", "triton_python_backend_stub"),
        warned=frozenset({"stub-file"}),
    ),
    "decoupled python that calls other models": Foreign(
        config='backend: "python"\n' + STRINGS + "model_transaction_policy { decoupled: True }\n" + ON_CPU,
        files=("1/model.py", "1/utils.py", "1/__pycache__/model.cpython-310.pyc"),
    ),
    "vllm": Foreign(
        config='backend: "vllm"\n\n# left to the engine\ninstance_group [ { count: 1 kind: KIND_MODEL } ]\n',
        files=("1/model.json",),
    ),
    "tensorrtllm": Foreign(
        config='backend: "tensorrtllm"\nmax_batch_size: 64\nmodel_transaction_policy { decoupled: true }\n'
        "dynamic_batching { preferred_batch_size: [ 64 ] default_queue_policy: { max_queue_size: 0 } }\n"
        "input [ { name: 'ids' data_type: TYPE_INT32 dims: [ -1 ] allow_ragged_batch: true optional: true },\n"
        "  { name: 'length' data_type: TYPE_INT32 dims: [ 1 ] reshape: { shape: [ ] } } ]\n" + OUTPUT + ON_CPU,
        files=("1/.gitkeep", "1/model.py"),
    ),
    "tensorrt for each kind of GPU": Foreign(
        config='platform: "tensorrt_plan"\nmax_batch_size: 8\n' + INPUT + OUTPUT + "version_policy: { all { }}\n"
        'cc_model_filenames [ { key: "8.6" value: "model_86.plan" } ]\noptimization { cuda { graphs: true } }\n'
        "instance_group [ { count: 2 kind: KIND_GPU gpus: [ 0, 1 ] } ]\n",
        files=("1/model_86.plan", "2/model_86.plan"),
    ),
    "libtorch of old": Foreign(
        config='platform: "pytorch_libtorch"\nmax_batch_size: 0\n'
        'input [ { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 3 ] } ]\n'
        'output [ { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 3 ] } ]\n'
        'parameters: { key: "DISABLE_OPTIMIZED_EXECUTION" value: { string_value: "true" } }\n' + ON_CPU,
        files=("1/model.pt",),
        warned=frozenset({"artefact-format"}),  # it is a file of one letter here
    ),
    "pytorch code with its weights": Foreign(
        config='backend: "pytorch"\nruntime: "model.py"\nmax_batch_size: 8\n' + INPUT + OUTPUT + ON_CPU,
        files=("1/model.py", "1/model.pt"),
    ),
    "labels and warm-up of images": Foreign(
        config='backend: "openvino"\nmax_batch_size: 8\n' + INPUT.replace("FP32", "UINT8") + ON_CPU
        + 'output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" } ]\n'
        + 'model_warmup [ { name: "w" batch_size: 1 inputs { key: "x" value { data_type: TYPE_UINT8 dims: [ 3 ] '
        "random_data: true } } } ]\nversion_policy { latest { num_versions: 2 } }\n",
        files=("1/model.xml", "1/model.bin", "labels.txt"),
    ),
    "completed by the container": Foreign(
        config="", files=("1/model.plan",), warned=frozenset({"backend-missing", UNGROUPED})
    ),
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_as_people_have_it_gives_no_false_alarm(tmp_path, name, target):
    root = tmp_path / "models"
    for file in MODELS[name].files:
        path = root / "net" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (root / "net" / "config.pbtxt").write_text(MODELS[name].config)
    found = examine(context.read(root, target))
    assert {f.rule for f in found if f.severity != "note"} == MODELS[name].warned
