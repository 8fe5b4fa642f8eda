"""How cost grows: with the size of the picture, the faces in it, and the length of the clip.

Usage: python -m benchmarks.growth --out FOLDER [--only size|faces|length] [--seconds 3]

The clips are composed (benchmarks/compose.py) into FOLDER, which lies outside of the project, and kept there. Each row
is `facecam bench --source CLIP` in a process of its own, so that the memory is that row's; nobody is enrolled.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.compose import compose
from benchmarks.lfw import ROOT

SIZES = ((640, 360), (1280, 720), (1920, 1080), (2560, 1440), (3840, 2160))
FACES = (0, 1, 2, 4, 8, 16, 32, 50)
#: Times that a clip is played in a row.
LENGTHS = (1, 4, 16, 64)


def bench(clip: Path) -> dict[str, Any]:
    """The figures of `facecam bench` for one clip."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "bench.json"
        command = [sys.executable, "-m", "facecam", "bench", "--source", str(clip), "--json", str(target)]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        figures: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
        return figures


def repeat(clip: Path, times: int) -> Path:
    """The clip many times in a row, without encoding it again."""
    import av

    target = clip.with_name(f"{clip.stem}-x{times}.mp4")
    if times == 1 or target.exists():
        return target if times > 1 else clip
    part = clip.with_name(f"{clip.stem}-x{times}.part.mp4")
    with av.open(str(part), "w") as out:
        stream = None
        shift = 0
        for _ in range(times):
            with av.open(str(clip)) as source:
                video = source.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                length = round(video.frames / video.average_rate / video.time_base)
                for packet in source.demux(video):
                    if packet.dts is None:
                        continue
                    packet.pts += shift
                    packet.dts += shift
                    packet.stream = stream
                    out.mux(packet)
                shift += length
    part.rename(target)
    return target


def row(label: str, figures: dict[str, Any]) -> None:
    stages = figures["stages"]
    detect = stages["detect"]["per_frame_ms"]
    embed = sum(stages[name]["per_frame_ms"] for name in ("align", "embed") if name in stages)
    print(
        f"| {label} | {figures['frames']} | {figures['faces'] / figures['frames']:.1f} | {figures['fps']:.0f} | "
        f"{figures['decode_fps']:.0f} | {figures['ratio_to_decode']:.0%} | "
        f"{figures['cpu_seconds_per_frame'] * 1e3:.1f} ms | {detect:.2f} ms | {embed:.2f} ms | "
        f"{figures['peak_rss_mb']:.0f} MB |",
        flush=True,
    )


def head(what: str) -> None:
    print()
    print(f"| {what} | frames | faces a frame | fps | decoding alone | ratio | CPU a frame | detect | embed | memory |")
    print("|---|---|---|---|---|---|---|---|---|---|")


def main() -> None:
    parser = argparse.ArgumentParser(description="How cost grows with size, faces and length.")
    parser.add_argument("--out", type=Path, required=True, help="a folder outside of the project")
    parser.add_argument("--only", choices=("size", "faces", "length"), help="one table")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the clips (default: 3)")
    parser.add_argument("--compose", action="store_true", help="compose the clips, and measure nothing")
    arguments = parser.parse_args()
    seconds, folder = arguments.seconds, arguments.out
    measured = (lambda clip: None) if arguments.compose else bench
    show = (lambda label, figures: None) if arguments.compose else row
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    if arguments.only in (None, "size"):
        head("size, 8 faces")
        for width, height in SIZES:
            show(f"{width} x {height}", measured(compose(folder, size=(width, height), faces=8, seconds=seconds)))
    if arguments.only in (None, "faces"):
        head("faces, 1920 x 1080")
        for faces in FACES:
            show(str(faces), measured(compose(folder, faces=faces, seconds=seconds)))
    if arguments.only in (None, "length"):
        head("length, 640 x 360, 2 faces")
        clip = compose(folder, size=(640, 360), faces=2, seconds=seconds)
        for times in LENGTHS:
            show(f"{seconds * times:g} s", measured(repeat(clip, times)))


if __name__ == "__main__":
    main()
