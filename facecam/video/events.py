"""Events as JSON lines: to a file that is rotated before it grows too large, or to stdout."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from facecam.errors import UsageFault
from facecam.video.atomic import output_error

#: A file of events is put aside when the next line would make it larger than this, bytes; so many are kept.
EVENTS_SIZE: Final = 64_000_000
EVENTS_KEEP: Final = 5
_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


class EventSink:
    """JSON lines, one an event, written at once, to a file (appended) or to stdout for "-".

    A reader that goes away (a closed pipe) is no error: `closed` turns True and later events vanish. A full
    file becomes FILE.1, the one before it FILE.2 and so on. A line is in the file whole or not at all.

    Args:
        size: bytes from which the file is put aside; keep: how many such files are kept, the oldest go.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, target: str | os.PathLike[str], size: int = EVENTS_SIZE, keep: int = EVENTS_KEEP) -> None:
        self.closed = False
        self._name = os.fspath(target)
        self._limit, self._keep = size, keep
        self._handle: int | None = None
        if self._name != "-":
            self.reopen()

    def reopen(self) -> None:
        """Open the file of this name anew: another program has put the old one aside (logrotate).

        Raises:
            OutputError: it cannot be opened.
        """
        if self._name == "-" or self.closed:
            return
        try:
            # Append: a log of last night must survive the start of today. 0600: it names people.
            handle = os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
        except OSError as error:
            raise output_error(self._name, error) from error
        if self._handle is not None:
            os.close(self._handle)
        self._handle = handle
        self._regular = stat.S_ISREG(os.fstat(handle).st_mode)

    def write(self, event: Mapping[str, Any]) -> None:
        """Write one event.

        Raises:
            OutputError: disk full, or another failure that is no closed pipe; a later event may succeed.
        """
        if self.closed:
            return
        try:
            if self._handle is None:
                self._print(event)
            else:
                # backslashreplace: a file name of another encoding must not spoil the file's UTF-8
                line = json.dumps(event, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
                self._append(self._handle, line)
        except BrokenPipeError:
            self._reader_gone()
        except OSError as error:
            raise output_error(self._name, error) from error

    def _append(self, handle: int, line: bytes) -> None:
        before = os.fstat(handle).st_size
        if self._regular and before and before + len(line) > self._limit:
            handle = self._rotate()
        _write_whole(handle, line, self._regular)

    def _rotate(self) -> int:
        """Put the file aside and begin a new one; the new one's handle."""
        # Where it was put aside already and a new one could not be made, moving the older ones on would lose them.
        for number in range(self._keep - 1 if os.path.lexists(self._name) else 0, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self._name}.{number}", f"{self._name}.{number + 1}")
        with contextlib.suppress(FileNotFoundError):
            if self._keep:
                os.replace(self._name, f"{self._name}.1")
            else:
                os.unlink(self._name)
        self.reopen()
        assert self._handle is not None
        return self._handle

    def _print(self, event: Mapping[str, Any]) -> None:
        text = json.dumps(event, ensure_ascii=False) + "\n"
        try:
            line = text.encode(sys.stdout.encoding or "utf-8", sys.stdout.errors or "strict")
        except UnicodeEncodeError:  # a terminal without UTF-8, or a file name of another encoding
            text = json.dumps(event) + "\n"
            line = text.encode()
        handle = _file_behind_stdout()
        if handle is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:  # Python would keep what a full disk did not take, and write the rest of a line later
            sys.stdout.flush()
            _write_whole(handle, line, regular=True)

    def _reader_gone(self) -> None:
        self.closed = True
        if self._handle is None:
            with contextlib.suppress(OSError, ValueError):
                # What Python still holds for the pipe would fail again when the interpreter exits.
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, sys.stdout.fileno())
                os.close(nowhere)

    def close(self) -> None:
        """Close the file; stdout stays open."""
        self.closed = True
        if self._handle is not None:
            handle, self._handle = self._handle, None
            try:
                os.close(handle)
            except OSError as error:
                raise output_error(self._name, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_whole(handle: int, line: bytes, regular: bool) -> None:
    """Write a line; of a regular file no half of it stays.

    Raises:
        OSError: it cannot be written.
    """
    done = 0
    try:
        while done < len(line):
            done += os.write(handle, line[done:])
    except BaseException:
        if regular and done:
            with contextlib.suppress(OSError):
                start = os.lseek(handle, 0, os.SEEK_CUR) - done
                os.ftruncate(handle, start)
                os.lseek(handle, start, os.SEEK_SET)  # stdout need not be open for appending
        raise


def _file_behind_stdout() -> int | None:
    """The descriptor of stdout where it is a regular file, else None."""
    with contextlib.suppress(OSError, ValueError):
        handle = sys.stdout.fileno()
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
    return None


def size_in_bytes(text: str) -> int:
    """A size as people write it (64MB, "500 kB", 1g, 100000), in bytes; at least 1 kB.

    Raises:
        UsageFault: something else.
    """
    word = text.strip().lower().removesuffix("b").replace(" ", "")
    number, unit = (word[:-1], word[-1]) if word[-1:] in _UNITS and word[-1:] else (word, "")
    if number.isascii() and number.isdigit() and len(number) <= 15 and 1000 <= int(number) * _UNITS[unit] <= 10**15:
        return int(number) * _UNITS[unit]
    raise UsageFault(f"a size is a number of kB, MB or GB such as 64MB, at least 1kB, not {text!r}")
