"""What OpenAI's clients send and expect: requests for texts as dataclasses, and answers in JSON."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from onebit.errors import OnebitError
from onebit.runtime.generation import Overflow
from onebit.sampling import Sampling
from onebit.serving.fields import Fields
from onebit.serving.refusal import Refusal
from onebit.serving.settings import Settings

# As many tokens as `onebit generate` writes.
DEFAULT_TOKENS = 200
MOST_STOPS, MOST_STOP_CHARACTERS = 16, 256
MOST_LOGPROBS = 20
_UNKNOWN = ("tools", "functions", "logit_bias", "frequency_penalty", "suffix", "audio")


@dataclass(frozen=True)
class TextRequest:
    """A request for texts.

    Args:
        model: the name of a model, or None for the first.
        prompts: texts or tokens.
        sampling: how tokens are chosen. Text i of all texts has the seed `seed` + i.
        max_tokens: the most tokens of each text.
        stops: the texts that end a text.
        n: how many texts each prompt gets.
        stream: answer piece by piece.
        usage: end a stream with the numbers of tokens.
        logprobs: None, or of how many alternatives the log-probabilities are given besides each token's own.
        echo: begin each text with its prompt.
        overflow: what to do with a full context.
    """

    model: str | None
    prompts: tuple[str | list[int], ...]
    sampling: Sampling
    max_tokens: int
    stops: tuple[str, ...]
    n: int
    stream: bool
    usage: bool
    logprobs: int | None
    echo: bool
    overflow: Overflow


def read_completion(fields: Fields, settings: Settings) -> TextRequest:
    """A request to /v1/completions. Raises Refusal if a field is wrong."""
    echo = fields.flag("echo")
    logprobs = fields.raw("logprobs")
    if isinstance(logprobs, bool):  # as chat has it
        logprobs = 1 if logprobs else None
    elif logprobs is not None:
        logprobs = fields.integer("logprobs", 0, 0, MOST_LOGPROBS)
    prompts = _prompts(fields, settings)
    n = fields.integer("n", 1, 1, max(1, settings.max_texts // len(prompts)))
    if fields.integer("best_of", n, 1, settings.max_texts) != n:
        raise fields.fail("best_of", "this server writes n texts and returns all of them; leave it out")
    return _request(fields, settings, prompts, n, logprobs, echo, "max_tokens", least=0 if echo else 1)


def read_chat(fields: Fields, settings: Settings, prompt: str | list[int]) -> TextRequest:
    """A request to /v1/chat/completions, whose messages are `prompt`. Raises Refusal if a field is wrong."""
    top = fields.integer("top_logprobs", 0, 0, MOST_LOGPROBS)
    logprobs = top if fields.flag("logprobs") else None
    n = fields.integer("n", 1, 1, settings.max_texts)
    if fields.inner("response_format").raw("type", "text") != "text":
        raise fields.fail("response_format", "this server writes plain text only; leave it out")
    limit = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
    return _request(fields, settings, (prompt,), n, logprobs, False, limit, least=1)


def _request(
    fields: Fields,
    settings: Settings,
    prompts: tuple[str | list[int], ...],
    n: int,
    logprobs: int | None,
    echo: bool,
    limit: str,
    least: int,
) -> TextRequest:
    fields.refuse(_UNKNOWN)
    default = Sampling()
    seed = fields.integer("seed", -1, -(1 << 63), (1 << 63) - 1) if "seed" in fields else None
    try:
        sampling = Sampling(
            temperature=fields.number("temperature", default.temperature, 0, 100) or 0.0,
            top_k=fields.integer("top_k", 0, 0, 1 << 24) or None,
            top_p=fields.number("top_p", default.top_p, 0, 1) or 1e-9,
            repetition_penalty=fields.number("repetition_penalty", 1.0, 0.01, 100) or 1.0,
            seed=None if seed is None else seed % (1 << 64),
            min_p=fields.number("min_p", 0.0, 0, 1) or 0.0,
            presence_penalty=fields.number("presence_penalty", 0.0, -100, 100) or 0.0,
        )
    except OnebitError as error:
        raise Refusal(400, str(error)) from None
    stops = fields.texts("stop", MOST_STOPS)
    if not all(0 < len(stop) <= MOST_STOP_CHARACTERS for stop in stops):
        raise Refusal(400, f"stop: give texts of 1 to {MOST_STOP_CHARACTERS} characters", "stop")
    overflow: Overflow = "slide" if fields.word("overflow", "slide", ("slide", "stop")) == "slide" else "stop"
    return TextRequest(
        model=fields.text("model") if "model" in fields else None,
        prompts=prompts,
        sampling=sampling,
        max_tokens=fields.integer(limit, min(DEFAULT_TOKENS, settings.max_tokens), least, settings.max_tokens),
        stops=tuple(stops),
        n=n,
        stream=fields.flag("stream"),
        usage=fields.inner("stream_options").flag("include_usage"),
        logprobs=logprobs,
        echo=echo,
        overflow=overflow,
    )


def _prompts(fields: Fields, settings: Settings) -> tuple[str | list[int], ...]:
    value = fields.raw("prompt", "")
    if isinstance(value, str) or _are_tokens(value):
        return (value,)
    fits = isinstance(value, list) and 1 <= len(value) <= settings.max_texts
    if fits and all(isinstance(prompt, str) or _are_tokens(prompt) for prompt in value):
        return tuple(value)
    needed = f"give a text, a list of tokens, or a list of 1 to {settings.max_texts} of them"
    raise fields.fail("prompt", needed)


def _are_tokens(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(type(token) is int for token in value)


@dataclass(frozen=True)
class TokenScore:
    """A token with its log-probability, and those of the most probable tokens.

    Args:
        logprob: None for the first token of a text that nothing stands before.
        top: (text, bytes, log-probability) of each.
    """

    text: str
    content: bytes
    logprob: float | None
    top: tuple[tuple[str, bytes, float], ...] = ()


@dataclass
class Choice:
    """A text of an answer, as far as it has come."""

    text: str = ""
    scores: list[TokenScore] = field(default_factory=list)
    finish: str | None = None


class TextAnswer:
    """Answers to a request for texts, in OpenAI's shapes.

    Args:
        model: the name of the model.
        chat: whether /v1/chat/completions was asked.
        scored: whether log-probabilities were asked for.
        note: what the client should know; None for nothing.
    """

    def __init__(self, model: str, chat: bool, scored: bool, note: str | None = None) -> None:
        self.chat, self.scored = chat, scored
        kind = ("chat.completion" if chat else "text_completion") + (".chunk" if chat else "")
        self._head: dict[str, Any] = {
            "id": ("chatcmpl-" if chat else "cmpl-") + uuid.uuid4().hex[:24],
            "object": kind,
            "created": int(time.time()),
            "model": model,
        }
        if note:
            self._head["onebit"] = {"note": note}
        self._begun: set[int] = set()
        self._offsets: dict[int, int] = {}
        # Of most events only a text changes.
        start = json.dumps(self._head)[:-1]
        opened = '"delta": {"content": ' if chat else '"text": '
        closed = "}" if chat else ""
        self._before = f'data: {start}, "choices": [{{"index": '
        self._between = f", {opened}"
        self._after = f'{closed}, "logprobs": null, "finish_reason": null}}]}}\n\n'

    def event(self, index: int, text: str, scores: Sequence[TokenScore], finish: str | None) -> bytes:
        """A piece of text `index` as an event of a stream."""
        if not self.scored and finish is None and (index in self._begun or not self.chat):
            return f"{self._before}{index}{self._between}{json.dumps(text)}{self._after}".encode()
        choice: dict[str, Any] = {"index": index}
        if self.chat:
            role = {} if index in self._begun else {"role": "assistant"}
            choice["delta"] = {**role, "content": text} if text or role else {}
        else:
            choice["text"] = text
        self._begun.add(index)
        choice["logprobs"] = self._logprobs(index, scores) if scores else None
        choice["finish_reason"] = finish
        return self._data({**self._head, "choices": [choice]})

    def last_event(self, usage: dict[str, Any]) -> bytes:
        """The event that ends a stream with the numbers of tokens."""
        return self._data({**self._head, "choices": [], "usage": usage})

    @classmethod
    def failure(cls, refusal: Refusal) -> bytes:
        """The event that ends a stream which fails."""
        return cls._data(refusal.to_json())

    @staticmethod
    def _data(value: Any) -> bytes:
        return f"data: {json.dumps(value)}\n\n".encode()

    def whole(self, choices: Sequence[Choice], usage: dict[str, Any]) -> dict[str, Any]:
        """The answer that is not a stream."""
        made = []
        for index, choice in enumerate(choices):
            message = {"role": "assistant", "content": choice.text, "refusal": None}
            made.append(
                {
                    "index": index,
                    **({"message": message} if self.chat else {"text": choice.text}),
                    "logprobs": self._logprobs(index, choice.scores) if self.scored else None,
                    "finish_reason": choice.finish,
                }
            )
        return {**self._head, "object": self._head["object"].removesuffix(".chunk"), "choices": made, "usage": usage}

    def _logprobs(self, index: int, scores: Sequence[TokenScore]) -> dict[str, Any]:
        if self.chat:
            return {"content": [_chat_score(score) for score in scores], "refusal": None}
        offsets = []
        place = self._offsets.get(index, 0)
        for score in scores:
            offsets.append(place)
            place += len(score.text)
        self._offsets[index] = place
        return {
            "tokens": [score.text for score in scores],
            "token_logprobs": [score.logprob for score in scores],
            "top_logprobs": [
                {text: logprob for text, _, logprob in reversed(score.top)} if score.top else None for score in scores
            ],
            "text_offset": offsets,
        }


DONE = b"data: [DONE]\n\n"


def usage(prompt: int, made: int, shared: int) -> dict[str, Any]:
    """The numbers of tokens; `shared` of the prompt's were computed for another text."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": shared},
    }


def _chat_score(score: TokenScore) -> dict[str, Any]:
    def entry(text: str, content: bytes, logprob: float | None) -> dict[str, Any]:
        return {"token": text, "logprob": logprob, "bytes": list(content)}

    return {**entry(score.text, score.content, score.logprob), "top_logprobs": [entry(*top) for top in score.top]}
