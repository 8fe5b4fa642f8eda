"""What readers of a file's packets need: which stream, packets to the very end, times that go on where a clock goes
back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import av

#: A time that lies this far behind the one before, seconds, is of another clock: joined recordings begin anew. Less is
#: what damaged files and unusual encoders do.
JITTER: Final = 0.5
#: After one damaged time the next one goes on where the clock was, within this many seconds.
_STRAY: Final = 2.0


def pictures(container: Any) -> Any:
    """The video stream that players show: the first one that is marked as default, else the first; never the cover
    of a sound file. None where there is no video.
    """
    import av

    kinds = av.stream.Disposition
    streams = [s for s in container.streams.video if not s.disposition & kinds.attached_pic]
    return next((s for s in streams if s.disposition & kinds.default), streams[0] if streams else None)


def packets(container: Any, streams: Sequence[Any]) -> Iterator[av.Packet]:
    """What ``container.demux`` gives, also where a transport stream gains a stream on its way.

    At the end PyAV 18 looks for streams that it does not know, after it has ended those that it knows.
    """
    try:
        yield from container.demux(*streams)
    except IndexError:
        return


class Clock:
    """Makes the times of a stream go on where those of its file go back (a join of recordings, a restarted camera).

    Args:
        base: the unit of the stream's times, seconds.
    """

    def __init__(self, base: Fraction) -> None:
        self._jitter, self._stray = round(JITTER / base), round(_STRAY / base)
        self._shift = self._before = self._step = 0
        self._last: int | None = None

    def shift(self, time: int, step: int | None) -> int:
        """What is to be added to a time.

        Args:
            time: in the file, units; in the order of the pictures or packets. step: how long this lasts, units.
        """
        last = self._last
        if last is not None:
            if time + self._shift < last - self._jitter:
                self._before, self._shift = self._shift, last + self._step - time
            elif self._shift != self._before and last < time + self._before <= last + self._stray:
                self._shift = self._before
        self._last, self._step = time + self._shift, step or 0
        return self._shift
