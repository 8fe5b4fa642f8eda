from __future__ import annotations

import base64
import copy
import json
import os
import resource
import stat
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facecam.errors import FacecamError, GalleryError, OutputError, PersonNotFound, UsageFault
from facecam.people import incoming, strangers
from facecam.people.exchange import export_people, import_people
from facecam.people.gallery import Gallery
from facecam.people.images import image_size
from facecam.people.incoming import read_people
from facecam.people.unknown import UnknownBook
from tests.people_fakes import SPACE, digest, png, sample, state, vector

OTHER = "space-two"


@pytest.fixture
def gallery(tmp_path: Path):
    with Gallery.open(tmp_path / "one" / "gallery.db") as opened:
        opened.add("Ada Łovelace", [sample(1), sample(2)])
        opened.add("Bob/Rob", [sample(3), sample(4, crop=False)])
        opened.add("Ada Łovelace", [sample(1, OTHER)])
        yield opened


@pytest.fixture
def other(tmp_path: Path):
    with Gallery.open(tmp_path / "two" / "gallery.db") as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "people.json"


def everything(gallery: Gallery) -> dict[str, list[tuple[Any, ...]]]:
    return {
        person.name: sorted(
            (
                r.digest,
                r.source,
                r.quality,
                r.created,
                r.crop,
                r.scheme,
                None if r.landmarks is None else r.landmarks.tobytes(),
                tuple((space, vector.tobytes()) for space, vector in r.vectors.items()),
            )
            for r in gallery.samples(person.name, crops=True)
        )
        for person in gallery.people()
    }


def document(**changes: Any) -> dict[str, Any]:
    """A small export that is right, with changes to its only sample."""
    sample_ = {
        "digest": digest(1),
        "source": "a.jpg",
        "quality": 0.5,
        "created": "2026-01-31T12:00:00Z",
        "scheme": "dlib5",
        "landmarks": [[1, 2.5]] * 5,
        "crop": base64.b64encode(png(1)).decode(),
        "vectors": {SPACE: base64.b64encode(vector(1).tobytes()).decode()},
    }
    people = [{"name": "Ada", "samples": [{**sample_, **changes}]}]
    return {"schema": "facecam.gallery/1", "created": "2026-01-31T12:00:00Z", "people": people}


# There and back


def test_there_and_back(gallery: Gallery, other: Gallery, file: Path) -> None:
    before = os.umask(0)
    try:
        done = export_people(gallery, None, file)
    finally:
        os.umask(before)
    assert (done.people, done.samples, done.crops) == (2, 4, 3)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes().isascii()
    taken = import_people(other, file)
    assert [(a.name, a.new_person, a.added) for a in taken.added] == [("Ada Łovelace", True, 2), ("Bob/Rob", True, 2)]
    assert everything(other) == everything(gallery)
    assert not list(file.parent.glob(".facecam*")) and not list(file.parent.glob("*.new-*"))


def test_without_crops(gallery: Gallery, other: Gallery, file: Path) -> None:
    done = export_people(gallery, None, file, include_crops=False)
    assert done.crops == 0 and png(1)[45:60] not in base64.b64decode(
        b"".join(file.read_bytes().split(b'"')[1::2]) + b"=" * 4, validate=False
    )
    import_people(other, file)
    assert [p.crops for p in other.people()] == [0, 0]
    assert all(r.landmarks is None for p in other.people() for r in other.samples(p.name))
    np.testing.assert_array_equal(other.templates(SPACE).vectors, gallery.templates(SPACE).vectors)


def test_some_people(gallery: Gallery, other: Gallery, file: Path) -> None:
    export_people(gallery, ["Bob/Rob", "Bob/Rob"], file)
    import_people(other, file)
    assert [p.name for p in other.people()] == ["Bob/Rob"]
    with pytest.raises(PersonNotFound):
        export_people(gallery, ["Bob/Rob", "Zoe"], file, overwrite=True)
    assert json.loads(file.read_text())["people"][0]["name"] == "Bob/Rob"  # the earlier file is whole


def test_nobody_to_export(other: Gallery, file: Path) -> None:
    with pytest.raises(PersonNotFound, match="nobody is enrolled"):
        export_people(other, None, file)
    assert not file.exists()


def test_export_does_not_overwrite_unasked(gallery: Gallery, file: Path) -> None:
    file.write_text("mine")
    with pytest.raises(OutputError, match="overwrite"):
        export_people(gallery, None, file)
    assert file.read_text() == "mine"
    export_people(gallery, None, file, overwrite=True)
    assert file.read_text().startswith('{"schema"')


def test_export_never_takes_the_place_of_the_gallery(gallery: Gallery) -> None:
    with pytest.raises(UsageFault, match="the gallery itself"):
        export_people(gallery, None, gallery.path, overwrite=True)
    assert len(gallery.people()) == 2


def test_export_to_nowhere(gallery: Gallery, tmp_path: Path) -> None:
    for place in (tmp_path / "absent" / "x.json", tmp_path):
        with pytest.raises(OutputError) as error:
            export_people(gallery, None, place, overwrite=True)
        assert "\n" not in str(error.value)


def test_an_export_that_meets_a_full_disk_leaves_nothing(gallery: Gallery, file: Path) -> None:
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            export_people(gallery, None, file)
        except OutputError as error:
            os._exit(0 if "\n" not in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not file.exists() and [p.name for p in file.parent.iterdir() if p.is_file()] == []


# Names that are there already


@pytest.mark.parametrize("how", ["skip", "merge", "rename"])
def test_conflicts(gallery: Gallery, other: Gallery, file: Path, how: str) -> None:
    export_people(gallery, None, file)
    other.add("Ada Łovelace", [sample(1), sample(7)])
    other.add("Bob/Rob (2)", [sample(8)])
    done = import_people(other, file, how)
    now = {name: {row[0] for row in rows} for name, rows in everything(other).items()}
    ada, bob = {digest(1), digest(7)}, {digest(3), digest(4)}
    if how == "skip":
        assert done.skipped == ("Ada Łovelace",) and now["Ada Łovelace"] == ada
    elif how == "merge":
        assert now["Ada Łovelace"] == {*ada, digest(2)}
        assert done.added[0].added == 2 and not done.added[0].new_person  # the vector of another space counts
    else:
        assert done.renamed == (("Ada Łovelace", "Ada Łovelace (2)"),)
        assert now["Ada Łovelace"] == ada and now["Ada Łovelace (2)"] == {digest(1), digest(2)}
        assert done.added[0].elsewhere == (("photo1.jpg", "Ada Łovelace"),)
    assert now["Bob/Rob"] == bob and now["Bob/Rob (2)"] == {digest(8)}


def test_importing_again_changes_nothing(gallery: Gallery, file: Path) -> None:
    export_people(gallery, None, file)
    before, version = everything(gallery), gallery.version()
    for how in ("skip", "merge"):
        import_people(gallery, file, how)
    assert everything(gallery) == before and gallery.version() == version


def test_renaming_twice_and_long_names(other: Gallery, file: Path) -> None:
    name = "x" * 100
    content = document()
    content["people"][0]["name"] = name
    file.write_text(json.dumps(content))
    for _ in range(12):
        import_people(other, file, "rename")
    names = {p.name for p in other.people()}
    assert len(names) == 12 and all(len(n) <= 100 for n in names) and "x" * 95 + " (12)" in names


# What is not trusted


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"digest": ""}, "digest"),
        ({"digest": "a b"}, "digest"),
        ({"digest": "x" * 129}, "digest"),
        ({"digest": 5}, "digest"),
        ({"source": None}, "source"),
        ({"source": "x" * 1001}, "source"),
        ({"quality": True}, "quality"),
        ({"quality": "0.5"}, "quality"),
        ({"quality": -0.1}, "quality"),
        ({"quality": 10**400}, "quality"),
        ({"created": "yesterday"}, "created"),
        ({"created": "2026-01-31T12:00:00Z\n"}, "created"),
        ({"scheme": None}, "scheme"),
        ({"scheme": "dlib68"}, "scheme"),
        ({"scheme": ["dlib5"]}, "scheme"),
        ({"landmarks": None}, "scheme"),
        ({"landmarks": [[1, 2]] * 4}, "landmarks"),
        ({"landmarks": [[1, 2, 3]] * 5}, "landmarks"),
        ({"landmarks": [[1, 1e30]] * 5}, "landmarks"),
        ({"landmarks": {}}, "landmarks"),
        ({"crop": None}, "landmarks without the crop"),
        ({"crop": "!!!!"}, "base64"),
        ({"crop": base64.b64encode(b"GIF89a" + bytes(100)).decode()}, "neither PNG nor JPEG"),
        ({"crop": base64.b64encode(png(1, 300)[:2000]).decode()}, "300 x 300"),
        ({"crop": base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()}, "neither PNG nor JPEG"),
        ({"crop": base64.b64encode(png(1) + bytes(1 << 20)).decode()}, "crop"),
        ({"crop": 7}, "crop"),
        ({"vectors": {}}, "vectors"),
        ({"vectors": []}, "vectors"),
        ({"vectors": {f"s{i}": "AAAA" for i in range(17)}}, "vectors"),
        ({"vectors": {"a b": "AAAA"}}, "space"),
        ({"vectors": {"s": ""}}, "float32"),
        ({"vectors": {"s": "AAA="}}, "float32"),
        ({"vectors": {"s": "AAAAAA"}}, "base64"),
        ({"vectors": {"s": base64.b64encode(np.full(128, np.nan, "<f4").tobytes()).decode()}}, "norm 1"),
        ({"vectors": {"s": base64.b64encode(np.full(128, np.inf, "<f4").tobytes()).decode()}}, "norm 1"),
        ({"vectors": {"s": base64.b64encode(np.full(128, 1e38, "<f4").tobytes()).decode()}}, "norm 1"),
        ({"vectors": {"s": base64.b64encode(np.ones(128, "<f4").tobytes()).decode()}}, "norm 1"),
        ({"vectors": {"s": "A" * 400_000}}, "vector"),
        ({"path": "/etc/passwd"}, "not known"),
    ],
)
def test_a_wrong_field_imports_nobody(other: Gallery, file: Path, change: dict[str, Any], said: str) -> None:
    content = document(**change)
    content["people"].insert(0, {"name": "Good", "samples": document(digest=digest(2))["people"][0]["samples"]})
    file.write_text(json.dumps(content))
    with pytest.raises(GalleryError) as error:
        import_people(other, file)
    message = str(error.value)
    assert said in message and "nobody was imported" in message and "\n" not in message and len(message) < 500
    assert other.people() == []


@pytest.mark.parametrize("name", ["", "a\x00b", "x" * 101, "Unknown 4", "\ud800", "\u202eadA"])
def test_a_wrong_name_imports_nobody(other: Gallery, file: Path, name: str) -> None:
    content = document()
    content["people"][0]["name"] = name
    file.write_text(json.dumps(content))
    with pytest.raises(UsageFault, match="nobody was imported") as error:
        import_people(other, file)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "not json",
        '{"schema": "facecam.gallery/3", "created": "2026-01-31T12:00:00Z", "people": []}',
        '{"schema": "facecam.gallery/1", "created": "2026-01-31T12:00:00Z"}',
        '{"schema": "facecam.gallery/1", "created": 1, "people": []}',
        '{"schema": "facecam.gallery/1", "created": "2026-01-31T12:00:00Z", "people": {}}',
        '{"schema": "facecam.gallery/1", "created": "2026-01-31T12:00:00Z", "people": [1]}',
        '{"schema": "facecam.gallery/1", "created": "2026-01-31T12:00:00Z", "people": [{"name": "A", "samples": []}]}',
        '{"schema": "facecam.gallery/1", "created": "2026-01-31T12:00:00Z", "people": [NaN]}',
        '{"schema": "facecam.gallery/1", "created": "2026-01-31T12:00:00Z", "people": [], "x\\u001b\\n": 1}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 10_000,
        "\ufeff{}",
        json.dumps(document())[:-20],
        json.dumps(document()) + "x",
    ],
)
def test_what_is_no_export(other: Gallery, file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(GalleryError) as error:
        import_people(other, file)
    assert str(error.value).isprintable() and len(str(error.value)) < 500 and error.value.exit_code == 14


def test_bytes_that_are_not_utf8(other: Gallery, file: Path) -> None:
    file.write_bytes(json.dumps(document()).encode().replace(b"a.jpg", b"\xff\xfe.jpg"))
    with pytest.raises(GalleryError):
        import_people(other, file)


def test_a_name_twice(other: Gallery, file: Path) -> None:
    content = document()
    content["people"].append({**content["people"][0], "name": " Ada"})
    file.write_text(json.dumps(content))
    with pytest.raises(GalleryError, match="twice"):
        import_people(other, file)


def test_vectors_that_do_not_fit_the_gallery(other: Gallery, file: Path) -> None:
    other.add("Zoe", [sample(50)])
    short = base64.b64encode(vector(1, dim=64).tobytes()).decode()
    file.write_text(json.dumps(document(vectors={SPACE: short})))
    with pytest.raises(GalleryError, match=r"64 values .* 128"):
        import_people(other, file)
    assert [p.name for p in other.people()] == ["Zoe"]


def test_sources_are_shown_escaped(other: Gallery, file: Path) -> None:
    file.write_text(json.dumps(document(source="\x1b[31m\u202e\ud800.jpg")))
    import_people(other, file)
    assert other.samples("Ada")[0].source == "\\x1b[31m\\u202e\\ud800.jpg"


@pytest.mark.parametrize("kind", ["absent", "folder", "pipe", "unreadable name"])
def test_what_cannot_be_read(other: Gallery, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "thing"
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "unreadable name":
        place = tmp_path / ("x" * 300)
    with pytest.raises(UsageFault) as error:
        import_people(other, place)
    assert "\n" not in str(error.value)


def test_sizes(other: Gallery, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(json.dumps(document()))
    with pytest.raises(GalleryError, match="larger than"):
        import_people(other, file, size_max=100)
    monkeypatch.setattr(incoming, "NOT_ASCII_MAX", 100)
    import_people(other, file)
    file.write_text(json.dumps(document(source="é.jpg"), ensure_ascii=False))
    with pytest.raises(GalleryError, match="ASCII"):
        import_people(other, file)


@pytest.mark.parametrize("unit", ["[],", "{},", '"",', "0,", '{"a":[]},'])
def test_a_bomb_of_small_values_is_refused_before_it_is_parsed(other: Gallery, file: Path, unit: str) -> None:
    file.write_text(
        '{"schema":"facecam.gallery/1","created":"2026-01-31T12:00:00Z","people":[' + unit * 4_500_000 + "0]}"
    )
    tracemalloc.start()
    with pytest.raises(GalleryError, match="entries"):
        import_people(other, file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * file.stat().st_size + (1 << 20)


@pytest.mark.parametrize("who", ["unknown person", "rejected picture"])
def test_vectors_of_another_size_than_those_of_nobody_enrolled(
    gallery: Gallery, other: Gallery, file: Path, who: str
) -> None:
    """The space's size is known without a sample in it, too."""
    if who == "unknown person":
        strangers.remember(other, True)
        UnknownBook(other, SPACE, 0.9).identify(vector(9, dim=64), 1.0, source="door")
    else:
        other.add("Zoe", [sample(8, OTHER)])
        other.reject("Zoe", [sample(9, dim=64)])
    before = everything(other)
    export_people(gallery, None, file)
    with pytest.raises(GalleryError, match=r"a vector of 128 values in space .* where others have 64"):
        import_people(other, file)
    assert everything(other) == before


def test_a_write_that_fails_imports_nobody(gallery: Gallery, other: Gallery, file: Path) -> None:
    gallery.add("Zoe", [sample(i) for i in range(100, 150)])
    export_people(gallery, None, file)
    with other.store.read() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(OutputError, match="disk is full"):
        import_people(other, file)
    assert other.people() == []


# Fuzzing

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*at, key))
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_documents_end_in_an_import_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    content = copy.deepcopy(document())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from(places(content)[1:] or [()]))
        if not at:
            break
        holder: Any = content
        for key in at[:-1]:
            holder = holder[key]
        what = data.draw(st.sampled_from(["replace", "delete", "repeat", "add"]))
        if what == "replace" or (what in ("repeat", "add") and not isinstance(holder[at[-1]], list | dict)):
            holder[at[-1]] = data.draw(json_values)
        elif what == "delete":
            del holder[at[-1]]
        elif isinstance(holder[at[-1]], list):
            holder[at[-1]].append(copy.deepcopy(data.draw(st.sampled_from([*holder[at[-1]], None]))))
        else:
            holder[at[-1]][data.draw(st.text(max_size=5))] = data.draw(json_values)
    import_and_look(tmp_path, json.dumps(content).encode())


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_bytes_end_in_an_import_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(json.dumps(document()).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "insert", "copy"]))
        if how == "flip":
            content[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del content[at : at + data.draw(st.integers(1, 60))]
        elif how == "insert":
            content[at:at] = data.draw(st.binary(max_size=20))
        else:
            content[at:at] = content[: data.draw(st.integers(0, 200))]
        if not content:
            break
    import_and_look(tmp_path, bytes(content))


def import_and_look(folder: Path, content: bytes) -> None:
    """Either one line and nobody, or people that are whole."""
    file = folder / "fuzz.json"
    file.write_bytes(content)
    try:
        read_people(file)
    except FacecamError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
        return
    for path in folder.glob("fuzz.db*"):
        path.unlink()
    with Gallery.open(folder / "fuzz.db") as gallery:
        try:
            import_people(gallery, file)
        except FacecamError as error:
            assert "\n" not in str(error) and len(str(error)) < 600
            assert gallery.people() == []
            return
        for person in gallery.people():
            assert person.samples > 0
            for record in gallery.samples(person.name, crops=True):
                assert record.crop is None or image_size(record.crop) is not None
            for space in person.spaces:
                gallery.templates(space)
        if gallery.people():
            export_people(gallery, None, folder / "again.json", overwrite=True)
    with Gallery.open(folder / "fuzz.db"):
        pass


# Sizes of pictures


def jpeg(width: int, height: int, marker: int = 0xC0, before: bytes = b"") -> bytes:
    app = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0" + bytes(9)
    frame = bytes((0xFF, marker)) + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + app + before + frame + b"\xff\xda"


def test_image_sizes() -> None:
    assert image_size(png(1, 12)) == (12, 12)
    assert image_size(jpeg(200, 100)) == (200, 100)
    assert image_size(jpeg(30_000, 1, 0xC2)) == (30_000, 1)
    table = b"\xff\xc4" + struct.pack(">H", 6) + b"\x01\x02\x03\x04"  # a Huffman table is no frame header
    assert image_size(jpeg(7, 5, before=table + b"\xff\xff\xff")) is not None
    assert image_size(jpeg(7, 5, before=table)) == (7, 5)
    assert image_size(b"") is None and image_size(b"\xff\xd8\xff") is None and image_size(b"BM" + bytes(60)) is None


def test_image_sizes_of_real_encoders() -> None:
    cv2 = pytest.importorskip("cv2")
    picture = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    for options in (
        [".png", []],
        [".jpg", []],
        [".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]],
        [".jpg", [cv2.IMWRITE_JPEG_QUALITY, 5]],
    ):
        ok, data = cv2.imencode(options[0], picture, options[1])
        assert ok and image_size(data.tobytes()) == (70, 50)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xc0"]))
def test_image_size_of_anything_is_an_answer(data: bytes, start: bytes) -> None:
    size = image_size(start + data)
    assert size is None or (len(size) == 2 and min(size) >= 0)


def test_state_of_a_whole_gallery_survives(tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "a.db") as one, Gallery.open(tmp_path / "b.db") as two:
        for i in range(40):
            one.add(f"P{i}", [sample(i * 10 + k) for k in range(5)])
        export_people(one, None, tmp_path / "x.json")
        import_people(two, tmp_path / "x.json")
        assert state(two) == state(one)
