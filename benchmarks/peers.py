"""Peers side by side in one run: frames a second, ratios, and beside them how well each found and named faces.

Usage: python -m benchmarks.peers CLIP --people DIR [--truth CSV] [--yunet yunet.onnx] [--make] [--rounds 2]

    facecam label --no-video, and with the video    in processes of their own, with a gallery of the people in DIR
    decoding alone                                  by facecam's own reader
    face_recognition                                its example for video files: every frame, HOG, at the defaults
    YuNet + facecam's embedder, width 320 and 640   OpenCV's detector on every frame, every face embedded
    InsightFace                                     with --insightface FOLDER (its models are not free to hand out)

face_recognition and InsightFace run in environments of their own below .cache/peers, which --make makes (pip; dlib is
compiled for minutes); --python NAME=PATH names a Python that has the package already. The rows take turns, so that a
busy moment hits all of them. Clocks start when models and people are loaded, and stop after the last frame; slow
peers may be given the first frames only (--limit NAME=FRAMES), and all figures of a row are of the frames it saw.

Quality: names against the truth (start_frame,end_frame,name; precision and recall over frames), and the share of the
reference's faces (benchmarks/coverage.py) that were found, at IoU >= 0.3 here, since detectors draw boxes differently.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: What is put into the environment of a peer. face_recognition_models looks for its files with pkg_resources.
PACKAGES = {
    "face_recognition": ["setuptools<81", "dlib", "face_recognition", "opencv-python-headless"],
    "insightface": ["insightface", "onnxruntime", "opencv-python-headless"],
}
#: face_recognition's example for video files calls faces of this distance the same.
TOLERANCE = 0.5
#: InsightFace names nobody; the cosine similarity from which its examples call faces the same.
SAME = 0.4
IOU = 0.3

# --- the peers: each runs in a process and a Python of its own, and imports what it needs -----------------


def _frames(clip: str, limit: int) -> Iterator[Any]:
    import cv2

    capture = cv2.VideoCapture(clip)
    count = 0
    while count < limit:
        good, frame = capture.read()
        if not good:
            return
        count += 1
        yield frame


def _photos(people: str) -> Iterator[tuple[str, Path]]:
    for folder in sorted(p for p in Path(people).iterdir() if p.is_dir()):
        for file in sorted(folder.iterdir()):
            yield folder.name, file


def peer_face_recognition(job: dict[str, Any]) -> list[Any]:
    import face_recognition
    import numpy as np

    names, known = [], []
    for name, file in _photos(job["people"]):
        found = face_recognition.face_encodings(face_recognition.load_image_file(str(file)))
        if found:
            names.append(name)
            known.append(found[0])
    job["start"]()
    result = []
    for frame in _frames(job["clip"], job["limit"]):
        rgb = np.ascontiguousarray(frame[:, :, ::-1])
        places = face_recognition.face_locations(rgb)
        faces = []
        for (top, right, bottom, left), vector in zip(places, face_recognition.face_encodings(rgb, places)):
            distances = face_recognition.face_distance(known, vector)
            best = int(distances.argmin()) if len(known) else 0
            name = names[best] if len(known) and distances[best] <= TOLERANCE else None
            faces.append([name, left, top, right - left, bottom - top])
        result.append(faces)
    return result


def peer_yunet(job: dict[str, Any]) -> list[Any]:
    sys.path.insert(0, str(ROOT))
    from facecam.video.cv import import_cv2

    import_cv2()
    import cv2
    import numpy as np

    from facecam.engine import open_engine
    from facecam.people.gallery import Gallery
    from facecam.settings import Settings
    from facecam.values import FIVE, Face
    from facecam.vision.align import align

    engine = open_engine(Settings(device="cpu"))
    with Gallery.open(create=False) as gallery:
        matcher = engine.matcher(gallery)
    embedder = getattr(engine, "video_embedder", engine.embedder)
    # A classifier's vectors would need no alignment; the gallery's are the default embedder's.
    detector, result = None, []
    engine.prepare()
    job["start"]()
    for frame in _frames(job["clip"], job["limit"]):
        scale = job["width"] / frame.shape[1]
        size = job["width"], round(frame.shape[0] * scale)
        small = frame if scale == 1 else cv2.resize(frame, size)
        if detector is None:
            detector = cv2.FaceDetectorYN.create(job["yunet"], "", size)  # thresholds at their defaults
        rows = detector.detect(small)[1]
        faces = []
        for row in (rows if rows is not None else np.zeros((0, 15))) / scale:
            points = row[4:14].reshape(5, 2).astype(np.float32)
            if row[2] > 0 and row[3] > 0:
                faces.append(Face((float(row[0]), float(row[1]), float(row[2]), float(row[3])), 1.0, points, FIVE))
        matches = matcher.match(embedder.embed([align(frame, f, embedder.template) for f in faces])) if faces else []
        result.append([[match.name, *face.box] for face, match in zip(faces, matches)])
    return result


def peer_insightface(job: dict[str, Any]) -> list[Any]:
    import cv2
    import numpy as np
    from insightface.app import FaceAnalysis

    folder = Path(job["models"])
    app = FaceAnalysis(name=folder.name, root=str(folder.parent.parent), allowed_modules=["detection", "recognition"],
                       providers=["CPUExecutionProvider"])  # fmt: skip
    app.prepare(ctx_id=-1, det_size=(job["width"], job["width"]))
    names, known = [], []
    for name, file in _photos(job["people"]):
        found = app.get(cv2.imread(str(file)))
        if found:
            names.append(name)
            known.append(max(found, key=lambda f: f.bbox[2] - f.bbox[0]).normed_embedding)
    job["start"]()
    result = []
    for frame in _frames(job["clip"], job["limit"]):
        faces = []
        for face in app.get(frame):
            scores = np.stack(known) @ face.normed_embedding
            best = int(scores.argmax())
            left, top, right, bottom = (float(v) for v in face.bbox)
            faces.append([names[best] if scores[best] >= SAME else None, left, top, right - left, bottom - top])
        result.append(faces)
    return result


def run_peer(text: str) -> None:
    """The child: do the job, and write frames and seconds where it says."""
    job = json.loads(text)
    clock: list[float] = []
    work: Callable[[dict[str, Any]], list[Any]] = globals()["peer_" + job["peer"]]
    frames = work({**job, "start": lambda: clock.append(time.perf_counter())})
    seconds = time.perf_counter() - clock[0]
    Path(job["out"]).write_text(json.dumps({"seconds": seconds, "frames": frames}))


# --- the run --------------------------------------------------------------------------------------------


def environment(peer: str, make: bool) -> str | None:
    """The Python of a peer's own environment; None where it is not made."""
    folder = ROOT / ".cache" / "peers" / peer
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists() and make:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES[peer]], check=True)
    return str(python) if python.exists() else None


def label_rows(clip: Path, folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """Ours: what to run for each row."""
    from benchmarks.coverage import frames_of

    def label(*options: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            command = [sys.executable, "-m", "facecam", "label", str(clip), "-o", out, *options]
            subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            frames, summary = frames_of(next(Path(out).glob("*.sightings.jsonl")))
            return {"seconds": summary["timing"]["seconds"], "frames": frames}

    def decode() -> dict[str, Any]:
        from facecam.video.container import FileSource

        with FileSource(clip) as source:
            start = time.perf_counter()
            frames = [[] for _ in source]
            return {"seconds": time.perf_counter() - start, "frames": frames}

    return {
        "decoding alone": decode,
        "facecam label --no-video": lambda: label("--no-video"),
        "facecam label": lambda: label(),
    }


def peer_rows(arguments: argparse.Namespace, folder: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """The peers that can run here; the others are named with the reason."""
    pythons = dict(entry.split("=", 1) for entry in arguments.python)
    limits = {k: int(v) for k, v in (entry.split("=", 1) for entry in arguments.limit)}

    def job(python: str, peer: str, **more: Any) -> Callable[[], dict[str, Any]]:
        def run() -> dict[str, Any]:
            out = folder / "peer.json"
            about = {"peer": peer, "clip": str(arguments.clip.resolve()), "people": str(arguments.people.resolve())}
            about |= {"out": str(out), "limit": limits.get(peer, 10**9), **more}
            command = [python, str(Path(__file__).resolve()), "--peer", json.dumps(about)]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{peer} failed:\n{done.stderr[-2000:]}")
            result: dict[str, Any] = json.loads(out.read_text())
            return result

        return run

    rows: dict[str, Callable[[], dict[str, Any]]] = {}
    python = pythons.get("face_recognition") or environment("face_recognition", arguments.make)
    if python is None:
        print("face_recognition: left out; --make makes its environment", file=sys.stderr)
    else:
        rows["face_recognition (HOG)"] = job(python, "face_recognition")
    if arguments.yunet is None:
        print("YuNet: left out; give its ONNX file with --yunet", file=sys.stderr)
    else:
        for width in arguments.widths:
            rows[f"YuNet at {width} + our embedder"] = job(
                sys.executable, "yunet", yunet=str(arguments.yunet.resolve()), width=width
            )
    if arguments.insightface is None:
        print("InsightFace: left out; give the folder of its models with --insightface", file=sys.stderr)
    elif (python := pythons.get("insightface") or environment("insightface", arguments.make)) is None:
        print("InsightFace: left out; --make makes its environment", file=sys.stderr)
    else:
        for width in arguments.widths:
            rows[f"InsightFace at {width}"] = job(
                python, "insightface", models=str(arguments.insightface.resolve()), width=width
            )
    return rows


def quality(frames: list[Any], truth: list[Any], enrolled: set[str], expected: dict[int, Any]) -> dict[str, Any]:
    """Names against the truth and boxes against the reference, over the frames that there are."""
    from benchmarks.coverage import coverage
    from facecam.evaluate.clip import Seen, score

    seen = [
        Seen(index, index / 30, tuple((i, face[0]) for i, face in enumerate(faces)))
        for index, faces in enumerate(frames)
    ]
    figures = score(seen, truth, enrolled) if truth else {}
    wanted = {index: boxes for index, boxes in expected.items() if index < len(frames)}
    given = {index: [tuple(face[1:5]) for face in faces] for index, faces in enumerate(frames)}
    return {"found": coverage(wanted, given, IOU).share, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description="facecam and its peers on one clip, by turns.")
    parser.add_argument("clip", type=Path, nargs="?")
    parser.add_argument("--people", type=Path, help="a folder of photos for each person")
    parser.add_argument("--truth", type=Path, help="start_frame,end_frame,name: as facecam eval clip reads")
    parser.add_argument("--yunet", type=Path, help="YuNet as ONNX, of any size")
    parser.add_argument("--widths", type=int, nargs="+", default=[320, 640], help="widths for YuNet and InsightFace")
    parser.add_argument("--insightface", type=Path, help="ROOT/models/NAME with InsightFace's ONNX files")
    parser.add_argument("--make", action="store_true", help="make the peers' environments (pip)")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH", help="a peer's Python, as it is")
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=FRAMES", help="first frames only")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each row (default: 2)")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        run_peer(arguments.peer)
        return
    if arguments.clip is None or arguments.people is None:
        parser.error("give a clip and --people")
    from benchmarks.coverage import reference
    from facecam.evaluate.truth import read_truth

    truth = read_truth(arguments.truth) if arguments.truth else []
    enrolled = {p.name for p in arguments.people.iterdir() if p.is_dir()}
    expected = reference(arguments.clip)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "?"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["FACECAM_HOME"] = name
        command = [sys.executable, "-m", "facecam", "enroll", "--from-dir", str(arguments.people)]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # some photo may not do
        rows = label_rows(arguments.clip.resolve(), folder) | peer_rows(arguments, folder)
        rates: dict[str, list[float]] = {row: [] for row in rows}
        last: dict[str, dict[str, Any]] = {}
        for _ in range(arguments.rounds):
            for row, work in rows.items():
                last[row] = work()
                rates[row].append(len(last[row]["frames"]) / last[row]["seconds"])
                print(f"{row}: {rates[row][-1]:.2f} fps", file=sys.stderr, flush=True)
    print(f"{arguments.clip.name}: {os.cpu_count()} cores, {arguments.rounds} rounds, load {load} at the start")
    print()
    heads = ("what", "frames", "fps", "label --no-video is", "names: precision", "recall", "wrong", "faces found")
    print("| " + " | ".join(heads) + " |")
    print("|---|---|---|---|---|---|---|---|")
    ours = statistics.median(rates["facecam label --no-video"])
    for row, measured in rates.items():
        rate = statistics.median(measured)
        cells = [row, str(len(last[row]["frames"])), f"{rate:.3g}", f"{ours / rate:.3g} x as fast"]
        if row == "decoding alone":
            cells[3] = f"{ours / rate:.1%} of it"
            cells += [""] * 4
        else:
            figures = quality(last[row]["frames"], truth, enrolled, expected)
            for key in ("precision", "recall"):
                cells.append("" if figures.get(key) is None else f"{figures[key]:.3f}")
            cells += [str(figures.get("false_name_frames", "")), f"{figures['found']:.1%}"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
