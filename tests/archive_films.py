"""Small films of the two portraits for the tests of the archive, with key frames where they are asked for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from facecam.values import Image
from tests.support import portrait


def pictures(count: int, size: tuple[int, int] = (320, 240), strangers: bool = True) -> list[Image]:
    """The known face drifts over a plain ground; from the first third on with the stranger beside it."""
    width, height = size
    known = cv2.resize(portrait("grace_hopper"), (150, 176), interpolation=cv2.INTER_AREA)
    other = cv2.resize(portrait("astronaut")[:260, 90:350], (150, 150), interpolation=cv2.INTER_AREA)
    made = []
    for k in range(count):
        image = np.full((height, width, 3), 90, np.uint8)
        image[20:196, 2 + k // 6 : 152 + k // 6] = known
        if strangers and k >= count // 3:
            image[30:180, 168 - k // 12 : 318 - k // 12] = other
        made.append(image)
    return made


def film(
    path: Path, images: list[Image], *, fps: int = 10, gop: int = 10, codec: str = "libx264", bframes: int = 2,
    start: float = 0.0,
) -> Path:  # fmt: skip
    """Write a film with a key frame each ``gop`` frames, open groups where the codec has them."""
    import av

    base = Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "libx264":
            parameters = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={bframes}:open-gop=1"
            stream.options = {"preset": "ultrafast", "crf": "12", "x264-params": parameters}
        elif codec in ("libvpx-vp9", "libvpx"):
            stream.options = {"deadline": "realtime", "cpu-used": "8", "g": str(gop), "crf": "20", "b": "2M"}
        if codec != "mjpeg":
            stream.time_base = stream.codec_context.time_base = base
        for k, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            seconds = Fraction(start).limit_denominator(1000) + Fraction(k, fps)
            frame.time_base = Fraction(1, fps) if codec == "mjpeg" else base
            frame.pts = int(seconds / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
