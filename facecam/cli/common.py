"""What several commands do first: open the models and the gallery, and say once what matters."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from facecam.cli.printing import passphrase_asker, say_resumed
from facecam.people.names import escaped
from facecam.settings import Settings, home
from facecam.video.cv import import_cv2

if TYPE_CHECKING:
    from facecam.engine import Engine
    from facecam.evidence import Matches
    from facecam.people.gallery import Gallery


@contextlib.contextmanager
def stopped_cleanly() -> Iterator[None]:
    """Within the block SIGTERM (of a batch system, `timeout`) and SIGHUP (the terminal is gone) end it as Ctrl-C does:
    nothing is left half-written. What is ignored (nohup) stays so. Does nothing outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def note(line: str) -> None:
    """A line for the user, on stderr: stdout belongs to data.

    Where it cannot be written (the disk of the log is full, its reader has gone) the work goes on without it.
    """
    with contextlib.suppress(OSError):
        click.echo(f"facecam: {line}", err=True)


def open_engine(settings: Settings) -> Engine:
    """The models of the pack in use; says in one line why they run on the CPU when that was not asked for."""
    import_cv2()
    from facecam.engine import open_engine as load

    engine = load(settings)
    if engine.device.why is not None:
        note(f"running on the CPU: {engine.device.why}")
    return engine


def open_gallery() -> Gallery | None:
    """The gallery, or None when nobody was ever enrolled."""
    from facecam.people.gallery import Gallery

    if not os.path.lexists(home() / "gallery.db"):  # a link without a file is no empty gallery
        return None
    gallery = Gallery.open(create=False, ask=passphrase_asker())
    say_resumed(gallery)
    return gallery


def open_matcher(engine: Engine, gallery: Gallery | None) -> Matches:
    """The gallery's matcher; says once when nobody is enrolled."""
    matcher = engine.matcher(gallery)
    advise(matcher, engine)
    return matcher


def advise(matcher: Matches, engine: Engine) -> None:
    """Say what the user should know about who can be named; once, and after everything that may be wrong is known."""
    if not len(matcher):
        note("nobody is enrolled, so everybody is unknown; run: facecam enroll --name NAME PHOTO")
    elif engine.enrols and engine.curve is None and engine.settings.threshold is None:
        note(
            f"no impostor curve is known of this embedder, so --max-false-names cannot be kept: names are given from "
            f"similarity {matcher.threshold:g} on, however many are enrolled; see docs/models.md, or give --threshold"
        )
    if advice := getattr(matcher, "advice", None):
        note(advice)


def failed(lines: list[str]) -> int:
    """Report inputs that failed, a line each; the exit code."""
    for line in lines:
        click.echo(f"facecam: {escaped(line)}", err=True)
    return 1 if lines else 0
