"""A packed language model in the engine, which generates and scores text."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from onebit.errors import DataError, FormatError, OnebitError
from onebit.fileformat import PackedModel
from onebit.metrics import nats_of
from onebit.runtime.chat import Messages, answer_pieces, chat_tokens
from onebit.runtime.continuation import STREAM_CONTEXT, Continuation, HeldText
from onebit.runtime.generation import (
    Overflow,
    Written,
    check_length,
    check_stops,
    not_empty,
    sampling_of,
    valid_prompt,
    valid_prompts,
)
from onebit.runtime.prompt_cache import PromptCache
from onebit.runtime.saved_state import SavedState, fingerprint, read_state, write_state
from onebit.runtime.session import MEMORY_CAP, Cache, Precision, Session, decoder_of, engine_options, on_gpu
from onebit.runtime.threads import ThreadPool
from onebit.runtime.token_sequence import TokenSequence
from onebit.sampling import Sampling, SamplingOptions, choose_each
from onebit.subwords import text_task, tokenizer_for


class TextSession(Session):
    """A packed language model in the engine. `onebit.load` returns it.

    Args:
        model: a packed model with a task of the kind "text-generation" or "language-model".
        precision, threads, isa, cache, memory_cap, pin_threads, device: see `onebit.load`.

    Raises:
        FormatError: the task has another kind.

    Several threads may share a session. Each text has its own KV cache.

    prompt_cache: keeps the last chat for the next one; `clear` frees its memory.
    """

    def __init__(
        self,
        model: PackedModel,
        precision: Precision = "int8",
        threads: int | ThreadPool | None = None,
        isa: str | None = None,
        cache: Cache | None = None,
        memory_cap: int = MEMORY_CAP,
        pin_threads: bool = False,
        device: str = "cpu",
    ) -> None:
        options = engine_options(precision, threads, isa, memory_cap, pin_threads)
        if cache is not None and (not isinstance(cache, str) or cache not in ("bf16", "int8")):
            raise OnebitError(f"[load] cache={cache!r}: use 'bf16' or 'int8'")
        if cache is not None and precision == "float32":
            raise OnebitError(
                f"[load] cache={cache!r}: precision='float32' keeps its cache in float32: leave cache out, or use precision='int8'"
            )
        self.task = text_task(model.task)
        self.tokenizer = tokenizer_for(self.task)
        if on_gpu(device):
            if cache == "int8":
                raise OnebitError("[load] cache='int8': a GPU keeps keys and values in bf16: leave cache out")
            # Imported here because only a GPU needs PyTorch.
            from onebit.gpu.engine import GpuDecoder

            self._engine = GpuDecoder(model, precision, device)
        else:
            self._engine = decoder_of(model, options, cache)
        self.program = model.program
        self.context = self._engine.context
        # Some models have more outputs than tokens.
        self.vocabulary = model.shapes[model.program.output][-1]
        self.prompt_cache = PromptCache(self.sequence)
        self._fits = {"model": fingerprint(model), "precision": self.precision, "cache": self.cache}
        self.never = (*self.tokenizer.never, *range(self.tokenizer.size, self.vocabulary))

    @property
    def cache(self) -> str:
        """The number type of the KV cache: ``"bf16"``, ``"int8"``, or ``"float32"`` with that precision."""
        return str(self._engine.cache)

    def logits(self, tokens: Sequence[int], one_by_one: bool = False) -> NDArray[np.float32]:
        """The logits of the next token after each given token.

        Args:
            tokens: ids, at most `context`.
            one_by_one: compute them token by token with the KV cache, as generation does, instead of in one pass.

        Returns:
            float32 (tokens, vocabulary).

        Raises:
            DataError: there are no tokens or too many, or one is out of range.
        """
        ids = self._ids(tokens)
        if not 1 <= len(ids) <= self.context:
            raise DataError(f"[logits] {len(ids)} tokens: give 1 to {self.context}")
        with self.sequence() as sequence:
            if one_by_one:
                return np.stack([sequence.feed(ids[i : i + 1]) for i in range(len(ids))])
            return sequence.feed(ids, all=True)

    def save_state(self, path: str | Path, messages: Messages = ()) -> int:
        """Save the last chat with the KV cache of its tokens, so that another process can go on without computing them again.

        Args:
            path: the file.
            messages: of the chat, for `load_state` to return.

        Returns:
            The file's size in bytes.

        Raises:
            DataError: there was no chat yet.
            OSError: the file cannot be written.
        """
        kept = self.prompt_cache.saved()
        if kept is None:
            raise DataError("[state] there is no chat to save: answer messages with session.chat first")
        tokens, memory = kept
        state = SavedState(
            np.asarray(tokens, np.int32),
            memory,
            [{key: message[key] for key in ("role", "content")} for message in messages],
        )
        return write_state(path, state, self._fits)

    def load_state(self, path: str | Path) -> list[dict[str, str]]:
        """Take up a chat that `save_state` wrote: the next messages compute only what they do not share with it.

        Returns:
            The messages that were given to `save_state`.

        Raises:
            FormatError: the file is missing or damaged, or is one of another model, precision or cache.
        """
        state = read_state(path, self._fits)
        try:
            tokens = self._ids(state.tokens)
            sequence = TokenSequence(self._engine, self._ids, (len(tokens), state.memory))
        except ValueError as error:
            raise FormatError(f"[{path}] damaged: {error}; start a new session") from None
        self.prompt_cache.keep(sequence, tokens.tolist())
        return state.messages

    def sequence(self) -> TokenSequence:
        """An empty text, to be fed with tokens."""
        return TokenSequence(self._engine, self._ids)

    def generate(
        self,
        prompt: str = "",
        max_new_tokens: int = 200,
        sampling: Sampling | float | None = None,
        *,
        stop: str | Sequence[str] | None = None,
        overflow: Overflow = "slide",
        **options: Unpack[SamplingOptions],
    ) -> Iterator[str]:
        """Continue a prompt, piece by piece.

        Args:
            prompt: the text to continue; empty for a new text. Lone surrogates in it become U+FFFD, with a warning.
            max_new_tokens: the most tokens to write.
            sampling: how to choose tokens: an `onebit.Sampling`, only its temperature, or None for its defaults.
            stop: one or several texts that end generation. They are not part of the result.
            overflow: what to do with a full context: "slide" forgets the older half and continues, "stop" ends. "slide" cuts the beginning of a
                prompt that is longer than the context; "stop" refuses it.
            options: single fields of `sampling`: temperature (0 is greedy), top_k, top_p, min_p, repetition_penalty,
                presence_penalty, seed.

        Yields:
            Pieces of text with whole characters. A token that does not complete a character gives no piece. The model may also end the text.

        Raises:
            OnebitError: an argument is out of range.
            DataError: the prompt is longer than the context and must not be cut.

        Example:
            >>> pieces = onebit.load("books").generate("Once upon", max_new_tokens=50)
            >>> next(pieces)
            '...'
            >>> text = "".join(pieces)
        """
        prompt = valid_prompt(prompt, "generate")
        return not_empty(
            self.generate_pieces(prompt, max_new_tokens, sampling, stop=stop, overflow=overflow, **options)
        )

    def write(
        self,
        prompt: str = "",
        max_new_tokens: int = 200,
        sampling: Sampling | float | None = None,
        *,
        stop: str | Sequence[str] | None = None,
        overflow: Overflow = "slide",
        **options: Unpack[SamplingOptions],
    ) -> Written:
        """Continue a prompt to the end. Returns the text, its tokens and their times. See `generate`.

        Example:
            >>> onebit.load("books").write("It was", 5).to_dict()["new_tokens"]
            5
        """
        start, prompt = time.perf_counter(), valid_prompt(prompt, "generate")
        pieces = self.generate_pieces(prompt, max_new_tokens, sampling, stop=stop, overflow=overflow, **options)
        return self._collected(start, prompt, len(self.tokenizer.encode(prompt)), pieces)

    def _collected(
        self, start: float, prompt: str, prompt_tokens: int, pieces: Iterable[tuple[list[int], str]], shared: int = 0
    ) -> Written:
        tokens: list[int] = []
        texts, times = [], []
        for new, piece in pieces:
            tokens += new
            texts.append(piece)
            times.append(time.perf_counter() - start)
        return Written(
            prompt=prompt,
            text="".join(texts),
            prompt_tokens=prompt_tokens,
            tokens=tuple(tokens),
            first_token_ms=1e3 * times[0] if times else None,
            seconds=times[-1] if times else 0.0,
            precision=self.precision,
            cache=self.cache,
            threads=self.threads,
            shared_tokens=shared,
        )

    def chat(
        self,
        messages: Messages,
        max_new_tokens: int = 500,
        sampling: Sampling | float | None = None,
        *,
        stop: str | Sequence[str] | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[str]:
        """Answer the messages of a chat, piece by piece, by the model's own template.

        The session keeps its last chat in the engine: what the next messages share with it is not computed again.

        Args:
            messages: dicts with the texts `role` ("system", "user" or "assistant") and `content`, the oldest first.
            max_new_tokens, sampling, stop, options: as for `generate`.

        Yields:
            Pieces of the answer, as `generate` does. The answer ends with the model's own end token, a stop text, or a full context.

        Raises:
            OnebitError: an argument is out of range.
            DataError: the model has no template for chats, it refuses the messages, or they do not fit in the context.

        Example:
            >>> session = onebit.load("smol.onebit", precision="float32")  # doctest: +SKIP
            >>> print(*session.chat([{"role": "user", "content": "Who wrote Hamlet?"}], temperature=0), sep="")  # doctest: +SKIP
        """
        chosen, stops = sampling_of(sampling, options), check_stops(stop)
        check_length(max_new_tokens, "stop")
        return not_empty(answer_pieces(self, chat_tokens(self, messages), max_new_tokens, chosen, stops))

    def write_chat(
        self,
        messages: Messages,
        max_new_tokens: int = 500,
        sampling: Sampling | float | None = None,
        *,
        stop: str | Sequence[str] | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Written:
        """Answer the messages of a chat to the end. Returns the text, its tokens and their times. See `chat`."""
        chosen, stops = sampling_of(sampling, options), check_stops(stop)
        check_length(max_new_tokens, "stop")
        start, tokens = time.perf_counter(), chat_tokens(self, messages)
        shared = self.prompt_cache.shared(tokens)
        pieces = answer_pieces(self, tokens, max_new_tokens, chosen, stops)
        return self._collected(start, self.tokenizer.decode(tokens), len(tokens), pieces, shared)

    def generate_pieces(
        self,
        prompt: str = "",
        max_new_tokens: int = 200,
        sampling: Sampling | float | None = None,
        *,
        stop: str | Sequence[str] | None = None,
        overflow: Overflow = "slide",
        **options: Unpack[SamplingOptions],
    ) -> Generator[tuple[list[int], str]]:
        """As `generate`, but each piece comes with the new tokens since the last piece, and may be empty."""
        chosen, stops = sampling_of(sampling, options), check_stops(stop)
        check_length(max_new_tokens, overflow)
        text = self.continuation(valid_prompt(prompt, "generate"), chosen, 0, max_new_tokens, overflow)
        return self._stream(text, stops)

    def generate_tokens(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = 200,
        sampling: Sampling | float | None = None,
        *,
        overflow: Overflow = "slide",
        **options: Unpack[SamplingOptions],
    ) -> Iterator[tuple[int, int]]:
        """Continue several prompts at once. Each pass through the weights serves all of them.

        Args: as for `generate`.

        Yields:
            (index of the prompt, token), as they are made. Each text has the same tokens as alone with the seed `seed` + index.
        """
        chosen = sampling_of(sampling, options)
        check_length(max_new_tokens, overflow)
        texts = [
            self.continuation(prompt, chosen, index, max_new_tokens, overflow)
            for index, prompt in enumerate(valid_prompts(prompts))
        ]
        return self._write(texts)

    def generate_batch(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = 200,
        sampling: Sampling | float | None = None,
        *,
        overflow: Overflow = "slide",
        **options: Unpack[SamplingOptions],
    ) -> list[str]:
        """The texts of `generate_tokens`, each without its prompt."""
        prompts = valid_prompts(prompts)
        made: list[list[int]] = [[] for _ in prompts]
        for index, token in self.generate_tokens(prompts, max_new_tokens, sampling, overflow=overflow, **options):
            made[index].append(token)
        starts = [self._prompt_ids(prompt)[-STREAM_CONTEXT:] for prompt in prompts]
        return [
            "".join(piece for _, piece in self.tokenizer.stream(tokens, start))
            for tokens, start in zip(made, starts, strict=True)
        ]

    def score(self, text: str) -> list[tuple[str, float]]:
        """The log-probability of each token of a text, given the text before it.

        Args:
            text: a text of any length. Beyond the context, each token's probability depends on at least half a context before it. Lone
                surrogates in it become U+FFFD, with a warning.

        Returns:
            (piece of the text, natural logarithm of its probability) for each token. A piece is empty if its token ends inside a character. The
            first token follows a separator.
        """
        ids = self.tokenizer.encode(valid_prompt(text, "score"))
        scores = self.score_tokens(ids)
        return [(piece, float(p)) for (_, piece), p in zip(self.tokenizer.stream(ids), scores, strict=True)]

    def score_tokens(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """`score` for ids: the log-probability of each, float32 (tokens,)."""
        ids = np.concatenate([[self.tokenizer.separator], self._ids(tokens)]).astype(np.int32)
        scores = np.empty(len(ids) - 1, np.float32)
        step = max(1, self.context // 2)
        done = 0
        while done < len(scores):
            first = max(0, done - step) if done else 0
            last = min(len(scores), first + self.context)
            logits = self.logits(ids[first:last].tolist())[done - first :]
            scores[done:last] = -nats_of(logits, ids[done + 1 : last + 1].astype(np.int64))[0]
            done = last
        return scores

    def _ids(self, tokens: Sequence[int] | NDArray[Any]) -> NDArray[np.int32]:
        try:
            ids = np.asarray(tokens)
        except ValueError:  # lists of several lengths
            raise DataError("[tokens] a list contains lists: give a list of token ids") from None
        if ids.size == 0:
            ids = ids.astype(np.int64)
        if ids.dtype.kind not in "iu":
            raise DataError(f"[tokens] the values are {ids.dtype}: give a list of token ids, which are integers")
        if ids.ndim != 1:
            raise DataError(f"[tokens] the array has the shape {ids.shape}: give a list of token ids")
        if len(ids) and not 0 <= ids.min() <= ids.max() < self.vocabulary:
            wrong = int(ids.min() if ids.min() < 0 else ids.max())
            raise DataError(f"[tokens] token {wrong} is out of range: use 0 to {self.vocabulary - 1}")
        return ids.astype(np.int32)

    def _prompt_ids(self, prompt: str) -> list[int]:
        # As in training: in models of our own a text follows a separator.
        return [*self.tokenizer.starts, *self.tokenizer.encode(prompt)] or [self.tokenizer.separator]

    def continuation(
        self, prompt: str | Sequence[int], sampling: Sampling, index: int, max_new_tokens: int, overflow: Overflow
    ) -> Continuation:
        """A text that is to be continued, which no sequence of the engine has yet. `index`: its place among texts that are written at once.

        Raises:
            DataError: the prompt is longer than the context and must not be cut, or has tokens that are out of range.
        """
        ids = self._prompt_ids(prompt) if isinstance(prompt, str) else self._ids(prompt).tolist()
        if len(ids) > self.context and overflow == "stop":
            raise DataError(
                f"[generate] the prompt has {len(ids)} tokens, the model's context is {self.context}: shorten it, or use overflow='slide'"
            )
        return Continuation(
            ids, ids[-self.context :], sampling, sampling.chance(index), max_new_tokens, overflow, self.context
        )

    def _write(self, texts: Sequence[Continuation]) -> Generator[tuple[int, int]]:
        """The tokens of several texts, one of each in every pass, each with the index of its text."""
        try:
            for text in texts:
                text.sequence = self._engine.open()
            while active := [(index, text) for index, text in enumerate(texts) if not text.finish]:
                tokens = np.asarray([token for _, text in active for token in text.pending], np.int32)
                logits = self._engine.extend(
                    [text.sequence for _, text in active], [len(text.pending) for _, text in active], tokens
                )
                chosen = choose_each(logits, [(t.sampling, t.tokens, t.random, t.made) for _, t in active], self.never)
                for (index, text), token in zip(active, chosen, strict=True):
                    if token in self.tokenizer.ends:
                        text.finish = "stop"
                        continue
                    if text.take(token):
                        self._engine.cut(text.sequence, 0)
                    yield index, token
        finally:
            for text in texts:
                if text.sequence >= 0:
                    self._engine.close(text.sequence)

    def _stream(self, text: Continuation, stops: tuple[str, ...]) -> Generator[tuple[list[int], str]]:
        held = HeldText(stops)
        with closing(self._write([text])) as made:
            for token, piece in self.tokenizer.stream((token for _, token in made), text.tokens[-STREAM_CONTEXT:]):
                yield [token], held.add(piece)
                if held.stopped:
                    return
        if held.text:
            yield [], held.text
