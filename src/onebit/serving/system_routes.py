"""Routes about the server itself: whether it lives, its models, its metrics."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onebit.serving.context import context_of
from onebit.serving.metrics import CONTENT_TYPE
from onebit.serving.models import Model
from onebit.serving.refusal import Refusal


async def health(request: Request) -> JSONResponse:
    """GET /health: the process answers."""
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> JSONResponse:
    """GET /ready: it takes requests."""
    is_ready = context_of(request).ready
    return JSONResponse({"status": "ready" if is_ready else "not ready"}, 200 if is_ready else 503)


def entry(model: Model) -> dict[str, Any]:
    """A model as /v1/models lists it: OpenAI's fields, and more of our own."""
    listed: dict[str, Any] = {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "onebit",
        "kind": model.kind,
        "bytes": model.bytes,
        "loaded": model.worker is not None,
    }
    if model.writes:
        return {**listed, "context": model.context, "chat_template": "chat_template" in model.task}
    for name in ("labels", "image_size", "channels"):
        listed[name] = model.task.get(name)
    return listed


async def models(request: Request) -> JSONResponse:
    """GET /v1/models."""
    return JSONResponse({"object": "list", "data": [entry(model) for model in context_of(request).models]})


async def model(request: Request) -> JSONResponse:
    """GET /v1/models/NAME."""
    name = request.path_params["name"]
    for found in context_of(request).models:
        if found.name == name:
            return JSONResponse(entry(found))
    raise Refusal(404, f"there is no model {name[:80]!r}", "model", "model_not_found")


async def metrics(request: Request) -> Response:
    """GET /metrics."""
    return Response(context_of(request).metrics.text(), headers={"Content-Type": CONTENT_TYPE})


ROUTES = [
    Route("/health", health),
    Route("/ready", ready),
    Route("/v1/models", models),
    Route("/v1/models/{name}", model),
    Route("/metrics", metrics),
]
# What is answered without a key: it tells nothing of a model or of a client.
OPEN_PATHS = frozenset({"/health", "/ready"})
