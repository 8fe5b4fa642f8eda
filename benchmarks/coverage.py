"""How many of the faces that the full pyramid on every frame finds does `facecam label` report, too?

Usage: python -m benchmarks.coverage [CLIP...] [--label-option=--detect-every=6 ...]

The reference is the detector's whole pyramid at the default --min-face on every single frame, which is slow; it is
kept in .cache/ under the hash of the clip, so that it stays the same yardstick while the pipeline changes. Of pictures
larger than 1280 x 720 every fifth frame stands for all (--every). A face counts as reported when a box of `label` in
the same frame overlaps it by IoU >= 0.5; each box counts for one face. Boxes are cut to the picture first, as they
stand in a sightings file. Without a CLIP the development clip is taken.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lfw import ROOT, data_folder
from facecam.geometry import iou
from facecam.settings import Settings, min_face_pixels
from facecam.values import Box

#: Overlap from which a reported box is that face.
IOU = 0.5
#: Sides of faces, pixels, between which the shares are printed, too.
SIZES = (40, 60, 80, 120, 10_000)
#: Raise it when the reference is made differently.
VERSION = 1

Boxes = dict[int, list[Box]]


def reference(clip: Path, *, every: int = 0, pack: str = "dlib", rebuild: bool = False) -> Boxes:
    """Frame index -> boxes of the full pyramid at the default --min-face, cut to the picture; cached.

    Args:
        every: look at every nth frame; 0 chooses by the size of the picture. Only these frames have an entry.
    """
    from facecam.video.container import FileSource

    with FileSource(clip) as source:
        every = every or (5 if source.info.width * source.info.height > 1280 * 720 else 1)
    digest = hashlib.sha256(clip.read_bytes()).hexdigest()[:16]
    mark = f"-every{every}" if every > 1 else ""
    cache = ROOT / ".cache" / f"reference-{VERSION}-{pack}-{digest}{mark}.npz"
    if not cache.exists() or rebuild:
        cache.parent.mkdir(exist_ok=True)
        count, found = _looked_at(clip, pack, every)
        np.savez(cache, rows=np.array(found, np.float32).reshape(-1, 5), frames=count)
    with np.load(cache) as stored:
        last = int(stored["frames"]) if "frames" in stored else 1 + int(stored["rows"][:, 0].max(initial=-1))
        boxes: Boxes = {index: [] for index in range(0, last, every)}
        for index, x, y, w, h in stored["rows"].tolist():
            boxes[int(index)].append((x, y, w, h))
        return boxes


def _looked_at(clip: Path, pack: str, every: int) -> tuple[int, list[tuple[float, ...]]]:
    """Number of frames of a clip, and (frame, box) of the faces in every nth."""
    from facecam.cli.progress import bar
    from facecam.engine import open_engine
    from facecam.video.cv import import_cv2
    from facecam.video.sources import FileSource

    import_cv2()
    settings = Settings(device="cpu", pack=pack)
    engine = open_engine(settings)
    rows: list[tuple[float, ...]] = []
    with FileSource(clip) as source, bar(f"reference of {clip.name}") as progress:
        min_face = min_face_pixels(settings.min_face, source.info.height)
        count = 0
        for frame in source:
            count += 1
            if frame.index % every:
                continue
            for face in engine.detector.detect(frame.image, min_face):
                box = _cut(face.box, frame.width, frame.height)
                if box is not None:
                    rows.append((frame.index, *box))
            progress(frame.index + 1, source.info.frames)
    return count, rows


def _cut(box: Box, width: int, height: int) -> Box | None:
    x0, y0 = max(0.0, box[0]), max(0.0, box[1])
    x1, y1 = min(float(width), box[0] + box[2]), min(float(height), box[1] + box[3])
    return (x0, y0, x1 - x0, y1 - y0) if x1 > x0 and y1 > y0 else None


def frames_of(path: Path) -> tuple[list[list[list[Any]]], dict[str, Any]]:
    """Each frame's faces of a sightings file as [name or None, x, y, w, h], and its summary line."""
    frames: list[list[list[Any]]] = []
    summary: dict[str, Any] = {}
    with path.open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            if line["type"] == "frame":
                frames.append([[face["name"], *face["box"]] for face in line["faces"]])
            elif line["type"] == "summary":
                summary = line
    return frames, summary


def label(clip: Path, options: Sequence[str] = ()) -> tuple[Boxes, dict[str, Any]]:
    """What `facecam label --no-video` reports of a clip, in a process of its own, with the gallery as it is."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "facecam", "label", str(clip), "--no-video", "-o", folder, *options]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        frames, summary = frames_of(next(Path(folder).glob("*.sightings.jsonl")))
        return {index: [tuple(face[1:]) for face in faces] for index, faces in enumerate(frames)}, summary


@dataclass(slots=True)
class Coverage:
    """Counts of the faces of one clip.

    Attributes:
        faces: of the reference; covered: those that are reported, too; extra: reported boxes that fit none.
        by_size: lower bound of the size -> (covered, faces). missed: frame -> boxes that were not reported.
    """

    faces: int = 0
    covered: int = 0
    extra: int = 0
    by_size: dict[int, tuple[int, int]] = field(default_factory=dict)
    missed: Boxes = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Covered faces of all; 1 where there is none."""
        return self.covered / self.faces if self.faces else 1.0


def coverage(
    expected: Mapping[int, Sequence[Box]], reported: Mapping[int, Sequence[Box]], least: float = IOU
) -> Coverage:
    """Compare, best overlap first, one box for one face, from an overlap of ``least`` on.

    Args:
        expected: has an entry for each frame that was looked at, if only an empty one; others are left out.
    """
    result = Coverage()
    for index in sorted(expected):
        wanted, given = list(expected.get(index, ())), list(reported.get(index, ()))
        pairs = sorted(((iou(w, g), i, j) for i, w in enumerate(wanted) for j, g in enumerate(given)), reverse=True)
        hit: set[int] = set()
        used: set[int] = set()
        for overlap, i, j in pairs:
            if overlap >= least and i not in hit and j not in used:
                hit.add(i)
                used.add(j)
        result.faces += len(wanted)
        result.covered += len(hit)
        result.extra += len(given) - len(used)
        for i, box in enumerate(wanted):
            size = next(low for low, high in zip((0, *SIZES), SIZES) if max(box[2:]) < high)
            covered, faces = result.by_size.get(size, (0, 0))
            result.by_size[size] = (covered + (i in hit), faces + 1)
            if i not in hit:
                result.missed.setdefault(index, []).append(box)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Faces of the full pyramid on every frame that label reports, too.")
    parser.add_argument("clips", type=Path, nargs="*", help="videos; default: the development clip")
    parser.add_argument("--every", type=int, default=0, help="look at every nth frame; default: by the picture's size")
    parser.add_argument("--pack", default="dlib", help="model pack of the reference (default: dlib)")
    parser.add_argument("--label-option", action="append", default=[], help="an option for facecam label; repeatable")
    parser.add_argument("--rebuild", action="store_true", help="make the reference anew")
    parser.add_argument("--missed", action="store_true", help="list the boxes that were not reported, by frame")
    arguments = parser.parse_args()
    sizes = list(zip((0, *SIZES), SIZES))
    heads = [f"{low}-{high} px" if high < 10_000 else f"from {low} px" for low, high in sizes]
    print(f"load {os.getloadavg()[0]:.1f} at the start")
    print()
    print("| clip | faces | reported | share | " + " | ".join(heads) + " | others reported | fps | detections |")
    print("|---|---" + "|---" * (len(heads) + 5) + "|")
    for clip in map(Path.resolve, arguments.clips or [data_folder() / "clip" / "hamilton.mp4"]):
        expected = reference(clip, every=arguments.every, pack=arguments.pack, rebuild=arguments.rebuild)
        reported, summary = label(clip, arguments.label_option)
        result = coverage(expected, reported)
        cells = []
        for low, _ in sizes:
            covered, faces = result.by_size.get(low, (0, 0))
            cells.append(f"{covered} of {faces}" if faces else "")
        timing = summary["timing"]
        print(
            f"| {clip.name} | {result.faces} | {result.covered} | {result.share:.1%} | {' | '.join(cells)}"
            f" | {result.extra} | {timing['fps']:.0f} | {timing.get('detections', '')} |",
            flush=True,
        )
        if arguments.missed:
            for index, boxes in result.missed.items():
                print(f"  {index}: " + ", ".join("(" + " ".join(f"{v:.0f}" for v in box) + ")" for box in boxes))


if __name__ == "__main__":
    main()
