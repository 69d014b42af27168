"""One text that a request wants written: what the worker knows of it, and the events that it sends back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.runtime.continuation import STREAM_CONTEXT, Continuation, HeldText
from onebit.runtime.text import TextSession
from onebit.serving.openai import TextRequest, TokenScore
from onebit.serving.refusal import Refusal
from onebit.subwords import AnyTokenizer


@dataclass(slots=True)
class Event:
    """News of a text: a piece of it, and why it ended, or the failure that ended it."""

    job: Job
    text: str = ""
    scores: tuple[TokenScore, ...] = ()
    finish: str | None = None
    failure: Refusal | None = None


@dataclass(eq=False)
class Job:
    """A text to write.

    Args:
        index: its place in its request.
        text: its tokens, and how further ones are chosen.
        logprobs: see `TextRequest`.
        echo: begin with the prompt.
        held: holds back what may begin a stop text.
        send: takes its events, in the thread of the server's loop.
        lead: how many of its tokens stand before the client's.
        deadline: when it is ended, on the clock of `time.monotonic`.
    """

    index: int
    text: Continuation
    tokenizer: AnyTokenizer
    logprobs: int | None
    echo: bool
    held: HeldText
    send: Callable[[Event], None]
    deadline: float
    lead: int
    prompt_tokens: int = 0
    shared: int = 0  # tokens of the prompt that were computed for another text
    fed: int = 0  # tokens of `text.pending` that the engine has
    cancelled: bool = False  # set by the server's thread
    over: bool = False  # the worker has ended it
    sent: int = 0  # tokens that the worker has made events of
    read: int = 0  # those of them that the server's thread has sent on
    began: float = field(default_factory=time.perf_counter)
    last: float = 0.0  # when its last token was made
    _latest: int = -1

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.text.tokens)
        self._prompt = tuple(self.text.tokens)
        self._pieces = self.tokenizer.stream(self._tokens(), self._prompt[-STREAM_CONTEXT:])

    def _tokens(self) -> Iterator[int]:
        while True:
            yield self._latest

    @property
    def unread(self) -> int:
        """Tokens that its client has not taken."""
        return self.sent - self.read

    @property
    def reading(self) -> bool:
        """Whether more than one token of it waits for the engine: its prompt, or the newer half of a full context."""
        return len(self.text.pending) - self.fed > 1

    @property
    def in_engine(self) -> tuple[int, ...]:
        """The tokens that its sequence in the engine holds."""
        text = self.text
        # All that the engine has seen stands directly before what is pending.
        end = len(text.tokens) - len(text.pending)
        return tuple(text.tokens[end - text.seen : end + self.fed])

    @property
    def scores_prompt(self) -> bool:
        """Whether the logits after each token of the prompt are needed."""
        return self.echo and self.logprobs is not None and not self.text.made and len(self._prompt) > self.lead

    def begin(self) -> Event | None:
        """The echo of a prompt without scores."""
        if self.echo and not self.scores_prompt:
            return Event(self, self.tokenizer.decode(self._prompt[self.lead :]))
        return None

    def prompt_event(self, logits: NDArray[np.float32], first: int) -> Event:
        """The echo of the tokens after prompt tokens `first` and on, with their log-probabilities; `logits` (tokens, vocabulary)."""
        scores = []
        if first == self.lead == 0:  # nothing stands before the first token, so nothing tells its probability
            piece = self.tokenizer.decode(self._prompt[:1])
            scores.append(TokenScore(piece, self.tokenizer.token_bytes(self._prompt[0]), None))
        for row, place in zip(logits, range(first + 1, len(self._prompt)), strict=False):
            if place < self.lead:
                continue
            piece = self.tokenizer.decode(self._prompt[place : place + 1])
            scores.append(score_of(self.tokenizer, row, self._prompt[place], self.logprobs or 0, piece))
        return Event(self, "".join(score.text for score in scores), tuple(scores))

    def accept(self, token: int, logits: NDArray[np.float32]) -> tuple[Event, bool]:
        """Take the token that was chosen from `logits`. Returns its event, and whether the engine has to forget the sequence's tokens."""
        text = self.text
        self.fed = 0
        if token in self.tokenizer.ends:
            text.finish = "stop"
            return Event(self, self.held.text, finish="stop"), False
        forget = text.take(token)
        self._latest = token
        piece = next(self._pieces)[1]
        ready = self.held.add(piece)
        scores: tuple[TokenScore, ...] = ()
        if self.logprobs is not None and not self.held.stopped:
            scores = (score_of(self.tokenizer, logits, token, self.logprobs, piece),)
        if self.held.stopped:
            text.finish = "stop"
        elif text.finish:
            ready += self.held.text
        return Event(self, ready, scores, text.finish or None), forget


def jobs_of(request: TextRequest, session: TextSession, send: Callable[[Event], None], deadline: float) -> list[Job]:
    """The texts of a request. Raises Refusal if a prompt does not fit."""
    jobs = []
    prompts = [_tokens_of(prompt, session) for prompt in request.prompts]
    for index in range(len(prompts) * request.n):
        tokens = prompts[index // request.n]
        lead = len(session.tokenizer.starts) or int(
            not request.prompts[index // request.n]
        )  # an empty text follows a separator
        try:
            text = session.continuation(tokens, request.sampling, index, request.max_tokens, request.overflow)
        except OnebitError as error:
            raise Refusal(400, str(error), "prompt", "context_length_exceeded") from None
        held = HeldText(request.stops)
        job = Job(index, text, session.tokenizer, request.logprobs, request.echo, held, send, deadline, lead)
        if job.scores_prompt and len(text.tokens) > session.context:
            message = f"echo with logprobs: the prompt has {len(text.tokens)} tokens, the model's context is {session.context}: shorten it"
            raise Refusal(400, message, "prompt", "context_length_exceeded")
        jobs.append(job)
    return jobs


def _tokens_of(prompt: str | list[int], session: TextSession) -> list[int]:
    """The tokens of a prompt. Raises Refusal if one is out of range."""
    tokenizer = session.tokenizer
    if isinstance(prompt, str):
        return [*tokenizer.starts, *tokenizer.encode(prompt)] or [tokenizer.separator]
    try:
        return [*tokenizer.starts, *session._ids(prompt).tolist()]
    except OnebitError as error:
        raise Refusal(400, str(error), "prompt", "invalid_token") from None


def score_of(tokenizer: AnyTokenizer, logits: NDArray[np.float32], token: int, top: int, piece: str) -> TokenScore:
    """The log-probability of a token, and those of the `top` most probable ones."""
    logprobs = logits.astype(np.float64)
    logprobs -= logprobs.max()
    logprobs -= np.log(np.exp(logprobs).sum())
    best = np.argsort(-logprobs, kind="stable")[:top] if top else ()
    named = tuple((*_named(tokenizer, int(other)), float(logprobs[other])) for other in best)
    return TokenScore(piece, tokenizer.token_bytes(token), float(logprobs[token]), named)


def _named(tokenizer: AnyTokenizer, token: int) -> tuple[str, bytes]:
    content = tokenizer.token_bytes(token)
    return content.decode("utf-8", "replace"), content
