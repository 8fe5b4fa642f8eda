"""Picking the samples of a moving person: of like views the best, of many the most different ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from facecam.enrolment import ADDED, DUPLICATE, EnrolOptions, Verdict
from facecam.guidance import Picker
from facecam.values import Image, Sample, Template

PICTURE: Image = np.zeros((8, 8, 3), np.uint8)


class FakeEnroller:
    """Judges pictures to be views that it was given: (degrees turned, quality)."""

    def __init__(self, samples: int) -> None:
        self.options = EnrolOptions(samples=samples)
        self.engine = SimpleNamespace(threshold=0.5)
        self.view = (0.0, 1.0)

    def judge(self, image: Image, source: str, digest: str, least: float) -> Verdict:
        angle, quality = np.radians(self.view[0]), self.view[1]
        vector = np.array([np.cos(angle), np.sin(angle)], np.float32)
        marks = np.zeros((5, 2), np.float32)
        return Verdict(source, ADDED, "", Sample(Template(vector, "s"), digest, source, quality, b"x", marks, "dlib5"))


def picked(samples: int, views: list[tuple[float, float]]) -> tuple[list[str], list[Sample]]:
    """The verdicts on views one after another, and the choice."""
    enroller: Any = FakeEnroller(samples)
    picker, kinds = Picker(enroller), []
    for number, view in enumerate(views):
        enroller.view = view
        kinds.append(picker.offer(PICTURE, f"{number}", f"{number}").kind)
    return kinds, picker.chosen()


def test_a_better_view_late_in_a_video_takes_the_place_of_its_like() -> None:
    kinds, chosen = picked(3, [(0, 0.6), (20, 0.7), (40, 0.8), (1, 0.9), (21, 0.65)])
    assert kinds == [ADDED, ADDED, ADDED, ADDED, DUPLICATE]
    assert sorted(sample.source for sample in chosen) == ["1", "2", "3"]


def test_of_more_views_than_are_kept_the_poorest_go() -> None:
    for samples in (1, 3, 5):
        views = [(12.0 * k, 0.6 + 0.3 * ((k * 7) % 13) / 13) for k in range(5 * samples)]
        kinds, chosen = picked(samples, views)
        assert set(kinds) == {ADDED} and len(chosen) == samples
        assert len({id(sample) for sample in chosen}) == samples
