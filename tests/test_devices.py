"""Cameras listed from a made-up /dev and /sys, their modes asked with a driver that speaks videodev2.h's structures."""

from __future__ import annotations

import errno
import json
import struct
from pathlib import Path

import pytest

from facecam.cli import invoke
from facecam.errors import SourceError
from facecam.video import devices, grabber
from facecam.video.devices import Ask, Mode, device_number, is_device, list_cameras
from facecam.video.sources import CameraSource, open_source
from tests.fakes import FakeCapture

BY_ID = "usb-046d_HD_Pro_Webcam_C920_4F6E2A-video-index0"
MJPG, YUYV = (int.from_bytes(word, "little") for word in (b"MJPG", b"YUYV"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with a webcam (video0 for pictures, video1 for metadata) and a camera without a link (video2)."""
    links = tmp_path / "dev/v4l/by-id"
    links.mkdir(parents=True)
    for number, name in ((0, "HD Pro Webcam\x1b[31m C920"), (1, "HD Pro Webcam C920"), (2, "Built-in")):
        (tmp_path / f"dev/video{number}").write_bytes(b"")
        folder = tmp_path / f"sys/class/video4linux/video{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(name + "\n")
    (links / BY_ID).symlink_to("../../video0")
    return tmp_path


def driver(root: Path) -> Ask:
    """Answers like uvcvideo: video0 has two formats, video1 only metadata, video2 one range of sizes."""
    sizes = {MJPG: [(1920, 1080), (640, 480)], YUYV: [(640, 480)]}
    import os

    def ask(handle: int, request: int, data: bytes) -> bytes:
        device = os.readlink(f"/proc/self/fd/{handle}")[-1]
        index = struct.unpack_from("=I", data)[0]
        size = request >> 16 & 0x3FFF
        assert len(data) == size, "the request says how long its structure is"
        answer = bytearray(data)
        end = OSError(errno.EINVAL, "Invalid argument")
        if request == devices._QUERYCAP:
            struct.pack_into("=II", answer, 84, 0x84A00001, 0x04A00000 if device == "1" else 0x04200001)
        elif request == devices._ENUM_FMT:
            formats = [MJPG, YUYV] if device == "0" else [YUYV]
            if index >= len(formats):
                raise end
            struct.pack_into("=I", answer, 44, formats[index])
        elif request == devices._ENUM_SIZES:
            code = struct.unpack_from("=I", data, 4)[0]
            if device == "2":
                struct.pack_into("=IIIIIII", answer, 8, 3, 16, 1280, 2, 16, 720, 2)
            elif index >= len(sizes[code]):
                raise end
            else:
                struct.pack_into("=III", answer, 8, 1, *sizes[code][index])
        else:
            assert request == devices._ENUM_INTERVALS
            rates = [15, 30] if device == "0" else []
            if index >= len(rates):
                raise end
            struct.pack_into("=III", answer, 16, 1, 1, rates[index])
        return bytes(answer)

    return ask


def test_cameras_are_listed_with_stable_names_and_modes(root: Path) -> None:
    webcam, built_in = list_cameras(root, driver(root))
    assert (webcam.number, webcam.name) == (0, "HD Pro Webcam?[31m C920"), "no escape sequence reaches a terminal"
    assert webcam.stable == str(root / "dev/v4l/by-id" / BY_ID)
    assert webcam.modes == (Mode("MJPG", 1920, 1080, 30), Mode("MJPG", 640, 480, 30), Mode("YUYV", 640, 480, 30))
    assert (built_in.number, built_in.stable, built_in.modes) == (2, None, (Mode("YUYV", 1280, 720, None),))


def test_a_device_that_cannot_be_asked_is_listed_with_the_reason(root: Path) -> None:
    (root / "dev/video1").unlink()
    (root / "dev/video2").unlink()
    (found,) = list_cameras(root)  # an ordinary file: the real ioctl says ENOTTY
    assert found.number == 0 and not found.modes and found.problem


def test_a_stable_name_follows_its_camera(root: Path) -> None:
    link = root / "dev/v4l/by-id" / BY_ID
    assert device_number(f"/dev/v4l/by-id/{BY_ID}", root) == device_number(BY_ID, root) == 0
    link.unlink()
    link.symlink_to("../../video2")  # plugged in again
    assert device_number(BY_ID, root) == 2
    (root / "dev/video2").unlink()
    assert device_number(BY_ID, root) is None
    assert is_device(f"/dev/v4l/by-id/{BY_ID}") and is_device("/dev/video7") and is_device(BY_ID, root)
    assert not is_device("clip.mp4", root) and not is_device("/tmp/video7") and not is_device("", root)


def test_a_camera_opens_by_its_name_and_says_when_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/dev/v4l/by-id/{BY_ID}"
    fake = FakeCapture()
    with CameraSource(path, width=640, capture=fake) as source:
        assert source.read() is not None and source.info.name == path
    assert fake.asked, "a camera by name is asked for its size, too"
    monkeypatch.setattr(grabber, "cameras_present", lambda: [(4, "Other")])
    with pytest.raises(SourceError, match=r"is not connected; cameras here: 4 \(Other\)"):
        open_source(path)


def test_the_command_lists_them(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = list_cameras(root, driver(root))
    monkeypatch.setattr(devices, "list_cameras", lambda: listed)
    monkeypatch.setattr("sys.platform", "linux")
    assert invoke(["cameras"]) == 0
    out = capsys.readouterr().out
    assert f"--source {root}/dev/v4l/by-id/{BY_ID}" in out and "MJPG: 1920x1080@30, 640x480@30" in out
    assert invoke(["cameras", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["modes"][0] == {"format": "MJPG", "width": 1920, "height": 1080, "fps": 30}
    assert second["number"] == 2
    monkeypatch.setattr(devices, "list_cameras", lambda: [])
    assert invoke(["cameras"]) == 0
    assert "no camera" in capsys.readouterr().out


def test_where_the_system_keeps_no_list_numbers_are_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    probed = [{"index": 0, "opened": True, "size": [640, 480]}, {"index": 1, "opened": False, "size": None}]
    monkeypatch.setattr("facecam.doctor.probe_cameras", lambda indexes, seconds: probed)
    monkeypatch.setattr("facecam.cli.cameras.sys.platform", "darwin")
    assert invoke(["cameras", "--json"]) == 0
    (only,) = json.loads(capsys.readouterr().out)
    assert only["number"] == 0 and only["modes"][0]["width"] == 640
