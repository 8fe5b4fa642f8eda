"""``facecam people check, reject, unknown, name, forget``."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facecam.archive import recall
from facecam.cli import common, invoke
from facecam.engine import Engine
from facecam.errors import UsageFault
from facecam.people import strangers
from facecam.people.gallery import Gallery
from facecam.people.unknown import UnknownBook
from facecam.settings import Settings
from facecam.video.photos import read_photo
from tests.fakes import make_clip
from tests.people_fakes import SPACE, sample, traces
from tests.support import ASTRONAUT, COFFEE, HOPPER, portrait
from tests.test_unknown import picture, view

COMMANDS = ["check", "reject", "unknown", "name", "forget"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Run ``facecam people ...``; returns exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, answer: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        code = invoke(["people", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, "".join(line + "\n" for line in err.splitlines() if "running on the CPU" not in line)

    return call


@pytest.fixture
def loaded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models are opened once for all commands."""
    monkeypatch.setattr(common, "open_engine", lambda given: dataclasses.replace(engine, settings=given))


@pytest.fixture
def met(own_home: Path) -> Path:
    """A home whose gallery remembers three strangers."""
    with Gallery.open() as gallery:
        strangers.remember(gallery, True)
        book = UnknownBook(gallery, SPACE, 0.8)
        for person, look in ((1, 0), (2, 0), (1, 1), (3, 0)):
            shot = None if person == 3 else picture(person)
            book.identify(view(person, look), 1.0, picture=shot, source=f"clip{person}.mp4")
    return own_home


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(run: Any, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0 and "Example: facecam people" in out
    assert f"\n  {command} " in run("--help")[1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["reject", "x.jpg"], 2), (["reject", "--name", "Ada"], 2), (["reject", "x.jpg", "--name", "Ada"], 10),
        (["reject", "--video", "x.mp4", "--name", "Ada"], 2), (["unknown", "--remember", "maybe"], 2),
        (["unknown", "--sheet", "x.png"], 2), (["name", "Ada", "Bob"], 2), (["name", "Unknown 1", "Bob"], 10),
        (["forget"], 2), (["forget", "Unknown 1", "--all"], 2), (["forget", "Unknown 1", "-y"], 10),
    ],
)  # fmt: skip
def test_what_cannot_be_done_without_anybody(run: Any, own_home: Path, arguments: list[str], code: int) -> None:
    got, out, err = run(*arguments)
    assert (got, out) == (code, "") and err
    assert not (own_home / "gallery.db").exists()


def test_nobody_is_remembered_until_it_is_turned_on(run: Any, own_home: Path) -> None:
    code, out, _ = run("unknown")
    assert code == 0 and "Nobody unknown" in out and "not remembered from run to run" in out
    assert not (own_home / "gallery.db").exists()
    assert run("forget", "--all", "-y")[:2] == (0, "Nobody unknown is remembered.\n")
    assert "are remembered" in run("unknown", "--remember", "on")[1]
    assert json.loads(run("unknown", "--json")[1]) == {"remember": True, "merged": [], "unknown": []}
    assert "not remembered" in run("unknown", "--remember", "off")[1]
    with Gallery.open() as gallery:
        assert not strangers.remembers(gallery)


def test_list_of_strangers(run: Any, met: Path) -> None:
    code, out, _ = run("unknown")
    lines = out.splitlines()
    assert code == 0 and lines[0].split()[:2] == ["NAME", "SEEN"]
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["Unknown", n, seen] for n, seen in (("1", "2"), ("2", "1"), ("3", "1"))
    ]
    assert "clip1.mp4" in lines[1]
    entries = json.loads(run("unknown", "--json")[1])["unknown"]
    assert entries[0]["name"] == "Unknown 1" and entries[0]["seen"] == 2 and entries[2]["crop_bytes"] == 0


def test_contact_sheet(run: Any, met: Path, tmp_path: Path) -> None:
    file = tmp_path / "sheet.png"
    code, out, _ = run("unknown", "--sheet", file)
    assert code == 0 and "with 3 people" in out and "private" in out
    sheet = read_photo(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    tiles = [sheet[10:170, 10 + 170 * i : 170 + 170 * i] for i in range(3)]
    assert [tile.std() > 20 for tile in tiles] == [True, True, False]  # noise, noise, "no picture"
    code, _, err = run("unknown", "--sheet", file)
    assert code == 1 and "overwrite" in err
    assert run("unknown", "--sheet", file, "--overwrite")[0] == 0
    assert run("unknown", "--sheet", tmp_path / "sheet.gif")[0] == 1
    with Gallery.open() as gallery, gallery.store.atomic() as db:
        db.execute("UPDATE stranger_crop SET image = ?", (b"\x89PNG rubbish",))
    assert run("unknown", "--sheet", file, "--overwrite")[0] == 0  # a damaged picture is an empty tile


def test_naming(run: Any, met: Path) -> None:
    assert run("name", "Unknown 2", "Ada/Lovelace")[:2] == (0, "Unknown 2 is now called Ada/Lovelace\n")
    assert run("name", "unknown 1", "Ada/Lovelace")[:2] == (0, "Unknown 1 is now part of Ada/Lovelace\n")
    assert json.loads(run("name", "3", "Bob", "--json")[1]) == {"unknown": 3, "name": "Bob", "new": True}
    code, _, err = run("name", "Unknown 2", "Eve")
    assert code == 10 and err.count("\n") == 1 and "nobody is at present" in err
    shown = run("show", "Ada/Lovelace")[1]
    assert "unknown 1" in shown and "unknown 2" in shown and "2 samples, 2 crops" in shown


def test_forgetting_asks(run: Any, met: Path) -> None:
    code, out, err = run("forget", "Unknown 2", answer="n\n")
    assert code == 1 and out == "" and "Delete Unknown 2 for good? [y/N]" in err and "was kept" in err
    code, _, err = run("forget", "Unknown 2")
    assert code == 2 and "add -y" in err.splitlines()[-1]
    assert run("forget", "Unknown 2", "Unknown 9", "-y")[0] == 10
    code, out, _ = run("forget", "Unknown 2", answer="y\n")
    assert (code, out) == (0, "1 unknown person deleted: Unknown 2\n")
    assert traces(met, [view(2, 0).tobytes(), b"clip2.mp4"]) == []
    done = json.loads(run("forget", "--all", "-y", "--json")[1])
    assert done == {"forgotten": [1, 3], "backups": [], "renewed": [], "stale": [], "problem": None}
    assert run("unknown", "--remember", "off")[0] == 0


def test_traces_that_may_be_left_are_told(run: Any, met: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facecam.people.database import Database, Erased

    monkeypatch.setattr(Database, "erase", lambda self: Erased((), "another process is reading the gallery"))
    code, out, err = run("forget", "--all", "-y")
    assert code == 1 and "3 unknown people deleted" in out and "traces of unknown people may be left" in err


# With real faces


def test_check_of_real_faces(run: Any, loaded: None, own_home: Path, tmp_path: Path) -> None:
    assert "nothing to mend" in run("check")[1]
    shutil.copy(HOPPER, tmp_path / "a.jpg")
    cv2.imwrite(str(tmp_path / "b.png"), (portrait("grace_hopper") * 0.8).astype(np.uint8))
    cv2.imwrite(str(tmp_path / "c.png"), portrait("astronaut"))
    for name, files in (("Grace", ["a.jpg", "c.png"]), ("Admiral", ["a.jpg", "b.png"]), ("Eileen", ["c.png"])):
        assert invoke(["enroll", "--name", name, *files]) == 0
    code, out, _ = run("check")
    assert code == 0
    assert "Admiral and Grace match each other: 1.000 (a.jpg and a.jpg)" in out
    assert "Eileen and Grace match each other" in out and "c.png" in out
    assert "does not look like the rest of Grace" in out and "but like Eileen (1.000)" in out
    assert "one picture is enrolled under several names: Admiral (a.jpg), Grace (a.jpg)" in out
    assert "Eileen has one sample" in out and "3 people, 5 samples compared at 0." in out
    report = json.loads(run("check", "--json")[1])
    assert report["schema"] == "facecam.check/1" and report["single"] == ["Eileen"] and len(report["shared"]) == 2
    assert report["pairs"][0]["similarity"] == 1.0
    strict = json.loads(run("check", "--json", "--threshold", "0.5")[1])
    assert strict["threshold"] == 0.5 and len(strict["pairs"]) == 3


def test_rejecting_a_photo(run: Any, loaded: None, own_home: Path) -> None:
    assert invoke(["enroll", "--name", "Grace", str(HOPPER)]) == 0
    code, out, err = run("reject", ASTRONAUT, COFFEE, "--name", "Grace")
    assert code == 1 and "1 picture kept as not being Grace" in out and "coffee.png: no face" in err
    assert "1 known already" in run("reject", ASTRONAUT, "--name", "Grace")[1]
    code, _, err = run("reject", COFFEE, "--name", "Grace")
    assert code == 11 and err.count("\n") == 1 and "nothing was rejected" in err
    code, _, err = run("reject", HOPPER, "--name", "Grace")
    assert code == 2 and "enrolled from this very picture" in err
    assert run("reject", "nowhere.jpg", "--name", "Grace")[0] == 12
    assert run("reject", ASTRONAUT, "--name", "Nobody")[0] == 10
    shown = run("show", "Grace")[1]
    assert "not Grace" in shown and "astronaut.png" in shown
    (entry,) = json.loads(run("show", "Grace", "--json")[1])["negatives"]
    assert entry["source"] == "astronaut.png"

    assert run("reject", "--undo", "--name", "Grace")[0] == 2
    for wrong in ("nothing", entry["digest"][:5]):
        assert run("reject", wrong, "--undo", "--name", "Grace")[0] == 2
    for way in (str(ASTRONAUT), "astronaut.png", entry["digest"][:12]):
        code, out, _ = run("reject", way, "--undo", "--name", "Grace")
        assert (code, out) == (0, "1 picture no longer kept as not being Grace\n")
        assert run("reject", ASTRONAUT, "--name", "Grace")[0] == 0
    done = json.loads(run("reject", "astronaut.png", "--undo", "--name", "Grace", "--json")[1])
    assert [n["source"] for n in done["withdrawn"]] == ["astronaut.png"] and done["problem"] is None


def test_rejecting_a_track(run: Any, loaded: None, own_home: Path, tmp_path: Path) -> None:
    assert invoke(["enroll", "--name", "Grace", str(HOPPER)]) == 0
    image = portrait("astronaut")
    make_clip(tmp_path / "clip.mp4", [np.ascontiguousarray(np.roll(image, i, axis=1)) for i in range(25)])
    code, _, err = run("reject", "clip.mp4#1", "--name", "Grace")
    assert code == 12 and "label the video first" in err and err.count("\n") == 1
    assert invoke(["label", "clip.mp4", "--no-video"]) == 0
    code, out, err = run("reject", "clip.mp4#1", "--name", "Grace")
    assert code == 0 and "1 picture kept" in out, err
    assert "1 known already" in run("reject", "--video", "clip.mp4", "--track", 1, "--name", "Grace")[1]
    code, _, err = run("reject", "clip.mp4#77", "--name", "Grace")
    assert code == 2 and "has no track 77; it has 1" in err
    with Gallery.open() as gallery:
        (space,) = gallery.spaces()
        assert gallery.negatives(space).indexed(("Grace",))[0].tolist() == [0]
    assert run("reject", ASTRONAUT, "--name", "Grace")[0] == 0
    with Gallery.open() as gallery:
        both = gallery.negatives(space).vectors
    assert float(both[0] @ both[1]) > 0.93  # the track is the person of the photo

    (tmp_path / "bad.jsonl").write_text('{"type":"header","schema":"facecam.sightings/1"}\n{"type":"frame"}\n')
    for file, code in ((tmp_path / "bad.jsonl", 12), (tmp_path / "clip.mp4", 12), (tmp_path / "none.jsonl", 12)):
        got, _, err = run("reject", "clip.mp4#1", "--name", "Grace", "--sightings", file)
        assert got == code and err.count("\n") == 1, err
    make_clip(tmp_path / "short.mp4", [image] * 3)
    got, _, err = run("reject", "short.mp4#1", "--name", "Grace", "--sightings", "clip.sightings.jsonl")
    assert got == 1 and "another video" in err


def test_the_largest_boxes_some_frames_apart() -> None:
    boxes = {i: (0.0, 0.0, 50.0 + i % 7, 40.0) for i in range(40)}
    assert recall.largest(boxes, 3, 10) == [6, 20, 34]
    assert recall.largest({5: (0.0, 0.0, 1.0, 1.0)}) == [5]


def test_merging_needs_no_model_when_nobody_is_there(run: Any, own_home: Path) -> None:
    assert run("unknown", "--merge")[0] == 0


def test_merging_by_the_command(run: Any, own_home: Path, engine: Any) -> None:
    with Gallery.open() as gallery:
        strangers.remember(gallery, True)
        book = UnknownBook(gallery, engine.embedder.space, 1.0)  # so strict that everything is somebody new
        for person, look in ((1, 0), (2, 0), (1, 1)):
            book.identify(view(person, look, 0.01), 1.0)
    code, out, _ = run("unknown", "--merge")
    assert code == 0 and out.startswith("Unknown 3 is Unknown 1\n")
    assert [w["also"] for w in json.loads(run("unknown", "--json")[1])["unknown"]] == [[3], []]


def test_a_stranger_never_shows_a_persons_samples(run: Any, met: Path) -> None:
    with Gallery.open() as gallery:
        gallery.add("Ada", [sample(1)])
    assert [p["name"] for p in json.loads(run("list", "--json")[1])] == ["Ada"]


def test_nobody_remembered_yet_is_not_remembering_turned_off(run: Any, own_home: Path) -> None:
    assert "--remember on" in run("forget", "Unknown 3", "-y")[2]
    assert run("unknown", "--remember", "on")[0] == 0
    code, _, err = run("forget", "Unknown 3", "-y")
    assert code == 10 and "Unknown 3 is not remembered; nobody is at present" in err and "--remember" not in err


@pytest.mark.parametrize("command", ["check", "unknown --merge", "migrate"])
def test_config_toml_holds_below_people_too(run: Any, met: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    (met / "config.toml").write_text('threads = 3\npack = "dlib"\n')
    asked = []

    def note(given: Settings) -> None:
        asked.append((given.threads, given.pack))
        raise UsageFault("enough")

    monkeypatch.setattr(common, "open_engine", note)
    assert run(*command.split())[0] == 2 and asked == [(3, "dlib")]
