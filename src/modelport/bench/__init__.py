"""Measure a server under load, and keep what was measured with everything that made it."""

from __future__ import annotations
