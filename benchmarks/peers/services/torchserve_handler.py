"""TorchServe: a handler whose model is the ONNX file, and which gets the requests of a batch as bytes."""

from __future__ import annotations

from onnx_model import Model
from ts.torch_handler.base_handler import BaseHandler


class Handler(BaseHandler):
    """https://pytorch.org/serve/custom_service.html#writing-a-custom-handler-from-scratch-for-prediction-and-explanations-request"""

    def initialize(self, context: object) -> None:
        """Load the model; BaseHandler's own ONNX session would take all cores in every worker."""
        self.model = Model()
        self.initialized = True

    def handle(self, data: list[dict], context: object) -> list[bytes]:
        """One answer for each request of the batch."""
        rows = [self.model.from_bytes(request["body"]) for request in data]
        return [row.tobytes() for row in self.model.run_rows(rows)]
