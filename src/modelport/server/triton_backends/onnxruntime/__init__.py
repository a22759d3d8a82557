"""The backend `onnxruntime`, served by the Python package onnxruntime."""
