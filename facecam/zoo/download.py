"""Downloads a pinned file: resumed, checked by hash, moved into place at once. Only when the user asked.

What was fetched stays in ``TARGET.part`` when a connection breaks, so that the next attempt (of this
call, of the fallback address or of a later call) continues there. Nothing reaches ``TARGET`` before
its hash is right.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from facecam import __version__
from facecam.errors import DownloadFailed
from facecam.video.atomic import output_error

#: Told (bytes so far, bytes in all) now and then.
Progress = Callable[[int, int], None]

#: Seconds without a byte after which a server counts as stalled.
TIMEOUT: Final = 20.0
#: Attempts at one address, while there is hope.
_ATTEMPTS: Final = 3
_CHUNK: Final = 1 << 16


class _Failed(Exception):
    """One attempt failed; the text says why in a few words.

    Attributes:
        again: whether the same address deserves another attempt.
    """

    def __init__(self, why: str, *, again: bool = False) -> None:
        super().__init__(why)
        self.again = again


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to something less."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and scheme != urlsplit(req.full_url).scheme:
            raise _Failed(f"redirected from {urlsplit(req.full_url).scheme} to {scheme}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Speaks http and https alone (urllib's default one reads file:, ftp: and data: as well)."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _NoDowngrade(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def download(
    urls: Sequence[str],
    target: Path,
    *,
    bytes: int,
    sha256: str,
    progress: Progress | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Fetch a file from the first address that gives the right one.

    Args:
        urls: http or https addresses of the same content, in order of preference.
        target: where it goes; the folder exists. An existing file is replaced at the end.
        bytes, sha256: what the content must be.
        progress: told (bytes so far, bytes in all).
        timeout: seconds to connect, and seconds without a byte.

    Raises:
        DownloadFailed: no address gave it. Partial content stays for the next attempt.
        OutputError: the file cannot be written.
    """
    part = target.with_name(target.name + ".part")
    told = progress or (lambda done, total: None)
    problems: list[str] = []
    for url in urls:
        host = urlsplit(url).netloc.rpartition("@")[2]
        for _ in range(_ATTEMPTS):
            try:
                _attempt(url, part, bytes, sha256, told, timeout)
            except _Failed as error:
                problems.append(f"{host}: {error}")
                if error.again:
                    continue
                break
            try:
                os.replace(part, target)
            except OSError as error:
                raise output_error(target, error) from error
            return
    distinct = list(dict.fromkeys(problems))
    raise DownloadFailed(
        f"{target.name} could not be downloaded ({'; '.join(distinct)}); try again, or fetch the file "
        f"elsewhere and place it by hand: facecam models add {target.name}"
    )


def _attempt(url: str, part: Path, total: int, sha256: str, told: Progress, timeout: float) -> None:
    """Bring ``part`` to ``total`` bytes of the right hash from one address.

    Raises:
        _Failed: the part that came is kept if more of it may follow, deleted if it is wrong.
    """
    have = _size(part)
    if have > total:
        _discard(part)
        have = 0
    if have < total:
        _transfer(url, part, have, total, told, timeout)
    if _digest(part) != sha256:
        _discard(part)
        # The beginning may have been left by a download of something else: once more, from the start.
        raise _Failed("sent a file with another SHA-256 than pinned", again=have > 0)


def _transfer(url: str, part: Path, have: int, total: int, told: Progress, timeout: float) -> None:
    """Read from the server into ``part`` until it holds ``total`` bytes."""
    request = urllib.request.Request(url, headers={"User-Agent": f"facecam/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with _opener().open(request, timeout=timeout) as response:
            start = _start_of(response, part, have, total)
            _copy(response, part, start, total, told)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # nothing beyond what we have: ours is not of this file
                _discard(part)
            loop = " in a redirect loop" if "infinite loop" in str(error.reason) else ""
            raise _Failed(f"HTTP {error.code}{loop}", again=error.code == 416) from error
    except TimeoutError as error:
        raise _Failed(f"no answer for {timeout:g} s") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _Failed(f"no answer for {timeout:g} s") from error
        raise _Failed(_reason(error.reason)) from error
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _Failed(_reason(error)) from error


def _start_of(response: Any, part: Path, have: int, total: int) -> int:
    """At which byte the body begins, from the status and headers; refuses a file of a wrong size."""
    length = response.headers.get("Content-Length")
    if response.status == 206:
        span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if span is None or int(span[1]) != have or span[3] not in ("*", str(total)):
            _discard(part)
            raise _Failed("answered another range than asked", again=True)
        return have
    if response.status != 200:
        raise _Failed(f"HTTP {response.status}")
    if length is not None and length.isdigit() and int(length) != total:
        raise _Failed(f"offers {length} bytes, expected {total}")
    return 0


def _copy(response: Any, part: Path, start: int, total: int, told: Progress) -> None:
    """Write the body to ``part`` from byte ``start``; unbuffered, so that a full disk is met here."""
    done = start
    told(done, total)
    with _open_part(part, start) as file:
        while chunk := response.read1(_CHUNK):  # what has come: a stall then loses nothing
            if done + len(chunk) > total:
                file.truncate(0)
                raise _Failed(f"sends more than the expected {total} bytes")
            try:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError as error:
                raise output_error(part, error) from error
            done += len(chunk)
            told(done, total)
        if done < total:
            raise _Failed(f"the connection ended after {done} of {total} bytes", again=done > start)
        try:
            os.fsync(file.fileno())
        except OSError as error:
            raise output_error(part, error) from error


def _open_part(part: Path, start: int) -> FileIO:
    try:
        file = part.open("r+b" if start else "wb", buffering=0)
        if start:
            file.seek(start)
            file.truncate()
    except OSError as error:
        raise output_error(part, error) from error
    return file


def _discard(path: Path) -> None:
    path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:120]
