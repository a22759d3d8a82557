"""The settings that are tried, and how a `config.pbtxt` says them."""

from __future__ import annotations

import pytest
from tritonclient.grpc import model_config_pb2

from modelport.bench.tuning import space
from modelport.bench.tuning.space import Setting
from modelport.errors import UsageError
from modelport.repository import config as configs


def config(backend="onnxruntime", largest=32, count=1):
    made = model_config_pb2.ModelConfig(name="net", backend=backend, max_batch_size=largest)
    made.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_AUTO, count=count)
    if largest:
        made.dynamic_batching.SetInParent()
    return made


def test_instances_times_threads_stay_within_the_cores():
    found = space.space(largest=32, cores=2, threads=True)
    assert {one.group for one in found} == {(1, 1), (1, 2), (2, 1)}
    assert len(found) == len(set(found)) == 3 * (1 + 5 * 4)
    assert all(i * t <= 6 for i, t in {one.group for one in space.space(largest=8, cores=6, threads=True)})


def test_without_batching_no_delay_is_tried():
    found = space.space(largest=4, cores=1, threads=True, most_delay_us=100)
    assert [(one.batch, one.delay_us) for one in found] == [(1, 0), (2, 0), (2, 100), (4, 0), (4, 100)]


def test_a_model_without_batch_axis_has_instances_and_threads_only():
    found = space.space(largest=0, cores=2, threads=True)
    assert [(one.instances, one.threads, one.batch, one.delay_us) for one in found] == [
        *((1, 1, 0, 0), (1, 2, 0, 0), (2, 1, 0, 0))
    ]


def test_a_backend_without_a_thread_setting_has_none():
    found = space.space(largest=1, cores=2, threads=False)
    assert [one.group for one in found] == [(1, 0), (2, 0)]


def test_batches_grow_as_far_as_all_clients_fill_them_and_no_smaller_than_callers_may_send():
    assert space.largest_batch(config(largest=32), 8) == 32
    assert space.largest_batch(config(largest=32), 100) == 64
    assert space.largest_batch(config(largest=0), 100) == 0


@pytest.mark.parametrize("setting", space.space(largest=64, cores=4, threads=True), ids=str)
def test_what_is_written_is_what_is_read(setting):
    made = space.applied(config(), setting)
    assert space.present(made, cores=4) == setting
    assert configs.parse(configs.text(made), where="net") == made


def test_the_largest_request_that_callers_may_send_is_never_made_smaller():
    small = Setting(instances=1, threads=1, batch=4, delay_us=0)
    made = space.applied(config(), small)
    assert made.max_batch_size == 32
    assert list(made.dynamic_batching.preferred_batch_size) == [4]
    assert space.applied(config(), Setting(instances=1, threads=1, batch=64, delay_us=0)).max_batch_size == 64


def test_no_batching_leaves_an_owners_queue_policy():
    alone = Setting(instances=1, threads=1, batch=1, delay_us=0)
    assert not space.applied(config(), alone).HasField("dynamic_batching")
    bounded = config()
    bounded.dynamic_batching.default_queue_policy.max_queue_size = 7
    made = space.applied(bounded, alone)
    assert made.dynamic_batching.default_queue_policy.max_queue_size == 7
    assert list(made.dynamic_batching.preferred_batch_size) == [1]


def test_threads_are_told_by_the_backends_own_parameter():
    two = Setting(instances=1, threads=2, batch=1, delay_us=0)
    assert space.applied(config(), two).parameters["intra_op_thread_count"].string_value == "2"
    assert space.applied(config("pytorch"), two).parameters["INTRA_OP_THREAD_COUNT"].string_value == "2"
    assert not space.applied(config("python"), Setting(instances=1, threads=0, batch=1, delay_us=0)).parameters


def test_threads_that_are_not_told_are_the_cores_divided_by_the_instances():
    assert space.present(config(count=2), cores=4).threads == 2
    assert space.present(config(count=8), cores=4).threads == 1
    odd = config()
    odd.parameters["intra_op_thread_count"].string_value = "many"
    with pytest.raises(UsageError, match="intra_op_thread_count"):
        space.present(odd, cores=4)


def test_the_kind_of_the_instances_can_be_chosen():
    made = space.applied(config(), Setting(instances=3, threads=1, batch=1, delay_us=0), kind="KIND_CPU")
    assert made.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    assert made.instance_group[0].count == 3


def test_a_processor_has_no_gpus_to_name():
    """Triton refuses that."""
    both = config()
    both.instance_group[0].kind = model_config_pb2.ModelInstanceGroup.KIND_GPU
    both.instance_group[0].gpus.append(0)
    assert space.on_gpu(both) and not space.on_gpu(config())
    setting = Setting(instances=2, threads=1, batch=8, delay_us=0)
    assert list(space.applied(both, setting, kind="KIND_CPU").instance_group[0].gpus) == []
    assert list(space.applied(both, setting).instance_group[0].gpus) == [0]


def test_instances_of_several_kinds_or_on_several_gpus_are_left_to_their_owner():
    """They would be flattened, and what is called the present setting would be another one."""
    mixed, spread = config(), config()
    mixed.instance_group.add(count=4)
    spread.instance_group[0].gpus.extend([0, 1])
    for one in (mixed, spread):
        with pytest.raises(UsageError, match="several kinds, or on several GPUs"):
            space.present(one, cores=4)
