"""The recogniser and the analysis of a file, with fakes where only the schedule matters and real models elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from facecam.archive.analysis import Analysis, Record
from facecam.engine import Engine, nobody
from facecam.evidence import Evidence, Likeness
from facecam.people.match import Matcher
from facecam.people.quality import measure
from facecam.pipeline import CutTest, Recogniser
from facecam.settings import Settings
from facecam.values import DLIB5, Box, Face, Frame, Image
from facecam.video.sources import SyntheticSource
from facecam.vision.align import TARGETS
from tests.support import portrait

DIM = 8


class FakeDetector:
    """Finds whatever its script says is in a frame; a frame carries its number in its first pixel."""

    def __init__(self, script: dict[int, list[Box]]) -> None:
        self.script = script
        self.searched: list[tuple[int, tuple[float, ...]]] = []

    def _faces(self, image: Image) -> list[Face]:
        return [Face(box, 0.9) for box in self.script.get(number(image), [])]

    def levels(self, width: int, height: int, min_face: float) -> list[float]:
        return [2.0, 1.0, 0.5]

    def detect_levels(self, image: Image, scales: Sequence[float], changed: object = None) -> list[Face]:
        self.searched.append((number(image), tuple(scales)))
        return self._faces(image)

    def detect(self, image: Image, min_face: float) -> list[Face]:
        return self._faces(image)

    def follow(self, image: Image, boxes: Sequence[Box], sized: Collection[int] = ()) -> list[Face | None]:
        answers: list[Face | None] = []
        for box in boxes:
            near = [f for f in self._faces(image) if abs(f.centre[0] - box[0] - box[2] / 2) < box[2]]
            answers.append(near[0] if near else None)
        return answers


class FakeLandmarks:
    def locate(self, image: Image, faces: Sequence[Face]) -> list[Face]:
        return [
            Face(
                f.box,
                f.score,
                (TARGETS["dlib-150", DLIB5] / 150 * f.size + np.array(f.box[:2])).astype(np.float32),
                DLIB5,
            )
            for f in faces
        ]


class FakeEmbedder:
    """A vector that says how bright the crop is: two people are two greys."""

    space, template, dim = "fake", "dlib-150", DIM

    def __init__(self) -> None:
        self.calls: list[int] = []

    def embed(self, crops: Sequence[Image], *, mirror: bool = False) -> np.ndarray:
        self.calls.append(len(crops))
        out = np.zeros((len(crops), DIM), np.float32)
        for row, crop in zip(out, crops):
            row[0 if crop.mean() < 128 else 1] = 1
        return out


def number(image: Image) -> int:
    return int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])


def frames(count: int, paint: dict[int, int] | None = None) -> list[Image]:
    """Grey noise of a person (60 or 200), numbered; ``paint``: frame -> grey from there on.

    A corner changes all the time: a picture that shows what it showed is not searched.
    """
    rng = np.random.default_rng(0)
    noise = rng.integers(-50, 50, (240, 320, 3))
    grey, out = 70, []
    for k in range(count):
        grey = (paint or {}).get(k, grey)
        image = np.clip(noise + grey, 1, 255).astype(np.uint8)
        image[0, 0] = (k % 256, k // 256, 0)
        image[-24:, -24:] = 20 + 37 * k % 200
        out.append(image)
    return out


def recogniser(script: dict[int, list[Box]], **settings: object) -> Recogniser:
    names = ("Dark", "Light")
    matcher = Matcher(names, np.array([0, 1], np.int32), np.eye(2, DIM, dtype=np.float32), threshold=0.8)
    return Recogniser(FakeDetector(script), FakeLandmarks(), FakeEmbedder(), matcher, Settings(**settings))  # type: ignore[arg-type]


def still(x: float, upto: int, since: int = 0) -> dict[int, list[Box]]:
    return {k: [(x, 60.0, 80.0, 80.0)] for k in range(since, upto)}


def analysed(script: dict[int, list[Box]], images: list[Image], **settings: object) -> tuple[list[Record], Analysis]:
    analysis = Analysis(recogniser(script, **settings))
    return list(analysis.records(SyntheticSource(images, fps=30))), analysis


def test_every_frame_has_a_record_in_order() -> None:
    records, _ = analysed(still(50, 40), frames(40))
    assert [r.index for r in records] == list(range(40))
    assert [len(r.faces) for r in records] == [1] * 40


def test_boxes_between_two_detections_lie_between() -> None:
    script: dict[int, list[Box]] = {k: [(20.0 + 4 * k, 60.0, 80.0, 80.0)] for k in range(40)}
    records, _ = analysed(script, frames(40), detect_every=4)
    for record in records[12:37]:
        assert record.faces[0][1][0] == pytest.approx(20 + 4 * record.index, abs=4)


def test_a_track_is_named_from_its_first_frame() -> None:
    records, analysis = analysed(still(50, 30, since=6), frames(30))
    tracks = {face[0] for r in records for face in r.faces}
    assert len(tracks) == 1
    assert analysis.results[tracks.pop()].match.name == "Dark"
    assert records[6].faces and not records[5].faces


def test_a_gap_shorter_than_patience_is_filled_and_then_the_track_ends() -> None:
    script = still(50, 30) | still(50, 90, since=39)
    records, _ = analysed(script, frames(90))
    assert {f[0] for r in records for f in r.faces} == {1}
    assert records[34].faces, "a gap inside a track is bridged"
    script = still(50, 30) | still(50, 120, since=75)
    records, _ = analysed(script, frames(120))
    assert {f[0] for r in records for f in r.faces} == {1, 2}
    assert not records[60].faces, "an empty scene stays empty"


def test_a_cut_ends_the_tracks_at_the_very_frame() -> None:
    records, analysis = analysed(still(50, 40), frames(40, {20: 190, 0: 70}))
    # brightness alone is no cut; a new picture is
    images = frames(40)
    for k in range(20, 40):
        images[k][1:] = np.flip(images[k][1:], axis=1)[..., ::-1] // 3 + 150
    records, analysis = analysed(still(50, 40), images)
    before, after = ({f[0] for r in part for f in r.faces} for part in (records[:20], records[20:]))
    assert not before & after
    assert all(len(r.faces) == 1 for r in records), "the face is there on both sides of the cut"
    assert {analysis.results[t].match.name for t in before} == {"Dark"}


def test_dear_levels_are_searched_seldom_and_all_at_the_start() -> None:
    pipeline = recogniser({})
    for frame in SyntheticSource(frames(100), fps=30):
        pipeline.step(frame)
    detector = pipeline.detector
    assert isinstance(detector, FakeDetector)
    assert detector.searched[0] == (0, (2.0, 1.0, 0.5))
    often = sum(0.5 in scales for _, scales in detector.searched)
    seldom = sum(2.0 in scales for _, scales in detector.searched)
    assert often >= 2 * seldom > 0


def test_embedding_is_rare_once_somebody_is_known() -> None:
    records, analysis = analysed(still(50, 240), frames(240))
    embedder = analysis.recogniser.embedder
    assert isinstance(embedder, FakeEmbedder)
    assert sum(embedder.calls) < 15
    assert len(records) == 240


def test_two_runs_agree_to_the_letter() -> None:
    script = still(50, 60) | {k: [(50.0, 60.0, 80.0, 80.0), (180.0 + k, 60.0, 70.0, 70.0)] for k in range(20, 45)}
    first, one = analysed(script, frames(60))
    second, two = analysed(script, frames(60))
    assert first == second and one.results == two.results


def test_memory_of_a_long_run_is_bounded() -> None:
    script = {k: [(20.0 + (k // 40 % 2) * 150, 60.0, 80.0, 80.0)] for k in range(400) if k % 40 < 15}
    analysis = Analysis(recogniser(script))
    longest = 0
    for _ in analysis.records(SyntheticSource(frames(400), fps=30)):
        longest = max(longest, len(analysis._pending) + len(analysis.recogniser.identities.evidence))
    assert longest < 60


def test_a_changed_gallery_renames_live_tracks() -> None:
    pipeline = recogniser(still(50, 60))
    for frame in SyntheticSource(frames(30), fps=30):
        pipeline.step(frame)
    assert pipeline.sightings(1.0)[0].match.name == "Dark"
    pipeline.identities.restart(
        Matcher(("Night",), np.zeros(1, np.int32), np.eye(1, DIM, dtype=np.float32), threshold=0.8)
    )
    assert pipeline.sightings(1.0)[0].match.name == "Night"


def test_cut_test_ignores_light_and_movement() -> None:
    rng = np.random.default_rng(1)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (200, 300, 3), np.uint8), (0, 0), 9)
    scene = cv2.normalize(scene, None, 0, 220, cv2.NORM_MINMAX)
    test = CutTest()
    answers = []
    for k in range(40):
        image = np.roll(scene, 2 * k, axis=1)
        if k >= 20:
            image = cv2.add(image, np.full_like(image, 30))
        answers.append(test.is_cut(Frame(k, k / 30, image)))
    assert not any(answers)
    assert test.is_cut(Frame(40, 40 / 30, np.flip(scene, axis=0).copy()))


def test_a_real_face_is_named_and_a_stranger_is_not(engine: Engine) -> None:
    """The whole way with the real models: a portrait that moves, and another person's."""
    hopper, stranger = portrait("grace_hopper"), portrait("astronaut")
    from facecam.vision.align import align

    faces = engine.landmarker.locate(hopper, engine.detector.detect(hopper, 40))
    vector = engine.embedder.embed([align(hopper, faces[0], "dlib-150")], mirror=True)
    matcher = Matcher(("Grace",), np.zeros(1, np.int32), vector, threshold=engine.threshold)
    for picture, name in ((hopper, "Grace"), (stranger, None)):
        moving = [np.roll(cv2.resize(picture, (320, 320)), 2 * k, axis=1) for k in range(12)]
        analysis = Analysis(engine.recogniser(matcher))
        records = list(analysis.records(SyntheticSource(moving, fps=25)))
        assert all(len(r.faces) == 1 for r in records)
        assert [r.match.name for r in analysis.results.values()] == [name]


def test_a_face_of_a_file_is_embedded_less_often_than_one_that_waits_for_its_name() -> None:
    """Nobody asks before the end of a file: a stranger's time is covered by fewer views."""
    looks = {}
    for patient in (False, True):
        one = recogniser(still(50, 42), detect_every=3)
        one.identities.matcher = nobody(DIM, 0.8)
        one.patient = patient
        looks[patient] = []
        for frame in SyntheticSource(frames(42), fps=25):
            before = one.timing.embeddings
            one.step(frame)
            looks[patient] += [frame.index] * (one.timing.embeddings - before)
    assert looks == {False: [0, 3, 6, 9, 15], True: [0, 3]}


def test_a_name_does_not_pass_to_another_face_on_the_same_track() -> None:
    """Two people change places within one box, without a cut: the answer must turn, and only from there on."""
    script = still(50, 120)
    records, analysis = analysed(script, frames(120, {0: 70, 60: 190}), detect_every=3)
    names = [analysis.results[r.faces[0][0]].match.name for r in records]
    assert set(names[:58]) == {"Dark"}
    assert "Light" in names and names[-1] == "Light"
    turned = names.index("Light")
    assert turned <= 60 + 48, "a sure track is looked at again within the time that EMBED_SURE allows"
    assert "Dark" not in names[turned:]


def test_a_jump_makes_the_track_look_again_at_once() -> None:
    script = still(50, 60) | {k: [(95.0, 60.0, 80.0, 80.0)] for k in range(60, 120)}
    records, analysis = analysed(script, frames(120, {0: 70, 60: 190}))
    names = [analysis.results[r.faces[0][0]].match.name for r in records if r.faces]
    assert names.index("Light") <= 66


def test_two_tracks_in_one_frame_never_share_a_name() -> None:
    script: dict[int, list[Box]] = {k: [(20.0, 60.0, 80.0, 80.0), (200.0, 60.0, 80.0, 80.0)] for k in range(30)}
    records, analysis = analysed(script, frames(30))
    for record in records:
        names = [analysis.results[face[0]].match.name for face in record.faces]
        assert len(names) == 2 and sorted(names, key=str) == ["Dark", None]
    pipeline = recogniser(script)
    for frame in SyntheticSource(frames(20), fps=30):
        pipeline.step(frame)
        named = [s.match.name for s in pipeline.sightings(frame.time) if s.match.name]
        assert len(named) == len(set(named))


def test_a_face_that_returns_within_seconds_is_known_at_once() -> None:
    both = {k: [(50.0, 60.0, 80.0, 80.0), (200.0, 60.0, 80.0, 80.0)] for k in range(30)}
    script = both | still(180, 120, since=60)  # two leave, so that there is somebody to choose from
    pipeline = recogniser(script)
    known_at = []
    for frame in SyntheticSource(frames(120), fps=30):
        for track in pipeline.step(frame).ended:
            pipeline.identities.forget(track.id)
        if any(s.match.name == "Dark" for s in pipeline.sightings(frame.time)):
            known_at.append(frame.index)
    back = min(k for k in known_at if k > 40)
    assert back <= 66 + 3, "found by the search that is due, and named with its first vector"


def test_a_new_face_is_followed_back_to_the_frame_it_came_on() -> None:
    """It comes when a search has just been done: the next one finds it, and the frames between get it, too."""
    script = still(50, 40, since=14) | {k: [(50.0 + 5 * (k - 40), 60.0, 80.0, 80.0)] for k in range(40, 60)}
    records, analysis = analysed(script, frames(60))
    detector = analysis.recogniser.detector
    assert isinstance(detector, FakeDetector)
    searches = [index for index, _ in detector.searched if index > 14]
    assert searches[0] > 15, "or the test shows nothing"
    assert [bool(r.faces) for r in records[:14]] == [False] * 14
    assert all(len(r.faces) == 1 for r in records[15:]), "from the first look on that could see it"
    assert {f[0] for r in records for f in r.faces} == {1}


def test_a_face_is_not_followed_back_over_a_cut_or_into_another_track() -> None:
    images = frames(60)
    for k in range(20, 60):
        images[k][1:] = np.flip(images[k][1:], axis=1)[..., ::-1] // 3 + 150
    # The face is there from the start, but the detector's searches see it only after the cut.
    records, _ = analysed(still(50, 60, since=20), images)
    assert not any(r.faces for r in records[:20]) and all(r.faces for r in records[20:])
    # A second face comes out of the first one's place: what lies before is the first one's.
    script: dict[int, list[Box]] = {k: [(50.0, 60.0, 80.0, 80.0)] for k in range(60)}
    script |= {k: [(50.0, 60.0, 80.0, 80.0), (150.0, 60.0, 80.0, 80.0)] for k in range(31, 60)}
    records, _ = analysed(script, frames(60))
    assert {f[0] for r in records[:30] for f in r.faces} == {1}
    assert all(len(r.faces) == 2 for r in records[33:])


def test_a_lost_face_is_searched_at_its_size_before_its_time_has_come() -> None:
    both = {k: [(40.0, 60.0, 80.0, 80.0)] for k in range(31)}
    away = {k: [(200.0, 60.0, 80.0, 80.0)] for k in range(31, 60)}  # out of reach of following
    pipeline = recogniser(both | away)
    pipeline.patient = True
    seen = {}
    for frame in SyntheticSource(frames(60), fps=30):
        pipeline.step(frame)
        seen[frame.index] = [t.last for t in pipeline.tracker.tracks if t.box[0] > 150]
    assert min(k for k, hits in seen.items() if hits) <= 31 + 3 * 4


class ShortSighted(FakeDetector):
    """Follows no further than the real one: by the middle of its crop, 0.3 of the face."""

    def follow(self, image: Image, boxes: Sequence[Box], sized: Collection[int] = ()) -> list[Face | None]:
        answers = super().follow(image, boxes, sized)
        return [
            face if face is not None and abs(face.centre[0] - box[0] - box[2] / 2) < 0.3 * box[2] else None
            for face, box in zip(answers, boxes)
        ]


@pytest.mark.parametrize("speed", [0.15, 0.22, -0.22])
def test_somebody_who_walks_by_is_followed_from_the_first_frame_to_the_last(speed: float) -> None:
    """Six of its sizes a second: at the next regular look a new face would be out of reach, in both directions."""
    size, start = 40.0, 270.0 if speed < 0 else 10.0
    script: dict[int, list[Box]] = {k: [(start + speed * size * (k - 7), 60.0, size, size)] for k in range(7, 35)}
    pipeline = recogniser(script)
    pipeline.detector = pipeline.scan._detector = ShortSighted(script)
    records = list(Analysis(pipeline).records(SyntheticSource(frames(60), fps=30)))
    assert [r.index for r in records[9:33] if len(r.faces) != 1] == []
    assert len({f[0] for r in records for f in r.faces}) == 1
    for record in records[12:33]:
        assert record.faces[0][1][0] == pytest.approx(script[record.index][0][0], abs=0.15 * size)


def test_a_new_face_does_not_shift_the_regular_looks() -> None:
    pipeline = recogniser(still(50, 60, since=18))
    looked = [f.index for f in SyntheticSource(frames(60), fps=30) if pipeline.step(f).looked]
    new = pipeline.tracker.tracks[0].first
    assert looked[looked.index(new) :][:4] == [new, new + 1, new + 3, new + 6]


def test_a_lost_face_is_searched_about_where_it_should_be() -> None:
    """Not on the whole frame; what is found there is put back to its place, landmarks and all."""

    class Wide(FakeDetector):
        def detect_levels(self, image: Image, scales: Sequence[float], changed: object = None) -> list[Face]:
            shapes.append(image.shape[:2])
            if image.shape[1] == 1280:
                return super().detect_levels(image, scales)
            points = np.full((5, 2), 33.0, np.float32)
            return [Face((30.0, 31.0, 40.0, 40.0), 0.9, points, DLIB5)]

        def follow(self, image: Image, boxes: Sequence[Box], sized: Collection[int] = ()) -> list[Face | None]:
            there = self.script.get(number(image), [])
            return [Face(there[0], 0.9) if there else None for _ in boxes]

    shapes: list[tuple[int, ...]] = []
    script: dict[int, list[Box]] = {k: [(600.0, 400.0, 40.0, 40.0)] for k in range(20)}
    pipeline = recogniser(script)
    pipeline.detector = pipeline.scan._detector = Wide(script)
    images = [np.full((720, 1280, 3), 90, np.uint8) for _ in range(34)]
    for k, image in enumerate(images):
        image[0, 0] = (k, 0, 0)
    for frame in SyntheticSource(images, fps=30):
        pipeline.step(frame)
        if parts := [shape for shape in shapes if shape[1] != 1280]:
            break
    assert parts == [(280, 280)], "three of its sizes to each side"
    again = pipeline.tracker.tracks[-1].measured
    assert again is not None and again.box == (480 + 30, 280 + 31, 40, 40)
    assert again.landmarks is not None and again.landmarks[0].tolist() == [480 + 33, 280 + 33]


@pytest.mark.parametrize("turn", [38, 39, 40, 45])
def test_a_face_that_turned_about_while_it_rested_is_still_the_same(turn: int) -> None:
    class Placed(ShortSighted):
        """Sees parts of a picture, too: a pixel tells the frame's number and where it is."""

        def _faces(self, image: Image) -> list[Face]:
            k, left, top = int(image[0, 0, 0]), 2 * int(image[0, 0, 1]), int(image[0, 0, 2])
            faces = (Face(box, 0.9).shifted(-left, -top) for box in self.script.get(k, []))
            return [f for f in faces if 0 <= f.centre[0] < image.shape[1] and 0 <= f.centre[1] < image.shape[0]]

        def detect_levels(self, image: Image, scales: Sequence[float], changed: object = None) -> list[Face]:
            return self._faces(image)

    def place(k: int) -> float:
        return 120.0 - 0.3 * min(k, turn) + 0.08 * 60 * max(0, k - turn)

    script: dict[int, list[Box]] = {k: [(place(k), 80.0, 60.0, 60.0)] for k in range(70)}
    images = [np.zeros((240, 320, 3), np.uint8) for _ in range(70)]
    for k, image in enumerate(images):
        image[..., 0], image[..., 1], image[..., 2] = k, np.arange(320)[None] // 2, np.arange(240)[:, None]
    pipeline = recogniser(script)
    pipeline.detector = pipeline.scan._detector = Placed(script)
    pipeline.scan._cuts.is_cut = lambda frame: False  # type: ignore[method-assign]
    analysis = Analysis(pipeline)
    records = list(analysis.records(SyntheticSource(images, fps=30)))
    assert {face[0] for r in records for face in r.faces} == {1}
    assert all(len(r.faces) == 1 for r in records[:69])


def test_a_stranger_like_nobody_is_embedded_as_seldom_as_somebody_known() -> None:
    def embeddings(vector: Sequence[float]) -> int:
        pipeline = recogniser(still(50, 240))
        pipeline.embedder = FakeEmbedder()
        unit = np.array([[*vector, *[0.0] * (DIM - 3)]], np.float32)
        unit /= np.linalg.norm(unit)
        pipeline.embedder.embed = lambda crops, mirror=False: unit.repeat(len(crops), axis=0)  # type: ignore[method-assign]
        pipeline.identities.likeness = replace(pipeline.identities.likeness, doubt=0.7)
        for frame in SyntheticSource(frames(240), fps=30):
            pipeline.step(frame)
        return pipeline.timing.embeddings

    like_nobody, perhaps_dark = embeddings((0.3, 0.3, 1.0)), embeddings((1.0, 0.0, 0.9))
    assert like_nobody < perhaps_dark
    assert like_nobody <= 5 + 240 // 45


def test_in_a_file_two_looks_at_a_stranger_are_enough_until_the_face_has_grown() -> None:
    """A face that nobody resembles is embedded anew when it is larger, and else hardly."""

    def looks(script: dict[int, list[Box]], vector: Sequence[float], patient: bool = True) -> list[int]:
        pipeline = recogniser(script)
        pipeline.embedder = FakeEmbedder()
        unit = np.array([[*vector, *[0.0] * (DIM - 3)]], np.float32)
        unit /= np.linalg.norm(unit)
        pipeline.embedder.embed = lambda crops, mirror=False: unit.repeat(len(crops), axis=0)  # type: ignore[method-assign]
        pipeline.identities.likeness = Likeness(doubt=0.5, denial=0.7)
        pipeline.patient = patient
        seen, before = [], 0
        for frame in SyntheticSource(frames(120), fps=30):
            pipeline.step(frame)
            if pipeline.timing.embeddings > before:
                seen.append(frame.index)
            before = pipeline.timing.embeddings
        return seen

    far, near = (0.6, 0.0, 0.8), (0.75, 0.0, 0.66)
    assert len(looks(still(50, 120), far)) < len(looks(still(50, 120), near))
    assert looks(still(50, 120), far)[:2] == [0, 3]
    assert looks(still(50, 120), far)[2] >= 3 + 24
    assert len(looks(still(50, 120), far, patient=False)) > 4, "a live view is asked at once"
    grown: dict[int, list[Box]] = {
        k: [(60.0, 60.0, 50.0, 50.0) if k < 60 else (50.0, 50.0, 72.0, 72.0)] for k in range(120)
    }
    assert [k for k in looks(grown, far) if 48 < k < 93] == [63], "by two fifths larger at 60, and measured anew"


def test_two_tracks_on_one_face_are_not_two_people() -> None:
    """For a moment, where people passed each other: the long track must not lose its name to the short one."""
    analysis = Analysis(recogniser({}))
    box = (91.0, 89.0, 72.0, 72.0)
    for index, others in enumerate([[], [(102.0, 99.0, 56.0, 56.0), (300.0, 80.0, 70.0, 70.0)], [], []]):
        faces = [(5, box, 1.0)] + [(10 + i, other, 1.0) for i, other in enumerate(others)]
        analysis._pending.append(Record(index, index / 30, faces))
    assert [record.index for record in analysis._ready()] == [0, 1, 2, 3]
    assert analysis.together == {(5, 11), (10, 11)}


def test_a_face_that_passes_behind_another_is_not_drawn_on_it() -> None:
    analysis = Analysis(recogniser({}))
    for index in range(7):
        analysis._pending.append(Record(index, index / 30, [(1, (100.0, 50.0, 60.0, 60.0), 1.0)]))
    analysis._hit(2, 0, (10.0, 50.0, 60.0, 60.0), 1.0)
    analysis._hit(2, 6, (190.0, 50.0, 60.0, 60.0), 1.0)
    assert [len(record.faces) for record in analysis._pending] == [2, 2, 2, 1, 2, 2, 2]


def test_a_picture_without_any_detail_still_weighs_something() -> None:
    face = FakeLandmarks().locate(frames(1)[0], [Face((10.0, 10.0, 80.0, 80.0), 0.9)])[0]
    quality = measure(np.full((150, 150, 3), 90, np.uint8), face)
    assert 0 < quality.overall < 0.2
    evidence = Evidence()
    evidence.add(np.eye(1, DIM, dtype=np.float32)[0], quality.overall)
    assert evidence.vector.tolist() == [1.0] + [0.0] * (DIM - 1)


def test_kept_pictures_are_bounded_and_not_converted() -> None:
    analysis = Analysis(recogniser(still(50, 300)))
    most = 0
    for _ in analysis.records(SyntheticSource(frames(300), fps=30)):
        most = max(most, len(analysis._past))
        assert len(analysis._past) <= 1 + analysis.recogniser.reach // 3
    assert most > 3
