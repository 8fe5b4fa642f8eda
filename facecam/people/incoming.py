"""An export's bytes, read as a stranger's: bounded in size and memory, every field checked, no path taken."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facecam.errors import GalleryError, UsageFault
from facecam.people.images import image_size
from facecam.people.names import NAME_MAX, NOTE_MAX, clean_date, clean_name, clean_note, escaped, quoted
from facecam.people.records import Consent, Record
from facecam.values import LANDMARK_SCHEMES

#: The second one adds consent.
SCHEMAS: Final = ("facecam.gallery/1", "facecam.gallery/2")
#: Bytes of an import file.
SIZE_MAX: Final = 512 << 20
#: Above this an import file is ASCII, as exports are: one emoji makes Python's text four times as large.
NOT_ASCII_MAX: Final = 64 << 20
#: Commas, brackets and braces of an import file. A parsed entry takes up to some hundred bytes of
#: memory, so a file of brackets alone would need thirty times its size. A sample has about 30.
MARKS_MAX: Final = 4_000_000
CROP_BYTES_MAX: Final = 1 << 20
CROP_SIDE_MAX: Final = 256
DIMENSION_MAX: Final = 65536


class Newcomer(NamedTuple):
    """Somebody in an export file: a clean name that comes once, and at least one record."""

    name: str
    records: list[Record]
    consent: Consent | None


def read_people(file: Path, size_max: int = SIZE_MAX) -> list[Newcomer]:
    """The people of an export file.

    Args:
        size_max: bytes.

    Raises:
        UsageFault: the file cannot be read, or holds a name that cannot be one.
        GalleryError: not such a file, too large, or wrong in any field.
    """
    return _parse(_read(file, size_max), escaped(str(file)))


def _read(file: Path, size_max: int) -> bytes:
    shown = escaped(str(file))
    try:
        facts = os.stat(file)
        if not stat.S_ISREG(facts.st_mode):  # opening a pipe would wait for ever
            raise UsageFault(f"{shown}: expected a file written by facecam people export, not a folder or device")
        with open(file, "rb") as source:
            data = source.read(min(facts.st_size, size_max) + 1)
    except OSError as error:
        raise UsageFault(
            f"{shown}: cannot be read ({error.strerror or error}); name a file written by facecam people export"
        ) from error
    except ValueError as error:  # a NUL in the path
        raise UsageFault(f"{shown}: is no file name ({error})") from error
    if len(data) > size_max:
        raise GalleryError(f"{shown}: is larger than {size_max >> 20} MiB; export fewer people a file")
    if sum(data.count(mark) for mark in b",[{") > MARKS_MAX:
        raise GalleryError(f"{shown}: has more than {MARKS_MAX} entries; export fewer people a file")
    if len(data) > NOT_ASCII_MAX and not data.isascii():
        raise GalleryError(f"{shown}: is not ASCII, as an export of its size is; export it again")
    return data


def _parse(data: bytes, shown: str) -> list[Newcomer]:
    """People and their records of an export's bytes, every field checked."""
    try:
        text = data.decode("utf-8")
        del data  # the largest file fits into memory twice at most
        document = json.loads(text, parse_constant=_refuse_constant)
        del text
        return list(_people(document))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        what, place = ("text", error.start) if isinstance(error, UnicodeDecodeError) else ("JSON", error.pos)
        raise GalleryError(
            f"{shown}: is not a whole facecam export: it is no {what} from character {place} on; nobody was imported: "
            "name a file that facecam people export wrote"
        ) from error
    except RecursionError as error:
        raise GalleryError(f"{shown}: is nested too deep for a facecam export; nobody was imported") from error
    except ValueError as error:  # a field that `_people` refuses
        raise GalleryError(
            f"{shown}: is not a whole facecam export: {_one_line(error)}; nobody was imported: export it again"
        ) from error
    except UsageFault as error:
        raise UsageFault(f"{shown}: {error}; nobody was imported") from error


def _one_line(error: Exception) -> str:
    text = escaped(" ".join(str(error).split()))
    return text if len(text) <= 200 else text[:197] + "..."


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _people(document: Any) -> Iterator[Newcomer]:
    """As `_parse`; a ValueError says what is wrong and where."""
    if not isinstance(document, dict) or document.get("schema") not in SCHEMAS:
        raise ValueError(f"it does not state the schema {SCHEMAS[-1]}")
    fields = ("name", "samples") if document["schema"] == SCHEMAS[0] else ("name", "consent", "samples")
    _keys(document, ("schema", "created", "people"), "the file")
    _time(document["created"], "the file's created")
    names: set[str] = set()
    for i, person in enumerate(_list(document["people"], "people")):
        _keys(person, fields, f"person {i}")
        name = clean_name(_text(person["name"], f"person {i}'s name", 50 * NAME_MAX))
        if name in names:
            raise ValueError(f"{quoted(name)} comes twice")
        names.add(name)
        samples = _list(person["samples"], f"{quoted(name)}'s samples")
        if not samples:
            raise ValueError(f"{quoted(name)} has no samples")
        consent = _consent(person.get("consent"), f"{quoted(name)}'s consent")
        records = [_record(sample, f"{quoted(name)}'s sample {k}") for k, sample in enumerate(samples)]
        yield Newcomer(name, records, consent)


def _consent(value: Any, where: str) -> Consent | None:
    if value is None:
        return None
    _keys(value, ("note", "date"), where)
    return Consent(clean_note(_text(value["note"], where, NOTE_MAX)), clean_date(_text(value["date"], where, 10)))


def _record(sample: Any, where: str) -> Record:
    fields = ("digest", "source", "quality", "created", "scheme", "landmarks", "crop", "vectors")
    _keys(sample, fields, where)
    picture = sample.pop("crop")  # the text is let go of as its bytes are made
    crop = None if picture is None else _crop(picture, f"{where}'s crop")
    del picture
    landmarks = None
    if sample["landmarks"] is not None:
        landmarks = _landmarks(sample["landmarks"], f"{where}'s landmarks")
    scheme = sample["scheme"]
    if (landmarks is None) != (scheme is None) or scheme not in (None, *LANDMARK_SCHEMES):
        raise ValueError(f"{where}'s scheme does not fit its landmarks")
    if landmarks is not None and crop is None:
        raise ValueError(f"{where} has landmarks without the crop that they are pixels of")
    vectors = sample["vectors"]
    if not isinstance(vectors, dict) or not 1 <= len(vectors) <= 16:
        raise ValueError(f"{where}'s vectors are not 1 to 16 by space")
    return Record(
        digest=_token(sample["digest"], f"{where}'s digest"),
        source=escaped(_text(sample["source"], f"{where}'s source", 1000)),
        quality=_number(sample["quality"], f"{where}'s quality", 0.0, 1.0),
        created=_time(sample["created"], f"{where}'s created"),
        vectors={_token(s, f"{where}'s space"): _vector(v, f"{where}'s vector") for s, v in vectors.items()},
        crop=crop,
        crop_bytes=len(crop or b""),
        landmarks=landmarks,
        scheme=scheme,
    )


def _keys(value: Any, names: Sequence[str], where: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not a table")
    for name in names:
        if name not in value:
            raise ValueError(f"{where} has no {name!r}")
    if len(value) > len(names):
        raise ValueError(f"{where} has an entry {sorted(set(value) - set(names))[0]!r} that is not known")


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{where} is not a list")
    return value


def _text(value: Any, where: str, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{where} is not a text of at most {longest} characters")
    return value


def _token(value: Any, where: str) -> str:
    text = _text(value, where, 128)
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{where} is not 1 to 128 printable ASCII characters")
    return text


def _time(value: Any, where: str) -> str:
    text = _token(value, where)
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text):
        raise ValueError(f"{where} is not a time like 2026-01-31T12:00:00Z")
    return text


def _number(value: Any, where: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{where} is not a number from {low:g} to {high:g}")
    return float(value)


def _bytes(value: Any, where: str, most: int) -> bytes:
    text = _text(value, where, (most + 2) // 3 * 4)
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"{where} is not base64") from error


def _landmarks(value: Any, where: str) -> NDArray[np.float32]:
    points = _list(value, where)
    if len(points) != 5 or not all(isinstance(p, list) and len(p) == 2 for p in points):
        raise ValueError(f"{where} are not five pairs")
    # Points may lie outside the crop, but not further than it is wide.
    low, high = -float(CROP_SIDE_MAX), 2.0 * CROP_SIDE_MAX
    return np.array([[_number(v, where, low, high) for v in p] for p in points], np.float32)


def _vector(value: Any, where: str) -> NDArray[np.float32]:
    raw = _bytes(value, where, 4 * DIMENSION_MAX)
    if not raw or len(raw) % 4:
        raise ValueError(f"{where} is not a row of float32")
    vector = np.frombuffer(raw, "<f4").astype(np.float32)
    with np.errstate(all="ignore"):  # absurd values overflow, and a NaN fails every comparison
        norm = float(np.linalg.norm(vector.astype(np.float64)))
    if not abs(norm - 1.0) < 1e-3:
        raise ValueError(f"{where} does not have norm 1")
    return vector


def _crop(value: Any, where: str) -> bytes:
    crop = _bytes(value, where, CROP_BYTES_MAX)
    size = image_size(crop)
    if size is None:
        raise ValueError(f"{where} is neither PNG nor JPEG")
    if not all(1 <= side <= CROP_SIDE_MAX for side in size):
        raise ValueError(f"{where} is {size[0]} x {size[1]} px, more than {CROP_SIDE_MAX}")
    return crop
