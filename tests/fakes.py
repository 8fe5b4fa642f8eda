"""Stand-ins for what a test machine lacks: cameras, network streams, clips, a screen, a small disk."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facecam.values import Face, Image, Match, Sighting

# --- pictures ---------------------------------------------------------------------------------------


def quarters(width: int = 160, height: int = 120) -> Image:
    """Four colours, one a corner: red, green, blue, white from top left by rows. Tells every turn."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (0, 0, 255)
    image[: height // 2, width // 2 :] = (0, 255, 0)
    image[height // 2 :, : width // 2] = (255, 0, 0)
    image[height // 2 :, width // 2 :] = 255
    return image


def corners(image: Image) -> str:
    """The corners of a picture of `quarters`, from top left by rows, as letters."""
    rows, columns = image.shape[:2]
    letters = {(0, 0, 1): "r", (0, 1, 0): "g", (1, 0, 0): "b", (1, 1, 1): "w"}
    places = [(y, x) for y in (rows // 4, rows * 3 // 4) for x in (columns // 4, columns * 3 // 4)]
    return "".join(letters.get(tuple(int(v > 127) for v in image[y, x]), "?") for y, x in places)


def smooth(width: int, height: int, seed: int = 0) -> Image:
    """A soft random picture that codecs keep well."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def numbered(index: int, width: int = 160, height: int = 120) -> Image:
    """A picture from which `number_of` reads its index (0 to 255) back after lossy coding."""
    image = np.full((height, width, 3), 96, np.uint8)
    for bit in range(8):
        image[:, bit * width // 8 : (bit + 1) * width // 8] = 224 if index >> bit & 1 else 32
    return image


def number_of(image: Image) -> int:
    rows, columns = image.shape[:2]
    return sum((int(image[rows // 2, (2 * bit + 1) * columns // 16, 1]) > 128) << bit for bit in range(8))


def sighting(
    box: tuple[float, float, float, float] = (10, 10, 40, 40),
    name: str | None = "Ada",
    similarity: float | None = 0.8,
    *,
    track: int = 1,
    decided: bool = True,
) -> Sighting:
    return Sighting(track, Face(box, 1.0), Match(name, similarity), decided)


# --- clips ------------------------------------------------------------------------------------------


def make_clip(
    path: Path,
    images: Sequence[Image],
    *,
    times: Sequence[int] | None = None,
    base: Fraction = Fraction(1, 25),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rotation: int | None = None,
    hflip: bool = False,
    aspect: Fraction | None = None,
    sound: str | None = None,
    layout: str = "mono",
    options: dict[str, str] | None = None,
    colours: tuple[int, int, int] | None = None,
) -> Path:
    """Write a clip.

    Args:
        times: presentation times in units of ``base``; default 0, 1, 2 ...
        pixels: the stream's format of pixels.
        rotation: of the display matrix, degrees counter-clockwise.
        aspect: of a pixel.
        sound: codec of a tone that is as long as the pictures; None for none. layout: of its channels.
        options: of the container.
        colours: matrix, primaries and transfer (ITU-T H.273) that the stream says it has, whatever they are.
    """
    import av

    times = list(range(len(images))) if times is None else times
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixels
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "10"}
        stream.time_base = stream.codec_context.time_base = base
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None or hflip:
            stream.set_display_rotation(rotation or 0, hflip=hflip)
        if colours is not None:
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc = colours
        audio = container.add_stream(sound, rate=48000, layout=layout) if sound else None
        for image, ticks in zip(images, times):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            frame.pts, frame.time_base = ticks, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            _tone(container, audio, float(times[0] * base), float((times[-1] + 1) * base))
    return path


def _tone(container: Any, stream: Any, start: float, end: float) -> None:
    import av

    position, size = round(start * 48000), stream.codec_context.frame_size or 1024
    while position < end * 48000:
        wave = np.sin((np.arange(size) + position) * (2 * np.pi * 440 / 48000))
        channels = stream.codec_context.channels
        samples = np.repeat((wave * 8000).astype(np.int16), channels)[None, :]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=stream.codec_context.layout)
        frame.sample_rate, frame.pts, frame.time_base = 48000, position, Fraction(1, 48000)
        container.mux(stream.encode(frame))
        position += size
    container.mux(stream.encode(None))


# --- cameras and streams ----------------------------------------------------------------------------


class FakeCapture:
    """A cv2.VideoCapture without a camera.

    Args:
        make: index -> picture (None: a refused read).
        count: after so many reads it is unplugged: every read is refused.
        period: seconds a read takes.
        opens: False: the camera cannot be opened.
        hang: from this read on, reads block until `wake` is set.
        error: raised by a read once ``count`` is reached.
    """

    def __init__(
        self,
        make: Callable[[int], Any] = lambda index: numbered(index % 256),
        *,
        count: int | None = None,
        period: float = 0.005,
        opens: bool = True,
        hang: int | None = None,
        error: Exception | None = None,
    ) -> None:
        self.make, self.count, self.period, self.opens = make, count, period, opens
        self.hang, self.error = hang, error
        self.wake = threading.Event()
        self.asked: list[tuple[int, float]] = []
        self.reads = 0
        self.released = threading.Event()
        self.threads: set[int] = set()

    def __call__(self, spec: int | str) -> FakeCapture:
        """So that an instance is its own factory."""
        return self

    def isOpened(self) -> bool:
        return self.opens

    def read(self) -> tuple[bool, Any]:
        self.threads.add(threading.get_ident())
        assert not self.released.is_set(), "read after release"
        if self.hang is not None and self.reads >= self.hang:
            self.wake.wait(30)
        time.sleep(self.period)
        if self.count is not None and self.reads >= self.count:
            if self.error is not None:
                raise self.error
            return False, None
        image = self.make(self.reads)
        self.reads += 1
        return image is not None, image

    def get(self, prop: int, /) -> float:
        return 30.0 if prop == cv2.CAP_PROP_FPS else 0.0

    def set(self, prop: int, value: float, /) -> bool:
        self.asked.append((prop, value))
        return True

    def release(self) -> None:
        self.threads.add(threading.get_ident())
        self.released.set()


@contextlib.contextmanager
def mjpeg_server(
    make: Callable[[int], Any] = lambda index: numbered(index % 256),
    *,
    count: int | None = None,
    then: str = "close",
    period: float = 0.02,
) -> Iterator[str]:
    """An MJPEG camera on the loopback; yields its URL.

    Args:
        make: index -> picture.
        count: pictures before ``then`` happens; None: never.
        then: "close" the connection, or "stall" (stay connected, send nothing more).
    """
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            index = 0
            with contextlib.suppress(OSError):
                while not stop.is_set() and index != count:
                    jpeg = cv2.imencode(".jpg", make(index))[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                    index += 1
                    time.sleep(period)
                if then == "stall":
                    stop.wait(60)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/live.mjpg"
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def closed_port() -> int:
    """A port of the loopback at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- the machine ------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(path: Path, size: str = "256k") -> Iterator[Path]:
    """A file system of so few bytes at ``path``; skips where it cannot be mounted."""
    path.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    if mount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("a small disk can be mounted only by root")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.decode(errors='replace').strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


@contextlib.contextmanager
def virtual_display() -> Iterator[str]:
    """A running Xvfb; yields its DISPLAY, skips where Xvfb is absent."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed")
    reader, writer = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(writer), "-screen", "0", "1024x768x24", "-nolisten", "tcp"],
        pass_fds=(writer,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    try:
        with os.fdopen(reader) as answer:
            number = answer.readline().strip()
        if not number:
            pytest.skip("Xvfb does not start here")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(10)
