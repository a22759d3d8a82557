"""What perf_analyzer wrote is read whole: percentiles, where the time went, mean batch, an ensemble's steps."""

from __future__ import annotations

import pytest

from modelport.bench import perf_output


def test_one_model(said):
    seen = perf_output.read(said["table"], said["words"])
    assert (seen.inferences_per_s, seen.requests) == (3167.49, 863)
    assert (seen.p50_us, seen.p90_us, seen.p95_us, seen.p99_us) == (1854, 2806, 3872, 7059)
    assert (seen.client_us, seen.queue_us, seen.compute_us) == (63, 145, 19 + 1448 + 33)
    assert seen.mean_batch == pytest.approx(3456 / 789)
    assert seen.windows == (1738.56, 3644.77, 4120.74)
    assert seen.steps == () and seen.delayed_percent == 0


def test_the_parts_sum_up_to_the_mean(said):
    for table, words in (("table", "words"), ("ensemble table", "ensemble words")):
        seen = perf_output.read(said[table], said[words])
        parts = seen.client_us + seen.network_us + seen.queue_us + seen.compute_us
        assert parts == pytest.approx(seen.mean_us)


def test_an_ensemble_waits_in_the_queues_of_its_steps(said):
    """The table says that it did not wait; only the words tell."""
    seen = perf_output.read(said["ensemble table"], said["ensemble words"])
    assert (seen.queue_us, seen.compute_us, seen.mean_batch) == (676, 555, None)
    assert [(step.model, step.version) for step in seen.steps] == [("counter", "1"), ("torch_onnx", "1")]
    assert (seen.steps[1].served.executions, seen.steps[1].served.queue_us) == (980, 398)


def test_late_requests_are_told(said):
    late = "    [WARNING] Perf Analyzer was not able to keep up with the desired request rate. 42.50% of the requests were delayed."  # noqa: E501
    words = said["words"].replace("    Throughput:", f"{late}\n    Throughput:")
    assert perf_output.read(said["table"], words).delayed_percent == 42.5


def test_with_a_percentile_the_table_has_no_mean(said):
    table = said["table"].replace("Avg latency", "p95 latency again")
    assert perf_output.read(table, said["words"]).mean_us == pytest.approx(2515)


@pytest.mark.parametrize("gone", ["Request count: 863", "queue 145 usec", "Execution count: 789", "  Server:"])
def test_what_is_missing_is_not_guessed(said, gone):
    assert gone in said["words"]
    with pytest.raises(ValueError):
        perf_output.read(said["table"], said["words"].replace(gone, ""))
