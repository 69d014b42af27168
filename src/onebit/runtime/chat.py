"""A chat with an imported language model: its messages, and what the engine has read of them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Unpack

from onebit.chat_template import render
from onebit.errors import DataError
from onebit.runtime.continuation import STREAM_CONTEXT, HeldText
from onebit.runtime.generation import check_length, check_stops, sampling_of
from onebit.runtime.text import TextSession
from onebit.sampling import Sampling, SamplingOptions
from onebit.subwords import AnyTokenizer, SubwordTask, SubwordTokenizer


class Chat:
    """A chat. What a prompt shares with the one before it is not computed again.

    Args:
        session: a model with a template for chats.
        system: what the model is told first; empty for the template's own.

    Raises:
        DataError: the model has no template.

    messages: all of them, each with a role and a content.
    """

    def __init__(self, session: TextSession, system: str = "") -> None:
        task = session.task
        if not isinstance(task, SubwordTask) or task.chat_template is None:
            raise DataError("[chat] this model has no template for chats: use onebit generate")
        self.session, self._template = session, task.chat_template
        self._system = system
        self._sequence = session.sequence()
        self._read: list[int] = []
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
        chosen, held = sampling_of(sampling, options), HeldText(check_stops(stop))
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
            written = self._written(tokens, max_new_tokens, chosen)
            for _, piece in self.session.tokenizer.stream(written, tokens[-STREAM_CONTEXT:]):
                said.append(held.add(piece))
                yield said[-1]
                if held.stopped:
                    break
            if held.text:
                said.append(held.text)
                yield held.text
        finally:
            self.messages.append({"role": "assistant", "content": "".join(said)})

    def _prompt(self, room: int) -> list[int]:
        """The tokens of all messages. The oldest but the system's are forgotten where they leave too little room."""
        while True:
            ids = prompt_tokens(self._template, self.messages, self.session.tokenizer)
            if len(ids) + min(room, self.session.context // 2) <= self.session.context:
                return ids
            first = 1 if self.messages[0]["role"] == "system" else 0
            if len(self.messages) - first < 3:
                raise DataError(
                    f"[chat] the message has {len(ids)} tokens, the context {self.session.context}: shorten it"
                )
            del self.messages[first : first + 2]

    def _written(self, tokens: list[int], most: int, sampling: Sampling) -> Generator[int]:
        """The tokens of an answer."""
        shared = 0
        while shared < min(len(self._read), len(tokens) - 1) and self._read[shared] == tokens[shared]:
            shared += 1
        self._sequence.cut(shared)
        new, self._read = tokens[shared:], tokens[:shared]
        random, past = sampling.chance(), list(tokens)
        for _ in range(min(most, self.session.context - len(tokens))):
            logits = self._sequence.feed(new)
            self._read += new
            token = sampling.choose(logits, past, random, self.session.never, len(past) - len(tokens))
            if token in self.session.tokenizer.ends:
                return
            past.append(token)
            new = [token]
            yield token

    def close(self) -> None:
        """Free what the engine keeps of the chat."""
        self._sequence.close()


def prompt_tokens(template: str, messages: Sequence[Mapping[str, str]], tokenizer: AnyTokenizer) -> list[int]:
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
