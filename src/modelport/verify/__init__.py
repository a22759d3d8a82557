"""Proof that an artefact answers as its source: tolerances, batch axis, evidence, replay."""

from __future__ import annotations

from modelport.verify.batch_axis import BatchProof
from modelport.verify.compare import Comparison
from modelport.verify.evidence import Evidence, Golden
from modelport.verify.replay import replay, replay_concurrently
from modelport.verify.tolerance import Tolerance

__all__ = ["BatchProof", "Comparison", "Evidence", "Golden", "Tolerance", "replay", "replay_concurrently"]
