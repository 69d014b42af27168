"""The thread that owns a language model: each pass through the weights serves all texts that are being written."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.runtime.text import TextSession
from onebit.sampling import choose_each
from onebit.serving.job import Event, Job
from onebit.serving.metrics import Metrics
from onebit.serving.pacing import Pacing
from onebit.serving.prefixes import LEAST_SHARED, Prefixes, common
from onebit.serving.refusal import Refusal
from onebit.serving.worker import Worker

# Tokens of prompts in a turn: other texts wait for one at most.
CHUNK = 64
# Texts in a pass for each thread of the engine. So many rows keep a thread busy for longer than weights of few bits take to arrive. With more
# texts nothing is won, and their keys and values leave the cache from one token to the next.
TEXTS_AT_ONCE = 8
# Events that a client may leave unread. Its text then waits until it reads on.
MOST_UNREAD = 256
_PAUSE_SECONDS = 0.02

Post = Callable[[list[Event]], None]


class TextWorker(Worker[Job]):
    """Writes texts with one session, in a thread of its own.

    Args:
        session: the model. Nobody else may use it.
        most_live: how many texts it writes at once.
        most_waiting: how many more may wait.
        most_kept: how many texts that have ended are kept for those that begin in the same way.
        metrics: where it counts.
        post: takes the events of a pass, in the worker's thread.
    """

    def __init__(
        self, session: TextSession, most_live: int, most_waiting: int, most_kept: int, metrics: Metrics, post: Post
    ) -> None:
        super().__init__("onebit-texts", most_waiting, metrics)
        self.session = session
        self._most_live, self._post = most_live, post
        self._engine = session._engine
        self._prefixes = Prefixes(self._engine, most_kept)
        self._live: list[Job] = []
        self._last_moment = math.inf
        self._pacing = Pacing()
        self._thread.start()

    @property
    def live(self) -> int:
        """Texts that are being written."""
        return len(self._live)

    @property
    def kept(self) -> int:
        """Texts that have ended, and whose sequences are kept for others."""
        return len(self._prefixes)

    @property
    def busy(self) -> bool:
        return bool(self._live or self._waiting)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take texts, all or none. Raises Refusal if too many wait, or the model is being put away."""
        with self._condition:
            self._check_open()
            free = max(0, self._most_live - len(self._live))
            if len(self._waiting) + len(jobs) > self._most_waiting + free:
                self._waiting = deque(job for job in self._waiting if not job.cancelled)
                if len(self._waiting) + len(jobs) > self._most_waiting + free:
                    raise self._full("texts")
            self._waiting.extend(jobs)
            self._condition.notify()

    def end_by(self, moment: float) -> None:
        """End texts that still go on at a moment on the clock of `time.monotonic`, because the server ends."""
        self._last_moment = moment

    def _run(self) -> None:
        while self._take():
            dropped = self._drop()
            events = self._pacing.all() + dropped if dropped else []
            try:
                self._turn(events)
            except Exception as error:  # the thread must go on for the texts to come
                events += self._pacing.all() + self._fail(error)
            if not self._live:
                events += self._pacing.all()
            if events:
                self._post(events)

    def _take(self) -> bool:
        """Wait for texts, and make the first ones live. False at the end."""
        begun = []
        with self._condition:
            while not self._waiting and not self._live:
                if self._closing:
                    return False
                self._condition.wait()
            if self._live and all(job.unread >= MOST_UNREAD and not job.cancelled for job in self._live):
                self._condition.wait(_PAUSE_SECONDS)
            while self._waiting and len(self._live) < self._most_live:
                job = self._waiting.popleft()
                if not job.cancelled:
                    self._live.append(job)
                    begun.append(job)
        if begun:
            now = time.perf_counter()
            self._metrics.observe("onebit_queue_seconds", [now - job.began for job in begun])
            self._metrics.count("onebit_tokens_total", sum(job.prompt_tokens for job in begun), kind="prompt")
            self._post([event for job in begun if (event := job.begin()) is not None])
        return True

    def _drop(self) -> list[Event]:
        """End texts whose clients are gone or whose time is over."""
        events = []
        now = time.monotonic()
        stopped = now > self._last_moment
        for job in [job for job in self._live if job.cancelled or stopped or now > job.deadline]:
            reason = "cancelled" if job.cancelled else "stopped" if stopped else "timeout"
            if stopped:
                failure = Refusal(503, "the server ends: ask again later", code="server_ends")
            else:
                failure = Refusal(504, "the time of this request is over: ask for fewer tokens", code="timeout")
            if not job.cancelled:
                events.append(Event(job, failure=failure))
            self._end(job, reason)
        return events

    def _end(self, job: Job, reason: str) -> None:
        self._live.remove(job)
        job.over = True
        if job.text.sequence >= 0:
            self._prefixes.keep(job.text.sequence, job.in_engine)
        self._metrics.count("onebit_texts_total", reason=reason)

    def _fail(self, error: Exception) -> list[Event]:
        """End all texts: which of them made a pass fail is not known."""
        known = isinstance(error, (OnebitError, MemoryError))
        refusal = Refusal(503 if known else 500, str(error) if known and str(error) else "the model failed")
        print(f"onebit: error: a pass failed: {type(error).__name__}", file=sys.stderr, flush=True)
        jobs = list(self._live)
        for job in jobs:
            self._end(job, "failed")
        return [Event(job, failure=refusal) for job in jobs]

    def _turn(self, events: list[Event]) -> None:
        """A token of the texts whose turn it is, and a chunk of their prompts. Adds the events.

        Where texts take turns, each has two tokens in its turn: what it attends to comes into the cache once for both.
        """
        most = TEXTS_AT_ONCE * self._engine.threads
        jobs = [job for job in self._live if job.unread < MOST_UNREAD][:most]
        turns = -(-len(self._live) // most)
        if turns > 1:
            chosen = set(jobs)
            self._live = [job for job in self._live if job not in chosen] + jobs
        events += self._pacing.begin(jobs)
        events += self._pass(jobs, CHUNK)
        if turns > 1:
            self._pacing.hold(self._pass([job for job in jobs if not job.over], 0), turns // 2)

    def _pass(self, jobs: Sequence[Job], chunk: int) -> list[Event]:
        """One token of each of some texts, and so many tokens of their prompts."""
        parts: list[tuple[Job, int]] = []
        events: list[Event] = []
        for job in jobs:
            if (job.reading and chunk == 0) or not self._open(job):
                continue
            count = len(job.text.pending) - job.fed
            if job.reading:
                count = min(count, chunk)
                chunk -= count
            if job.scores_prompt:
                events += self._score_prompt(job, count)
            else:
                parts.append((job, count))
        if parts:
            self._metrics.observe("onebit_batch_size", [len(parts)])
            events += self._choose([job for job, _ in parts], self._extend(parts))
        return events

    def _open(self, job: Job) -> bool:
        """Whether a text has a sequence in the engine. It waits while another one reads the beginning of its prompt."""
        if job.text.sequence >= 0:
            return True
        if job.scores_prompt:  # the logits of all its tokens are asked for
            job.text.sequence = self._engine.open()
            return True
        begun = [other for other in self._live if other.text.sequence >= 0]
        others = [(other.text.sequence, other.in_engine) for other in begun]
        tokens = job.text.pending
        now = max((common(known, tokens) for _, known in others), default=0)
        coming = max((common(other.text.pending, tokens) for other in begun if other.reading), default=0)
        if min(coming, len(tokens) - 1) >= max(now, 1) + LEAST_SHARED:
            return False
        job.text.sequence, job.shared = self._prefixes.open(tokens, others)
        job.fed = job.shared
        self._metrics.count("onebit_tokens_total", job.shared, kind="shared")
        return True

    def _extend(self, parts: Sequence[tuple[Job, int]], all: bool = False) -> NDArray[np.float32]:
        tokens = [token for job, count in parts for token in job.text.pending[job.fed : job.fed + count]]
        sequences = [job.text.sequence for job, _ in parts]
        logits = self._engine.extend(sequences, [count for _, count in parts], np.array(tokens, np.int32), all=all)
        for job, count in parts:
            job.fed += count
        return logits

    def _score_prompt(self, job: Job, count: int) -> list[Event]:
        """A chunk of a prompt that is echoed with its scores."""
        first = job.fed
        logits = self._extend([(job, count)], all=True)
        events = [job.prompt_event(logits, first)]
        return events + self._choose([job], logits[-1:])

    def _choose(self, jobs: Sequence[Job], logits: NDArray[np.float32]) -> list[Event]:
        """The next token of each text that the engine has whole; `logits` (texts, vocabulary)."""
        ready = [place for place, job in enumerate(jobs) if job.fed == len(job.text.pending)]
        if len(ready) < len(jobs):
            jobs, logits = [jobs[place] for place in ready], logits[ready]
        if not jobs:
            return []
        texts = [(job.text.sampling, job.text.tokens, job.text.random, job.text.made) for job in jobs]
        tokens = choose_each(logits, texts, self.session.never)
        events = []
        now = time.perf_counter()
        first: list[float] = []
        between: list[float] = []
        for job, token, row in zip(jobs, tokens, logits, strict=True):
            (between if job.last else first).append(now - (job.last or job.began))
            job.last = now
            if job.text.max_new_tokens == 0:  # only the prompt was asked for
                events.append(Event(job, finish="length"))
                self._end(job, "length")
                continue
            event, forget = job.accept(token, row)
            job.sent += 1
            if event.finish:
                self._end(job, event.finish)
            elif forget:
                self._engine.cut(job.text.sequence, 0)
            events.append(event)
        self._metrics.observe("onebit_time_to_first_token_seconds", first)
        self._metrics.observe("onebit_time_between_tokens_seconds", between)
        self._metrics.count("onebit_tokens_total", len(jobs), kind="written")
        return events
