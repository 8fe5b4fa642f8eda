"""A window with the live picture, and whether there is a screen to open one on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from facecam.errors import DisplayUnavailable
from facecam.values import Image

#: A first window is no larger than this, pixels; people can pull it larger.
_MAX_SIZE = (1280, 800)
#: Escape: as a character, and as X11 numbers it.
_ESCAPE = (0x1B, 0xFF1B)
#: Longest wait for a screen's answer when it is asked by a second process, seconds.
_PROBE_SECONDS = 20.0
_HEADLESS = "run with --headless, or on a machine with a screen"


class Window:
    """Shows pictures and hands back keys. Use it on the main thread only.

    Raises:
        DisplayUnavailable: there is no screen (opening a window there would abort the process).
    """

    def __init__(self, title: str = "facecam") -> None:
        reason = display_problem()
        if reason:
            raise DisplayUnavailable(f"{reason}; {_HEADLESS}")
        self._title = title
        self._shown = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the window was closed, by the user or by `close`."""
        return self._closed

    def show(self, image: Image) -> str | None:
        """Show a picture and return the key that was pressed, if any.

        Args:
            image: BGR uint8, H x W x 3.

        Returns:
            one character, lower case ("q"), "esc", or None.
        """
        import cv2

        if self._closed:
            return None
        if not self._shown:
            self._open(image)
        elif self._gone():
            self._closed = True
            return None
        cv2.imshow(self._title, image)
        code = cv2.waitKeyEx(1)
        if self._gone():
            self._closed = True
        return _key(code)

    def _open(self, image: Image) -> None:
        import cv2

        with _qt_quiet():
            flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
            cv2.namedWindow(self._title, flags)
        height, width = image.shape[:2]
        scale = min(1.0, _MAX_SIZE[0] / width, _MAX_SIZE[1] / height)
        cv2.resizeWindow(self._title, max(1, round(width * scale)), max(1, round(height * scale)))
        self._shown = True

    def _gone(self) -> bool:
        import cv2

        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:
            return True

    def close(self) -> None:
        """Close the window; harmless when it is closed."""
        import cv2

        if self._shown and not self._closed:
            with contextlib.suppress(cv2.error):
                cv2.destroyWindow(self._title)
                cv2.waitKey(1)  # the toolkit acts on it only when events are served
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _key(code: int) -> str | None:
    """The key of a code of `cv2.waitKeyEx`: 16 bits of the toolkit's own, above them what GTK says of Shift and locks.

    All 16 count: X11's number of the left arrow is 0xFF51, whose last byte is a Q.
    """
    if code == -1:
        return None
    code &= 0xFFFF
    if code in _ESCAPE:
        return "esc"
    return chr(code).lower() if 32 <= code < 127 else None


def display_available() -> bool:
    """Whether a window can be opened here; never aborts the process, takes a few milliseconds."""
    return display_problem() is None


def display_problem() -> str | None:
    """Why no window can be opened here, for people to read; None when one can.

    On Linux the X server is truly asked: OpenCV's toolkit ends the whole process when it cannot connect.
    """
    if not sys.platform.startswith("linux"):
        return None
    display = os.environ.get("DISPLAY")
    if not display:
        if os.environ.get("WAYLAND_DISPLAY"):
            return "no X display (DISPLAY is not set; OpenCV's windows need XWayland)"
        return "no display (DISPLAY is not set)"
    answered = _x_answers()
    if answered is None:
        answered = _second_process_answers()
    if not answered:
        return f"the display {display} cannot be opened"
    return _plugin_problem()


def _x_answers() -> bool | None:
    """Whether the X server of DISPLAY lets us in; None where libxcb cannot be asked."""
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
        xcb.xcb_connect.restype = ctypes.c_void_p
        xcb.xcb_connect.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
        xcb.xcb_connection_has_error.argtypes = [ctypes.c_void_p]
        xcb.xcb_disconnect.argtypes = [ctypes.c_void_p]
    except (OSError, AttributeError):
        return None
    connection = xcb.xcb_connect(None, None)  # never NULL; carries its error, freed by disconnect
    try:
        return xcb.xcb_connection_has_error(connection) == 0
    finally:
        xcb.xcb_disconnect(connection)


def _second_process_answers() -> bool:
    """Let another process open a window: it may abort without harm."""
    code = "import cv2; cv2.namedWindow('facecam'); cv2.waitKey(1)"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _plugin_problem() -> str | None:
    """A system library that the toolkit's X plugin lacks would abort the process at the first window."""
    spec = find_spec("cv2")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        plugin = Path(folder, "qt", "plugins", "platforms", "libqxcb.so")
        if plugin.is_file():
            try:
                ctypes.CDLL(str(plugin))
            except OSError as error:
                return f"OpenCV's window plugin cannot be loaded ({error}); on Debian: apt-get install libsm6 libxext6"
    return None


@contextlib.contextmanager
def _qt_quiet() -> Iterator[None]:
    """Keep Qt's complaint about its missing font folder off stderr; it uses no fonts here."""
    name = "QT_LOGGING_RULES"
    before = os.environ.get(name)
    os.environ[name] = before if before is not None else "*.warning=false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
