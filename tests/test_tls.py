"""Events over TLS, on the loopback: an authority of one's own, certificates that are not trusted, and what is said."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facecam.cli import invoke
from facecam.errors import UsageFault
from facecam.live.deliver import Courier, NotDelivered
from facecam.live.trust import told, trusting
from facecam.live.webhook import WebPost
from tests.test_delivery import Broker, event, wait_until


class Authority:
    """Signs certificates for the loopback; `file` is what users trust."""

    def __init__(self, folder: Path, name: str = "lab") -> None:
        pytest.importorskip("cryptography", reason="cryptography is not installed (extra encryption)")
        from cryptography.hazmat.primitives.asymmetric import ec

        self._key, self._name, self._folder = ec.generate_private_key(ec.SECP256R1()), name, folder
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(_pem(self._sign(name, self._key.public_key(), None)))

    def certificate(self, address: str = "127.0.0.1") -> tuple[Path, Path]:
        """Files of a server's certificate for this address, and of its key."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        files = self._folder / f"{self._name}-server.pem", self._folder / f"{self._name}-server.key"
        files[0].write_bytes(_pem(self._sign("server", key.public_key(), address)))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _sign(self, name: str, key: Any, address: str | None) -> Any:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        called = lambda text: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])  # noqa: E731
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
        made = (
            x509.CertificateBuilder(called(self._name), called(name), key, x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=address is None, path_length=None), critical=True)
        )
        if address is not None:
            found = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            made = made.add_extension(found, critical=False)
        return made.sign(self._key, hashes.SHA256())


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return bytes(certificate.public_bytes(serialization.Encoding.PEM))


@contextlib.contextmanager
def secure_server(certificate: tuple[Path, Path]) -> Iterator[tuple[str, list[Any]]]:
    got: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None:  # a client that does not trust us hangs up
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"https://ada:s3cret@127.0.0.1:{server.server_address[1]}/T0KEN", got
    finally:
        server.shutdown()
        server.server_close()


def test_a_webhook_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with secure_server(authority.certificate()) as (url, got):
        WebPost(url, trusting(authority.file)).send(event(1))
        assert got == [event(1)]
        for tls in (None, trusting(Authority(tmp_path, "other").file)):
            with pytest.raises(NotDelivered, match=r"certificate is not trusted.*--ca FILE") as caught:
                WebPost(url, tls).send(event(2))
            said = str(caught.value)
            assert "\n" not in said and "_ssl.c" not in said and "s3cret" not in said and "T0KEN" not in said
        assert len(got) == 1


def test_the_certificate_of_another_host_is_not_taken(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with secure_server(authority.certificate("127.0.0.2")) as (url, got):
        with pytest.raises(NotDelivered, match="mismatch") as caught:
            WebPost(url, trusting(authority.file)).send(event(1))
        assert "--ca" not in str(caught.value), "it would not help" and not got


def test_events_wait_until_the_certificate_is_right(tmp_path: Path) -> None:
    """A server with an expired or a wrong certificate is repaired by its owner; nothing is lost meanwhile."""
    authority, other, said = Authority(tmp_path), Authority(tmp_path, "other"), list[str]()
    with secure_server(other.certificate()) as (url, _):
        port = url.rpartition(":")[2]
        courier = Courier(WebPost(url, trusting(authority.file)), said.append, wait=lambda attempt: 0.05)
        courier.write(event(1))
        assert wait_until(lambda: bool(said))
    assert "not trusted" in said[0] and port.split("/")[0] in said[0]
    courier.end(0.1)
    courier.close()
    assert "1 events were not delivered" in said[-1]


def test_plain_words_where_tls_is_not_spoken(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as plain:
        thread = threading.Thread(target=plain.handle_request, daemon=True)
        thread.start()
        with pytest.raises(NotDelivered, match="TLS failed"):
            WebPost(f"https://127.0.0.1:{plain.server_address[1]}/").send(event(1))
    assert told(None) == "" and told(ValueError("x")) == "x"


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"], ids=["absent", "empty", "rubbish"])
def test_a_file_of_certificates_that_is_none(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageFault, match="--ca"):
        trusting(file)
    assert invoke(["run", "--headless", "--webhook", "https://h/", "--ca", str(file), "--source", "none.mp4"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_broker_over_tls_with_password_and_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.certificate()
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder, f"cafile {authority.file}\ncertfile {certificate}\nkeyfile {key}\n")
    from facecam.live.mqtt import MqttPost

    url, said = broker.url().replace("mqtt://", "mqtts://"), list[str]()
    try:
        courier = Courier(MqttPost(url, trusting(authority.file)), said.append, wait=lambda attempt: 0.2)
        courier.write(event(1))
        assert wait_until(lambda: courier.delivered == 1, 20), said
        courier.close()
        stranger = Courier(MqttPost(url), said.append, wait=lambda attempt: 0.2)
        stranger.write(event(2))
        assert wait_until(lambda: any("not trusted" in line and "--ca FILE" in line for line in said), 20), said
        stranger.end(0.1)
        stranger.close()
    finally:
        broker.stop()
    assert "s3cret" not in " ".join(said)
