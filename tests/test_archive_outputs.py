"""What a run writes from who was seen when: joining, WebVTT, crops, the boxes to blur."""

from __future__ import annotations

import io
import re
import stat
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.archive.analysis import Record
from facecam.archive.crops import rename_crops, thumbnail, write_crops
from facecam.archive.hiding import AFTER, BEFORE, to_hide, with_neighbours
from facecam.archive.html import write_report
from facecam.archive.inputs import Item, plan
from facecam.archive.naming import TrackResult
from facecam.archive.outputs import WRITE, Outputs, chosen
from facecam.archive.presence import Appearance, FileSeen, called, joined, of_faces, of_rows, together
from facecam.archive.vtt import write_vtt
from facecam.errors import OutputError, UsageFault
from facecam.scan import SEARCH_FRAMES
from facecam.values import Interval, Match
from tests.support import HOPPER

NASTY = ["<script>alert(1)</script>", "--> x", "a & b", 'O"Hara', "שלום", "../../etc", "unknown"]


def seen(track: int, name: str | None, start: float, end: float, unknown: int | None = None) -> Appearance:
    return Appearance(track, name, unknown, start, end)


# --- presence -------------------------------------------------------------------------------------------------


def test_near_appearances_of_one_person_are_one_stretch() -> None:
    found = joined([seen(1, "Ada", 0, 2), seen(2, "Ada", 2.9, 4), seen(3, "Ada", 5.1, 6), seen(4, "Bo", 1, 3)])
    assert {called(who): [(s.start, s.end) for s in mine] for who, mine in found.items()} == {
        "Ada": [(0, 4), (5.1, 6)],
        "Bo": [(1, 3)],
    }


def test_strangers_without_a_number_are_not_made_one() -> None:
    nobody = joined([seen(1, None, 0, 1), seen(2, None, 1.5, 2), seen(3, None, 1.8, 3)])
    assert [(s.start, s.end) for s in nobody[None, None]] == [(0, 1), (1.5, 3)]
    numbered = joined([seen(1, None, 0, 1, 7), seen(2, None, 1.5, 2, 7)])
    assert [(s.start, s.end) for s in numbered[None, 7]] == [(0, 2)]


def test_a_person_called_unknown_is_not_a_stranger() -> None:
    found = joined([seen(1, "unknown", 0, 1), seen(2, None, 0, 1)])
    assert len(found) == 2 and [called(who) for who in found] == ["unknown", "unknown"]


TRACKS = st.lists(
    st.tuples(st.sampled_from(["Ada", "Bo", None]), st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=12
)


@given(TRACKS)
def test_joining_keeps_every_moment_and_together_counts_them(tracks: list[tuple[str | None, int, int]]) -> None:
    """Against whole seconds counted one by one."""
    appearances = [seen(i, name, a, a + n) for i, (name, a, n) in enumerate(tracks)]
    spans = joined(appearances, gap=0.0)
    moments = {who: {t for a in appearances if a.who == who for t in range(int(a.start), int(a.end))} for who in spans}
    for who, mine in spans.items():
        assert sum(s.duration for s in mine) == len(moments[who])
        assert all(one.end < two.start for one, two in pairwise(mine))
    pairs = together(spans)
    names = list(spans)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            assert pairs.get((first, second), 0) == len(moments[first] & moments[second])


def test_appearances_come_from_rows_and_from_faces() -> None:
    rows = [
        Interval("clip.mp4", "Ada", 0.0, 1.0, 30, 0.9, 0.95, 1),
        Interval("clip.mp4", None, 0.5, 1.0, 15, None, None, 2),
    ]
    one, two = of_rows(rows, {1: 3, 2: 4}, {2: b"jpeg"})
    assert (one.name, one.unknown, one.similarity, one.picture) == ("Ada", None, 0.95, None)
    assert (two.who, two.picture, two.end) == ((None, 4), b"jpeg", 1.0)
    faces = [{"box": [1, 2, 3, 4], "name": "Ada", "unknown": None, "similarity": 0.9}]
    (face,) = of_faces(faces)
    assert (face.track, face.name, face.box, face.picture) == (1, "Ada", (1, 2, 3, 4), None)


# --- WebVTT ---------------------------------------------------------------------------------------------------


def cues(appearances: list[Appearance]) -> list[tuple[str, str, str]]:
    """Start, end and text of each cue, by the grammar of WebVTT: blocks parted by empty lines."""
    file = io.StringIO()
    write_vtt(file, appearances)
    head, *blocks = file.getvalue().rstrip("\n").split("\n\n")
    assert head == "WEBVTT"
    found = []
    for block in blocks:
        times, text = block.split("\n")
        match = re.fullmatch(r"(\d{2,}:[0-5]\d:[0-5]\d\.\d{3}) --> (\d{2,}:[0-5]\d:[0-5]\d\.\d{3})", times)
        assert match, times
        assert match[1] < match[2], "a cue must last"
        found.append((match[1], match[2], text))
    return found


def test_cues_tell_names_and_times() -> None:
    rows = [seen(2, None, 3599.9996, 3600.5, 12), seen(1, "Ada", 0.25, 1), seen(3, None, 36000, 36000)]
    assert cues(rows) == [
        ("00:00:00.250", "00:00:01.000", "Ada"),
        ("01:00:00.000", "01:00:00.500", "Unknown 12"),
        ("10:00:00.000", "10:00:00.001", "unknown"),
    ]
    assert cues([]) == []


@given(st.one_of(st.sampled_from(NASTY), st.text(min_size=1)))
def test_no_name_breaks_the_file(name: str) -> None:
    ((_, _, text),) = cues([seen(1, name, 0, 1)])
    assert "<" not in text and "-->" not in text
    assert not re.search(r"&(?!amp;|lt;|gt;)", text)


def test_ffmpeg_reads_the_subtitles(tmp_path: Path) -> None:
    """A reader that is not ours."""
    import av

    path = tmp_path / "clip.vtt"
    with path.open("w", encoding="utf-8") as file:
        write_vtt(file, [seen(1, "a <b> & c", 1, 2), seen(2, "Zoë", 1.5, 3)])
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        packets = [p for p in container.demux(stream) if p.size]
        assert [float(p.pts * stream.time_base) for p in packets] == [1.0, 1.5]
        assert [bytes(p).decode() for p in packets] == ["a &lt;b&gt; &amp; c", "Zoë"]


# --- crops ----------------------------------------------------------------------------------------------------


def test_a_thumbnail_is_small_and_shows_the_middle() -> None:
    image = np.zeros((256, 200, 3), np.uint8)
    image[108:148, 80:120] = 255
    small = cv2.imdecode(np.frombuffer(thumbnail(cv2.imencode(".png", image)[1].tobytes()), np.uint8), 1)
    assert small.shape == (96, 96, 3)
    assert small[48, 48].min() > 240 and small[4, 4].max() < 16
    assert len(thumbnail(HOPPER.read_bytes())) < 6000
    with pytest.raises(ValueError, match="expected a PNG or JPEG"):
        thumbnail(b"nothing")


def picture() -> bytes:
    return bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())


def test_crops_lie_in_folders_by_name_for_the_user_alone(tmp_path: Path) -> None:
    appearances = [seen(i, name, 0, 1) for i, name in enumerate(NASTY)] + [
        seen(90, None, 0, 1, 5),
        seen(91, None, 0, 1),
    ]
    written = write_crops(tmp_path / "out", "sub/clip", [(a, picture()) for a in appearances])
    home = tmp_path / "out" / "crops"
    assert len(set(written)) == len(appearances)
    for path in written:
        assert path.parent.parent == home and path.suffix == ".png", "no name leads out of the folder"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (home / "Unknown 5").is_dir() and (home / "unknown").is_dir()
    with pytest.raises(OutputError, match="exists already"):
        write_crops(tmp_path / "out", "sub/clip", [(appearances[0], picture())])
    other = write_crops(tmp_path / "out", "sub/other", [(appearances[0], picture())])
    again = write_crops(tmp_path / "out", "sub/clip", [(seen(0, "Grace", 0, 1), picture())], overwrite=True)
    left = sorted(p for p in home.rglob("*") if p.is_file())
    assert left == sorted([*other, *again]), "an earlier run's pictures of this input are gone, no others"


def test_crops_are_not_taken_for_photos_by_the_next_run(tmp_path: Path) -> None:
    write_crops(tmp_path, "clip", [(seen(1, "Ada", 0, 1), picture()), (seen(2, None, 0, 1), picture())])
    mine = tmp_path / "crops" / "Ada" / "own.png"
    mine.write_bytes(picture())
    for named in (tmp_path, tmp_path / "crops", tmp_path / "**" / "*.png"):
        assert [item.path for item in plan([str(named)])[0]] == [mine], named


def test_crops_move_when_somebody_gets_a_name(tmp_path: Path) -> None:
    before = [seen(1, None, 0, 1, 5), seen(2, "Ada", 0, 1)]
    write_crops(tmp_path, "clip", [(a, picture()) for a in before])
    write_crops(tmp_path, "other", [(seen(1, None, 0, 1), picture())])
    after = [seen(1, "Grace", 0, 1), seen(2, "Ada", 0, 1)]
    assert rename_crops(tmp_path, "clip", after) == [tmp_path / "crops" / "Grace" / "clip.track-1.png"]
    assert rename_crops(tmp_path, "clip", after) == []
    files = sorted(str(p.relative_to(tmp_path / "crops")) for p in (tmp_path / "crops").rglob("*"))
    assert files == [
        "Ada",
        "Ada/clip.track-2.png",
        "Grace",
        "Grace/clip.track-1.png",
        "unknown",
        "unknown/other.track-1.png",
    ]
    assert rename_crops(tmp_path / "nowhere", "clip", after) == []


def test_a_file_in_the_way_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / "Ada").write_text("in the way")
    with pytest.raises(OutputError, match="is a file where a folder is needed"):
        write_crops(tmp_path, "clip", [(seen(1, "Ada", 0, 1), picture())])


# --- what is blurred ------------------------------------------------------------------------------------------


def records(there: dict[int, range], count: int) -> list[Record]:
    box = (100.0, 100.0, 40.0, 40.0)
    return [Record(i, i / 25, [(t, box, 1.0) for t, when in there.items() if i in when]) for i in range(count)]


def test_a_face_is_blurred_before_it_is_found_and_after_it_was_lost() -> None:
    given_ = records({1: range(60, 80), 2: range(0, 5)}, 120)
    got = list(with_neighbours(iter(given_)))
    assert [record for record, _ in got] == given_, "every record once, in order"
    extra = {record.index: dict(found) for record, found in got}
    assert [i for i in extra if 1 in extra[i]] == [*range(60 - BEFORE, 60), *range(80, 80 + AFTER)]
    assert [i for i in extra if 2 in extra[i]] == list(range(5, 5 + AFTER))
    x, y, w, h = extra[60 - BEFORE][1]
    assert (x, y, w, h) == (90, 90, 60, 60), "the further away in time, the larger"


@given(st.floats(-30, 30), st.floats(-20, 20), st.integers(2, 9))
def test_who_moves_is_blurred_where_the_way_leads(across: float, down: float, seen_in: int) -> None:
    """Found in some frames only, at a steady speed: the place is hidden all the way, before and after."""

    def place(index: int) -> tuple[float, float, float, float]:
        return 500 + across * index, 500 + down * index, 60.0, 80.0

    found = range(50, 50 + seen_in)
    given_ = [Record(i, i / 25, [(1, place(i), 1.0)] if i in found else []) for i in range(80)]
    for record, near in with_neighbours(iter(given_)):
        index = record.index
        if index in found or not 50 - BEFORE <= index < 50 + seen_in + AFTER - 1:
            continue
        x, y, w, h = place(index)
        assert any(
            left <= x + 1e-6 and top <= y + 1e-6 and left + wide >= x + w - 1e-6 and top + high >= y + h - 1e-6
            for _, (left, top, wide, high) in near
        ), index


def test_a_gap_in_a_track_is_bridged() -> None:
    """A track that is lost for longer than a moment and comes back counts as new."""
    given_ = [Record(i, i / 25, [(1, (0.0, 0.0, 9.0, 9.0), 1.0)] if i < 10 or i >= 70 else []) for i in range(80)]
    extra = [record.index for record, found in with_neighbours(iter(given_)) if found]
    assert extra == [*range(10, 10 + AFTER), *range(70 - BEFORE, 70)]
    given_ = [Record(i, i / 25, [(1, (0.0, 0.0, 9.0, 9.0), 1.0)] if i < 10 or i >= 30 else []) for i in range(40)]
    assert [record.index for record, found in with_neighbours(iter(given_)) if found] == list(range(10, 30))


def test_nobody_is_looked_for_in_another_shot() -> None:
    given_ = records({1: range(10, 50), 2: range(50, 90)}, 100)
    extra = {record.index: dict(found) for record, found in with_neighbours(iter(given_), cuts={50})}
    assert [i for i in extra if 1 in extra[i]] == list(range(10)), "not behind the cut"
    assert [i for i in extra if 2 in extra[i]] == [*range(90, 90 + min(AFTER, 10))], "not before the cut"


def test_the_wait_covers_the_slowest_search() -> None:
    assert max(frames for _, frames in SEARCH_FRAMES) <= BEFORE


def test_who_is_blurred() -> None:
    results = {
        1: TrackResult(Match("Ada", 0.95, None, "Ada"), True),
        2: TrackResult(Match(None, 0.5, None, "Ada"), True, unknown=3),
        3: TrackResult(Match(), False),
    }
    record = Record(0, 0.0, [(n, (float(n), 0.0, 9.0, 9.0), 1.0) for n in (1, 2, 3)])
    near = [(1, (11.0, 0.0, 9.0, 9.0)), (2, (12.0, 0.0, 9.0, 9.0))]

    def lefts(which: str) -> list[float]:
        return [box[0] for box in to_hide(which, record, near, results)]

    assert lefts("none") == []
    assert lefts("unknown") == [2, 3, 12]
    assert lefts("all") == [1, 2, 3, 11, 12]


# --- which outputs --------------------------------------------------------------------------------------------


def test_what_is_written_by_default_and_on_request() -> None:
    assert chosen(None) == {"video", "jsonl", "csv", "html"}
    assert chosen(None, no_video=True) == {"jsonl", "csv", "html"}
    assert chosen(" VTT, crops,") == {"vtt", "crops"}
    for wrong in ("", ",", "vtt,mp4"):
        with pytest.raises(UsageFault, match=r"--write takes some of video,jsonl,csv,vtt,html,crops, not"):
            chosen(wrong)


def test_where_outputs_go(tmp_path: Path) -> None:
    clip, other = Item(Path("/in/clip.mp4"), "video", "sub/clip"), Item(Path("/in/a.PNG"), "photo", "a")
    outputs = Outputs(tmp_path, frozenset(WRITE))
    assert [str(p.relative_to(tmp_path)) for p in outputs.of_video(clip.stem).values()] == [
        "sub/clip.labelled.mp4",
        "sub/clip.sightings.jsonl",
        "sub/clip.timeline.csv",
        "sub/clip.vtt",
    ]
    assert list(Outputs(tmp_path, frozenset({"vtt", "html"})).of_video("clip")) == ["vtt"]
    assert outputs.labelled_photo(other) == tmp_path / "a.labelled.png"
    assert outputs.report([clip]) == outputs.report([clip, other]) == tmp_path / "report.html"
    write_report(tmp_path / "report.html", [FileSeen("clip.mp4", "video", Path("clip.mp4"), [])])
    assert outputs.report([clip]) == tmp_path / "report.html", "its own: refused later, or written anew"
    assert outputs.report([other]) == tmp_path / "a.report.html", "another file's report is left alone"
    odd = Item(Path("/in/<b>&\udcff.mp4"), "video", "odd")
    write_report(tmp_path / "report.html", [FileSeen("x", "video", odd.path, [])], overwrite=True)
    assert outputs.report([odd]) == tmp_path / "report.html"
    assert outputs.report([clip]) == tmp_path / "sub" / "clip.report.html"
    plain = Outputs(tmp_path, frozenset({"csv"}))
    assert plain.report([clip]) is None and plain.labelled_photo(other) is None
