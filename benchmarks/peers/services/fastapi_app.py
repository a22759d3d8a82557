"""FastAPI around the model, as it is mostly written: one request, one run. Raw bytes at /raw, JSON at /json."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from onnx_model import Model
from pydantic import BaseModel


# https://docs.python.org/3/library/typing.html: `list` alone is any list, which pydantic checks fastest
class Row(BaseModel):
    """One request."""

    data: list


def create() -> FastAPI:
    """The application, for `uvicorn --factory fastapi_app:create`."""
    model = Model()
    app = FastAPI()

    @app.post("/raw")
    async def raw(request: Request) -> Response:
        result = model.run(model.from_bytes(await request.body())[None])
        return Response(result.tobytes(), media_type="application/octet-stream")

    @app.post("/json")
    async def json(row: Row) -> dict[str, list]:
        return {"result": model.run(model.from_list(row.data)[None])[0].tolist()}

    return app
