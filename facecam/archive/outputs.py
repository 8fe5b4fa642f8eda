"""Which outputs a run writes, where each goes, and what is hidden or drawn in its pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facecam.archive.hiding import BLUR, NONE
from facecam.archive.html import REPORT, is_report_of
from facecam.archive.inputs import Item
from facecam.errors import UsageFault

#: What --write takes, and what is written without it. "video" stands for labelled photos, too.
VIDEO_COPY: Final = "video"
JSONL: Final = "jsonl"
CSV: Final = "csv"
VTT: Final = "vtt"
HTML: Final = "html"
CROPS: Final = "crops"
WRITE: Final = (VIDEO_COPY, JSONL, CSV, VTT, HTML, CROPS)
DEFAULT: Final = (VIDEO_COPY, JSONL, CSV, HTML)
_SUFFIX: Final = {VIDEO_COPY: ".labelled.mp4", JSONL: ".sightings.jsonl", CSV: ".timeline.csv", VTT: ".vtt"}


@dataclass(frozen=True, slots=True)
class Outputs:
    """What to write and where.

    Attributes:
        folder: of the outputs. write: of `WRITE`. overwrite: replace what exists, whoever wrote it.
        ours: outputs that exist are of an earlier try and are replaced; other programs' sidecars are not.
        xmp: sidecars beside photos. blur: one of `hiding.BLUR`; boxes: draw boxes and names.
    """

    folder: Path
    write: frozenset[str] = frozenset(DEFAULT)
    overwrite: bool = False
    xmp: bool = False
    blur: str = NONE
    boxes: bool = True
    ours: bool = False

    def __post_init__(self) -> None:
        if not self.write <= set(WRITE) or self.blur not in BLUR:
            raise ValueError(f"outputs are of {WRITE}, blur of {BLUR}, not {sorted(self.write)} and {self.blur!r}")

    @property
    def replaces(self) -> bool:
        """Whether outputs that exist are replaced."""
        return self.overwrite or self.ours

    def of_video(self, stem: str) -> dict[str, Path]:
        """Kind -> path of the files that a video gives by itself, in the order of `WRITE`."""
        base = self.folder / stem
        return {kind: base.with_name(base.name + _SUFFIX[kind]) for kind in WRITE if kind in self.write & set(_SUFFIX)}

    def labelled_photo(self, item: Item) -> Path | None:
        """The labelled copy of a photo: PNG stays PNG, anything else becomes JPEG."""
        if VIDEO_COPY not in self.write:
            return None
        suffix = ".png" if item.path.suffix.lower() == ".png" else ".jpg"
        return self.folder / f"{item.stem}.labelled{suffix}"

    def report(self, items: Sequence[Item]) -> Path | None:
        """report.html; of a single file ``clip.report.html`` where the folder has the report of something else."""
        if HTML not in self.write:
            return None
        path = self.folder / REPORT
        if len(items) != 1 or not os.path.exists(path) or is_report_of(path, items[0].path):
            return path
        base = self.folder / items[0].stem
        return base.with_name(f"{base.name}.{REPORT}")


def chosen(text: str | None, no_video: bool = False) -> frozenset[str]:
    """``--write`` and ``--no-video`` as a set.

    Args:
        text: "video,vtt"; None for the default.

    Raises:
        UsageFault: a kind that does not exist, or none at all.
    """
    kinds: Iterable[str] = DEFAULT if text is None else [part.strip().lower() for part in text.split(",")]
    write = {kind for kind in kinds if kind}
    unknown = sorted(write - set(WRITE))
    if unknown or not write:
        raise UsageFault(f"--write takes some of {','.join(WRITE)}, not {','.join(unknown) or 'nothing'!r}")
    return frozenset(write - {VIDEO_COPY} if no_video else write)
