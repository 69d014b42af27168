"""What every route needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from starlette.requests import Request

from onebit.serving.metrics import Metrics
from onebit.serving.models import Models
from onebit.serving.settings import Settings
from onebit.serving.slow_readers import SlowReaders


@dataclass
class Context:
    """The parts of a server.

    Args:
        settings, models, metrics, slow: see their classes.
        ready: whether it takes requests: not before the first model is there, and not after SIGTERM.
    """

    settings: Settings
    models: Models
    metrics: Metrics
    slow: SlowReaders
    ready: bool = False


# Where a request's scope has them.
KEY = "onebit.context"


def context_of(request: Request) -> Context:
    """The parts of the server that got a request."""
    return cast(Context, request.scope[KEY])
