"""Cameras of this machine: their numbers, names that stay the same, and what they can give (Linux: Video4Linux).

Nothing is opened for pictures. The layout of the requests is that of linux/videodev2.h.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Sends a request with its bytes to an open device; gives the answer's bytes, raises OSError at the end of a list.
Ask = Callable[[int, int, bytes], bytes]

#: Folders of links whose names say which device it is, or where it is plugged in.
STABLE: Final = ("dev/v4l/by-id", "dev/v4l/by-path")
_QUERYCAP, _ENUM_FMT, _ENUM_SIZES, _ENUM_INTERVALS = 0x80685600, 0xC0405602, 0xC02C564A, 0xC034564B
_CAPTURE, _DEVICE_CAPS = 0x00000001, 0x80000000
_VIDEO_CAPTURE = 1
_DISCRETE = 1
#: Lists end by themselves; a driver that never ends one must not hold us.
_MOST = 256


@dataclass(frozen=True, slots=True)
class Mode:
    """A size that a camera can give.

    Attributes:
        format: four letters of the pixel format ("MJPG", "YUYV").
        width, height: pixels; fps: the highest rate, None where the driver does not say.
    """

    format: str
    width: int
    height: int
    fps: float | None


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera that the system lists.

    Attributes:
        number: for ``--source``; it may change when a device is plugged in or at the next start.
        name: of the device; path: its device file.
        stable: a path that stays the same, or None.
        modes: what it can give; empty where it cannot be asked.
        problem: why it cannot be asked, or None.
    """

    number: int
    name: str
    path: str
    stable: str | None = None
    modes: tuple[Mode, ...] = ()
    problem: str | None = None


def cameras_present(root: Path = Path("/")) -> list[tuple[int, str]] | None:
    """Cameras that the system lists, as (number, name), without opening one; None where it cannot tell."""
    if not sys.platform.startswith("linux"):
        return None
    found = []
    for device in (root / "dev").glob("video*"):
        if device.name[5:].isdigit():
            name = device.name
            with contextlib.suppress(OSError):
                name = (root / f"sys/class/video4linux/{device.name}/name").read_text(errors="replace").strip()
            found.append((int(device.name[5:]), "".join(c if c.isprintable() else "?" for c in name)))
    return sorted(found)


def list_cameras(root: Path = Path("/"), ask: Ask | None = None) -> list[Camera]:
    """The cameras with names that stay and modes; device files that give no pictures (metadata) are left out.

    Args:
        root: where /dev and /sys are.
        ask: sends requests to a device; default: ioctl.
    """
    ask = ask or _ioctl
    links = _links(root)
    found = []
    for number, name in cameras_present(root) or []:
        path = root / f"dev/video{number}"
        camera = Camera(number, name, str(path), links.get(path.resolve()))
        try:
            handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            found.append(_with(camera, (), error.strerror or str(error)))
            continue
        try:
            if _captures(handle, ask):
                found.append(_with(camera, tuple(_modes(handle, ask)), None))
        except OSError as error:
            found.append(_with(camera, (), error.strerror or str(error)))
        finally:
            os.close(handle)
    return found


def device_number(path: str, root: Path = Path("/")) -> int | None:
    """The number that a device file, or a stable name of one, has at this moment; None when it is not there.

    Args:
        path: "/dev/video2", "/dev/v4l/by-id/usb-..." or only the name below by-id or by-path.
    """
    choices = [root / path.lstrip("/")] if path.startswith("/") else [root / folder / path for folder in STABLE]
    for choice in choices:
        found = re.fullmatch(r"video(\d+)", choice.resolve().name)
        if found and choice.exists():
            return int(found[1])
    return None


def is_device(text: str, root: Path = Path("/")) -> bool:
    """Whether a source's name is that of a camera's device file, present or not."""
    if re.match(r"/dev/(video\d+$|v4l/)", text):
        return True
    return "/" not in text and any((root / folder / text).is_symlink() for folder in STABLE if text)


def _links(root: Path) -> dict[Path, str]:
    """Device file -> its most telling stable name."""
    links: dict[Path, str] = {}
    for folder in STABLE:
        with contextlib.suppress(OSError):
            for link in sorted((root / folder).iterdir()):
                links.setdefault(link.resolve(), str(link))
    return links


def _with(camera: Camera, modes: tuple[Mode, ...], problem: str | None) -> Camera:
    return Camera(camera.number, camera.name, camera.path, camera.stable, modes, problem)


def _ioctl(handle: int, request: int, data: bytes) -> bytes:
    import fcntl

    answer: bytes = fcntl.ioctl(handle, request, data)
    return answer


def _captures(handle: int, ask: Ask) -> bool:
    answer = ask(handle, _QUERYCAP, bytes(104))  # v4l2_capability
    whole, device = struct.unpack_from("=II", answer, 84)
    return bool((device if whole & _DEVICE_CAPS else whole) & _CAPTURE)


def _listed(handle: int, ask: Ask, request: int, make: Callable[[int], bytes]) -> Iterator[bytes]:
    for index in range(_MOST):
        try:
            yield ask(handle, request, make(index))
        except OSError:  # EINVAL: the list is over; ENOTTY: the driver has no such list
            return


def _modes(handle: int, ask: Ask) -> Iterator[Mode]:
    for answer in _listed(handle, ask, _ENUM_FMT, lambda i: struct.pack("=II56x", i, _VIDEO_CAPTURE)):
        (code,) = struct.unpack_from("=I", answer, 44)  # v4l2_fmtdesc.pixelformat
        word = code.to_bytes(4, "little").decode("ascii", "replace").strip()
        name = "".join(c if c.isprintable() else "?" for c in word)
        for size in _listed(handle, ask, _ENUM_SIZES, lambda i, c=code: struct.pack("=II36x", i, c)):  # type: ignore[misc]
            kind, first, second, _, _, fourth = struct.unpack_from("=IIIIII", size, 8)  # v4l2_frmsizeenum
            # Discrete: width, height. Else min_width, max_width, step, min_height, max_height: the largest counts.
            width, height = (first, second) if kind == _DISCRETE else (second, fourth)
            yield Mode(name, width, height, _fastest(handle, ask, code, width, height))
            if kind != _DISCRETE:
                break


def _fastest(handle: int, ask: Ask, code: int, width: int, height: int) -> float | None:
    """The highest rate of a size, frames a second."""
    rates = []
    make = lambda i: struct.pack("=IIII36x", i, code, width, height)  # noqa: E731
    for answer in _listed(handle, ask, _ENUM_INTERVALS, make):
        kind, numerator, denominator = struct.unpack_from("=III", answer, 16)  # v4l2_frmivalenum
        if numerator and denominator:
            rates.append(denominator / numerator)  # not discrete: the first interval is the shortest
        if kind != _DISCRETE:
            break
    return round(max(rates), 3) if rates else None
