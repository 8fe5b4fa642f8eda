"""What a service manager asks of a program that runs for days: signals, and a sign of life (systemd)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

#: A sign of life is sent at most this often, seconds.
_ALIVE_EVERY: Final = 2.0


@contextlib.contextmanager
def signals(stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """SIGTERM ends cleanly, SIGHUP reads anew, within the block. Does nothing outside of the main thread.

    Args:
        stop, reload: called between two steps of the main thread; they must be short.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted: dict[int, Callable[[Any, Any], None]] = {signal.SIGTERM: lambda number, frame: stop()}
    if hasattr(signal, "SIGHUP"):
        wanted[signal.SIGHUP] = lambda number, frame: reload()
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Manager:
    """Tells systemd that the service is ready and alive (sd_notify(3)); elsewhere it does nothing."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self._last = float("-inf")
        if address.startswith(("/", "@")) and hasattr(socket, "AF_UNIX"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self) -> None:
        self._say("READY=1")

    def alive(self) -> None:
        """Call it whenever something went forward; too long without (WatchdogSec) makes systemd restart it."""
        now = time.monotonic()
        if now - self._last >= _ALIVE_EVERY:
            self._last = now
            self._say("WATCHDOG=1")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def _say(self, text: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # the manager listens or not; nothing depends on it
                self._socket.sendto(text.encode(), self._address)
