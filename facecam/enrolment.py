"""Photos to samples of a person: which face, good enough or not and why, and never the same one twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.engine import Engine
from facecam.errors import FacecamError, MediaError
from facecam.people.check import outlier_bound, own_similarity
from facecam.people.quality import MIN_SHARPNESS, MIN_SIZE, Quality, measure
from facecam.values import Face, Image, Sample, Template
from facecam.video.photos import IMAGE_SUFFIXES, decode_photo, read_bytes
from facecam.vision.align import align, context_crop
from facecam.vision.landmarks import locate_steadily
from facecam.vision.still import embed_stills, still_crops

#: Two faces in a photo are one clear face and a bystander when they differ this much in size.
DOMINANT: Final = 1.6

#: Verdicts, in the words that the user reads.
ADDED: Final = "added"
NO_FACE: Final = "no face"
SEVERAL: Final = "several faces"
TOO_SMALL: Final = "too small"
TOO_BLURRED: Final = "too blurred"
DUPLICATE: Final = "duplicate"
UNREADABLE: Final = "cannot be read"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one picture.

    Attributes:
        source: its name; kind: one of the verdicts above; detail: why, with figures, and what to do.
        sample: there when the kind is "added".
        faces: how many it shows; of several the largest was judged.
        fault: what makes an added one poor, in a word (`Quality.fault`).
    """

    source: str
    kind: str
    detail: str = ""
    sample: Sample | None = None
    faces: int = 1
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class EnrolOptions:
    """How to take samples.

    Attributes:
        largest: of several faces take the largest instead of refusing.
        keep_crops: store the upright context crop, from which another model can embed later.
        samples: how many to take from a video or the camera.
    """

    largest: bool = False
    keep_crops: bool = True
    samples: int = 5


class Enroller:
    """Turns pictures into samples with one engine."""

    def __init__(self, engine: Engine, options: EnrolOptions) -> None:
        self.engine = engine
        self.options = options

    def photo(self, path: Path, known: Callable[[str], bool]) -> Verdict:
        """Judge a photo.

        Args:
            known: tells whether a content hash is enrolled for this person already.
        """
        name = path.name
        try:
            data = read_bytes(path)  # which no pipe, device or giant gets past
            digest = hashlib.sha256(data).hexdigest()
            if known(digest):
                return Verdict(name, DUPLICATE, "this very file is enrolled already; skipped")
            image = decode_photo(data, str(path))
        except MediaError as error:
            return Verdict(name, UNREADABLE, str(error).removeprefix(f"{path}: "))
        return self.judge(image, name, digest)

    def judge(self, image: Image, source: str, digest: str, least: float = MIN_SIZE * 0.6) -> Verdict:
        """Judge a picture that shows one person.

        Args:
            image: BGR uint8, H x W x 3, upright.
            least: smallest face to look for, pixels; smaller than what is taken, so that a small one can be told
                from none, where time allows it.
        """
        face, found = self.choose(image, source, least)
        if face is None:
            return found
        face = locate_steadily(self.engine.landmarker, image, [face])[0]
        crop = align(image, face, self.engine.embedder.template)
        quality = measure(crop, face)
        if quality.pixels < MIN_SIZE:
            return Verdict(
                source, TOO_SMALL, f"the face has {quality.pixels:.0f} pixels, at least {MIN_SIZE:.0f} needed"
            )
        if quality.laplacian < MIN_SHARPNESS:
            return Verdict(
                source,
                TOO_BLURRED,
                f"sharpness {quality.laplacian:.1f}, at least {MIN_SHARPNESS:.0f} needed; give a sharper photo",
            )
        praise = f"quality {quality.overall:.2f}, face {quality.pixels:.0f} pixels"
        if found.faces > 1:
            praise += f"; took the {'larger' if found.faces == 2 else 'largest'} of {found.faces} faces"
        if quality.fault:
            praise += f"; {quality.fault}: a better one tells people apart more surely"
        sample = self.sample(image, face, quality, source, digest)
        return Verdict(source, ADDED, praise, sample, found.faces, quality.fault)

    def choose(self, image: Image, source: str, least: float) -> tuple[Face | None, Verdict]:
        """The face to take, and how many there are; None with the verdict that says why none is taken.

        Args: as `judge`.
        """
        faces = self.engine.detector.detect(image, least)
        if not faces:
            return None, Verdict(source, NO_FACE, "no face found; give a photo that shows it from the front")
        faces = sorted(faces, key=lambda f: -f.size)
        if len(faces) > 1 and not self.options.largest and faces[0].size < DOMINANT * faces[1].size:
            return None, Verdict(source, SEVERAL, f"{len(faces)} faces; crop the photo or use --largest")
        return faces[0], Verdict(source, ADDED, faces=len(faces))

    def sample(self, image: Image, face: Face, quality: Quality, source: str, digest: str) -> Sample:
        """The sample of a face that was chosen.

        Raises:
            FacecamError: its crop cannot be encoded.
        """
        crops = still_crops(image, face, self.engine.embedder.template)
        vector = embed_stills(self.engine.embedder, [crops])[0]
        template = Template(vector, self.engine.embedder.space)
        if not self.options.keep_crops:
            return Sample(template, digest, source, quality.overall)
        context, points = context_crop(image, face)
        ok, data = cv2.imencode(".png", context)
        if not ok:
            raise FacecamError(f"{source}: the crop could not be encoded; use --no-keep-crops")
        return Sample(template, digest, source, quality.overall, data.tobytes(), points, face.scheme)


def without_outliers(
    samples: Sequence[Sample], known: NDArray[np.float32], threshold: float
) -> tuple[list[Sample], list[tuple[Sample, float]]]:
    """Refuse samples unlike the rest of their person, worst first; with fewer than three nobody can tell.

    Args:
        known: float32, n x D: vectors of the person that are enrolled already.
        threshold: similarity that says "the same person" of two pictures.

    Returns:
        those kept, and those refused with their similarity to the rest.
    """
    kept, refused = list(samples), []
    while kept and len(kept) + len(known) >= 3:
        vectors = np.stack([s.template.vector for s in kept])
        if len(known):
            vectors = np.concatenate([vectors, known])
        own = own_similarity(vectors)[: len(kept)]
        worst = int(own.argmin())
        if own[worst] >= outlier_bound(threshold):
            break
        refused.append((kept.pop(worst), float(own[worst])))
    return kept, refused


def expand_photos(paths: Sequence[Path]) -> list[Path]:
    """Photos in the order given; a folder stands for the photos in it, recursively."""
    out: list[Path] = []
    for path in paths:
        if path.is_dir():
            out += sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        else:
            out.append(path)
    return out
