"""Worker processes: forks of one server, which has imported once what each of them needs."""

from __future__ import annotations

import signal
import threading
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running


def forkserver() -> ForkServerContext:
    """How worker processes are started: a fork of the main process would inherit its threads and its GPU.

    With the imports done in the server, eight of them are there in .4 s, where each importing torch took 10 s.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["medcoss_cli.data.batches"])
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the server inherits: Ctrl-C is for this process
        try:
            ensure_running()
        finally:
            signal.signal(signal.SIGINT, before)
    return context


def quiet() -> None:
    """In a worker: the parent handles Ctrl-C; one thread, since there is a worker for every core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
