"""Segments: the stretches of a video give its frames, pieces keep them, and borders are joined again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facecam.archive import report
from facecam.archive.analysis import Analysis, Record
from facecam.archive.merge import merge
from facecam.archive.naming import Part, TrackResult
from facecam.archive.pieces import Edges, Packer, arrays, unpack
from facecam.archive.study import Study, sampled, study_segment, survey
from facecam.engine import Engine, nobody
from facecam.errors import MediaError, UsageFault
from facecam.evidence import Likeness
from facecam.values import Frame, Match, SourceInfo
from facecam.video.keyframes import borders
from facecam.video.sources import FileSource
from tests.archive_films import film, pictures
from tests.fakes import make_clip, numbered

LIKENESS = Likeness(0.8, 0.95)


def fingerprints(source: FileSource) -> list[tuple[float, str]]:
    with source:
        return [(frame.time, hashlib.md5(frame.image.tobytes()).hexdigest()) for frame in source]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.ts", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9")]
)
def test_the_stretches_between_borders_are_the_whole_video(name: str, codec: str, tmp_path: Path) -> None:
    """Open groups and B-frames included: what comes before a key frame in time belongs to the stretch before."""
    path = film(tmp_path / name, [numbered(k) for k in range(60)], gop=9, codec=codec, bframes=3, start=0.5)
    inner = borders(path, 1.5)
    assert len(inner) >= 2
    whole = fingerprints(FileSource(path))
    parts = [fingerprints(FileSource(path, *limits)) for limits in zip([None, *inner], [*inner, None])]
    assert [f for part in parts for f in part] == whole
    assert [part[0][0] for part in parts[1:]] == inner
    assert inner == borders(path, 1.5), "the same file is always divided in the same way"


def test_a_video_without_key_frames_or_of_one_segment_is_read_in_one_go(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [numbered(k) for k in range(40)], gop=250)
    assert borders(path, 1.0) == []
    path = film(tmp_path / "b.mp4", [numbered(k) for k in range(40)], gop=10)
    assert survey(path, "video", Study(), hashed=False).limits == [(None, None)]


def test_a_clock_that_goes_back_is_not_divided(tmp_path: Path) -> None:
    """Two recordings in one transport stream: a time does not tell a place."""
    one = film(tmp_path / "a.ts", [numbered(k) for k in range(60)], gop=10)
    both = tmp_path / "b.ts"
    both.write_bytes(one.read_bytes() + one.read_bytes())
    assert borders(one, 1.0) != [] and borders(both, 1.0) == []


def test_a_damaged_video_is_always_decoded_the_same(tmp_path: Path) -> None:
    """Errors are concealed by whichever thread comes first; with one thread there is no race."""
    data = bytearray(film(tmp_path / "a.mkv", [numbered(k, 640, 360) for k in range(60)], gop=30).read_bytes())
    random = np.random.default_rng(3)
    for place in random.integers(len(data) // 4, len(data), 30):
        data[place] ^= 0xFF
    path = tmp_path / "hurt.mkv"
    path.write_bytes(data)
    seen = set()
    for _ in range(4):
        source = FileSource(path, steady=True)
        seen.add((tuple(fingerprints(source)), source.damaged))
    assert len(seen) == 1 and next(iter(seen))[1] > 0


def test_a_stretch_of_nothing_is_an_error(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", [numbered(k) for k in range(10)])
    with pytest.raises(MediaError, match="stretch"):
        FileSource(path, 5.0, 6.0)


def test_start_and_end_limit_the_segments(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [numbered(k) for k in range(60)], gop=10, start=0.5)
    found = survey(path, "video", Study(start=1.5, end=4.5, segment=1.0), hashed=True)
    assert found.info is not None and found.info.start_time == pytest.approx(0.5)
    assert found.limits[0][0] == pytest.approx(2.0) and found.limits[-1][1] == pytest.approx(5.0)
    assert len(found.digest) == 64
    for limits in found.limits:
        assert all(limits[0] <= frame.time < limits[1] for frame in FileSource(path, *limits))  # type: ignore[operator]


@pytest.mark.parametrize("wrong", ["0", "-1", "1.5", "s", "2m", "x"])
def test_every_takes_frames_or_seconds(wrong: str) -> None:
    with pytest.raises(UsageFault, match="--every"):
        Study(every=wrong)


def test_sampling_by_frames_and_by_seconds() -> None:
    frames = [Frame(k, 7 + k / 10, numbered(k)) for k in range(40)]
    assert [f.index for f in sampled(frames, "15", 7.0)] == [0, 15, 30]
    assert [f.index for f in sampled(frames, "2s", 7.0)] == [0, 20]
    assert len(list(sampled(frames, None, 7.0))) == 40


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e6),
            st.lists(
                st.tuples(
                    st.integers(0, 10**6),
                    st.tuples(*[st.floats(-2e4, 2e4)] * 4),
                    st.floats(-10, 10),
                ),
                max_size=4,
            ),
        ),
        max_size=30,
    )
)
def test_frames_survive_packing(frames: list[tuple[float, list[tuple[int, tuple[float, ...], float]]]]) -> None:
    packer = Packer()
    for index, (at, faces) in enumerate(frames):
        packer.add(Record(index, at, faces))  # type: ignore[arg-type]
    found = list(unpack(packer.packed()))
    assert [(index, at) for index, at, _ in found] == [(k, at) for k, (at, _) in enumerate(frames)]
    for (_, faces), (_, _, back) in zip(frames, found):
        assert [face[0] for face in back] == [face[0] for face in faces]
        for (_, box, score), (_, box2, score2) in zip(faces, back):
            assert box2 == tuple(round(v, 2) for v in box) and score2 == round(score, 4)


@pytest.mark.parametrize("cut", [0, 5, 20, -3])
def test_damaged_frames_are_refused(cut: int) -> None:
    packer = Packer()
    packer.add(Record(0, 0.0, [(1, (1.0, 2.0, 3.0, 4.0), 0.5)]))
    with pytest.raises(ValueError):
        list(unpack(packer.packed()[:cut]))


def part(track: int, vector: list[float], *, since: float = 0.0, until: float = 1.0, count: int = 2) -> Part:
    unit = np.array(vector, np.float32)
    unit /= np.linalg.norm(unit)
    return Part(track, True, until, since, unit.astype(np.float64) * count, float(count), count, 0.9, True, [unit])


ADA, BOB = [1.0, 0.0, 0.1], [0.0, 1.0, 0.1]
GREY = np.full((54, 96), 90, np.uint8)
OTHER = np.random.default_rng(1).integers(0, 255, (54, 96), dtype=np.uint8)


def ends(first: list[int], last: list[int], *, luma: np.ndarray = GREY, x: float = 0.0) -> Edges:
    """Tracks at both ends, each at a place of its own."""
    boxes = [[(t, (100.0 * t + x, 10.0, 50.0, 50.0)) for t in tracks] for tracks in (first, last)]
    return Edges(boxes[0], boxes[1], 0.0, 1.0, luma, luma)


def test_one_segment_stays_as_it_is() -> None:
    parts = [part(3, ADA), part(1, BOB)]
    merged = merge([(parts, {(1, 3)}, ends([1], [3]))], LIKENESS)
    assert merged.parts == {1: parts[1], 3: parts[0]} and merged.ids == [{3: 3, 1: 1}] and merged.together == {(1, 3)}


def test_a_face_goes_on_over_a_border() -> None:
    first = ([part(1, ADA), part(2, BOB)], {(1, 2)}, ends([1, 2], [1, 2]))
    second = ([part(1, ADA, count=5), part(2, BOB)], {(1, 2)}, ends([1, 2], [1, 2], x=4.0))
    merged = merge([first, second], LIKENESS)
    assert merged.ids == [{1: 1, 2: 2}, {1: 1, 2: 2}] and merged.together == {(1, 2)}
    assert merged.parts[1].count == 7 and merged.parts[1].weight == 7.0 and len(merged.parts[1].views) == 2


def test_faces_at_one_place_that_do_not_look_alike_are_two() -> None:
    merged = merge([([part(1, ADA)], set(), ends([1], [1])), ([part(1, BOB)], set(), ends([1], [1]))], LIKENESS)
    assert merged.ids == [{1: 1}, {1: 2}] and merged.parts[2].count == 2


def test_a_cut_on_the_border_ends_tracks() -> None:
    second = ([part(1, ADA, since=20.0, until=21.0)], set(), ends([1], [1], luma=OTHER))
    merged = merge([([part(1, ADA)], set(), ends([1], [1])), second], LIKENESS)
    assert merged.ids[1] == {1: 2} and merged.parts[2].count == 2, "a new track, and too late for a return"


def test_a_face_that_comes_back_after_a_border_keeps_what_was_known() -> None:
    second = ([part(1, ADA, since=3.0, until=4.0)], set(), ends([], []))
    merged = merge([([part(1, ADA)], set(), ends([1], [])), second], LIKENESS)
    assert merged.ids[1] == {1: 2} and merged.parts[2].count == 4, "the evidence of both"
    assert merged.parts[1].count == 2


def test_a_track_without_vectors_goes_on_by_its_place() -> None:
    silent = Part(1, False, 1.0)
    merged = merge([([silent], set(), ends([1], [1])), ([part(1, ADA)], set(), ends([1], [1]))], LIKENESS)
    assert merged.ids[1] == {1: 1} and merged.parts[1].believed and merged.parts[1].count == 2


def test_lines_of_frames_are_what_json_would_write() -> None:
    results = {
        1: TrackResult(Match('<b> "Ädä"\\', 0.91234, ("Bob", 0.5), '<b> "Ädä"\\'), True),
        2: TrackResult(Match(None, None), True, unknown=12),
        3: TrackResult(Match("no face", 0.9), False),
    }
    info = SourceInfo("x", 640, 360, start_time=0.5)
    faces = [(1, (-3.25, 4.05, 50.0, 60.15), 0.9871), (3, (0.0, 0.0, 1.0, 1.0), 0.1), (2, (630.0, 5.0, 40.0, 9.0), 1.0)]
    packer = Packer()
    packer.add(Record(7, 1.25, faces))
    packer.add(Record(8, 1.5, []))
    lines = report.FrameLines(info, results).lines(*arrays(packer.packed()), {1: 1, 2: 2, 3: 3})
    line, empty = lines
    expected = [
        {"track": t, **report.face_fields(box, score, results[t].match, results[t].unknown, 640, 360)}
        for t, box, score in faces
        if t != 3
    ]
    assert line == report.dump({"type": "frame", "frame": 7, "time": 0.75, "faces": expected})
    assert empty == report.dump({"type": "frame", "frame": 8, "time": 1.0, "faces": []})
    assert json.loads(line)["faces"][0]["name"] == '<b> "Ädä"\\'


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "a.mp4", pictures(48), gop=12)


def test_a_segment_is_what_the_analysis_gives(clip: Path, engine: Engine) -> None:
    """One segment: exactly the frames, boxes and evidence of one pass."""
    matcher = nobody(engine.embedder.dim, 0.9)
    analysis = Analysis(engine.recogniser(matcher))
    records = list(analysis.records(FileSource(clip)))
    piece = study_segment(clip, (None, None), 0.0, engine, matcher, Study(pictures=False))
    assert piece.frames == piece.taken == len(records) == 48
    for record, (index, at, faces) in zip(records, unpack(piece.data)):
        assert (index, at) == (record.index, record.time)
        assert [f[0] for f in faces] == [f[0] for f in record.faces]
        assert all(a[1] == tuple(round(v, 2) for v in b[1]) for a, b in zip(faces, record.faces))
    assert [p.track for p in piece.parts] == [p.track for p in analysis.parts]
    assert all(np.array_equal(a.total, b.total) for a, b in zip(piece.parts, analysis.parts))  # type: ignore[arg-type]


def test_segments_give_the_tracks_of_one_pass(clip: Path, engine: Engine) -> None:
    matcher = nobody(engine.embedder.dim, 0.9)
    analysis = Analysis(engine.recogniser(matcher))
    whole = [sorted(face[0] for face in record.faces) for record in analysis.records(FileSource(clip))]
    inner = borders(clip, 1.1)
    assert len(inner) == 3
    pieces = [
        study_segment(clip, limits, 0.0, engine, matcher, Study()) for limits in zip([None, *inner], [*inner, None])
    ]
    merged = merge([(p.parts, p.together, p.edges) for p in pieces], engine.likeness)
    found = [
        sorted(ids[t] for t, _, _ in faces) for p, ids in zip(pieces, merged.ids) for _, _, faces in unpack(p.data)
    ]
    assert len(merged.parts) == len(analysis.parts)
    # Each segment looks at its first frame with all it has, so a face may come some frames earlier or later.
    assert sum(len(a) == len(b) for a, b in zip(whole, found)) >= 40
    assert abs(sum(map(len, found)) - sum(map(len, whole))) <= 10


@pytest.mark.data
@pytest.mark.slow
def test_a_long_file_in_segments_has_the_names_of_one_pass(data: Path, tmp_path: Path) -> None:
    """The clip in segments of two seconds, which divide its scenes: who is named where is the same."""
    from facecam.cli import invoke
    from tests.support import lines

    assert invoke(["enroll", "--from-dir", str(data / "clip" / "people")]) == 0
    clip = str(data / "clip" / "hamilton.mp4")
    for name, segment in (("one", "3600"), ("many", "2")):
        more = ["--segment", segment, "--write", "jsonl", "-o", str(tmp_path / name)]
        assert invoke(["label", clip, *more]) == 0
    told = [
        [[(face["track"], face["name"]) for face in line["faces"]] for line in lines(path)[1:-1]]
        for path in (tmp_path / "one" / "hamilton.sightings.jsonl", tmp_path / "many" / "hamilton.sightings.jsonl")
    ]
    assert told[0] == told[1]
