"""Prints how fast a file is labelled: python benchmarks/label.py [FILE]

Without FILE the demo's clip is rendered first (14 s of 960 x 540, two faces; needs the extra "demo"). All rows
are of one run over one file, in turns, so that their ratios hold on a busy machine, too. Nobody is enrolled,
which is the dearer case: strangers are embedded again and again. The models load before the clock starts.

With --copies N another table follows: `facecam label` over a folder of N copies, by one process and by as many as it
takes by itself, from its start to its end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from facecam.archive.inputs import VIDEO, Item
from facecam.archive.label import label_video
from facecam.archive.outputs import CSV, JSONL, VIDEO_COPY, Outputs
from facecam.engine import Engine, open_engine
from facecam.settings import Settings
from facecam.values import SourceInfo
from facecam.video.sources import FileSource


def decode(path: Path, *, convert: bool) -> int:
    """Read every frame; with ``convert`` as BGR too. Returns how many there are."""
    count = 0
    with FileSource(path) as source:
        for frame in source:
            if convert:
                _ = frame.image
            count += 1
    return count


def label(path: Path, engine: Engine, folder: Path, *, pictures: bool) -> int:
    """What `facecam label` does with one video file."""
    options = Outputs(folder, frozenset({JSONL, CSV} | ({VIDEO_COPY} if pictures else set())), overwrite=True)
    return label_video(
        Item(path, VIDEO, "bench"), engine, engine.matcher(None), options, lambda done, total: None
    ).frames


def batch(path: Path, copies: int, folder: Path, runs: int, more: list[str]) -> None:
    """Print what a folder of copies costs, by one process and by several, with the video and without."""
    inputs = folder / "copies"
    inputs.mkdir()
    for number in range(copies):
        shutil.copy(path, inputs / f"{number}{path.suffix}")
    ways = {
        "one process, --no-video": ["--workers", "0", "--no-video"],
        "one process": ["--workers", "0"],
        "several, --no-video": ["--no-video"],
        "several": [],
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(runs):
        for way, options in ways.items():
            command = [
                sys.executable,
                "-m",
                "facecam",
                "label",
                str(inputs),
                "-o",
                str(folder / "batch"),
                "--overwrite",
            ]
            start = time.perf_counter()
            subprocess.run([*command, "--progress", "none", *options, *more], check=True, capture_output=True)
            took[way].append(time.perf_counter() - start)
    first = statistics.median(took["one process, --no-video"])
    print(f"\n{copies} copies, {runs} runs each, starting included\n")
    print("| by | seconds, median | fastest | speed, of one process without the video |")
    print("|---|---|---|---|")
    for way, measured in took.items():
        median = statistics.median(measured)
        print(f"| {way} | {median:.1f} | {min(measured):.1f} | {first / median:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Frames a second of facecam label and of decoding alone.")
    parser.add_argument("file", type=Path, nargs="?", help="a video; default: the demo's clip, rendered on the spot")
    parser.add_argument("--runs", type=int, default=3, help="runs of each row (default: 3)")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--pack", help="model pack; default: the one in use")
    parser.add_argument("--copies", type=int, default=0, metavar="N", help="also time the command over N copies")
    arguments = parser.parse_args()
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    engine = open_engine(Settings(device=arguments.device, pack=arguments.pack))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = arguments.file
        if path is None:
            from facecam.demo import render

            path = folder / "demo.mp4"
            render(path, overwrite=True)
        with FileSource(path) as source:
            info = source.info
        rows: dict[str, Callable[[], int]] = {
            "decoding alone": lambda: decode(path, convert=False),
            "decoding to BGR": lambda: decode(path, convert=True),
            "label --no-video": lambda: label(path, engine, folder, pictures=False),
            "label": lambda: label(path, engine, folder, pictures=True),
        }
        rates: dict[str, list[float]] = {row: [] for row in rows}
        for _ in range(arguments.runs):
            for row, work in rows.items():
                start = time.perf_counter()
                frames = work()
                rates[row].append(frames / (time.perf_counter() - start))
        _print(path, rates, frames, info, engine, f"{arguments.runs} runs each{load}")
        if arguments.copies:
            more = ["--device", arguments.device] + (["--pack", arguments.pack] if arguments.pack else [])
            batch(path, arguments.copies, folder, arguments.runs, more)


def _print(
    path: Path, rates: dict[str, list[float]], frames: int, info: SourceInfo, engine: Engine, circumstances: str
) -> None:
    base, plain = (statistics.median(rates[row]) for row in ("decoding to BGR", "label --no-video"))
    print(
        f"{path.name}: {frames} frames of {info.width} x {info.height}; pack {engine.pack} on the {engine.device.name}"
    )
    print(f"{os.cpu_count()} cores, {circumstances}")
    print()
    print("| work | median | fastest | ratio to decoding to BGR | to label --no-video |")
    print("|---|---|---|---|---|")
    for row, measured in rates.items():
        median = statistics.median(measured)
        print(f"| {row} | {median:.0f} fps | {max(measured):.0f} fps | {median / base:.2f} | {median / plain:.2f} |")


if __name__ == "__main__":
    main()
