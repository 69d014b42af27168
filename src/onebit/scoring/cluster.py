"""Start Ray, or join a Ray cluster. Ray's messages stay in its own log files."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from onebit.errors import OnebitError
from onebit.processors import cores


def require_ray(address: str | None = None) -> None:
    """Raise OnebitError if Ray Data is not installed, or if nothing answers at the address of a cluster."""
    # Set before Ray is imported: do not send statistics, write C++ messages only to files, do not change the variables of accelerators, and give
    # workers the priority of the command instead of the lowest.
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_BACKEND_LOG_LEVEL": "fatal",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_niceness": "0",
    }
    address = _address(address)
    if address != "local":
        settings["RAY_NUM_REDIS_GET_RETRIES"] = (
            "1"  # twenty attempts take many minutes if something other than Ray answers
        )
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    try:
        import pyarrow  # noqa: F401
        import ray.data  # noqa: F401
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] not in ("ray", "pyarrow", "pandas"):
            raise
        raise OnebitError('[score] needs Ray: pip install "onebit[scale]"') from None
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        if address not in ("local", "auto"):
            raise OnebitError(
                f"[score] address={address!r}: use HOST:PORT, or auto for the cluster that runs on this machine"
            )
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        raise OnebitError(
            f"[score] no Ray cluster answers at {address} ({error}): start one, or correct the address"
        ) from None


def _address(address: str | None) -> str:
    return address or os.environ.get("RAY_ADDRESS") or "local"


@contextlib.contextmanager
def cluster(workers: int | None, threads: int | None, address: str | None) -> Iterator[tuple[int, int]]:
    """Use Ray inside the block: a running cluster, or a local one that is shut down at the end.

    Args:
        workers: the number of workers. The default is one per processor.
        threads: threads per worker. The default is the processors divided among the workers.
        address: the address of a running cluster, or ``"auto"`` for the one on this machine. None takes RAY_ADDRESS, or else starts a local one.
            A program that has already called ``ray.init`` keeps its cluster.

    Yields:
        The number of workers to start, and the threads of each.

    Raises:
        OnebitError: the cluster does not answer, or is too small.
    """
    import ray

    address = _address(address)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    ours = not ray.is_initialized()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if ours and address == "local":
            count, each = divide(cores(), workers, threads)
            _start("Ray does not start here", address="local", num_cpus=count * each, include_dashboard=False, **quiet)
        else:
            if ours:
                _start(f"no Ray cluster answers at {address}", address=address, **quiet)
            nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
            count, each = divide(sum(nodes), workers, threads, max(nodes))
            if sum(node // each for node in nodes) < count:
                raise OnebitError(
                    f"[score] {count} workers of {each} threads do not fit in the cluster, which has {' + '.join(map(str, nodes))} "
                    "processors: ask for fewer"
                )
        yield count, each
    finally:
        if ours:
            ray.shutdown()


def divide(
    processors: int, workers: int | None, threads: int | None, most_threads: int | None = None
) -> tuple[int, int]:
    """Divide processors among workers: (workers, threads of each).

    Args:
        processors: the number of all processors.
        workers, threads: the user's choice, or None.
        most_threads: the most threads of one worker, because a worker runs on one machine. The default is all processors.
    """
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and not 1 <= value <= 256:
            raise OnebitError(f"[score] {name}={value}: use 1 to 256")
    if workers is None:
        workers = max(1, processors // (threads or 1))
    if threads is None:
        threads = max(1, min(processors // workers, most_threads or processors))
    return workers, threads


def _start(refusal: str, **options: Any) -> None:
    import ray

    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise OnebitError(f"[score] {refusal} ({reason[:200]})") from None
