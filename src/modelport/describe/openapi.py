"""The OpenAPI 3.1 document of one model, as the gateway serves it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from modelport._version import __version__
from modelport.describe import schemas
from modelport.describe.facts import Facts
from modelport.describe.refusals import REFUSALS, Refusal

Document = dict[str, Any]

_KEY = "key"
_ID = {"x-request-id": {"description": "Names this answer for the owner.", "schema": {"type": "string"}}}
_ABOUT = """\
Inference changes nothing on the server: a request may be sent again whenever there was no answer. Every request needs \
a key. The protocol is KServe's v2, so any Triton client will do, over HTTP, and over gRPC on the same port.\
"""


def document(facts: Facts, *, url: str | None = None) -> Document:
    """The document.

    Args:
        facts: The model.
        url: Where the gateway is; None for the place that the document came from.
    """
    return {
        "openapi": "3.1.0",
        "info": _info(facts),
        **({"servers": [{"url": url.rstrip("/")}]} if url else {}),
        "security": [{_KEY: []}],
        "paths": _paths(facts),
        "components": {
            "securitySchemes": {
                _KEY: {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The owner of the service makes it.",
                }
            },
            "parameters": {"version": _version(facts)},
            "schemas": {
                "InferRequest": schemas.request(facts.inputs, facts.outputs, facts.max_batch_size),
                "InferResponse": schemas.answer(facts.name, facts.outputs, facts.max_batch_size),
                "Metadata": schemas.metadata(facts.name, facts.inputs, facts.outputs),
            },
            "responses": {_word(refusal): _refused(refusal) for refusal in REFUSALS},
        },
    }


def _info(facts: Facts) -> Document:
    made: Document = {"modelport": __version__, "model": facts.name, "max_batch_size": facts.max_batch_size}
    if facts.manifest:
        known = facts.manifest
        made |= {"framework": known.framework, "format": known.format, "created": known.created}
        made["metrics"] = dict(known.metrics)
    return {
        "title": facts.title,
        "version": str(facts.version),
        "description": "\n\n".join(part for part in (facts.card.strip(), _ABOUT) if part),
        "x-modelport": made,
    }


def _paths(facts: Facts) -> Document:
    name = f"/v2/models/{facts.name}"
    version, pinned = f"{name}/versions/{{version}}", [{"$ref": "#/components/parameters/version"}]
    tensors = _json("Its tensors.", {"$ref": "#/components/schemas/Metadata"})
    ready = {"description": "It is ready.", "headers": _ID}
    itself = _json("This document.", {"type": "object"})
    word = re.sub(r"\W", "_", facts.name)  # no two operations have one name, whichever documents are read together

    def get(operation: str, summary: str, answered: Document, **more: Any) -> Document:
        refusals = [refusal for refusal in REFUSALS if not refusal.infer_only]
        responses = _responses(answered, refusals)
        return {**more, "get": {"operationId": f"{operation}_{word}", "summary": summary, "responses": responses}}

    def post(operation: str, summary: str, **more: Any) -> Document:
        return {**more, "post": {"operationId": f"{operation}_{word}", "summary": summary, **_infer(facts)}}

    return {
        f"{name}/infer": post("infer", "Run the model."),
        f"{version}/infer": post("infer_version_of", "Run one version of the model.", parameters=pinned),
        name: get("metadata_of", "The model's tensors.", tensors),
        version: get("metadata_of_version_of", "The tensors of one version.", tensors, parameters=pinned),
        f"{name}/ready": get("ready", "Whether the model is ready.", ready),
        f"{version}/ready": get("ready_version_of", "Whether one version is ready.", ready, parameters=pinned),
        f"{name}/openapi.json": get("openapi_of", "This document.", itself),
    }


def _infer(facts: Facts) -> Document:
    example = facts.example
    content: Document = {"schema": {"$ref": "#/components/schemas/InferRequest"}}
    description = ""
    if example and example.request is not None:
        content["example"] = example.request
    elif example:
        said = "A request is too long to be shown here. This Python program prints one:"
        description = f"{said}\n\n```python\n{example.made_by}```"
    answered = _json("The outputs.", {"$ref": "#/components/schemas/InferResponse"})
    if example and example.response is not None:
        answered["content"]["application/json"]["example"] = example.response
    if any(not schemas.value(tensor.datatype) for tensor in facts.outputs):
        answered["content"] = {"application/octet-stream": {}}
        answered["description"] = "JSON as InferResponse, and the bytes of the outputs that JSON has no form for."
    return {
        **({"description": description} if description else {}),
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": _responses(answered, REFUSALS),
    }


def _responses(answered: Document, refusals: Sequence[Refusal]) -> Document:
    refused = {str(one.status): {"$ref": f"#/components/responses/{_word(one)}"} for one in refusals}
    return {"200": answered, **refused}


def _json(description: str, schema: Document) -> Document:
    return {"description": description, "headers": _ID, "content": {"application/json": {"schema": schema}}}


def _version(facts: Facts) -> Document:
    return {
        "name": "version",
        "in": "path",
        "required": True,
        "description": "The number of a version, or an alias.",
        "schema": {"enum": list(facts.versions)},
    }


def _word(refusal: Refusal) -> str:
    return f"Refused{refusal.status}"


def _refused(refusal: Refusal) -> Document:
    fields = {"code": {"enum": list(refusal.codes)}, "error": {"type": "string", "description": "For people."}}
    made = _json(refusal.meaning, {"type": "object", "properties": fields, "required": ["code", "error"]})
    if refusal.retry:
        seconds = {
            "description": "Seconds until it is worth asking again.",
            "schema": {"type": "integer", "minimum": 0},
        }
        made["headers"] = {**made["headers"], "Retry-After": seconds}
    return made
