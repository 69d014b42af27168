"""The application: routes, and what starts and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from starlette.routing import Router

from onebit.serving import embedding_routes, image_routes, infer_routes, system_routes, text_routes
from onebit.serving.context import Context
from onebit.serving.guard import Guard
from onebit.serving.metrics import Metrics
from onebit.serving.models import Models
from onebit.serving.refusal import Refusal
from onebit.serving.settings import Settings
from onebit.serving.slow_readers import SlowReaders


def make_app(files: Iterable[str | Path], settings: Settings) -> tuple[Guard, Context]:
    """The application that serves files.

    Args:
        files: paths, or names of networks that come with the package.
        settings: the limits.

    Returns:
        The ASGI application, and its parts.

    Raises:
        FormatError: a file is damaged.
        OnebitError: the settings do not fit.
    """
    metrics = Metrics()
    context = Context(settings, Models(files, settings, metrics), metrics, SlowReaders(settings.write_timeout))

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(context.slow.run()), asyncio.create_task(_load_first(context))]
        try:
            yield
        finally:
            context.ready = False
            for task in tasks:
                task.cancel()
            await asyncio.to_thread(context.models.close)

    rooms = (system_routes, text_routes, embedding_routes, image_routes, infer_routes)
    routes = [route for room in rooms for route in room.ROUTES]
    guard = Guard(
        Router(routes, lifespan=lifespan), context, system_routes.OPEN_PATHS, {route.path for route in routes}
    )
    return guard, context


async def _load_first(context: Context) -> None:
    model = next(iter(context.models))
    try:
        await (context.models.text_worker(model) if model.writes else context.models.image_worker(model))
    except Refusal as refusal:
        print(f"onebit: error: {refusal.message}", file=sys.stderr, flush=True)
        return
    context.ready = True
