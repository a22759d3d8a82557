"""Pages in Prometheus's text format become figures; quantiles are reckoned as Prometheus does."""

from __future__ import annotations

import math

import pytest

from modelport.watching.series import Series, quantile

PAGE = """# HELP nv_inference_count Number of inferences
# TYPE nv_inference_count counter
nv_inference_count{model="digits_cnn",version="1"} 6
nv_inference_count{model="digits_cnn",version="2"} 1.5e+01
nv_cpu_utilization 0.74
odd{reason="a \\"word\\", {a} \\\\ and\\na line"} 1 1795439734388
empty{} 3
nothing NaN of use
"""


def test_figures_are_found_by_name_and_labels():
    series = Series([PAGE])
    assert series.by("nv_inference_count", "model", "version") == {("digits_cnn", "1"): 6.0, ("digits_cnn", "2"): 15.0}
    assert series.by("nv_inference_count", "model", "gpu") == {("digits_cnn", ""): 21.0}
    assert (series.one("nv_cpu_utilization"), series.one("empty"), series.one("missing")) == (0.74, 3.0, None)
    assert [labels for labels, _ in series.of("odd")] == [{"reason": 'a "word", {a} \\ and\na line'}]


def test_the_same_series_of_several_servers_is_added_up():
    assert Series([PAGE, PAGE]).by("nv_inference_count", "version") == {("1",): 12.0, ("2",): 30.0}


@pytest.mark.parametrize(
    ("buckets", "part", "expected"),
    [
        ({1.0: 0, 2.0: 10, math.inf: 10}, 0.5, 1.5),  # evenly within a bucket
        ({1.0: 10, 2.0: 10, math.inf: 10}, 0.99, 0.99),  # the lowest begins at nothing
        ({1.0: 5, 2.0: 5, 4.0: 10, math.inf: 10}, 0.75, 3.0),  # over an empty one
        ({1.0: 5, math.inf: 10}, 0.9, 1.0),  # above all bounds
        ({1.0: 0, math.inf: 0}, 0.5, None),
        ({}, 0.5, None),
    ],
)
def test_quantiles_of_a_histogram(buckets, part, expected):
    assert quantile(buckets, part) == (None if expected is None else pytest.approx(expected))
