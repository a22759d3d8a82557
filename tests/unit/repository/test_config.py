"""`config.pbtxt` is complete, is what Triton's own message parses, and tells the tensors back."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from modelport.errors import ManifestError
from modelport.repository import config as configs
from modelport.repository.config import EnsembleStep
from modelport.spec import DTYPES, ModelSpec, TensorSpec


def built(spec: ModelSpec, **options):
    options = {"backend": "onnxruntime", "filename": "model.onnx", "versions": [1], **options}
    return configs.build(spec, **options)


def reparsed(config):
    return text_format.Parse(configs.text(config), model_config_pb2.ModelConfig())


def test_nothing_is_left_to_defaults(make_spec, make_tensor):
    """Every field that two servers might fill in differently is there."""
    spec = make_spec(inputs=(make_tensor("image", "UINT8", (-1, 28, 1)),), outputs=(make_tensor("scores", dims=(10,)),))
    config = reparsed(built(spec, versions=[3, 1], label_files={"scores": "scores_labels.txt"}, instance_count=2))
    assert (config.name, config.backend, config.max_batch_size) == ("net", "onnxruntime", 32)
    assert config.default_model_filename == "model.onnx"
    (image,), (scores,) = config.input, config.output
    assert (image.name, image.data_type, list(image.dims)) == ("image", model_config_pb2.TYPE_UINT8, [-1, 28, 1])
    assert (scores.name, list(scores.dims), scores.label_filename) == ("scores", [10], "scores_labels.txt")
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, model_config_pb2.ModelInstanceGroup.KIND_AUTO)
    assert config.HasField("dynamic_batching")
    assert config.version_policy.WhichOneof("policy_choice") == "specific"
    assert list(config.version_policy.specific.versions) == [1, 3]


def test_no_runtime_key_is_written(make_spec):
    """It would keep the container from its compiled backend."""
    assert built(make_spec()).runtime == ""


def test_without_a_batch_axis_nothing_is_batched(make_spec):
    config = built(make_spec(batch=0))
    assert config.max_batch_size == 0 and not config.HasField("dynamic_batching")


def test_a_number_per_row_is_reshaped(make_spec, make_tensor):
    """Triton has no tensors without axes: `[1]` outside, `[]` for the model."""
    spec = make_spec(inputs=(make_tensor("x", dims=()),), outputs=(make_tensor("y", dims=()), make_tensor("z")))
    config = reparsed(built(spec))
    for entry in (config.input[0], config.output[0]):
        assert list(entry.dims) == [1] and entry.HasField("reshape") and list(entry.reshape.shape) == []
    assert not config.output[1].HasField("reshape")


def test_a_single_number_without_a_batch_axis_is_one_element(make_spec, make_tensor):
    """Triton refuses an empty reshape there; its backends take a scalar for `[1]`."""
    config = built(make_spec(batch=0, outputs=(make_tensor("y", dims=()),)))
    assert list(config.output[0].dims) == [1] and not config.output[0].HasField("reshape")


def test_scalars_have_an_axis_outside_and_none_inside(make_tensor):
    tensors = (make_tensor("n", dims=()), make_tensor("v", dims=(2,)))
    arrays = {"n": np.arange(3), "v": np.ones((3, 2)), "other": np.ones(3)}
    outside = configs.outside(arrays, tensors)
    assert {name: a.shape for name, a in outside.items()} == {"n": (3, 1), "v": (3, 2), "other": (3,)}
    assert all(np.array_equal(a, arrays[name]) for name, a in configs.inside(outside, tensors).items())


def test_parameters_are_strings(make_spec):
    config = built(make_spec(), parameters={"intra_op_thread_count": "1", "a b": 'quo"te\n'})
    again = reparsed(config)
    assert {key: value.string_value for key, value in again.parameters.items()} == {
        "intra_op_thread_count": "1",
        "a b": 'quo"te\n',
    }


def test_an_ensemble_is_steps_and_nothing_else(make_spec):
    steps = [
        EnsembleStep(model="tokenizer", inputs={"text": "x"}, outputs={"ids": "ids"}),
        EnsembleStep(model="net", inputs={"tokens": "ids"}, outputs={"scores": "y"}),
    ]
    config = reparsed(configs.build_ensemble(make_spec(), steps, versions=[2]))
    assert (config.platform, config.backend, len(config.instance_group)) == ("ensemble", "", 0)
    assert [s.model_name for s in config.ensemble_scheduling.step] == ["tokenizer", "net"]
    assert [s.model_version for s in config.ensemble_scheduling.step] == [-1, -1]
    assert dict(config.ensemble_scheduling.step[1].input_map) == {"tokens": "ids"}
    assert configs.versions_of(config) == (2,)


tensors = st.builds(
    TensorSpec,
    name=st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,20}", fullmatch=True),
    dtype=st.sampled_from(DTYPES),
    dims=st.lists(st.one_of(st.just(-1), st.integers(1, 10_000)), min_size=1, max_size=5).map(tuple),
)
groups = st.lists(tensors, min_size=1, max_size=4, unique_by=lambda t: t.name).map(tuple)


@given(groups, groups, st.integers(0, 65_536), st.lists(st.integers(1, 2**31 - 1), unique=True, max_size=4))
def test_a_configuration_tells_the_tensors_back(inputs, outputs, batch, versions):
    spec = ModelSpec(name="net", inputs=inputs, outputs=outputs, max_batch_size=batch)
    again = reparsed(built(spec, versions=versions))
    assert configs.spec_of(again) == spec
    assert list(configs.versions_of(again)) == sorted(versions)


def test_a_policy_that_names_no_versions_has_none(make_spec):
    config = built(make_spec())
    config.version_policy.latest.num_versions = 1
    assert configs.versions_of(config) == ()


def test_a_file_is_read_as_it_was_written(tmp_path, make_spec):
    path = tmp_path / "config.pbtxt"
    path.write_text(configs.text(built(make_spec())))
    assert configs.read(path) == built(make_spec())


@pytest.mark.parametrize("content", [None, b"name: ", b"nonsense", b"max_batch_size: 'a'", b"\xff\xfe", b"nmae: 'x'"])
def test_what_is_no_configuration_is_one_clear_error(tmp_path, content):
    path = tmp_path / "net" / "config.pbtxt"
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"net/config\.pbtxt") as caught:
        configs.read(path)
    assert caught.value.path == str(path) and caught.value.why and caught.value.fix
