"""What every source of frames is: the interface, and the parts all of them share."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from facecam.values import Frame, SourceInfo


class FrameSource(Protocol):
    """Gives frames, one after the other.

    ``read`` returns None at the end and after ``close``; a live source that stops for good raises
    SourceError instead. ``close`` may be called twice and from another thread.
    """

    @property
    def info(self) -> SourceInfo: ...

    def read(self) -> Frame | None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[Frame]: ...


class Source:
    """Base of the sources here: context manager and iteration over `read`."""

    info: SourceInfo

    def read(self) -> Frame | None:
        raise NotImplementedError

    def close(self) -> None:
        """Release what the source holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.read()) is not None:
            yield frame
