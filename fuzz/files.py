"""Valid files of every kind that facecam reads, to be mutated: small, made here, with a face where a face can be."""

from __future__ import annotations

import io
import json
import struct
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from facecam.video.cv import import_cv2


def photos() -> dict[str, bytes]:
    """Suffix and kind -> an image file of about 120 x 140 pixels."""
    cv2 = import_cv2()
    face = _face()
    grey, deep = face.mean(axis=2).astype(np.uint8), face.astype(np.uint16) * 257
    alpha = np.dstack([face, np.full(face.shape[:2], 200, np.uint8)])
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    jpeg = _coded(".jpg", face)
    made = {
        "baseline.jpg": jpeg,
        "progressive.jpg": _coded(".jpg", face, progressive),
        "grey.jpg": _coded(".jpg", grey),
        "exif.jpg": jpeg[:2] + _exif(6) + jpeg[2:],
        "plain.png": _coded(".png", face),
        "deep.png": _coded(".png", deep),
        "alpha.png": _coded(".png", alpha),
        "plain.webp": _coded(".webp", face),
        "plain.bmp": _coded(".bmp", face),
        "plain.tiff": _coded(".tiff", face),
        "deep.tiff": _coded(".tiff", deep),
        "float.tiff": _coded(".tiff", face.astype(np.float32) / 255),
        "plain.gif": _coded(".gif", face),
    }
    return made


def _coded(suffix: str, image: Any, options: list[int] | None = None) -> bytes:
    import cv2

    done, data = cv2.imencode(suffix, image, options or [])
    assert done, suffix
    return data.tobytes()


def _face() -> Any:
    """A portrait that pip brought (BGR uint8), or noise where it is absent."""
    import cv2

    from facecam.demo import HOPPER, package_file
    from facecam.errors import DependencyMissing

    try:
        image = cv2.imread(str(package_file(*HOPPER[:2])))
    except DependencyMissing:
        image = np.random.default_rng(1).integers(0, 255, (600, 512, 3), np.uint8)
    assert image is not None
    return cv2.resize(image[60:430, 90:430], (128, 140), interpolation=cv2.INTER_AREA)


def _exif(orientation: int) -> bytes:
    tiff = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 274, 3, 1, orientation, 0) + bytes(4)
    return b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff


def videos() -> dict[str, bytes]:
    """Suffix and kind -> a video file of eight small frames."""
    made = {}
    for name, codec in (
        ("h264.mp4", "libx264"),
        ("h264.mov", "libx264"),
        ("h264.mkv", "libx264"),
        ("vp8.webm", "libvpx"),
        ("mjpeg.avi", "mjpeg"),
        ("mpeg2.ts", "mpeg2video"),
        ("flv.flv", "flv1"),
    ):
        made[name] = video(Path(name).suffix, codec)
    return made


def video(suffix: str, codec: str, *, size: tuple[int, int] = (128, 96), frames: int = 8, rate: str = "12") -> bytes:
    """A video of so many frames."""
    import av

    face = _face()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{suffix}"
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=Fraction(rate))
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for i in range(frames):
                picture = np.zeros((size[1], size[0], 3), np.uint8)
                patch = face[: size[1], : size[0]]
                picture[: patch.shape[0], : patch.shape[1]] = np.roll(patch, i, axis=1)
                frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
                frame.pts = i
                for packet in stream.encode(frame):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        return path.read_bytes()


def export() -> bytes:
    """A file as `facecam people export` writes it, of two people."""
    import base64

    def vector(seed: int) -> str:
        values = np.random.default_rng(seed).normal(size=16).astype("<f4")
        return base64.b64encode((values / np.linalg.norm(values)).astype("<f4").tobytes()).decode()

    crop = base64.b64encode(photos()["plain.png"][:0] + _coded(".png", np.full((24, 24, 3), 90, np.uint8))).decode()
    samples = [
        {
            "digest": f"{seed:064x}",
            "source": f"photo{seed}.jpg",
            "quality": 0.5,
            "created": "2026-01-30T09:00:00Z",
            "scheme": "dlib5",
            "landmarks": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 10.0]],
            "crop": crop,
            "vectors": {"space": vector(seed)},
        }
        for seed in (1, 2)
    ]
    people = [
        {"name": "Ada", "consent": {"note": "yes", "date": "2026-01-30"}, "samples": samples[:1]},
        {"name": "王小明", "consent": None, "samples": samples[1:]},
    ]
    document = {"schema": "facecam.gallery/2", "created": "2026-01-31T12:00:00Z", "people": people}
    return json.dumps(document).encode()


def model() -> bytes:
    """The smallest embedder with a card: an average, a projection, a norm."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from facecam.zoo.card import METADATA_KEY, ModelCard, Threshold

    weights = np.random.default_rng(3).normal(size=(3 * 14 * 14, 8)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["input"], ["small"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["small"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["raw"]),
        helper.make_node("LpNormalization", ["raw"], ["vector"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(weights, "weights")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    card = ModelCard(
        name="tiny",
        kind="embedder",
        input="input",
        size=(112, 112),
        colour="RGB",
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        outputs=("vector",),
        licence="MIT",
        source="made here",
        dim=8,
        template="arcface-112",
        threshold=Threshold(0.5, "cosine", "none"),
        space="0123456789abcdef",
    )
    helper.set_model_props(made, {METADATA_KEY: card.to_json()})
    buffer = io.BytesIO()
    onnx.save_model(made, buffer)
    return buffer.getvalue()
