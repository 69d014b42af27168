"""Routes for image networks: classification as Hugging Face answers it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from onebit.errors import DataError
from onebit.image_task import ImageTask
from onebit.images import decode_image
from onebit.runtime.session import softmax
from onebit.serving.context import Context, context_of
from onebit.serving.fields import Fields, read_json
from onebit.serving.image_worker import ImageWorker
from onebit.serving.refusal import Refusal

# Decoding takes up to 16 bytes of memory for each pixel: so many images are decoded at once.
_DECODERS = 2
_decoding = asyncio.Semaphore(_DECODERS)


async def classify(request: Request) -> JSONResponse:
    """POST /v1/classify: an image as the body, as a part of a form, or in JSON; labels with scores.

    Several images, as parts of a form or as a list in JSON, give a list of such answers.
    """
    context = context_of(request)
    contents, fields, several = await _images(request, context)
    model = context.models.find(fields.text("model") if "model" in fields else None, writes=False)
    parameters = fields.inner("parameters")
    source = parameters if "top_k" in parameters else fields
    top = source.integer("top_k", 5, 1, 1 << 20)
    worker = await context.models.image_worker(model)
    task = worker.session.task
    if task is None:
        raise Refusal(400, f"the model {model.name} has no labels: use /v2/models/{model.name}/infer", "model")
    worker.expected += 1
    try:
        answers = await _classified(worker, task, contents, top, context.settings.max_pixels * 1_000_000)
    finally:
        worker.expected -= 1
    return JSONResponse(answers if several else answers[0])


async def _classified(
    worker: ImageWorker, task: ImageTask, contents: list[bytes], top: int, most_pixels: int
) -> list[list[dict[str, Any]]]:
    pixels = await asyncio.gather(*(_decode(content, task, most_pixels) for content in contents))
    logits = await worker.logits(np.stack(pixels))
    answers = []
    for row in softmax(logits):
        best = np.argsort(-row, kind="stable")[:top]
        answers.append([{"label": task.labels[place], "score": float(row[place])} for place in best])
    return answers


async def _decode(content: bytes, task: ImageTask, most_pixels: int) -> NDArray[np.uint8]:
    async with _decoding:
        return await asyncio.to_thread(pixels_of, content, task, most_pixels)


def pixels_of(content: bytes, task: ImageTask, most_pixels: int) -> NDArray[np.uint8]:
    """The pixels of an image file in a model's size. Raises Refusal if it is not an image, or has too many pixels."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except Exception:
        raise Refusal(
            400, "the image is not one that can be read: send JPEG, PNG, WebP, BMP, GIF or TIFF", "image"
        ) from None
    if width * height > most_pixels:
        raise Refusal(413, f"the image has {width}x{height} pixels: at most {most_pixels} are allowed", "image")
    try:
        return decode_image(io.BytesIO(content), task.image_size, task.channels)
    except DataError as error:
        raise Refusal(400, str(error), "image") from None


async def _images(request: Request, context: Context) -> tuple[list[bytes], Fields, bool]:
    """The images of a request, its other fields, and whether the answer is a list of answers."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    query = Fields(dict(request.query_params))
    most = context.settings.max_texts
    if kind == "multipart/form-data":
        return await _form(request, most)
    if kind in ("application/json", "text/json"):
        fields = read_json(await request.body())
        inputs = fields.raw("inputs")
        several = isinstance(inputs, list)
        texts = inputs if isinstance(inputs, list) else [inputs]
        if not 1 <= len(texts) <= most or not all(isinstance(text, str) for text in texts):
            raise fields.fail("inputs", f"give an image in base64, or a list of 1 to {most}")
        return [_bytes(text) for text in texts], fields, several
    body = await request.body()
    if not body:
        raise Refusal(400, "the body is empty: send an image", "image")
    values: dict[str, Any] = {"model": query.raw("model")}
    if "top_k" in query:
        values["top_k"] = _whole(query.text("top_k"))
    return [body], Fields(values), False


async def _form(request: Request, most: int) -> tuple[list[bytes], Fields, bool]:
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException

    contents, values = [], dict[str, Any]()
    try:
        async with request.form(max_files=most, max_fields=16, max_part_size=64 << 10) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    contents.append(await value.read())
                else:
                    values[name] = _whole(value) if name == "top_k" else value
    except HTTPException as error:
        raise Refusal(400, f"the form cannot be read: {error.detail}") from None
    if not contents:
        raise Refusal(400, "the form has no file: send one or more images", "image")
    return contents, Fields(values), len(contents) > 1


def _whole(text: str) -> int | str:
    """A number that came as a text; what is none is refused where it is read."""
    return int(text) if text.isdecimal() and len(text) <= 9 else text


def _bytes(text: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, "inputs: not an image in base64", "inputs") from None


ROUTES = [Route("/v1/classify", classify, methods=["POST"])]
