"""The scripts that print tables: what they count, and the clips that they compose."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import compose
from benchmarks.coverage import coverage
from benchmarks.gallery import DIM, measure
from benchmarks.peers import quality
from facecam.evaluate.truth import Appearance, read_truth
from facecam.values import Box
from facecam.video.container import FileSource

boxes = st.lists(
    st.tuples(*(st.integers(0, 90) for _ in range(2)), *(st.integers(5, 40) for _ in range(2))).map(
        lambda b: tuple(float(v) for v in b)
    ),
    max_size=5,
)


@given(boxes, boxes)
def test_covered_faces_are_counted_once_each(wanted: list[Box], given_: list[Box]) -> None:
    result = coverage({0: wanted}, {0: given_})
    assert result.faces == len(wanted)
    assert result.covered + sum(map(len, result.missed.values())) == len(wanted)
    assert result.covered + result.extra == len(given_)
    assert coverage({0: wanted}, {0: wanted}).share == 1.0


def test_a_box_that_fits_two_faces_counts_for_the_one_it_fits_better() -> None:
    near, far, box = (0.0, 0.0, 10.0, 10.0), (3.0, 0.0, 10.0, 10.0), (1.0, 0.0, 10.0, 10.0)
    result = coverage({0: [far, near]}, {0: [box]})
    assert (result.covered, result.extra, result.missed) == (1, 0, {0: [far]})


def test_frames_that_nobody_looked_at_say_nothing() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    result = coverage({0: [box], 5: []}, {0: [box], 1: [box], 5: [box]})
    assert (result.faces, result.covered, result.extra) == (1, 1, 1)


def test_a_peers_frames_are_scored_as_ours_are() -> None:
    truth = [Appearance(0, 3, "Ada", frames=True)]
    here: list[object] = [0.0, 0.0, 50.0, 50.0]
    frames = [[["Ada", *here]], [[None, *here]], [["Bob", *here]], []]
    figures = quality(frames, truth, {"Ada", "Bob"}, {i: [(0.0, 0.0, 50.0, 50.0)] for i in range(4)})
    assert figures["people"]["Ada"]["named_right"] == 1 and figures["recall"] == pytest.approx(0.25)
    assert figures["false_name_frames"] == 1 and figures["found"] == 0.75


def test_visibility_counts_the_border_and_who_stands_in_front() -> None:
    behind, front, outside = (10.0, 10.0, 20.0, 20.0), (20.0, 10.0, 20.0, 20.0), (-10.0, 0.0, 20.0, 20.0)
    assert compose.visible([behind, front], 100, 100) == [0.5, 1.0]
    assert compose.visible([outside], 100, 100) == [0.5]


def test_clips_are_never_composed_into_the_project() -> None:
    with pytest.raises(SystemExit, match="inside the project"):
        compose.compose(compose.ROOT / "docs")


@pytest.mark.data
def test_a_composed_clip_has_its_people_where_the_truth_says(tmp_path: Path) -> None:
    clip = compose.compose(tmp_path, size=(640, 360), faces=4, seconds=0.4)
    with FileSource(clip) as source:
        assert sum(1 for _ in source) == 12 and (source.info.width, source.info.height) == (640, 360)
    with clip.with_suffix(".boxes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 * 4 and len({row["name"] for row in rows}) == 4
    truth = read_truth(clip.with_suffix(".truth.csv"))
    known = {folder.name for folder in clip.with_suffix(".people").iterdir()}
    assert len(known) == 3, "one of four is a stranger"
    assert {a.name for a in truth} <= known | {None}
    again = compose.compose(tmp_path / "again", size=(640, 360), faces=4, seconds=0.4)
    assert again.with_suffix(".boxes.csv").read_bytes() == clip.with_suffix(".boxes.csv").read_bytes()


@pytest.mark.parametrize("kind", ["exact", "half"])
@pytest.mark.parametrize("samples", [1, 3])
def test_the_table_of_matching_is_of_right_answers(kind: str, samples: int) -> None:
    if kind == "half":
        pytest.importorskip("faiss", reason="FAISS is not installed (extra large)")
    row = measure(500, samples, kind, runs=3)
    assert row["same"] == 1.0 and row["off"] < (1e-5 if kind == "exact" else 1e-3)
    assert row["one_ms"] > 0 and row["people"] == 500
    assert np.isfinite(list(v for v in row.values() if isinstance(v, float))).all() and DIM == 128
