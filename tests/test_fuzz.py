"""Fuzz targets: what reads strangers' bytes ends in an answer or in one line. ``make fuzz`` runs them for minutes.

What it found stands below as tests of their own.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from facecam.archive.recall import track_boxes
from facecam.errors import FacecamError, GalleryError, ModelInvalid, SourceError, UsageFault
from facecam.people.incoming import read_people
from facecam.people.names import clean_name, escaped, file_stem
from facecam.values import Face, Match, Sighting
from facecam.video import overlay
from facecam.zoo import dlib
from facecam.zoo.card import ModelCard
from fuzz import files
from fuzz.mutate import mutated, mutated_json

EXAMPLES = int(os.environ.get("FACECAM_FUZZ", "80"))
SEEDS = st.integers(0, 2**48)
READERS = {"detector": dlib.read_detector, "embedder": dlib.read_embedder, "landmarks": dlib.read_landmarks}

fuzzed = settings(max_examples=EXAMPLES, deadline=None)


def one_line(error: Exception) -> None:
    text = str(error)
    assert text and "\n" not in text and len(text) < 2000, text[:300]


@cache
def weights(role: str) -> bytes:
    """The real file; of the two long ones what is read before their numbers alone follow."""
    return dlib.weights_path(role).read_bytes()


@fuzzed
@given(role=st.sampled_from(sorted(READERS)), seed=SEEDS)
def test_dlib_reader(role: str, seed: int) -> None:
    data = weights(role)
    chance = random.Random(seed)
    at = 0 if role == "landmarks" else chance.choice((0, 0, len(data) // 2))  # layers stand between the numbers
    end = at + chance.choice((2_000, 20_000))
    try:
        READERS[role](data[:at] + mutated(data[at:end], chance) + data[end:])
    except ModelInvalid as error:
        one_line(error)


def card() -> bytes:
    from facecam.zoo.graph import card_of, parse

    found = card_of(parse(files.model(), "model"))
    assert found is not None
    return found.to_json().encode()


CARD = card()


@fuzzed
@given(seed=SEEDS)
def test_model_card(seed: int) -> None:
    try:
        found = ModelCard.from_json(mutated_json(CARD, random.Random(seed)).decode(errors="surrogateescape"))
    except ModelInvalid as error:
        one_line(error)
    else:
        assert np.isfinite([*found.mean, *found.std]).all() and ModelCard.from_json(found.to_json()) == found


EXPORT = files.export()


@fuzzed
@given(seed=SEEDS)
def test_gallery_import(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.json"
        path.write_bytes(mutated_json(EXPORT, random.Random(seed)))
        try:
            people = read_people(path)
        except (GalleryError, UsageFault) as error:
            one_line(error)
        else:
            for name, records, _ in people:
                assert clean_name(name) == name and records
                for record in records:
                    assert all(abs(np.linalg.norm(v) - 1) < 1e-3 for v in record.vectors.values())


LINES = [
    {"type": "header", "schema": "facecam.sightings/1", "source": "a.mp4"},
    *(
        {"type": "frame", "frame": i, "time": i / 25, "faces": [{"track": 1, "box": [10.0, 12.5, 40.0, 41.0]}]}
        for i in range(3)
    ),
    {"type": "summary", "frames": 3},
]


def boxes_of(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.sightings.jsonl"
        path.write_bytes(b"\n".join(lines))
        try:
            found = track_boxes(path, 1)
        except (SourceError, UsageFault) as error:
            one_line(error)
        else:
            assert found and all(np.isfinite(box).all() and box[2] > 0 and box[3] > 0 for box in found.values())


@fuzzed
@given(seed=SEEDS, line=st.integers(0, 4))
def test_sightings_reader(seed: int, line: int) -> None:
    lines = [json.dumps(entry).encode() for entry in LINES]
    lines[line] = mutated_json(lines[line], random.Random(seed))
    boxes_of(lines)


@fuzzed
@given(st.text(st.characters(), max_size=80))
@example("\u202e\u0301" * 40)
@example("\u200d" * 80)
@example("\U000e0001\ufdfa\ud83d")
def test_overlay_names(name: str) -> None:
    image = np.zeros((60, 90, 3), np.uint8)
    overlay.draw(image, [Sighting(1, Face((10.0, 10.0, 30.0, 30.0), 1.0), Match(name, 0.9))], hud=[name])
    assert "\n" not in escaped(name) and "\x1b" not in escaped(name)
    assert "/" not in file_stem(name) and file_stem(name) not in ("", ".", "..")
    try:
        assert escaped(clean_name(name)) == clean_name(name)
    except FacecamError as error:
        one_line(error)


def test_an_injured_document_is_a_function_of_its_seed_alone() -> None:
    # Two injuries of one document must not leave anything behind for the next: a list that came to hold itself
    # made every later document endless, until memory was full.
    seeds = [*range(600), *range(600)]
    found = [mutated_json(EXPORT, random.Random(seed)) for seed in seeds]
    assert found[:600] == found[600:]


# What fuzzing found


def test_lengths_of_a_dlib_file_that_contradict_each_other() -> None:
    with pytest.raises(ModelInvalid, match="damaged"):  # a scale before there is anything to scale
        dlib.read_embedder(
            weights("embedder").replace(bytes([1, 5]) + b"con_4", bytes([1, 5]) + b"con_5", 1)[: 1 << 20]
        )


def test_a_whole_number_of_many_digits_in_a_card() -> None:
    text = CARD.decode().replace('"dim": 8', '"dim": ' + "9" * 5000)
    with pytest.raises(ModelInvalid, match="not JSON"):
        ModelCard.from_json(text)


@pytest.mark.parametrize("depth", [300, 900, 3000])
def test_facts_nested_without_end_in_a_card(depth: int) -> None:
    text = CARD.decode().replace('"training": {', '"training": {"a": ' + "[" * depth + "]" * depth + ", ", 1)
    text = text.replace(", }", "}")
    assert "[" * depth in text
    with pytest.raises(ModelInvalid):
        ModelCard.from_json(text)


def test_a_card_s_calibration_is_a_sentence() -> None:
    text = json.dumps({**json.loads(CARD), "threshold": {"value": 0.5, "kind": "cosine", "calibration": [[]]}})
    with pytest.raises(ModelInvalid, match="calibration"):
        ModelCard.from_json(text)


@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "NaN"])
def test_a_card_s_mean_is_finite(value: str) -> None:
    text = CARD.decode().replace('"mean": [127.5', f'"mean": [{value}')
    assert value in text
    with pytest.raises(ModelInvalid):
        ModelCard.from_json(text)


@pytest.mark.parametrize("value", ["Infinity", "1e400", "-Infinity", "9" * 5000, "1" + "0" * 400])
@pytest.mark.parametrize("place", ["track", "frame", "box"])
def test_an_endless_number_in_the_sightings(place: str, value: str) -> None:
    lines = [json.dumps(entry) for entry in LINES]
    lines[2] = {
        "track": lines[2].replace('"track": 1', f'"track": {value}'),
        "frame": lines[2].replace('"frame": 1', f'"frame": {value}'),
        "box": lines[2].replace("12.5", value),
    }[place]
    assert value in lines[2]
    boxes_of([line.encode() for line in lines])
