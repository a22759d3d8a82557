"""MLServer: a custom runtime, which gets the requests of a batch as one."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from onnx_model import Model


class Runtime(MLModel):
    """https://docs.seldon.ai/mlserver/user-guide/custom"""

    async def load(self) -> bool:
        """Load the model."""
        self.model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Rows as base64 (BYTES, one element for each) or as a tensor of numbers; answers in the same form."""
        (given,) = payload.inputs
        if given.datatype == "BYTES":
            rows = [self.model.from_bytes(row) for row in Base64Codec.decode_input(given)]
            answers = [answer.tobytes() for answer in self.model.run_rows(rows)]
            output = Base64Codec.encode_output("result", answers, use_bytes=False)
        else:
            output = NumpyCodec.encode_output("result", self.model.run(NumpyCodec.decode_input(given)))
        return InferenceResponse(model_name=self.name, outputs=[output])
