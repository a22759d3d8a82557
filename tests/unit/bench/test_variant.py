"""A variant serves the same version with another configuration; the original stays as it was."""

from __future__ import annotations

import pytest

from modelport.bench import variant
from modelport.errors import ManifestError
from modelport.repository import config as configs
from modelport.spec import ModelSpec, TensorSpec, dtype_of


@pytest.fixture
def repository(tmp_path):
    """A repository with one model, `tiny`."""
    x, y = (TensorSpec(name=name, dtype=dtype_of("FP32"), dims=(3,)) for name in "xy")
    spec = ModelSpec(name="tiny", inputs=(x,), outputs=(y,), max_batch_size=4)
    folder = tmp_path / "original" / "tiny"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(b"weights")
    config = configs.build(spec, backend="onnxruntime", filename="model.onnx", versions=[1])
    (folder / "config.pbtxt").write_text(configs.text(config))
    return tmp_path / "original"


def test_only_instances_and_parameters_change(repository, tmp_path):
    before = configs.read(repository / "tiny" / "config.pbtxt")
    made = variant.copy(repository, "tiny", tmp_path / "new", instance_count=3, parameters={"a": "1"})
    after = configs.read(made / "tiny" / "config.pbtxt")
    assert after.instance_group[0].count == 3 and after.parameters["a"].string_value == "1"
    assert (made / "tiny" / "1" / "model.onnx").read_bytes() == b"weights"
    assert configs.read(repository / "tiny" / "config.pbtxt") == before
    after.instance_group[0].count = 1
    del after.parameters["a"]
    assert after == before


def test_tritons_own_bound_can_be_set(repository, tmp_path):
    made = variant.copy(repository, "tiny", tmp_path / "new", instance_count=1, max_queue_size=7)
    after = configs.read(made / "tiny" / "config.pbtxt")
    assert after.dynamic_batching.default_queue_policy.max_queue_size == 7
    after.dynamic_batching.ClearField("default_queue_policy")
    assert after == configs.read(repository / "tiny" / "config.pbtxt")


def test_a_copy_under_another_name_without_the_batcher_keeps_the_rest(repository, tmp_path):
    made = variant.copy(repository, "tiny", tmp_path / "new")
    variant.copy(repository, "tiny", made, name="alone", batching=False)
    whole, alone = (configs.read(made / name / "config.pbtxt") for name in ("tiny", "alone"))
    assert whole == configs.read(repository / "tiny" / "config.pbtxt")
    assert alone.name == "alone" and not alone.HasField("dynamic_batching")
    alone.name = "tiny"
    alone.dynamic_batching.SetInParent()
    assert alone == whole


def test_a_model_that_is_not_there_is_an_error(repository, tmp_path):
    with pytest.raises(ManifestError):
        variant.copy(repository, "tinny", tmp_path / "new", instance_count=1)
