"""Who is really in a clip: a CSV written by watching it."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facecam.errors import SourceError, UsageFault
from facecam.people.names import clean_name

#: Column names: start and end in seconds, the end not included; or in frames, the last included.
SECONDS: Final = ("start", "end")
FRAMES: Final = ("start_frame", "end_frame")


@dataclass(frozen=True, slots=True)
class Appearance:
    """Somebody's face is to be seen for a while.

    Attributes:
        start, end: seconds from the clip's first frame, the end not included; or frame numbers, both
            included (``frames``).
        name: the person; None for somebody of no name here (a stranger).
        required: False where the face is too small, too turned or too hidden to ask for it: finding and naming
            it is then neither asked nor wrong.
        frames: whether start and end are frame numbers.
    """

    start: float
    end: float
    name: str | None
    required: bool = True
    frames: bool = False

    def covers(self, index: int, time: float) -> bool:
        """Whether a frame (its number, its seconds from the first frame) is in it."""
        if self.frames:
            return self.start <= index <= self.end
        # Times in outputs are rounded to a tenth of a millisecond; so may those be that were copied from them.
        return self.start - 1e-4 <= time < self.end - 1e-4


def read_truth(path: Path, *, frames: bool = False) -> list[Appearance]:
    """Read a truth file: columns start,end,name (seconds) or start_frame,end_frame,name; optionally required.

    Lines that begin with # are comments. An empty name, or "unknown", is a stranger. required is yes (default) or no.

    Args:
        frames: take start and end for frame numbers.

    Raises:
        SourceError: the file cannot be read. UsageFault: it is no such file.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [(n, line) for n, line in enumerate(file, 1) if line.strip() and not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read ({error}); give a CSV with columns start,end,name") from error
    if not lines:
        raise UsageFault(f"{path}: the truth file is empty; its first line is start,end,name")
    try:
        rows = list(csv.reader((line for _, line in lines), strict=True))
    except csv.Error as error:
        raise UsageFault(f"{path}: not a CSV file ({error}); its first line is start,end,name") from error
    head = [cell.strip().casefold() for cell in rows[0]]
    bounds = FRAMES if FRAMES[0] in head else SECONDS
    if missing := [column for column in (*bounds, "name") if column not in head]:
        raise UsageFault(
            f"{path}: column {missing[0]!r} is missing; the first line is start,end,name (seconds) or "
            "start_frame,end_frame,name"
        )
    appearances = []
    for (number, _), row in zip(lines[1:], rows[1:]):
        cells = dict(zip(head, [cell.strip() for cell in row]))
        appearances.append(_appearance(f"{path}: line {number}", cells, bounds, frames or bounds == FRAMES))
    if not appearances:
        raise UsageFault(f"{path}: the truth file names nobody; add a line for each time that a face is seen")
    return appearances


def _appearance(where: str, cells: dict[str, str], bounds: Sequence[str], frames: bool) -> Appearance:
    try:
        start, end = (float(cells[column]) for column in bounds)
    except (KeyError, ValueError) as error:
        raise UsageFault(f"{where}: {bounds[0]} and {bounds[1]} are numbers; correct the line") from error
    whole = not frames or (start.is_integer() and end.is_integer())
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start <= end and whole):
        raise UsageFault(f"{where}: {start:g} to {end:g} is no stretch of time; correct the line")
    required = cells.get("required", "").casefold() or "yes"
    if required not in ("yes", "no"):
        raise UsageFault(f"{where}: required is yes or no, not {required!r}")
    name = cells.get("name", "")
    stranger = name.casefold() in ("", "unknown")
    return Appearance(start, end, None if stranger else clean_name(name), required == "yes", frames)
