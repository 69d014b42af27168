"""The settings of the process that training changes, and restores."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

import torch

from onebit.training.memory import freed_memory_kept
from onebit.training.openmp import threads_in_use

LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning")


@contextlib.contextmanager
def process_settings(threads: int, quiet: bool = True) -> Iterator[None]:
    """Settings of this process for as long as the body trains; afterwards, also after an exception, they are what they were.

    They are the threads of PyTorch and their pools, the environment, the memory that malloc keeps, the state of PyTorch's random numbers, the levels
    of Lightning's loggers and the filters of warnings.

    Args:
        threads: of PyTorch, and of the processes that the body starts.
        quiet: keep Lightning's notes on devices, tips and data loaders from users who cannot act on them.
    """
    with contextlib.ExitStack() as settings:
        settings.enter_context(_environment_restored())
        os.environ["OMP_NUM_THREADS"] = str(threads)  # Lightning chooses a number where none is set
        settings.enter_context(threads_in_use(threads))
        settings.enter_context(freed_memory_kept())
        settings.enter_context(torch.random.fork_rng(_devices()))
        settings.enter_context(warnings.catch_warnings())
        if quiet:
            settings.enter_context(_loggers_at(logging.ERROR))
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", message=".*lightning.*")
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            # PyTorch's RMSNorm has no fused form for bfloat16 with float32 gains, and computes it all the same.
            warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        yield


@contextlib.contextmanager
def _environment_restored() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value


@contextlib.contextmanager
def _loggers_at(level: int) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)


def _devices() -> list[int]:
    """The GPUs whose random numbers are drawn from; before the first use of one they do not exist."""
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
