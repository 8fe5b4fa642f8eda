"""Sources that are lost and come back: unplugged, refused, stalled, hung; how soon, how often, and what is said."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.errors import SourceError, UsageFault
from facecam.values import Frame
from facecam.video import camera
from facecam.video.camera import CameraSource
from facecam.video.reconnect import Reconnect, pause
from facecam.video.stream import StreamCapture
from tests.fakes import FakeCapture, closed_port, mjpeg_server, number_of, numbered
from tests.faults import FAULTS, FaultyCamera, faulty_camera

QUICK = Reconnect(stall=0.4)


class Plugs:
    """Makes captures one after another, as their makers say."""

    def __init__(self, *makers: Callable[[], Any]) -> None:
        self._makers = itertools.chain(makers[:-1], itertools.repeat(makers[-1]))
        self.made: list[Any] = []

    def __call__(self, spec: int | str) -> Any:
        self.made.append(next(self._makers)())
        return self.made[-1]


def frames(source: CameraSource, count: int, limit: float = 15.0) -> list[Frame]:
    end = time.monotonic() + limit
    got: list[Frame] = []
    while len(got) < count and time.monotonic() < end:
        frame = source.read()
        assert frame is not None
        got.append(frame)
    return got


@pytest.mark.parametrize(
    ("text", "attempts"), [("never", 0), (" Forever ", math.inf), ("7", 7), ("0", 0), ("000000012", 12)]
)
def test_what_a_user_may_say(text: str, attempts: float) -> None:
    assert Reconnect.parse(text).attempts == attempts


@pytest.mark.parametrize("text", ["", "-1", "always", "1.5", "9999999999", "٣"])
def test_what_a_user_may_not_say(text: str) -> None:
    with pytest.raises(UsageFault, match="never, forever or a number"):
        Reconnect.parse(text)


@given(st.integers(1, 10**6))
def test_pauses_grow_to_a_bound_and_are_not_all_the_same(attempt: int) -> None:
    assert 0 < pause(attempt) <= 2.0 and pause(attempt, refused=True) <= 60
    assert pause(1) <= 0.25
    assert len({pause(attempt) for _ in range(20)}) > 1, "jitter"


def test_a_camera_that_is_plugged_in_again_goes_on() -> None:
    plugs = Plugs(lambda: FakeCapture(count=5), lambda: FakeCapture(opens=False), FakeCapture)
    with CameraSource(0, capture=plugs, reconnect=QUICK) as source:
        got = frames(source, 5)
        lost = time.monotonic()
        while source.status.outages == 0:
            got += frames(source, 1)
        got += frames(source, 20)
        assert time.monotonic() - lost < QUICK.stall + 3
        status = source.status
    assert status.connected and status.outages == 1 and 0 < status.down < 3
    assert len(plugs.made) == 3
    indexes, times = [f.index for f in got], [f.time for f in got]
    assert indexes == sorted(set(indexes)) and times == sorted(set(times)), "numbers and times run on over the gap"
    assert max(b - a for a, b in itertools.pairwise(times)) >= 0.2, "and the gap is in the times"


def test_a_camera_that_never_comes_back_is_given_up_after_n_attempts() -> None:
    plugs = Plugs(lambda: FakeCapture(count=3), lambda: FakeCapture(opens=False))
    with CameraSource(0, capture=plugs, reconnect=Reconnect(attempts=2, stall=0.4)) as source:
        with pytest.raises(SourceError, match="gave up after 2 attempts"):
            while source.read():
                pass
        assert len(plugs.made) == 3
        with pytest.raises(SourceError):
            source.read()


def test_never_means_never() -> None:
    plugs = Plugs(lambda: FakeCapture(count=3))
    with (
        CameraSource(0, capture=plugs, reconnect=Reconnect(attempts=0, stall=0.4)) as source,
        pytest.raises(SourceError, match="has stopped"),
    ):
        while source.read():
            pass
    assert len(plugs.made) == 1


def test_the_first_connection_is_waited_for_only_when_wanted() -> None:
    with pytest.raises(SourceError, match="cannot be opened"):
        CameraSource(0, capture=FakeCapture(opens=False), reconnect=QUICK)
    plugs = Plugs(lambda: FakeCapture(opens=False), lambda: FakeCapture(opens=False), FakeCapture)
    with CameraSource(0, capture=plugs, reconnect=Reconnect(stall=0.4, at_start=True)) as source:
        assert not source.status.connected
        assert source.read() is not None
        assert source.status.connected and source.status.outages == 0


@pytest.mark.parametrize("empty", [None, np.zeros((0, 0, 3), np.uint8)], ids=["none", "no pixels"])
def test_endless_empty_frames_are_a_loss(empty: Any) -> None:
    class Endless(FakeCapture):
        """Reads go on, and give nothing."""

        def read(self) -> tuple[bool, Any]:
            _, image = super().read()
            self.reads += image is None
            return True, image

    plugs = Plugs(lambda: Endless(lambda k: numbered(k) if k < 3 else empty), FakeCapture)
    with CameraSource(0, capture=plugs, reconnect=QUICK) as source:
        while source.status.outages == 0:
            frames(source, 1)
        assert source.status.connected


def test_a_driver_that_hangs_is_left_behind_and_not_asked_for_ever() -> None:
    hung: list[FakeCapture] = []

    def hanging() -> FakeCapture:
        hung.append(FakeCapture(hang=2))
        return hung[-1]

    plugs = Plugs(hanging)
    with CameraSource(0, capture=plugs, reconnect=Reconnect(attempts=4, stall=0.2)) as source:
        with pytest.raises(SourceError, match=r"driver does not answer.*gave up after 4"):
            while source.read():
                pass
        assert len(hung) == camera._MOST_HANGING, "no thread more is risked"
        start = time.monotonic()
    assert time.monotonic() - start < 1.0
    for capture in hung:
        capture.wake.set()
        assert capture.released.wait(2), "a driver that wakes up is closed after all"


def test_closing_ends_every_wait_at_once() -> None:
    for plugs in (Plugs(lambda: FakeCapture(hang=0)), Plugs(lambda: FakeCapture(opens=False))):
        source = CameraSource(0, capture=plugs, reconnect=Reconnect(stall=30, at_start=True))
        threading.Timer(0.3, source.close).start()
        start = time.monotonic()
        assert source.read() is None
        assert time.monotonic() - start < 1.5
        for capture in plugs.made:
            capture.wake.set()


def test_wrong_passwords_are_not_tried_twice_a_second() -> None:
    with faulty_camera(numbered(1)) as server:
        server._answer = lambda connection: connection.sendall(  # type: ignore[method-assign]
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        with CameraSource(server.url, reconnect=Reconnect(stall=1, at_start=True)) as source:
            threading.Timer(2.5, source.close).start()
            assert source.read() is None
            assert "refuses access" in source.status.reason
            assert "s3cret" not in source.status.reason and "t0ken" not in source.status.reason
        # With pauses of 0.25, 0.5, 1, 2 ... s, each halved at most; FFmpeg asks twice when there is a password.
        assert server.connections <= 10


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stream_comes_back_after(fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    with faulty_camera(numbered(1, 320, 240), 0.02) as server, CameraSource(server.url, reconnect=QUICK) as source:
        assert number_of(frames(source, 3)[-1].image) == 1
        breaker = threading.Timer(0.05, lambda: _break(server, fault))
        breaker.start()
        got = frames(source, 1)
        end = time.monotonic() + 10
        while number_of(got[-1].image) != 2 and time.monotonic() < end:
            got += frames(source, 1)
        took = time.monotonic() - server.healed  # type: ignore[attr-defined]
        assert number_of(got[-1].image) == 2
        assert took < QUICK.stall + 3
        status = source.status
    if fault == "resize":
        assert status.outages == 0 and (got[-1].width, got[-1].height) == (480, 360), "no loss, and the true size"
    else:
        assert status.outages >= 1 and status.reason
    said = capfd.readouterr()
    for text in (status.reason, said.out, said.err):
        assert "s3cret" not in text and "t0ken" not in text
    assert said.err == ""


@pytest.mark.parametrize("fault", ["broken", "empty", "garbage", "stall"])
def test_no_thread_stays_at_a_connection_that_was_given_up(fault: str) -> None:
    """Data without a single good picture can come for ever."""
    with faulty_camera(numbered(1, 320, 240), 0.02) as server:
        with CameraSource(server.url, reconnect=QUICK) as source:
            frames(source, 2)
            server.break_(fault)
            threading.Timer(1.2, source.close).start()
            while source.read() is not None:
                pass
            assert source.status.outages
        end = time.monotonic() + 5
        while _grabbers() and time.monotonic() < end:
            time.sleep(0.02)
        assert _grabbers() == 0, "while the server still sends"


@pytest.mark.parametrize("fault", ["close", "denied", "stall"])
def test_a_connection_that_failed_is_freed_at_once(fault: str) -> None:
    """Not when Python next looks for cycles: an error's traceback held it, and its pictures with it."""
    gc.collect()
    gc.disable()
    try:
        with faulty_camera(numbered(1, 320, 240), 0.02) as server, CameraSource(server.url, reconnect=QUICK) as source:
            for number in range(3):
                frames(source, 2)
                if number < 2:
                    threading.Timer(0.3, _break, (server, fault)).start()
                    while source.read() and source.status.outages == number:
                        pass
            assert source.status.outages == 2
            end = time.monotonic() + 3
            while _connections() > 1 and time.monotonic() < end:
                time.sleep(0.02)
            assert _connections() == 1, "the one there is"
    finally:
        gc.enable()


def _connections() -> int:
    return sum(type(thing) is StreamCapture for thing in gc.get_objects())


def _grabbers() -> int:
    return sum(thread.name == "facecam-grabber" for thread in threading.enumerate())


def _break(server: FaultyCamera, fault: str) -> None:
    server.break_(fault)
    time.sleep(0.3)
    server.picture = numbered(2, 320, 240)
    server.heal()
    server.healed = time.monotonic()  # type: ignore[attr-defined]


def test_a_stream_with_rare_keyframes_is_waited_for_as_long_as_it_sends(tmp_path: Path) -> None:
    """Joined in the middle, H.264 shows nothing before its next keyframe, which may come after many stalls."""
    images = [numbered(k % 256, 320, 240) for k in range(200)]
    path = tmp_path / "rare.ts"
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=25, width=320, height=240, pix_fmt="yuv420p")
        stream.options = {"x264-params": "keyint=100:min-keyint=100:scenecut=0:bframes=0:rc-lookahead=0"}
        for k, image in enumerate(images):
            picture = av.VideoFrame.from_ndarray(image, format="bgr24")
            picture.pts = k
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    packet = 188
    at_half_a_second = len(data) // 200 * 15 // packet * packet
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            for start, end in ((0, at_half_a_second), (at_half_a_second, len(data))):
                connection, _ = listener.accept()
                with connection:
                    step = len(data) // 200 // packet * packet or packet
                    for place in range(start, end, step):
                        connection.sendall(data[place : place + step])
                        time.sleep(step / len(data) * 8.0)  # in real time

    threading.Thread(target=serve, daemon=True).start()
    address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    with listener, CameraSource(address, reconnect=Reconnect(stall=0.4)) as source:
        frames(source, 1)
        while source.status.outages == 0:
            source.read()
        assert source.status.connected and source.status.outages == 1
        assert source.status.down > 0.4 + 2.0, "longer than a stream that says nothing is waited for"


def test_no_trace_of_an_error_holds_the_password() -> None:
    import traceback

    url = f"http://ada:s3cret@127.0.0.1:{closed_port()}/live?token=t0ken"
    with pytest.raises(SourceError) as caught:
        CameraSource(url)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    with (
        mjpeg_server(count=3) as address,
        pytest.raises(SourceError) as caught,
        CameraSource(address.replace("127", "ada:s3cret@127")) as source,
    ):
        while source.read():
            pass
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_picture_of_absurd_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    huge = cv2.imencode(".jpg", np.zeros((9000, 9000), np.uint8))[1]
    assert len(huge) < 2_000_000
    monkeypatch.setattr(cv2, "imencode", lambda *args: (True, huge))
    with mjpeg_server(period=0.2) as url, pytest.raises(SourceError, match="has stopped"):
        monkeypatch.setattr(camera, "OPEN_SECONDS", 1.5)
        CameraSource(url, reconnect=Reconnect(stall=1.0))
