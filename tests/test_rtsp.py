"""A real camera server (GStreamer's, by RTSP): labels, loss, stall, the way out, and no password anywhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from facecam.cli import invoke
from tests.fakes import closed_port, make_clip
from tests.support import HOPPER, facecam
from tests.test_delivery import wait_until
from tests.test_service import Running, names_in, posix, small

PYTHON = "/usr/bin/python3"  # Debian's packages of GStreamer belong to it
SERVER = Path(__file__).with_name("rtsp_server.py")
STALL = 1.5


class Camera:
    """The server as a process, which can be killed, stopped and started again."""

    def __init__(self, film: Path, port: int) -> None:
        self._film, self.port = film, port
        self.url = f"rtsp://ada:s3cret@127.0.0.1:{port}/live"
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [PYTHON, str(SERVER), str(self._film), str(self.port), "ada", "s3cret"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Camera]:
    wanted = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer, Gst;"
    wanted += "Gst.init(None); assert all(map(Gst.ElementFactory.find, ('qtdemux', 'h264parse', 'rtph264pay')))"
    if not shutil.which(PYTHON) or subprocess.run([PYTHON, "-c", wanted], capture_output=True).returncode:
        pytest.skip("no GStreamer RTSP server (Debian: gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-*)")
    film = make_clip(tmp_path / "film.mp4", [small("grace_hopper")] * 1500)
    served = Camera(film, closed_port())
    try:
        yield served
    finally:
        served.signal(signal.SIGCONT)
        served.kill()


@posix
def test_a_real_camera_is_labelled_lost_and_found_again(camera: Camera, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    assert invoke(["enroll", "--name", "Grace", str(HOPPER)]) == 0

    def recovered(count: int, since: float, limit: float) -> None:
        assert wait_until(lambda: names_in(events).count(("appear", "Grace")) > count, 20)
        assert time.monotonic() - since < limit

    with Running("--headless", "--stall", f"{STALL}s", "--events", events, FACECAM_SOURCE=camera.url) as run:
        assert wait_until(lambda: ("appear", "Grace") in names_in(events), 40)
        camera.kill()
        assert wait_until(lambda: names_in(events)[-1] == ("reconnecting", None), STALL + 5)
        camera.start()
        recovered(1, time.monotonic(), STALL + 3)
        camera.signal(signal.SIGSTOP)
        frozen = time.monotonic()
        assert wait_until(lambda: names_in(events)[-1] == ("reconnecting", None), 20)
        assert time.monotonic() - frozen < STALL + 1.5, "the stall is found"
        camera.signal(signal.SIGCONT)
        recovered(2, time.monotonic(), STALL + 3)
        code, error, took = run.end(signal.SIGINT)
    assert code == 130 and took < 2.0 and "Traceback" not in error
    assert "s3cret" not in error + events.read_text()


@posix
@pytest.mark.parametrize("state", ["frozen", "gone"])
def test_ctrl_c_ends_within_two_seconds(camera: Camera, state: str, tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    with Running("--headless", "--stall", "10s", "--events", events, "--source", camera.url) as run:
        assert wait_until(lambda: ("appear", None) in names_in(events), 40)
        if state == "frozen":
            camera.signal(signal.SIGSTOP)
        elif state == "gone":
            camera.kill()
        time.sleep(0.7)
        code, error, took = run.end(signal.SIGINT)
    assert code == 130 and took < 2.0, took
    assert "Traceback" not in error and "s3cret" not in error


def test_a_wrong_password_is_one_line_without_it(camera: Camera) -> None:
    done = facecam("run", "--headless", "--source", camera.url.replace("s3cret", "wr0ng"))
    assert done.code == 12 and "refuses access; check the user and the password" in done.err
    assert "wr0ng" not in done.out + done.err and "Traceback" not in done.err


def test_it_comes_over_one_connection_of_tcp(camera: Camera) -> None:
    """UDP loses packets, and needs ports that a firewall shuts."""
    if not Path("/proc/self/net/udp").exists():
        pytest.skip("no /proc")
    with Running("--headless", "--events", "-", "--source", camera.url) as run:
        assert run.process.stdout is not None
        assert json.loads(run.process.stdout.readline())["type"] == "appear"
        sockets = {os.readlink(f) for f in Path(f"/proc/{run.process.pid}/fd").iterdir() if f.is_symlink()}
        udp = {f"socket:[{line.split()[9]}]" for line in Path("/proc/self/net/udp").read_text().splitlines()[1:]}
        assert not sockets & udp
