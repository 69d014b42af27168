"""Route for texts as vectors, as OpenAI's clients ask for them."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from onebit.errors import OnebitError
from onebit.serving.aside import aside
from onebit.serving.context import context_of
from onebit.serving.fields import Fields, read_json
from onebit.serving.refusal import Refusal


async def embeddings(request: Request) -> JSONResponse:
    """POST /v1/embeddings."""
    context, fields = context_of(request), read_json(await request.body())
    fields.refuse(("dimensions",))
    as_text = fields.word("encoding_format", "float", ("float", "base64")) == "base64"
    inputs = _inputs(fields, context.settings.max_texts)
    model = context.models.find(fields.text("model") if "model" in fields else None, writes=True)
    try:
        embedder = await context.models.embedder(model)
        texts = [await aside(len(text), embedder.tokens, text) for text in inputs]
    except OnebitError as error:
        raise Refusal(400, str(error), "input") from None
    data = []
    for index, tokens in enumerate(texts):
        vector = await asyncio.to_thread(embedder, tokens)
        shown: Any = base64.b64encode(vector.tobytes()).decode() if as_text else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": shown})
    count = sum(len(tokens) - embedder.lead for tokens in texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return JSONResponse({"object": "list", "data": data, "model": model.name, "usage": usage})


def _inputs(fields: Fields, most: int) -> list[str | list[int]]:
    value = fields.raw("input")
    if isinstance(value, str) or _are_tokens(value):
        return [value]
    fits = isinstance(value, list) and 1 <= len(value) <= most
    if fits and all(isinstance(text, str) or _are_tokens(text) for text in value):
        return list(value)
    raise fields.fail("input", f"give a text, a list of tokens, or a list of 1 to {most} of them")


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(type(token) is int for token in value)


ROUTES = [Route("/v1/embeddings", embeddings, methods=["POST"])]
