"""Events to other machines: a bounded queue and a thread each, so that no network holds up the loop."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from facecam.video.reconnect import pause

#: Events that wait while the receiver is away; more push out the oldest. A day of a busy door.
QUEUE: Final = 10_000
#: Longest wait for one answer, seconds.
ANSWER_SECONDS: Final = 5.0


class NotDelivered(Exception):
    """The receiver could not be reached, or could not take the event now; ``str`` has no secrets."""


class Refused(Exception):
    """The receiver will never take this event."""


class Post(Protocol):
    """Delivers one event: `webhook.WebPost`, or `mqtt.MqttPost`."""

    name: str

    def send(self, event: dict[str, Any]) -> None:
        """Raises NotDelivered, or Refused."""

    def close(self) -> None: ...


class Courier(threading.Thread):
    """Brings events to one receiver, in order, again and again until they are taken.

    Args:
        post: delivers one event.
        note: told, once each, when the receiver is lost and when it is back, with the number of events lost.
        size: events that may wait; when it is full, the oldest goes.
        wait: seconds before the attempt of a number, from 1.
    """

    def __init__(
        self, post: Post, note: Callable[[str], None], size: int = QUEUE, wait: Callable[[int], float] = pause
    ) -> None:
        super().__init__(name="facecam-courier", daemon=True)
        self._post, self._note, self._size, self._wait = post, note, size, wait
        self._queue: deque[dict[str, Any]] = deque()
        self._changed = threading.Condition()
        self._deadline: float | None = None  # when it ends, delivered or not
        self.delivered = self.dropped = 0
        self.start()

    def write(self, event: dict[str, Any]) -> None:
        """Queue an event; never waits."""
        with self._changed:
            if len(self._queue) >= self._size:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append(event)
            self._changed.notify_all()

    def end(self, patience: float) -> None:
        """Ask the thread to end when all is delivered, at the latest in ``patience`` seconds."""
        with self._changed:
            self._deadline = time.monotonic() + patience
            self._changed.notify_all()

    def close(self) -> None:
        """Wait for the end that `end` asked for; says what was not delivered."""
        if self._deadline is None:
            self.end(ANSWER_SECONDS)
        assert self._deadline is not None
        self.join(max(0.0, self._deadline - time.monotonic()) + 0.1)
        with self._changed:
            left, dropped = len(self._queue), self.dropped
        if left or dropped:
            self._note(f"{self._post.name}: {left + dropped} events were not delivered")

    def run(self) -> None:
        failures = 0
        while (event := self._first()) is not None:
            try:
                self._post.send(event)
            except NotDelivered as error:
                failures += 1
                if failures == 1:
                    self._note(f"{self._post.name}: {error}; events wait and are sent again")
                self._pause(self._wait(failures))
                continue
            except Exception as error:  # a fault of the post itself must not end the delivery of what comes after
                why = str(error) if isinstance(error, Refused) else f"failed ({type(error).__name__})"
                self._note(f"{self._post.name}: {why}; the event is dropped")
                self._done(event, delivered=False)
                continue
            self._done(event, delivered=True)
            if failures:
                lost, self.dropped = self.dropped, 0
                more = f"; {lost} older events were dropped" if lost else ""
                self._note(f"{self._post.name}: delivers again{more}")
                failures = 0
        self._post.close()

    def _first(self) -> dict[str, Any] | None:
        """The oldest event, which stays in the queue; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._deadline is not None)
            if self._deadline is not None and (not self._queue or time.monotonic() >= self._deadline):
                return None
            return self._queue[0]

    def _done(self, event: dict[str, Any], *, delivered: bool) -> None:
        with self._changed:
            self.delivered += delivered
            self.dropped += not delivered
            if self._queue and self._queue[0] is event:  # it may have been pushed out meanwhile
                self._queue.popleft()

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._changed:
            while (now := time.monotonic()) < min(end, end if self._deadline is None else self._deadline):
                self._changed.wait(min(end - now, 0.2))
