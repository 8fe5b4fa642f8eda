"""The guard in front of OpenCV: its import error on a bare server, and its noise on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

from facecam.errors import DependencyMissing

#: Shared libraries that the opencv-python wheel takes from the system -> the Debian package of each.
_PACKAGES = {
    "libGL": "libgl1",
    "libgthread": "libglib2.0-0",
    "libglib": "libglib2.0-0",
    "libxcb": "libxcb1",
    "libX11": "libx11-6",
    "libXext": "libxext6",
    "libSM": "libsm6",
    "libICE": "libice6",
    "libXrender": "libxrender1",
}
DEBIAN_PACKAGES = ("libgl1", "libglib2.0-0", "libxcb1", "libsm6", "libxext6")

_stderr_lock = threading.Lock()


def import_cv2() -> ModuleType:
    """Import OpenCV and make it quiet. Call it before anything that says ``import cv2``.

    Raises:
        DependencyMissing: the package is absent, or the system lacks a library that it links.
    """
    quiet_ffmpeg()
    try:
        import cv2
    except ImportError as error:
        raise DependencyMissing(explain_import_error(str(error))) from error
    cv2.utils.logging.setLogLevel(0)  # OpenCV 5 has it only here
    return cv2


def quiet_ffmpeg() -> None:
    """Keep the lines of OpenCV's ffmpeg off stderr; it looks once, when the first stream is opened."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def explain_import_error(message: str) -> str:
    """The import error of cv2 as one line with the next step.

    Args:
        message: the text of the ImportError, such as "libGL.so.1: cannot open shared object file".
    """
    first = " ".join(message.split())
    if ".so" in first and "cannot open shared object" in first:
        library = first.split(":")[0]
        wanted = _PACKAGES.get(library.split(".so")[0].split("-")[0])
        rest = [name for name in DEBIAN_PACKAGES if name != wanted]
        packages = " ".join([wanted, *rest] if wanted else rest)
        return f"OpenCV needs the system library {library}; install it, on Debian: apt-get install {packages}"
    if "No module named" in first and "cv2" in first:
        return "OpenCV is not installed; run: pip install 'opencv-python>=5'"
    return f"OpenCV cannot be imported ({first}); run: pip install --force-reinstall 'opencv-python>=5'"


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send what C code prints to stderr nowhere, for the length of one short call.

    libpng and libjpeg print past OpenCV's log level, also for pictures that are fine. File descriptor
    2 belongs to the whole process, so keep the body to a few milliseconds; what other threads print
    meanwhile is lost.
    """
    with _stderr_lock:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.flush()
        try:
            kept = os.dup(2)
        except OSError:  # stderr is closed: there is nothing to keep quiet
            yield
            return
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
