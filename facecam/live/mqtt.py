"""Events to an MQTT broker: the only import of paho (extra ``mqtt``)."""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
import unicodedata
import urllib.parse
from typing import Any, Final

from facecam.errors import DependencyMissing, UsageFault
from facecam.live.deliver import ANSWER_SECONDS, NotDelivered
from facecam.live.trust import told, trusting
from facecam.video.address import host_only, scheme_of

#: Where events go when the address names no topic.
TOPIC: Final = "facecam/events"
#: MQTT counts the bytes of a topic in two.
_LONGEST_TOPIC: Final = 65535
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


class MqttPost:
    """Publishes each event as JSON with quality of service 1 (at least once), not retained.

    paho's own thread keeps the connection and makes it anew.

    Args:
        url: mqtt://[USER:PASSWORD@]HOST[:PORT][/TOPIC]; mqtts:// with TLS, the certificate checked.
        tls: whose certificates are believed; default: the system's.

    Raises:
        UsageFault: not such an address. DependencyMissing: paho-mqtt is not installed.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        scheme = scheme_of(url)
        try:
            url.encode()  # what the system gave in another encoding
            parts = urllib.parse.urlsplit(url)
            host, port = parts.hostname, parts.port
            (host or "").encode("idna")  # as it is looked up; paho's thread would end at it
        except ValueError:
            host = port = None
        if scheme not in _PORTS or not host:
            raise UsageFault(f"--mqtt takes an address mqtt://HOST/TOPIC or mqtts://..., not {host_only(url)}")
        self._topic = urllib.parse.unquote(parts.path.strip("/")) or TOPIC
        if parts.fragment or parts.query or url.endswith("#") or any(c in self._topic for c in "#+"):
            raise UsageFault("--mqtt publishes to one topic; it cannot hold #, + or ?")
        # MQTT 3.1.1, 1.5.3: a broker may close the connection at such characters, and mosquitto does.
        if any(unicodedata.category(c) == "Cc" for c in self._topic) or len(self._topic.encode()) > _LONGEST_TOPIC:
            raise UsageFault(f"--mqtt: a topic has no control characters and at most {_LONGEST_TOPIC} bytes")
        try:
            from paho.mqtt import client as paho
        except ImportError as error:
            raise DependencyMissing("--mqtt needs paho-mqtt; run: pip install 'facecam[mqtt]'") from error
        self.name = f"broker {host_only(url)}"
        self._paho = paho
        self._reason = "cannot be reached"
        self._connected = threading.Event()
        self._sent: tuple[dict[str, Any], Any] | None = None
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        if parts.username is not None:
            self._client.username_pw_set(
                urllib.parse.unquote(parts.username),
                urllib.parse.unquote(parts.password) if parts.password is not None else None,
            )
        if scheme == "mqtts":
            self._client.tls_set_context(tls or trusting(None))
        self._client.reconnect_delay_set(1, 10)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._where = host, port or _PORTS[scheme]
        self._started = self._refused = False

    def send(self, event: dict[str, Any]) -> None:
        if not self._started:
            self._started = True
            self._client.connect_async(*self._where, keepalive=30)
            self._client.loop_start()
        if self._sent is None or self._sent[0] is not event:
            self._wait_for_connection()
            self._sent = event, self._client.publish(self._topic, json.dumps(event), qos=1)
        # One that was published and not acknowledged is sent again by paho itself once the broker is back.
        info = self._sent[1]
        try:
            info.wait_for_publish(ANSWER_SECONDS)
        except (ValueError, RuntimeError):  # paho did not take it: not connected any more
            self._sent = None
            raise NotDelivered(self._reason) from None
        if not info.is_published():
            raise NotDelivered("did not acknowledge in time" if self._connected.is_set() else self._reason)
        self._sent = None

    def _wait_for_connection(self) -> None:
        """Until the broker takes us, refuses us, or gives no answer in time; the last two raise NotDelivered."""
        end = time.monotonic() + ANSWER_SECONDS
        while not self._connected.wait(0.1):
            if self._refused or time.monotonic() > end:
                raise NotDelivered(self._reason)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._refused = bool(reason.is_failure)
        if self._refused:
            self._reason = f"refuses the connection ({reason})"
        else:
            self._connected.set()

    def _on_connect_fail(self, client: Any, data: Any) -> None:
        # paho calls this while it handles the error, which it tells nobody.
        if not self._refused and (reason := told(sys.exception())):
            self._reason = f"cannot be reached ({reason})"

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._connected.clear()
        if not self._refused:
            self._reason = "cannot be reached"
