"""An archive that was labelled once: questions to its index, and names anew without decoding a frame."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facecam.archive.analysis import Record
from facecam.archive.index import WRITTEN, ArchiveIndex
from facecam.archive.inputs import VIDEO, Item
from facecam.archive.naming import Part
from facecam.archive.pieces import Edges, Packer, Piece
from facecam.archive.relabel import enrol_unknown, relabel
from facecam.archive.sheets import answer, merged
from facecam.archive.study import Study
from facecam.archive.tools import Tools
from facecam.cli import invoke
from facecam.engine import Engine, nobody
from facecam.people.gallery import Gallery
from facecam.people.unknown import UnknownBook
from tests.archive_films import film, pictures
from tests.people_fakes import sample
from tests.support import ASTRONAUT, HOPPER, lines


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A labelled archive: a film of Grace Hopper and a stranger, a photo of each; the index is archive.db."""
    folder = tmp_path / "in"
    folder.mkdir()
    film(folder / "film.mp4", pictures(24), gop=8)
    shutil.copy(HOPPER, folder / "known.jpg")
    shutil.copy(ASTRONAUT, folder / "stranger.png")
    assert invoke(["enroll", "--name", "Grace Hopper", str(HOPPER)]) == 0
    more = ["--write", "video,jsonl,csv,vtt,html,crops", "--segment", "1", "--index", str(tmp_path / "archive.db")]
    assert invoke(["label", str(folder), "-o", str(tmp_path / "out"), *more]) == 0
    return tmp_path


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a video or photo fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was decoded")

    for name in ("facecam.archive.study.FileSource", "facecam.archive.writing.FileSource"):
        monkeypatch.setattr(name, refuse)
    for name in ("facecam.archive.study.read_photo", "facecam.archive.writing.read_photo"):
        monkeypatch.setattr(name, refuse)


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    assert invoke([str(a) for a in arguments]) == 0
    return json.loads(capsys.readouterr().out)


def names_in(out: Path) -> set[str | None]:
    """All names in the film's sightings."""
    return {face["name"] for line in lines(out / "film.sightings.jsonl")[1:-1] for face in line["faces"]}


def test_find_by_name_number_and_photo(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = archive / "archive.db"
    hits = ask(capsys, "find", "Grace Hopper", "--index", index, "--json")
    assert [(Path(h["source"]).name, h["kind"]) for h in hits] == [("film.mp4", "video"), ("known.jpg", "photo")]
    assert hits[0]["start"] == 0.0 and hits[0]["end"] == pytest.approx(2.4, abs=0.11) and hits[1]["start"] is None
    strangers = ask(capsys, "find", "--unknown", "--index", index, "--json")
    assert [(s["name"], s["times"], s["files"]) for s in strangers] == [("Unknown 1", 2, 2)]
    hits = ask(capsys, "find", "unknown 1", "--index", index, "--json")
    assert [Path(h["source"]).name for h in hits] == ["film.mp4", "stranger.png"]
    alike = ask(capsys, "find", "--photo", ASTRONAUT, "--index", index, "--json")
    assert Path(alike[0]["source"]).name == "stranger.png" and alike[0]["similarity"] > 0.999
    assert {h["name"] for h in alike} == {None}
    capsys.readouterr()
    assert invoke(["find", "Grace Hopper", "--index", str(index), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [Path(row["source"]).name for row in rows] == ["film.mp4", "known.jpg"]
    assert invoke(["find", "Grace Hopper", "--index", str(index)]) == 0
    assert "2 appearances in 2 files" in capsys.readouterr().out
    assert invoke(["find", "--unknown", "--index", str(index), "--sheet", str(archive / "s.png")]) == 0
    assert (archive / "s.png").stat().st_mode & 0o777 == 0o600
    assert invoke(["find", "Nobody", "--index", str(index)]) == 10
    assert invoke(["find", "--index", str(index)]) == 2
    assert invoke(["find", "X", "--index", str(archive / "absent.db")]) == 1
    assert "facecam label --index" in capsys.readouterr().err


def test_naming_an_unknown_relabels_the_archive(
    archive: Path, capsys: pytest.CaptureFixture[str], no_decoding: None
) -> None:
    out, index = archive / "out", archive / "archive.db"
    assert names_in(out) == {"Grace Hopper", None}
    copy = (out / "film.labelled.mp4").read_bytes()
    assert invoke(["people", "name", "Unknown 1", "Eileen <b>Collins</b>", "--index", str(index)]) == 0
    told = capsys.readouterr()
    assert "still show the old names" in told.err
    who = "Eileen <b>Collins</b>"
    assert names_in(out) == {"Grace Hopper", who}
    assert all(f["unknown"] is None for line in lines(out / "film.sightings.jsonl")[1:-1] for f in line["faces"])
    assert who in lines(out / "film.sightings.jsonl")[-1]["people"]
    with (out / "film.timeline.csv").open(newline="") as file:
        assert {row["name"] for row in csv.DictReader(file)} >= {"Grace Hopper", who}
    assert "Eileen &lt;b&gt;Collins" in (out / "film.vtt").read_text()
    assert (who in (out / "report.html").read_text()) is False, "escaped"
    assert "Eileen" in (out / "report.html").read_text()
    assert "Eileen" in (out / "photos.csv").read_text()
    assert not (out / "crops" / "Unknown 1").exists() and any((out / "crops").glob("Eileen*/film.track-*.png"))
    assert (out / "film.labelled.mp4").read_bytes() == copy
    hits = ask(capsys, "find", who, "--index", index, "--json")
    assert {Path(h["source"]).name for h in hits} == {"film.mp4", "stranger.png"}
    assert ask(capsys, "find", "--unknown", "--index", index, "--json") == []


def test_a_copy_is_called_old_only_if_it_would_look_different(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody new is the runner-up of everybody now: the texts change, what is drawn does not."""
    with Gallery.open() as gallery:
        ((space, vector),) = gallery.samples("Grace Hopper")[0].vectors.items()
        gallery.add("Somebody Else", [sample(1, space, dim=len(vector))])
    done = ask(capsys, "relabel", "--index", archive / "archive.db", "--json")
    assert done["tracks"] and done["written"] and done["stale"] == []


def test_enrolling_and_removing_relabel(
    archive: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    out, index = archive / "out", archive / "archive.db"
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert ask(capsys, "relabel", "--index", index, "--json")["changed"] == 0
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before, "an unchanged gallery changes nothing"
    assert invoke(["enroll", "--name", "Eileen Collins", str(ASTRONAUT)]) == 0
    assert invoke(["people", "remove", "Grace Hopper", "-y"]) == 0
    request.getfixturevalue("no_decoding")
    done = ask(capsys, "relabel", "--index", index, "--json")
    assert done["files"] == done["changed"] == 3 and done["skipped"] == 0
    photos = {Path(p["source"]).name: p["faces"][0]["name"] for p in lines(out / "photos.sightings.jsonl")[1:-1]}
    assert photos == {"known.jpg": None, "stranger.png": "Eileen Collins"}
    assert "Grace Hopper" not in names_in(out)
    strangers = ask(capsys, "find", "--unknown", "--index", index, "--json")
    assert strangers and strangers[0]["number"] >= 1 and "Grace" not in (out / "report.html").read_text()
    assert ask(capsys, "relabel", "--index", index, "--json")["changed"] == 0, "numbers stay"
    assert invoke(["enroll", "--name", "Grace Hopper", str(HOPPER)]) == 0
    ask(capsys, "relabel", "--index", index, "--json")
    assert "Grace Hopper" in names_in(out)


def test_old_copies_are_drawn_anew_by_a_resumed_run(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, index = archive / "out", archive / "archive.db"
    before = {path: path.read_bytes() for path in out.rglob("*.labelled.*")}
    assert invoke(["people", "name", "Unknown 1", "Eileen Collins", "--index", str(index)]) == 0
    more = ["--write", "video,jsonl,csv,vtt,html,crops", "--segment", "1", "--index", str(index), "--resume"]
    again = ["label", str(archive / "in"), "-o", str(out), *more]
    assert invoke(again) == 0
    changed = {path.name for path, data in before.items() if path.read_bytes() != data}
    assert changed == {"film.labelled.mp4", "stranger.labelled.png"}
    texts = {path: path.stat().st_mtime_ns for path in out.rglob("*.labelled.*")}
    assert invoke(again) == 0 and "3 of 3 files were done before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.labelled.*")} == texts


def test_a_relabelling_that_cannot_write_goes_on_and_is_made_up_for(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, index = archive / "out", archive / "archive.db"
    (out / "film.timeline.csv").rename(out / "aside.csv")
    (out / "film.timeline.csv").mkdir()
    assert invoke(["people", "name", "Unknown 1", "Eileen Collins", "--index", str(index)]) == 1
    told = capsys.readouterr()
    assert "film.timeline.csv" in told.err and "is now called" in told.out
    assert "Eileen" in (out / "photos.csv").read_text() and "Eileen" not in str(names_in(out))
    (out / "film.timeline.csv").rmdir()
    assert ask(capsys, "relabel", "--index", index, "--json")["changed"] == 0
    assert "Eileen Collins" in names_in(out) and "Eileen" in (out / "film.timeline.csv").read_text()
    # The disk with the outputs is not plugged in; then it is.
    out.rename(archive / "away")
    assert invoke(["people", "remove", "Eileen Collins", "-y"]) == 0
    done = ask(capsys, "relabel", "--index", index, "--json")
    assert done["changed"] and done["absent"] == [str(out)] and done["written"] == []
    (archive / "away").rename(out)
    assert ask(capsys, "relabel", "--index", index, "--json")["absent"] == []
    assert names_in(out) == {"Grace Hopper", None} and "Eileen" not in (out / "report.html").read_text()


def test_unknown_people_keep_their_numbers_when_files_are_added(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = archive / "in2"
    more.mkdir()
    shutil.copy(ASTRONAUT, more / "again.png")
    options = ["--write", "jsonl", "--index", str(archive / "archive.db"), "-o", str(archive / "out2")]
    assert invoke(["label", str(more), *options]) == 0
    (photo,) = lines(archive / "out2" / "photos.sightings.jsonl")[1:-1]
    assert photo["faces"][0]["unknown"] == 1
    (stranger,) = ask(capsys, "find", "--unknown", "--index", archive / "archive.db", "--json")
    assert stranger["times"] == 3


def test_sidecars_are_written_anew(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = archive / "in" / "stranger.png"
    more = ["--xmp", "--write", "jsonl", "--index", str(archive / "archive.db"), "-o", str(archive / "out3")]
    assert invoke(["label", str(photo), *more]) == 0
    sidecar = archive / "in" / "stranger.png.xmp"
    assert not sidecar.exists() or "Ada" not in sidecar.read_text()
    assert invoke(["people", "name", "1", "Ada", "--index", str(archive / "archive.db")]) == 0
    assert "Ada" in sidecar.read_text()


def test_the_index_is_private_and_named_people_are_in_no_text(archive: Path) -> None:
    for path in [archive / "archive.db", *(p for p in (archive / "out").rglob("*") if p.is_file())]:
        assert path.stat().st_mode & 0o777 == 0o600, path


def ten_hours(index: ArchiveIndex, engine: Engine, out: Path, hours: int) -> None:
    """Fill an index with hours of two faces a frame, forty strangers, twenty tracks a minute."""
    from dataclasses import asdict

    from facecam.values import SourceInfo

    random = np.random.default_rng(0)
    people = random.normal(size=(40, engine.embedder.dim))
    people /= np.linalg.norm(people, axis=1, keepdims=True)
    tools = Tools(engine, nobody(engine.embedder.dim, 0.9), UnknownBook(None, engine.embedder.space, 0.9), Study())
    minutes = hours * 60
    info = SourceInfo("/x/long.mp4", 640, 360, 30.0, minutes * 60.0, 0.0, minutes * 1800)
    file = index.enter(
        Item(Path("/x/long.mp4"), VIDEO, "long"), size=1, modified=1, digest="", params="", space=engine.embedder.space,
        info={"source": asdict(info)}, limits=[(60.0 * k or None, 60.0 * (k + 1)) for k in range(minutes)],
    )  # fmt: skip
    for minute in range(minutes):
        packer, parts = Packer(), []
        for track in range(20):
            views = people[random.integers(40)] + random.normal(size=(4, engine.embedder.dim)) * 0.01
            views = (views / np.linalg.norm(views, axis=1, keepdims=True)).astype(np.float32)
            since = 60.0 * minute + track // 2 * 6
            total = views.astype(np.float64).sum(axis=0)
            parts.append(Part(track + 1, True, since + 5, since, total, 4.0, 4, 0.9, True, list(views)))
        for frame in range(1800):
            pair = 2 * (frame // 180)
            faces = [(pair + side + 1, (100.0 + 200 * side + frame % 50, 50.5, 80.0, 80.0), 0.9) for side in (0, 1)]
            packer.add(Record(frame, 60.0 * minute + frame / 30, faces))
        together = {(2 * pair + 1, 2 * pair + 2) for pair in range(10)}
        edges = Edges(since=60.0 * minute, until=60.0 * minute + 59.9)
        index.put(file, minute, Piece(1800, 1800, packer.packed(), parts, together, edges))
    answer(index, file, tools)
    outputs = {"base": str(out / "long"), "folder": str(out), "write": ["jsonl", "csv", "vtt"], "files": []}
    index.set_state(file, WRITTEN, outputs=outputs | {"album": [str(out / "long.report.html")]})


@pytest.mark.slow
def test_relabelling_hours_needs_no_film(tmp_path: Path, engine: Engine) -> None:
    """Two hours of a file that is not there; docs/scale.md tells how long it takes."""
    out = tmp_path / "out"
    out.mkdir()
    with ArchiveIndex.open(tmp_path / "archive.db", create=True) as index, Gallery.open() as gallery:
        ten_hours(index, engine, out, 2)
        enrol_unknown(index, gallery, 1, "Ada")
        book = engine.book(gallery, lambda line: None)
        done = relabel(index, Tools(engine, engine.matcher(gallery), book, Study()))
    assert done.changed == 1
    found = lines(out / "long.sightings.jsonl")
    assert len(found) == 2 + 2 * 60 * 1800 and any(
        face["name"] == "Ada" for line in found[1:-1] for face in line["faces"]
    )


def test_a_relabelling_gives_only_the_names_that_label_was_asked_for(archive: Path, tmp_path: Path) -> None:
    """--people of the labelling holds for every naming after it."""
    assert invoke(["enroll", "--name", "Eileen Collins", str(ASTRONAUT)]) == 0
    out, index = tmp_path / "one", tmp_path / "one.db"
    more = ["--write", "jsonl", "--segment", "1", "--index", str(index), "--people", "Eileen Collins"]
    assert invoke(["label", str(archive / "in"), "-o", str(out), *more]) == 0
    first = names_in(out)
    assert first == {"Eileen Collins", None}
    assert invoke(["enroll", "--name", "Somebody Else", str(ASTRONAUT)]) == 0  # something changes
    assert invoke(["people", "remove", "Somebody Else", "-y"]) == 0
    assert invoke(["relabel", "--index", str(index), "--threshold", "0.9"]) == 0
    assert names_in(out) == first
    photos = {Path(p["source"]).name: p["faces"][0] for p in lines(out / "photos.sightings.jsonl")[1:-1]}
    assert photos["known.jpg"]["name"] is None


def _bytes_of(folder: Path) -> bytes:
    """Everything that the index and its side files hold, and whatever lies beside."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("archive.db*")) if path.is_file())


@pytest.mark.parametrize("enrolled", [True, False])
def test_a_person_is_taken_out_of_an_index(
    archive: Path, capsys: pytest.CaptureFixture[str], enrolled: bool, no_decoding: None, engine: Engine
) -> None:
    out, index, who = archive / "out", archive / "archive.db", "Grace Hopper"
    secrets, kept = [who.encode()], []
    with ArchiveIndex.open(index) as opened:
        for entry in opened.entries():
            named = {t for t, seen in opened.answers(entry.id).items() if seen.result.match.name == who}
            pieces = list(opened.pieces(entry.id, pictures=True))
            # What a track of a segment is called in the whole.
            for piece, ids in zip(pieces, merged(pieces, engine.likeness).ids, strict=True):
                for part in piece.parts:
                    assert part.total is not None
                    values = [part.total.astype("<f8").tobytes(), *(v.astype("<f4").tobytes() for v in part.views)]
                    if part.portrait is not None:
                        values.append(part.portrait.image)
                    # Long values are scattered over pages: some pieces of each are looked for.
                    needles = [v[at : at + 24] for v in values for at in range(100, len(v) - 24, 400)]
                    (secrets if ids[part.track] in named else kept).extend(needles)
    assert len(secrets) > 50 and len(kept) > 50
    held = _bytes_of(archive)
    found = sum(secret in held for secret in secrets)
    assert secrets[0] in held and found > 0.9 * len(secrets), "or the search below proves nothing"
    if not enrolled:
        assert invoke(["people", "remove", who, "-y"]) == 0
    done = ask(capsys, "people", "remove", who, "-y", "--index", index, "--json")
    assert done["samples"] == int(enrolled) and done["problem"] is None
    held = _bytes_of(archive)
    assert not [secret for secret in secrets if secret in held]
    assert sum(value in held for value in kept) > 0.9 * len(kept), "nobody else is touched"
    # No output names or shows them, and everything can be asked as before.
    assert not [path for path in out.rglob("*") if who in path.name or b"Grace" in _texts(path)]
    assert names_in(out) == {None}
    assert {f["unknown"] for line in lines(out / "film.sightings.jsonl")[1:-1] for f in line["faces"]} == {None, 1}
    assert {len(line["faces"]) for line in lines(out / "film.sightings.jsonl")[1:-1]} >= {1, 2}, "seen, but nobody"
    assert invoke(["find", who, "--index", str(index)]) == 10
    assert [s["name"] for s in ask(capsys, "find", "--unknown", "--index", index, "--json")] == ["Unknown 1"]
    assert {h["name"] for h in ask(capsys, "find", "--photo", ASTRONAUT, "--index", index, "--json")} == {None}
    assert ask(capsys, "relabel", "--index", index, "--json")["changed"] == 0
    assert invoke(["people", "remove", who, "-y", "--index", str(index)]) == 10, "nobody knows them any more"
    # Enrolled again, they stay what they are in this index.
    assert invoke(["enroll", "--name", who, str(HOPPER)]) == 0
    assert invoke(["relabel", "--index", str(index)]) == 0
    assert names_in(out) == {None} and invoke(["find", who, "--index", str(index)]) == 10


def _texts(path: Path) -> bytes:
    return path.read_bytes() if path.suffix in (".jsonl", ".csv", ".vtt", ".html", ".xmp") else b""


def test_what_another_model_saw_of_somebody_is_told_and_not_guessed(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import sqlite3

    index = archive / "archive.db"
    with sqlite3.connect(index) as db:
        db.execute("UPDATE file SET space = 'another' WHERE kind = 'photo'")
    db.close()
    assert invoke(["people", "remove", "Grace Hopper", "-y", "--index", str(index)]) == 1
    error = capsys.readouterr().err
    assert "known.jpg: was analysed by another model and still holds the person; label it again" in error
    assert invoke(["find", "Grace Hopper", "--index", str(index)]) == 10, "the name goes all the same"
