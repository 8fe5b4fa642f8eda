"""A camera on the loopback that fails as it is told, and a run of the live view that is put through its faults."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2

from facecam.live.view import LiveOptions, LiveView
from facecam.pipeline import Recogniser
from facecam.values import Image, Sighting
from facecam.video.camera import CameraSource
from facecam.video.reconnect import Reconnect

#: What can go wrong; "resize" is no loss, the others are.
FAULTS = ("refuse", "stall", "close", "reset", "garbage", "broken", "empty", "denied", "silent", "resize")


class FaultyCamera:
    """An MJPEG camera. While a fault lasts every connection suffers from it, and dies of it.

    - refuse: nobody listens. silent: connections are taken and nothing is ever said. denied: 503.
    - close, reset: the connection ends in the middle of a picture, politely or not.
    - stall: it stays open, and nothing more comes. garbage: random bytes come.
    - broken: pictures that cannot be decoded. empty: pictures of no bytes.
    - resize: pictures of another size, from now on.

    Attributes:
        picture: what it shows now. connections: how many there were.
    """

    def __init__(self, picture: Image, period: float = 0.04) -> None:
        self.picture = picture
        self.fault: str | None = None
        self.connections = 0
        self._period = period
        self._scale = 1.0
        self._stopping = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = self._listen(0)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://user:s3cret@127.0.0.1:{self.port}/live.mjpg?token=t0ken"

    def break_(self, fault: str) -> None:
        """Begin a fault; `heal` ends it."""
        if fault == "resize":
            self._scale = 1.5 if self._scale == 1.0 else 1.0
            return
        self.fault = fault
        if fault == "refuse":
            _shut(self._listener)
            self._drop_all()
        elif fault in ("silent", "denied"):
            self._drop_all()

    def heal(self) -> None:
        """Connections that began under the fault stay as they are; new ones are well."""
        was, self.fault = self.fault, None
        if was == "refuse":
            self._listener = self._listen(self.port)

    def close(self) -> None:
        self._stopping = True
        _shut(self._listener)
        self._drop_all()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(8)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not self._stopping:
                connection, _ = listener.accept()
                connection.settimeout(5)
                self.connections += 1
                with self._lock:
                    self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _drop_all(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                connection.recv(4096)
                self._answer(connection)
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        if self.fault == "silent":
            return self._wait_for_the_other(connection)
        if self.fault == "denied":
            return connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        if self.fault == "garbage":
            return self._rubbish(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        while not self._stopping:
            fault = self.fault
            if fault == "stall":
                return self._wait_for_the_other(connection)
            if fault == "garbage":
                return self._rubbish(connection)
            part = self._part(fault)
            if fault in ("close", "reset"):
                connection.sendall(part[: len(part) // 2])
                if fault == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return None
            connection.sendall(part)
            if fault in ("broken", "empty"):  # from now on, whatever heals
                while not self._stopping:
                    connection.sendall(self._part(fault))
                    time.sleep(self._period)
            time.sleep(self._period)
        return None

    def _part(self, fault: str | None) -> bytes:
        if fault == "broken":
            jpeg = b"\xff\xd8\xff" + random.randbytes(2000)
        elif fault == "empty":
            jpeg = b""
        else:
            image = self.picture
            if self._scale != 1.0:
                image = cv2.resize(image, None, fx=self._scale, fy=self._scale)
            jpeg = cv2.imencode(".jpg", image)[1].tobytes()
        return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg)

    def _rubbish(self, connection: socket.socket) -> None:
        while not self._stopping:
            connection.sendall(random.randbytes(4096))
            time.sleep(self._period)

    def _wait_for_the_other(self, connection: socket.socket) -> None:
        connection.settimeout(60)
        while connection.recv(4096):
            pass


def _shut(listener: socket.socket) -> None:
    """Close a listening socket so that the thread in its accept wakes, too."""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@contextlib.contextmanager
def faulty_camera(picture: Image, period: float = 0.04) -> Iterator[FaultyCamera]:
    camera = FaultyCamera(picture, period)
    try:
        yield camera
    finally:
        camera.close()


class CameraElsewhere:
    """A `FaultyCamera` in a process of its own, so that its memory and its share of Python's lock are not counted."""

    def __init__(self, picture: Image) -> None:
        processes = multiprocessing.get_context("spawn")
        self._pipe, other = processes.Pipe()
        self._process = processes.Process(target=_serve_elsewhere, args=(other, picture), daemon=True)
        self._process.start()
        self.url: str = self._pipe.recv()

    def break_(self, fault: str) -> None:
        self._ask("break_", fault)

    def heal(self, picture: Image) -> None:
        """End the fault; from now on it shows `picture`."""
        self._ask("heal", picture)

    def _ask(self, *order: Any) -> None:
        self._pipe.send(order)
        if not self._pipe.poll(30):
            raise TimeoutError("the camera's process does not answer")
        self._pipe.recv()

    def close(self) -> None:
        self._process.terminate()
        self._process.join(10)
        self._pipe.close()


def _serve_elsewhere(pipe: Connection, picture: Image) -> None:
    with faulty_camera(picture) as camera:
        pipe.send(camera.url)
        while True:
            order, argument = pipe.recv()
            if order == "break_":
                camera.break_(argument)
            else:
                camera.picture = argument
                camera.heal()
            pipe.send(None)


class Spy:
    """A recogniser that tells what it last answered, and when."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._inner = recogniser
        self.last: tuple[float, list[str | None]] = (0.0, [])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_inner", "last"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._inner, name, value)

    def sightings(self, at: float) -> list[Sighting]:
        seen = self._inner.sightings(at)
        self.last = time.monotonic(), [s.match.name for s in seen if s.decided]
        return seen


@dataclass(slots=True)
class Ordeal:
    """How a fault run went.

    Attributes:
        recoveries: for each fault, its kind and the seconds from its end to the first right label.
        wrong: faults after which no right label came in time; names: all names that were given.
        memory: of this process's own after each fault, bytes. threads: how many there were at the end.
    """

    recoveries: list[tuple[str, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    names: set[str | None] = field(default_factory=set)
    memory: list[int] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    threads: int = 0

    def slowest(self) -> float:
        return max((seconds for _, seconds in self.recoveries), default=0.0)

    def table(self) -> list[tuple[str, int, float, float]]:
        """For each kind of fault: its name, how often, median and longest recovery in seconds."""
        rows = []
        for kind in FAULTS:
            taken = [seconds for name, seconds in self.recoveries if name == kind]
            if taken:
                rows.append((kind, len(taken), statistics.median(taken), max(taken)))
        return rows


def suffer(
    recogniser: Recogniser,
    people: Sequence[tuple[str, Image]],
    faults: Sequence[str],
    *,
    stall: float,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Ordeal:
    """Put a live run, without a window, through faults; call it on the main thread.

    After each fault the camera shows another person than before it, so that an old answer is no right one.

    Args:
        people: names and portraits of at least two people whom the recogniser knows.
        stall: as of ``--stall``; a fault lasts up to twice as long.
    """
    chance = random.Random(seed)
    ordeal = Ordeal()
    spy = Spy(recogniser)
    with (
        contextlib.closing(CameraElsewhere(people[0][1])) as camera,
        CameraSource(camera.url, reconnect=Reconnect(stall=stall)) as source,
    ):
        view = LiveView(
            [(source, spy)],  # type: ignore[list-item]
            LiveOptions(),
            emit=ordeal.events.append,
            note=ordeal.notes.append,
        )

        def wait_for(name: str, since: float, limit: float) -> bool:
            while time.monotonic() < since + limit:
                moment, names = spy.last
                if moment > since and names == [name]:
                    return True
                time.sleep(0.005)
            return False

        def torment() -> None:
            try:
                wait_for(people[0][0], time.monotonic(), 30)
                for number, fault in enumerate(faults):
                    name, picture = people[(number + 1) % len(people)]
                    camera.break_(fault)
                    time.sleep(chance.uniform(0.1, 2 * stall))
                    camera.heal(picture)
                    healed = time.monotonic()
                    if wait_for(name, healed, stall + 10):
                        ordeal.recoveries.append((fault, time.monotonic() - healed))
                    else:
                        ordeal.wrong.append(f"{number} {fault}: {name} expected, {spy.last[1]} said")
                    ordeal.names |= set(spy.last[1])
                    ordeal.memory.append(resident())
                    if number % 20 == 19:
                        say(f"{number + 1} faults, {ordeal.memory[-1] / 1e6:.0f} MB, slowest {ordeal.slowest():.1f} s")
                ordeal.threads = threading.active_count()
            finally:
                view.stop()

        threading.Thread(target=torment, daemon=True).start()
        view.run()
    return ordeal


def resident() -> int:
    """Memory of this process's own, bytes: resident, and swapped out by a busy machine; 0 where nobody says."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "VmSwap:")))


def random_faults(count: int, seed: int = 0) -> list[str]:
    """Faults in random order, every kind about as often as every other."""
    chance = random.Random(seed)
    faults = [FAULTS[index % len(FAULTS)] for index in range(count)]
    chance.shuffle(faults)
    return faults
