"""Pictures to samples of a person: which face, good enough or not and why, and never the same one twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facecam.engine import Engine
from facecam.errors import FacecamError, MediaError
from facecam.people.check import outlier_bound, own_similarity
from facecam.people.quality import MIN_SHARPNESS, MIN_SIZE, Quality, measure, yaw
from facecam.values import Face, Frame, Image, Sample, Template
from facecam.video.photos import IMAGE_SUFFIXES, check_regular, decode_photo, read_bytes
from facecam.video.sources import FileSource
from facecam.vision.align import align, context_crop
from facecam.vision.landmarks import locate_steadily
from facecam.vision.still import embed_stills, still_crops

#: Two faces in a photo are one clear face and a bystander when they differ this much in size.
DOMINANT: Final = 1.6
#: Samples of one video or camera session must differ: cosine similarity below this.
TOO_ALIKE: Final = 0.985
#: A face in a video or before the camera is taken from this quality on.
GOOD: Final = 0.55
#: Smallest face looked for in a video or before the camera, pixels: whoever enrols is near, and must not wait.
NEAR: Final = 80.0
#: Frames between two looks at a video.
LOOK_EVERY: Final = 5

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
    """

    source: str
    kind: str
    detail: str = ""
    sample: Sample | None = None


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
        face, problem = self._choose(image, source, least)
        if face is None:
            return problem
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
        return Verdict(source, ADDED, _praise(quality), self._sample(image, face, quality, source, digest))

    def _choose(self, image: Image, source: str, least: float) -> tuple[Face | None, Verdict]:
        faces = self.engine.detector.detect(image, least)
        if not faces:
            return None, Verdict(source, NO_FACE, "no face found; give a photo that shows it from the front")
        faces = sorted(faces, key=lambda f: -f.size)
        if len(faces) > 1 and not self.options.largest and faces[0].size < DOMINANT * faces[1].size:
            return None, Verdict(source, SEVERAL, f"{len(faces)} faces; crop the photo or use --largest")
        return faces[0], Verdict(source, ADDED)

    def _sample(self, image: Image, face: Face, quality: Quality, source: str, digest: str) -> Sample:
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

    # --- moving pictures ---------------------------------------------------------------------------------

    def video(self, path: Path, known: Callable[[str], bool]) -> Iterator[Verdict]:
        """Take the best and most different samples of the one person that a video shows."""
        name = path.name
        try:
            check_regular(path)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            with FileSource(path) as frames:
                yield from self._best_of(frames, name, digest, known)
        except OSError as error:
            yield Verdict(name, UNREADABLE, f"{error.strerror or error}")
        except MediaError as error:
            yield Verdict(name, UNREADABLE, str(error).removeprefix(f"{path}: "))

    def _best_of(
        self, frames: Iterable[Frame], name: str, digest: str, known: Callable[[str], bool]
    ) -> Iterator[Verdict]:
        picker = Picker(self)
        several = seen = 0
        for frame in frames:
            if frame.index % LOOK_EVERY:
                continue
            seen += 1
            verdict = picker.offer(frame.image, f"{name} at {frame.time:.2f} s", f"{digest}:{frame.index}")
            several += verdict.kind == SEVERAL
        chosen = picker.chosen()
        if not chosen:
            if several:
                yield Verdict(name, SEVERAL, f"{several} of {seen} frames show several faces; use --largest")
            else:
                yield Verdict(name, NO_FACE, f"no good view of a face in {seen} frames looked at")
            return
        for sample in chosen:
            if known(sample.digest):
                yield Verdict(sample.source, DUPLICATE, "this frame is enrolled already; skipped")
            else:
                yield Verdict(sample.source, ADDED, f"quality {sample.quality:.2f}", sample)


class Picker:
    """Collects samples of one moving person: good ones that differ in pose and light, and of one person only."""

    def __init__(self, enroller: Enroller, *, spare: int = 3) -> None:
        self.enroller = enroller
        self.wanted = enroller.options.samples
        self._spare = spare
        self._samples: list[tuple[Sample, float]] = []

    def offer(self, image: Image, source: str, digest: str) -> Verdict:
        """Judge a frame and keep it if it adds something; the digest of a frame names its place in its source."""
        verdict = self.enroller.judge(image, source, hashlib.sha256(digest.encode()).hexdigest(), NEAR)
        sample = verdict.sample
        if sample is None:
            return verdict
        if sample.quality < GOOD:
            return Verdict(
                source, TOO_BLURRED, f"quality {sample.quality:.2f}, {GOOD:.2f} wanted; come closer, hold still"
            )
        close = [s for s, _ in self._samples if _similarity(s, sample) > TOO_ALIKE]
        if close and all(s.quality >= sample.quality for s in close):
            return Verdict(source, DUPLICATE, "like one already taken; move your head a little")
        self._samples = [(s, q) for s, q in self._samples if s not in close]
        self._samples.append((sample, sample.quality))
        # Keep more than wanted while looking; the choice comes last. Memory stays bounded.
        if len(self._samples) > self.wanted * self._spare:
            self._samples.remove(min(self._samples, key=lambda pair: pair[1]))
        return verdict

    def __len__(self) -> int:
        return len(self._samples)

    def chosen(self) -> list[Sample]:
        """The best sample, then those that differ most from all chosen so far; another person's are left out."""
        threshold = self.enroller.engine.threshold - 0.03
        pool = [s for s, _ in sorted(self._samples, key=lambda pair: -pair[1])]
        if not pool:
            return []
        # The person is whom most samples show: the one that agrees best with all others leads.
        vectors = np.stack([s.template.vector for s in pool])
        leader = pool[int((vectors @ vectors.T).sum(axis=1).argmax())]
        pool = [s for s in pool if s is leader or _similarity(s, leader) >= threshold]
        chosen = [leader]
        rest = [s for s in pool if s is not leader]
        while rest and len(chosen) < self.wanted:
            best = max(rest, key=lambda s: s.quality - 4.0 * max(_similarity(s, c) for c in chosen))
            chosen.append(best)
            rest.remove(best)
        return chosen


def _similarity(a: Sample, b: Sample) -> float:
    return float(a.template.vector @ b.template.vector)


def _praise(quality: Quality) -> str:
    return f"quality {quality.overall:.2f}, face {quality.pixels:.0f} pixels"


@dataclass(slots=True)
class Guide:
    """Leads a person through enrolment at the camera: what to do next, from what was seen.

    Attributes:
        taken: samples so far; message: what the user should do now.
    """

    enroller: Enroller
    taken: list[Sample] = field(default_factory=list)
    message: str = "look at the camera"
    _sides: list[float] = field(default_factory=list)
    _count: int = 0

    @property
    def done(self) -> bool:
        return len(self.taken) >= self.enroller.options.samples

    def offer(self, image: Image, session: str) -> Face | None:
        """Look at a live frame; takes a sample when it is good and new. Returns the face, for drawing."""
        face, problem = self.enroller._choose(image, "camera", NEAR)
        self._count += 1
        if face is None:
            self.message = (
                "no face: come into the picture" if problem.kind == NO_FACE else "one person at a time, please"
            )
            return None
        face = self.enroller.engine.landmarker.locate(image, [face])[0]
        crop = align(image, face, self.enroller.engine.embedder.template)
        quality = measure(crop, face)
        if quality.size < 0.5:
            self.message = "come closer"
        elif quality.sharpness < 0.4:
            self.message = "hold still"
        elif quality.light < 0.4:
            self.message = "more light on your face, please"
        elif quality.overall < GOOD and abs(yaw(face)) > 0.6:
            self.message = "turn a little back to the camera"
        else:
            self._take(image, face, quality, session)
        return face

    def _take(self, image: Image, face: Face, quality: Quality, session: str) -> None:
        side = yaw(face)
        # Frontal first, then each new sample must be turned differently from those before.
        new = not self._sides or min(abs(side - s) for s in self._sides) > 0.12
        if not new:
            left, right = min(self._sides) < -0.12, max(self._sides) > 0.12
            self.message = "look a little to the left" if not left else "look a little to the right" if not right else (
                "tilt or turn your head a little"
            )  # fmt: skip
            if self._count % 20:  # whoever cannot turn still gets enrolled, more slowly
                return
        digest = hashlib.sha256(f"{session}:{self._count}".encode()).hexdigest()
        sample = self.enroller._sample(image, face, quality, "camera", digest)
        if self.taken and _similarity(sample, self.taken[0]) < self.enroller.engine.threshold - 0.03:
            self.message = "that looked like somebody else; one person at a time, please"
            return
        self.taken.append(sample)
        self._sides.append(side)
        self.message = "good; hold on" if not self.done else "done"


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
