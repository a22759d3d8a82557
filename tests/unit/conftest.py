"""Settings of the property tests: the same cases in every run, and no time limit that a busy machine breaks."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("steady", derandomize=True, deadline=None, database=None, max_examples=100)
hypothesis.settings.load_profile("steady")
