"""Addresses of streams and services: which ones are known, and how they are shown without their secrets."""

from __future__ import annotations

import re
from typing import Final

#: Addresses that a stream can have: what the FFmpeg of PyAV's wheel opens and that makes sense for a camera.
SCHEMES: Final = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "rtp", "udp", "tcp")


def scheme_of(text: str) -> str | None:
    """The scheme of an address, lower case; None for what is no address."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    return found[1].lower() if found else None


def hide_credentials(url: str) -> str:
    """A URL for people to read: without user, password, or any value given as ``key=value``.

    Cameras take passwords in the user part (also unescaped, with @ and / in them), in the query, and
    in the path (``/user=admin&password=1``).
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    head = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in head:
        rest = rest[head.rindex("@") + 1 :]
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in rest and (":" in host and not re.fullmatch(r"(\[[0-9a-fA-F:.]*\]|[^:]*):\d+", host)):
        rest = rest.rpartition("@")[2]  # the password held a slash: host is still a part of it
    rest = re.sub(r"=[^&;/?#]*", "=***", rest)
    return scheme + separator + rest


def host_only(url: str) -> str:
    """A URL's scheme, host and port: of a webhook the path is often the secret itself."""
    scheme, separator, rest = hide_credentials(url).partition("://")
    return scheme + separator + re.split(r"[/?#]", rest, maxsplit=1)[0]
