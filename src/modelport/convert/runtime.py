"""ONNX Runtime, loaded in the one place that tells it to keep usage data to itself.

Since 1.32 its Linux packages hold telemetry: without this variable they keep a device number and a database of events
in the user's cache folder. It is read when the library is loaded, so it must be set before.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
