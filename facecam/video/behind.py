"""Writing behind: a thread encodes pictures while the next ones are being made."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

#: Pictures that wait: enough for one that takes longer (a key frame) not to hold up who makes them.
DEPTH: Final = 4
_END: Final = object()


class WriteBehind:
    """Calls ``write`` with what it is given, in order, in a thread of its own.

    What ``write`` raises is raised by the next `put`, or at the end of the ``with`` block, which waits for all that was
    given; on the way of an exception nothing more is written. ``write`` is not called any more after the block.
    """

    def __init__(self, write: Callable[..., None], depth: int = DEPTH) -> None:
        self._write = write
        self._waiting: queue.Queue[Any] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="encoding", daemon=True)

    def put(self, *arguments: Any) -> None:
        """Let ``write(*arguments)`` be called; waits while there is too much to do."""
        if self._error is not None:
            raise self._error
        self._waiting.put(arguments)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._waiting.put(_END)
                self._thread.join()
        finally:
            self._stop.set()  # also where somebody got tired of waiting (Ctrl-C)
            self._waiting.put(_END)
            self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _work(self) -> None:
        # After an error what comes is taken and dropped, so that nobody waits for ever to put it.
        while (item := self._waiting.get()) is not _END:
            if self._error is None and not self._stop.is_set():
                try:
                    self._write(*item)
                except BaseException as error:  # raised again by who puts
                    self._error = error
