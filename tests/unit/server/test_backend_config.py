"""What the Python-based backends read from a configuration; the module runs in Triton's stub, without modelport."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys

import pytest

from modelport import _cores
from modelport.server import toolchain

PATH = toolchain.BACKENDS / "modelport_config.py"


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("modelport_config", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules |= {spec.name: module, "modelport_cores": _cores}
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name], sys.modules["modelport_cores"]


@pytest.fixture
def read(module, tmp_path):
    """`read(**raw)`: the configuration of model `m`, version 1, with these parts."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").touch()

    def run(**raw):
        args = {
            "model_config": json.dumps(raw),
            "model_repository": str(tmp_path),
            "model_version": "1",
            "model_name": "m",
            "model_instance_kind": "CPU",
            "model_instance_device_id": "0",
        }
        return module.read_config(args, "model.onnx")

    return run


def test_the_shared_modules_need_nothing_of_modelport(tmp_path):
    """In an interpreter without site-packages the configuration module imports, laid out as beside a backend."""
    for name, source in toolchain.SHARED_MODULES.items():
        shutil.copyfile(source, tmp_path / name)
    code = f"import sys; sys.path = [p for p in sys.path if 'site-packages' not in p] + [{str(tmp_path)!r}]\n"
    code += "import modelport_config; assert 'modelport' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=30)


def test_booleans_are_read_as_triton_reads_them(module):
    assert all(module.parse_bool("k", text) for text in ("true", "TRUE", "on", "1"))
    assert not any(module.parse_bool("k", text) for text in ("false", "Off", "0"))
    for text in ("yes", "", "2", "truee"):
        with pytest.raises(module.ConfigError, match=f"parameter 'k' is '{text}'"):
            module.parse_bool("k", text)


def test_numbers_are_whole(module):
    assert [module.parse_int("k", text) for text in ("0", "-1", "12", " 3 ")] == [0, -1, 12, 3]
    for text in ("1.5", "two", "", "1e3", "9" * 12):
        with pytest.raises(module.ConfigError, match="whole number"):
            module.parse_int("k", text)


def test_a_configuration_is_read(read):
    config = read(
        max_batch_size=4,
        input=[{"name": "x", "data_type": "TYPE_FP32", "dims": ["-1", "3"]}],
        output=[{"name": "y", "data_type": "TYPE_FP32", "dims": ["1"], "reshape": {"shape": []}}],
        parameters={"a": {"string_value": "ON"}, "n": {"string_value": "7"}},
        instance_group=[{"count": 2}, {"count": 1}],
    )
    assert config.inputs[0].full_dims == (-1, -1, 3)
    assert config.outputs[0].full_dims == (-1,)
    assert config.inputs[0].fits((2, 9, 3))
    assert not config.inputs[0].fits((2, 9, 4))
    assert not config.inputs[0].fits((9, 3))
    assert (config.flag("a"), config.flag("absent"), config.number("n"), config.number("absent")) == (True, None, 7, 0)
    assert config.instances == 3
    assert config.file.name == "model.onnx"


def test_instances_share_the_cores(read):
    assert read().threads() == _cores.usable()
    assert read(instance_group=[{"count": 1000}]).threads() == 1


def test_a_group_has_its_count_of_instances_on_each_device(read):
    assert read(instance_group=[{"count": 2, "gpus": [0, 1]}, {"count": 1}]).instances == 5


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"default_model_filename": "absent.onnx"}, "'absent.onnx' is missing"),
        ({"default_model_filename": "../1/model.onnx"}, "outside the version's folder"),
        ({"default_model_filename": "/etc/passwd"}, "outside the version's folder"),
        ({"sequence_batching": {}}, "sequence_batching"),
        ({"batch_input": [{"kind": "BATCH_ELEMENT_COUNT"}]}, "batch_input"),
        ({"batch_output": [{}]}, "batch_output"),
        ({"model_transaction_policy": {"decoupled": True}}, "decoupled"),
        ({"input": [{"name": "x", "allow_ragged_batch": True}]}, "allow_ragged_batch"),
    ],
)
def test_what_is_not_served_is_refused_by_name(read, module, raw, reason):
    with pytest.raises(module.ConfigError, match=reason):
        read(**raw)


def test_a_policy_that_is_not_decoupled_is_served(read):
    read(model_transaction_policy={"decoupled": False})


def test_a_gpu_instance_without_a_gpu_is_refused_only_where_the_configuration_itself_wants_one(module, read, tmp_path):
    """Triton turns KIND_AUTO into KIND_GPU where it sees a GPU, so the file is asked."""
    path = tmp_path / "config.pbtxt"
    path.write_text("# KIND_GPU would be refused\ninstance_group { kind: KIND_AUTO count: 1 }\n")
    assert read().without_gpu("torch has no CUDA") == "model 'm': torch has no CUDA; it runs on the CPU"
    path.write_text("instance_group { count: 1 kind: KIND_GPU }\n")
    with pytest.raises(module.ConfigError, match="KIND_GPU, but torch has no CUDA; with KIND_AUTO"):
        read().without_gpu("torch has no CUDA")
