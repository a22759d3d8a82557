"""What is tuned at all, and with how many measurements."""

from __future__ import annotations

import pytest

from modelport.bench.tuning import tuner
from modelport.errors import UsageError
from modelport.repository import config as configs
from modelport.repository.config import EnsembleStep
from modelport.spec import ModelSpec, TensorSpec, dtype_of


def test_an_ensemble_is_refused_with_the_models_to_tune_in_its_place(tmp_path):
    x, y = (TensorSpec(name=name, dtype=dtype_of("FP32"), dims=(3,)) for name in "xy")
    spec = ModelSpec(name="both", inputs=(x,), outputs=(y,), max_batch_size=4)
    config = configs.build_ensemble(
        spec, [EnsembleStep(model="net", inputs={"x": "x"}, outputs={"y": "y"})], versions=[1]
    )
    (tmp_path / "both" / "1").mkdir(parents=True)
    (tmp_path / "both" / "config.pbtxt").write_text(configs.text(config))
    with pytest.raises(UsageError) as error:
        tuner.require_tunable(tmp_path, "both")
    assert "ensemble" in error.value.what and "modelport tune net" in error.value.fix


def test_a_search_takes_a_tenth_of_a_sweep_and_looks_around_in_a_small_space():
    assert tuner.default_measurements(63, 1, 3) == 18
    assert tuner.default_measurements(63, 3, 3) == 54
    assert tuner.default_measurements(3, 1, 3) == tuner.FEWEST_TURNS
