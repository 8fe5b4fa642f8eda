"""facecam models: what it prints, what it changes, how it fails."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from facecam.cli import invoke
from facecam.zoo import registry
from facecam.zoo.packs import Zoo
from tests import zoo_models as made


@pytest.fixture
def home(tmp_path: Path, models_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose models folder is a copy: these tests write to it."""
    home = tmp_path / "own"
    shutil.copytree(models_home, home)
    monkeypatch.setenv("FACECAM_HOME", str(home))
    return home


@pytest.fixture
def opencv(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Stand-ins for the opencv pack's files, pinned in place of the real ones."""
    files = {"yunet": made.planted_yunet(), "sface": made.sface_like()}
    made.pin(monkeypatch, files)
    return files


def test_models_alone_lists(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["models"]) == 0
    alone = capsys.readouterr().out
    assert invoke(["models", "list"]) == 0
    assert capsys.readouterr().out == alone
    rows = [line.split() for line in alone.splitlines()]
    assert rows[1][:3] == ["*", "dlib-pairs", "installed"]
    assert rows[2][:2] == ["dlib", "installed"]
    assert rows[3][:3] == ["opencv", "not", "installed"]
    for id, entry in registry.models().items():
        row = next(r for r in rows if id in r[:2] and entry.licence in r)
        assert entry.role in row and f"{entry.bytes / 1e6:.1f}" in row
    assert all("\x1b" not in line for line in alone.splitlines())


@pytest.mark.parametrize("arguments", [["--json"], ["list", "--json"], ["--json", "list"]])
def test_the_list_as_json(home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert invoke(["models", *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "facecam.models/1"
    assert report["in_use"] == {
        "name": "dlib-pairs",
        "detector": "dlib-detector",
        "landmarks": "dlib-landmarks",
        "embedder": "dlib-pairs",
    }
    packs = {p["name"]: p["installed"] for p in report["packs"]}
    assert packs == {"dlib-pairs": True, "dlib": True, "opencv": False, "yunet-dlib": False}
    models = {m["id"]: m for m in report["models"]}
    assert set(models) == set(registry.models())
    assert models["sface"]["licence"] == "Apache-2.0" and models["sface"]["state"] == "absent"
    assert models["sface"]["threshold"] == 0.363
    assert Path(models["dlib-embedder"]["path"]).is_file()


def test_use_changes_what_is_in_use(home: Path, opencv: dict[str, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["models", "use", "opencv"]) == 13
    assert "facecam models pull opencv" in capsys.readouterr().err
    for data in opencv.values():
        assert invoke(["models", "add", str(made.put(home, "by-hand", data))]) == 0
    capsys.readouterr()
    assert invoke(["models", "use", "opencv"]) == 0
    assert capsys.readouterr().out == "in use: opencv (yunet, sface)\n"
    assert invoke(["models", "use", "--embedder", "dlib"]) == 0
    assert capsys.readouterr().out == "in use: yunet-dlib (yunet, dlib-embedder)\n"
    assert invoke(["models", "use", "--detector", "dlib", "--embedder", "sface"]) == 0
    capsys.readouterr()
    assert invoke(["models"]) == 0
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "* dlib-detector+sface your own combination" in rows


def test_use_warns_when_the_gallery_is_of_another_model(
    home: Path, opencv: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    from facecam.people.gallery import Gallery
    from facecam.values import Sample, Template

    space = Zoo(home).ensure("dlib").embedder.card.space
    assert space is not None
    vector = np.zeros(128, np.float32)
    vector[0] = 1
    with Gallery.open() as gallery:
        gallery.add("Ada", [Sample(Template(vector, space), "0" * 64, "a.jpg", 0.9)])
    for data in opencv.values():
        invoke(["models", "add", str(made.put(home, "by-hand", data))])
    capsys.readouterr()
    assert invoke(["models", "use", "opencv"]) == 0
    told = capsys.readouterr()
    assert "in use: opencv" in told.out and "note:" in told.err and "'Ada'" in told.err
    assert invoke(["models", "use", "yunet-dlib"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["use"], 2, "name a pack"),
        (["use", "dilb"], 2, "no pack is called 'dilb'"),
        (["use", "--detector", "sface"], 2, "has the role embedder"),
        (["pull", "dilb"], 2, "nothing is called 'dilb' to pull"),
        (["add", "/no/such.onnx"], 13, "no such file"),
        (["path", "nobody"], 2, "no model is called"),
    ],
)
def test_faults_are_one_line_with_their_code(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, why: str
) -> None:
    assert invoke(["models", *arguments]) == code
    told = capsys.readouterr()
    assert why in told.err and told.err.count("\n") == 1 and told.err.startswith("facecam: ")
    assert told.out == ""


def test_a_card_cannot_write_to_the_terminal(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = made.embedder_card("Red\x1b[31m", licence="MIT\x1b]0;owned\x07", source="x\ny")
    assert invoke(["models", "add", str(made.put(home, "a.onnx", made.embedder(card)))]) == 0
    assert invoke(["models"]) == 0
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err and "\x07" not in told.out
    assert "red-31m: embedder added" in told.out


def test_add_names_and_replaces(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = made.put(home, "a.onnx", made.embedder(made.embedder_card()))
    second = made.put(home, "b.onnx", made.embedder(made.embedder_card(licence="BSD-3-Clause")))
    assert invoke(["models", "add", str(first), "--name", "mine"]) == 0
    assert "facecam models use --embedder mine" in capsys.readouterr().out
    assert invoke(["models", "add", str(second), "--name", "mine"]) == 2
    assert invoke(["models", "add", str(second), "--name", "mine", "--replace"]) == 0
    capsys.readouterr()
    assert invoke(["models", "path", "mine"]) == 0
    assert Path(capsys.readouterr().out.strip()).read_bytes() == second.read_bytes()


def test_verify_tells_good_from_bad(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["models", "verify"]) == 0
    assert "dlib-embedder.v" in capsys.readouterr().out
    path = Zoo(home).path_of("dlib-detector")
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert invoke(["models", "verify", "--json"]) == 13
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report["ok"] is False
    assert [f["id"] for f in report["files"] if f["state"] == "damaged"] == ["dlib-detector"]
    assert "facecam models pull dlib-detector" in told.err
    assert invoke(["models", "pull", "dlib-detector"]) == 0
    assert invoke(["models", "verify"]) == 0


def test_pull_needs_no_network_for_what_pip_brought(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["models", "pull", "dlib-pairs"]) == 0
    assert capsys.readouterr().out == "dlib-pairs: dlib-detector, dlib-landmarks, dlib-pairs installed\n"


def test_pull_downloads_once(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import functools
    import http.server
    import threading

    files = {"yunet": made.planted_yunet(), "sface": made.sface_like()}
    site = home / "site"
    site.mkdir()
    for id, data in files.items():
        made.put(site, id, data)
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    monkeypatch.setenv("no_proxy", "*")
    base = f"http://127.0.0.1:{server.server_address[1]}"
    made.pin(monkeypatch, files, {id: [f"{base}/gone", f"{base}/{id}"] for id in files})
    try:
        assert invoke(["models", "pull", "opencv"]) == 0
        told = capsys.readouterr()
        assert told.out.splitlines()[0] == "opencv: yunet, sface installed"
        assert "To use it from now on: facecam models use opencv" in told.out
        assert "downloading face_detection_yunet_2023mar.onnx" in told.err
        assert {"/yunet", "/sface"} < set(asked)
        asked.clear()
        assert invoke(["models", "pull", "opencv"]) == 0
        assert asked == []
        assert invoke(["models", "use", "opencv"]) == 0
    finally:
        server.shutdown()
        server.server_close()


def test_pull_without_a_network_says_how_to_do_it_by_hand(
    home: Path, opencv: dict[str, bytes], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    assert invoke(["models", "pull", "opencv"]) == 13
    last = capsys.readouterr().err.splitlines()[-1]
    assert "could not be downloaded (127.0.0.1:9: Connection refused)" in last
    assert last.endswith("facecam models add face_detection_yunet_2023mar.onnx")


@pytest.mark.parametrize("command", ["list", "pull", "add", "use", "verify", "path"])
def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert invoke(["models", command, "--help"]) == 0
    assert f"facecam models {command}" in capsys.readouterr().out
