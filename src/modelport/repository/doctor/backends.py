"""What Triton knows of its backends by name: their files, and the older words for them."""

from __future__ import annotations

# Backend -> what Triton takes for the artefact where the configuration names none.
USUAL_FILES = {
    "onnxruntime": "model.onnx",
    "pytorch": "model.pt",
    "tensorrt": "model.plan",
    "openvino": "model.xml",
    "python": "model.py",
}
AOTI = "torch_aoti"  # torch.export programs, compiled ahead of time
# The older way to say the backend.
PLATFORMS = {
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_libtorch": "pytorch",
    "tensorrt_plan": "tensorrt",
    "tensorflow_savedmodel": "tensorflow",
    "tensorflow_graphdef": "tensorflow",
    AOTI: "pytorch",
}
# Backends of which it is known which files they read; others, such as a Python model's code, may read any.
READS_ONE_FILE = ("onnxruntime", "pytorch", "tensorrt", "tensorflow", "ensemble")
# How Triton guesses the backend where nothing says it: by what is in a version folder.
GUESSES = {
    "model.savedmodel": "tensorflow",
    "model.graphdef": "tensorflow",
    "model.plan": "tensorrt",
    "model.onnx": "onnxruntime",
    "model.xml": "openvino",
    "model.pt": "pytorch",
    "model.py": "python",
}
