"""What a version brings into the model's configuration when it is promoted, and what of it its owner keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.errors import RepositoryError
from modelport.repository import config as configs
from modelport.repository.config import EnsembleStep
from modelport.repository.merge import merged

WHERE = Path("net/config.pbtxt")


@pytest.fixture
def make(make_spec):
    """`make(spec, **options)`: a configuration of backend `onnxruntime`."""

    def act(spec=None, **options):
        options = {"backend": "onnxruntime", "filename": "model.onnx", "versions": [1], **options}
        return configs.build(spec or make_spec(), **options)

    return act


def test_the_owners_settings_stay(make):
    present = make()
    present.instance_group[0].count = 3
    present.dynamic_batching.max_queue_delay_microseconds = 500
    present.dynamic_batching.preferred_batch_size.append(8)
    present.max_batch_size = 16
    present.parameters["intra_op_thread_count"].string_value = "2"
    present.optimization.graph.level = 1
    before = present.SerializeToString()
    assert merged(present, make(versions=[2]), (), where=WHERE) == present, "the policy is not its matter either"
    assert present.SerializeToString() == before, "what is given is not changed"


def test_what_was_asked_for_replaces_the_owners_setting(make, make_spec):
    """And nothing else does."""
    present = make(parameters={"a": "owner", "b": "owner"})
    present.instance_group[0].count, present.instance_group[0].name = 3, "mine"
    wanted = make(make_spec(batch=4), instance_count=5, parameters={"b": "asked"})
    config = merged(present, wanted, ("max_batch_size", "instance_group"), where=WHERE)
    assert (config.max_batch_size, config.instance_group[0].count, config.instance_group[0].name) == (4, 5, "mine")
    assert {key: value.string_value for key, value in config.parameters.items()} == {"a": "owner", "b": "asked"}
    for asked, found in (("max_batch_size", (4, 3)), ("instance_group", (32, 5))):
        config = merged(present, wanted, (asked,), where=WHERE)
        assert (config.max_batch_size, config.instance_group[0].count) == found


def test_labels_that_come_with_a_version_are_used_and_stay_when_none_come(make):
    labelled = merged(make(), make(label_files={"y": "y_labels.txt"}), (), where=WHERE)
    assert labelled.output[0].label_filename == "y_labels.txt"
    assert merged(labelled, make(), (), where=WHERE).output[0].label_filename == "y_labels.txt"


def test_an_ensembles_new_steps_are_used(make_spec):
    def ensemble(model: str):
        step = EnsembleStep(model=model, inputs={"x": "x"}, outputs={"y": "y"})
        return configs.build_ensemble(make_spec(), [step], versions=[1])

    config = merged(ensemble("one"), ensemble("two"), (), where=WHERE)
    assert [step.model_name for step in config.ensemble_scheduling.step] == ["two"]


def test_a_version_of_another_format_is_refused(make):
    with pytest.raises(RepositoryError, match="another format") as caught:
        merged(make(), make(backend="pytorch", filename="model.pt"), (), where=WHERE)
    assert "onnxruntime model.onnx" in caught.value.why and "pytorch model.pt" in caught.value.why


def test_a_version_with_other_tensors_is_refused(make, make_spec, make_tensor):
    with pytest.raises(RepositoryError, match="other tensors") as caught:
        merged(make(), make(make_spec(inputs=(make_tensor("x", "FP64"),))), ("max_batch_size",), where=WHERE)
    assert "x: FP32[3]" in caught.value.why and "x: FP64[3]" in caught.value.why
    assert "another model name" in caught.value.fix and caught.value.path == str(WHERE)
