"""The values that flow through the house: frozen, slotted, checked when made.

Coordinates are pixels of the upright frame, x to the right, y down, the origin at the top left
corner of the top left pixel. Boxes are ``(x, y, w, h)``. Images are BGR uint8, H x W x 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]

#: Landmark schemes: the order and the meaning of a face's five points (left and right as in the image).
#: dlib5: outer and inner corner of the eye on the image's right, outer and inner corner of the eye on
#: its left, the base of the nose. five: eye on the image's left, eye on its right, tip of the nose,
#: mouth corner on the left, mouth corner on the right (YuNet, SCRFD, RetinaFace).
DLIB5: Final = "dlib5"
FIVE: Final = "five"
LANDMARK_SCHEMES: Final = (DLIB5, FIVE)


class Frame:
    """One picture of a source.

    Attributes:
        index: number of the frame in its source, from 0.
        time: presentation time in seconds, as the container or the camera gave it. Nothing
            downstream computes a time from an index.
        width, height: size of the upright picture, pixels.
        image: BGR uint8, H x W x 3. Converted when first asked for, since most frames of a file
            are never looked at by a model.
        luma: uint8, at most 96 pixels wide: a cheap grey thumbnail for the scene-cut test.
        planar: gives the decoded picture as a `video.planar.Planar`, or None where there is only the image.
    """

    __slots__ = ("_image", "_luma", "_make_image", "_make_luma", "height", "index", "planar", "time", "width")

    def __init__(
        self,
        index: int,
        time: float,
        image: Image | None = None,
        *,
        size: tuple[int, int] | None = None,
        make_image: Callable[[], Image] | None = None,
        make_luma: Callable[[], Image] | None = None,
        planar: Callable[[], Any] = lambda: None,
    ) -> None:
        """Give either ``image`` or both ``size`` (width, height) and ``make_image``."""
        if image is not None:
            _check_image(image)
            self.height, self.width = int(image.shape[0]), int(image.shape[1])
        elif size is not None and make_image is not None:
            self.width, self.height = size
        else:
            raise ValueError("a Frame takes an image, or size and make_image")
        self.index = index
        self.time = time
        self._image = image
        self._make_image = make_image
        self._make_luma = make_luma
        self.planar = planar
        self._luma: Image | None = None

    @property
    def image(self) -> Image:
        image, make = self._image, self._make_image
        if image is None:
            assert make is not None
            image = self._image = make()  # two threads may both do it; the pictures are the same
        return image

    @property
    def luma(self) -> Image:
        if self._luma is None:
            if self._make_luma is not None:
                luma = self._make_luma()
            else:
                step = max(1, -(-self.width // 96))
                luma = np.ascontiguousarray(self.image[step // 2 :: step, step // 2 :: step, 1])
            self._luma = luma
            return luma
        return self._luma

    def release(self) -> None:
        """Forget the converted picture, where it can be converted again: for who keeps frames for a while."""
        if self._make_image is not None:
            self._image = None

    def __repr__(self) -> str:
        return f"Frame(index={self.index}, time={self.time:.3f}, size={self.width}x{self.height})"


def _check_image(image: Image) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"an image is H x W x 3 uint8, not {image.shape} {image.dtype}")


@dataclass(frozen=True, slots=True)
class Face:
    """A face found in one frame.

    Attributes:
        box: (x, y, w, h) in pixels; it may reach over the frame's border.
        score: the detector's confidence, higher is surer; its scale is the detector's own.
        landmarks: float32, 5 x 2, pixels of the frame; None until computed.
        scheme: which five points they are (`LANDMARK_SCHEMES`); None without landmarks.
    """

    box: Box
    score: float
    landmarks: NDArray[np.float32] | None = None
    scheme: str | None = None

    def __post_init__(self) -> None:
        if len(self.box) != 4 or not all(np.isfinite(self.box)) or self.box[2] <= 0 or self.box[3] <= 0:
            raise ValueError(f"a box is (x, y, w, h), finite, with a positive size, not {self.box}")
        if (self.landmarks is None) != (self.scheme is None):
            raise ValueError("landmarks and their scheme come together")
        if self.landmarks is not None and self.landmarks.shape != (5, 2):
            raise ValueError(f"landmarks are 5 x 2, not {self.landmarks.shape}")
        if self.scheme is not None and self.scheme not in LANDMARK_SCHEMES:
            raise ValueError(f"scheme is one of {LANDMARK_SCHEMES}, not {self.scheme!r}")

    @property
    def size(self) -> float:
        """The longer side of the box, pixels."""
        return max(self.box[2], self.box[3])

    @property
    def centre(self) -> tuple[float, float]:
        return self.box[0] + self.box[2] / 2, self.box[1] + self.box[3] / 2

    def at(self, box: Box) -> Face:
        """The same face at another place, without landmarks."""
        return replace(self, box=box, landmarks=None, scheme=None)

    def shifted(self, x: float, y: float) -> Face:
        """The same face, landmarks and all, so many pixels further right and down."""
        box = (self.box[0] + x, self.box[1] + y, self.box[2], self.box[3])
        points = None if self.landmarks is None else self.landmarks + np.array([x, y], np.float32)
        return replace(self, box=box, landmarks=points)


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no equality that says yes or no
class Template:
    """A face as a point of a vector space.

    Attributes:
        vector: float32, D values, L2 norm 1.
        space: the embedder's vector space (ModelCard.space); vectors of two spaces never meet.
    """

    vector: NDArray[np.float32]
    space: str

    def __post_init__(self) -> None:
        if self.vector.ndim != 1 or self.vector.dtype != np.float32:
            raise ValueError(f"a template is a float32 vector, not {self.vector.shape} {self.vector.dtype}")
        norm = float(np.linalg.norm(self.vector))
        if not abs(norm - 1.0) < 1e-3:
            raise ValueError(f"a template has norm 1, not {norm:.4f}")


@dataclass(frozen=True, slots=True)
class Match:
    """The answer to "who is this?": a name, or unknown, and how sure.

    Attributes:
        name: the person, or None for unknown.
        similarity: cosine similarity (an embedder) or probability (a classifier) of the best
            candidate, named or not; None when there was nobody to compare with.
        runner_up: the next best person and their similarity, if there are two people.
        candidate: the best candidate's name even when it was refused.
    """

    name: str | None = None
    similarity: float | None = None
    runner_up: tuple[str, float] | None = None
    candidate: str | None = None


#: The match of a face that nobody was compared with.
NOBODY: Final = Match()


@dataclass(frozen=True, slots=True)
class Sighting:
    """A face in a frame, on its track, with what is known of who it is.

    Attributes:
        track: id of the track, stable from frame to frame, from 1 within a source.
        face: where it is.
        match: who it is.
        decided: False while the evidence does not yet suffice for an answer.
        unknown: number of an unknown person ("Unknown 12"), where one was given.
    """

    track: int
    face: Face
    match: Match = NOBODY
    decided: bool = False
    unknown: int | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of time in which one track was seen: a row of timeline.csv.

    Attributes:
        start, end: seconds from the source's start_time; end is the time at which the last
            frame stops being shown.
        frames: number of frames with the face.
    """

    source: str
    name: str | None
    start: float
    end: float
    frames: int
    similarity_mean: float | None
    similarity_max: float | None
    track: int

    @property
    def duration(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source says of itself.

    Attributes:
        name: how it is called in outputs, free of credentials.
        width, height: upright size in pixels.
        fps: nominal frames a second, None where unknown or not constant.
        duration: seconds, None for live sources and where unknown.
        start_time: presentation time of the first frame, seconds.
        frames: number of frames as the container claims, None where unknown.
        live: True for cameras and streams: only the newest frame counts.
    """

    name: str
    width: int
    height: int
    fps: float | None = None
    duration: float | None = None
    start_time: float = 0.0
    frames: int | None = None
    live: bool = False


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no equality that says yes or no
class Sample:
    """One enrolled picture of a person.

    Attributes:
        template: the embedding that is matched.
        crop: PNG or JPEG bytes of the upright context crop (twice the face box, at most 256 px a
            side), or None when the user refused to keep crops.
        landmarks: float32, 5 x 2, pixels of the crop; None without one.
        scheme: which points they are.
        digest: SHA-256 (hex) of the source's content, so that the same photo is enrolled once.
        source: file name or "camera", for people to read.
        quality: 0 to 1.
    """

    template: Template
    digest: str
    source: str
    quality: float
    crop: bytes | None = None
    landmarks: NDArray[np.float32] | None = field(default=None)
    scheme: str | None = None
