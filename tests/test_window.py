"""The window on a virtual display (Xvfb, xdotool); the guard in front of OpenCV."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from facecam.errors import DependencyMissing, DisplayUnavailable
from facecam.video import cv, window
from tests.fakes import virtual_display

ROOT = Path(__file__).resolve().parent.parent

#: Shows a picture until it is closed or "q" comes; prints each key.
SHOW = """
import sys, time
import cv2, numpy as np
from facecam.video.window import Window
image = np.full((120, 160, 3), (0, 160, 230), np.uint8)
end = time.monotonic() + 20
with Window("facecam test") as shown:
    assert shown.show(image) is None
    print("open", flush=True)
    while not shown.closed and time.monotonic() < end:
        key = shown.show(image)
        if key:
            print(key, flush=True)
        if key == "q":
            break
        time.sleep(0.01)
    print("closed" if shown.closed else "still open", flush=True)
assert shown.closed and shown.show(image) is None
"""


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    with virtual_display() as name:
        yield name


def _run(code: str, **environment: str | None) -> subprocess.Popen[str]:
    env = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=env,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _xdotool(display: str, *arguments: str) -> str:
    tool = shutil.which("xdotool")
    if tool is None:
        pytest.skip("xdotool is not installed")
    done = subprocess.run([tool, *arguments], env={**os.environ, "DISPLAY": display}, capture_output=True, text=True)
    return done.stdout.strip()


def _window_id(display: str) -> str:
    for _ in range(100):
        if found := _xdotool(display, "search", "--onlyvisible", "--name", "facecam test"):
            return found.splitlines()[0]
        time.sleep(0.05)
    pytest.fail("the window did not appear")


def test_keys_reach_the_program_and_nothing_is_printed(display: str) -> None:
    shown = _run(SHOW, DISPLAY=display)
    assert shown.stdout is not None
    assert shown.stdout.readline() == "open\n"
    number = _window_id(display)
    _xdotool(display, "windowfocus", "--sync", number)
    for key in ("s", "shift+b", "F1", "Left", "Up", "Right", "Down", "Num_Lock", "m", "Num_Lock", "Escape", "q"):
        _xdotool(display, "key", key)
        time.sleep(0.15)
    out, errors = shown.communicate(timeout=20)
    assert out.split() == ["s", "b", "m", "esc", "q", "still", "open"]
    assert errors == ""
    assert shown.returncode == 0


@pytest.mark.parametrize(
    ("code", "key"),
    [
        (-1, None),
        (ord("q"), "q"),
        (ord("S"), "s"),
        (27, "esc"),
        (0x100000 | ord("r"), "r"),  # GTK, NumLock
        (0x120000 | ord("R"), "r"),  # and CapsLock
        (0x10001B, "esc"),
        (0xFF1B, "esc"),
        (0xFF51, None),  # Left, whose last byte is Q
        (0x10FF51, None),
        (0xFF52, None),
        (0xFF53, None),
        (0xFFE1, None),
        (0x250000, None),  # Left on Windows
        (0xF702, None),  # and on macOS
        (13, None),
        (127, None),
    ],
)
def test_only_characters_and_escape_are_keys(code: int, key: str | None) -> None:
    assert window._key(code) == key


def test_the_picture_is_really_on_the_screen(display: str, tmp_path: Path) -> None:
    program = shutil.which("import")
    if program is None:
        pytest.skip("ImageMagick is not installed")
    shown = _run(SHOW, DISPLAY=display)
    try:
        _window_id(display)
        import cv2

        target = tmp_path / "screen.png"
        pixels, deadline = 0, time.monotonic() + 15
        while pixels <= 160 * 120 * 0.9 and time.monotonic() < deadline:
            time.sleep(0.3)  # a busy machine draws late
            grab = [program, "-window", "root", str(target)]
            subprocess.run(grab, env={**os.environ, "DISPLAY": display}, check=True)
            screen = cv2.imread(str(target))
            assert screen is not None
            pixels = int((abs(screen.astype(int) - (0, 160, 230)) < 6).all(axis=2).sum())
        assert pixels > 160 * 120 * 0.9
    finally:
        shown.kill()
        shown.communicate()


def test_a_window_closed_by_the_user_is_noticed(display: str) -> None:
    shown = _run(SHOW, DISPLAY=display)
    assert shown.stdout is not None
    assert shown.stdout.readline() == "open\n"
    _ask_to_close(display, int(_window_id(display)))
    out, _ = shown.communicate(timeout=20)
    assert out == "closed\n"
    assert shown.returncode == 0


def _ask_to_close(display: str, number: int) -> None:
    """Send what a window manager sends when the user clicks the cross: WM_DELETE_WINDOW (ICCCM 4.2.8.1)."""

    class Message(ctypes.Structure):
        _fields_ = (
            ("kind", ctypes.c_int),
            ("serial", ctypes.c_ulong),
            ("sent", ctypes.c_int),
            ("display", ctypes.c_void_p),
            ("window", ctypes.c_ulong),
            ("name", ctypes.c_ulong),
            ("format", ctypes.c_int),
            ("values", ctypes.c_long * 5),
            ("room", ctypes.c_long * 24),
        )

    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    connection = ctypes.c_void_p(x11.XOpenDisplay(display.encode()))
    atoms = [x11.XInternAtom(connection, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")]
    client_message = 33
    message = Message(client_message, 0, 1, connection, number, atoms[0], 32)
    message.values[0] = atoms[1]
    x11.XSendEvent(connection, ctypes.c_ulong(number), 0, ctypes.c_long(0), ctypes.byref(message))
    x11.XFlush(connection)
    x11.XCloseDisplay(connection)


TRY = """
from facecam.errors import DisplayUnavailable
from facecam.video.window import Window, display_available
print(display_available())
try:
    Window()
except DisplayUnavailable as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11")
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"DISPLAY": None, "WAYLAND_DISPLAY": None}, "DISPLAY is not set"),
        ({"DISPLAY": "", "WAYLAND_DISPLAY": "wayland-0"}, "XWayland"),
        ({"DISPLAY": ":4711"}, "display :4711 cannot be opened"),
        ({"DISPLAY": "nonsense"}, "display nonsense cannot be opened"),
    ],
)
def test_without_a_display_it_says_so_and_does_not_abort(environment: dict[str, str | None], said: str) -> None:
    tried = _run(TRY, **environment)
    out, errors = tried.communicate(timeout=60)
    assert tried.returncode == 0, errors
    available, message = out.splitlines()
    assert available == "False"
    assert said in message
    assert "--headless" in message


def test_with_a_display_it_is_available(display: str) -> None:
    tried = _run(TRY, DISPLAY=display)
    out, errors = tried.communicate(timeout=60)
    assert (out, errors, tried.returncode) == ("True\n", "", 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11")
def test_without_libxcb_another_process_is_asked(display: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "_x_answers", lambda: None)
    monkeypatch.setenv("DISPLAY", display)
    assert window.display_available()
    monkeypatch.setenv("DISPLAY", ":4711")
    assert not window.display_available()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11")
def test_a_plugin_that_cannot_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(window, "_x_answers", lambda: True)

    def fail(name: str) -> None:
        raise OSError("libSM.so.6: cannot open shared object file")

    monkeypatch.setattr(window.ctypes, "CDLL", fail)
    assert "libsm6" in str(window.display_problem())
    with pytest.raises(DisplayUnavailable, match=r"libSM.*--headless"):
        window.Window()


def test_windows_and_macos_have_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    for platform in ("win32", "darwin"):
        monkeypatch.setattr(window.sys, "platform", platform)
        assert window.display_available()


# --- the guard in front of OpenCV ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("libGL.so.1: cannot open shared object file: No such file or directory", "apt-get install libgl1 "),
        ("libgthread-2.0.so.0: cannot open shared object file", "apt-get install libglib2.0-0 "),
        ("libxcb.so.1: cannot open shared object file", "apt-get install libxcb1 "),
        ("libnovel.so.3: cannot open shared object file", "libnovel.so.3; install it"),
        ("No module named 'cv2'", "pip install 'opencv-python>=5'"),
        ("numpy.core.multiarray failed\nto import", "failed to import"),
    ],
)
def test_an_import_error_becomes_one_line_with_the_next_step(message: str, said: str) -> None:
    line = cv.explain_import_error(message)
    assert said in line
    assert "\n" not in line


def test_a_missing_library_is_a_missing_dependency(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "cv2":
                raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(DependencyMissing, match="libgl1"):
        cv.import_cv2()


def test_stderr_is_quiet_and_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), cv.quiet_stderr():
        os.write(2, b"noise")
        raise KeyError
    os.write(2, b"word")
    assert capfd.readouterr().err == "word"


def test_a_closed_stderr_is_no_error() -> None:
    code = (
        "import os\n"
        "from facecam.video.cv import quiet_stderr\n"
        "os.close(2)\n"
        "with quiet_stderr():\n"
        "    pass\n"
        "print('fine')\n"
    )
    tried = _run(code)
    assert tried.communicate(timeout=30)[0] == "fine\n"
