"""Looks at this machine: can the main job run here, and if not, what is to be done?

Each check says what is the case, not what a library claims: sessions are made, cameras are read, the
display is asked, files are hashed. Nothing is written, nothing is downloaded, nothing waits for long.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

from facecam.errors import FacecamError, ModelError
from facecam.installation import (
    Check,
    check_onnxruntime,
    check_opencv,
    check_packages,
    check_python,
    check_video,
)

T = TypeVar("T")

#: Least free space: below the first the gallery may be lost, below the second a video will not fit.
NEEDED_BYTES: Final = 100_000_000
WANTED_BYTES: Final = 2_000_000_000
#: Longest wait for all cameras together, and for the display, seconds.
CAMERA_SECONDS: Final = 8.0
DISPLAY_SECONDS: Final = 5.0

# Runs in a process of its own: a driver that hangs or prints cannot disturb us.
_CAMERA_PROBE: Final = """
import json, sys, cv2
for index in map(int, sys.argv[1:]):
    capture = cv2.VideoCapture(index)
    opened, picture = capture.isOpened(), None
    if opened:
        picture = capture.read()[1]
    capture.release()
    size = None if picture is None else [picture.shape[1], picture.shape[0]]
    print(json.dumps({"index": index, "opened": opened, "size": size}), flush=True)
"""


def examine(home: Path) -> list[Check]:
    """Run every check. A check that fails itself is reported as an error, the others still run."""
    checks: dict[str, Callable[[], Check]] = {
        "python": check_python,
        "packages": check_packages,
        "onnxruntime": check_onnxruntime,
        "opencv": check_opencv,
        "video": check_video,
        "device": check_device,
        "models": lambda: check_models(home),
        "gallery": lambda: check_gallery(home),
        "cameras": check_cameras,
        "display": check_display,
        "disk": lambda: check_disk(home),
    }
    return [_guarded(name, check) for name, check in checks.items()]


def can_run(checks: Iterable[Check]) -> bool:
    """Whether the main job can run."""
    return all(check.state != "error" for check in checks)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except FacecamError as error:
        return Check(name, "error", str(error))
    except Exception as error:  # a broken installation fails in any way; it is reported, not hidden
        return Check(name, "error", f"the check failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")


def check_device() -> Check:
    """Where a session truly runs; what ONNX Runtime lists as available is only a fact beside it."""
    from facecam.engine import chosen_precision
    from facecam.zoo.session import choose_device, cpu_threads, runtime

    device = choose_device("auto")
    facts = {
        "device": device.name,
        "why": device.why,
        "precision": chosen_precision("auto", device),
        "threads": cpu_threads(),
        "providers_listed": runtime().get_available_providers(),
    }
    if device.name == "cuda":
        return Check("device", "ok", "sessions run on CUDA", facts=facts)
    text = f"sessions run on the CPU, {facts['threads']} thread(s), videos in {facts['precision']}: {device.why}"
    return Check("device", "note", text, facts=facts)


def check_models(home: Path) -> Check:
    """The pack in use: present, hashes right, and the embedder's session truly made, if that needs no writing."""
    from facecam.zoo import intake, registry
    from facecam.zoo.packs import Zoo

    zoo = Zoo(home, notify=lambda line: None)
    try:
        choice = zoo.active()
    except ModelError as error:
        return Check("models", "error", str(error))
    verdicts = intake.verify(zoo)
    states = {status.id: status.state for status in intake.statuses(zoo)}
    facts: dict[str, Any] = {
        "folder": str(zoo.folder),
        "pack": choice.name,
        "members": {id: states.get(id, "absent") for id in choice.members()},
        "files": [{"id": v.id, "file": str(v.path), "state": v.state} for v in verdicts if v.state != "absent"],
    }
    bad = [v for v in verdicts if not v.good]
    if in_use := [v for v in bad if v.id in choice.members()]:
        hint = "" if in_use[0].id not in registry.models() else f"facecam models pull {choice.name}"
        return Check("models", "error", f"{in_use[0].id}: {in_use[0].detail}", hint or None, facts)
    text = f"pack {choice.name} ({', '.join(choice.members())}), hashes right"
    if all(states.get(id) == "installed" for id in choice.members()):
        facts["milliseconds_a_face"] = took = _time_embedder(zoo, choice.embedder)
        text += f"; a face takes {took:.1f} ms"
    else:
        text += "; made ready on first use"
    if bad:
        return Check("models", "warning", f"{text}; but {bad[0].id}: {bad[0].detail}", "facecam models verify", facts)
    return Check("models", "ok", text, facts=facts)


def _time_embedder(zoo: Any, id: str) -> float:
    """Milliseconds for one crop on the device that is in use."""
    import numpy as np

    from facecam.zoo.session import choose_device, load

    file = zoo.model(id)
    model = load(file.path, device=choose_device("auto"), card=file.card)
    crop = np.zeros((1, 3, *file.card.size), np.float32)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        model.run_batch(crop)
        times.append(time.perf_counter() - start)
    return round(min(times) * 1000, 2)


def check_gallery(home: Path) -> Check:
    """The gallery's integrity, schema, people, and whether the embedder in use knows them."""
    from facecam.people.gallery import Gallery
    from facecam.zoo.packs import Zoo

    path = home / "gallery.db"
    if not os.path.lexists(path):  # a link without a file is told by opening it
        facts: dict[str, Any] = {"path": str(path), "people": 0}
        return Check("gallery", "note", "nobody is enrolled yet", "facecam enroll --name NAME PHOTO", facts)
    with Gallery.open(path, create=False) as gallery:
        people = gallery.people()
        with gallery.store.read() as db:
            schema = [str(row[0]) for row in db.execute("SELECT name FROM migration ORDER BY rowid")]
        facts = {
            "path": str(path),
            "people": len(people),
            "samples": sum(person.samples for person in people),
            "schema": schema[-1] if schema else None,
            "spaces": gallery.spaces(),
            "bytes": path.stat().st_size,
        }
        space = _space_in_use(Zoo(home, notify=lambda line: None))
        if space is not None:
            gallery.check_space(space)
    who = f"{len(people)} {'person' if len(people) == 1 else 'people'}"
    what = f"{facts['samples']} sample{'' if facts['samples'] == 1 else 's'}"
    text = f"{who}, {what}, schema {facts['schema']}, intact"
    if os.name == "posix" and path.stat().st_mode & 0o077:
        return Check("gallery", "warning", f"{text}; but others can read it", f"chmod 600 {path}", facts)
    return Check("gallery", "ok", text, facts=facts)


def _space_in_use(zoo: Any) -> str | None:
    """The vector space of the embedder in use, where it is known without making anything."""
    from facecam.zoo import intake

    try:
        id = zoo.active().embedder
    except ModelError:
        return None  # check_models tells
    card = next((s.card for s in intake.statuses(zoo) if s.id == id), None)
    return None if card is None else card.space


def check_cameras() -> Check:
    """Cameras that open and give a picture. Their absence is no error: files and streams work."""
    from facecam.video.devices import cameras_present

    listed = cameras_present()
    names = dict(listed) if listed is not None else {index: f"camera {index}" for index in range(3)}
    if not names:
        return Check("cameras", "note", "none connected; files and streams work", facts={"cameras": []})
    found = probe_cameras(list(names), CAMERA_SECONDS)
    facts = {"cameras": [{**camera, "name": names[camera["index"]]} for camera in found]}
    good = [c for c in facts["cameras"] if c["size"]]
    if good:
        shown = ", ".join(f"{c['index']} ({c['name']}, {c['size'][0]}x{c['size'][1]})" for c in good)
        return Check("cameras", "ok", shown, facts=facts)
    if listed is None:
        return Check("cameras", "note", "none found; files and streams work", facts=facts)
    hint = "close programs that hold it; check your rights to it (group video)"
    return Check("cameras", "warning", f"{len(names)} listed, none gives a picture", hint, facts)


def probe_cameras(indexes: list[int], seconds: float) -> list[dict[str, Any]]:
    """Open each camera and read a picture, in another process.

    Args:
        seconds: limit for all together; those that were not reached count as silent.

    Returns:
        for each: "index", "opened", and "size" ([width, height] or None).
    """
    quiet = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8", "OPENCV_VIDEOIO_DEBUG": "0"}
    command = [sys.executable, "-c", _CAMERA_PROBE, *map(str, indexes)]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            env={**os.environ, **quiet},
            check=False,
        )
        output = done.stdout
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
    told = {}
    for line in output.decode(errors="replace").splitlines():
        if line.startswith("{") and line.endswith("}"):
            camera = json.loads(line)
            told[camera["index"]] = camera
    return [told.get(i, {"index": i, "opened": False, "size": None}) for i in indexes]


def check_display() -> Check:
    """Whether a window can open; without one, run needs --headless."""
    from facecam.video.window import display_problem

    answered, problem = _within(DISPLAY_SECONDS, display_problem)
    if not answered:
        problem = f"the display does not answer within {DISPLAY_SECONDS:g} s"
    if problem is not None:
        return Check("display", "note", problem, "facecam run --headless", {"window": False})
    return Check("display", "ok", "a window can open", facts={"window": True})


def _within(seconds: float, ask: Callable[[], T]) -> tuple[bool, T | None]:
    """(True, answer), or (False, None) if it does not come in time; the asker is left behind."""
    answer: list[T] = []
    faults: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(ask())
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if faults:
        raise faults[0]
    return (True, answer[0]) if answer else (False, None)


def check_disk(home: Path) -> Check:
    """Free space where the gallery and the models are, and the right to write there."""
    place = home
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    facts = {"home": str(home), "free_bytes": free, "writable": os.access(place, os.W_OK | os.X_OK)}
    text = f"{free / 1e9:.1f} GB free at {home}"
    if not place.is_dir():
        return Check("disk", "error", f"{place} is a file, not a folder", "set FACECAM_HOME to a folder", facts)
    if not facts["writable"]:
        return Check("disk", "error", f"{place} cannot be written", "set FACECAM_HOME to a folder of yours", facts)
    if free < NEEDED_BYTES:
        return Check("disk", "error", f"{text}: too little", "free some space or set FACECAM_HOME", facts)
    if free < WANTED_BYTES:
        return Check("disk", "warning", f"{text}: little for videos", "free some space", facts)
    return Check("disk", "ok", text, facts=facts)
