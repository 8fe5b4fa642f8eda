"""Addresses of streams and services: which ones are known, and how they are shown without their secrets."""

from __future__ import annotations

import re
from typing import Final

#: Addresses that a stream can have: what the FFmpeg of PyAV's wheel opens and that makes sense for a camera.
SCHEMES: Final = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "rtp", "udp", "tcp")

#: Of these an @ is taken to end user and password, wherever it stands.
_CAMERAS: Final = ("rtsp", "rtsps", "rtmp", "rtmps")
#: What is surely a host (a name with a port may be user and password), then a path without another address in it, then
#: values, each with its key: an @ after this is a part of the path, or of the last value. After a host alone it ends a
#: user without a password, who is often the secret itself.
_HOST_AND_MORE: Final = re.compile(
    r"(?=.*[/?#])(?:\[[0-9A-Fa-f:.]+\](?::\d+)?|(?:\d+(?:\.\d+){3}|localhost)(?::\d+)?|[^@:/?#\[\]]+)"
    r"(?:[/#][^:?]*)?(?:\?[^@:=&;]*=[^&;]*(?:[&;][^@:=&;]*=[^&;]*)*)?"
)


def scheme_of(text: str) -> str | None:
    """The scheme of an address, lower case; None for what is no address."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    return found[1].lower() if found else None


def mistyped(text: str) -> str | None:
    """The scheme, lower case, of what is meant as the address of a stream and lacks a slash (rtsp:/cam/live)."""
    found = re.match(r"([A-Za-z]+):(?!//)", text)
    return found[1].lower() if found and found[1].lower() in SCHEMES else None


def hide_credentials(url: str) -> str:
    """A URL for people to read: without user, password, or any value given as ``key=value``.

    Cameras take passwords in the user part (also unescaped, with any of @ / ? # in them), in the query, and in the path
    (``/user=admin&password=1``). Where it is open which of these an @ ends, more is hidden than need be.
    """
    scheme = scheme_of(url)
    length = len(scheme) + len("://") if scheme else 0
    start, rest = url[:length], url[length:]
    before, _, after = rest.rpartition("@")
    kept = ":" not in before if scheme is None else scheme not in _CAMERAS and _HOST_AND_MORE.fullmatch(before)
    if not kept:
        if re.search(r"[/?#].*=", before, re.DOTALL):
            return start + "***"  # the @ may be a part of a value
        rest = after
    path, mark, query = rest.partition("?")
    return start + re.sub(r"=[^&;/#]*", "=***", path) + mark + re.sub(r"=[^&;]*", "=***", query)


def host_only(url: str) -> str:
    """A URL's scheme, host and port: of a webhook the path is often the secret itself."""
    scheme, separator, rest = hide_credentials(url).partition("://")
    return scheme + separator + re.split(r"[/?#]", rest, maxsplit=1)[0]
