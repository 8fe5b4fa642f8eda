"""Where a long video may be divided: at key frames, so that every part is read without the part before it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from facecam.video.clock import packets, pictures

#: A picture that is shown before the key frame that it follows in the file (H.264's open groups, B-frames) comes
#: less than this earlier, seconds; a time that goes back further is a break in the file's clock.
REORDERED: Final = 2.0


def borders(path: Path, seconds: float) -> list[float]:
    """Times of key frames, about ``seconds`` apart, that divide a video; the same for the same file, always.

    Reads all packets and decodes none.

    Returns:
        presentation times, seconds, ascending; without the beginning and the end. None at all for a file
        whose times are missing or go back, or which cannot be read to its end: such a one is read in one go.
    """
    import av

    found: list[float] = []
    start: float | None = None
    highest = -float("inf")
    try:
        with av.open(
            f"file:{path.absolute()}", options={"protocol_whitelist": "file"}, metadata_errors="replace"
        ) as container:
            stream = pictures(container)
            for packet in packets(container, [stream]) if stream is not None else ():
                if not packet.size:
                    continue
                if packet.pts is None or packet.time_base is None or packet.is_corrupt:
                    return []
                time = float(packet.pts * packet.time_base)
                if time < highest - REORDERED:
                    return []
                if start is None or time < start <= highest < start + REORDERED:
                    start = time
                if packet.is_keyframe and time > highest and time >= (found[-1] if found else start) + seconds:
                    found.append(time)
                highest = max(highest, time)
    except av.error.FFmpegError:
        return []
    # What is left must not be a splinter.
    if found and highest - found[-1] < seconds / 2:
        found.pop()
    return found
