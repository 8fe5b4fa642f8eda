"""The user's own people and strangers, compared: what ``facecam calibrate`` measures and prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facecam.engine import Engine
from facecam.enrolment import expand_photos
from facecam.errors import MediaError, UsageFault
from facecam.people.calibrate import Calibration, ImpostorCurve, calibrate
from facecam.people.gallery import Gallery
from facecam.people.match import Matcher
from facecam.settings import min_face_pixels
from facecam.video.photos import read_photo
from facecam.vision.landmarks import locate_steadily
from facecam.vision.still import embed_stills, still_crops


@dataclass(frozen=True, slots=True)
class Study:
    """Similarities of strangers and of the people's own samples.

    Attributes:
        names, samples: the enrolled people and how many samples each has.
        impostors: float32, strangers x people; NaN where it is that very person.
        genuine: float32: each sample against the rest of its own person, for people with two or more.
        owner: int, as long as ``genuine``: whose it is.
        photos: names of the photos of strangers in which a face was found: the last rows of ``impostors``.
    """

    engine: Engine
    curve: ImpostorCurve
    names: tuple[str, ...]
    samples: tuple[int, ...]
    impostors: NDArray[np.float32]
    genuine: NDArray[np.float32]
    owner: NDArray[np.int64]
    photos: tuple[str, ...]

    @classmethod
    def of(
        cls, engine: Engine, gallery: Gallery, unknown: Path | None, progress: Callable[[int, int | None], None]
    ) -> Study:
        """Measure.

        Raises:
            UsageFault: nobody is enrolled, or the embedder has no impostor curve to refine.
        """
        if engine.curve is None:
            raise UsageFault("this embedder has no impostor curve to refine; choose a threshold with --threshold")
        templates = gallery.templates(engine.embedder.space)
        present = sorted(set(templates.owner.tolist()))
        if not present:
            raise UsageFault(
                "nobody is enrolled, so there is nothing to calibrate; run: facecam enroll --name NAME PHOTO"
            )
        matcher = Matcher(templates.names, templates.owner, templates.vectors, threshold=1.0)
        own = matcher.similarities(templates.vectors)
        for row, owner in zip(own, templates.owner):
            row[present.index(owner)] = np.nan  # a person is no stranger to themselves
        found = list(_faces(engine, unknown, progress)) if unknown is not None else []
        rows = [own, matcher.similarities(np.stack([vector for _, vector in found]))] if found else [own]
        genuine, owner = _genuine(templates.owner, templates.vectors)
        return cls(
            engine,
            engine.curve,
            tuple(templates.names[i] for i in present),
            tuple(int((templates.owner == i).sum()) for i in present),
            np.concatenate(rows),
            genuine,
            np.searchsorted(present, owner),
            tuple(path.name for path, _ in found),
        )

    def calibrate(self) -> Calibration:
        """What the numbers say; see people.calibrate."""
        return calibrate(self.curve, self.names, self.samples, self.impostors)

    def report(self, result: Calibration) -> Iterator[str]:
        """Lines for people: the curve, the choice, what it costs."""
        risk = self.engine.settings.max_false_names
        before = self.engine.threshold_for(self.samples)
        chosen = self.engine.threshold_for(self.samples, result)
        compared = int(np.isfinite(self.impostors).sum())
        people = "1 person" if len(self.names) == 1 else f"{len(self.names)} people"
        faces = "1 stranger's face" if len(self.photos) == 1 else f"{len(self.photos)} strangers' faces"
        yield f"{people}, {faces}, {compared} comparisons"
        yield "similarity  strangers that reach it  own samples that reach it"
        for similarity in (0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97):
            yield f"     {similarity:.2f}  {self._reached(similarity):23.3%}  {self._kept(similarity):>25}"
        yield f"threshold {chosen:.4f} for at most {risk:g} false names a stranger (built-in curve: {before:.4f})"
        kept, had = self._kept(chosen, result.offsets), self._kept(before)
        yield f"it keeps {kept} of the people's own samples (before: {had})"
        for name, offset in sorted(result.offsets.items()):
            yield f"{name}: {offset:+.4f}, strangers resemble this person more than others"

    def doubtful(self) -> Iterator[str]:
        """Lines on strangers' photos that this gallery would name: they may show that very person.

        One such photo moves the threshold far, so that nobody would be recognised any more.
        """
        limit = self.engine.threshold_for(self.samples)
        for photo, row in zip(self.photos, self.impostors[len(self.impostors) - len(self.photos) :]):
            best = int(row.argmax())
            if row[best] >= limit:
                yield f"{photo} looks like {self.names[best]} ({row[best]:.3f})"

    def _reached(self, similarity: float) -> float:
        """Share of strangers who reach a similarity to anybody."""
        compared = np.isfinite(self.impostors).any(axis=1)  # not the samples of a person who is alone
        best = np.nanmax(self.impostors[compared], axis=1)
        return float((best >= similarity).mean())

    def _kept(self, threshold: float, offsets: Mapping[str, float] | None = None) -> str:
        """Share of the people's own samples that would be named."""
        if not len(self.genuine):
            return "unknown (one sample each)"
        limits = np.array([threshold + (offsets or {}).get(name, 0.0) for name in self.names])
        return f"{float((self.genuine >= limits[self.owner]).mean()):.1%}"


def _genuine(owner: NDArray[np.int32], vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Each sample against the others of its person, and whose it is."""
    scores, whose = [], []
    for i in range(len(owner)):
        others = vectors[(owner == owner[i]) & (np.arange(len(owner)) != i)]
        if len(others):
            matcher = Matcher(("x",), np.zeros(len(others), np.int32), others, threshold=1.0)
            scores.append(float(matcher.similarities(vectors[i : i + 1])[0, 0]))
            whose.append(int(owner[i]))
    return np.array(scores, np.float32), np.array(whose, np.int64)


def _faces(
    engine: Engine, folder: Path, progress: Callable[[int, int | None], None]
) -> Iterator[tuple[Path, NDArray[np.float32]]]:
    """Each photo with a face, and a vector of the largest."""
    photos = expand_photos([folder])
    found = False
    for number, path in enumerate(photos, 1):
        progress(number, len(photos))
        try:
            image = read_photo(path)
        except MediaError:
            continue  # a folder of strangers may hold other files, too; what counts is how many faces it gave
        faces = engine.detector.detect(image, min_face_pixels(engine.settings.min_face, image.shape[0]))
        if faces:
            face = locate_steadily(engine.landmarker, image, [max(faces, key=lambda f: f.size)])[0]
            found = True
            yield path, embed_stills(engine.embedder, [still_crops(image, face, engine.embedder.template)])[0]
    if not found:
        raise UsageFault(f"{folder}: no photo with a face; give photos of people who are not enrolled")
