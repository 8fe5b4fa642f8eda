"""Makes an archive of 40 files and labels it: python benchmarks/archive.py FOLDER [--workers 0 2] [--ray] [--hours N]

The files are made from the development clip and photos (FACECAM_TEST_DATA, default ../shared/data): cuts of it in
H.264, VP9 and MJPEG, rotated, one of a variable frame rate, two damaged, one empty, one without a face, one with
Unicode and quotes in its name; photos, one turned by EXIF. Prints a table of engines; with --hours the cost of an
hour-long film: memory, size of the index, and relabelling.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from facecam.video.sources import FileSource

DATA = Path(os.environ.get("FACECAM_TEST_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))


def encode(
    path: Path, frames: list[np.ndarray], *, codec: str = "libx264", ticks: list[int] | None = None, turn: int = 0
) -> None:
    """Write frames of 25 a second; ticks: presentation times in milliseconds instead; turn: degrees to show it at."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        options = {
            "libx264": {"preset": "superfast", "g": "50"},
            "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
        }
        stream.options = options.get(codec, {"qscale": "3"})
        if turn:
            stream.set_display_rotation(turn)
        base = Fraction(1, 25) if codec == "mjpeg" else Fraction(1, 1000)
        if codec != "mjpeg":
            stream.time_base = stream.codec_context.time_base = base
        for k, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            frame.time_base = base
            frame.pts = k if codec == "mjpeg" else (ticks[k] if ticks else 40 * k)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make(folder: Path) -> int:
    """The archive; returns how many files it has."""
    folder.mkdir(parents=True)
    chance = random.Random(7)
    with FileSource(DATA / "clip" / "hamilton.mp4") as source:
        clip = [frame.image for frame in source]
    kinds = (("libx264", ".mp4"), ("libvpx-vp9", ".webm"), ("mjpeg", ".avi"), ("libx264", ".mkv"))
    for number in range(14):
        codec, suffix = kinds[number % len(kinds)]
        start = chance.randrange(0, 200)
        encode(folder / f"cut{number:02d}{suffix}", clip[start : start + chance.randrange(40, 75)], codec=codec)
    encode(folder / "turned-left.mp4", [cv2.rotate(f, cv2.ROTATE_90_CLOCKWISE) for f in clip[90:150]], turn=90)
    encode(folder / "upside-down.mp4", [cv2.rotate(f, cv2.ROTATE_180) for f in clip[90:150]], turn=180)
    uneven = np.cumsum([chance.choice((20, 40, 40, 90)) for _ in range(80)]).tolist()
    encode(folder / "variable.mp4", clip[80:160], ticks=uneven)
    encode(folder / "nobody.mp4", [np.full((360, 640, 3), 40 + k, np.uint8) for k in range(50)])
    shutil.copy(DATA / "clip" / "hamilton.mp4", folder / "Año «nuevo» \"it's\" 'q' 元旦 🎉.mp4")
    whole = (folder / "cut00.mp4").read_bytes()
    (folder / "damaged-cut-short.mp4").write_bytes(whole[: len(whole) // 2])
    hurt = bytearray((folder / "cut03.mkv").read_bytes())
    for _ in range(40):
        hurt[chance.randrange(len(hurt) // 3, len(hurt))] ^= 0xFF
    (folder / "damaged-bits.mkv").write_bytes(hurt)
    (folder / "empty.mp4").touch()
    photos = folder / "photos"
    photos.mkdir()
    for path in sorted((DATA / "clip" / "people").rglob("*.*")):
        shutil.copy(path, photos / f"{path.parent.name} {path.name}")
    turned = cv2.imread(str(next((DATA / "clip" / "people" / "Joe Biden").iterdir())))
    data = cv2.imencode(".jpg", cv2.rotate(turned, cv2.ROTATE_90_COUNTERCLOCKWISE))[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    (photos / "turned by exif.jpg").write_bytes(
        data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    )
    many = sorted((DATA / "lfw_dev" / "images").rglob("*_0001.jpg"))
    left = 40 - sum(1 for p in folder.rglob("*") if p.is_file())
    for path in chance.sample(many, left):
        shutil.copy(path, photos)
    return sum(1 for p in folder.rglob("*") if p.is_file())


def label(inputs: Path, out: Path, *more: str) -> tuple[float, int, str, float]:
    """Run the command; seconds, exit code, stderr, peak memory of it and its children in MB."""
    command = [sys.executable, "-m", "facecam", "label", str(inputs), "-o", str(out), "--progress", "none", *more]
    start = time.perf_counter()
    most = 0.0
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            most = max(most, peak(process.pid))
            time.sleep(0.02)
        took = time.perf_counter() - start
        errors.seek(0)
        return took, process.returncode, errors.read(), most


def peak(pid: int) -> float:
    """The most memory that a process or one that it started has had so far, MB (Linux)."""
    most = 0.0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                most = int(line.split()[1]) / 1024
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            most = max(most, peak(int(child)))
    return most


def fingerprint(folder: Path) -> dict[str, object]:
    """All outputs, without what tells the time."""
    found: dict[str, object] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content: object = path.read_bytes()
        if path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            lines[-1].pop("timing")
            content = lines
        found[str(path.relative_to(folder))] = content
    return found


def long_film(path: Path, minutes: int) -> None:
    """The clip, again and again, copied without encoding."""
    listing = path.with_suffix(".txt")
    clip = DATA / "clip" / "hamilton.mp4"
    listing.write_text(f"file '{clip.resolve()}'\n" * round(minutes * 60 / 9.176))
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-f", "concat", "-safe", "0", "-i", listing, "-map", "0:v", "-c", "copy", path],
        check=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a new folder for the archive and the outputs")
    parser.add_argument("--workers", type=int, nargs="*", default=[0], help="engines to compare; 0: one process")
    parser.add_argument("--ray", type=int, default=0, metavar="N", help="also by so many Ray workers on this machine")
    parser.add_argument("--minutes", type=int, nargs="*", default=[], help="also films of so many minutes (ffmpeg)")
    arguments = parser.parse_args()
    archive = arguments.folder / "archive"
    print(f"{make(archive)} files in {archive}")
    os.environ["FACECAM_HOME"] = str(arguments.folder / "home")  # the user's own gallery is left alone
    subprocess.run(
        [sys.executable, "-m", "facecam", "enroll", "--from-dir", str(DATA / "clip" / "people")],
        stdout=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    print("\n| engine | seconds | exit code | files failed | peak MB | outputs |\n|---|---|---|---|---|---|")
    first = None
    ways = [(f"--workers {n}", ["--workers", str(n)]) for n in arguments.workers]
    if arguments.ray:
        ways.append((f"--engine ray --workers {arguments.ray}", ["--engine", "ray", "--workers", str(arguments.ray)]))
    for name, more in ways:
        out = arguments.folder / name.replace("-", "").replace(" ", "-")
        seconds, code, error, memory = label(archive, out, *more)
        failed = [line for line in error.splitlines() if str(archive) in line and "damaged packets" not in line]
        found = fingerprint(out)
        same = "the first" if first is None else "equal" if found == first else "DIFFERENT"
        first = found if first is None else first
        print(
            f"| {name} | {seconds:.1f} | {code} | {len(failed)} | {memory:.0f} | {len(found)} files, {same} |",
            flush=True,
        )
    print("\n".join(["", "failures:", *failed]))
    for minutes in arguments.minutes:
        path = arguments.folder / f"long-{minutes}.mp4"
        long_film(path, minutes)
        index = arguments.folder / f"long-{minutes}.db"
        seconds, code, _, memory = label(
            path, arguments.folder / "long", "--no-video", "--overwrite", "--index", str(index)
        )
        print(
            f"{minutes} min: exit {code}, {seconds:.1f} s ({minutes * 60 / seconds:.1f} x real time), "
            f"peak {memory:.0f} MB, index {index.stat().st_size / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
