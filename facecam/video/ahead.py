"""Reading ahead: a thread decodes the next frames while the ones before are being looked at."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: Frames that wait, decoded: enough for a look at one to take as long as decoding these.
DEPTH: Final = 6


@dataclass(frozen=True, slots=True)
class _Last:
    """Nothing comes any more, or an error."""

    error: BaseException | None


class ReadAhead(Iterator[T], Generic[T]):
    """What ``read`` gives until None (frames of a file), read by a thread that is at most some frames ahead.

    What ``read`` raises is raised here, after the frames before it. `close` ends the thread, waiting for the frame that
    it is reading; so do the end and an error.
    """

    def __init__(self, read: Callable[[], T | None], depth: int = DEPTH, *, name: str = "decoding") -> None:
        self._read = read
        self._waiting: queue.Queue[T | _Last] = queue.Queue(depth)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._begun = False

    def __next__(self) -> T:
        if self._ending.is_set():
            raise StopIteration
        if not self._begun:  # not before whoever made this can close it: Ctrl-C may come in between
            self._begun = True
            self._thread.start()
        item = self._waiting.get()
        if not isinstance(item, _Last):
            return item
        self.close()
        if item.error is None:
            raise StopIteration
        raise item.error

    def close(self) -> None:
        """End the thread; frames that wait are dropped. Fine to call twice, and from any thread but its own."""
        self._ending.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        if self._thread.ident is not None:
            self._thread.join()
        with contextlib.suppress(queue.Full):  # a reader in another thread must not wait for ever
            self._waiting.put_nowait(_Last(None))

    def _work(self) -> None:
        last: BaseException | None = None
        try:
            while not self._ending.is_set() and (item := self._read()) is not None:
                self._put(item)
        except BaseException as error:  # raised again by the reader
            last = error
        self._put(_Last(last))

    def _put(self, item: T | _Last) -> None:
        """Put, unless nobody takes any more."""
        while not self._ending.is_set():
            with contextlib.suppress(queue.Full):
                self._waiting.put(item, timeout=0.1)
                return
