"""A moving person to samples: the best of a video, and guidance at the camera."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from facecam.enrolment import ADDED, DUPLICATE, NO_FACE, SEVERAL, TOO_BLURRED, UNREADABLE, Enroller, Verdict
from facecam.errors import MediaError
from facecam.people.quality import Quality, measure, yaw
from facecam.values import Face, Frame, Image, Sample
from facecam.video.photos import check_regular
from facecam.video.sources import FileSource
from facecam.vision.align import align

#: Samples of one video or camera session must differ: cosine similarity below this.
TOO_ALIKE: Final = 0.985
#: A face in a video or before the camera is taken from this quality on.
GOOD: Final = 0.55
#: Smallest face looked for in a video or before the camera, pixels: whoever enrols is near, and must not wait.
NEAR: Final = 80.0
#: Frames between two looks at a video.
LOOK_EVERY: Final = 5


def of_video(enroller: Enroller, path: Path, known: Callable[[str], bool]) -> Iterator[Verdict]:
    """Take the best and most different samples of the one person that a video shows."""
    name = path.name
    try:
        check_regular(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with FileSource(path) as frames:
            yield from _best_of(enroller, frames, name, digest, known)
    except OSError as error:
        yield Verdict(name, UNREADABLE, f"{error.strerror or error}")
    except MediaError as error:
        yield Verdict(name, UNREADABLE, str(error).removeprefix(f"{path}: "))


def _best_of(
    enroller: Enroller, frames: Iterable[Frame], name: str, digest: str, known: Callable[[str], bool]
) -> Iterator[Verdict]:
    picker = Picker(enroller)
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
        face, problem = self.enroller.choose(image, "camera", NEAR)
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
        sample = self.enroller.sample(image, face, quality, "camera", digest)
        if self.taken and _similarity(sample, self.taken[0]) < self.enroller.engine.threshold - 0.03:
            self.message = "that looked like somebody else; one person at a time, please"
            return
        self.taken.append(sample)
        self._sides.append(side)
        self.message = "good; hold on" if not self.done else "done"


def _similarity(a: Sample, b: Sample) -> float:
    return float(a.template.vector @ b.template.vector)
