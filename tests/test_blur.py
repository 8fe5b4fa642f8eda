"""A blurred face cannot be told from others any more, not even from many blurred frames of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facecam.cli import invoke
from facecam.engine import Engine
from facecam.values import Face, Image, SourceInfo
from facecam.video.canvas import Picture
from facecam.video.overlay import blur
from facecam.video.photos import read_photo
from facecam.video.sinks import VideoSink
from facecam.video.sources import FileSource
from facecam.vision.align import align
from tests.support import portrait

PEOPLE, FRAMES = 24, 40


@pytest.mark.data
def test_nobody_is_recognised_behind_the_blur(engine: Engine, data: Path) -> None:
    """Chance is 1 of 24. Averaging frames in which the box trembles, then sharpening, must not bring more back."""
    rng = np.random.default_rng(0)

    def vector(image: Image, face: Face) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = engine.embedder.embed([align(image, face, engine.embedder.template)])
        return vectors[0]

    clear, blurred, restored = [], [], []
    for path in sorted((data / "lfw_dev" / "images").glob("*/*_0001.jpg"))[: PEOPLE * 20 : 20]:
        image = read_photo(path)
        faces = engine.detector.detect(image, 40)
        if not faces:
            continue
        (face,) = engine.landmarker.locate(image, [max(faces, key=lambda f: f.size)])
        clear.append(vector(image, face))
        once = image.copy()
        blur(Picture(once), face.box)
        blurred.append(vector(once, face))
        total = np.zeros(image.shape, np.float64)
        x, y, w, h = face.box
        for dx, dy in rng.uniform(-0.12, 0.12, (FRAMES, 2)) * (w, h):
            frame = image.copy()
            blur(Picture(frame), (x + dx, y + dy, w, h))
            total += frame
        mean = total / FRAMES
        soft = cv2.GaussianBlur(mean, (0, 0), w / 8)
        restored.append(vector(np.clip(mean + 2.5 * (mean - soft), 0, 255).astype(np.uint8), face))
    assert len(clear) >= PEOPLE - 2
    gallery = np.stack(clear)
    for probes in (np.stack(blurred), np.stack(restored)):
        alike = probes @ gallery.T
        first = int((alike.argmax(axis=1) == np.arange(len(gallery))).sum())
        assert first <= 5, f"{first} of {len(gallery)} faces were recognised"
        assert alike.diagonal().max() < 0.938, "nobody reaches the threshold"


@pytest.mark.parametrize("every", ["1", "20"])
def test_no_frame_shows_the_face(tmp_path: Path, every: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It comes between two samples and is there after the last one."""
    clip = tmp_path / "clip.mp4"
    face = cv2.resize(portrait("grace_hopper"), (300, 352), interpolation=cv2.INTER_AREA)
    with VideoSink(clip, SourceInfo("clip", 640, 360, fps=25)) as sink:
        for k in range(55):
            frame = np.full((360, 640, 3), 90, np.uint8)
            if k >= 7:
                frame[4:356, 150 + k // 8 : 450 + k // 8] = face
            sink.write(frame, k / 25)
    out = tmp_path / "out"
    more = ["--write", "video", "--boxes", "none", "--every", every, "-o", str(out)]
    assert invoke(["label", str(clip), "--blur", "unknown", *more]) == 0
    assert ("whoever moves between two samples may be seen" in capsys.readouterr().err) == (every != "1")
    with FileSource(clip) as before, FileSource(out / "clip.labelled.mp4") as after:
        pairs = [(one.image, two.image) for one, two in zip(before, after)]
    assert len(pairs) == 55

    def detail(image: Image) -> float:
        eyes = image[100:180, 270:350]  # the eyes and the nose, wherever the face moves
        return float(cv2.Laplacian(cv2.cvtColor(eyes, cv2.COLOR_BGR2GRAY), cv2.CV_64F).var())

    assert all(detail(one) > 100 for one, _ in pairs[7:])
    assert [k for k, (_, two) in enumerate(pairs) if detail(two) > 20] == []
