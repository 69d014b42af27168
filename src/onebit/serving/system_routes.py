"""Routes about the server itself: whether it lives, its models, its metrics, its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onebit.serving.context import context_of
from onebit.serving.metrics import CONTENT_TYPE
from onebit.serving.models import Model
from onebit.serving.refusal import Refusal

PAGE = Path(__file__).parent / "page"
# What the page consists of, and as what it is sent.
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/draw.js": ("draw.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# The page loads what comes from this server, and nothing else.
POLICY = "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


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
        return {**listed, "context": model.input_shape[0], "chat_template": "chat_template" in model.task}
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


async def page(request: Request) -> Response:
    """GET / and the files of the page."""
    name, kind = FILES[request.url.path]
    headers = {"Content-Type": kind, "Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return Response((PAGE / name).read_bytes(), headers=headers)


ROUTES = [
    Route("/health", health),
    Route("/ready", ready),
    Route("/v1/models", models),
    Route("/v1/models/{name}", model),
    Route("/metrics", metrics),
    *(Route(path, page) for path in FILES),
]
# What is answered without a key: it tells nothing of a model or of a client.
OPEN_PATHS = frozenset({"/health", "/ready", *FILES})
