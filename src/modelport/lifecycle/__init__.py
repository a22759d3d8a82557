"""The life of a version in a running server: trial, promotion, rollback, and the proof of each."""

from __future__ import annotations
