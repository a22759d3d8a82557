"""Settings for all unit tests: Keras's backend, and property tests that are the same in every run."""

from __future__ import annotations

import os

import hypothesis

os.environ.setdefault("KERAS_BACKEND", "torch")  # before the first test module imports keras

# No time limit for one example: a busy machine would break it.
hypothesis.settings.register_profile("steady", derandomize=True, deadline=None, database=None, max_examples=100)
hypothesis.settings.load_profile("steady")
