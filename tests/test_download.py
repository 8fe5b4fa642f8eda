"""download(): against a server on loopback that behaves well, badly and not at all."""

from __future__ import annotations

import hashlib
import http.server
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facecam.errors import DownloadFailed, OutputError
from facecam.zoo.download import download

BODY = bytes(range(256)) * 1200 + b"end"
SHA = hashlib.sha256(BODY).hexdigest()


class Server:
    """A server on loopback whose paths answer as the test says."""

    def __init__(self) -> None:
        self.routes: dict[str, Callable[[http.server.BaseHTTPRequestHandler], None]] = {}
        self.requests: list[tuple[str, str | None]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append((self.path, self.headers.get("Range")))
                self.close_connection = True
                outer.routes[self.path](self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.released = threading.Event()
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def on(self, path: str, answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> str:
        self.routes[path] = answer
        return self.base + path

    def close(self) -> None:
        self.released.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    running = Server()
    yield running
    running.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder


def whole(body: bytes = BODY, declared: int | None = None) -> Callable:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(body) if declared is None else declared))
        request.end_headers()
        request.wfile.write(body)

    return answer


def ranged(body: bytes = BODY) -> Callable:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        if asked is None:
            return whole(body)(request)
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            request.send_response(416)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return None
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        request.wfile.write(body[start:])
        return None

    return answer


def status(code: int, **headers: str) -> Callable:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def fetch(target: Path, *urls: str, **more: object) -> None:
    download(list(urls), target, bytes=len(BODY), sha256=SHA, timeout=0.5, **more)  # type: ignore[arg-type]


def test_a_good_file_arrives_whole_with_progress(server: Server, folder: Path) -> None:
    told: list[tuple[int, int]] = []
    fetch(folder / "m.onnx", server.on("/m", ranged()), progress=lambda a, b: told.append((a, b)))
    assert (folder / "m.onnx").read_bytes() == BODY
    assert [p.name for p in folder.iterdir()] == ["m.onnx"]
    assert told[0] == (0, len(BODY)) and told[-1] == (len(BODY), len(BODY))
    assert told == sorted(told)
    assert server.requests == [("/m", None)]


def test_an_existing_file_is_replaced_only_at_the_end(server: Server, folder: Path) -> None:
    target = folder / "m.onnx"
    target.write_bytes(b"old")
    with pytest.raises(DownloadFailed):
        fetch(target, server.on("/bad", status(500)))
    assert target.read_bytes() == b"old"
    fetch(target, server.on("/m", whole()))
    assert target.read_bytes() == BODY


def test_the_fallback_address_is_used_and_gets_the_rest(server: Server, folder: Path) -> None:
    cut = server.on("/cut", whole(BODY[:70_000], declared=len(BODY)))
    fetch(folder / "m.onnx", cut, server.on("/m", ranged()))
    assert (folder / "m.onnx").read_bytes() == BODY
    assert server.requests[-1] == ("/m", "bytes=70000-")


def test_a_truncated_file_stays_as_part_and_is_resumed_by_the_next_call(server: Server, folder: Path) -> None:
    target = folder / "m.onnx"
    with pytest.raises(DownloadFailed, match=r"ended after 70000 of \d+ bytes") as caught:
        fetch(target, server.on("/cut", whole(BODY[:70_000], declared=len(BODY))))
    assert "facecam models add m.onnx" in str(caught.value) and "\n" not in str(caught.value)
    assert not target.exists()
    assert (folder / "m.onnx.part").read_bytes() == BODY[:70_000]
    fetch(target, server.on("/m", ranged()))
    assert server.requests[-1] == ("/m", "bytes=70000-")
    assert target.read_bytes() == BODY


def test_a_server_without_ranges_is_read_from_the_start(server: Server, folder: Path) -> None:
    (folder / "m.onnx.part").write_bytes(BODY[:5000])
    fetch(folder / "m.onnx", server.on("/m", whole()))
    assert (folder / "m.onnx").read_bytes() == BODY
    assert server.requests == [("/m", "bytes=5000-")]


@pytest.mark.parametrize("junk", [b"junk" * 1000, b"x" * len(BODY), b"y" * (len(BODY) + 9)])
def test_a_part_of_something_else_is_discarded(server: Server, folder: Path, junk: bytes) -> None:
    (folder / "m.onnx.part").write_bytes(junk)
    fetch(folder / "m.onnx", server.on("/m", ranged()))
    assert (folder / "m.onnx").read_bytes() == BODY
    assert server.requests[-1] == ("/m", None)


def test_a_complete_part_needs_no_network(folder: Path) -> None:
    (folder / "m.onnx.part").write_bytes(BODY)
    fetch(folder / "m.onnx", "http://127.0.0.1:9/never")
    assert (folder / "m.onnx").read_bytes() == BODY


def test_a_range_beyond_the_end_starts_anew(server: Server, folder: Path) -> None:
    (folder / "m.onnx.part").write_bytes(BODY[:1000])
    answers = iter([status(416), whole()])
    fetch(folder / "m.onnx", server.on("/m", lambda request: next(answers)(request)))
    assert (folder / "m.onnx").read_bytes() == BODY


def test_another_range_than_asked_starts_anew(server: Server, folder: Path) -> None:
    (folder / "m.onnx.part").write_bytes(BODY[:1000])
    wrong = status(206, **{"Content-Range": f"bytes 7-{len(BODY) - 1}/{len(BODY)}"})
    answers = iter([wrong, whole()])
    fetch(folder / "m.onnx", server.on("/m", lambda request: next(answers)(request)))
    assert (folder / "m.onnx").read_bytes() == BODY
    assert [r[1] for r in server.requests] == ["bytes=1000-", None]


def _stall(server: Server) -> Callable:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(BODY)))
        request.end_headers()
        request.wfile.write(BODY[:1000])
        request.wfile.flush()
        server.released.wait(20)

    return answer


def _endless(request: http.server.BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    request.wfile.write(BODY + b"more")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (status(404), "HTTP 404"),
        (status(403), "HTTP 403"),
        (status(204), "HTTP 204"),
        (whole(b"z" * len(BODY)), "another SHA-256 than pinned"),
        (whole(b"version https://git-lfs"), "offers 23 bytes, expected"),
        (_endless, "more than the expected"),
        (status(302, Location="/bad"), "HTTP 302 in a redirect loop"),
        (status(302, Location="file:///etc/hostname"), "HTTP 302"),
        (status(302, Location="ftp://127.0.0.1/m"), "redirected from http to ftp"),
    ],
)
def test_bad_answers_are_one_line_and_leave_nothing(server: Server, folder: Path, answer: Callable, why: str) -> None:
    with pytest.raises(DownloadFailed) as caught:
        fetch(folder / "m.onnx", server.on("/bad", answer))
    text = str(caught.value)
    assert why in text and "\n" not in text
    assert text.startswith("m.onnx could not be downloaded (127.0.0.1:")
    assert text.endswith("place it by hand: facecam models add m.onnx")
    assert not any(p.stat().st_size for p in folder.iterdir())


def test_a_stalled_server_is_left_within_the_timeout(server: Server, folder: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"no answer for 0\.5 s"):
        fetch(folder / "m.onnx", server.on("/slow", _stall(server)))
    assert (folder / "m.onnx.part").read_bytes() == BODY[:1000]
    fetch(folder / "m.onnx", server.on("/m", ranged()))
    assert (folder / "m.onnx").read_bytes() == BODY


def test_a_server_that_never_answers_is_left_within_the_timeout(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/m"
        with pytest.raises(DownloadFailed, match=r"no answer for 0\.5 s"):
            fetch(folder / "m.onnx", url)


def test_no_network_names_the_way_by_hand(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("no_proxy", "*")

    def no_dns(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_dns)
    with pytest.raises(DownloadFailed) as caught:
        fetch(folder / "m.onnx", "https://models.example/m", "https://mirror.example/m")
    assert "models.example: Temporary failure" in str(caught.value)
    assert "mirror.example: Temporary failure" in str(caught.value)
    assert "facecam models add m.onnx" in str(caught.value)


def test_https_is_never_left_for_http(folder: Path) -> None:
    import urllib.request

    from facecam.zoo import download as module

    request = urllib.request.Request("https://models.example/m")
    with pytest.raises(module._Failed, match="from https to http"):
        module._NoDowngrade().redirect_request(request, None, 302, "Found", {}, "http://models.example/m")


def test_credentials_in_an_address_are_not_shown(server: Server, folder: Path) -> None:
    url = server.on("/bad", status(404)).replace("http://", "http://me:secret@")
    with pytest.raises(DownloadFailed) as caught:
        fetch(folder / "m.onnx", url)
    assert "secret" not in str(caught.value)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full to stand for a full disk")
def test_a_full_disk_is_an_output_error(server: Server, folder: Path) -> None:
    (folder / "m.onnx.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="disk is full"):
        fetch(folder / "m.onnx", server.on("/m", whole()))
    assert not (folder / "m.onnx").exists()


def test_a_missing_folder_is_an_output_error(server: Server, folder: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        fetch(folder / "none" / "m.onnx", server.on("/m", whole()))
