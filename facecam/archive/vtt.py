"""WebVTT: who is on the screen, as subtitles that players show beside the untouched video."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Final

from facecam.archive.presence import JOIN_GAP, Appearance, called, joined
from facecam.people.names import escaped

#: A cue must end after it starts (WebVTT, 4.1); times have three decimals.
_SHORTEST: Final = 0.001


def write_vtt(file: IO[str], appearances: Iterable[Appearance], gap: float = JOIN_GAP) -> None:
    """Write a cue for each stretch of time in which a person is there, in order of appearance.

    Args:
        file: UTF-8 text. gap: see `presence.joined`.
    """
    cues = [(span.start, span.end, called(who)) for who, spans in joined(appearances, gap).items() for span in spans]
    file.write("WEBVTT\n")
    for start, end, who in sorted(cues):
        start = max(0.0, round(start, 3))
        file.write(f"\n{_time(start)} --> {_time(max(end, start + _SHORTEST))}\n{_text(who)}\n")


def _time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def _text(who: str) -> str:
    """A name as cue text: no tag, no arrow, no line of its own (WebVTT, 4.2.2)."""
    return escaped(who).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
