"""Several processes that serve the API on one socket; one that dies is replaced, and all stop together."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Semaphore
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from assistant.answer import Assistant
from assistant.config import Config
from assistant.errors import AssistantError
from assistant.metrics import WORKERS
from assistant.watch import set_up_log

END_S = 25.0
"""So long a worker may take to end; then it is killed."""
DEATHS, WITHIN_S = 5, 60.0
"""So many workers may die within that time; more mean that no other will live either."""
_log = logging.getLogger(__name__)


Serve = Callable[[Assistant, socket.socket, Callable[[], None]], None]
"""What a worker does until it is told to stop: with whom, where requests come in, and whom to tell once they do."""


def supervise(  # noqa: PLR0913 - settings by name
    n: int, serve: Serve, listener: socket.socket, config: Config, *, log_format: str | None, say: str
) -> None:
    """Keep `n` workers running until this process is told to stop.

    Args:
        n: How many.
        serve: What each one does.
        listener: Where requests come in, for all of them.
        config: The settings with which each opens the library for itself.
        log_format: See `set_up_log`.
        say: Printed once all of them serve.

    Raises:
        AssistantError: They die as soon as they are started.
    """
    context, stopping = multiprocessing.get_context("spawn"), False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    with tempfile.TemporaryDirectory(prefix="assistant-metrics-") as counts:
        os.environ[WORKERS] = counts
        started = context.Semaphore(0)

        def start() -> SpawnProcess:
            worker = context.Process(target=_work, args=(serve, listener, config, log_format, started), name="worker")
            worker.start()
            return worker

        workers = [start() for _ in range(n)]
        left, deaths = n, list[float]()
        try:
            while not stopping:
                while left and started.acquire(block=False):
                    left -= 1
                    if not left:
                        print(say, file=sys.stderr)  # noqa: T201
                wait([each.sentinel for each in workers], timeout=0.2)
                for i, worker in enumerate(workers):
                    if worker.is_alive() or stopping:
                        continue
                    mark_process_dead(worker.pid, counts)  # type: ignore[no-untyped-call]
                    deaths = [at for at in deaths if at > time.monotonic() - WITHIN_S] + [time.monotonic()]
                    if len(deaths) > DEATHS:
                        raise AssistantError(f"{len(deaths)} workers died within {WITHIN_S:g} s; see what they logged")
                    _log.warning("a worker ended with code %s; another takes its place", worker.exitcode)
                    workers[i] = start()
        finally:
            _end(workers)
            os.environ.pop(WORKERS, None)
            for each, handler in before.items():
                signal.signal(each, handler)


def _end(workers: list[SpawnProcess]) -> None:
    for worker in workers:
        worker.terminate()
    end = time.monotonic() + END_S
    for worker in workers:
        worker.join(max(0.0, end - time.monotonic()))
        if worker.is_alive():
            worker.kill()
            worker.join()


def _work(serve: Serve, listener: socket.socket, config: Config, log_format: str | None, started: Semaphore) -> None:
    """Serve in a process of its own."""
    set_up_log(log_format)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    with suppress(KeyboardInterrupt), Assistant(config) as assistant:
        serve(assistant, listener, started.release)


def _end_with_parent() -> None:
    """Stop this process as soon as the one that started it is gone, however that came about."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
