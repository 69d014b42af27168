"""Routes for language models: completions, chat, tokens."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from onebit.errors import OnebitError
from onebit.serving.aside import aside
from onebit.serving.chat import checked, prompt_of
from onebit.serving.context import Context, context_of
from onebit.serving.fields import Fields, read_json
from onebit.serving.job import jobs_of
from onebit.serving.models import Model
from onebit.serving.openai import TextAnswer, TextRequest, read_chat, read_completion
from onebit.serving.refusal import Refusal
from onebit.serving.text_response import Mailbox, TextResponse


async def completions(request: Request) -> TextResponse:
    """POST /v1/completions."""
    context, fields = context_of(request), read_json(await request.body())
    asked = read_completion(fields, context.settings)
    return await _write(context, context.models.find(asked.model, writes=True), asked, chat=False, note=None)


async def chat_completions(request: Request) -> TextResponse:
    """POST /v1/chat/completions."""
    context, fields = context_of(request), read_json(await request.body())
    model = context.models.find(fields.text("model") if "model" in fields else None, writes=True)
    messages = checked(fields.raw("messages"))
    worker = await context.models.text_worker(model)
    template = model.task.get("chat_template")
    # A template computes in a process of its own: meanwhile others are served.
    prompt, note = await asyncio.to_thread(prompt_of, messages, template, worker.session.tokenizer)
    return await _write(context, model, read_chat(fields, context.settings, prompt), chat=True, note=note)


async def _write(context: Context, model: Model, asked: TextRequest, chat: bool, note: str | None) -> TextResponse:
    worker = await context.models.text_worker(model)
    mailbox = Mailbox()
    deadline = time.monotonic() + context.settings.timeout
    length = sum(map(len, asked.prompts))
    jobs = await aside(length, jobs_of, asked, worker.session, mailbox.put, deadline)
    answer = TextAnswer(model.name, chat, asked.logprobs is not None, note)
    return TextResponse(answer, mailbox, worker.submit, jobs, asked, context.slow)


async def tokenize(request: Request) -> JSONResponse:
    """POST /tokenize: `content` to `tokens`."""
    context, fields = context_of(request), read_json(await request.body())
    worker = await context.models.text_worker(_model(context, fields))
    content = fields.text("content")
    tokens = await aside(len(content), worker.session.tokenizer.encode, content)
    return JSONResponse({"tokens": tokens, "count": len(tokens)})


async def detokenize(request: Request) -> JSONResponse:
    """POST /detokenize: `tokens` to `content`."""
    context, fields = context_of(request), read_json(await request.body())
    worker = await context.models.text_worker(_model(context, fields))
    tokens: Any = fields.raw("tokens")
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise fields.fail("tokens", "give a list of integers")
    try:
        content = await aside(len(tokens), worker.session.tokenizer.decode, tokens)
    except (OnebitError, OverflowError) as error:
        raise Refusal(400, str(error), "tokens") from None
    return JSONResponse({"content": content})


def _model(context: Context, fields: Fields) -> Model:
    return context.models.find(fields.text("model") if "model" in fields else None, writes=True)


ROUTES = [
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/tokenize", tokenize, methods=["POST"]),
    Route("/detokenize", detokenize, methods=["POST"]),
]
