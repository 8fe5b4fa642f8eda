"""The body of a worker process, and how one is started."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Final, Protocol

from facecam.archive.worker import Worker
from facecam.errors import FacecamError
from facecam.video.atomic import clear

#: Seconds between two words of a process about how far it is.
_TOLD_EVERY: Final = 0.2


class Makes(Protocol):
    """Makes a worker (`crew.Outfit`)."""

    def worker(self) -> Worker: ...


@dataclass(frozen=True, slots=True)
class SoFar:
    """What a process says while it is at work."""

    frames: int


@contextlib.contextmanager
def no_interrupt() -> Iterator[None]:
    """A Ctrl-C waits until the block is over, and in the process that is started there until that ignores it:
    a terminal sends it to both, and Python's start would end in a page of its own lines."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    came: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    # Another thread may take the signal, which Python then tells the main one all the same.
    handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number)) if main else None
    resource_tracker.ensure_running()  # starting it lets SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if main:
            signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
        if came:
            signal.raise_signal(signal.SIGINT)


def serve(pipe: Connection, outfit: Makes) -> None:
    """The body of a worker process: tasks come through the pipe until None does, or its other end is gone."""
    import cv2

    # Ctrl-C, and that the terminal is gone, is the business of the process that started it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    cv2.setNumThreads(1)
    failed: FacecamError | None = None
    worker: Worker | None = None
    told = time.monotonic()
    ended = False

    def end(number: int, frame: Any) -> None:
        nonlocal ended
        ended = True  # an extension module that is being imported may swallow the exit
        sys.exit(0)

    def tick(frames: int) -> None:
        nonlocal told
        if ended:
            sys.exit(0)
        if (now := time.monotonic()) - told >= _TOLD_EVERY:
            told = now
            pipe.send(SoFar(frames))

    try:
        worker = outfit.worker()
    except FacecamError as error:
        failed = error  # told to whoever asks for something
    # That process says by SIGTERM when it wants no more. Until now there was nothing to take away.
    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=_end_as_well, daemon=True).start()
    # Who sent the task may be gone by the time when there is something to say.
    with contextlib.ExitStack() as last:
        last.callback(clear)  # a process that is started so ends without atexit
        last.enter_context(contextlib.suppress(EOFError, OSError))
        while not ended and (task := pipe.recv()) is not None:
            answer: Any = failed
            if worker is not None:
                try:
                    answer = worker.do(task, tick)
                except FacecamError as error:
                    answer = error
            pipe.send(answer)


def _end_as_well() -> None:
    """End this process with the one that started it, however that ended: a large file is hashed without a word."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
