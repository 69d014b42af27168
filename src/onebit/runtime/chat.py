"""Chats with an imported language model: messages through its template, and answers as they are written."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Unpack

from onebit.chat_template import render
from onebit.errors import DataError, shown
from onebit.runtime.continuation import STREAM_CONTEXT, HeldText
from onebit.runtime.generation import check_length, check_stops, sampling_of
from onebit.sampling import Sampling, SamplingOptions
from onebit.subwords import AnyTokenizer, SubwordTask, SubwordTokenizer

if TYPE_CHECKING:
    from onebit.runtime.text import TextSession

Messages = Sequence[Mapping[str, str]]


class Chat:
    """A chat that keeps its messages. What a prompt shares with the one before it is not computed again.

    Args:
        session: a model with a template for chats.
        system: what the model is told first; empty for the template's own.

    Raises:
        DataError: the model has no template.

    messages: all of them, each with a role and a content.
    """

    def __init__(self, session: TextSession, system: str = "") -> None:
        template_of(session)
        self.session = session
        self._system = system
        self.reset()

    def reset(self) -> None:
        """Forget all messages but the system's."""
        self.messages: list[dict[str, str]] = [{"role": "system", "content": self._system}] if self._system else []

    def answer(
        self,
        text: str,
        max_new_tokens: int = 500,
        sampling: Sampling | float | None = None,
        *,
        stop: str | Sequence[str] | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Generator[str]:
        """Answer a message, piece by piece. An answer that is not read to its end stays in `messages` as far as it was read.

        Args:
            text: the user's message.
            max_new_tokens: the most tokens of the answer.
            sampling, stop, options: see `TextSession.generate`.

        Raises:
            OnebitError: an argument is out of range, or the template or the message does not fit.
        """
        chosen, stops = sampling_of(sampling, options), check_stops(stop)
        check_length(max_new_tokens, "stop")
        before = list(self.messages)
        self.messages.append({"role": "user", "content": text})
        said: list[str] = []
        try:
            tokens = self._prompt(max_new_tokens)
        except DataError:
            self.messages = before
            raise
        try:
            with closing(answer_pieces(self.session, tokens, max_new_tokens, chosen, stops)) as pieces:
                for _, piece in pieces:
                    said.append(piece)
                    yield piece
        finally:
            self.messages.append({"role": "assistant", "content": "".join(said)})

    def _prompt(self, room: int) -> list[int]:
        """The tokens of all messages. The oldest but the system's are forgotten where they leave too little room."""
        while True:
            ids = prompt_tokens(template_of(self.session), self.messages, self.session.tokenizer)
            if len(ids) + min(room, self.session.context // 2) <= self.session.context:
                return ids
            first = 1 if self.messages[0]["role"] == "system" else 0
            if len(self.messages) - first < 3:
                raise DataError(
                    f"[chat] the message has {len(ids)} tokens, the context {self.session.context}: shorten it"
                )
            del self.messages[first : first + 2]


def template_of(session: TextSession) -> str:
    """The template of a session's model. Raises DataError if it has none."""
    task = session.task
    if not isinstance(task, SubwordTask) or task.chat_template is None:
        raise DataError("[chat] this model has no template for chats: use onebit generate")
    return task.chat_template


def chat_tokens(session: TextSession, messages: Messages) -> list[int]:
    """The tokens of a chat's messages, which leave room for an answer. Raises DataError if they do not fit."""
    template = template_of(session)
    ids = prompt_tokens(template, _checked(messages), session.tokenizer)
    if len(ids) >= session.context:
        raise DataError(
            f"[chat] the messages have {len(ids)} tokens, the context {session.context}: leave out the oldest ones"
        )
    return ids


def _checked(messages: Messages) -> Messages:
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise DataError(f"[chat] messages={shown(messages)}: give a list of messages, each with role and content")
    for place, message in enumerate(messages):
        fits = isinstance(message, Mapping) and all(isinstance(message.get(key), str) for key in ("role", "content"))
        if not fits:
            raise DataError(f"[chat] message {place} is {shown(message)}: give a dict with the texts role and content")
    return messages


def answer_pieces(
    session: TextSession, tokens: Sequence[int], most: int, sampling: Sampling, stops: Sequence[str]
) -> Generator[tuple[list[int], str]]:
    """The pieces of an answer to the tokens of a prompt, each with its new tokens. A piece may be empty."""
    held = HeldText(stops)
    with closing(_written(session, tokens, most, sampling)) as made:
        for token, piece in session.tokenizer.stream(made, list(tokens[-STREAM_CONTEXT:])):
            yield [token], held.add(piece)
            if held.stopped:
                return
    if held.text:
        yield [], held.text


def _written(session: TextSession, tokens: Sequence[int], most: int, sampling: Sampling) -> Generator[int]:
    """The tokens of an answer."""
    sequence = session.prompt_cache.take(tokens)
    past, read, random = list(tokens), len(sequence), sampling.chance()
    try:
        for _ in range(min(most, session.context - len(tokens))):
            logits = sequence.feed(past[read:])
            read = len(past)
            token = sampling.choose(logits, past, random, session.never, len(past) - len(tokens))
            if token in session.tokenizer.ends:
                return
            past.append(token)
            yield token
    finally:
        session.prompt_cache.keep(sequence, past[:read])


def prompt_tokens(template: str, messages: Messages, tokenizer: AnyTokenizer) -> list[int]:
    """The tokens of messages in a template. Those that begin every text are there once, whether the template writes them or not.

    Raises:
        DataError: as for `onebit.chat_template.render`.
    """
    starts = list(tokenizer.starts)
    names = {}
    if isinstance(tokenizer, SubwordTokenizer):
        names["bos_token"] = "".join(tokenizer.decode([token]) for token in starts)
        names["eos_token"] = tokenizer.decode(tokenizer.task.ends[:1])
    ids = tokenizer.encode(render(template, messages, names))
    return ids if ids[: len(starts)] == starts else [*starts, *ids]
