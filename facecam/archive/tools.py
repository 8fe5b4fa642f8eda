"""What a run works with, and whom it tells how it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from facecam.archive.study import Study
from facecam.engine import Engine
from facecam.evidence import Matches
from facecam.people.unknown import UnknownBook

#: Called with (frames done, frames in all or None).
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True, eq=False)
class Tools:
    """What a run works with. only: names to give; None: everybody's."""

    engine: Engine
    matcher: Matches
    book: UnknownBook | None = None
    study: Study = field(default_factory=Study)
    only: frozenset[str] | None = None


class Watcher(Protocol):
    """Is told how a run goes: `facecam.cli.progress.Run`."""

    def file(self, name: str) -> Progress: ...

    def finished(self, name: str, faces: int = 0, people: dict[str, Any] | None = None) -> None: ...

    def gave_up(self, name: str) -> None: ...

    def skipped(self, name: str) -> None: ...
