"""facecam doctor: each check tells good from bad, and the command's exit code follows."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from facecam import doctor, installation
from facecam.cli import invoke
from facecam.errors import DependencyMissing
from facecam.zoo.packs import Zoo


@pytest.fixture
def home(tmp_path: Path, models_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "own"
    shutil.copytree(models_home, home)
    monkeypatch.setenv("FACECAM_HOME", str(home))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("facecam.video.devices.cameras_present", lambda: [])
    return home


def tree(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_a_sound_machine_passes_and_nothing_is_written(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(home)
    assert invoke(["doctor"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == "facecam can run here" and told.err == ""
    assert tree(home) == before
    names = [line.split()[1] for line in told.out.splitlines() if not line.startswith((" ", "facecam"))]
    expected = "python packages onnxruntime opencv video device models gallery cameras display disk"
    assert names == expected.split()


def test_a_fresh_machine_passes_too(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fresh = tmp_path / "none" / "yet"
    checks = {check.name: check for check in doctor.examine(fresh)}
    assert doctor.can_run(checks.values())
    assert "made ready on first use" in checks["models"].text
    assert checks["gallery"].state == "note"
    assert not fresh.exists()


def test_json_is_complete(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "facecam.doctor/1" and report["ok"] is True
    facts = {check["name"]: check["facts"] for check in report["checks"]}
    assert facts["device"]["device"] in ("cpu", "cuda")
    members = ("dlib-detector", "dlib-landmarks", "dlib-pairs")
    assert facts["models"]["members"] == dict.fromkeys(members, "installed")
    assert facts["models"]["milliseconds_a_face"] > 0
    assert facts["disk"]["free_bytes"] > 0


def test_two_wheels_of_onnxruntime_are_an_error_that_is_explained(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = {"onnxruntime": "1.30.0", "onnxruntime-gpu": "1.31.1"}
    monkeypatch.setattr(installation, "installed", lambda name: versions.get(name, "1.0"))
    monkeypatch.setattr(installation, "ONNXRUNTIME", tuple(versions))
    check = installation.check_onnxruntime()
    assert check.state == "error" and "overwrite each other" in check.text
    assert (check.hint or "").startswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install")
    assert invoke(["doctor"]) == 1
    assert "ERROR    onnxruntime" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("versions", "state", "why"),
    [
        ({}, "error", "not installed"),
        ({"onnxruntime-gpu": "0.1"}, "error", "another wheel has overwritten them"),
    ],
)
def test_onnxruntime_absent_or_overwritten(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], state: str, why: str
) -> None:
    monkeypatch.setattr(installation, "installed", versions.get)
    check = installation.check_onnxruntime()
    assert check.state == state and why in check.text and check.hint is not None


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = installation.installed
    monkeypatch.setattr(installation, "installed", lambda name: None if name == "av" else real(name))
    check = installation.check_packages()
    assert (check.state, check.text, check.hint) == ("error", "not installed: av", "pip install av")
    assert real("facecam-no-such-thing") is None


def test_missing_system_libraries_of_opencv_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from facecam.video import cv

    def broken() -> None:
        message = "libGL.so.1: cannot open shared object file: No such file or directory"
        raise DependencyMissing(cv.explain_import_error(message))

    monkeypatch.setattr(cv, "import_cv2", broken)
    check = installation.check_opencv()
    assert check.state == "error" and "apt-get install libgl1" in check.text


@pytest.mark.parametrize(
    ("found", "version", "state", "why"),
    [
        (("opencv-python",), "5.0.0", "ok", "5.0.0"),
        (("opencv-python",), "4.11.0", "error", "5 or newer"),
        (("opencv-python", "opencv-contrib-python"), "5.0.0", "warning", "overwrite"),
        (("opencv-python-headless",), "5.0.0", "warning", "without windows"),
    ],
)
def test_opencvs_variants(
    monkeypatch: pytest.MonkeyPatch, found: tuple[str, ...], version: str, state: str, why: str
) -> None:
    from facecam.video import cv

    monkeypatch.setattr(installation, "installed", lambda name: version if name in found else None)
    monkeypatch.setattr(cv, "import_cv2", lambda: type("cv2", (), {"__version__": version}))
    check = installation.check_opencv()
    assert (check.state, why in check.text) == (state, True)


def test_a_check_that_fails_is_an_error_and_the_others_still_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(doctor, "check_python", broken)
    checks = doctor.examine(home)
    assert checks[0] == doctor.Check("python", "error", "the check failed: RuntimeError: two lines")
    assert len(checks) == 11 and not doctor.can_run(checks)


# --- models and gallery ---


def test_damaged_models_are_found_by_their_hashes(home: Path) -> None:
    path = Zoo(home).path_of("dlib-pairs")
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(100_000)
        file.write(b"harm")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    check = doctor.check_models(home)
    assert check.state == "error" and "has changed since it was installed" in check.text
    assert check.hint == "facecam models pull dlib-pairs"


def test_a_pack_that_is_not_there_is_an_error(home: Path) -> None:
    facts = {"schema": "facecam.active/1", "detector": "yunet", "embedder": "sface"}
    (home / "models" / "active.json").write_text(json.dumps(facts))
    check = doctor.check_models(home)
    assert check.state == "error" and check.hint == "facecam models pull opencv"
    (home / "models" / "active.json").write_text("{")
    assert "facecam models use dlib" in doctor.check_models(home).text


def enrol(home: Path, space: str) -> None:
    import numpy as np

    from facecam.people.gallery import Gallery
    from facecam.values import Sample, Template

    vector = np.zeros(128, np.float32)
    vector[0] = 1
    with Gallery.open(home / "gallery.db") as gallery:
        gallery.add("Ada", [Sample(Template(vector, space), "0" * 64, "a.jpg", 0.9)])


def test_the_gallery_and_its_schema(home: Path) -> None:
    from facecam.people.schema import MIGRATIONS

    space = Zoo(home).ensure().embedder.card.space
    assert space is not None
    enrol(home, space)
    check = doctor.check_gallery(home)
    assert check.state == "ok" and check.text.startswith("1 person, 1 sample, schema ")
    assert check.facts["schema"] == MIGRATIONS[-1].name
    assert check.facts["spaces"] == {space: 1}


@pytest.mark.parametrize("harm", ["another model", "damaged", "a text", "a link without a file"])
def test_a_gallery_that_cannot_serve_is_an_error(home: Path, harm: str) -> None:
    enrol(home, "ffffffffffffffff")
    path = home / "gallery.db"
    if harm == "damaged":
        path.write_bytes(path.read_bytes()[:5000])
        for extra in home.glob("gallery.db-*"):
            extra.unlink()
    elif harm == "a text":
        path.write_text("hello")
    elif harm == "a link without a file":
        for file in home.glob("gallery.db*"):
            file.unlink()
        path.symlink_to(home / "elsewhere.db")
    checks = {check.name: check for check in doctor.examine(home)}
    assert checks["gallery"].state == "error" and "\n" not in checks["gallery"].text
    assert not doctor.can_run(checks.values())


# --- cameras, display, disk ---


def fake_cv2(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cv2 module for the probe's process, whose VideoCapture behaves as told."""
    (folder / "cv2.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(folder))


GOOD_CAMERA = """
import sys
class Picture:
    shape = (480, 640, 3)
class VideoCapture:
    def __init__(self, index):
        self.index = index
        print("[ WARN] noise of a driver", file=sys.stderr)
        print("noise on stdout")
    def isOpened(self): return self.index != 7
    def read(self): return (True, Picture()) if self.index == 0 else (False, None)
    def release(self): pass
"""


def test_cameras_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_cv2(tmp_path, GOOD_CAMERA, monkeypatch)
    monkeypatch.setattr("facecam.video.devices.cameras_present", lambda: [(0, "Good"), (3, "Black"), (7, "Busy")])
    check = doctor.check_cameras()
    assert (check.state, check.text) == ("ok", "0 (Good, 640x480)")
    assert check.facts["cameras"] == [
        {"index": 0, "opened": True, "size": [640, 480], "name": "Good"},
        {"index": 3, "opened": True, "size": None, "name": "Black"},
        {"index": 7, "opened": False, "size": None, "name": "Busy"},
    ]
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr("facecam.video.devices.cameras_present", lambda: [(7, "Busy")])
    check = doctor.check_cameras()
    assert check.state == "warning" and check.hint is not None and "group video" in check.hint


def test_a_driver_that_hangs_does_not_hang_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wait = "def isOpened(self):\n        import time; time.sleep(60 * self.index)\n        "
    hanging = GOOD_CAMERA.replace("def isOpened(self): ", wait)
    fake_cv2(tmp_path, hanging, monkeypatch)
    start = time.monotonic()
    found = doctor.probe_cameras([0, 1], 2.0)
    assert time.monotonic() - start < 10
    assert [c["size"] for c in found] == [[640, 480], None]


def test_a_crash_of_the_probe_is_no_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cv2(tmp_path, "import os; os.abort()", monkeypatch)
    assert doctor.probe_cameras([0], 10.0) == [{"index": 0, "opened": False, "size": None}]


def test_no_display_is_a_note(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    check = doctor.check_display()
    assert check.state == "note" and "DISPLAY" in check.text and check.hint == "facecam run --headless"


def test_a_display_that_does_not_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr("facecam.video.window.display_problem", lambda: release.wait(30) and None)
    monkeypatch.setattr(doctor, "DISPLAY_SECONDS", 0.2)
    assert "does not answer within 0.2 s" in doctor.check_display().text
    release.set()


def test_a_probe_that_fails_raises_here() -> None:
    def broken() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        doctor._within(5, broken)


@pytest.mark.parametrize(("free", "state"), [(10_000_000, "error"), (500_000_000, "warning"), (9_000_000_000, "ok")])
def test_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert doctor.check_disk(tmp_path).state == state


def test_a_home_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert "not a folder" in doctor.check_disk(tmp_path / "file" / "home").text
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    check = doctor.check_disk(tmp_path / "home")
    assert check.state == "error" and check.hint is not None and "FACECAM_HOME" in check.hint
