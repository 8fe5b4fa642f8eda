"""Events to files that rotate, to web servers, to a real MQTT broker: what is delivered, retried, dropped and said."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import socketserver
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.cli import invoke
from facecam.errors import OutputError, UsageFault
from facecam.live.deliver import Courier, NotDelivered, Refused
from facecam.live.outlets import Outlets
from facecam.live.webhook import WebPost
from facecam.video.address import host_only
from facecam.video.events import EventSink, size_in_bytes
from tests.fakes import closed_port, small_disk


def event(number: int) -> dict[str, Any]:
    return {"type": "appear", "name": "Ñandú 山", "number": number}


def wait_until(condition: Callable[[], object], limit: float = 10.0) -> bool:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


# --- files --------------------------------------------------------------------------------------------


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["number"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_file_of_events_is_rotated_and_the_oldest_go(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    folder.mkdir()
    path = folder / "events.jsonl"
    line = len(json.dumps(event(10), ensure_ascii=False).encode()) + 1
    with EventSink(path, size=10 * line, keep=2) as sink:
        for number in range(10, 55):
            sink.write(event(number))
    assert numbers(path) == list(range(50, 55))
    assert numbers(folder / "events.jsonl.1") == list(range(40, 50))
    assert numbers(folder / "events.jsonl.2") == list(range(30, 40))
    assert sorted(p.name for p in folder.iterdir()) == ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in folder.iterdir())
    assert all(p.stat().st_size <= 10 * line for p in folder.iterdir())


def test_a_new_file_that_cannot_be_made_costs_no_older_one(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="POSIX only")
    path = tmp_path / "events.jsonl"
    with EventSink(path, size=1000, keep=3) as sink:
        for number in range(60):
            sink.write(event(number))
        kept = [numbers(path.with_name(f"events.jsonl.{k}")) for k in (1, 2)] + [numbers(path)]
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))  # "too many open files"
        try:
            failed = 0
            for number in range(60, 90):
                try:
                    sink.write(event(number))
                except OutputError:
                    failed += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        sink.write(event(100))
    assert failed > 10 and numbers(path) == [100]
    now = [numbers(path.with_name(f"events.jsonl.{k}")) for k in (2, 3, 1)]
    assert now[:2] == kept[:2] and now[2][: len(kept[2])] == kept[2]


@given(st.integers(0, 3), st.lists(st.integers(0, 400), min_size=1, max_size=40))
def test_no_line_is_lost_or_broken_by_rotation(
    tmp_path_factory: pytest.TempPathFactory, keep: int, sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("rotation") / "e.jsonl"
    with EventSink(path, size=1000, keep=keep) as sink:
        for number, size in enumerate(sizes):
            sink.write({"number": number, "more": "x" * size})
    files = [path.with_name(f"e.jsonl.{k}") for k in range(keep, 0, -1)] + [path]
    kept = [number for file in files if file.exists() for number in numbers(file)]
    assert kept == list(range(len(sizes)))[len(sizes) - len(kept) :], "the newest, in order, without a gap"
    assert len(list(path.parent.iterdir())) <= keep + 1


def test_a_file_put_aside_by_another_program_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventSink(path) as sink:
        sink.write(event(1))
        path.rename(tmp_path / "old")
        sink.write(event(2))
        sink.reopen()
        sink.write(event(3))
    assert numbers(tmp_path / "old") == [1, 2] and numbers(path) == [3]


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1000))


def test_a_full_disk_costs_events_and_nothing_else(tmp_path: Path) -> None:
    said: list[str] = []
    with small_disk(tmp_path / "disk", "64k") as disk:
        path = disk / "events.jsonl"
        filler = disk / "filler"
        with Outlets(EventSink(path), [], said.append) as outlets:
            outlets.write(event(0))
            fill(filler)
            for number in range(1, 200):
                outlets.write(event(number))
            assert len(said) == 1 and "disk is full" in said[0]
            filler.unlink()
            outlets.write(event(200))
            assert "were lost" in said[1]
        kept = numbers(path)  # every line whole
    assert kept[0] == 0 and kept[-1] == 200 and f"{201 - len(kept)} were lost" in said[1]


@pytest.mark.parametrize("mode", ["w", "a"])
def test_a_full_disk_under_stdout_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    said: list[str] = []
    with small_disk(tmp_path / "disk", "64k") as disk:
        path, filler = disk / "events.jsonl", disk / "filler"
        with path.open(mode, encoding="utf-8") as stdout, Outlets(EventSink("-"), [], said.append) as outlets:
            monkeypatch.setattr("sys.stdout", stdout)
            outlets.write(event(0))
            fill(filler)
            for number in range(1, 200):
                outlets.write(event(number))
            filler.unlink()
            outlets.write(event(200))
        kept = numbers(path)
    assert kept[0] == 0 and kept[-1] == 200 and f"{201 - len(kept)} were lost" in said[1]


@pytest.mark.parametrize(
    ("text", "bytes_"), [("64MB", 64 * 10**6), ("1k", 1000), ("2 GB", 2 * 10**9), ("5000", 5000), ("10mb", 10**7)]
)
def test_sizes(text: str, bytes_: int) -> None:
    assert size_in_bytes(text) == bytes_


@pytest.mark.parametrize("text", ["", "MB", "12", "-5MB", "1.5MB", "5TB", "k", "b", "٣٣٣٣MB", "9" * 40])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UsageFault, match="64MB"):
        size_in_bytes(text)


# --- couriers -----------------------------------------------------------------------------------------


class Desk:
    """A post whose answers are scripted: None takes the event, an exception is raised; then it takes all."""

    name = "desk"

    def __init__(self, *answers: Exception | None, hang: float = 0.0) -> None:
        self.answers = list(answers)
        self.taken: list[dict[str, Any]] = []
        self.hang = hang
        self.closed = False

    def send(self, event: dict[str, Any]) -> None:
        time.sleep(self.hang)
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.taken.append(event)

    def close(self) -> None:
        self.closed = True


def test_events_arrive_in_order_over_failures_which_are_told_once() -> None:
    said: list[str] = []
    desk = Desk(None, *[NotDelivered("away")] * 5)
    courier = Courier(desk, said.append, wait=lambda attempt: 0.01)
    for number in range(20):
        courier.write(event(number))
    assert wait_until(lambda: len(desk.taken) == 20)
    courier.close()
    assert [e["number"] for e in desk.taken] == list(range(20)) and desk.closed
    assert said == ["desk: away; events wait and are sent again", "desk: delivers again"]


def test_a_full_queue_drops_the_oldest_and_counts_them() -> None:
    said: list[str] = []
    desk = Desk(NotDelivered("away"))
    release = threading.Event()
    courier = Courier(desk, said.append, size=10, wait=lambda attempt: 0.0 if release.is_set() else 0.3)
    time.sleep(0.05)
    for number in range(100):
        courier.write(event(number))
    release.set()
    assert wait_until(lambda: len(desk.taken) == 10)
    courier.close()
    assert [e["number"] for e in desk.taken] == list(range(90, 100))
    assert any("90 older events were dropped" in line for line in said)


def test_an_event_that_is_refused_does_not_hold_up_the_next() -> None:
    said: list[str] = []
    desk = Desk(Refused("answers 400"))
    courier = Courier(desk, said.append)
    courier.write(event(1))
    courier.write(event(2))
    assert wait_until(lambda: desk.taken)
    courier.close()
    assert [e["number"] for e in desk.taken] == [2]
    assert "desk: answers 400; the event is dropped" in said and "desk: 1 events were not delivered" in said


def test_writing_never_waits_and_the_end_waits_no_longer_than_it_may() -> None:
    said: list[str] = []
    courier = Courier(Desk(hang=30), said.append)
    start = time.monotonic()
    for number in range(1000):
        courier.write(event(number))
    courier.end(0.3)
    courier.close()
    assert time.monotonic() - start < 10, "before the desk lets go"
    assert said == ["desk: 1000 events were not delivered"]


@contextlib.contextmanager
def web_server(*answers: int) -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """Answers with these status codes, then with 204; yields its address and what it was sent."""
    left, got = list(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, dict(self.headers), body))
            status = left.pop(0) if left else 204
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        server.server_close()


def test_a_webhook_is_posted_json_with_authorization() -> None:
    said: list[str] = []
    with web_server(503, 429) as (address, got):
        url = address.replace("//", "//ada:s3%40cret@") + "/hooks/T0KEN?key=t0ken"
        courier = Courier(WebPost(url), said.append, wait=lambda attempt: 0.01)
        courier.write(event(1))
        assert wait_until(lambda: courier.delivered == 1)
        courier.close()
    path, headers, body = got[-1]
    assert len(got) == 3 and path == "/hooks/T0KEN?key=t0ken"
    assert json.loads(body) == event(1) and headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Basic YWRhOnMzQGNyZXQ="
    assert len(said) == 2 and "answers 503" in said[0]
    assert not any(secret in " ".join(said) for secret in ("cret", "T0KEN", "t0ken"))


@pytest.mark.parametrize("status", [302, 400, 404, 410])
def test_a_webhook_that_does_not_want_an_event_is_not_asked_again(status: int) -> None:
    with web_server(status) as (address, got):
        post = WebPost(address + "/hook")
        with pytest.raises(Refused, match=str(status)):
            post.send(event(1))
        assert [path for path, _, _ in got] == ["/hook"], "a redirect is not followed: events name people"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nstill writing",
    ],
    ids=["short", "broken", "endless"],
)
def test_an_event_that_was_taken_is_not_sent_again_whatever_follows(answer: bytes, endless: threading.Event) -> None:
    asked = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline().strip():
                asked.extend([line] * line.startswith(b"POST"))
            self.wfile.write(answer)
            if b"still" in answer:
                while not endless.wait(0.1):
                    self.wfile.write(b".")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        courier = Courier(WebPost(f"http://127.0.0.1:{server.server_address[1]}/"), print, wait=lambda attempt: 0.01)
        courier.write(event(1))
        courier.write(event(2))
        delivered = wait_until(lambda: courier.delivered == 2, 5)
        endless.set()
        server.shutdown()
        courier.close()
    assert delivered and len(asked) == 2


@pytest.fixture
def endless() -> Iterator[threading.Event]:
    """Set, it ends an answer that goes on and on."""
    end = threading.Event()
    yield end
    end.set()


def test_a_webhook_that_is_away_says_so_without_its_secrets() -> None:
    post = WebPost(f"http://ada:s3cret@127.0.0.1:{closed_port()}/T0KEN")
    with pytest.raises(NotDelivered, match="Connection refused") as caught:
        post.send(event(1))
    assert "s3cret" not in str(caught.value) + post.name and "T0KEN" not in str(caught.value) + post.name


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("/ü/山?key=ñ", "/%C3%BC/%E5%B1%B1?key=%C3%B1"),
        ("/a b?c d=e", "/a%20b?c%20d=e"),
        ("/a%20b/%C3%BC?x=%26&y=1+2", "/a%20b/%C3%BC?x=%26&y=1+2"),
        ("/t:k;n,m/(a)~!$'*@?u=[1]/?", "/t:k;n,m/(a)~!$'*@?u=[1]/?"),
    ],
)
def test_an_address_is_asked_for_as_browsers_do(written: str, asked: str) -> None:
    with web_server() as (address, got):
        WebPost(address + written).send(event(1))
    assert [path for path, _, _ in got] == [asked]


def test_a_fault_of_a_post_costs_one_event_and_not_the_thread() -> None:
    said: list[str] = []
    desk = Desk(UnicodeEncodeError("ascii", "s3cret", 0, 1, "no"), ValueError("s3cret"))
    courier = Courier(desk, said.append)
    for number in range(4):
        courier.write(event(number))
    assert wait_until(lambda: len(desk.taken) == 2)
    courier.close()
    assert [e["number"] for e in desk.taken] == [2, 3] and desk.closed
    assert said[0] == "desk: failed (UnicodeEncodeError); the event is dropped" and "s3cret" not in " ".join(said)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "host",
        "http://",
        "http://host:99999/",
        "http://a b/x",
        "mqtt://host",
        "http://[::1",
        "http://a..b/",
        "http://h/caf\udce9",
    ],
)
def test_what_is_no_webhook_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageFault, match="--webhook"):
        WebPost(url)


@given(st.text(st.characters(categories=["L", "N"], codec="ascii"), min_size=6))
def test_of_a_service_only_the_host_is_shown(secret: str) -> None:
    shown = host_only(f"https://u:{secret}@hooks.invalid:8443/{secret}/x?k={secret}#{secret}")
    assert shown == "https://hooks.invalid:8443"


# --- MQTT, with a real broker -------------------------------------------------------------------------


class Broker:
    """A mosquitto on the loopback; with a password for user ada."""

    def __init__(self, folder: Path, more: str = "") -> None:
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if program is None:
            pytest.skip("mosquitto is not installed (Debian package mosquitto)")
        pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed (extra mqtt)")
        self.port = closed_port()
        passwords = folder / "passwords"
        passwords.write_text("ada:s3cret\n")
        passwords.chmod(0o600)
        subprocess.run([f"{shutil.which('mosquitto_passwd') or 'mosquitto_passwd'}", "-U", str(passwords)], check=True)
        passwords.chmod(0o644)  # the broker gives up being root
        folder.chmod(0o755)
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n"
            # It remembers who is subscribed over a restart: what comes before they are back is kept for them.
            f"persistence true\npersistence_location {folder}/\n{more}"
        )
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def url(self, password: str = "s3cret", topic: str = "home/faces") -> str:
        return f"mqtt://ada:{password}@127.0.0.1:{self.port}/{topic}"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    running = Broker(folder)
    try:
        yield running
    finally:
        running.stop()


@contextlib.contextmanager
def subscriber(broker: Broker, topic: str = "home/faces") -> Iterator[list[dict[str, Any]]]:
    """What arrives under a topic, over breaks of the connection."""
    from paho.mqtt import client as paho

    got: list[dict[str, Any]] = []
    ready = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="test", clean_session=False)
    client.username_pw_set("ada", "s3cret")
    client.reconnect_delay_set(1, 1)
    client.on_connect = lambda c, *rest: c.subscribe(topic, qos=1)
    client.on_subscribe = lambda *rest: ready.set()
    client.on_message = lambda c, data, message: got.append(json.loads(message.payload))
    client.connect_async("127.0.0.1", broker.port)
    client.loop_start()
    assert ready.wait(15), "the broker answers"
    try:
        yield got
    finally:
        client.disconnect()
        client.loop_stop()


def test_events_reach_a_broker_over_its_restart(broker: Broker) -> None:
    from facecam.live.mqtt import MqttPost

    said: list[str] = []
    with subscriber(broker) as got:
        courier = Courier(MqttPost(broker.url()), said.append, wait=lambda attempt: 0.2)
        for number in range(5):
            courier.write(event(number))
        assert wait_until(lambda: len(got) == 5, 15)
        broker.stop()
        for number in range(5, 8):
            courier.write(event(number))
        time.sleep(0.3)
        broker.start()
        assert wait_until(lambda: {e["number"] for e in got} == set(range(8)), 30), (got, said)
        courier.close()
    seen = [e["number"] for e in got]
    assert list(dict.fromkeys(seen)) == list(range(8)), "in order, each at least once"
    assert "s3cret" not in " ".join(said)


def test_a_wrong_password_of_the_broker_is_told_without_it(broker: Broker) -> None:
    from facecam.live.mqtt import MqttPost

    said: list[str] = []
    with subscriber(broker):  # it answers
        courier = Courier(MqttPost(broker.url("wr0ng")), said.append, wait=lambda attempt: 0.2)
        courier.write(event(1))
        assert wait_until(lambda: said, 15)
        courier.end(0.2)
        courier.close()
    assert "Not authorized" in said[0] and "wr0ng" not in " ".join(said)


@pytest.mark.parametrize(
    "url",
    [
        "http://host/x",
        "mqtt://",
        "host",
        "mqtt://host/a/#",
        "mqtt://host:0x/",
        "mqtt://a..b/x",
        "mqtt://ad\udce9:p@h/",
        "mqtt://host/%00",
        "mqtt://host/a%0Ab",
        pytest.param("mqtt://host/" + "é" * 32768, id="long"),
    ],
)
def test_what_is_no_broker_is_a_usage_error(url: str) -> None:
    from facecam.live.mqtt import MqttPost

    with pytest.raises(UsageFault, match="--mqtt"):
        MqttPost(url)


def test_without_paho_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    assert invoke(["run", "--headless", "--mqtt", "mqtt://127.0.0.1", "--source", "nowhere.mp4"]) == 1
    assert "pip install 'facecam[mqtt]'" in capsys.readouterr().err


def test_the_command_refuses_bad_addresses_and_sizes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for option in (
        ["--webhook", "ftp://u:s3cret@h/x"],
        ["--events-size", "12"],
        ["--reconnect", "soon"],
        ["--stall", "x"],
    ):
        assert invoke(["run", "--headless", "--source", str(tmp_path / "none.mp4"), *option]) == 2, option
        assert "s3cret" not in capsys.readouterr().err


def test_the_sink_can_be_written_again_after_an_error() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    sink = EventSink("/dev/full")
    for _ in range(2):
        with pytest.raises(OutputError, match="disk is full"):
            sink.write(event(1))
    sink.close()
