"""Ways in which a stranger might get a friend's name: a track that changes hands, a return that is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from facecam.cli import common
from facecam.engine import Engine
from facecam.people.gallery import Gallery
from facecam.people.match import Matcher
from facecam.pipeline import Recogniser
from facecam.settings import Settings
from facecam.values import Box, Image, Sample, Template
from facecam.video.sources import SyntheticSource
from tests.test_pipeline import DIM, FakeDetector, FakeLandmarks, frames, still


def beside(similarity: float) -> np.ndarray:
    """float32, D, norm 1: somebody so similar to the friend, who is the first axis."""
    vector = np.zeros(DIM, np.float32)
    vector[:2] = similarity, np.sqrt(1 - similarity**2)
    return vector


class TwoFaces:
    """The friend where the picture is dark, a stranger where it is light."""

    space, template, dim = "fake", "dlib-150", DIM

    def __init__(self, similarity: float) -> None:
        self.rows = np.stack([beside(1.0), beside(similarity)])

    def embed(self, crops: Sequence[Image], *, mirror: bool = False) -> np.ndarray:
        return self.rows[[int(crop.mean() >= 128) for crop in crops]]


def names_shown(
    similarity: float, script: dict[int, list[Box]], count: int, change: int, threshold: float
) -> list[set[str]]:
    """The names that a live view shows at each frame; from ``change`` on the face is the stranger's."""
    matcher = Matcher(("Friend",), np.zeros(1, np.int32), beside(1.0)[None], threshold=threshold)
    live = Recogniser(FakeDetector(script), FakeLandmarks(), TwoFaces(similarity), matcher, Settings())
    shown = []
    for frame in SyntheticSource(frames(count, {0: 70, change: 190}), fps=30):
        for track in live.step(frame, False).ended:
            live.identities.forget(track.id)
        shown.append({s.match.name for s in live.sightings(frame.time) if s.match.name is not None})
    return shown


@pytest.mark.parametrize("similarity", [0.80, 0.87, 0.90])
def test_a_stranger_who_takes_over_a_track_does_not_keep_the_name(similarity: float) -> None:
    shown = names_shown(similarity, still(50, 300), 300, change=60, threshold=0.945)
    assert shown[59] == {"Friend"}
    assert not any(shown[60 + 45 + 6 :]), "the next look comes within 45 frames, a second one confirms it"


def test_a_friend_whose_views_differ_keeps_the_name() -> None:
    shown = names_shown(0.93, still(50, 300), 300, change=60, threshold=0.945)
    assert all(names == {"Friend"} for names in shown[20:])


@pytest.mark.parametrize(("threshold", "name"), [(0.94, {"Friend"}), (0.965, set())])
def test_a_return_is_no_shortcut_past_the_threshold(threshold: float, name: set[str]) -> None:
    """Who comes two seconds after a friend left is the friend only if as alike as this gallery demands."""
    script = still(50, 60) | still(180, 180, since=120)
    shown = names_shown(0.95, script, 180, change=90, threshold=threshold)
    assert shown[50] == {"Friend"} and not shown[110]
    assert set().union(*shown[120:]) == name


def test_who_was_seen_beside_a_friend_is_not_the_friend_afterwards() -> None:
    """Both resemble the friend enough; together only one has the name, and the other does not inherit it."""
    pair = {k: [(50.0, 60.0, 80.0, 80.0), (200.0, 60.0, 80.0, 80.0)] for k in range(60)}
    script = pair | {k: [(200.0, 60.0, 80.0, 80.0)] for k in range(60, 140)}
    images = frames(140)
    for image in images:
        image[1:, 180:] = np.clip(image[1:, 180:].astype(int) + 120, 0, 255)
    matcher = Matcher(("Friend",), np.zeros(1, np.int32), beside(1.0)[None], threshold=0.945)
    live = Recogniser(FakeDetector(script), FakeLandmarks(), TwoFaces(0.97), matcher, Settings())
    beside_whom, alone = set(), set()
    for frame in SyntheticSource(images, fps=30):
        for track in live.step(frame, False).ended:
            live.identities.forget(track.id)
        for sighting in live.sightings(frame.time):
            if sighting.match.name is not None:
                (beside_whom if frame.index < 60 else alone).add(round(sighting.face.box[0]) // 100)
    assert beside_whom == {0}, "the left one is the friend"
    assert not alone - {0}, "the right one is not, also when the friend is gone"


def test_a_promise_that_cannot_be_kept_is_not_made(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an impostor curve the threshold does not rise with the gallery, and the user is told."""
    vector = np.eye(1, engine.embedder.dim, dtype=np.float32)[0]
    with Gallery.open() as gallery:
        gallery.add("Ada", [Sample(Template(vector, engine.embedder.space), "digest", "photo", 1.0)])
        common.open_matcher(engine, gallery)
        assert "curve" not in capsys.readouterr().err
        common.open_matcher(replace(engine, curve=None), gallery)
        assert "--max-false-names cannot be kept" in capsys.readouterr().err
        common.open_matcher(replace(engine, curve=None, settings=Settings(threshold=0.96)), gallery)
        assert "curve" not in capsys.readouterr().err
