"""What watches over a running service: its processes, its answers, and version folders that are copied in."""

from __future__ import annotations
