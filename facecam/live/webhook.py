"""Events to a web server (urllib)."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Final

from facecam.errors import UsageFault
from facecam.live.deliver import ANSWER_SECONDS, NotDelivered, Refused
from facecam.live.trust import told, trusting
from facecam.video.address import host_only, scheme_of

#: Answers after which trying again may help, beside 500 and more; others mean that this event is not wanted.
_TRANSIENT: Final = frozenset({408, 425, 429})
#: What may stand in a path or query as it is (RFC 3986), what is coded already included; the rest is coded as UTF-8.
_PLAIN: Final = "%/?:@!$&'()*+,;=[]"


class WebPost:
    """Posts each event as JSON to an http or https address; user and password in it become Basic authorization.

    Args:
        tls: whose certificates are believed; default: the system's.

    Raises:
        UsageFault: not such an address.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        try:
            url.encode()  # what the system gave in another encoding
            parts = urllib.parse.urlsplit(url)
            host, port = parts.hostname, parts.port
            (host or "").encode("idna")  # as it is looked up
        except ValueError:
            host = port = None
        if scheme_of(url) not in ("http", "https") or not host or " " in host or not host.isprintable():
            raise UsageFault(f"--webhook takes an address http://... or https://..., not {host_only(url)}")
        self.name = f"webhook {host_only(url)}"
        self._headers = {"Content-Type": "application/json", "User-Agent": "facecam"}
        if parts.username is not None:
            pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        place = f"[{host}]" if ":" in host else host
        where = place + (f":{port}" if port else "")
        path, query = (urllib.parse.quote(part, _PLAIN) for part in (parts.path or "/", parts.query))
        self._url = urllib.parse.urlunsplit((parts.scheme, where, path, query, ""))
        # Events name people: they go where the user said, and nowhere that a server redirects to.
        secure = urllib.request.HTTPSHandler(context=tls or trusting(None))
        self._opener = urllib.request.build_opener(_NoRedirect, secure)

    def send(self, event: dict[str, Any]) -> None:
        request = urllib.request.Request(self._url, json.dumps(event).encode(), self._headers, method="POST")
        try:
            answered = self._opener.open(request, timeout=ANSWER_SECONDS)
            # Taken by its status: a body that is slow, endless or broken off takes nothing back. What has come of it is
            # read, since some servers log a connection that is closed before.
            with answered as answer, contextlib.suppress(OSError, http.client.HTTPException):
                answer.read1(65536)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _TRANSIENT or error.code >= 500:
                raise NotDelivered(f"answers {error.code}") from None
            raise Refused(f"answers {error.code}") from None
        except urllib.error.URLError as error:
            reason = told(error.reason) if isinstance(error.reason, OSError) else error.reason
            raise NotDelivered(f"cannot be reached ({reason})") from None
        except (OSError, http.client.HTTPException) as error:  # a broken answer
            raise NotDelivered(f"failed ({type(error).__name__})") from None

    def close(self) -> None:
        pass


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None
