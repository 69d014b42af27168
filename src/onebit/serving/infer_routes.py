"""Routes of the Open Inference Protocol, version 2: arrays in, logits out."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from onebit import __version__
from onebit.errors import OnebitError
from onebit.runtime.text import TextSession
from onebit.serving.context import Context, context_of
from onebit.serving.fields import Fields, read_json
from onebit.serving.models import Model
from onebit.serving.refusal import Refusal
from onebit.text import valid_text

_TYPES = {"UINT8": np.uint8, "FP32": np.float32, "INT32": np.int32, "INT64": np.int64}
# What a kind of model takes: the name of its input, and the types of it.
_IMAGES, _TOKENS = ("images", ("UINT8", "FP32")), ("tokens", ("INT32", "INT64"))


async def server(request: Request) -> JSONResponse:
    """GET /v2."""
    return JSONResponse({"name": "onebit", "version": __version__, "extensions": []})


async def live(request: Request) -> JSONResponse:
    """GET /v2/health/live."""
    return JSONResponse({"live": True})


async def ready(request: Request) -> JSONResponse:
    """GET /v2/health/ready and /v2/models/NAME/ready."""
    is_ready = context_of(request).ready
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


async def describe(request: Request) -> JSONResponse:
    """GET /v2/models/NAME: its inputs and outputs. -1 stands for any number."""
    model = _model(request, context_of(request))
    name, types = _TOKENS if model.writes else _IMAGES
    shape = [-1, -1] if model.writes else [-1, *model.input_shape]
    inputs = [{"name": name, "datatype": types[0], "shape": shape}]
    outputs = [{"name": "logits", "datatype": "FP32", "shape": [-1, model.outputs]}]
    return JSONResponse(
        {"name": model.name, "versions": ["1"], "platform": "onebit", "inputs": inputs, "outputs": outputs}
    )


async def infer(request: Request) -> JSONResponse:
    """POST /v2/models/NAME/infer: images (n, height, width, channels), or tokens (n, time), to logits (n, classes); of tokens after the last."""
    context, fields = context_of(request), read_json(await request.body())
    model = _model(request, context)
    name, types = _TOKENS if model.writes else _IMAGES
    array = _array(fields, name, types)
    most = context.settings.max_texts
    if not 1 <= len(array) <= most:
        raise Refusal(400, f"inputs: {len(array)} rows: give 1 to {most}", "inputs")
    if model.writes:
        worker = await context.models.text_worker(model)
        try:
            logits = await asyncio.to_thread(_after_last, worker.session, array)
        except OnebitError as error:
            raise Refusal(400, str(error), "inputs") from None
    else:
        if array.shape[1:] != model.input_shape:
            raise Refusal(
                400,
                f"inputs: the shape is {list(array.shape)}: use [n, {', '.join(map(str, model.input_shape))}]",
                "inputs",
            )
        logits = await (await context.models.image_worker(model)).logits(array)
    output = {"name": "logits", "datatype": "FP32", "shape": list(logits.shape), "data": logits.ravel().tolist()}
    answer = {"model_name": model.name, "model_version": "1", "outputs": [output]}
    # Half of a surrogate pair has no UTF-8.
    given = {"id": valid_text(fields.text("id"))[0]} if "id" in fields else {}
    return JSONResponse({**answer, **given})


def _after_last(session: TextSession, tokens: NDArray[Any]) -> NDArray[np.float32]:
    rows = []
    for row in tokens:
        with session.sequence() as sequence:
            rows.append(sequence.feed(session._ids(row)))
    return np.stack(rows)


def _model(request: Request, context: Context) -> Model:
    name = request.path_params["name"]
    found = next((model for model in context.models if model.name == name), None)
    if found is None:
        raise Refusal(404, f"there is no model {name[:80]!r}", "model", "model_not_found")
    return found


def _array(fields: Fields, name: str, types: tuple[str, ...]) -> NDArray[Any]:
    """The one input, as an array of its shape. Raises Refusal if it is not one."""
    inputs = fields.raw("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise fields.fail("inputs", f"give one input, named {name}")
    given = Fields(inputs[0], "inputs[0].")
    given.word("name", name, (name,))
    dtype = _TYPES[given.word("datatype", types[0], types)]
    shape, data = given.raw("shape"), given.raw("data")
    if not isinstance(shape, list) or not shape or not all(type(axis) is int and axis >= 0 for axis in shape):
        raise given.fail("shape", "give a list of integers")
    try:
        array = np.array(data).reshape(shape)
        with np.errstate(over="ignore"):
            converted = array.astype(dtype)
        # Numbers must be within their type's range.
        fits = np.isfinite(converted).all() if dtype is np.float32 else np.array_equal(converted, array)
        if array.dtype.kind not in ("iuf" if dtype is np.float32 else "iu") or not fits:
            raise ValueError
        return converted
    except (TypeError, ValueError, OverflowError):
        raise given.fail("data", f"give {given.raw('datatype')} numbers, as many as the shape has") from None


ROUTES = [
    Route("/v2", server),
    Route("/v2/health/live", live),
    Route("/v2/health/ready", ready),
    Route("/v2/models/{name}", describe),
    Route("/v2/models/{name}/ready", ready),
    Route("/v2/models/{name}/infer", infer, methods=["POST"]),
]
