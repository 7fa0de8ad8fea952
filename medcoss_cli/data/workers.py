"""Worker processes: forks of one server, which has imported once what each of them needs."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path

from medcoss_cli.errors import MedcossError, PluginError, ResourceError, blame
from medcoss_cli.plugin import CompleteModality

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
SERVER_GONE = 255
"""The exit code that `multiprocessing` gives a worker whose server was killed."""


def forkserver(preload: str = "medcoss_cli.data.batches") -> ForkServerContext:
    """How worker processes are started: a fork of the main process would inherit its threads and its GPU.

    With the imports done in the server, eight of them are there in .4 s, where each importing torch took 10 s.

    Args:
        preload: the module that the server imports, where none is running yet.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([preload])
    if threading.current_thread() is threading.main_thread():
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the server inherits: Ctrl-C is for this process
        try:
            ensure_running()
        finally:
            signal.signal(signal.SIGINT, handler)
    return context


def end_with_parent(number: int = 0) -> None:
    """In a worker, whatever its number: when the process that it works for is killed, or its server, it ends too.

    A server lives as long as one of its workers, and a worker of torch waits for its server alone: without this they stay.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):
            if b"forkserver" not in Path(f"/proc/{os.getppid()}/cmdline").read_bytes():
                os._exit(1)  # the server was gone before
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def quiet() -> None:
    """In a worker: the parent handles Ctrl-C; one thread, since there is a worker for every core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


@contextmanager
def blamed(modality: CompleteModality) -> Iterator[None]:
    """What code of the modality's plugin raises leaves a worker process as its fault; there the traceback is still known.

    Raises: PluginError for any exception, or an exit, that comes from the plugin's own code.
    """
    try:
        yield
    except MedcossError:
        raise
    except (Exception, SystemExit) as error:
        parts = (modality.loader, modality.intensity, modality.augment, modality.tokenizer)
        packages = {type(part).__module__.partition(".")[0] for part in parts}
        packages |= {str(getattr(part, "__module__", "")).partition(".")[0] for part in parts}  # of a function
        fault = blame(error, dict.fromkeys(packages - {"medcoss_cli", "builtins", ""}, modality.name))
        if fault is None:
            raise
        raise fault from error


@contextmanager
def readers(count: int, modality: CompleteModality, where: object) -> Iterator[ProcessPoolExecutor]:
    """Processes that read files of a modality. Raises: PluginError, ResourceError where one of them is gone."""
    pool = ProcessPoolExecutor(count, forkserver(), quiet)
    try:
        yield pool
    except (BrokenProcessPool, EOFError, ConnectionError) as error:  # the last two where the server is gone
        processes = list((pool._processes or {}).values())  # nothing public says how a worker ended
        for process in processes:
            process.join(5)
        raise worker_error([modality.name], [process.exitcode for process in processes], where) from error
    finally:
        pool.shutdown(cancel_futures=True)


def worker_error(
    names: Iterable[str], codes: Iterable[int | None], where: object = None, alone: str = "data.workers=1"
) -> MedcossError:
    """The error to raise where worker processes ended: by a signal, as for want of memory, or by code of a plugin.

    Args:
        names: of the modalities that they read.
        alone: the setting with which there is no such process.
        codes: how they ended, None where nobody knows; of a pool all but the first to end are terminated.
    """
    ends = [code for code in codes if code not in (-signal.SIGKILL, -signal.SIGTERM, SERVER_GONE)]
    if not ends:
        return ResourceError(
            "a process that reads files died, possibly out of memory",
            where=where,
            fix=f"finished work is kept; with less memory set {alone}",
        )
    code = ends[0]
    if code is not None and code < 0:
        return ResourceError(
            f"a process that reads {', '.join(names)} was ended by {signal.Signals(-code).name}: "
            "a library crashed, or memory (also /dev/shm) ran out",
            where=where,
            fix=f"finished work is kept; try {alone} and --debug to see where",
        )
    how = "" if code is None else f"with code {code} "
    return PluginError(
        f"a process that reads {', '.join(names)} was ended {how}by its plugin, or by a library that the plugin uses",
        where=where,
        fix=f"try {alone} and --debug to see where, and report it to its author",
    )
