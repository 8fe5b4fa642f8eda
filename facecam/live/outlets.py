"""Where events go, all of them at once; what fails is told once and stops nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from facecam.errors import OutputError
from facecam.live.deliver import Courier
from facecam.video.events import EventSink

#: How long the end waits for events on their way, seconds: after an interruption, and otherwise.
_HURRY: Final = 0.4
_PATIENCE: Final = 5.0


class Outlets:
    """Hands each event to a file (or stdout) and to couriers.

    A file that cannot be written (a full disk) is tried again with every event; the events in between are lost
    and counted.
    """

    def __init__(self, sink: EventSink | None, couriers: Sequence[Courier], note: Callable[[str], None]) -> None:
        self._sink, self._couriers, self._note = sink, list(couriers), note
        self._lost = 0

    def write(self, event: dict[str, Any]) -> None:
        """Hand an event on; takes the time of a line in a file."""
        for courier in self._couriers:
            courier.write(event)
        if self._sink is None:
            return
        try:
            self._sink.write(event)
        except OutputError as error:
            if not self._lost:
                self._note(f"{error}; labelling goes on without events until it can be")
            self._lost += 1
        else:
            if self._lost:
                self._note(f"events are written again; {self._lost} were lost")
                self._lost = 0

    def reopen(self) -> None:
        """Open the file anew, after another program has put it aside."""
        if self._sink is not None:
            try:
                self._sink.reopen()
            except OutputError as error:
                self._note(str(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for courier in self._couriers:
            courier.end(_HURRY if kind is not None else _PATIENCE)
        for courier in self._couriers:
            courier.close()
        if self._lost:
            self._note(f"{self._lost} events were lost")
        if self._sink is not None:
            self._sink.close()
