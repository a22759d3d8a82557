"""The peer: the usual FastAPI service around one ONNX model, raw float32 bytes in and out.

Started by `peer.fastapi` as `uvicorn --factory modelport.bench.fastapi_app:create`.
"""

from __future__ import annotations

import os

import numpy as np
from fastapi import FastAPI, Request, Response

from modelport.bench.peer import MODEL_VARIABLE, THREADS_VARIABLE
from modelport.convert.runtime import onnxruntime

PATH = "/infer"


def create() -> FastAPI:
    """The application for the ONNX file that the environment names; its first input and output, batches included."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get(THREADS_VARIABLE, "1"))
    session = onnxruntime.InferenceSession(
        os.environ[MODEL_VARIABLE], sess_options=options, providers=["CPUExecutionProvider"]
    )
    (feed, *_), (answer, *_) = session.get_inputs(), session.get_outputs()
    shape = (-1, *feed.shape[1:])
    app = FastAPI()

    @app.post(PATH)
    async def infer(request: Request) -> Response:
        array = np.frombuffer(await request.body(), dtype=np.float32).reshape(shape)
        (result,) = session.run([answer.name], {feed.name: array})
        return Response(result.tobytes(), media_type="application/octet-stream")

    return app
