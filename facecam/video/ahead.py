"""Reading ahead: a thread decodes the next frames while the ones before are being looked at."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Final

from facecam.values import Frame

#: Frames that wait, decoded: enough for a look at one to take as long as decoding these.
DEPTH: Final = 6


class ReadAhead(Iterator[Frame]):
    """The frames that ``read`` gives until None, read by a thread that is at most some frames ahead.

    What ``read`` raises is raised here, after the frames before it. `close` ends the thread, waiting for the frame that
    it is reading; so do the end and an error.
    """

    def __init__(self, read: Callable[[], Frame | None], depth: int = DEPTH) -> None:
        self._read = read
        self._waiting: queue.Queue[Frame | BaseException | None] = queue.Queue(depth)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="decoding", daemon=True)
        self._thread.start()

    def __next__(self) -> Frame:
        if self._ending.is_set():
            raise StopIteration
        item = self._waiting.get()
        if isinstance(item, Frame):
            return item
        self.close()
        if item is None:
            raise StopIteration
        raise item

    def close(self) -> None:
        """End the thread; frames that wait are dropped. Fine to call twice, and from any thread but its own."""
        self._ending.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._thread.join()
        with contextlib.suppress(queue.Full):  # a reader in another thread must not wait for ever
            self._waiting.put_nowait(None)

    def _work(self) -> None:
        last: BaseException | None = None
        try:
            while not self._ending.is_set() and (frame := self._read()) is not None:
                self._put(frame)
        except BaseException as error:  # raised again by the reader
            last = error
        self._put(last)

    def _put(self, item: Frame | BaseException | None) -> None:
        """Put, unless nobody takes any more."""
        while not self._ending.is_set():
            with contextlib.suppress(queue.Full):
                self._waiting.put(item, timeout=0.1)
                return
